"""The scales that an audit gives put the whole gradient together exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from loss_zoo import ZOO, named
from torch import nn

from batchsense.errors import DataError, UnresolvedError
from batchsense.training.separability import accumulate, audit
from batchsense.training.separability.probe.probe import GradientProbe
from batchsense.training.separability.remedies.accumulation import Accumulation

SCALABLE = [
    animal.name for animal in ZOO
    if animal.kind in ("mean", "sum", "ratio") and not animal.stochastic
]  # fmt: skip
GIVEN = {
    "weights_from_the_inputs": {"exp x0": lambda b: float(b[0][:, 0].double().exp().sum())},
}
CUTS = [(0, 13), (13, 26), (26, 30), (30, 40)]


def plan_for(name):
    """Audit one animal and plan its accumulation."""
    workload = named(name).build(0)
    report = audit(workload, batch_size=40, partitions=8, normalisers=GIVEN.get(name))
    return workload, report


@pytest.mark.parametrize("name", SCALABLE)
def test_scaled_micro_batches_add_up_to_the_whole_gradient(name):
    """Four micro-batches of 13, 13, 4 and 10 examples: the scaled sum is the whole to 1e-12."""
    workload, report = plan_for(name)
    probe = GradientProbe(workload, range(40))
    parts = [probe.minibatch_of(range(a, b)) for a, b in CUTS]
    everything = probe.minibatch_of(range(40))
    if name == "graph_nodes":
        assert report.normaliser.name == "rows of minibatch['nodes']"
    needs_whole = report.kind == "ratio" and not report.normaliser.additive
    scales = accumulate(report).scales(parts, whole=everything if needs_whole else None)

    whole = probe.gradient(range(40)).gradient
    g = [probe.gradient(range(a, b)).gradient for a, b in CUTS]
    error = np.linalg.norm(scales @ np.array(g) - whole) / np.linalg.norm(whole)
    assert error < 1e-12


def test_without_the_remedy_the_same_micro_batches_are_wrong():
    """The same four micro-batches, plainly averaged, miss the gradient by more than 1 %."""
    workload, _ = plan_for("token_mean")
    probe = GradientProbe(workload, range(40))
    whole = probe.gradient(range(40)).gradient
    g = np.mean([probe.gradient(range(a, b)).gradient for a, b in CUTS], axis=0)

    assert np.linalg.norm(g - whole) > 0.01 * np.linalg.norm(whole)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_ddp_scales_undo_the_average_over_processes(world):
    """Averaged over processes, losses scaled by w·world/W give the whole gradient."""
    workload, report = plan_for("class_weights")
    probe = GradientProbe(workload, range(36))
    plan = accumulate(report)
    total = plan._weight(probe.minibatch_of(range(36)))
    size = 36 // world
    averaged = 0
    for rank in range(world):
        mine = [range(rank * size, rank * size + 5), range(rank * size + 5, (rank + 1) * size)]
        scales = plan.ddp_scales(
            [probe.minibatch_of(part) for part in mine], world, all_reduce=lambda _: total
        )
        averaged = (
            averaged
            + sum(s * probe.gradient(part).gradient for s, part in zip(scales, mine, strict=True))
            / world
        )

    whole = probe.gradient(range(36)).gradient
    assert np.linalg.norm(averaged - whole) < 1e-12 * np.linalg.norm(whole)


def test_an_empty_micro_batch_counts_as_one():
    """With count.clamp(min=1) in the loss, a micro-batch without positives is divided by 1."""
    plan = Accumulation("ratio", "positives", lambda b: float(b.sum()))

    assert plan.scales([torch.tensor([0, 0]), torch.tensor([1, 3])]).tolist() == [0.25, 1.0]


def test_nothing_to_count_is_refused():
    """A step without a single counted item has no gradient to scale."""
    plan = Accumulation("ratio", "labels", lambda b: float(b.sum()))

    with pytest.raises(DataError, match="labels is zero for the whole step"):
        plan.scales([torch.zeros(3), torch.zeros(2)])
    with pytest.raises(DataError, match="labels is zero"):
        plan.ddp_scales([torch.zeros(3)], 2, all_reduce=lambda total: total)


def test_a_denominator_that_is_no_sum_needs_the_whole():
    """Padding to the longest: W cannot be summed from the parts, and is not."""
    _, report = plan_for("padded_token_mean")
    plan = accumulate(report)

    assert not report.normaliser.additive
    with pytest.raises(DataError, match="whole="):
        plan.scales([{"ids": torch.ones(2, 3, dtype=torch.long)}])


@pytest.mark.parametrize("name", ["root_mean_square", "batch_norm"])
def test_what_has_no_scales_gets_none(name):
    """Composite and interacting losses are refused, with what to do instead."""
    _, report = plan_for(name)

    with pytest.raises(UnresolvedError, match="no fixed scales; needed: "):
        accumulate(report)


def test_an_unnamed_normaliser_is_not_invented():
    """Weights per example without a name: refused, and the name can be given."""
    report = audit(named("weights_from_the_inputs").build(0), batch_size=40, partitions=8)

    assert report.normaliser.name.startswith("weight per example")
    with pytest.raises(UnresolvedError, match="weights that you know"):
        accumulate(report)
    _, named_report = plan_for("weights_from_the_inputs")
    assert named_report.normaliser.name == "exp x0 (given)"


def test_graphs_do_not_pass_for_examples():
    """A mean over graphs, collated into nodes: the number of graphs cannot be read, and is not."""
    generator = torch.Generator().manual_seed(0)
    graphs = [torch.randn(n, 3, generator=generator) for n in torch.randint(2, 6, (64,)).tolist()]

    def collate(graphs):
        owner = torch.cat([torch.full((len(x),), k) for k, x in enumerate(graphs)])
        return {"nodes": torch.cat(graphs), "owner": owner, "graphs": len(graphs)}

    def loss(model, b):
        energy = torch.zeros(b["graphs"], dtype=b["nodes"].dtype)
        energy = energy.index_add(0, b["owner"], model(b["nodes"]).squeeze(1))
        return energy.square().mean()

    from batchsense.training import Workload

    torch.manual_seed(0)
    report = audit(Workload(nn.Linear(3, 1), loss, graphs, torch.optim.SGD, collate))

    assert report.kind == "mean"
    assert report.normaliser.weight is None
    with pytest.raises(UnresolvedError, match="cannot be read off a collated minibatch"):
        accumulate(report)

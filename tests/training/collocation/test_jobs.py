"""Collocation problems as training jobs: audited, measured and planned like any other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from batchsense.errors import DataError
from batchsense.training import (
    PlanRequirements,
    Workload,
    fake_memory_envelope,
    fit_memory_envelope,
    load_target,
    measure_gradient_noise,
    plan_training,
)
from batchsense.training.collocation import Condition, as_workload, collocation_loss
from batchsense.training.separability import audit


def small(dde: Any) -> Any:
    """DeepXDE data and network with three conditions, one of them with measured values."""
    import deepxde_problems

    torch.manual_seed(0)
    return deepxde_problems.diffusion_with_measurements()


@pytest.fixture(params=["hand-made", "DeepXDE"])
def job(request: pytest.FixtureRequest, conditions: list[Condition], net: nn.Module) -> Workload:
    """A problem of plain torch, and one in DeepXDE's words."""
    if request.param == "hand-made":
        return as_workload((conditions, net), batch_size=8)
    dde = request.getfixturevalue("dde")
    return as_workload(small(dde), batch_size=8)


def test_the_mean_over_all_examples_is_the_loss_of_all_points(
    conditions: list[Condition], net: nn.Module
) -> None:
    """To rounding, though pools of 53, 20 and 2 points share 53 examples."""
    from batchsense.training.collocation import DrawnPoints

    job = as_workload((conditions, net))
    whole = {c.name: DrawnPoints(c.points, torch.full((c.count,), 1 / c.count)) for c in conditions}
    expected = collocation_loss(net, conditions, whole).item()

    assert len(job.examples) == 53
    assert job.loss(net, job.minibatch(range(53))).item() == pytest.approx(expected, rel=1e-13)


def test_it_is_audited_measured_and_planned(job: Workload) -> None:
    """A mean of independent terms; noise, memory and a batch size come out."""
    report = audit(job, partitions=6)
    noise = measure_gradient_noise(job, examples=64, micro_batches=8)
    memory = fit_memory_envelope(job)
    plan = plan_training(job, PlanRequirements(maximum=16), seconds=0.5)

    assert (report.kind, report.verdict) == ("mean", "yes")
    assert noise.noise_scale.estimate > 0
    assert 0 < memory.peak_bytes(32) < memory.peak_bytes(64)
    assert 1 <= plan.advice.batch_size <= 16


def test_memory_is_followed_without_data() -> None:
    """Tensors with a shape alone go through the checks of points and residuals."""

    def problem() -> Workload:
        wall = Condition("wall", lambda model, points: model(points), torch.rand(40, 2))
        return as_workload(([wall], nn.Linear(2, 1)))

    assert (envelope := fake_memory_envelope(problem)).peak_bytes(64) > envelope.peak_bytes(32)


def residuals(model: nn.Module, points: Tensor) -> tuple[Tensor, Tensor]:
    """Of u'' + sin x, and u itself."""
    points = points.detach().requires_grad_(True)
    u = model(points)
    first = torch.autograd.grad(u.sum(), points, create_graph=True)[0]
    return torch.autograd.grad(first.sum(), points, create_graph=True)[0] + torch.sin(points), u


def share(squares: Tensor, counted: Tensor) -> Tensor:
    """The mean of those that are counted."""
    return (squares * counted).sum() / counted.sum().clamp(min=1)


def one_kind_in_a_mixed_draw(model: nn.Module, minibatch: Any) -> Tensor:
    """Points of all kinds are drawn together: how many are inside is left to chance."""
    return share(residuals(model, minibatch[0])[0].square(), minibatch[1].to(minibatch[0]))


def two_kinds_in_a_mixed_draw(model: nn.Module, minibatch: Any) -> Tensor:
    """Equation and walls, each divided by its own random count."""
    inside = minibatch[1].to(minibatch[0])
    equation, wall = residuals(model, minibatch[0])
    return share(equation.square(), inside) + share(wall.square(), 1 - inside)


def softmax_weights(model: nn.Module, minibatch: Any) -> Tensor:
    """Residuals weighed by their softmax over the minibatch."""
    found, _ = residuals(model, minibatch[0])
    return (torch.softmax(found.abs(), dim=0) * found.square()).sum()


def detached_softmax_weights(model: nn.Module, minibatch: Any) -> Tensor:
    """The same with weights that carry no gradient."""
    found, _ = residuals(model, minibatch[0])
    return (torch.softmax(found.detach().abs(), dim=0) * found.square()).sum()


@pytest.mark.parametrize(
    ("loss", "kind"),
    [
        (one_kind_in_a_mixed_draw, "ratio"),
        (two_kinds_in_a_mixed_draw, "interacting"),
        (softmax_weights, "interacting"),
        (detached_softmax_weights, "composite"),
    ],
)
def test_losses_that_are_no_sum_over_points_are_told(
    net: nn.Module, loss: Callable[..., Tensor], kind: str
) -> None:
    """Random counts make a ratio, two of them a sum of ratios; softmax weights make points meet."""
    model = nn.Sequential(nn.Linear(1, 10), nn.Tanh(), nn.Linear(10, 1))
    points = torch.rand(400, 1) * 2 - 1
    report = audit(
        Workload(model, loss, TensorDataset(points, torch.rand(400, 1) < 0.8), torch.optim.Adam)
    )

    assert (report.kind, report.verdict) == (kind, "no")
    if loss is softmax_weights:
        assert any("softmax" in source.detail for source in report.sources)
    if loss is two_kinds_in_a_mixed_draw:
        assert "different counts" in report.sources[0].detail


PROBLEM = """
import torch
from torch import nn
from batchsense.training.collocation import Condition

def problem():
    wall = Condition("wall", lambda model, points: model(points) - 1, torch.rand(30, 2))
    return [wall], nn.Linear(2, 1)

def nothing():
    return 3
"""


def test_a_target_may_return_a_problem(tmp_path: Path) -> None:
    """Conditions and a model, wherever a training job is asked for; else what is wanted is said."""
    (tmp_path / "walls.py").write_text(PROBLEM)

    assert len(load_target(f"{tmp_path}/walls.py:problem").examples) == 30
    with pytest.raises(DataError, match=r"walls\.py:nothing: nothing\(\) returned int: this is no"):
        load_target(f"{tmp_path}/walls.py:nothing")


def test_every_form_of_a_problem_is_taken(dde: Any) -> None:
    """A pair, an object with conditions, DeepXDE's own model with its weights of losses."""
    data, net = small(dde)
    model = dde.Model(data, net)
    model.compile("adam", lr=1e-3, loss_weights=[2.0] * 4, verbose=0)
    plain, weighed = as_workload((data, net)), as_workload(model)
    whole = range(len(plain.examples))

    doubled = weighed.loss(net, weighed.minibatch(whole)).item()
    assert doubled == pytest.approx(2 * plain.loss(net, plain.minibatch(whole)).item())
    wall = Condition("wall", lambda model, points: model(points), torch.rand(5, 2))
    seeded = SimpleNamespace(conditions=[wall], network=lambda seed: net)
    for stated in (SimpleNamespace(conditions=[wall], model=net), seeded):
        assert len(as_workload(stated).examples) == 5


def test_unknowns_outside_the_network_are_refused(dde: Any) -> None:
    """Copies of the network would not train them, and nothing would say so."""
    data, net = small(dde)
    model = dde.Model(data, net)
    unknown = dde.Variable(2.0)
    model.compile("adam", lr=1e-3, external_trainable_variables=[unknown], verbose=0)

    with pytest.raises(DataError, match="variables outside the network"):
        as_workload(model)

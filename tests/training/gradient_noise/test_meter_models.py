"""A meter on models of other kinds, its reports and its refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from meter_loops import (
    gradient,
    mean_loss,
    net,
    parts_of_step,
    rows,
    train,
)
from torch import Tensor, nn

from batchsense.errors import DataError, UnresolvedError
from batchsense.training import GradientNoiseMeter, MeterReport


class Recurrent(nn.Module):
    """A layer whose single gradients no rule covers, and one that is covered."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRU(5, 4, batch_first=True)
        self.out = nn.Linear(4, 1)

    def forward(self, values: Tensor) -> Tensor:
        """Read each number as one element of a sequence."""
        states, _ = self.cell(values.unsqueeze(1))
        return self.out(states[:, -1])


def test_uncovered_layers_are_measured_by_micro_batches() -> None:
    """Noise adds up over parameters, so each takes the best estimator it has."""
    torch.manual_seed(0)
    model = Recurrent().double()
    seen: list[nn.Module] = []
    meter = train(model, 3, (4, 4, 4), seen=seen)
    found = rows(meter)
    assert len(found) == 3
    assert all(row.layers is not None for row in found)
    for row, frozen in zip(found, seen, strict=True):
        parts = parts_of_step(row.step, (4, 4, 4))
        singles = np.stack([gradient(frozen, np.array([i])) for i in np.concatenate(parts)])
        whole = singles.mean(axis=0)
        out = slice(-5, None)
        tau_out = ((singles[:, out] - whole[out]) ** 2).sum() / 11
        means = np.stack([gradient(frozen, part) for part in parts])
        tau_cell = 4 * ((means[:, :-5] - whole[:-5]) ** 2).sum() / 2
        np.testing.assert_allclose(row.trace_covariance, tau_out + tau_cell, rtol=1e-8)


def test_uncovered_layers_in_a_plain_loop_say_what_to_do() -> None:
    """One pass and no single gradients: nothing is measured, unless the layer is left out."""
    torch.manual_seed(0)
    with pytest.warns(RuntimeWarning, match="leave_out"):
        meter = train(Recurrent(), 3)
    with pytest.raises(UnresolvedError, match=r"cell.*accumulate gradients over two or more"):
        meter.report()
    cell = [f"cell.{name}" for name, _ in Recurrent().cell.named_parameters()]
    report = train(Recurrent(), 10, leave_out=cell).report()
    assert [layer.name for layer in report.layers] == ["out"]
    assert [c.code for c in report.cautions] == ["parameters_left_out"]


def test_batch_norm_is_measured_by_micro_batches_with_a_caution() -> None:
    """Where examples are mixed there are no single gradients: said at once or in the report."""
    model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(DataError, match="BatchNorm1d"):
        GradientNoiseMeter(model, optimizer, mode="per_example")
    report = train(model, 10, (8, 8)).report()
    assert not report.single_examples
    assert [c.code for c in report.cautions] == ["micro_batches", "coupled_examples"]


def test_sparse_gradients() -> None:
    """Rows of an embedding that no example used have no gradient and no noise."""

    class Bag(nn.Module):
        def __init__(self, sparse: bool) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.table = nn.Embedding(20, 1, sparse=sparse)

        def forward(self, tokens: Tensor) -> Tensor:
            return self.table(tokens).sum(dim=1)

    tokens = torch.randint(20, (64, 6), generator=torch.Generator().manual_seed(2))
    found = []
    for sparse in (True, False):
        model = Bag(sparse)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        with GradientNoiseMeter(model, optimizer, every=1, mode="micro_batch") as meter:
            for step in range(4):
                optimizer.zero_grad()
                for part in range(4):
                    chosen = tokens[16 * step + 4 * part : 16 * step + 4 * part + 4]
                    (model(chosen) - 1).square().mean().backward()
                optimizer.step()
        found.append([(r.trace_covariance, r.squared_gradient_norm) for r in rows(meter)])

    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)
    assert len(found[0]) == 4


def test_thawed_layers_begin_anew() -> None:
    """When more layers are trained, the noise scale pools the steps since then only."""
    model = net()
    for parameter in model[0].parameters():
        parameter.requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with GradientNoiseMeter(model, optimizer, every=1) as meter:
        for step in range(30):
            if step == 20:
                for parameter in model[0].parameters():
                    parameter.requires_grad_(True)
            optimizer.zero_grad()
            mean_loss(model, parts_of_step(step)[0]).backward()
            optimizer.step()
    report = meter.report()

    assert report.measured == 30
    # The step that is under way when layers thaw was prepared for the old ones.
    assert report.pooled == 9
    assert [layer.name for layer in report.layers] == ["0", "2"]


def test_a_varying_number_of_passes() -> None:
    """The last, shorter accumulation of an epoch costs one step of the measurement at most."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    meter = GradientNoiseMeter(model, optimizer, every=1, mode="micro_batch")

    def loop() -> None:
        with meter:
            for step in range(12):
                optimizer.zero_grad()
                for chosen in parts_of_step(step, (4, 4) if step % 4 == 3 else (4, 4, 4)):
                    mean_loss(model, chosen).backward()
                optimizer.step()

    with pytest.warns(RuntimeWarning, match="fewer backward passes"):
        loop()

    assert [row.step for row in rows(meter)] == [0, 1, 2, *range(4, 12)]
    assert rows(meter)[-1].examples == 8


def test_too_few_steps_give_an_unbounded_interval() -> None:
    """Before eight measured steps there is an estimate, and it claims nothing."""
    report = train(net(), 5).report()

    assert (report.noise_scale.low, report.noise_scale.high) == (0.0, float("inf"))
    assert not report.resolved
    assert report.examples_needed >= 3 * 8
    assert report.layers == ()
    assert report.critical_batch_size is None
    assert "not resolved" in str(report)


def test_the_report_speaks() -> None:
    """Its text holds the number, the interval and the cautions."""
    report: MeterReport = train(net(), 64).report()

    assert str(report).startswith("noise scale: ")
    assert "95 % interval" in str(report)
    assert "critical batch size of the run" in str(report)


def test_heavy_tails_are_mentioned() -> None:
    """One example in a hundred that dominates all others is worth a caution."""
    model = nn.Linear(1, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    values = torch.ones(128, 1)
    values[5] = 30.0
    with GradientNoiseMeter(model, optimizer, every=1) as meter:
        for _ in range(10):
            optimizer.zero_grad()
            (model(values)[:, 0] - 1).square().mean().backward()
            optimizer.step()

    assert "heavy_tailed" in [c.code for c in meter.report().cautions]


def test_adam_is_of_low_confidence() -> None:
    """The theory is for SGD; the report says so."""
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with GradientNoiseMeter(model, optimizer, every=1) as meter:
        for step in range(20):
            optimizer.zero_grad()
            mean_loss(model, parts_of_step(step)[0]).backward()
            optimizer.step()

    assert [c.code for c in meter.report().cautions] == ["adaptive_optimizer"]


def test_what_cannot_be_metered_is_refused() -> None:
    """Wrong arguments are typed errors that say what to do."""
    model, other = net(), net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    for arguments, message in (
        ((other, sgd), "no trained parameter"),
        ((model, torch.optim.LBFGS(model.parameters())), "LBFGS"),
        (("model", sgd), "not a torch.nn.Module"),
        ((model, model), r"not a torch\.optim\.Optimizer"),
    ):
        with pytest.raises(DataError, match=message):
            GradientNoiseMeter(*arguments)  # type: ignore[arg-type]
    for options, message in (
        ({"every": 0}, "every=0"),
        ({"pooled": 4}, "pooled=4"),
        ({"mode": "exact"}, "mode is 'exact'"),
        ({"leave_out": ["nothing"]}, "names no parameter"),
    ):
        with pytest.raises(DataError, match=message):
            GradientNoiseMeter(model, sgd, **options)
    with GradientNoiseMeter(model, sgd) as meter, pytest.raises(DataError, match="in use"):
        meter.attach()
    with pytest.raises(DataError, match="level"):
        meter.report(level=1.0)


def test_without_a_tensor_the_number_of_examples_is_asked_for() -> None:
    """A model that takes no tensor is refused at its first measured call, with the remedy."""

    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, words: list[str]) -> Tensor:
            return self.scale * torch.tensor([float(len(word)) for word in words])

    model = Words()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    meter = GradientNoiseMeter(model, optimizer, every=1, mode="micro_batch")
    with meter, pytest.raises(DataError, match=r"meter.watching\(examples=n\)"):
        model(["a", "bc"])
    with meter:
        for _ in range(10):
            optimizer.zero_grad()
            for words in (["a", "bcd"], ["ab", "c"]):
                with meter.watching(examples=2):
                    model(words).mean().backward()
            optimizer.step()
    assert meter.measured == 10


def test_no_step_was_seen() -> None:
    """A meter whose optimizer never steps says so instead of giving a number."""
    model = net()
    with GradientNoiseMeter(model, torch.optim.SGD(model.parameters(), lr=0.1)) as meter:
        mean_loss(model, np.arange(8)).backward()
    with pytest.raises(UnresolvedError, match="no optimizer step was seen"):
        meter.report()


def test_wrappers_that_hide_gradients_are_refused() -> None:
    """A scale or a copy out of sight would be metered as if it were not there."""

    class DeepSpeedEngine(nn.Module):  # known by its name, as the package need not be there
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    copies = nn.DataParallel(model)
    copies.device_ids = [0, 1]
    for wrapper, said in ((DeepSpeedEngine(model), "DeepSpeed scales"), (copies, "torchrun")):
        with pytest.raises(DataError, match=said):
            GradientNoiseMeter(wrapper, optimizer)
    copies.device_ids = [0]
    GradientNoiseMeter(copies, optimizer)

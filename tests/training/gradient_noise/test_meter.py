"""A meter in ordinary training loops: right numbers, untouched training, nothing missed silently."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from batchsense.errors import DataError, UnresolvedError
from batchsense.training import GradientNoiseMeter, MeterReport
from batchsense.training.gradient_noise.records import StepNoise

INPUTS = torch.randn(240, 5, generator=torch.Generator().manual_seed(0))
TARGETS = INPUTS @ torch.tensor([1.0, -2.0, 0.5, 0.0, 1.0]) + 0.5 * torch.randn(
    240, generator=torch.Generator().manual_seed(1)
)


def net(dtype: torch.dtype = torch.float32) -> nn.Module:
    """Two layers."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1)).to(dtype)


def parts_of_step(step: int, sizes: tuple[int, ...] = (8,)) -> list[np.ndarray]:
    """Disjoint examples of each micro-batch of a step."""
    order = np.random.default_rng(step).permutation(len(INPUTS))
    return np.split(order[: sum(sizes)], np.cumsum(sizes)[:-1])


def mean_loss(model: nn.Module, chosen: np.ndarray) -> Tensor:
    """Mean squared error over some examples."""
    dtype = next(model.parameters()).dtype
    values = model(INPUTS[chosen].to(dtype))[:, 0]
    return (values - TARGETS[chosen].to(dtype)).square().mean()


def train(
    model: nn.Module,
    steps: int = 40,
    sizes: tuple[int, ...] = (8,),
    factor: Callable[[int], float] = lambda size: 1.0,
    before_step: Callable[[nn.Module], Any] = lambda model: None,
    set_to_none: bool = True,
    learning_rate: float = 0.05,
    seen: list[nn.Module] | None = None,
    **options: Any,
) -> GradientNoiseMeter:
    """Train with a meter; ``factor`` scales the loss of a micro-batch of that size."""
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=0.5)
    with GradientNoiseMeter(model, optimizer, **{"every": 1, **options}) as meter:
        for step in range(steps):
            if seen is not None:
                seen.append(copy.deepcopy(model))
            optimizer.zero_grad(set_to_none=set_to_none)
            for chosen in parts_of_step(step, sizes):
                (mean_loss(model, chosen) * factor(len(chosen))).backward()
            before_step(model)
            optimizer.step()
    return meter


def rows(meter: GradientNoiseMeter) -> list[StepNoise]:
    """What was measured, step by step."""
    return meter._book.rows


def gradient(model: nn.Module, chosen: np.ndarray) -> np.ndarray:
    """The mean gradient over some examples, by plain autograd."""
    parts = torch.autograd.grad(mean_loss(model, chosen), list(model.parameters()))
    return torch.cat([part.reshape(-1) for part in parts]).double().numpy()


def from_single_examples(model: nn.Module, chosen: np.ndarray) -> tuple[float, float]:
    """The unbiased estimates from a loop over examples."""
    gradients = np.stack([gradient(model, np.array([one])) for one in chosen])
    count, mean = len(gradients), gradients.mean(axis=0)
    tau = ((gradients - mean) ** 2).sum() / (count - 1)
    return float(tau), float(mean @ mean - tau / count)


def from_parts(model: nn.Module, parts: list[np.ndarray]) -> tuple[float, float]:
    """The unbiased estimates from the means of micro-batches, weighted by their sizes."""
    sizes = np.array([len(part) for part in parts])
    gradients = np.stack([gradient(model, part) for part in parts])
    mean = sizes @ gradients / sizes.sum()
    tau = (sizes * ((gradients - mean) ** 2).sum(axis=1)).sum() / (len(parts) - 1)
    return float(tau), float(mean @ mean - tau / sizes.sum())


def assert_rows(
    meter: GradientNoiseMeter, expected: list[tuple[float, float]], rtol: float = 1e-8
) -> None:
    """The rows hold these τ̂ and γ̂."""
    found = [(row.trace_covariance, row.squared_gradient_norm) for row in rows(meter)]
    np.testing.assert_allclose(found, expected, rtol=rtol)


# --- the numbers ------------------------------------------------------------------------------


def test_single_examples_equal_a_loop() -> None:
    """In a plain loop every step gives what a loop over its examples gives."""
    seen: list[nn.Module] = []
    meter = train(net(torch.float64), steps=5, seen=seen)

    assert_rows(meter, [from_single_examples(m, parts_of_step(s)[0]) for s, m in enumerate(seen)])
    assert [row.examples for row in rows(meter)] == [8] * 5


def test_accumulated_single_examples_equal_a_loop() -> None:
    """Over unequal micro-batches weighted by size, all examples of the step count alike."""
    seen: list[nn.Module] = []
    sizes = (8, 5, 3)
    meter = train(
        net(torch.float64), 4, sizes, lambda size: size / 16, seen=seen, reduction="sum",
        loss_scale=1 / 16,
    )  # fmt: skip

    expected = [
        from_single_examples(m, np.concatenate(parts_of_step(s, sizes))) for s, m in enumerate(seen)
    ]
    assert_rows(meter, expected)


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_micro_batches_equal_the_textbook(scale: float) -> None:
    """The spread of the accumulated micro-batches, in the unit of the unscaled loss."""
    seen: list[nn.Module] = []
    meter = train(
        net(torch.float64), 4, (4, 4, 4, 4), lambda n: scale, seen=seen, mode="micro_batch",
        loss_scale=scale,
    )  # fmt: skip

    assert_rows(meter, [from_parts(m, parts_of_step(s, (4,) * 4)) for s, m in enumerate(seen)])


def test_unequal_micro_batches_with_a_summed_loss() -> None:
    """A sum over examples weights every example alike, however they are split."""
    seen: list[nn.Module] = []
    sizes = (8, 5, 3)
    meter = train(
        net(torch.float64), 4, sizes, lambda size: size / 16, seen=seen, mode="micro_batch",
        reduction="sum", loss_scale=1 / 16,
    )  # fmt: skip

    assert_rows(meter, [from_parts(m, parts_of_step(s, sizes)) for s, m in enumerate(seen)])
    assert rows(meter)[0].batch_size == pytest.approx(16)


def test_unequal_micro_batches_that_are_averaged_alike_are_unbiased() -> None:
    """Dividing every micro-batch's mean by K weights small ones too much: the size says so."""
    sizes = (12, 2, 2)
    frozen = net(torch.float64)
    meter = train(
        frozen, 600, sizes, lambda n: 1 / 3, mode="micro_batch", loss_scale=1 / 3, learning_rate=0.0
    )
    tau, gamma = from_single_examples(frozen, np.arange(240))
    found = np.array([(r.trace_covariance, r.squared_gradient_norm) for r in rows(meter)])
    error = found.std(axis=0, ddof=1) / np.sqrt(len(found))

    assert rows(meter)[0].batch_size == pytest.approx(9 / (1 / 12 + 1 / 2 + 1 / 2))
    assert (np.abs(found.mean(axis=0) - [tau, gamma]) < 4 * error).all()


def test_a_constant_factor_cancels_in_the_noise_scale() -> None:
    """Forgetting loss_scale changes the unit of noise and signal, not their ratio."""
    told, untold = (
        train(net(torch.float64), 20, (4, 4), lambda n: 0.5, mode="micro_batch", loss_scale=scale)
        for scale in (0.5, 1.0)
    )

    assert told.report().noise_scale.estimate == pytest.approx(untold.report().noise_scale.estimate)
    assert told.report().noise.trace_covariance.estimate == pytest.approx(
        4 * untold.report().noise.trace_covariance.estimate
    )


def test_drawn_without_replacement_nothing_is_biased() -> None:
    """With ``population`` the signal does not shrink by the noise over N, as it else would."""
    frozen = net(torch.float64)
    train(frozen, 600, (60,), every=1000)
    told = train(frozen, 400, (60,), learning_rate=0.0, population=240)
    untold = train(frozen, 400, (60,), learning_rate=0.0)
    full = gradient(frozen, np.arange(240))
    gamma = float(full @ full)

    def distance(meter: GradientNoiseMeter) -> float:
        found = np.array([row.squared_gradient_norm for row in rows(meter)])
        return float((found.mean() - gamma) / (found.std(ddof=1) / np.sqrt(len(found))))

    assert abs(distance(told)) < 4
    assert distance(untold) < -8


def test_layers_add_up_and_are_named() -> None:
    """Shares of the layers add up to one; parameters are those of the layers."""
    report = train(net(), 40).report()

    assert [layer.name for layer in report.layers] == ["0", "2"]
    assert [layer.parameters for layer in report.layers] == [48, 9]
    assert sum(layer.noise_share.estimate for layer in report.layers) == pytest.approx(1.0)


def test_the_path_is_that_of_every_step_measured() -> None:
    """Measured at every second step, the critical batch size agrees within its interval."""
    every, second = (
        train(net(), 400, learning_rate=0.01, every=k).report() for k in (1, 2)
    )

    assert every.critical_batch_size is not None
    assert second.critical_batch_size is not None
    assert every.critical_batch_size.estimate in second.critical_batch_size


# --- training is not altered -------------------------------------------------------------------


def weights(model: nn.Module) -> Tensor:
    """All weights as one vector."""
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


@pytest.mark.parametrize("mode", ["per_example", "micro_batch"])
@pytest.mark.parametrize("set_to_none", [True, False])
@pytest.mark.parametrize("clip", [True, False])
def test_the_weights_are_the_same_bit_for_bit(mode: str, set_to_none: bool, clip: bool) -> None:
    """With and without meter, with momentum and clipping, training ends at the same weights."""
    results = []
    for measuring in (True, False):
        model = net()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        meter = GradientNoiseMeter(model, optimizer, mode=mode, every=2, loss_scale=0.5)
        if measuring:
            meter.attach()
        torch.manual_seed(3)
        for step in range(20):
            optimizer.zero_grad(set_to_none=set_to_none)
            for chosen in parts_of_step(step, (8, 8)):
                noisy = functional.dropout(INPUTS[chosen], 0.2)
                ((model(noisy)[:, 0] - TARGETS[chosen]).square().mean() / 2).backward()
            if clip:
                nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
        meter.detach()
        assert meter.measured == (10 if measuring else 0)
        results.append((weights(model), torch.rand(1)))

    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_nothing_is_left_behind() -> None:
    """After the block neither model, parameters nor optimizer hold a hook."""
    model = net()
    train(model, 3)

    assert not model._forward_pre_hooks
    assert not model._forward_hooks
    assert all(not parameter._backward_hooks for parameter in model.parameters())


def test_clipping_does_not_change_what_is_measured() -> None:
    """Gradients are read when the backward pass ends, before they are clipped."""
    frozen = net(torch.float64)
    clipped = train(
        frozen, 5, (4, 4), mode="micro_batch", learning_rate=0.0,
        before_step=lambda model: nn.utils.clip_grad_norm_(model.parameters(), 1e-3),
    )  # fmt: skip
    plain = train(frozen, 5, (4, 4), mode="micro_batch", learning_rate=0.0)

    assert_rows(clipped, [(r.trace_covariance, r.squared_gradient_norm) for r in rows(plain)])


def test_only_every_kth_step_is_measured() -> None:
    """The first step and every third after it."""
    meter = train(net(), 10, every=3)

    assert [row.step for row in rows(meter)] == [0, 3, 6, 9]
    assert meter.steps == 10


# --- what happens in real loops -----------------------------------------------------------------


def test_scaled_losses_and_skipped_steps() -> None:
    """A GradScaler's factor is divided out, and a step that it skips is counted, not measured."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**14, growth_interval=4)
    seen = copy.deepcopy(model).double()
    with GradientNoiseMeter(
        model, optimizer, every=1, mode="micro_batch", loss_scale=scaler.get_scale
    ) as meter:
        for step in range(6):
            optimizer.zero_grad()
            for k, chosen in enumerate(parts_of_step(step, (8, 8))):
                loss = mean_loss(model, chosen)
                if step == 2 and k == 1:
                    loss = loss * torch.tensor(float("inf"))
                scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()

    expected = [from_parts(seen, parts_of_step(s, (8, 8))) for s in (0, 1, 3, 4, 5)]
    assert_rows(meter, expected, rtol=1e-3)
    assert meter.steps == 5
    assert dict(meter._unmeasured) == {"a gradient was not finite": 1}


@pytest.mark.parametrize("mode", ["per_example", "micro_batch"])
def test_steps_that_are_not_finite_are_left_out(mode: str) -> None:
    """A NaN that the user lets through costs one step of the measurement and is reported."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with GradientNoiseMeter(model, optimizer, every=1, mode=mode) as meter:
        for step in range(20):
            optimizer.zero_grad()
            for chosen in parts_of_step(step, (4, 4)):
                factor = float("nan") if step == 3 else 1.0
                (mean_loss(model, chosen) * factor).backward()
            for parameter in model.parameters():
                parameter.grad.nan_to_num_()
            optimizer.step()
    report = meter.report()

    assert report.measured == 19
    assert [c.code for c in report.cautions] == ["steps_left_out"]
    assert np.isfinite(report.noise_scale.low)


@pytest.mark.parametrize("mode", ["per_example", "micro_batch"])
@pytest.mark.parametrize("set_to_none", [True, False])
def test_a_step_that_the_user_gives_up(mode: str, set_to_none: bool) -> None:
    """Gradients zeroed without a step are not mixed into the next one."""
    model = net(torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with GradientNoiseMeter(model, optimizer, every=1, mode=mode) as meter:
        for step in range(4):
            if step == 2:
                mean_loss(model, np.arange(100, 108)).backward()
                optimizer.zero_grad(set_to_none=set_to_none)
            for chosen in parts_of_step(step, (4, 4)):
                mean_loss(model, chosen).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=set_to_none)

    want = from_parts if mode == "micro_batch" else (
        lambda m, p: from_single_examples(m, np.concatenate(p))
    )  # fmt: skip
    assert_rows(meter, [want(model, parts_of_step(s, (4, 4))) for s in range(4)])
    assert dict(meter._unmeasured) == {"gradients were zeroed without an optimizer step": 1}


def test_an_evaluation_in_between_is_not_counted() -> None:
    """Forward passes without gradient, of any size, change nothing."""
    model = net(torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with GradientNoiseMeter(model, optimizer, every=1) as meter:
        for step in range(3):
            optimizer.zero_grad()
            loss = mean_loss(model, parts_of_step(step)[0])
            with torch.no_grad():
                model(INPUTS.double())
            loss.backward()
            optimizer.step()

    assert_rows(meter, [from_single_examples(model, parts_of_step(s)[0]) for s in range(3)])


@pytest.mark.parametrize("mode", ["per_example", "micro_batch"])
def test_two_calls_for_one_loss_need_the_number_of_examples(mode: str) -> None:
    """Twice 4 examples in one loss may be 4 pairs or 8 examples: only the user knows."""
    model = net(torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)

    def loss(chosen: np.ndarray) -> Tensor:
        first, second = model(INPUTS[chosen].double()), model(INPUTS[chosen].double().flip(1))
        return (first - second - 1).square().mean()

    def run(meter: GradientNoiseMeter, told: bool) -> None:
        with meter:
            for step in range(10):
                optimizer.zero_grad()
                for chosen in parts_of_step(step, (4, 4)):
                    if told:
                        with meter.watching(examples=len(chosen)):
                            value = loss(chosen)
                    else:
                        value = loss(chosen)
                    value.backward()
                optimizer.step()

    untold = GradientNoiseMeter(model, optimizer, every=1, mode=mode)
    with pytest.warns(RuntimeWarning, match="called several times"):
        run(untold, told=False)
    with pytest.raises(UnresolvedError, match="called several times"):
        untold.report()
    told = GradientNoiseMeter(model, optimizer, every=1, mode=mode)
    run(told, told=True)
    assert told.measured == 10
    assert {row.examples for row in rows(told)} == {8}


def test_a_single_pass_needs_single_examples() -> None:
    """In a plain loop the micro-batch mode says what to do instead, early and at the end."""
    with pytest.warns(RuntimeWarning, match="step 0 .*per_example") as warned:
        meter = train(net(), 10, mode="micro_batch")
    assert len(warned) == 1
    with pytest.raises(UnresolvedError, match=r"no step was measured: .*mode=.per_example"):
        meter.report()


def test_gradients_that_were_never_zeroed() -> None:
    """A forgotten zero_grad is noticed, not measured."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with (
        pytest.warns(RuntimeWarning, match="zero_grad"),
        GradientNoiseMeter(model, optimizer, every=1) as meter,
    ):
        for step in range(3):
            mean_loss(model, parts_of_step(step)[0]).backward()
            optimizer.step()

    assert [row.step for row in rows(meter)] == [0]


def test_gradients_that_were_changed_between_passes() -> None:
    """Scaling .grad in the middle of an accumulation makes the step unusable."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with (
        pytest.warns(RuntimeWarning, match="changed between"),
        GradientNoiseMeter(model, optimizer, every=1) as meter,
    ):
        optimizer.zero_grad()
        for chosen in parts_of_step(0, (4, 4)):
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.grad.mul_(0.5)
            mean_loss(model, chosen).backward()
        optimizer.step()

    assert meter.measured == 0


def test_two_backward_passes_of_one_forward_pass() -> None:
    """Their sum is unknown, so the step is left out."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with (
        pytest.warns(RuntimeWarning, match="came in parts"),
        GradientNoiseMeter(model, optimizer, every=1, mode="micro_batch") as meter,
    ):
        optimizer.zero_grad()
        for chosen in parts_of_step(0, (4, 4)):
            values = model(INPUTS[chosen])
            values.mean().backward(retain_graph=True)
            values.square().mean().backward()
        optimizer.step()

    assert meter.measured == 0


def test_gradients_taken_for_other_purposes_are_noticed() -> None:
    """torch.autograd.grad fires the same hooks but adds nothing: the sum does not come out."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with (
        warnings.catch_warnings(record=True) as warned,
        GradientNoiseMeter(model, optimizer, every=1, mode="micro_batch") as meter,
    ):
        warnings.simplefilter("always")
        for chosen in parts_of_step(0, (4, 4)):
            torch.autograd.grad(mean_loss(model, chosen), list(model.parameters()))
            mean_loss(model, chosen).backward()
        optimizer.step()

    assert meter.measured == 0
    assert len(warned) == 1


def test_a_closure_is_a_step_like_any_other() -> None:
    """The backward pass may happen inside optimizer.step()."""
    model = net(torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with GradientNoiseMeter(model, optimizer, every=1) as meter:
        for step in range(2):

            def closure(chosen: np.ndarray = parts_of_step(step)[0]) -> Tensor:
                optimizer.zero_grad()
                loss = mean_loss(model, chosen)
                loss.backward()
                return loss

            optimizer.step(closure)

    assert_rows(meter, [from_single_examples(model, parts_of_step(s)[0]) for s in range(2)])


def test_mixed_precision() -> None:
    """Under bfloat16 autocast the measured noise is that of float32 within its rounding."""
    frozen = net()
    optimizer = torch.optim.SGD(frozen.parameters(), lr=0.0)
    found = {}
    for mode in ("per_example", "micro_batch"):
        with GradientNoiseMeter(frozen, optimizer, every=1, mode=mode) as meter:
            for step in range(20):
                optimizer.zero_grad()
                for chosen in parts_of_step(step, (8, 8, 8, 8)):
                    with torch.autocast("cpu", dtype=torch.bfloat16):
                        values = frozen(INPUTS[chosen])[:, 0]
                    (values.float() - TARGETS[chosen]).square().mean().backward()
                optimizer.step()
        found[mode] = meter.report().noise_scale.estimate
        plain = train(frozen, 20, (8, 8, 8, 8), learning_rate=0.0, mode=mode)
        assert found[mode] == pytest.approx(plain.report().noise_scale.estimate, rel=0.05)


# --- models ------------------------------------------------------------------------------------


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
    with (
        pytest.warns(RuntimeWarning, match="fewer backward passes"),
        GradientNoiseMeter(model, optimizer, every=1, mode="micro_batch") as meter,
    ):
        for step in range(12):
            optimizer.zero_grad()
            for chosen in parts_of_step(step, (4, 4) if step % 4 == 3 else (4, 4, 4)):
                mean_loss(model, chosen).backward()
            optimizer.step()

    assert [row.step for row in rows(meter)] == [0, 1, 2, *range(4, 12)]
    assert rows(meter)[-1].examples == 8


# --- reports and refusals -----------------------------------------------------------------------


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
        ({"level": 1.0}, "level"),
        ({"leave_out": ["nothing"]}, "names no parameter"),
    ):
        with pytest.raises(DataError, match=message):
            GradientNoiseMeter(model, sgd, **options)
    with GradientNoiseMeter(model, sgd) as meter, pytest.raises(DataError, match="in use"):
        meter.attach()


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

"""A meter in loops as people write them: nothing is missed silently."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
from meter_loops import (
    INPUTS,
    TARGETS,
    assert_rows,
    from_parts,
    from_single_examples,
    mean_loss,
    net,
    parts_of_step,
    rows,
    train,
)
from torch import Tensor, nn

from batchsense.errors import UnresolvedError
from batchsense.training import GradientNoiseMeter, LossForm


def test_scaled_losses_and_skipped_steps() -> None:
    """A GradScaler's factor is divided out, and a step that it skips is counted, not measured."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**14, growth_interval=4)
    seen = copy.deepcopy(model).double()
    with GradientNoiseMeter(
        model, optimizer, every=1, mode="micro_batch", form=LossForm(loss_scale=scaler.get_scale)
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
    meter = GradientNoiseMeter(model, optimizer, every=1)

    def loop() -> None:
        with meter:
            for step in range(3):
                mean_loss(model, parts_of_step(step)[0]).backward()
                optimizer.step()

    with pytest.warns(RuntimeWarning, match="zero_grad"):
        loop()

    assert [row.step for row in rows(meter)] == [0]


def test_gradients_that_were_changed_between_passes() -> None:
    """Scaling .grad in the middle of an accumulation makes the step unusable."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    meter = GradientNoiseMeter(model, optimizer, every=1)

    def loop() -> None:
        with meter:
            optimizer.zero_grad()
            for chosen in parts_of_step(0, (4, 4)):
                for parameter in model.parameters():
                    if parameter.grad is not None:
                        parameter.grad.mul_(0.5)
                mean_loss(model, chosen).backward()
            optimizer.step()

    with pytest.warns(RuntimeWarning, match="changed between"):
        loop()

    assert meter.measured == 0


def test_two_backward_passes_of_one_forward_pass() -> None:
    """Their sum is unknown, so the step is left out."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    meter = GradientNoiseMeter(model, optimizer, every=1, mode="micro_batch")

    def loop() -> None:
        with meter:
            optimizer.zero_grad()
            for chosen in parts_of_step(0, (4, 4)):
                values = model(INPUTS[chosen])
                values.mean().backward(retain_graph=True)
                values.square().mean().backward()
            optimizer.step()

    with pytest.warns(RuntimeWarning, match="came in parts"):
        loop()

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

            def closure(step: int = step) -> Tensor:
                optimizer.zero_grad()
                loss = mean_loss(model, parts_of_step(step)[0])
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

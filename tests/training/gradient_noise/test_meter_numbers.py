"""A meter's numbers are those of slow loops over examples and micro-batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from meter_loops import (
    assert_rows,
    from_parts,
    from_single_examples,
    gradient,
    net,
    parts_of_step,
    rows,
    train,
)
from torch import nn

from batchsense.training import GradientNoiseMeter, LossForm


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
        net(torch.float64), 4, sizes, lambda size: size / 16, seen=seen,
        form=LossForm(reduction="sum", loss_scale=1 / 16),
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
        form=LossForm(loss_scale=scale),
    )  # fmt: skip

    assert_rows(meter, [from_parts(m, parts_of_step(s, (4,) * 4)) for s, m in enumerate(seen)])


def test_unequal_micro_batches_with_a_summed_loss() -> None:
    """A sum over examples weights every example alike, however they are split."""
    seen: list[nn.Module] = []
    sizes = (8, 5, 3)
    meter = train(
        net(torch.float64), 4, sizes, lambda size: size / 16, seen=seen, mode="micro_batch",
        form=LossForm(reduction="sum", loss_scale=1 / 16),
    )  # fmt: skip

    assert_rows(meter, [from_parts(m, parts_of_step(s, sizes)) for s, m in enumerate(seen)])
    assert rows(meter)[0].batch_size == pytest.approx(16)


def test_unequal_micro_batches_that_are_averaged_alike_are_unbiased() -> None:
    """Dividing every micro-batch's mean by K weights small ones too much: the size says so."""
    sizes = (12, 2, 2)
    frozen = net(torch.float64)
    form = LossForm(loss_scale=1 / 3)
    meter = train(
        frozen, 600, sizes, lambda n: 1 / 3, mode="micro_batch", form=form, learning_rate=0.0
    )
    tau, gamma = from_single_examples(frozen, np.arange(240))
    found = np.array([(r.trace_covariance, r.squared_gradient_norm) for r in rows(meter)])
    error = found.std(axis=0, ddof=1) / np.sqrt(len(found))

    assert rows(meter)[0].batch_size == pytest.approx(9 / (1 / 12 + 1 / 2 + 1 / 2))
    assert (np.abs(found.mean(axis=0) - [tau, gamma]) < 4 * error).all()


def test_a_constant_factor_cancels_in_the_noise_scale() -> None:
    """Forgetting loss_scale changes the unit of noise and signal, not their ratio."""
    told, untold = (
        train(net(torch.float64), 20, (4, 4), lambda n: 0.5, mode="micro_batch", form=form)
        for form in (LossForm(loss_scale=0.5), LossForm())
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
    every, second = (train(net(), 400, learning_rate=0.01, every=k).report() for k in (1, 2))

    assert every.critical_batch_size is not None
    assert second.critical_batch_size is not None
    assert every.critical_batch_size.estimate in second.critical_batch_size

"""Steps to a loss are read off noisy evaluations without bias towards lucky ones."""

import numpy as np
import pytest

from batchsense.training.verify.training_run import evaluation_steps, steps_to_loss


def test_a_straight_fall_is_read_off_exactly() -> None:
    """Where the loss falls in a straight line, the crossing is that of the line."""
    steps = np.arange(0, 101, 4)

    for target in (9.5, 5.0, 0.9):
        assert steps_to_loss(steps, 10 - 0.1 * steps, target) == pytest.approx((10 - target) / 0.1)


def test_noise_does_not_make_a_run_look_faster_by_much() -> None:
    """With 5 % noise on an exponential fall, steps are right on average within 4 %."""
    rng = np.random.default_rng(0)
    steps = np.concatenate([[0], evaluation_steps(2000)])
    clean = 3.0 * np.exp(-steps / 300)
    truth = 300 * np.log(3.0 / 0.3)
    found = [
        steps_to_loss(steps, clean * np.exp(0.05 * rng.standard_normal(len(steps))), 0.3)
        for _ in range(300)
    ]

    assert np.mean(np.log(np.array(found, dtype=float) / truth)) == pytest.approx(0.0, abs=0.04)


def test_a_single_dip_is_no_arrival() -> None:
    """One lucky evaluation far below its neighbours does not count."""
    losses = [3.0, 2.9, 2.8, 0.9, 2.7, 2.6, 2.5]

    assert steps_to_loss(range(7), losses, 2.0) is None


def test_a_loss_that_starts_below_the_target_took_no_steps() -> None:
    """Nothing to train for: zero steps."""
    assert steps_to_loss([0, 1, 2], [1.0, 0.9, 0.8], 1.5) == 0.0


def test_too_few_evaluations_decide_nothing() -> None:
    """Two points are not smoothed yet."""
    assert steps_to_loss([0, 1], [1.0, 0.1], 0.5) is None


def test_evaluations_are_dense_early_and_end_with_the_run() -> None:
    """Every step at first, never more than 10 % apart later, the last step included."""
    steps = evaluation_steps(5000)

    assert steps[:10].tolist() == list(range(1, 11))
    assert steps[-1] == 5000
    assert (np.diff(steps) > 0).all()
    assert (steps[21:] / steps[20:-1] < 1.1).all()
    assert len(steps) < 100

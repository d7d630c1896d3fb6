"""The critical batch size along a path: a planted path is recovered, with an honest interval."""

import math

import numpy as np
import pytest

from batchsense.errors import UnresolvedError
from batchsense.training.gradient_noise import PathRecords, critical_batch_size_of_path

STEPS, BATCH_SIZE, GROUPS, DIRECTIONS = 400, 32, 8, 50


def planted() -> tuple[np.ndarray, np.ndarray, float]:
    """Give τ and γ along a run in which the noise scale rises from 10 to 500, and its B_crit."""
    progress = np.linspace(0, 1, STEPS)
    tau, scale = 3.0 * 0.3**progress, 10 * 50**progress
    weight = 1 / (1 + scale / BATCH_SIZE)
    return tau, tau / scale, float((weight * scale).sum() / weight.sum())


def simulated(rng: np.random.Generator) -> PathRecords:
    """Simulate the run's micro-batch gradients and estimate as a run does."""
    tau, gamma, _ = planted()
    shape = 1 / np.arange(1, DIRECTIONS + 1)
    shape /= shape.sum()
    size = BATCH_SIZE // GROUPS
    noise = rng.standard_normal((STEPS, GROUPS, DIRECTIONS)) * np.sqrt(shape / size)
    means = np.sqrt(gamma)[:, None, None] * np.sqrt(shape) + np.sqrt(tau)[:, None, None] * noise
    middle = means.mean(axis=1)
    spread = ((means - middle[:, None]) ** 2).sum(axis=(1, 2)) * size / (GROUPS - 1)
    square = (middle**2).sum(axis=1) - spread / BATCH_SIZE
    return PathRecords(BATCH_SIZE, spread, square, np.ones(STEPS))


def test_planted_path_is_recovered_and_covered() -> None:
    """Over 200 runs the median is within 10 % of the truth and 95 % intervals hold it."""
    rng = np.random.default_rng(0)
    truth = planted()[2]
    found = [critical_batch_size_of_path(simulated(rng)) for _ in range(200)]
    estimates = np.array([path.critical_batch_size.estimate for path in found])
    covered = np.mean([truth in path.critical_batch_size for path in found])

    assert truth == pytest.approx(np.median(estimates), rel=0.1)
    assert (np.abs(np.log(estimates / truth)) < math.log(1.6)).mean() > 0.97
    # Blocks of a run that changes also scatter because it changes, which widens the interval.
    assert covered >= 0.92


def test_scale_of_the_loss_does_not_matter() -> None:
    """A loss in other units (gradients 1,000 times as large) has the same critical batch size."""
    records = simulated(np.random.default_rng(1))
    louder = PathRecords(
        BATCH_SIZE,
        1e6 * records.trace_covariance,
        1e6 * records.squared_gradient_norm,
        records.loss,
    )

    expected = critical_batch_size_of_path(records).critical_batch_size
    actual = critical_batch_size_of_path(louder).critical_batch_size
    assert (expected.estimate, expected.low, expected.high) == pytest.approx(
        (actual.estimate, actual.low, actual.high), rel=1e-9
    )


def test_pure_noise_gives_a_lower_bound_and_no_number() -> None:
    """Where no gradient is seen, no upper end is invented."""
    rng = np.random.default_rng(2)
    tau = rng.chisquare(70, 400) / 70
    gamma = rng.standard_normal(400) / 50
    path = critical_batch_size_of_path(PathRecords(32, tau, gamma, np.ones(400)))

    assert not path.resolved
    assert math.isinf(path.critical_batch_size.high)
    assert path.steps_needed > 0


def test_a_run_far_above_its_critical_size_says_so() -> None:
    """B_run above four times the estimate is flagged, below it is not."""
    same = np.ones(64)

    assert critical_batch_size_of_path(PathRecords(512, 100 * same, same, same)).run_too_large
    assert not critical_batch_size_of_path(PathRecords(256, 100 * same, same, same)).run_too_large


def test_too_few_steps_are_refused() -> None:
    """Fifteen steps make no interval."""
    same = np.ones(15)

    with pytest.raises(UnresolvedError, match="16 steps"):
        critical_batch_size_of_path(PathRecords(32, same, same, same))

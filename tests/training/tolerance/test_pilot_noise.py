"""What a pilot's inner products say of τ, γ and the shape of the spread."""

import numpy as np
import pytest
from scipy import stats

from batchsense.errors import DataError, UnresolvedError
from batchsense.training.tolerance.pilot_noise import clipped_gram, pilot_noise


def gram_of(observations: np.ndarray) -> np.ndarray:
    """Inner products of observations; numbers count as vectors of one entry."""
    rows = observations.reshape(len(observations), -1)
    return rows @ rows.T


def spread_rows(rng: np.random.Generator, rows: int) -> np.ndarray:
    """Draw vectors with mean (3, 0, 0, 0, 0), variances 4, 2, 1, 0.5, 0.5: τ 8, tr Σ² 21.5."""
    return np.array([3.0, 0, 0, 0, 0]) + rng.normal(size=(rows, 5)) * np.sqrt([4, 2, 1, 0.5, 0.5])


def test_every_moment_is_right_on_average() -> None:
    """Over 300 pilots of 40 vectors the mean of τ̂, γ̂ and tr Σ² is the truth."""
    rng = np.random.default_rng(11)
    found = [pilot_noise(gram_of(spread_rows(rng, 40))) for _ in range(300)]

    def mean_within(values: list[float], truth: float) -> bool:
        error = np.std(values, ddof=1) / np.sqrt(len(values))
        return abs(np.mean(values) - truth) < 4 * error

    assert mean_within([p.trace for p in found], 8.0)
    assert mean_within([p.squared_mean for p in found], 9.0)
    assert mean_within([p.moments.square_ratio * p.trace**2 for p in found], 21.5)


def test_rows_that_are_means_tell_the_same_about_single_observations() -> None:
    """64 means of 16 vectors give the τ, tr Σ²/τ² and Var|e|²/τ² of one vector."""
    rng = np.random.default_rng(2)
    tail = rng.standard_t(5, size=(400, 64, 16, 3))
    found = [pilot_noise(gram_of(block.mean(axis=1)), observations_per_row=16) for block in tail]

    # Three independent t₅: variance 5/3 each, kurtosis 9, so Var|e|²/τ² = 3·8·(5/3)²/25.
    assert np.mean([p.trace for p in found]) == pytest.approx(5.0, rel=0.03)
    assert np.mean([p.moments.square_ratio for p in found]) == pytest.approx(1 / 3, rel=0.05)
    assert np.mean([p.moments.fourth_ratio for p in found]) == pytest.approx(8 / 3, rel=0.35)
    assert found[0].observations == 1024


def test_the_bounds_hold_as_often_as_they_say() -> None:
    """The 95 % bounds of τ and γ are right in at least 90 % of 300 normal pilots of 256."""
    rng = np.random.default_rng(3)
    found = [pilot_noise(gram_of(spread_rows(rng, 256))) for _ in range(300)]

    assert np.mean([p.trace_bound >= 8.0 for p in found]) >= 0.90
    assert np.mean([p.squared_mean_bound <= 9.0 for p in found]) >= 0.92


def test_a_whole_population_leaves_nothing_to_guess() -> None:
    """With every member seen, τ is the population's variance, divisor N, and both bounds meet."""
    values = np.random.default_rng(4).exponential(size=50)
    pilot = pilot_noise(gram_of(values), population=50)

    assert pilot.trace == pytest.approx(values.var())
    assert pilot.trace_bound == pytest.approx(values.var())
    assert pilot.squared_mean == pytest.approx(values.mean() ** 2)
    assert pilot.squared_mean_bound == pytest.approx(values.mean() ** 2)


def test_without_replacement_the_squared_mean_is_still_unbiased() -> None:
    """Draws of 20 from 25 repel each other; γ̂ corrects for it."""
    rng = np.random.default_rng(5)
    values = rng.normal(0.3, 1.0, size=25)
    found = [
        pilot_noise(gram_of(rng.choice(values, 20, replace=False)), population=25)
        for _ in range(4000)
    ]
    squared = [p.squared_mean for p in found]

    error = np.std(squared) / np.sqrt(len(squared))
    assert abs(np.mean(squared) - values.mean() ** 2) < 4 * error


def test_heavy_tails_are_noticed() -> None:
    """One observation with most of the variance is a heavy tail; a normal pilot has none."""
    rng = np.random.default_rng(6)
    outlier = np.append(rng.normal(size=255), 60.0)

    assert pilot_noise(gram_of(outlier)).heavy_tailed
    assert not pilot_noise(gram_of(rng.normal(size=256))).heavy_tailed


def test_clipping_shortens_rows_and_keeps_directions() -> None:
    """Inner products of clipped rows are those of the rows clipped one by one."""
    rows = np.random.default_rng(7).normal(size=(12, 4))
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    clipped = rows * np.minimum(1.0, 1.5 / lengths)

    np.testing.assert_allclose(clipped_gram(gram_of(rows), 1.5), clipped @ clipped.T)


@pytest.mark.parametrize(
    ("gram", "error", "text"),
    [
        (np.eye(5), UnresolvedError, "8 or more"),
        (np.ones((9, 8)), DataError, "square"),
        (np.triu(np.ones((9, 9))), DataError, "symmetric"),
        (np.full((9, 9), np.nan), DataError, "finite"),
    ],
)
def test_what_is_no_pilot_is_refused(gram: np.ndarray, error: type[Exception], text: str) -> None:
    """Too few rows and broken matrices are told apart, in words."""
    with pytest.raises(error, match=text):
        pilot_noise(gram)


def test_drawing_more_than_there_is_is_refused() -> None:
    """Nine rows of two cannot come from ten observations."""
    with pytest.raises(DataError, match="18 observations were drawn from 10"):
        pilot_noise(np.eye(9), observations_per_row=2, population=10)


def test_few_rows_are_left_out_one_by_one() -> None:
    """With nine rows the factor of the variance is that of the plain jackknife, eight degrees."""
    values = np.random.default_rng(8).normal(size=9)
    traces = np.log([np.delete(values, one).var(ddof=1) for one in range(9)])
    error = np.sqrt(8 * traces.var())
    found = pilot_noise(gram_of(values)).factor(lambda moments: moments.trace)

    assert found == pytest.approx(np.exp(stats.t.ppf(0.95, 8) * error))

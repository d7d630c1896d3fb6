"""The ladder keeps its promises on fresh draws and says what it takes for granted."""

from dataclasses import replace

import numpy as np
import pytest

from batchsense.errors import DataError, UnresolvedError
from batchsense.training.tolerance import ToleranceRung, tolerance_ladder
from batchsense.training.tolerance.ladder import _bounded
from batchsense.training.tolerance.pilot_noise import PilotNoise, clipped_gram, pilot_noise

POPULATION, RELATIVE, DELTA = 3000, 0.5, 0.1


def gram_of(observations: np.ndarray) -> np.ndarray:
    """Inner products of observations; numbers count as vectors of one entry."""
    rows = observations.reshape(len(observations), -1)
    return rows @ rows.T


def gradients() -> np.ndarray:
    """Make 3,000 gradients in 40 directions with a noise scale of about 60."""
    rng = np.random.default_rng(0)
    scale = np.arange(1, 41.0) ** -0.7
    rows = rng.standard_normal((POPULATION, 40)) * scale
    return rows + scale * np.sqrt((scale**2).sum() / 60) / np.linalg.norm(scale)


ROWS = gradients()
EPSILON = RELATIVE * float(np.linalg.norm(ROWS.mean(axis=0)))


def pilot(seed: int, examples: int = 256) -> PilotNoise:
    """Measure a pilot drawn without replacement."""
    chosen = np.random.default_rng(seed).permutation(POPULATION)[:examples]
    return pilot_noise(gram_of(ROWS[chosen]), population=POPULATION)


def ladder(seed: int = 1, **options: float) -> dict[str, ToleranceRung]:
    """Give the rungs by name, for the absolute tolerance unless told otherwise."""
    wanted = {"epsilon": EPSILON, "confidence": 1 - DELTA, "population": POPULATION, **options}
    return {rung.guarantee: rung for rung in tolerance_ladder(pilot(seed), **wanted)}


def miss_rate(size: int, draws: int = 2000) -> float:
    """Count fresh minibatches, without replacement, that are too far off."""
    rng = np.random.default_rng(99)
    full = ROWS.mean(axis=0)
    chosen = (rng.choice(POPULATION, size=size, replace=False) for _ in range(draws))
    errors = [np.linalg.norm(ROWS[rows].mean(axis=0) - full) for rows in chosen]
    return float(np.mean(np.array(errors) > EPSILON))


@pytest.mark.slow
def test_the_calibrated_promise_holds_without_waste() -> None:
    """In 9 of 10 pilots of 256 the miss rate is ≤ 1.2 δ, at ≤ 1.6 times the least size, ≤ N."""
    sizes = np.array([ladder(seed)["calibrated"].require() for seed in range(40)])
    tried = np.arange(260, 420, 10)
    rates = np.array([miss_rate(int(size)) for size in tried])
    least = tried[rates <= DELTA][0]
    allowed = tried[rates <= 1.2 * DELTA][0]

    assert np.mean(sizes >= allowed) >= 0.9
    assert np.quantile(sizes, 0.95) <= 1.6 * least
    assert sizes.max() <= POPULATION


@pytest.mark.slow
def test_a_relative_tolerance_uses_what_the_gradient_is_at_least() -> None:
    """With 1,024 examples the relative rung keeps its promise too, in 9 of 10 pilots."""
    sizes = [
        tolerance_ladder(
            pilot(seed, 1024), relative=RELATIVE, confidence=1 - DELTA, population=POPULATION
        )[1].require()
        for seed in range(40)
    ]
    whole = pilot(0, POPULATION)
    truth = tolerance_ladder(whole, epsilon=EPSILON, confidence=1 - DELTA, population=POPULATION)[
        1
    ].require()

    assert np.mean(np.array(sizes) >= 0.97 * truth) >= 0.9
    assert np.median(sizes) <= 1.6 * truth


def test_rungs_ascend_and_more_confidence_needs_more() -> None:
    """On average < calibrated < Chebyshev ≤ N; the average does not care for confidence."""
    rungs, stricter = ladder(), ladder(confidence=0.999)
    sizes = [rungs[name].require() for name in ("mean_square", "calibrated", "chebyshev")]

    assert sizes == sorted(sizes)
    assert stricter["mean_square"] == rungs["mean_square"]
    assert stricter["calibrated"].require() > sizes[1]
    assert sizes[2] < stricter["chebyshev"].require() <= POPULATION
    assert miss_rate(sizes[2], 500) < DELTA / 10


def test_each_rung_is_the_formula_of_its_name() -> None:
    """n₀ = τ/ε² and τ_U/(δε²), then ⌈n₀N/(N − 1 + n₀)⌉; the unlimited number is kept."""
    noise, rungs = pilot(1), ladder()
    need = noise.trace_bound / (DELTA * EPSILON**2)

    assert rungs["mean_square"].unlimited == pytest.approx(noise.trace / EPSILON**2)
    assert rungs["chebyshev"].unlimited == pytest.approx(need)
    assert rungs["chebyshev"].batch_size == np.ceil(need * POPULATION / (POPULATION - 1 + need))


def test_without_a_bound_there_is_no_promise_for_every_distribution() -> None:
    """The bounded rung is refused from a pilot alone, and says what would make it possible."""
    rung = ladder()["bounded"]

    assert rung.batch_size is None
    assert "Bahadur and Savage" in rung.assumes
    with pytest.raises(UnresolvedError, match="no bounded batch size") as refusal:
        rung.require()
    assert "clipped" in str(refusal.value.needed)


def test_a_whole_set_has_a_bound() -> None:
    """With every gradient seen, the bounded rung exists, holds, and its variance is exact."""
    whole = pilot_noise(gram_of(ROWS[:400]), population=400)
    radius = float(np.linalg.norm(ROWS[:400] - ROWS[:400].mean(axis=0), axis=1).max())
    rungs = tolerance_ladder(whole, epsilon=1.0, population=400, radius=radius)

    assert whole.trace_bound == whole.trace
    assert rungs[1].require() < rungs[3].require() <= 400
    assert "all 400 examples" in rungs[1].assumes


def test_clipping_gives_a_bound_that_holds_for_any_distribution() -> None:
    """Rare large gradients that 99 % of pilots of 256 miss do not break the clipped promise.

    Two-point law in one direction: mostly 0, once in 20,000 the clipping norm.
    """
    rng = np.random.default_rng(5)
    unlucky = np.zeros(256)
    unlucky[:8] = rng.normal(0, 1e-3, 8)
    noise = pilot_noise(clipped_gram(gram_of(unlucky), 1.0))
    rungs = tolerance_ladder(noise, epsilon=0.1, diameter=2.0)
    size = rungs[3].require()

    # At n draws a miss needs more than n/10 of them: less likely than δ by far.
    assert size > 20 * rungs[2].require()
    with pytest.raises(DataError, match="clip the pilot"):
        tolerance_ladder(pilot(1), epsilon=0.1, diameter=0.5)


def test_the_bounded_variance_covers_laws_that_hide_their_tail() -> None:
    """Maurer and Pontil's bound fails in at most 5 % of pilots, for rare and common events."""
    rng = np.random.default_rng(6)
    for chance in (0.3, 0.05, 0.005):
        variance, failures = chance * (1 - chance), 0
        for _ in range(120):
            values = (rng.random(256) < chance).astype(float)
            noise = pilot_noise(gram_of(values))
            need = _bounded(noise, 0.1, 0.05, None, None, diameter=1.0).unlimited
            assert need is not None
            honest = 2 * np.log(2 / 0.05) * (variance / 0.01 + 1.0 / 0.3)
            failures += need < honest

        assert failures <= 0.05 * 120 + 4


def test_a_mean_that_is_lost_in_noise_has_no_relative_size() -> None:
    """Where |G|² is not told from zero every relative rung is refused, with what would help."""
    lost = replace(pilot(1), squared_mean=0.2, squared_mean_bound=-0.1)
    rungs = tolerance_ladder(lost, relative=0.5)

    assert [rung.batch_size is None for rung in rungs] == [False, True, True, True]
    assert "more examples in the pilot" in str(rungs[1].needed)
    gone = replace(lost, squared_mean=-0.2)
    assert all(rung.batch_size is None for rung in tolerance_ladder(gone, relative=0.5))


def test_a_heavy_tail_is_said_with_the_promise() -> None:
    """What a pilot of a heavy-tailed law cannot know is part of what the rung assumes."""
    values = np.random.default_rng(3).standard_t(3.5, size=1000)
    rungs = tolerance_ladder(pilot_noise(gram_of(values)), epsilon=0.3)

    assert "worse ones may not have been drawn" in rungs[1].assumes


def test_a_pilot_that_does_not_know_the_number_gives_none() -> None:
    """Where a few observations hold the variance, the rung says how far it is open, and what helps.

    The mean-square rung, which promises nothing of a single minibatch, is still given.
    """
    values = np.random.default_rng(7).standard_t(2.2, size=256)
    rungs = tolerance_ladder(pilot_noise(gram_of(values)), epsilon=0.3)

    assert (rungs[0].batch_size is None, rungs[1].batch_size) == (False, None)
    assert "leave the number open by a factor of" in rungs[1].assumes
    assert "more examples in the pilot" in str(rungs[1].needed)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "either an absolute tolerance"),
        ({"epsilon": 1.0, "relative": 0.5}, "either an absolute tolerance"),
        ({"epsilon": 0.0}, "epsilon is 0.0"),
        ({"relative": float("nan")}, "relative tolerance is nan"),
        ({"epsilon": 1.0, "confidence": 1.0}, "between 0 and 1"),
        ({"epsilon": 1.0, "diameter": -1.0}, "diameter is -1.0"),
    ],
)
def test_nonsense_is_refused(options: dict[str, float], text: str) -> None:
    """Each impossible argument is named."""
    with pytest.raises(DataError, match=text):
        tolerance_ladder(pilot(1), **options)

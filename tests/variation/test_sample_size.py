"""Numbers of observations and what they promise."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from batchsense.errors import DataError
from batchsense.variation import least_number, sample_size, without_replacement


def numbers(*arguments, **options) -> dict[str, int]:
    """Rungs by name."""
    return {rung.name: rung.observations for rung in sample_size(*arguments, **options)}


def test_textbook_case() -> None:
    """σ = 15 to within 3 with 95 %: 97 by the normal law, 500 by Chebyshev."""
    assert numbers(225.0, 3.0, 0.05) == {"chebyshev": 500, "normal": 97}


@pytest.mark.parametrize("delta", [0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.001])
@pytest.mark.parametrize("epsilon", [0.1, 0.2, 0.3, 0.7, 0.01, 1.0])
def test_chebyshev_at_exact_integers(epsilon: float, delta: float) -> None:
    """The ceiling is that of the decimals as written; rounding never adds or loses one."""
    for variance in (0.1, 0.3, 1.0, 2.7, 9.0):
        decimals = [Fraction(str(x)) for x in (variance, delta, epsilon)]
        expected = max(1, math.ceil(decimals[0] / (decimals[1] * decimals[2] ** 2)))

        assert numbers(variance, epsilon, delta)["chebyshev"] == expected


def test_finite_population_is_the_smallest_sufficient_number() -> None:
    """⌈nN/(N-1+n)⌉ is the least size whose exact variance meets the requirement."""
    for population in (1, 2, 3, 10, 57, 1000):
        for unlimited in (0.5, 1.0, 2.0, 7.25, 99.0, 1e6):

            def enough(size: int, total: int = population, need: float = unlimited) -> bool:
                """Variance of a mean of ``size`` out of ``total``, against the allowed one."""
                return total == 1 or Fraction(total - size, size * (total - 1)) <= 1 / Fraction(
                    need
                )

            expected = next(size for size in range(1, population + 1) if enough(size))

            assert without_replacement(unlimited, population) == expected


def test_population_caps_every_rung() -> None:
    """Nobody needs more than everything, and drawing all leaves no error."""
    assert set(numbers(1.0, 1e-6, 0.01, population=40, bound=5.0).values()) == {40}
    assert numbers(1.0, 10.0, 0.5, population=1, bound=5.0) == {
        "chebyshev": 1,
        "normal": 1,
        "bernstein": 1,
    }


def test_promises_hold_on_a_skewed_law() -> None:
    """Chebyshev's and Bernstein's numbers keep the error rate below delta on a rare event."""
    generator = np.random.default_rng(0)
    chance, epsilon, delta = 0.05, 0.03, 0.1
    found = numbers(chance * (1 - chance), epsilon, delta, bound=1 - chance)
    for name in ("chebyshev", "bernstein"):
        means = generator.binomial(found[name], chance, 20_000) / found[name]
        assert np.mean(np.abs(means - chance) > epsilon) <= delta


@pytest.mark.parametrize("population", [None, 400])
def test_normal_number_gives_the_rate_asked_for(population: int | None) -> None:
    """Planned for 5 % misses, 5 % are counted (4 standard errors), also without replacement."""
    generator = np.random.default_rng(1)
    everyone = generator.normal(size=400)
    everyone -= everyone.mean()
    variance = float((everyone**2).mean())
    size = numbers(variance, 0.2, 0.05, population=population)["normal"]
    if population is None:
        draws = generator.choice(everyone, size=(20_000, size))
    else:
        draws = generator.permuted(np.tile(everyone, (20_000, 1)), axis=1)[:, :size]
    rate = np.mean(np.abs(draws.mean(axis=1)) > 0.2)

    # rounding up to a whole observation makes the rate a little smaller than 5 %
    assert 0.04 < rate < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 20_000)


def test_vectors_use_trace_and_effective_dimension() -> None:
    """For a covariance matrix misses of the Euclidean ball come at the rate asked for."""
    generator = np.random.default_rng(2)
    spectrum = np.array([3.0, 1.0, 1.0, 0.5, 0.5])
    found = numbers(np.diag(spectrum), 0.5, 0.05)
    assert found["chebyshev"] == math.ceil(6.0 / (0.05 * 0.25))

    means = generator.normal(size=(40_000, 5)) * np.sqrt(spectrum / found["normal"])
    rate = np.mean(np.linalg.norm(means, axis=1) > 0.5)

    assert rate == pytest.approx(0.05, abs=0.012)  # Satterthwaite is an approximation
    assert found["normal"] < numbers(6.0, 0.5, 0.05)["normal"]


def test_trace_alone_is_the_careful_choice() -> None:
    """Without the matrix the normal rung asks for at least as much, for delta up to 0.18."""
    generator = np.random.default_rng(3)
    for delta in (0.18, 0.1, 0.01):
        for _ in range(50):
            spectrum = generator.random(6) ** 3
            whole = numbers(np.diag(spectrum), 0.1, delta)["normal"]
            assert numbers(float(spectrum.sum()), 0.1, delta)["normal"] >= whole


def test_rungs_name_their_assumptions() -> None:
    """Every rung says what it takes for granted, and Bernstein appears only with a bound."""
    rungs = sample_size(1.0, 0.1, 0.05, population=1000, bound=2.0)

    assert [rung.name for rung in rungs] == ["chebyshev", "normal", "bernstein"]
    assert "any law" in rungs[0].assumes
    assert "nearly normal" in rungs[1].assumes
    assert "within 2 of the mean" in rungs[2].assumes
    assert all("without replacement" in rung.assumes for rung in rungs)
    assert len(sample_size(1.0, 0.1, 0.05)) == 2


def test_no_variance_needs_one_observation() -> None:
    """A constant is known after one look."""
    assert numbers(0.0, 0.1, 0.05) == {"chebyshev": 1, "normal": 1}


@pytest.mark.parametrize(
    ("arguments", "options", "text"),
    [
        ((1.0, 0.0, 0.05), {}, "epsilon is 0.0"),
        ((1.0, -1.0, 0.05), {}, "epsilon is -1.0"),
        ((1.0, float("nan"), 0.05), {}, "epsilon is nan"),
        ((1.0, 0.1, 0.0), {}, "delta is 0.0"),
        ((1.0, 0.1, 5.0), {}, "delta is 5.0"),
        ((-1.0, 0.1, 0.05), {}, "variance is negative"),
        ((float("inf"), 0.1, 0.05), {}, "must be finite"),
        (([1.0, 2.0], 0.1, 0.05), {}, r"shape \(2,\)"),
        (([[1.0, 2.0], [0.0, 1.0]], 0.1, 0.05), {}, "not symmetric"),
        ((1.0, 0.1, 0.05), {"population": 0}, "population is 0"),
        ((1.0, 0.1, 0.05), {"bound": -1.0}, "bound is -1.0"),
        ((4.0, 0.1, 0.05), {"bound": 1.0}, "more than 1 squared"),
    ],
)
def test_bad_input_says_what_and_where(arguments, options, text: str) -> None:
    """Every argument out of range raises DataError."""
    with pytest.raises(DataError, match=text):
        sample_size(*arguments, **options)


@pytest.mark.parametrize("first", [1, 2, 7])
@pytest.mark.parametrize("most", [None, 40, 63, 64, 65])
def test_least_number_is_what_a_loop_finds(first: int, most: int | None) -> None:
    """Doubling and halving give the first number that is enough, or one more than the last."""
    for needed in range(1, 90):
        tried: list[int] = []

        def enough(number: int, needed: int = needed, tried: list[int] = tried) -> bool:
            """Note the number and compare."""
            tried.append(number)
            return number >= needed

        end = 1000 if most is None else most
        expected = next((n for n in range(first, end + 1) if n >= needed), end + 1)

        assert least_number(enough, first, most) == expected
        assert max(tried) <= end

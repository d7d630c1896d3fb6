"""Numbers of observations and what they promise."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from batchsense.variation import (
    chebyshev_need,
    least_number,
    pinelis_need,
    without_replacement,
)


@pytest.mark.parametrize("delta", [0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.001])
@pytest.mark.parametrize("epsilon", [0.1, 0.2, 0.3, 0.7, 0.01, 1.0])
def test_chebyshev_at_exact_integers(epsilon: float, delta: float) -> None:
    """The number is that of the decimals as written; rounding never adds or loses one."""
    population = 10**9
    for variance in (0.1, 0.3, 1.0, 2.7, 9.0):
        exact = Fraction(str(variance)) / (Fraction(str(delta)) * Fraction(str(epsilon)) ** 2)
        expected = max(1, math.ceil(exact * population / (population - 1 + exact)))

        need = chebyshev_need(variance, epsilon, delta)
        assert without_replacement(need, population) == expected


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


def test_promises_hold_on_a_skewed_law() -> None:
    """Chebyshev's and Bernstein's numbers keep the error rate below delta on a rare event."""
    generator = np.random.default_rng(0)
    chance, epsilon, delta = 0.05, 0.03, 0.1
    variance = chance * (1 - chance)
    needs = (
        chebyshev_need(variance, epsilon, delta),
        pinelis_need(variance, epsilon, delta, 1 - chance),
    )
    for need in map(math.ceil, needs):
        means = generator.binomial(need, chance, 20_000) / need
        assert np.mean(np.abs(means - chance) > epsilon) <= delta


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

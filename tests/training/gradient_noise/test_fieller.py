"""Fieller's interval is the set that defines it, in every branch."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import stdtrit

from batchsense.training.gradient_noise.report import fieller_ratio

numbers = st.floats(-5, 5)
spreads = st.floats(0.05, 3)


def accepted(ratio: float, t: float, gamma: float, v: np.ndarray, degrees: float) -> bool:
    """Whether a ratio is not rejected by the two-sided t test of T - ratio * gamma = 0."""
    quantile = stdtrit(degrees, 0.975)
    variance = v[0, 0] - 2 * ratio * v[0, 1] + ratio**2 * v[1, 1]
    return bool((t - ratio * gamma) ** 2 <= quantile**2 * variance)


@given(st.floats(0, 5), numbers, spreads, spreads, st.floats(-0.9, 0.9), st.integers(7, 60))
def test_interval_is_the_set_of_ratios_that_the_t_test_accepts(
    t: float, gamma: float, a: float, b: float, correlation: float, degrees: int
) -> None:
    """Inside the interval every ratio is accepted, outside none, up to ratios of 10,000."""
    v = np.array([[a * a, correlation * a * b], [correlation * a * b, b * b]])
    found = fieller_ratio(t, gamma, v, degrees)
    low, high = found.interval.low, found.interval.high

    for ratio in np.concatenate([np.geomspace(1e-4, 1e4, 200), [0.0]]):
        if math.isclose(ratio, low, rel_tol=1e-6) or math.isclose(ratio, high, rel_tol=1e-6):
            continue
        if found.branch in ("bounded", "upper", "lower"):
            assert accepted(ratio, t, gamma, v, degrees) == (low < ratio < high or low == ratio)
        elif found.branch == "none" and gamma > 0:
            # Two half-lines may leave a gap of rejected ratios only below zero.
            assert accepted(ratio, t, gamma, v, degrees)


@pytest.mark.parametrize(
    ("numerator", "denominator", "branch"),
    [
        (10.0, 2.0, "bounded"),
        (0.1, 2.0, "upper"),
        (10.0, 0.1, "lower"),
        (0.1, 0.1, "none"),
        (10.0, -2.0, "negative"),
    ],
)
def test_each_branch_is_named(numerator: float, denominator: float, branch: str) -> None:
    """Two clear means give two ends; an unclear one loses its end; a negative one is said."""
    found = fieller_ratio(numerator, denominator, np.diag([0.01, 0.01]), 30)

    assert found.branch == branch
    assert (found.interval.low > 0) == (branch in ("bounded", "lower"))
    assert math.isfinite(found.interval.high) == (branch in ("bounded", "upper"))


@given(st.floats(0.1, 5), st.floats(0.1, 5), spreads, spreads, st.floats(1e-3, 1e3))
def test_units_of_numerator_and_denominator_pass_through(
    t: float, gamma: float, a: float, b: float, unit: float
) -> None:
    """A numerator in other units gives the same interval in these units."""
    v = np.diag([a * a, b * b])
    plain = fieller_ratio(t, gamma, v, 20)
    scaled = fieller_ratio(unit * t, gamma, np.diag([unit * unit * a * a, b * b]), 20)

    assert scaled.branch == plain.branch
    assert math.isclose(scaled.interval.low, unit * plain.interval.low, rel_tol=1e-7, abs_tol=1e-9)


def test_what_is_not_finite_is_refused() -> None:
    """NaN in never gives an interval out."""
    with pytest.raises(ValueError, match="finite"):
        fieller_ratio(math.nan, 1.0, np.eye(2), 10)


@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6))
def test_without_uncertainty_the_interval_is_the_ratio(
    numerator: float, denominator: float
) -> None:
    """All examples were drawn: nothing is uncertain, whatever the last bits say."""
    found = fieller_ratio(numerator, denominator, np.zeros((2, 2)), degrees=8)

    assert found.branch == "bounded"
    assert found.interval.low == pytest.approx(numerator / denominator, rel=1e-6)
    assert found.interval.high == pytest.approx(numerator / denominator, rel=1e-6)

"""Tail areas far out: the noncentral F goes on where scipy's ends."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from batchsense.experiments.statistics.tail_areas import log_f_tail, noncentral_f


@pytest.mark.parametrize(("r", "d"), [(1, 3), (4, 50), (13, 2000)])
def test_noncentral_f_near_and_far(r, d):
    """Equal to scipy below, continuous at the border, and finite, rising and right beyond it."""
    near = np.array([0.0, 1.0, 40.0, 1e6])
    np.testing.assert_array_equal(
        special.ncfdtr(r, d, near, near / r + 1), noncentral_f(near / r + 1, r, d, near)
    )
    for border in (1e9, np.nextafter(1e9, 2e9)):
        assert noncentral_f(1.1e9 / r, r, d, border) == pytest.approx(
            float(special.ncfdtr(r, d, 1e9, 1.1e9 / r)), abs=1e-6
        )
    far = noncentral_f(np.array([0.5, 1.0, 2.0]) * 1e14 / r, r, d, 1e14)
    assert np.all(np.diff(far) > 0)
    rng = np.random.default_rng(0)
    drawn = (1.0 / (rng.chisquare(d, 200_000) / d) <= 1.0).mean()
    assert far[1] == pytest.approx(drawn, abs=0.005)


def test_noncentral_f_is_a_number_everywhere():
    """From 1 to 10⁷ degrees of freedom, near and far from the centre: between 0 and 1, rising."""
    rng = np.random.default_rng(0)
    lost = 0
    for _ in range(3000):
        r, d = 10 ** rng.uniform(0, 7), 10 ** rng.uniform(0, 8)
        centre = np.exp(abs(rng.normal()) * 10 ** rng.uniform(-4, 0.7))
        noncentrality = max(r * (centre - 1), 0.0) * np.exp(
            rng.normal() * 10 ** rng.uniform(-5, 0.3)
        )
        values = centre * np.array([0.5, 0.99, 1.0, 1.01, 2.0])
        found = noncentral_f(values, r, d, noncentrality)
        lost += int(np.isnan(special.ncfdtr(r, d, noncentrality, values)).any())

        assert ((found >= 0) & (found <= 1)).all()
        assert (np.diff(found) >= -1e-5).all()
    assert lost > 0, "scipy has become safe; the substitute can go"


def test_the_far_tail_of_f_is_a_number_everywhere():
    """No degrees of freedom make the logarithm of the tail NaN or infinite; it falls as F grows."""
    rng = np.random.default_rng(0)
    first = np.floor(10 ** rng.uniform(0, 5, 4000))
    second = 10 ** rng.uniform(-0.5, 7.5, 4000)
    statistic = 10 ** rng.uniform(-3, 8, 4000)
    found, farther = (log_f_tail(statistic * k, first, second) for k in (1.0, 1.1))

    assert np.isfinite(found).all()
    assert (farther <= found + 1e-9 * abs(found)).all()

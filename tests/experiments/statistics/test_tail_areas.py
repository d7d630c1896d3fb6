"""Tail areas far out: the noncentral F goes on where scipy's ends."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from batchsense.experiments.statistics.tail_areas import noncentral_f


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

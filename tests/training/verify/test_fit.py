"""The law of steps is recovered, its interval covers, and it may be unbounded."""

import math

import numpy as np
import pytest

from batchsense.errors import UnresolvedError
from batchsense.training.verify.verdict import fit_steps_law

SIZES = np.array([8, 22, 64, 181, 512])


def test_the_law_is_recovered_exactly_without_noise() -> None:
    """Steps that follow the law give back its two numbers, and themselves."""
    law = fit_steps_law(SIZES, 40 * (1 + 70 / SIZES))

    assert law.minimum_steps.estimate == pytest.approx(40, rel=0.01)
    assert law.critical_batch_size.estimate == pytest.approx(70, rel=0.01)
    assert law.misfit < 0.01
    np.testing.assert_allclose(law.steps(SIZES), 40 * (1 + 70 / SIZES), rtol=0.01)


@pytest.mark.parametrize("noise", [0.04, 0.12])
def test_the_intervals_cover(noise: float) -> None:
    """95 % intervals of both numbers cover in at least 92 of 100 noisy sweeps."""
    rng = np.random.default_rng(1)
    laws = [
        fit_steps_law(SIZES, 40 * (1 + 70 / SIZES) * np.exp(noise * rng.standard_normal(5)))
        for _ in range(250)
    ]

    assert np.mean([70 in law.critical_batch_size for law in laws]) >= 0.92
    assert np.mean([40 in law.minimum_steps for law in laws]) >= 0.92


def test_a_critical_size_beyond_the_sweep_has_no_upper_end() -> None:
    """Steps that keep halving tell a lower bound; steps that never change an upper one."""
    beyond = fit_steps_law(SIZES, 1 + 50_000 / SIZES).critical_batch_size
    below = fit_steps_law(SIZES, np.full(5, 30.0)).critical_batch_size

    assert beyond.low > 512
    assert math.isinf(beyond.high)
    assert below.low == 0.0
    assert below.high < 8


def test_a_known_error_widens_the_interval() -> None:
    """Five points on the law by luck do not beat what repeats say of their error."""
    steps = 40 * (1 + 70 / SIZES)
    narrow, wide = (fit_steps_law(SIZES, steps, error=e).critical_batch_size for e in (0.03, 0.15))

    assert wide.ratio > 1.5 * narrow.ratio


def test_two_sizes_are_no_law() -> None:
    """Two parameters need three sizes."""
    with pytest.raises(UnresolvedError, match="too few for a law"):
        fit_steps_law([8, 64, 64], [100, 40, 41])

"""Positions on plates, and the smallest effect a design can find."""

from __future__ import annotations

import numpy as np
import pytest

from batchsense.experiments.layout.allocation import balance_basis
from batchsense.experiments.layout.plates import place
from batchsense.experiments.layout.wells import well_factors, well_order
from batchsense.experiments.layout.worth import detectable_effect
from batchsense.experiments.statistics.confounding import analyse


def test_positions_are_balanced_over_rows_columns_and_edge():
    """Two full plates of 8 × 12 with three arms: each position factor is far below chance."""
    rng = np.random.default_rng(1)
    arm = rng.permutation(np.arange(192) % 3)
    codes = np.empty(192, dtype=int)
    for one in range(3):
        codes[np.flatnonzero(arm == one)] = np.arange(64) % 2
    basis = balance_basis(np.eye(3)[arm])

    found = place(basis, codes, [np.arange(96)] * 2, well_factors(8, 12), seed=1)

    assert found.score < 0.02 < 0.1 < found.random_scores.min()
    for b in range(2):
        assert sorted(found.wells[codes == b]) == list(range(96))
    row, column, edge = (factor[found.wells] for factor in well_factors(8, 12))
    twin = sum(
        analyse(np.eye(3)[arm], np.eye(level.max() + 1)[level]).pillai
        for level in (row, column, edge)
    )
    assert found.score == pytest.approx(twin, abs=1e-10)


def test_plates_that_are_not_full():
    """Only the given wells are used, each once."""
    rng = np.random.default_rng(2)
    codes = np.repeat([0, 1], [5, 7])
    wells = [well_order(3, 4)[:5], well_order(3, 4)[2:9]]
    found = place(balance_basis(rng.normal(size=12)), codes, wells, well_factors(3, 4))

    for b in range(2):
        assert sorted(found.wells[codes == b]) == sorted(wells[b])


@pytest.mark.parametrize(("variance", "df"), [(2 / 10, 18), (0.05, 77), (1.0, 3)])
def test_the_detectable_effect_has_its_power_in_simulation(variance, df):
    """Noncentral t draws exceed the critical value in 80 % of cases."""
    from scipy import special

    effect = detectable_effect(variance, df)
    rng = np.random.default_rng(3)
    z = rng.normal(effect / np.sqrt(variance), 1, 200_000)
    t = z / np.sqrt(rng.chisquare(df, 200_000) / df)

    power = (np.abs(t) > special.stdtrit(df, 0.975)).mean()
    assert abs(power - 0.8) < 4 * np.sqrt(0.16 / 200_000)


def test_no_degree_of_freedom_no_effect():
    """Without residual degrees of freedom nothing can be found."""
    assert detectable_effect(0.1, 0) == np.inf

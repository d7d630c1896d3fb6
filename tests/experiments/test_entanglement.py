"""Differences between levels: estimable iff a dense reference says so, at the price it says."""

from __future__ import annotations

import numpy as np
import pytest

from batchsense.experiments import Table, diagnose
from batchsense.experiments.design import read_design
from batchsense.experiments.entanglement import level_contrasts


def contrasts(values=None, **sheet):
    """Contrasts of the second column against batches in the first."""
    batch, kept, *others = sheet
    rows = len(sheet[batch])
    table = Table.from_arrays(np.eye(rows) if values is None else values, sheet)
    design = read_design(table, batch, [kept, *others])
    return {str(one): one for one in level_contrasts(design, design.kept[0])}


@pytest.mark.parametrize("seed", range(30))
def test_agrees_with_a_dense_reference(seed):
    """Estimability, R² and the levels a link runs through equal pseudo-inverses of the design."""
    rng = np.random.default_rng(seed)
    month, arm, age = rng.integers(0, 4, 11), rng.integers(0, 4, 11), rng.normal(size=11)
    arm[:2], month[:2] = (0, 1), (0, 1)

    def indicators(labels):
        return (labels[:, None] == np.unique(labels)).astype(float)

    def told(rows, one, two, batches=True):
        """Variance of the difference in units of the residual one; None if not estimable."""
        parts = [np.ones((11, 1)), age[:, None], *([indicators(month)] if batches else [])]
        design = np.hstack([*parts, indicators(arm)])[rows]
        levels = np.unique(arm)
        vector = np.zeros(design.shape[1])
        vector[design.shape[1] - len(levels) + np.searchsorted(levels, [one, two])] = -1, 1
        inverse = np.linalg.pinv(design.T @ design, rcond=1e-11)
        if np.abs(vector - vector @ inverse @ design.T @ design).max() > 1e-7:
            return None
        return float(vector @ inverse @ vector)

    everyone = np.ones(11, dtype=bool)
    for name, found in contrasts(month=month, arm=arm, age=age).items():
        one, two = int(found.first), int(found.second)
        variance = told(everyone, one, two)
        assert found.estimable == (variance is not None), name
        if variance is None:
            assert (found.r2, found.only_through) == (1.0, ())
            continue
        expected = 1 - told(everyone, one, two, batches=False) / variance
        assert found.r2 == pytest.approx(max(expected, 0), abs=1e-9)
        through = [
            str(level)
            for level in np.unique(arm)
            if level not in (one, two) and told(arm != level, one, two) is None
        ]
        assert list(found.only_through) == through


def test_linked_only_through_controls():
    """A in May, B in July, controls in both: B - A rests on the controls, and a note says so."""
    month = ["May"] * 4 + ["July"] * 4
    arm = [*"AAcc", *"BBcc"]
    found = contrasts(month=month, arm=arm)
    table = Table.from_arrays(
        np.random.default_rng(0).normal(size=(8, 3)), {"month": month, "arm": arm}
    )
    notes = {n.code: n for n in diagnose(table, "month", ["arm"], permutations=20).notes}

    assert found["B - A"].only_through == ("c",)
    assert found["c - A"].only_through == ()
    assert found["B - A"].r2 == pytest.approx(0.5)
    assert "arm: B - A can be told only through c" in notes["linked_through"].message


def test_balanced_levels_cost_nothing():
    """Where every batch holds the same mixture R² of every difference is exactly 0."""
    assert [one.r2 for one in contrasts(month=[*"aaabbb"], arm=[*"xyzxyz"]).values()] == [0.0] * 3


def test_many_levels_and_numbers_are_passed_over():
    """More than 12 levels, or numbers, have no list of differences."""
    rng = np.random.default_rng(0)
    many = [f"l{i % 13}" for i in range(39)]

    assert contrasts(month=rng.integers(0, 3, 39), arm=many) == {}
    assert contrasts(month=[0, 1] * 5, age=rng.normal(size=10)) == {}

"""Corrections against dense references: 200 designs that can be answered, 200 that cannot."""

from __future__ import annotations

import numpy as np
import pytest
from designs import aliased_design, full_rank_design, indicators, is_text, kept_columns

from batchsense.errors import ConfoundedError
from batchsense.experiments import CombatCorrection, LinearCorrection, Table
from batchsense.experiments.correction.linear import fit_linear

DENSE = 1e-8


def part_of(blocks, quick):
    """Give the blocks of a study, all but the first few for `make validate`."""
    slow = (pytest.param(block, marks=pytest.mark.slow) for block in range(quick, blocks))
    return [*range(quick), *slow]


def dense_linear(values, batches, kept):
    """Subtract batch effects that sum to zero, by one dense least-squares fit."""
    design = np.hstack([batches, kept])
    effects = np.linalg.lstsq(design, values, rcond=None)[0][: batches.shape[1]]
    return values - batches @ (effects - effects.mean(axis=0))


def dense_combat(values, batches, kept):
    """Follow the steps of the paper with whole matrices."""
    n, k = batches.shape
    coefficients = np.linalg.lstsq(np.hstack([batches, kept]), values, rcond=None)[0]
    grand = batches.sum(axis=0) / n @ coefficients[:k]
    residual = values - np.hstack([batches, kept]) @ coefficients
    sd = np.sqrt((residual**2).mean(axis=0))
    standard = grand + kept @ coefficients[k:]
    scaled = (values - standard) / sd
    adjusted = np.empty_like(values)
    for b in range(k):
        rows = batches[:, b] == 1
        part = scaled[rows]
        shift, scale = part.mean(axis=0), part.var(axis=0, ddof=1)
        t2, m, v = shift.var(ddof=1), scale.mean(), scale.var(ddof=1)
        shape, rate = (2 * v + m**2) / v, (m * v + m**3) / v
        gamma, delta = shift, scale
        while True:
            old_gamma, old_delta = gamma, delta
            gamma = (t2 * len(part) * shift + delta * shift.mean()) / (t2 * len(part) + delta)
            squares = ((part - gamma) ** 2).sum(axis=0)
            delta = (0.5 * squares + rate) / (len(part) / 2 + shape - 1)
            moved = (np.abs(gamma - old_gamma) / old_gamma).max()
            if max(moved, (np.abs(delta - old_delta) / old_delta).max()) <= 1e-4:
                break
        adjusted[rows] = (part - gamma) / np.sqrt(delta) * sd + standard[rows]
    return adjusted


@pytest.mark.parametrize("block", part_of(10, 5))
def test_random_designs_agree_with_a_dense_reference(block):
    """Linear removal and ComBat equal slow dense code to 1e-8 on each of 200 random designs."""
    for seed in range(20 * block, 20 * block + 20):
        sheet, names, values = full_rank_design(seed)
        table = Table.from_arrays(values, sheet)
        batches, kept = indicators(sheet["b"]), kept_columns(sheet, names)
        factors = tuple(name for name in names if name.startswith("f"))
        fitted = CombatCorrection(keep=tuple(names), categorical=factors).fit(table, "b")
        codes = np.unique(sheet["b"], return_inverse=True)[1]
        linear = fit_linear(fitted.gathered.statistics).affine().apply(values, codes)

        combat = fitted.transform(table).values
        assert np.abs(dense_combat(values, batches, kept) - combat).max() < DENSE, seed
        assert np.abs(dense_linear(values, batches, kept) - linear).max() < DENSE, seed


@pytest.mark.parametrize("block", part_of(4, 1))
def test_aliased_designs_are_refused_by_name(block):
    """Each of 200 designs with one aliased column is refused, naming that column and no other."""
    for seed in range(50 * block, 50 * block + 50):
        # A factor or a number of the batch, a level or pairs of levels that share no batch.
        sheet, keep, values = aliased_design(seed, way=seed % 4)
        names = [name for name in keep if name != "lost"]
        factors = tuple(name for name in keep if is_text(sheet[name]))
        table = Table.from_arrays(values, sheet)

        make = (LinearCorrection, CombatCorrection)[seed // 4 % 2]
        with pytest.raises(ConfoundedError) as refusal:
            make(keep=tuple(keep), categorical=factors).fit(table, "b")
        terms = " ".join(refusal.value.aliased)
        assert "lost" in terms, seed
        assert not any(name in terms for name in names), (seed, terms)
        assert all("b[" in relation for relation in refusal.value.aliased), seed

"""Corrections against dense references: 200 designs that can be answered, 200 that cannot."""

from __future__ import annotations

import numpy as np
import pytest

from batchsense.errors import ConfoundedError
from batchsense.experiments import CombatCorrection, LinearCorrection, Table
from batchsense.experiments.correction.combat_apply import apply_linear
from batchsense.experiments.correction.linear_model import fit_linear

DENSE = 1e-8


def indicators(labels):
    return (np.asarray(labels)[:, None] == np.unique(labels)).astype(float)


def kept_columns(sheet, names):
    """Give dummies without the first level, and numbers as they are."""
    parts = [np.zeros((len(sheet["b"]), 0))]
    for name in names:
        column = np.asarray(sheet[name])
        parts.append(indicators(column)[:, 1:] if column.dtype.kind == "U" else column[:, None])
    return np.hstack(parts)


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


def random_design(seed):
    """Draw one to three categorical and up to two numeric columns, unbalanced; of full rank."""
    rng = np.random.default_rng(seed)
    while True:
        n, k = int(rng.integers(24, 60)), int(rng.integers(2, 6))
        sheet = {"b": rng.choice(list("uvwxyz")[:k], size=n, p=rng.dirichlet(np.full(k, 3.0)))}
        names = [f"f{i}" for i in range(rng.integers(1, 4))]
        for name in names:
            levels = list("ABCD")[: rng.integers(2, 5)]
            # Half of the specimens take the level that goes with their batch.
            tied = np.array(levels)[[ord(b) % len(levels) for b in sheet["b"]]]
            sheet[name] = np.where(rng.random(n) < 0.5, tied, rng.choice(levels, size=n))
        for i in range(rng.integers(0, 3)):
            names.append(f"x{i}")
            sheet[f"x{i}"] = rng.uniform(20, 80, size=n)
        full = np.hstack([indicators(sheet["b"]), kept_columns(sheet, names)])
        sizes = np.unique(sheet["b"], return_counts=True)[1]
        if sizes.min() > 1 and np.linalg.matrix_rank(full) == full.shape[1] < n - 5:
            effects = (
                rng.normal(size=(full.shape[1], 6))
                * np.where(np.ptp(full, axis=0) > 2, 0.1, 2)[:, None]
            )
            return sheet, names, full @ effects + rng.normal(size=(n, 6)) + 10


@pytest.mark.parametrize("block", range(10))
def test_random_designs_agree_with_a_dense_reference(block):
    """Linear removal and ComBat equal slow dense code to 1e-8 on each of 200 random designs."""
    for seed in range(20 * block, 20 * block + 20):
        sheet, names, values = random_design(seed)
        table = Table.from_arrays(values, sheet)
        batches, kept = indicators(sheet["b"]), kept_columns(sheet, names)
        factors = tuple(name for name in names if name.startswith("f"))
        fitted = CombatCorrection(keep=tuple(names), categorical=factors).fit(table, "b")
        codes = np.unique(sheet["b"], return_inverse=True)[1]
        linear = apply_linear(fit_linear(fitted.gathered.statistics), values, codes)

        combat = fitted.transform(table).values
        assert np.abs(dense_combat(values, batches, kept) - combat).max() < DENSE, seed
        assert np.abs(dense_linear(values, batches, kept) - linear).max() < DENSE, seed


@pytest.mark.parametrize("block", range(4))
def test_aliased_designs_are_refused_by_name(block):
    """Each of 200 designs with one aliased column is refused, naming that column and no other."""
    for seed in range(50 * block, 50 * block + 50):
        sheet, names, values = random_design(1000 + seed)
        rng = np.random.default_rng(seed)
        batches = sorted(set(sheet["b"]))
        if seed % 2:  # a factor whose levels never share a batch
            level_of = {b: "PQ"[i % 2] for i, b in enumerate(rng.permutation(batches))}
            sheet["lost"] = np.array([level_of[b] for b in sheet["b"]])
        else:  # a number that belongs to the batch, as a date does
            date_of = dict(zip(batches, rng.uniform(0, 9, size=len(batches)), strict=True))
            sheet["lost"] = np.array([date_of[b] for b in sheet["b"]])
        keep = (*names, "lost")
        factors = tuple(name for name in names if name.startswith("f"))
        table = Table.from_arrays(values, sheet)

        make = (LinearCorrection, CombatCorrection)[seed // 2 % 2]
        with pytest.raises(ConfoundedError) as refusal:
            make(keep=keep, categorical=factors).fit(table, "b")
        terms = " ".join(refusal.value.aliased)
        assert "lost" in terms, seed
        assert not any(name in terms for name in names), (seed, terms)
        assert all("b[" in relation for relation in refusal.value.aliased), seed

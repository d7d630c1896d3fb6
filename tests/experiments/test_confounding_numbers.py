"""R², VIF and effective n to an absolute 1e-10, against closed forms in exact fractions."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from batchsense.experiments import ColumnKinds, Table, diagnose
from batchsense.experiments.design import read_design
from batchsense.experiments.entanglement import entanglements

EXACT = 1e-10
GIVEN = np.load(Path(__file__).resolve().parents[1] / "references" / "bladder" / "input.npz")


def analysed(batch_labels, wanted, numeric=False):
    """Analyse one kept column against one batch column."""
    sheet = {"lot": [str(b) for b in batch_labels], "wanted": list(wanted)}
    table = Table.from_arrays(np.zeros((len(wanted), 1)), sheet)
    kinds = ColumnKinds(numeric=["wanted"]) if numeric else ColumnKinds(["wanted"])
    return entanglements(read_design(table, "lot", ["wanted"], kinds))[0].confounding


def assert_numbers(found, r2, n, pillai=None):
    """R², effective n and attenuation to an absolute 1e-10; VIF relative to it where large."""
    left = 1 - r2
    assert abs(found.r2 - float(r2)) <= EXACT
    assert abs(found.pillai - float(r2 if pillai is None else pillai)) <= EXACT
    assert abs(found.effective_n - float(n * left)) <= EXACT * max(1.0, float(n * left))
    assert abs(found.attenuation - float(r2)) <= EXACT
    assert abs(found.vif - float(1 / left)) <= EXACT * max(1.0, float(1 / left))


def table_of(counts):
    """Give the labels of a table of counts: rows are levels, columns batches."""
    cells = [(i, j) for i, row in enumerate(counts) for j, n in enumerate(row) for _ in range(n)]
    return [j for _, j in cells], [f"level {i}" for i, _ in cells]


def inertia(counts):
    """Squared canonical correlations of a table of counts, largest first, and χ²/n exactly."""
    counts = np.array(counts)
    n, rows, columns = counts.sum(), counts.sum(axis=1), counts.sum(axis=0)
    expected = np.outer(rows, columns) / n
    found = np.linalg.svd((counts - expected) / np.sqrt(np.outer(rows, columns)), compute_uv=False)
    chi = sum(
        Fraction(int(c) ** 2, int(rows[i]) * int(columns[j]))
        for (i, j), c in np.ndenumerate(counts)
    )
    return found**2, chi - 1


@pytest.mark.parametrize("seed", range(30))
def test_two_by_two_tables(seed):
    """Two levels in two batches: R² = (ad - bc)²/(rows × columns), from a few to thousands."""
    rng = np.random.default_rng(seed)
    a, b, c, d = (int(n) for n in rng.integers(1, 10 ** int(rng.integers(1, 4)), size=4))
    r2 = Fraction((a * d - b * c) ** 2, (a + b) * (c + d) * (a + c) * (b + d))

    assert_numbers(analysed(*table_of([[a, b], [c, d]])), r2, a + b + c + d)


@pytest.mark.parametrize("off", [1, 3, 17])
def test_nearly_confounded_tables(off):
    """A few of 4,000 specimens in the other batch: VIF into the thousands, digits kept."""
    counts = [[2000 - off, off], [0, 2000]]
    r2 = Fraction(((2000 - off) * 2000) ** 2, 2000 * 2000 * (2000 - off) * (2000 + off))

    assert_numbers(analysed(*table_of(counts)), r2, 4000)


@pytest.mark.parametrize("seed", range(12))
def test_two_levels_in_many_batches(seed):
    """R² is the share of the variation of a proportion between the batches."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 30, size=(2, int(rng.integers(3, 9))))
    sizes = [int(n) for n in counts.sum(axis=0)]
    treated, n = int(counts[1].sum()), sum(sizes)
    mean = Fraction(treated, n)
    between = sum(
        size * (Fraction(int(t), size) - mean) ** 2
        for size, t in zip(sizes, counts[1], strict=True)
    )

    assert_numbers(analysed(*table_of(counts)), between / (n * mean * (1 - mean)), n)


@pytest.mark.parametrize("seed", range(12))
def test_tables_of_many_levels(seed):
    """Several levels: R² the largest squared canonical correlation, their sum χ²/n exactly."""
    rng = np.random.default_rng(seed)
    shape = rng.integers(3, 6, size=2)
    counts = rng.poisson(3, size=shape) + 8 * np.eye(*shape, dtype=int)
    squares, total = inertia(counts)

    assert_numbers(analysed(*table_of(counts)), squares[0], int(counts.sum()), total)


@pytest.mark.parametrize("seed", range(12))
def test_canonical_correlations_by_the_pseudo_inverse(seed):
    """The same from indicators: eigenvalues of the product of the two projections."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(20, 80))
    lots = rng.integers(4, size=n)
    wanted = np.where(rng.random(n) < 0.6, lots % 3, rng.integers(3, size=n))
    first, second = (np.eye(codes.max() + 1)[codes] for codes in (wanted, lots))
    first, second = first - first.mean(axis=0), second - second.mean(axis=0)
    cosines = np.linalg.pinv(first, rcond=1e-10) @ second @ np.linalg.pinv(second, rcond=1e-10)
    found = np.linalg.eigvals(cosines @ first).real

    labels = [f"w{code}" for code in wanted]
    assert_numbers(analysed(lots, labels), float(found.max()), n, float(found.sum()))


@pytest.mark.parametrize("offset", [0, 20_000_000])
@pytest.mark.parametrize("seed", range(6))
def test_numbers_with_batches(seed, offset):
    """A number: R² is its variation between batches, large offsets (dates) included."""
    rng = np.random.default_rng(seed)
    lots = np.repeat(np.arange(4), rng.integers(3, 20, size=4))
    ages = [offset + int(x) for x in rng.integers(20, 80, size=len(lots)) + 10 * lots]
    n, mean = len(ages), Fraction(sum(ages), len(ages))
    between = Fraction(0)
    for lot in range(4):
        inside = [age for age, its in zip(ages, lots, strict=True) if its == lot]
        between += len(inside) * (Fraction(sum(inside), len(inside)) - mean) ** 2
    total = sum((age - mean) ** 2 for age in ages)

    assert_numbers(analysed(lots, ages, numeric=True), between / total, n)


@pytest.mark.parametrize(
    ("treated", "r2", "vif"), [(10, 0.0, 1.0), (15, 0.25, 1.33), (18, 0.64, 2.78), (19, 0.81, 5.26)]
)
def test_the_designs_of_the_false_positives(treated, r2, vif):
    """Of twenty in each batch 10, 15, 18 or 19 treated: R² 0, .25, .64, .81; diagnose says so."""
    counts = [[treated, 20 - treated], [20 - treated, treated]]
    lots, wanted = table_of(counts)
    values = np.random.default_rng(0).normal(size=(40, 5))
    table = Table.from_arrays(values, {"lot": lots, "wanted": wanted})
    one = diagnose(table, "lot", ["wanted"], permutations=20).kept[0]

    assert_numbers(one.entanglement.confounding, Fraction(treated - 10, 10) ** 2, 40)
    assert one.entanglement.confounding.r2 == pytest.approx(r2, abs=EXACT)
    assert one.entanglement.confounding.vif == pytest.approx(vif, abs=5e-3)
    assert one.contrasts[0].r2 == pytest.approx(r2, abs=EXACT)


def test_the_bladder_labels():
    """Cancer in five batches of 57 arrays: the numbers of its table of counts."""
    lots, wanted = GIVEN["batch"], GIVEN["cancer"]
    cells = [
        (wanted == w).astype(int) @ (lots[:, None] == np.unique(lots)) for w in np.unique(wanted)
    ]
    squares, total = inertia(cells)
    values = np.random.default_rng(0).normal(size=(57, 5))
    table = Table.from_arrays(values, {"lot": lots, "wanted": wanted})
    one = diagnose(table, "lot", ["wanted"], permutations=20).kept[0]

    assert_numbers(one.entanglement.confounding, squares[0], 57, total)
    assert len(one.contrasts) == 3
    for contrast in one.contrasts:
        assert contrast.r2 == pytest.approx(dense_contrast(lots, wanted, contrast), abs=EXACT)
    assert one.entanglement.cramers_v == pytest.approx(float(total / 2) ** 0.5, abs=EXACT)


@pytest.mark.parametrize(
    ("level", "r2"),
    [("Biopsy", Fraction(7, 12)), ("Cancer", Fraction(121, 255)), ("Normal", Fraction(23, 42))],
)
def test_single_levels_of_the_bladder_labels(level, r2):
    """One kind of tissue against the rest: R² .583, .475, .548."""
    found = analysed(GIVEN["batch"], [str(one == level) for one in GIVEN["cancer"]])

    assert_numbers(found, r2, 57)


def dense_contrast(lots, wanted, contrast):
    """One minus the variance of a difference without batches over that with them."""
    own = np.stack([wanted == w for w in np.unique(wanted)], axis=1).astype(float)
    batches = np.stack([lots == b for b in np.unique(lots)], axis=1).astype(float)
    vector = 1.0 * (np.unique(wanted) == contrast.second) - (np.unique(wanted) == contrast.first)

    def variance(design):
        inverse = np.linalg.pinv(design, rcond=1e-10)
        c = np.append(vector, np.zeros(design.shape[1] - len(vector)))
        return c @ inverse @ inverse.T @ c

    return 1 - variance(own) / variance(np.hstack([own, batches]))

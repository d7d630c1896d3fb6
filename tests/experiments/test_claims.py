"""Sentences against quantities, on tables that tempt: nested, confounded, pure noise, tiny."""

from __future__ import annotations

import re

import numpy as np
import pytest

from batchsense.errors import BatchsenseError
from batchsense.experiments import CombatCorrection, Table, correct, diagnose, testing
from batchsense.experiments.surrogates.likeness import likenesses
from batchsense.questions.correct.result import CorrectResult
from batchsense.questions.correct.text import removed_words


def codes(found):
    return [note.code for note in found.notes]


def tempting(seed):
    """Draw raw values of a design with kept columns that take up much or all of the batches."""
    rng = np.random.default_rng(seed)
    site = np.repeat(np.arange(8), 4)
    batch = {
        "nested": site // 2,
        "partly": np.where(np.arange(32) < 16, site // 2, 8 + np.arange(32) % 3),
        "crossed": np.arange(32) % 3,
    }
    kind = str(rng.choice(list(batch)))
    arm = (np.arange(32) + np.arange(32) // 4) % 2
    values = (
        rng.normal(size=(32, int(rng.integers(1, 25)))) + rng.normal(size=12)[batch[kind], None]
    )
    if rng.random() < 0.4:
        values = np.round(3 * values)
    sheet = {
        "plate": [f"p{b}" for b in batch[kind]],
        "site": [f"h{s}" for s in site],
        "arm": [f"arm {a}" for a in arm],
    }
    return kind, Table.from_arrays(values, sheet)


@pytest.mark.parametrize("seed", range(30))
def test_raw_values_never_look_corrected(seed):
    """Not where the batch is nested in what is kept, nor with few or whole numbers."""
    kind, table = tempting(seed)
    found = testing.test(table, "arm", "plate", ["site"])

    assert "looks_corrected" not in codes(found)
    assert ("batches_spanned" in codes(found)) == (kind == "nested")
    if kind == "nested":
        (note,) = [note for note in found.notes if note.code == "batches_spanned"]
        assert note.message.startswith("plate is nested in site: each site lies in one plate only.")


@pytest.mark.parametrize("seed", range(12))
def test_only_what_is_tested_is_the_same_without_nested_batches(seed):
    """Where a contrast is refused, no whole test but each difference is said not to change."""
    rng = np.random.default_rng(seed)
    years = int(rng.integers(4, 7))
    year = np.repeat(np.arange(years), int(rng.integers(3, 6)))
    scanner = np.array([0, 0, *rng.integers(1, 3, years - 2)])
    sheet = {"scanner": [f"S{s}" for s in scanner[year]], "year": [f"y{y}" for y in year]}
    table = Table.from_arrays(rng.normal(size=(len(year), 6)), sheet)
    found = testing.test(table, "year", "scanner")
    assert found.refused
    (note,) = [note for note in found.notes if note.code == "batches_spanned"]
    assert note.message.endswith("each difference that is tested is the same without it.")
    within = testing.test(table, "year:y1-y0", "scanner")
    (note,) = [note for note in within.notes if note.code == "batches_spanned"]
    assert not within.refused
    assert note.message.endswith("the tests are the same without it.")
    mean = {f"y{y}": table.values[year == y].mean(axis=0) for y in range(years)}
    for one in found.effects:
        difference = mean[one.contrast.upper] - mean[one.contrast.lower]
        np.testing.assert_allclose(one.effect, difference, atol=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_corrected_values_do(seed):
    """Values from which the batches were removed are noticed if they hold enough zeros."""
    rng = np.random.default_rng(seed)
    sheet = {"month": rng.permutation([*"abc"] * 8), "drug": rng.permutation(["y", "n"] * 12)}
    table = Table.from_arrays(rng.normal(size=(24, 12)), sheet)
    values = correct(table, "month", ["drug"]).values

    assert "looks_corrected" in codes(
        testing.test(Table.from_arrays(values, sheet), "drug", "month")
    )
    assert "looks_corrected" not in codes(
        testing.test(Table.from_arrays(values[:, :4], sheet), "drug", "month")
    )


@pytest.mark.parametrize("seed", range(25))
def test_a_diagnosis_says_what_was_computed(seed):
    """Verdict and clusters agree with p-values and R²; balance is of what is kept."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(8, 30))
    values = rng.normal(size=(n, int(rng.integers(2, 20))))
    month, site, drug = (rng.integers(0, k, n).astype(str) for k in (2, max(2, n // 3), 2))
    values += (
        float(rng.choice([0.0, 1.0])) * rng.normal(size=values.shape[1]) * (month == "0")[:, None]
    )
    keep = [(), ("drug",), ("drug", "site")][int(rng.integers(0, 3))]
    table = Table.from_arrays(values, {"month": month, "site": site, "drug": drug})
    try:
        found = diagnose(table, "month", keep, permutations=20, seed=seed)
    except BatchsenseError:
        return
    r2 = [one.entanglement.confounding.r2 for one in found.kept]
    if found.verdict == "fine":
        assert found.batch_share is None or found.batch_share.null.p_value >= 0.05
        assert ("balanced" in found.reason) == bool(keep)
        assert max(r2, default=0.0) < 0.1
    if found.scores is not None:
        sentence = found.scores.sentence.partition(" (judged")[0]
        seen = sentence.partition("not visibly")[0]
        for one in found.scores.clusterings:
            clusters = re.search(rf"cluster by .*\b{one.name}\b", seen) is not None
            if one.p_distance is not None and found.scores.clusters_by != "neither":
                assert clusters == (one.p_distance < 0.05)
        assert "most" not in sentence


@pytest.mark.parametrize("method", ["linear", "combat"])
def test_what_was_removed_or_added(method):
    """The words say "added" exactly where the sum of squares grew; no share is negative."""
    signs = set()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        year = np.tile(np.arange(4.0), 10) + 0.1 * rng.normal(size=40)
        sheet = {"year": year, "scanner": np.minimum((year + 0.5) // 1.3, 2).astype(int)}
        table = Table.from_arrays(rng.normal(size=(40, 20)), sheet)
        if method == "linear":
            found = correct(table, "scanner", ["year"] if seed % 2 else [])
        else:
            keep = ("year",) if seed % 2 else ()
            found = CombatCorrection(keep=keep).fit(table, "scanner").transform(table)
        words = removed_words(CorrectResult.of(found, "c.csv"))
        grew = ((found.values - found.values.mean(0)) ** 2).sum() > (
            (table.values - table.values.mean(0)) ** 2
        ).sum()
        signs.add(bool(grew))

        assert ("added variation" in words) == grew
        assert "−" not in words
    assert signs == {True, False}


def test_noise_looks_like_no_column():
    """A surrogate of noise looks like one of ten columns in about 5 % of sheets, not in most."""
    found = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        sheet = {f"c{k}": rng.choice([*"abc"], 30) for k in range(10)}
        found += bool(likenesses(Table.from_arrays(np.zeros((30, 1)), sheet), rng.normal(size=30)))

    assert found <= 9

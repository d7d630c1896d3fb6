"""Intervals over groups keep their level where groups are few, and say where they end."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from batchsense.errors import DataError
from batchsense.experiments.validation.over_groups import (
    mean_over_groups,
    ratio_over_groups,
    standard_error,
)


def test_the_mean_has_the_interval_of_student():
    """Twin: scipy's t distribution."""
    values = np.random.default_rng(0).normal(size=5)
    low, high = stats.t.interval(0.9, 4, values.mean(), stats.sem(values))
    found = mean_over_groups(values, 0.9)

    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)
    assert standard_error(values) == pytest.approx(stats.sem(values))


@pytest.mark.parametrize("groups", [2, 3, 5, 14])
def test_the_ratio_covers_what_it_promises(groups):
    """Errors of shuffled folds and of batches left out, planted: near 95 % whatever the number."""
    rng = np.random.default_rng(groups)
    hits = 0
    for _ in range(1000):
        easy = rng.beta(2, 18, groups)
        hard = easy * np.exp(1 + 0.5 * rng.normal(size=groups))
        hits += 0.1 * math.exp(1 + 0.125) / 0.1 in ratio_over_groups(hard, easy)

    assert 0.90 <= hits / 1000 <= 0.97


def test_the_committed_study_shows_what_the_documentation_says():
    """Ratios covered in 92 % or more from two groups on, unless errors are rare and uneven."""
    results = Path(__file__).resolve().parents[3] / "benchmarks" / "results" / "gap_intervals.json"
    rows = json.loads(results.read_text())["rows"]
    usual = [row for row in rows if "2 % errors, uneven" not in row["scene"]]

    assert {row["batches"] for row in usual} == {2, 3, 5, 8, 14, 30}
    assert min(row["ratio"] for row in usual) > 0.915
    assert min(min(row["left out"], row["difference"]) for row in usual) > 0.885
    assert min(row["ratio"] for row in rows) > 0.6


def test_a_ratio_is_the_same_in_every_unit_and_turns_over():
    """Percent or fractions: the same. Swapped: the reciprocal, ends included."""
    above, below = [0.1, 0.3, 0.2], [0.05, 0.07, 0.12]
    found = ratio_over_groups(above, below)
    scaled = ratio_over_groups(np.multiply(above, 100), np.multiply(below, 100))
    turned = ratio_over_groups(below, above)

    assert (scaled.low, scaled.high) == pytest.approx((found.low, found.high))
    assert (1 / turned.high, 1 / turned.low) == pytest.approx((found.low, found.high))


def test_ratios_with_zeros_have_no_false_ends():
    """No error below: no upper end. None above: from zero, no upper end. None at all: no ratio."""
    assert not ratio_over_groups([1, 2], [0, 0]).bounded
    assert ratio_over_groups([0, 0], [1, 2]).estimate == 0
    assert ratio_over_groups([0, 0], [1, 2]).high == math.inf
    assert ratio_over_groups([0, 0], [0, 0]) is None


def test_one_group_and_negative_numbers_are_refused():
    """One group tells nothing of others; the ratio of negative numbers means nothing here."""
    with pytest.raises(DataError, match="at least two groups"):
        mean_over_groups([1.0])
    with pytest.raises(DataError, match="neither of them negative"):
        ratio_over_groups([1.0, -1.0], [1.0, 1.0])

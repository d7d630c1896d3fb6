"""Batches with one and the same error rate: their spread says nothing, no interval is a point."""

import numpy as np
import pytest
from scipy import stats

from batchsense.experiments import Table, compare_gaps
from batchsense.experiments.validation.over_groups import Clusters


def test_no_error_is_no_certainty() -> None:
    """Forty rows without an error leave up to 9 %, whichever way; more rows leave less."""
    highs = []
    for rows in (40, 400):
        rng = np.random.default_rng(0)
        kind = np.tile(["ill", "well"], rows // 2)
        month = np.repeat(["May", "July"], rows // 2)
        values = rng.normal(size=(rows, 20)) + 6.0 * (kind == "ill")[:, None]
        found = compare_gaps(
            Table.from_arrays(values, {"month": month, "kind": kind}), "month", "kind"
        )
        plain = found.ways[0].gap
        assert plain.held_out.estimate == plain.shuffled.estimate == 0
        exact = stats.binomtest(0, rows).proportion_ci(0.95).high
        assert plain.held_out.high == pytest.approx(exact)
        assert (plain.difference.low, plain.difference.high) == pytest.approx((-exact, exact))
        changes = [way.change for way in found.ways if way.change]
        assert all(one.low < 0 < one.high for one in changes)
        assert found.verdict == "no_gap_seen"
        assert f"that of {rows} rows" in next(
            note.message for note in found.notes if note.code == "batches_alike"
        )
        highs.append(exact)
    assert highs[1] < highs[0] / 8


def test_equal_rates_that_are_not_nothing() -> None:
    """Three of 30 wrong in every batch, by whatever rounding; blocks count once, spread counts."""
    codes = np.repeat(np.arange(3), 30)
    rates = np.array([3 / 30, 0.1, 1 - 0.9])
    over = Clusters(codes, None, 0.95)
    exact = stats.binomtest(9, 90).proportion_ci(0.95)
    assert (over.rate(rates).low, over.rate(rates).high) == pytest.approx((exact.low, exact.high))
    both = over.change(rates - 0.1, (0.1, 0.1))
    assert both.high == -both.low == pytest.approx(exact.high - exact.low)

    spread = np.array([0.1, 0.2, 0.1])
    assert over.rate(spread) == over.mean(spread)
    assert over.change(spread, (0.0, 0.1)) == over.mean(spread, paired=True)

    apart = Clusters(codes, np.tile(np.arange(10), 9), 0.95)
    assert apart.rate(np.zeros(90)).high == pytest.approx(
        stats.binomtest(0, 10).proportion_ci(0.95).high
    )
    assert "10 blocks of rows" in apart.alike(np.zeros((90, 2)))

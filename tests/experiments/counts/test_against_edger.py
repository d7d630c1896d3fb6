"""Filter, TMM factors, weights, t and p of counts equal those of edgeR and limma."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from batchsense.experiments import ContrastOptions, Table, testing
from batchsense.experiments.counts import log_cpm
from batchsense.experiments.statistics.multiplicity import benjamini_hochberg

GIVEN = np.load(Path(__file__).resolve().parents[2] / "references" / "voom" / "simulated.npz")
#: Every so many weights are stored.
EVERY = 37
#: Relative tolerances. limma's robust prior comes from a search that stops at 1e-8.
FACTOR, WEIGHT, STATISTIC, ROBUST_STATISTIC, ROBUST_P = 1e-10, 1e-8, 1e-8, 1e-7, 1e-6


def answered(name: str) -> testing.ContrastTests:
    """Test the second group against the first."""
    counts = GIVEN[f"{name}.counts"].astype(float)
    group, lot = GIVEN[f"{name}.sheet"].reshape(2, -1)
    sheet = {"group": [f"g{k}" for k in group], "lot": [f"l{k}" for k in lot]}
    trend, robust = map(bool, GIVEN[f"{name}.options"])
    return testing.test(
        Table.from_arrays(counts, sheet, values_are="counts"),
        "group:g2-g1",
        "lot",
        options=ContrastOptions(trend=trend, robust=robust),
    )


@pytest.mark.parametrize("place", range(1, 51))
def test_simulated_tables(place: int) -> None:
    """The same features, factors to 1e-10, weights, t and p to 1e-8, and the same calls."""
    name = f"simulated{place:02d}"
    found = answered(name)
    one, kept = found.effects[0], GIVEN[f"{name}.kept"]
    robust = bool(GIVEN[f"{name}.options"][1])
    t, p = GIVEN[f"{name}.t"], GIVEN[f"{name}.p"]

    assert np.array_equal(found.counts.kept, kept)
    assert np.abs(found.counts.factors / GIVEN[f"{name}.factors"] - 1).max() < FACTOR
    weights = found.precision.weights.ravel()[::EVERY]
    assert np.abs(weights / GIVEN[f"{name}.weights"] - 1).max() < WEIGHT
    assert np.allclose(one.t[kept], t, rtol=ROBUST_STATISTIC if robust else STATISTIC, atol=1e-11)
    assert np.abs(one.p_value[kept] / p - 1).max() < (ROBUST_P if robust else STATISTIC)
    assert np.array_equal(one.q_value[kept] <= 0.05, benjamini_hochberg(p) <= 0.05)
    assert np.isnan(one.p_value[~kept]).all()


def test_trend_and_log_counts() -> None:
    """The smooth curve to 1e-8 relative, edgeR's log counts per million to 1e-10."""
    found = answered("simulated01")
    counts = found.counts
    curve = np.sort(found.precision.trend)

    assert np.abs(curve / np.sort(GIVEN["simulated01.trend"]) - 1).max() < WEIGHT
    logs = log_cpm(counts.values, counts.effective).ravel()
    assert np.abs(logs - GIVEN["simulated01.logcpm"]).max() < FACTOR

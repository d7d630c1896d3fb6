"""ComBat of few specimens with gaps: numbers, or a refusal that names the batch; never new NaN."""

from __future__ import annotations

import numpy as np
import pytest

from batchsense.errors import BatchsenseError, DataError
from batchsense.experiments import CombatCorrection, Table
from batchsense.experiments.correction.combat.priors import nonparametric_posterior
from batchsense.experiments.correction.two_passes import pass_runner


def small(seed):
    """Draw a table of a few specimens: rounded, repeated or not, with gaps."""
    rng = np.random.default_rng(seed)
    n, p, k = int(rng.integers(4, 14)), int(rng.integers(2, 40)), int(rng.integers(2, 5))
    values = rng.normal(size=(n, p)) * 10 ** rng.uniform(-3, 3) + rng.normal() * 1e2
    kind = rng.integers(0, 4)
    if kind == 1:
        values = np.round(values)
    elif kind == 2:
        values = values[:, :1] + rng.integers(0, 2, p)
    elif kind == 3:
        values[rng.integers(0, n)] = values[0]
    values[rng.random(values.shape) < rng.choice([0.0, 0.05, 0.2, 0.4])] = np.nan
    sheet = {
        "month": rng.integers(0, k, n).astype(str),
        "drug": rng.choice(["no", "yes"], n),
        "age": rng.normal(size=n).round(3),
    }
    options = {
        "keep": [(), ("drug",), ("age",), ("drug", "age")][int(rng.integers(0, 4))],
        "parametric": bool(rng.random() < 0.3),
        "mean_only": bool(rng.random() < 0.2),
    }
    return values, sheet, options


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_no_value_is_lost():
    """Each of 60 small tables with gaps is corrected without new NaN or refused."""
    corrected = 0
    for seed in range(60):
        values, sheet, options = small(seed)
        try:
            table = Table.from_arrays(values, sheet)
            found = CombatCorrection(**options).fit(table, "month").transform(table)
        except BatchsenseError:
            continue
        corrected += 1
        moved = np.nanmax(np.abs(found.values - values), initial=0.0)

        assert (np.isnan(found.values) == np.isnan(values)).all()
        assert moved <= 50 * np.nanmax(np.abs(values - np.nanmean(values)))
    assert corrected > 30


def test_a_feature_without_scale_lends_nothing(monkeypatch):
    """A scale of zero has no weight, as in sva: the result is that of the other features alone."""
    rng = np.random.default_rng(0)
    shifts, scales = rng.normal(size=20), rng.uniform(0.5, 2.0, 20)
    squares, counts = scales * 3, np.full(20, 4.0)
    scales[7] = squares[7] = 0.0
    others = np.arange(20) != 7
    alone = nonparametric_posterior(shifts[others], scales[others], squares[others], counts[others])
    together = nonparametric_posterior(shifts, scales, squares, counts)

    for part, whole in zip(alone, together, strict=True):
        np.testing.assert_allclose(part, whole[others], rtol=1e-12)
        assert np.isfinite(whole[7])
    pytest.importorskip("numba")
    monkeypatch.setattr(pass_runner, "COMPILED_FROM", 1)
    compiled = nonparametric_posterior(shifts, scales, squares, counts)
    np.testing.assert_allclose(together, compiled, rtol=1e-12)


@pytest.mark.parametrize("parametric", [True, False])
def test_a_batch_in_which_nothing_varies_is_named(parametric):
    """Where kept terms fit a batch exactly, its scale cannot be learned, and the batch is named."""
    month = ["May"] * 6 + ["June"] * 6 + ["July"] * 2
    drug = [*"abcabc"] * 2 + [*"de"]
    values = np.random.default_rng(0).normal(size=(14, 30))
    table = Table.from_arrays(values, {"month": month, "drug": drug})
    correction = CombatCorrection(keep=("drug",), parametric=parametric, despite_confounding=True)
    with pytest.raises(DataError, match="batch 'July': 0 of 30 features vary"):
        correction.fit(table, "month")

"""Weights of specimens equal limma's, and the greatest of the restricted likelihood."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from batchsense.errors import DataError, UnresolvedError
from batchsense.experiments import ContrastOptions, Table, testing
from batchsense.experiments.testing.weights.specimen_weights import (
    PRIOR_FEATURES,
    specimen_weights,
)
from batchsense.variation.linear import factor

REFERENCES = Path(__file__).resolve().parents[2] / "references"
GIVEN = np.load(REFERENCES / "specimen_weights" / "weights.npz")
COUNTS = np.load(REFERENCES / "voom" / "simulated.npz")


def given(place: int) -> tuple[np.ndarray, np.ndarray]:
    """Values and design of one table."""
    design = np.column_stack([np.ones(len(GIVEN[f"{place}.sheet"])), GIVEN[f"{place}.sheet"]])
    return GIVEN[f"{place}.values"], design


@pytest.mark.parametrize("place", range(1, 9))
def test_weights_are_those_of_limma(place: int) -> None:
    """To 1e-6, without and with precisions of single observations."""
    values, columns = given(place)
    design, prior = factor(columns, ["constant", "group", "lot"]), float(GIVEN[f"{place}.prior"][0])

    plain = specimen_weights(values, design, None, prior)
    precise = specimen_weights(values, design, GIVEN[f"{place}.known"], prior)

    assert np.abs(plain.weights / GIVEN[f"{place}.plain"] - 1).max() < 1e-6
    assert np.abs(precise.weights / GIVEN[f"{place}.precise"] - 1).max() < 1e-6
    assert plain.features == values.shape[1]


def restricted(values: np.ndarray, columns: np.ndarray, logs: np.ndarray, prior: float) -> float:
    """Restricted log likelihood, each variance at its best; missing values feature by feature."""
    found = -0.5 * prior * (np.exp(logs) - logs).sum()
    for feature in values.T:
        seen = ~np.isnan(feature)
        left, size, _ = np.linalg.svd(columns[seen], full_matrices=False)
        weights, x = np.exp(logs[seen]), left[:, size > 1e-9 * size[0]]
        information = x.T @ (weights[:, None] * x)
        beta = np.linalg.solve(information, x.T @ (weights * feature[seen]))
        left = (weights * (feature[seen] - x @ beta) ** 2).sum()
        freedom = seen.sum() - x.shape[1]
        found += 0.5 * (logs[seen].sum() - freedom * np.log(left))
        found -= 0.5 * np.linalg.slogdet(information)[1]
    return float(found)


@pytest.mark.parametrize("whole_lots", [False, True])
def test_missing_values_are_left_out_feature_by_feature(whole_lots: bool) -> None:
    """Where no other program is an oracle: no direction makes the likelihood greater."""
    values, columns = given(2)
    rng = np.random.default_rng(0)
    missing = rng.random(values.shape) < 0.1
    if whole_lots:
        missing[:, 1::2] = columns[:, 2:] == columns[0, 2]
    values = np.where(missing, np.nan, values)
    values[:, 0] = np.where(np.isnan(values[:, 2]), np.nan, columns[:, 1])  # has no scatter
    found = specimen_weights(values, factor(columns, ["constant", "group", "lot"]), None, 2.0)
    logs = np.log(found.weights)
    best = restricted(values[:, 1:], columns, logs, 2.0)

    assert found.features == values.shape[1] - 1
    assert abs(logs.sum()) < 1e-9
    for _ in range(20):
        away = rng.normal(size=len(logs))
        away -= away.mean()
        for step in (-1e-3, 1e-3):
            assert restricted(values[:, 1:], columns, logs + step * away, 2.0) < best


def test_one_wild_specimen_among_few_is_found() -> None:
    """Six specimens and thirty features: the prior keeps the weights finite."""
    rng = np.random.default_rng(4)
    values = rng.normal(size=(6, 30)) * np.array([8.0, 1, 1, 1, 1, 1])[:, None]
    columns = np.column_stack([np.ones(6), [0, 0, 0, 1, 1, 1]])
    weights = specimen_weights(values, factor(columns, ["constant", "group"])).weights

    assert weights.argmin() == 0
    assert weights[0] < 0.15 * np.median(weights[1:])


@pytest.mark.parametrize("place", [2, 4, 6, 8])
def test_weighed_tests_are_those_of_limma(place: int) -> None:
    """T and p of weighted fits with shared variances; the result says what each specimen weighs."""
    assert GIVEN[f"{place}.prior"][0] == PRIOR_FEATURES
    group, lot = GIVEN[f"{place}.sheet"].T.astype(str)
    table = Table.from_arrays(GIVEN[f"{place}.values"], {"group": group, "lot": lot})
    found = testing.test(
        table, "group: 1 - 0", "lot", options=ContrastOptions(specimen_weights=True)
    )
    t, p = GIVEN[f"{place}.tests"]

    assert np.allclose(list(found.specimen_weights.values()), GIVEN[f"{place}.plain"], rtol=1e-6)
    np.testing.assert_allclose(found.effects[0].t, t, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found.effects[0].p_value, p, rtol=1e-5)
    said = [note for note in found.notes if note.code == "specimens_weighed"]
    assert said[0].where[0] == min(found.specimen_weights, key=found.specimen_weights.__getitem__)


@pytest.mark.parametrize("place", range(1, 9))
def test_weighed_counts_are_those_of_limma(place: int) -> None:
    """Precision weights, weights of specimens, both again."""
    name = f"simulated{place:02d}"
    counts = COUNTS[f"{name}.counts"].astype(float)
    group, lot = COUNTS[f"{name}.sheet"].reshape(2, -1)
    sheet = {"group": [f"g{k}" for k in group], "lot": [f"l{k}" for k in lot]}
    trend, robust = map(bool, COUNTS[f"{name}.options"])
    found = testing.test(
        Table.from_arrays(counts, sheet, values_are="counts"),
        "group:g2-g1",
        "lot",
        options=ContrastOptions(trend=trend, robust=robust, specimen_weights=True),
    )

    weights = np.array(list(found.specimen_weights.values()))
    assert np.abs(weights / COUNTS[f"{name}.quality"] - 1).max() < 1e-6
    kept = found.counts.kept
    t = COUNTS[f"{name}.quality_t"]
    np.testing.assert_allclose(found.effects[0].t[kept], t, rtol=1e-5, atol=1e-6)


def test_what_cannot_be_weighed_together_is_refused() -> None:
    """Blocks and weights of specimens."""
    values, _ = given(1)
    sheet = {"lot": [*"ab"] * (len(values) // 2), "subject": np.arange(len(values)) // 2}
    table = Table.from_arrays(values, sheet)
    with pytest.raises(DataError, match="not estimated together"):
        testing.test(
            table, "lot", "subject", options=ContrastOptions(specimen_weights=True, blocks="lot")
        )


def test_values_without_scatter_cannot_say() -> None:
    """Nothing varies: refused with what is needed."""
    columns = np.ones((4, 1))
    with pytest.raises(UnresolvedError, match="no feature has residual scatter"):
        specimen_weights(np.full((4, 5), 0.1), factor(columns, ["constant"]))


def test_many_specimens_take_steps_by_the_diagonal() -> None:
    """The score is zero at the answer, whichever way the steps went."""
    rng = np.random.default_rng(6)
    scatter = np.exp(rng.normal(0, 0.4, 320))
    values = rng.normal(size=(320, 150)) * scatter[:, None]
    columns = np.column_stack([np.ones(320), np.tile([0.0, 1.0], 160)])
    weights = specimen_weights(values, factor(columns, ["constant", "group"])).weights

    assert np.corrcoef(np.log(weights), np.log(scatter))[0, 1] < -0.95
    best = restricted(values, columns, np.log(weights), PRIOR_FEATURES)
    for _ in range(5):
        away = rng.normal(size=320)
        step = 1e-3 * (away - away.mean())
        assert restricted(values, columns, np.log(weights) + step, PRIOR_FEATURES) < best


def test_features_of_one_specimen_alone_are_no_quality() -> None:
    """Its weight would fall to nothing: refused, and the specimen is counted out."""
    values = np.zeros((400, 40))
    values[6] = 1.0
    values[:, 20:] = np.random.default_rng(0).normal(size=(400, 20))
    names = [f"s{number}" for number in range(400)]
    with pytest.raises(UnresolvedError, match="in specimen s6 alone"):
        specimen_weights(values, factor(np.ones((400, 1)), ["constant"]), names=names)


def test_features_without_a_whole_lot_do_not_keep_the_search_from_its_end() -> None:
    """Half of the features were not observed in one of six lots, and gaps elsewhere."""
    rng = np.random.default_rng(0)
    lots = np.repeat(np.arange(6), 4)
    values = rng.normal(size=(24, 400)) * np.exp(0.5 * rng.normal(size=24))[:, None]
    values[rng.random(values.shape) < 0.1] = np.nan
    values[:4, :200] = np.nan
    design = factor((lots[:, None] == np.arange(6)) * 1.0, [f"lot {lot}" for lot in range(6)])

    assert specimen_weights(values, design).rounds < 40

"""Weights of specimens equal limma's, and the greatest of the restricted likelihood."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from batchsense.errors import UnresolvedError
from batchsense.experiments.testing.weights.specimen_weights import specimen_weights
from batchsense.variation.linear import factor

GIVEN = np.load(
    Path(__file__).resolve().parents[2] / "references" / "specimen_weights" / "weights.npz"
)


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
        weights, x = np.exp(logs[seen]), columns[seen]
        information = x.T @ (weights[:, None] * x)
        beta = np.linalg.solve(information, x.T @ (weights * feature[seen]))
        left = (weights * (feature[seen] - x @ beta) ** 2).sum()
        freedom = seen.sum() - x.shape[1]
        found += 0.5 * (logs[seen].sum() - freedom * np.log(left))
        found -= 0.5 * np.linalg.slogdet(information)[1]
    return float(found)


def test_missing_values_are_left_out_feature_by_feature() -> None:
    """Where no other program is an oracle: no direction makes the likelihood greater."""
    values, columns = given(2)
    rng = np.random.default_rng(0)
    values = np.where(rng.random(values.shape) < 0.1, np.nan, values)
    values[:, 0] = 3.0  # has no scatter
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


def test_values_without_scatter_cannot_say() -> None:
    """Nothing varies: refused with what is needed."""
    columns = np.ones((4, 1))
    with pytest.raises(UnresolvedError, match="0 feature has residual scatter"):
        specimen_weights(np.full((4, 5), 0.1), factor(columns, ["constant"]))

"""Whom the intervals and p-values of a diagnosis are for: the committed study, and a small one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from batchsense.experiments.diagnosis.component import batch_component
from batchsense.experiments.diagnosis.shares import share_of_variance

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results" / "diagnosis_calibration.json"
STUDY = json.loads(RESULTS.read_text())


@pytest.mark.parametrize("row", STUDY["intervals"], ids=lambda row: f"{row['batches']} batches")
def test_intervals_are_for_the_batches_at_hand(row):
    """They hold the value of these batches in 93 % or more, that of a population in a few."""
    for name in ("component", "share"):
        assert row[name + "_at_hand"] >= 0.93
        assert row[name] <= 0.35


@pytest.mark.parametrize("row", STUDY["permutations"], ids=str)
def test_labels_permuted_within_what_is_kept_make_no_cluster(row):
    """A drug that is uneven over the months: p-values hold their level if it is kept, only then."""
    names = ("p_distance", "p_neighbours", "p_silhouette", "p_share")
    if row["kept"]:
        assert all(row[name] <= 0.075 for name in names)
        assert row["p_share"] >= 0.02
    elif row["treated"] > 0.5:
        assert all(row[name] >= 0.8 for name in names)


def test_two_batches_say_nothing_of_others():
    """Over 150 experiments: the intervals hold what two batches are, not where they come from."""
    rng = np.random.default_rng(3)
    batches, constant = np.eye(2)[np.arange(24) % 2], np.ones((24, 1))
    held = np.zeros((2, 2))
    for _ in range(150):
        loadings = rng.normal(size=40)
        effects = np.outer(rng.normal(size=2), loadings)
        observations = batches @ effects + rng.normal(size=(24, 40))
        component = batch_component(observations, batches, constant, rng, draws=100).component
        share = share_of_variance(observations, batches, constant, rng, 1).share
        at_hand = ((effects - effects.mean(axis=0)) ** 2).sum() / 40
        for place, truth in enumerate((at_hand, (loadings**2).mean())):
            between = 12 * truth
            held[0, place] += truth in component
            held[1, place] += between / (between + 23) in share

    assert (held[:, 0] >= 0.90 * 150).all()
    assert (held[:, 1] <= 0.30 * 150).all()

"""Placebo: noise on the real labels gives the known rates; a user's own pipeline is counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from batchsense.errors import ConfoundedError, DataError
from batchsense.experiments import PureNoise, Table, placebo, testing

GIVEN = np.load(Path(__file__).resolve().parents[1] / "references" / "bladder" / "input.npz")
SHEET = {"batch": GIVEN["batch"].tolist(), "cancer": GIVEN["cancer"].tolist()}
BLADDER = Table.from_arrays(np.zeros((57, 1)), SHEET)


@pytest.mark.parametrize(
    ("pipeline", "rate", "within"),
    [
        ("uncorrected", 0.34, 0.03),
        ("linear", 0.287, 0.02),
        ("combat", 0.28, 0.02),
        ("model", 0.05, 0.01),
    ],
)
def test_rates_on_the_bladder_labels(pipeline, rate, within):
    """The labels of the bladder study, shifts of one noise SD: the rates of the known pipelines."""
    found = placebo(BLADDER, pipeline, "cancer", "batch", noise=PureNoise(seed=2))

    assert found.rate.estimate == pytest.approx(rate, abs=within)
    assert found.rate.low < found.rate.estimate < found.rate.high
    assert (found.called > 300) == (pipeline != "model")
    assert f"of 5000 noise features; false-positive rate at 0.05 = {found.rate.estimate:.3f}" in (
        str(found)
    )


def test_a_pipeline_of_the_user():
    """A function gets the noise with the user's sheet and gives p-values; they are counted."""
    seen = []

    def mine(table):
        seen.append(table)
        return testing.test(table, "cancer", "batch").factors[0].p_value

    found = placebo(BLADDER, mine, "cancer", "batch", noise=PureNoise(2000, seed=3))

    assert found.pipeline == "mine"
    assert seen[0].sheet["cancer"] == BLADDER.sheet["cancer"]
    assert seen[0].values.std() == pytest.approx(2**0.5, rel=0.1)
    assert 0.035 < found.rate.estimate < 0.065
    assert found.called < 5


def test_the_noise_is_seeded():
    """The same seed gives the same count, another seed another."""
    rates = [
        placebo(BLADDER, "linear", "cancer", "batch", noise=PureNoise(seed=s)).rate
        for s in (0, 0, 1)
    ]

    assert rates[0] == rates[1]
    assert rates[0] != rates[2]


def test_a_single_contrast():
    """One level minus another is tested by t; the model rate stays at its level."""
    found = placebo(BLADDER, "model", "cancer:Normal-Biopsy", "batch", noise=PureNoise(seed=4))

    assert found.contrast == "cancer:Normal-Biopsy"
    assert 0.04 < found.rate.estimate < 0.06


def test_unusable_pipelines_are_refused():
    """An unknown name, a function that gives nonsense, a confounded design."""
    with pytest.raises(DataError, match="no pipeline 'magic'"):
        placebo(BLADDER, "magic", "cancer", "batch")
    with pytest.raises(DataError, match="one for each feature"):
        placebo(BLADDER, lambda table: np.zeros(3), "cancer", "batch")
    hopeless = Table.from_arrays(
        np.zeros((6, 1)), {"month": [*"MMMJJJ"], "drug": ["n", "n", "n", "y", "y", "y"]}
    )
    with pytest.raises(ConfoundedError):
        placebo(hopeless, "model", "drug", "month")
    assert placebo(hopeless, "uncorrected", "drug", "month").rate.estimate > 0.2

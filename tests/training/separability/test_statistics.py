"""The statistics of the audit: few false alarms, enough power, honest bounds.

The whole study is ``benchmarks/audit_statistics.py``; its committed numbers are checked here, and
a small part of it is run again.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from loss_zoo import named
from scipy import stats

from batchsense.training.separability import audit
from batchsense.training.separability.kind.bias import bias_of
from batchsense.training.separability.kind.evidence import gather
from batchsense.training.separability.preparation import chosen_examples, opened

STUDY = Path(__file__).parents[3] / "benchmarks" / "results" / "audit_statistics.json"
CLEAN = ["pairwise_ranking", "unbiased_mean_discrepancy", "dropout_drawn_by_numpy"]


def judged(name, seed, batch_size=32, partitions=12):
    """Measure and test one small audit."""
    workload = named(name).build(seed)
    first = opened(workload, chosen_examples(workload, batch_size, 8, seed), 8, "float64", seed)
    return bias_of(gather(first.screening, 8, partitions, {}), 0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", CLEAN)
def test_clean_losses_raise_no_alarm(name):
    """15 small audits of a loss without bias: at level 0.01 at most one alarm (p < 0.01)."""
    alarms = sum(judged(name, seed).detected for seed in range(15))

    assert alarms <= stats.binom.ppf(0.99, 15, 0.01)


def test_batch_normalisation_is_detected():
    """A bias of about 5 % by batch normalisation is found at the default size."""
    assert sum(judged("batch_norm", seed, 64, 24).detected for seed in range(4)) == 4


@pytest.mark.parametrize("seed", range(3))
def test_the_bias_of_a_token_mean_is_computed_not_guessed(seed):
    """A bias of about 2 % is found, with an interval ten times narrower than the bias."""
    bias = audit(named("token_mean").build(seed), seed=seed).bias

    assert 0.008 < bias.size.estimate < 0.05
    assert bias.detected
    assert bias.size.high - bias.size.low < 0.2 * bias.size.estimate
    assert bias.partitions == 12_000


def test_the_computed_bias_agrees_with_measured_partitions():
    """The bias of a ratio from recovered examples lies in the interval of 60 real partitions."""
    workload = named("class_weights").build(0)
    computed = audit(workload).bias.size
    first = opened(workload, chosen_examples(workload, 64, 8, 0), 8, "float64", 0)
    measured = bias_of(gather(first.screening.reseeded(99), 8, 60, {}), 0.01).size

    assert measured.low < computed.estimate < measured.high
    assert computed.estimate == pytest.approx(measured.estimate, rel=0.15)


def test_committed_study_false_alarms():
    """At least 400 audits of clean losses at level 0.01: at most 2 % false alarms."""
    study = json.loads(STUDY.read_text())

    assert study["false_alarms"]["audits"] >= 400
    assert study["false_alarms"]["rate"] <= 0.02


def test_committed_study_power():
    """A token mean of 2 % and batch normalisation of 5 %: at least 95 % are detected."""
    study = json.loads(STUDY.read_text())
    batch_norm, tokens = study["biased"]["batch_norm"], study["whole_audits"]["token_mean"]

    assert 0.04 < batch_norm["root_mean_squared_bias"] < 0.07
    assert batch_norm["rejected_by_sign_flip"] >= 0.95 * batch_norm["audits"]
    assert tokens["detected"] >= 0.95 * tokens["audits"]
    assert 0.015 < tokens["bias_quartiles"][1] < 0.03


@pytest.mark.slow
@pytest.mark.parametrize("name", [*CLEAN, "noise_drawn_example_by_example"])
def test_false_alarms_at_full_size(name):
    """100 audits of each clean loss at the default size."""
    alarms = sum(judged(name, seed + 500, 64, 24).detected for seed in range(100))

    assert alarms <= stats.binom.ppf(0.999, 100, 0.01)

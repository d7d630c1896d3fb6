"""Every loss of the zoo is called what its formula says, and nothing is called by its name."""

from __future__ import annotations

import functools
import re

import numpy as np
import pytest
import torch
from loss_zoo import ZOO, named

from batchsense.errors import DataError
from batchsense.training.separability import audit
from batchsense.training.separability.preparation import quick_audit

NAMES = [animal.name for animal in ZOO]
MEANS = [animal.name for animal in ZOO if animal.kind == "mean" and animal.exact]


@functools.cache
def audited(name, batch_size=40, partitions=8, seed=0):
    """Audit one animal, small."""
    return audit(named(name).build(0), batch_size=batch_size, partitions=partitions, seed=seed)


def assert_true(animal, report):
    """Compare a report with the truth."""
    assert report.kind == animal.kind
    assert report.stochastic == animal.stochastic
    assert report.kind_without_noise == animal.silent_kind
    found = report.normaliser
    if found is not None and found.class_weights:  # of the classes that were drawn
        truth = dict(re.findall(r"(\d+): ([\d.]+)", animal.normaliser))
        seen = {str(label): f"{weight:.4g}" for label, weight in found.class_weights.items()}
        assert len(seen) > 2
        assert seen.items() <= truth.items()
    elif animal.normaliser is not None:
        assert found.name.startswith(animal.normaliser)
    if animal.source is not None:
        assert report.sources[0].name == animal.source
    assert report.exact == animal.exact
    assert (report.verdict == "yes") == (report.kind == "mean" and report.exact)
    assert bool(report.sources) == (report.kind != "mean")


@pytest.mark.parametrize("name", NAMES)
def test_kind_normaliser_and_source(name):
    """Kind, normaliser and first source are those derived by hand."""
    assert_true(named(name), audited(name))


def test_the_zoo_is_large_and_has_all_kinds():
    """At least 24 losses, and every kind more than twice."""
    kinds = [animal.kind for animal in ZOO]

    assert len(ZOO) >= 24
    assert min(kinds.count(k) for k in ("mean", "sum", "ratio", "composite", "interacting")) > 2


@pytest.mark.parametrize("name", MEANS)
def test_separable_losses_are_decided_exactly_and_cheaply(name):
    """A mean deviates by less than 1e-12 and is decided by three gradients.

    Where a model draws noise for several rows per example, whose order must be guessed, it takes
    two more.
    """
    report = audited(name)

    assert report.deviation < 1e-12
    assert report.cost <= (5 if name == "dropout_on_two_views" else 3)
    assert report.bias is None
    assert report.verdict == "yes"


@pytest.mark.parametrize("name", ["cross_entropy", "class_weights", "batch_norm_and_dropout"])
def test_the_quick_audit_agrees(name):
    """Three gradients give the same verdict as the full audit."""
    quick = quick_audit(named(name).build(0))

    assert quick.verdict == ("yes" if named(name).kind == "mean" else "no")
    assert quick.cost == pytest.approx(3)


@pytest.mark.parametrize("name", ["token_mean", "batch_norm", "cross_entropy"])
def test_names_play_no_part(name):
    """Renamed model classes, fields and functions change nothing: only gradients count."""
    workload = named(name).build(0)
    examples = [workload.examples[k] for k in range(len(workload.examples))]

    def collate(places):
        minibatch = workload.minibatch([int(k) for k in places])
        parts = minibatch.values() if isinstance(minibatch, dict) else minibatch
        return dict(zip("pqrs", parts, strict=False))

    def f(m, b):
        keys = ["ids", "labels"] if name == "token_mean" else [0, 1]
        return workload.loss(m, dict(zip(keys, b.values(), strict=True)))

    import dataclasses

    hidden = dataclasses.replace(workload, loss=f, examples=range(len(examples)), collate=collate)
    report = audit(hidden, batch_size=40, partitions=8)

    assert report.kind == audited(name).kind
    assert report.deviation == pytest.approx(audited(name).deviation, rel=1e-6, abs=1e-12)
    if name == "token_mean":
        assert report.normaliser.name == "minibatch['q'] != -100"


def test_known_biases_are_detected_or_not():
    """Where theory says biased, bias is found; where it says unbiased, none is claimed."""
    for animal in ZOO:
        if animal.biased is False:
            assert not audit(animal.build(0)).bias.detected


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", NAMES)
def test_the_truth_does_not_depend_on_the_draw(name, seed):
    """Other examples, partitions and parameters give the same kinds, at the default sizes."""
    animal = named(name)
    report = audit(animal.build(seed + 1), seed=seed)

    assert_true(animal, report)
    if animal.biased:
        assert report.bias.size.high > 0
        assert report.verdict == "no" or not report.bias.detected


def test_a_class_that_was_not_drawn_has_no_weight():
    """Four of 160 examples are of class 0, none of them audited: their weight is not nothing."""
    workload = named("hidden_class_weights").build(1)
    normaliser = audit(workload, seed=0).normaliser
    assert sorted(normaliser.class_weights) == [1, 2, 3]

    labels = torch.tensor([1, 2, 2, 3])
    assert normaliser.weight((torch.zeros(4, 6), labels)) == pytest.approx(5 + 30 + 1)
    with pytest.raises(DataError, match="class 0 was not among the examples"):
        normaliser.weight((torch.zeros(4, 6), labels - 1))


def test_a_pair_sum_over_n_has_the_bias_that_theory_says():
    """Σ_{i≠j} k(i,j)/n: the relative bias is 1 − (m − 1)/(n − 1) = 0.889 for 8 of 64."""
    report = audit(named("pair_sum_over_the_number").build(0))

    assert report.bias.size.estimate == pytest.approx(1 - 7 / 63, rel=0.01)
    assert 1 - 7 / 63 in report.bias.size


def test_the_audit_leaves_no_trace():
    """Model, mode, gradients, buffers and random generators are as before."""
    import random

    import torch

    workload = named("batch_norm_and_dropout").build(0)
    before = {k: v.clone() for k, v in workload.model.state_dict().items()}
    legacy = np.random.get_state
    states = torch.get_rng_state(), legacy()[1].copy(), random.getstate()
    dtype = torch.get_default_dtype()
    audit(workload, batch_size=40, partitions=6)

    assert all(torch.equal(v, before[k]) for k, v in workload.model.state_dict().items())
    assert all(p.grad is None for p in workload.model.parameters())
    assert workload.model.training
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], legacy()[1])
    assert states[2] == random.getstate()
    assert torch.get_default_dtype() == dtype


def test_the_same_seed_gives_the_same_report():
    """Two audits with one seed agree in every number."""
    one = audit(named("dropout").build(0), batch_size=40, seed=3)
    other = audit(named("dropout").build(0), batch_size=40, seed=3)

    assert one.deviation == other.deviation
    assert one.scale == other.scale

"""Kinds, coefficients and normalisers from planted numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from batchsense.errors import DataError
from batchsense.training.separability.kind.normalisers import (
    candidate_normalisers,
    class_counts,
    tensors_held_by,
    weights_of,
)
from batchsense.training.separability.kind.structure import additive_weights, kind_of, split_of
from batchsense.training.separability.leakage.observation import by_example, movement
from batchsense.training.separability.remedies.comparison import compare_gradients, named_factor

SEEDS = st.integers(0, 2**32 - 1)


def planted(seed, coefficients, noise=0.0, weights=None):
    """Three partitions whose whole is a known combination of the parts."""
    generator = np.random.default_rng(seed)
    splits = []
    for c in coefficients:
        parts = generator.normal(size=(len(c), 60))
        whole = np.asarray(c) @ parts + noise * generator.normal(size=60)
        splits.append(split_of(whole, parts, weights or {}, 60))
    return splits


@given(SEEDS, st.lists(st.floats(0.05, 5), min_size=4, max_size=4))
def test_planted_coefficients_are_recovered(seed, c):
    """Least squares returns the combination that was planted, and a zero residual."""
    split = planted(seed, [c])[0]

    np.testing.assert_allclose(split.coefficients, c, rtol=1e-9)
    assert split.residual < 1e-12
    assert split.determined


@pytest.mark.parametrize(
    ("coefficients", "kind"),
    [
        ([[0.25] * 4] * 3, "mean"),
        ([[1.0] * 4] * 3, "sum"),
        ([[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1], [0.25, 0.25, 0.4, 0.1]], "ratio"),
        ([[0.5] * 4] * 3, "ratio"),
        ([[0.1, 0.2, 0.3, 0.5], [0.4, 0.3, 0.2, 0.1], [0.2, 0.2, 0.4, 0.1]], "composite"),
    ],
)
@given(seed=SEEDS)
def test_kinds_follow_from_the_coefficients(coefficients, kind, seed):
    """Equal to 1/K, to 1, summing to 1, depending on sizes alone, or none of these."""
    assert kind_of(planted(seed, coefficients), 1e-9).kind == kind
    assert kind_of(planted(seed, coefficients, noise=1e-4), 1e-9).kind == "interacting"


@given(seed=SEEDS, guard=st.floats(1e-6, 3.0))
def test_a_guard_in_the_denominator_is_found(seed, guard):
    """Weights (w_k + e) / (W + e) give the candidate and e, whatever e is."""
    generator = np.random.default_rng(seed)
    splits = []
    for _ in range(4):
        w = generator.integers(1, 9, 4) + generator.random()
        parts = generator.normal(size=(4, 60))
        whole = (w + guard) / (w.sum() + guard) @ parts
        splits.append(split_of(whole, parts, {"count": (w, float(w.sum()))}, 60))
    found = kind_of(splits, 1e-9)

    assert (found.kind, found.normaliser) == ("ratio", "count")
    assert found.offset == pytest.approx(guard, rel=1e-3)


def test_too_short_gradients_determine_nothing():
    """Three numbers are reached by four vectors by chance: not determined."""
    generator = np.random.default_rng(0)
    split = split_of(generator.normal(size=3), generator.normal(size=(4, 3)), {}, 3)

    assert split.residual < 1e-12
    assert not split.determined
    assert not kind_of([split], 1e-9).determined


@given(SEEDS)
def test_class_weights_are_recovered_from_coefficients_alone(seed):
    """Five class weights from twenty partitions, to 1e-9."""
    generator = np.random.default_rng(seed)
    weights = generator.uniform(0.2, 5, 5)
    classes = generator.integers(0, 5, 48)
    parts = [generator.permutation(48).reshape(6, 8) for _ in range(20)]
    counts = np.array([[np.bincount(classes[p], minlength=5) for p in part] for part in parts])
    total = weights[classes].sum()
    present = np.unique(classes)
    found = additive_weights(counts @ weights / total, counts[..., present], 1e-6)

    np.testing.assert_allclose(found * total, weights[present], rtol=1e-9)
    shuffled = generator.permuted(counts @ weights / total, axis=None)
    assert additive_weights(shuffled.reshape(20, 6), counts[..., present], 1e-6) is None


def test_candidates_cover_what_losses_count():
    """Ignored labels, shifted labels, masks, weights, positives, padding and rows are all tried."""
    minibatch = {
        "labels": torch.tensor([[1, 2, -100], [2, -100, -100]]),
        "mask": torch.tensor([[True, True, False], [True, False, False]]),
        "weight": torch.tensor([0.5, 2.0]),
    }
    candidates = candidate_normalisers(minibatch, None, {"w": torch.tensor([9.0, 1.0, 4.0])})
    counted = {name: f(minibatch) for name, f in candidates.items()}

    assert counted["minibatch['labels'] != -100"] == 3
    assert counted["minibatch['labels'][:, 1:] != -100"] == 1
    assert counted["true entries of minibatch['mask']"] == 3
    assert counted["sum of minibatch['weight']"] == 2.5
    assert counted["minibatch['labels'] == 2"] == 2
    assert counted["entries of minibatch['labels'], padding included"] == 6
    assert counted["rows of minibatch['labels']"] == 2
    assert counted["w[minibatch['labels']], without -100"] == 9


def test_weights_of_an_empty_part_are_one():
    """An empty part is divided by 1, as clamp(min=1) does; an empty whole is no candidate."""
    parts = [torch.tensor([0.0, 0.0]), torch.tensor([1.0, 1.0])]
    found = weights_of({"count": lambda b: float(b.sum())}, torch.ones(2), parts)
    nothing = weights_of({"count": lambda b: 0.0}, torch.ones(2), parts)

    assert found["count"][0].tolist() == [1.0, 2.0]
    assert nothing == {}


def test_class_counts_of_minibatches():
    """Counts per minibatch and class; floats, constants and large vocabularies are left out."""
    others = {"x": torch.ones(3), "ids": torch.arange(100), "one": torch.ones(2).long()}
    minibatches = [{"y": torch.tensor(y), **others} for y in ([0, 0, 3], [3, 3, 5])]
    counted = class_counts(minibatches)

    assert list(counted) == ["minibatch['y']"]
    values, counts = counted["minibatch['y']"]
    assert values == [0, 3, 5]
    assert counts.tolist() == [[2, 1, 0], [0, 2, 1]]


HELD = torch.tensor([1.0, 2.0])


def test_weights_held_by_a_loss_are_found_wherever_they_are():
    """Closure, default argument, module, method, partial, and global."""
    import functools

    weight = torch.tensor([1.0, 2.0])

    class Criterion:
        def __init__(self):
            self.loss = nn.CrossEntropyLoss(weight=weight)

        def __call__(self, model, minibatch):
            return self.loss(model(minibatch), minibatch)

    def with_default(model, minibatch, w=weight):
        return w

    def with_global(model, minibatch):
        return HELD

    partial = functools.partial(with_default, w=torch.tensor([3.0, 4.0, 5.0]))
    assert "weight" in tensors_held_by(lambda m, b: weight)
    assert any("weight" in name for name in tensors_held_by(Criterion()))
    assert any("weight" in name for name in tensors_held_by(Criterion().__call__))
    assert "w" in tensors_held_by(with_default)
    assert len(tensors_held_by(partial)["w"]) == 3
    assert "HELD" in tensors_held_by(with_global)


@pytest.mark.parametrize(
    ("shape", "layouts"),
    [
        ((6, 2), {"axis 0"}),
        ((2, 6), {"axis 1"}),
        ((6, 6), {"axis 0", "axis 1"}),
        ((12, 3), {"groups", "stacked"}),
        ((5, 5), set()),
        ((), set()),
    ],
)
def test_layouts_of_examples(shape, layouts):
    """Every way in which a tensor can hold six examples is considered."""
    views = by_example(torch.zeros(shape), 6)

    assert set(views) == layouts
    assert all(view.shape[0] == 6 for view in views.values())


def test_movement_is_relative_and_knows_infinity():
    """Relative to the size of all outputs; masked −inf stands still; a new NaN is infinite."""
    before = torch.tensor([[1.0, -math.inf], [1.0, -math.inf]])
    same = movement(before, before.clone(), 2)["axis 0"]
    after = torch.tensor([[3.0, -math.inf], [1.0, math.nan]])

    assert same.tolist() == [0.0, 0.0]
    assert movement(before, after, 2)["axis 0"].tolist() == [2.0, math.inf]


def test_longer_outputs_are_compared_where_both_exist():
    """Padding that grew is not a movement by itself."""
    before, after = torch.ones(2, 3), torch.ones(2, 5)
    after[1, 1] = 2.0

    assert movement(before, after, 2)["axis 0"].tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("scale", "name"),
    [(8.0, "K"), (0.5, "1/world"), (4.0, "K/world"), (1 / 16, "1/(K·world)"), (16.0, "K·world"),
     (3.0, None), (1.0, None)],
)  # fmt: skip
def test_names_of_factors(scale, name):
    """Products and quotients of the known factors are named; other numbers are not."""
    assert named_factor(scale, {"K": 8, "world": 2}) == name


def test_gradients_of_different_models_are_not_compared():
    """Other parameters, other sizes, a zero reference: refused."""
    with pytest.raises(DataError, match="different parameters"):
        compare_gradients({"a": torch.ones(2)}, {"b": torch.ones(2)})
    with pytest.raises(DataError, match="numbers in the reference"):
        compare_gradients(torch.ones(2), torch.ones(3))
    with pytest.raises(DataError, match="zero"):
        compare_gradients(torch.zeros(2), torch.ones(2))


def test_each_parameter_has_its_own_scale():
    """Only the parameter that is off is listed, with its factor."""
    full = {"encoder": torch.tensor([1.0, 2.0]), "router": torch.tensor([3.0])}
    found = compare_gradients(full, {**full, "router": full["router"] / 4}, {"world": 4})

    assert dict(found.by_parameter) == {"router": 0.25}
    assert found.factor is None

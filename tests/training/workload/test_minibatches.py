"""One walk over minibatches of every form: named, changed, counted and cut alike."""

from __future__ import annotations

import copy
import math
from collections import OrderedDict, UserDict, defaultdict, namedtuple
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from batchsense.errors import DataError
from batchsense.training import Workload
from batchsense.training.example_gradients.measurement import (
    minibatch_squared_norms,
    per_example_squared_norms,
)
from batchsense.training.separability import audit
from batchsense.training.workload.minibatches import (
    cloned,
    count_examples,
    example_axis_of,
    has_list_of_examples,
    identical,
    leaves,
    named_tensors,
    rebuilt,
    take_examples,
)

Pair = namedtuple("Pair", "first second")


@dataclass
class Graph:
    """A minibatch as a dataclass."""

    nodes: object
    name: str = "g"


@dataclass(frozen=True, slots=True)
class Frozen:
    """A minibatch as a frozen dataclass without a ``__dict__``."""

    nodes: object
    extra: object = None


class Movable:
    """A minibatch that can be moved, and called, as those of graph libraries can."""

    def __init__(self, content):
        self.store = Graph(content)

    def to(self, device):
        """Move it."""
        return self

    def __call__(self):
        """Do nothing."""


class Plain:
    """A minibatch of attributes."""

    def __init__(self, content):
        self.content = {"inside": content}


class OwnMapping(Mapping):
    """A mapping that cannot be changed, with storage that ``copy.copy`` shares."""

    def __init__(self, content):
        self.content = dict(content)

    def __getitem__(self, key):
        """Look up."""
        return self.content[key]

    def __iter__(self):
        """Go through the keys."""
        return iter(self.content)

    def __len__(self):
        """Count the keys."""
        return len(self.content)


CONTAINERS = {
    "list": lambda part: [part, "word"],
    "tuple": lambda part: (part, None),
    "named tuple": lambda part: Pair(part, 3.5),
    "dict": lambda part: {"x": part, 1: True},
    "ordered dict": lambda part: OrderedDict(x=part),
    "default dict": lambda part: defaultdict(list, x=part),
    "user dict": lambda part: UserDict(x=part),
    "own mapping": lambda part: OwnMapping({"x": part}),
    "dataclass": Graph,
    "frozen dataclass": Frozen,
    "movable": Movable,
    "plain object": Plain,
}
SIZES = st.integers(2, 5)


@st.composite
def minibatches(draw):
    """A nested minibatch with two thirds of its tensors counting examples, and their number."""
    count = draw(SIZES)
    wide = draw(st.integers(20, 22))
    values = iter(range(10_000))

    def tensor(*shape):
        return torch.tensor([float(next(values)) for _ in range(math.prod(shape))]).reshape(shape)

    tree = tensor(count, wide)
    for _ in range(draw(st.integers(1, 4))):
        wrapped = CONTAINERS[draw(st.sampled_from(sorted(CONTAINERS)))](tree)
        tree = {"deep": wrapped, "label": tensor(count)}
    return {"tree": tree, "whole": tensor(wide, wide), "name": "kept"}, count


@given(minibatches())
def test_a_tree_rebuilt_from_its_leaves_is_itself(drawn):
    """rebuilt(x, leaves(x)) == x, of the same types, and nothing of it is shared by a clone."""
    tree, _ = drawn
    waiting = iter(leaves(tree))

    assert identical(rebuilt(tree, lambda _: next(waiting)), tree)
    copied = cloned(tree)
    for tensor in leaves(copied):
        tensor += 5
    assert not identical(copied, tree)
    assert [n for n, _ in named_tensors(copied)] == [n for n, _ in named_tensors(tree)]


@given(minibatches(), st.data())
def test_rows_taken_one_after_the_other_are_the_rows_taken_together(drawn, data):
    """Taking rows a, then b, and joining them gives rows a + b; rows of rows are those rows."""
    tree, count = drawn
    place = st.integers(0, count - 1)
    a, b = (data.draw(st.lists(place, min_size=1, max_size=6)) for _ in range(2))
    both = take_examples(tree, a + b, count)
    parts = [take_examples(tree, rows, count) for rows in (a, b)]

    for whole, first, second in zip(*map(leaves, (both, *parts)), strict=True):
        joined = first if example_axis_of(whole, len(a) + len(b)) is None else None
        expected = torch.cat([first, second]) if joined is None else joined
        assert torch.equal(expected, whole)
    again = data.draw(st.lists(st.integers(0, len(a) - 1), min_size=1, max_size=6))
    assert identical(
        take_examples(parts[0], again, len(a)), take_examples(tree, [a[k] for k in again], count)
    )


@given(minibatches(), st.data())
def test_a_slice_takes_the_rows_that_it_names(drawn, data):
    """A slice gives the same examples as their places."""
    tree, count = drawn
    start = data.draw(st.integers(0, count - 1))
    stop = data.draw(st.integers(start + 1, count))

    expected = take_examples(tree, range(start, stop), count)
    assert identical(expected, take_examples(tree, slice(start, stop), count))


@given(minibatches())
def test_the_number_of_examples_is_found(drawn):
    """The size that two thirds of the tensors share counts the examples."""
    tree, count = drawn

    assert count_examples(tree) == count


@given(SIZES, SIZES)
def test_sizes_that_disagree_are_refused_by_name(one, other):
    """Of two tensors of different sizes the second is named; without any, the minibatch."""
    tree = Graph([torch.zeros(one, 9), torch.zeros(other + 4, 9)])

    with pytest.raises(DataError, match="cannot be cut into examples") as refused:
        count_examples(tree)
    assert refused.value.where == "minibatch.nodes[1]"
    with pytest.raises(DataError, match="no tensor with rows") as refused:
        count_examples({"a": None, "b": torch.tensor(1.0)})
    assert refused.value.where == "minibatch"


@pytest.mark.parametrize("form", CONTAINERS)
def test_containers_keep_their_type_and_are_cut(form):
    """Every form of minibatch is opened, cut in each tensor and closed as the same type."""
    tree = CONTAINERS[form](torch.arange(6.0).reshape(3, 2))
    before = copy.deepcopy(tree)
    cut = take_examples(tree, [2, 0], 3)

    assert type(cut) is type(tree)
    assert leaves(cut)[0].tolist() == [[4.0, 5.0], [0.0, 1.0]]
    assert identical(before, tree)


def test_a_mapping_that_cannot_be_made_again_becomes_a_plain_one():
    """What matters to a loss is what its keys lead to."""
    tree = MappingProxyType({"x": torch.ones(3)})

    assert identical({"x": torch.ones(2)}, dict(take_examples(tree, [0, 1], 3)))


def test_an_object_that_cannot_be_copied_is_refused():
    """The error names the type of what cannot be copied."""

    class Stubborn(Graph):
        def __copy__(self):
            raise RuntimeError("no")

    with pytest.raises(DataError, match="Stubborn cannot be copied"):
        cloned([Stubborn(torch.ones(3))])


def test_lists_of_examples_are_chosen_from_and_counted():
    """A list with an entry per example is cut; one of whole tensors is entered."""
    pictures = [torch.zeros(9, 8) for _ in range(3)]
    minibatch = {"pictures": pictures, "label": torch.arange(3), "words": ["a", "b", "c"]}

    assert count_examples(minibatch) == 3
    assert has_list_of_examples(minibatch, 3)
    assert take_examples(minibatch, [2], 3)["words"] == ["c"]
    assert not has_list_of_examples([torch.zeros(3, 2)] * 3, 3)


def test_identity_of_examples():
    """NaN equals NaN; other values, shapes, types or keys differ."""
    nan = torch.tensor([math.nan, 1.0])

    assert identical(
        {"a": (nan, np.array([1, 2]), "x", None)}, {"a": (nan, np.array([1, 2]), "x", None)}
    )
    assert not identical(nan, torch.tensor([math.nan, 2.0]))
    assert not identical(torch.ones(2), torch.ones(3))
    assert not identical({"a": 1}, {"b": 1})
    assert not identical([1], (1, 2))
    assert not identical(np.ones(2), np.zeros(2))


@pytest.mark.parametrize("form", CONTAINERS)
def test_both_halves_understand_the_same_minibatches(form):
    """The audit and the per-example gradients accept every form, and agree with plain tensors."""
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(32, 3, generator=generator)
    model = nn.Linear(3, 1)

    def loss(model, minibatch):
        return model(leaves(minibatch)[0]).square().mean()

    workload = Workload(
        model, loss, rows, torch.optim.SGD, collate=lambda x: CONTAINERS[form](torch.stack(x))
    )
    expected = minibatch_squared_norms(model, loss, rows).values

    assert audit(workload, micro_batch=4).kind == "mean"
    assert audit(loss, model, CONTAINERS[form](rows), 4).kind == "mean"
    for how in ("auto", "vmap", "single"):
        norms = per_example_squared_norms(workload, range(32), fallback=how)
        np.testing.assert_allclose(norms.values, expected, rtol=1e-5)
    taken_apart = minibatch_squared_norms(model, loss, CONTAINERS[form](rows))
    np.testing.assert_allclose(taken_apart.values, expected, rtol=1e-5)

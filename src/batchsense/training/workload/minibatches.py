"""Minibatches as trees of tensors: name their tensors, change them, take examples from them.

Containers are tuples, named tuples, lists, mappings (also those of libraries, such as a
``BatchEncoding``), dataclasses, and objects that hold tensors or can be moved by ``to``. Everything
that walks over a minibatch walks by :func:`_opened`, so a minibatch that one measurement
understands is understood by all.
"""

from __future__ import annotations

import copy
import dataclasses
from collections import UserDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from batchsense.blame import described
from batchsense.errors import DataError


def named_tensors(tree: Any, name: str = "minibatch") -> Iterator[tuple[str, Tensor]]:
    """Go through the tensors of a tree, each with the expression that reaches it.

    >>> tree = {"ids": torch.ones(2), "labels": [torch.zeros(3)]}
    >>> [name for name, tensor in named_tensors(tree)]
    ["minibatch['ids']", "minibatch['labels'][0]"]
    """
    for path, leaf in _named_leaves(tree, name):
        if isinstance(leaf, Tensor):
            yield path, leaf


def leaves(tree: Any) -> list[Tensor]:
    """The tensors of a tree, in order."""
    return [tensor for _, tensor in named_tensors(tree)]


def size_of(tree: Any) -> int:
    """How many numbers or characters a tree holds: what makes one example longer than another.

    >>> size_of({"ids": torch.zeros(3, 2), "text": "abc", "label": 1})
    10
    """

    def size(leaf: Any) -> int:
        if isinstance(leaf, Tensor):
            return leaf.numel()
        if isinstance(leaf, np.ndarray):
            return int(leaf.size)
        return len(leaf) if isinstance(leaf, str | bytes) else 1

    return sum(size(leaf) for _, leaf in _named_leaves(tree, ""))


def rebuilt(tree: Any, change: Callable[[Tensor], Any]) -> Any:
    """Copy the containers of a tree with every tensor replaced by ``change(tensor)``.

    What is neither a container nor a tensor is kept as it is.

    Raises DataError: an object that holds tensors cannot be copied.

    >>> rebuilt({"x": torch.ones(2), "name": "a"}, lambda tensor: tensor.sum().item())
    {'x': 2.0, 'name': 'a'}
    """
    return _walked(tree, lambda leaf: change(leaf) if isinstance(leaf, Tensor) else leaf)


def cloned(tree: Any) -> Any:
    """Copy a tree so that nobody who writes into the copy changes the original."""

    def copied(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return leaf.clone()
        return leaf.copy() if isinstance(leaf, np.ndarray) else leaf

    return _walked(tree, copied)


def count_examples(minibatch: Any, example_dim: int = 0) -> int:
    """Count the examples of a collated minibatch: the size that its tensors agree on.

    At least two thirds of the tensors share it, in ``example_dim`` (0 or 1; the first of those with
    one dimension). Tensors in a list that has an entry for each example count as sharing it.

    Raises DataError: there is no tensor with rows, or no size is shared by so many; names a tensor
    that differs.

    >>> count_examples({"pixels": torch.zeros(5, 2), "label": torch.zeros(5)})
    5
    """
    named = [(name, t) for name, t in named_tensors(minibatch) if t.dim() > 0]
    if not named:
        raise DataError(
            "it holds no tensor with rows, so its examples cannot be told apart; give tensors, or "
            "a Workload with its examples",
            where="minibatch",
        )
    sizes = dict.fromkeys(t.shape[_axis(t, example_dim)] for _, t in named)
    strangers = {size: _without(minibatch, size, example_dim) for size in sizes}
    likely = min(sizes, key=lambda size: len(strangers[size]))
    odd = strangers[likely]
    # Two thirds: of inputs, labels and one constant the constant is outvoted; two tensors that
    # differ are refused, because either of them may be the constant.
    if len(odd) * 3 > len(named):
        size = dict(named)[odd[0]].shape[_axis(dict(named)[odd[0]], example_dim)]
        raise DataError(
            f"it has {size} rows where others have {likely}, so the minibatch cannot be cut into "
            "examples; give a Workload with examples and collate instead",
            where=odd[0],
        )
    return likely


def measured_parts(example: Any) -> tuple[int, ...]:
    """Give the bytes of each part of an example that can be told: its tensors, texts and lists.

    >>> measured_parts({"ids": [7, 8, 9], "mask": torch.zeros(3), "text": "abc", "label": 1})
    (24, 12, 3, 8)
    """
    if isinstance(example, Tensor | np.ndarray):
        return (int(example.nbytes),)
    if isinstance(example, str | bytes):
        return (len(example),)
    if isinstance(example, list) and all(isinstance(part, int | float) for part in example):
        return (8 * len(example),)
    container = _opened(example)
    if container is None:
        return (8,)
    return tuple(size for part in container.parts for size in measured_parts(part))


def take_examples(
    minibatch: Any, chosen: Sequence[int] | slice, count: int, example_dim: int = 0
) -> Any:
    """Take some of the ``count`` examples out of a minibatch.

    Tensors whose ``example_dim`` (or, with one dimension, first) has size ``count`` and lists of
    that length are indexed; everything else is kept whole.

    >>> take_examples((torch.arange(4), "kept"), [1, 3], count=4)
    (tensor([1, 3]), 'kept')
    """
    places = range(count)[chosen] if isinstance(chosen, slice) else chosen

    def part(leaf: Any) -> Any:
        if isinstance(leaf, list):
            return [leaf[place] for place in places]
        axis = example_axis_of(leaf, count, example_dim) if isinstance(leaf, Tensor) else None
        if axis is None:
            return leaf
        if isinstance(chosen, slice):  # a view, without a copy
            return leaf[(slice(None),) * axis + (chosen,)]
        return leaf.index_select(axis, torch.as_tensor(chosen, dtype=torch.long).to(leaf.device))

    return _walked(minibatch, part, lambda tree: _lists_examples(tree, count))


def example_axis_of(tensor: Tensor, count: int, example_dim: int = 0) -> int | None:
    """Which dimension of a minibatch's tensor counts its examples; None if none does."""
    axis = _axis(tensor, example_dim)
    return axis if tensor.dim() > 0 and tensor.shape[axis] == count else None


def has_list_of_examples(minibatch: Any, count: int) -> bool:
    """Whether a list with one entry for each of ``count`` examples is part of a minibatch."""
    found = _named_leaves(minibatch, "", lambda tree: _lists_examples(tree, count))
    return any(isinstance(leaf, list) for _, leaf in found)


def identical(one: Any, other: Any) -> bool:
    """Whether two trees hold the same values, NaN equal to NaN."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        if one.shape != other.shape or one.dtype != other.dtype:
            return False
        return bool(((one == other) | ((one != one) & (other != other))).all())
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(
            one, other, equal_nan=np.issubdtype(one.dtype, np.inexact)
        )
    if type(one) is not type(other):
        return False
    first, second = _opened(one), _opened(other)
    if first is not None and second is not None:
        return first.steps == second.steps and all(map(identical, first.parts, second.parts))
    try:
        return bool(one == other) or bool(one != one and other != other)
    except Exception:  # an object without a notion of equality cannot be judged
        return True


class _Container(NamedTuple):
    """One container, opened: how each part is reached, the parts, and how to close it again."""

    steps: list[str]
    parts: list[Any]
    close: Callable[[list[Any]], Any]


def _opened(tree: Any) -> _Container | None:
    if tree is None or isinstance(tree, Tensor | np.ndarray | str | int | float):
        return None
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        steps = [f".{field}" for field in tree._fields]
        return _Container(steps, list(tree), lambda parts: type(tree)(*parts))
    if isinstance(tree, list | tuple):
        steps = [f"[{place}]" for place in range(len(tree))]
        plain = list if isinstance(tree, list) else tuple
        return _Container(steps, list(tree), lambda parts: _made(type(tree), plain(parts)))
    if isinstance(tree, Mapping):
        keys = list(tree)
        return _Container(
            [f"[{key!r}]" for key in keys],
            [tree[key] for key in keys],
            lambda parts: _like(tree, dict(zip(keys, parts, strict=True))),
        )
    if _holds_fields(tree):
        fields = _fields_of(tree)
        return _Container(
            [f".{field}" for field in fields],
            list(fields.values()),
            lambda parts: _with_fields(tree, dict(zip(fields, parts, strict=True))),
        )
    return None


def _walked(
    tree: Any, change: Callable[[Any], Any], is_leaf: Callable[[Any], bool] = lambda _: False
) -> Any:
    container = None if is_leaf(tree) else _opened(tree)
    if container is None:
        return change(tree)
    return container.close([_walked(part, change, is_leaf) for part in container.parts])


def _named_leaves(
    tree: Any, name: str, is_leaf: Callable[[Any], bool] = lambda _: False
) -> Iterator[tuple[str, Any]]:
    container = None if is_leaf(tree) else _opened(tree)
    if container is None:
        yield name, tree
        return
    for step, part in zip(container.steps, container.parts, strict=True):
        yield from _named_leaves(part, name + step, is_leaf)


def _holds_fields(tree: Any) -> bool:
    """Whether an object is a holder of tensors, such as a dataclass or a graph."""
    if isinstance(tree, Tensor | type | torch.nn.Module | torch.Generator):
        return False
    if dataclasses.is_dataclass(tree):
        return True
    if not hasattr(tree, "__dict__"):
        return False
    if hasattr(tree, "to"):
        return True
    return not callable(tree) and any(
        isinstance(part, Tensor) or (isinstance(part, list | tuple | dict) and leaves(part))
        for part in vars(tree).values()
    )


def _fields_of(tree: Any) -> dict[str, Any]:
    fields = dict(getattr(tree, "__dict__", {}))
    if dataclasses.is_dataclass(tree):  # with slots, there is no __dict__
        for field in dataclasses.fields(tree):
            if field.name not in fields and hasattr(tree, field.name):
                fields[field.name] = getattr(tree, field.name)
    return fields


def _with_fields(tree: Any, fields: dict[str, Any]) -> Any:
    try:
        copied = copy.copy(tree)
    except Exception as error:
        raise DataError(
            f"a {type(tree).__name__} cannot be copied ({described(error)}); make the minibatch of "
            "tensors, tuples, lists, dicts or dataclasses",
            where="minibatch",
        ) from error
    for name, part in fields.items():
        object.__setattr__(copied, name, part)  # also where the dataclass is frozen
    return copied


def _like(original: Mapping[Any, Any], entries: dict[Any, Any]) -> Any:
    kind = type(original)
    if kind is dict:
        return entries
    # copy.copy of any other mapping might share its storage, and filling it change the original.
    if isinstance(original, dict | UserDict) or hasattr(kind, "__copy__"):
        copied: Any = copy.copy(original)
        for key, value in entries.items():
            copied[key] = value
        return copied
    return _made(kind, entries)


def _made(kind: Callable[[Any], Any], content: Any) -> Any:
    """Make a container of its own type, or a plain one where its type cannot be made like that."""
    try:
        return kind(content)
    except Exception:
        return content


def _axis(tensor: Tensor, example_dim: int) -> int:
    return example_dim if tensor.dim() > example_dim else 0


def _lists_examples(tree: Any, count: int) -> bool:
    """Whether a list has one entry for each example, instead of whole tensors of all of them."""
    if not isinstance(tree, list) or len(tree) != count:
        return False
    return not any(count in tensor.shape[:2] for tensor in leaves(tree))


def _without(minibatch: Any, count: int, example_dim: int) -> list[str]:
    """Name the tensors that do not count ``count`` examples, outside of lists of as many."""
    return [
        name
        for name, leaf in _named_leaves(minibatch, "minibatch", lambda t: _lists_examples(t, count))
        if isinstance(leaf, Tensor)
        and leaf.dim() > 0
        and example_axis_of(leaf, count, example_dim) is None
    ]

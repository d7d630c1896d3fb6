"""Minibatches as trees of tensors: copy them, name their tensors, take rows from them."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from batchsense.errors import DataError


def mapped(tree: Any, change: Callable[[Tensor], Any]) -> Any:
    """Copy a tree of containers with every tensor replaced by ``change(tensor)``.

    Containers are lists, tuples, named tuples, mappings, dataclasses and plain objects; anything
    else is kept as it is.

    Examples
    --------
    >>> mapped({"x": torch.ones(2), "name": "a"}, lambda tensor: tensor.sum().item())
    {'x': 2.0, 'name': 'a'}
    """
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(mapped(part, change) for part in tree))
    if isinstance(tree, list | tuple):
        return type(tree)(mapped(part, change) for part in tree)
    if isinstance(tree, MutableMapping):
        copied = copy.copy(tree)
        for key, part in tree.items():
            copied[key] = mapped(part, change)
        return copied
    if _is_plain_object(tree):
        copied = copy.copy(tree)
        for name, part in vars(tree).items():
            object.__setattr__(copied, name, mapped(part, change))
        return copied
    return tree


def cloned(tree: Any) -> Any:
    """Copy a tree so that nobody who writes into the copy changes the original."""
    return mapped(_arrays_copied(tree), torch.clone)


def named_tensors(tree: Any, name: str = "minibatch") -> Iterator[tuple[str, Tensor]]:
    """Give every tensor of a tree with the expression that reaches it.

    Examples
    --------
    >>> tree = {"ids": torch.ones(2), "labels": [torch.zeros(3)]}
    >>> [name for name, tensor in named_tensors(tree)]
    ["minibatch['ids']", "minibatch['labels'][0]"]
    """
    if isinstance(tree, Tensor):
        yield name, tree
    elif isinstance(tree, tuple) and hasattr(tree, "_fields"):
        for field in tree._fields:
            yield from named_tensors(getattr(tree, field), f"{name}.{field}")
    elif isinstance(tree, list | tuple):
        for place, part in enumerate(tree):
            yield from named_tensors(part, f"{name}[{place}]")
    elif isinstance(tree, Mapping):
        for key, part in tree.items():
            yield from named_tensors(part, f"{name}[{key!r}]")
    elif _is_plain_object(tree):
        for field, part in vars(tree).items():
            yield from named_tensors(part, f"{name}.{field}")


def identical(one: Any, other: Any) -> bool:
    """Whether two examples hold the same values, NaN equal to NaN."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        if one.shape != other.shape or one.dtype != other.dtype:
            return False
        return bool(((one == other) | ((one != one) & (other != other))).all())
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(
            one, other, equal_nan=np.issubdtype(one.dtype, np.inexact)
        )
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(
            identical(a, b) for a, b in zip(one, other, strict=True)
        )
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(identical(one[k], other[k]) for k in one)
    if _is_plain_object(one) and type(one) is type(other):
        return identical(vars(one), vars(other))
    if type(one) is not type(other):
        return False
    try:
        return bool(one == other) or bool(one != one and other != other)
    except Exception:  # an object without a notion of equality cannot be judged
        return True


def count_rows(minibatch: Any) -> int:
    """Count the examples of a collated minibatch: the first size its tensors agree on.

    Raises
    ------
    DataError
        There is no tensor with rows, or the first sizes disagree so that no size is shared by at
        least two thirds of the tensors.

    Examples
    --------
    >>> count_rows([torch.zeros(5, 2), torch.zeros(5)])
    5
    """
    sizes = [tensor.shape[0] for _, tensor in named_tensors(minibatch) if tensor.ndim > 0]
    if not sizes:
        raise DataError("it holds no tensor with rows; give the examples", where="minibatch")
    likely = max(set(sizes), key=sizes.count)
    if sizes.count(likely) * 3 < len(sizes) * 2:
        raise DataError(
            f"its tensors have {sorted(set(sizes))} rows, so it cannot be cut into examples; "
            "audit a Workload with examples and collate instead",
            where="minibatch",
        )
    return likely


def take_rows(minibatch: Any, rows: Sequence[int] | slice, count: int) -> Any:
    """Take rows of every tensor that has ``count`` of them; keep the other tensors whole."""
    chosen = rows if isinstance(rows, slice) else torch.as_tensor(rows, dtype=torch.long)

    def part(tensor: Tensor) -> Tensor:
        if tensor.ndim == 0 or tensor.shape[0] != count:
            return tensor
        at = chosen if isinstance(chosen, slice) else chosen.to(tensor.device)
        return tensor[at]

    return mapped(minibatch, part)


def _is_plain_object(tree: Any) -> bool:
    """Whether an object is a holder of fields, such as a dataclass or a graph."""
    if isinstance(tree, type | torch.nn.Module | torch.Generator) or callable(tree):
        return False
    if dataclasses.is_dataclass(tree):
        return hasattr(tree, "__dict__")
    return hasattr(tree, "__dict__") and any(isinstance(v, Tensor) for v in vars(tree).values())


def _arrays_copied(tree: Any) -> Any:
    """Copy numpy arrays and containers of plain values inside a tree."""
    if isinstance(tree, np.ndarray):
        return tree.copy()
    if isinstance(tree, list) or type(tree) is tuple:
        return type(tree)(_arrays_copied(part) for part in tree)
    if type(tree) is dict:
        return {key: _arrays_copied(part) for key, part in tree.items()}
    return tree

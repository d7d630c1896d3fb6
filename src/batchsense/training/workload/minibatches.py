"""Minibatches taken apart: some of the examples, or one of them, of nested tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from batchsense.errors import DataError


def examples_in(minibatch: Any, example_dim: int = 0) -> int:
    """Count the examples: the size of the first tensor's ``example_dim``.

    Raises
    ------
    DataError
        There is no tensor with a dimension.

    Examples
    --------
    >>> examples_in({"pixels": torch.zeros(5, 3), "label": torch.zeros(5)})
    5
    """
    for tensor in leaves(minibatch):
        if tensor.dim() > 0:
            return tensor.shape[_axis(tensor, example_dim)]
    raise DataError(
        "the minibatch holds no tensor with a dimension for the examples, so they cannot be told "
        "apart; give tensors, or a Workload with its examples"
    )


def some_of(minibatch: Any, indices: Sequence[int], count: int, example_dim: int = 0) -> Any:
    """Take examples out of a minibatch.

    Tensors whose ``example_dim`` (or, with one dimension, first) has size ``count`` and lists of
    that length are indexed, tuples, mappings and other lists are entered, the rest is kept as it
    is.

    Examples
    --------
    >>> some_of((torch.arange(4), "kept"), [1, 3], count=4)
    (tensor([1, 3]), 'kept')
    """

    def chosen(tensor: Tensor) -> Tensor:
        axis = _axis(tensor, example_dim)
        if tensor.dim() == 0 or tensor.shape[axis] != count:
            return tensor
        return tensor.index_select(axis, torch.as_tensor(indices, device=tensor.device))

    return rebuilt(minibatch, chosen, lambda items: [items[i] for i in indices], count)


def leaves(minibatch: Any) -> list[Tensor]:
    """Collect the tensors of nested tuples, lists and mappings, in order."""
    found: list[Tensor] = []

    def collect(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    rebuilt(minibatch, collect)
    return found


def rebuilt(
    minibatch: Any,
    change: Callable[[Tensor], Tensor],
    choose: Callable[[list[Any]], list[Any]] | None = None,
    count: int = -1,
) -> Any:
    """Make the same structure with every tensor changed, and lists of examples chosen from."""
    if isinstance(minibatch, Tensor):
        return change(minibatch)
    if isinstance(minibatch, Mapping):
        entered = {k: rebuilt(v, change, choose, count) for k, v in minibatch.items()}
        return entered if type(minibatch) is dict else _like(minibatch, entered)
    if isinstance(minibatch, list):
        if choose is not None and len(minibatch) == count and not _is_structure(minibatch, count):
            return choose(minibatch)
        return [rebuilt(value, change, choose, count) for value in minibatch]
    if isinstance(minibatch, tuple):
        parts = [rebuilt(value, change, choose, count) for value in minibatch]
        return type(minibatch)(*parts) if hasattr(minibatch, "_fields") else tuple(parts)
    return minibatch


def example_axis_of(tensor: Tensor, count: int, example_dim: int) -> int | None:
    """Tell which dimension of a minibatch's tensor counts examples; None if none does."""
    axis = _axis(tensor, example_dim)
    return axis if tensor.dim() > 0 and tensor.shape[axis] == count else None


def _axis(tensor: Tensor, example_dim: int) -> int:
    return example_dim if tensor.dim() > example_dim else 0


def _is_structure(values: list[Any], count: int) -> bool:
    """Whether a list holds whole tensors of all examples, instead of one entry for each."""
    return any(count in tensor.shape[:2] for tensor in leaves(tuple(values)))


def _like(original: Mapping[Any, Any], entered: dict[Any, Any]) -> Any:
    """Make a mapping of the same type, or a plain one where that cannot be made."""
    try:
        return type(original)(entered)  # type: ignore[call-arg]
    except Exception:
        return entered

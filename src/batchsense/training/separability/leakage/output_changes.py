"""How far the outputs of some examples move when other examples are replaced."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from batchsense.arrays import Flags, Floats

#: By precision: the movement that always counts as none, and the most that rounding may cause.
ROUNDING_MOVEMENT = {"float64": (1e-9, 1e-9), "float32": (2e-6, 2e-5), "bfloat16": (0.03, 0.1)}


def substitution_sets(count: int) -> Iterator[Flags]:
    """Give 2⌈log₂ count⌉ sets of examples that tell every ordered pair apart.

    For each bit of the example's number: those that have it, and those that do not. For any two
    different examples i and j, some set holds j and not i.

    Examples
    --------
    >>> [[int(k) for k in chosen.nonzero()[0]] for chosen in substitution_sets(3)]
    [[1], [0, 2], [2], [0, 1]]
    """
    numbers = np.arange(count)
    for bit in range(max(1, math.ceil(math.log2(count)))):
        having = (numbers >> bit) & 1 == 1
        yield having
        yield ~having


def by_example(tensor: Tensor, count: int) -> dict[str, Tensor]:
    """Bring the examples to the front, in every layout in which a tensor can hold them.

    Examples
    --------
    >>> {name: tuple(view.shape) for name, view in by_example(torch.zeros(6, 5), 3).items()}
    {'groups': (3, 2, 5), 'stacked': (3, 2, 5)}
    """
    views = {}
    if tensor.ndim > 0 and tensor.shape[0] == count:
        views["axis 0"] = tensor
    elif tensor.ndim > 0 and tensor.shape[0] > 0 and tensor.shape[0] % count == 0:
        each = tensor.shape[0] // count
        views["groups"] = tensor.reshape(count, each, *tensor.shape[1:])
        views["stacked"] = tensor.reshape(each, count, *tensor.shape[1:]).transpose(0, 1)
    if tensor.ndim > 1 and tensor.shape[1] == count:
        views["axis 1"] = tensor.transpose(0, 1)
    return views


def movement(before: Tensor, after: Tensor, count: int) -> dict[str, Floats]:
    """Measure how far each example's part of an output moved, in every possible layout.

    Where sizes differ (longer padding), the common beginning is compared.

    Parameters
    ----------
    before, after : Tensor
        The same output in two passes.
    count : int
        Number of examples.

    Returns
    -------
    dict of str to array of shape (examples,)
        By layout: the largest absolute change of each example over the root mean square of
        ``before``; a change from or to NaN or infinity is infinite. Empty if the tensor does not
        hold examples.

    Examples
    --------
    >>> movement(torch.tensor([1.0, 1.0]), torch.tensor([1.0, 1.5]), 2)
    {'axis 0': array([0. , 0.5])}
    """
    if before.ndim != after.ndim or before.numel() == 0:
        return {}
    others = by_example(after, count)
    return {
        layout: _moved(view, others[layout], count)
        for layout, view in by_example(before, count).items()
        if layout in others
    }


def _moved(one: Tensor, other: Tensor, count: int) -> Floats:
    """Measure the movement of each row, relative to the size of all."""
    common = tuple(slice(0, min(a, b)) for a, b in zip(one.shape, other.shape, strict=True))
    one, other = _plain(one[common]), _plain(other[common])
    finite = one[torch.isfinite(one)]
    scale = float(finite.square().mean().sqrt()) if len(finite) else 1.0
    same = (one == other) | (torch.isnan(one) & torch.isnan(other))
    change = torch.where(same, 0.0, (other - one).abs())
    change = torch.nan_to_num(change, nan=math.inf, posinf=math.inf).reshape(count, -1)
    largest = change.amax(dim=1) if change.shape[1] else torch.zeros(count, dtype=change.dtype)
    return (largest / (scale or 1.0)).cpu().numpy().astype(np.float64)


def _plain(tensor: Tensor) -> Tensor:
    """Give real float64 values."""
    real = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
    return real.double()

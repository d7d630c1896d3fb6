"""The two passes over the data, compiled: sums of a tile of features, correction of a block.

Each function works on a piece and releases the interpreter's lock, so plain threads run the pieces
side by side. Arithmetic is in double precision whatever the type of the data. Importing this
module loads numba.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

Function = TypeVar("Function", bound=Callable[..., Any])
Array = Any

#: Sums may be reordered and multiply-adds fused; NaN and infinity keep their meaning.
_RELAXED = {"reassoc", "contract", "nsz"}


def _compiled(function: Function) -> Function:
    """Compile for each type of data on first use, and keep the result on disk if possible."""
    options: dict[str, Any] = {"nogil": True, "fastmath": _RELAXED, "error_model": "numpy"}
    try:
        compiled: Any = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package nor the user's cache folder can be written
        compiled = numba.njit(**options)(function)
    typed: Function = compiled
    return typed


@_compiled
def sum_rows(
    values: Array,
    order: Array,
    starts: Array,
    batch_of_cell: Array,
    centred: Array,
    shifts: Array,
    sums: Array,
    squares: Array,
    products: Array,
    low: int,
    high: int,
) -> None:
    """Sum features ``low`` to ``high`` of specimens × features, in place.

    Adds to ``sums`` (cells, features), ``squares`` (batches, features) and ``products`` (batches,
    covariates, features) what lies above ``shifts`` (batches, features).
    """
    for cell in range(len(starts) - 1):
        b = batch_of_cell[cell]
        for position in range(starts[cell], starts[cell + 1]):
            i = order[position]
            for j in range(low, high):
                above = values[i, j] - shifts[b, j]
                sums[cell, j] += above
                squares[b, j] += above * above
            for z in range(centred.shape[1]):
                weight = centred[i, z]
                for j in range(low, high):
                    products[b, z, j] += weight * (values[i, j] - shifts[b, j])


@_compiled
def sum_columns(
    values: Array,
    order: Array,
    starts: Array,
    batch_of_cell: Array,
    centred: Array,
    shifts: Array,
    sums: Array,
    squares: Array,
    products: Array,
    low: int,
    high: int,
) -> None:
    """Do the same for features × specimens, where a feature lies in one piece."""
    for j in range(low, high):
        for cell in range(len(starts) - 1):
            b = batch_of_cell[cell]
            shift = shifts[b, j]
            total, square = 0.0, 0.0
            for position in range(starts[cell], starts[cell + 1]):
                above = values[j, order[position]] - shift
                total += above
                square += above * above
            sums[cell, j] += total
            squares[b, j] += square
            for z in range(centred.shape[1]):
                product = 0.0
                for position in range(starts[cell], starts[cell + 1]):
                    i = order[position]
                    product += centred[i, z] * (values[j, i] - shift)
                products[b, z, j] += product


@_compiled
def shift_rows(
    values: Array,
    codes: Array,
    cells: Array,
    scales: Array,
    offsets: Array,
    covariates: Array,
    slopes: Array,
    lost: Array,
    out: Array,
    low: int,
    high: int,
    width: int,
) -> None:
    """Correct specimens ``low`` to ``high`` of specimens × features, ``width`` features at a time.

    ``out = scales[batch]·x + offsets[cell] + lost[batch]·Σ covariates·slopes``.
    """
    features = values.shape[1]
    terms = covariates.shape[1]
    for left in range(0, features, width):
        right = min(left + width, features)
        for i in range(low, high):
            b, c = codes[i], cells[i]
            if terms == 0:
                for j in range(left, right):
                    out[i, j] = scales[b, j] * values[i, j] + offsets[c, j]
            else:
                for j in range(left, right):
                    kept = 0.0
                    for z in range(terms):
                        kept += covariates[i, z] * slopes[z, j]
                    out[i, j] = scales[b, j] * values[i, j] + (offsets[c, j] + lost[b, j] * kept)


@_compiled
def shift_columns(
    values: Array,
    codes: Array,
    cells: Array,
    scales: Array,
    offsets: Array,
    covariates: Array,
    slopes: Array,
    lost: Array,
    out: Array,
    low: int,
    high: int,
) -> None:
    """Correct features ``low`` to ``high`` of features × specimens."""
    terms = covariates.shape[1]
    for j in range(low, high):
        for i in range(values.shape[1]):
            b = codes[i]
            shift = offsets[cells[i], j]
            if terms:
                kept = 0.0
                for z in range(terms):
                    kept += covariates[i, z] * slopes[z, j]
                shift += lost[b, j] * kept
            out[j, i] = scales[b, j] * values[j, i] + shift


@_compiled
def weigh(
    shifts: Array,
    scales: Array,
    logs: Array,
    halves: Array,
    squares: Array,
    counts: Array,
    new_shifts: Array,
    new_scales: Array,
    low: int,
    high: int,
) -> None:
    """Average shifts and scales over the other features, weighted by likelihood."""
    features = len(shifts)
    logarithms = np.empty(features)
    for i in range(low, high):
        n, square, shift = counts[i], squares[i], shifts[i]
        best = -np.inf
        for j in range(features):
            away = shift - shifts[j]
            value = -n * logs[j] - halves[j] * (square + n * away * away)
            logarithms[j] = value
            if j != i and value > best:
                best = value
        logarithms[i] = -np.inf
        total, shifted, scaled = 0.0, 0.0, 0.0
        for j in range(features):
            away = logarithms[j] - best
            if away > -745.0:  # below that the exponential is zero
                weight = np.exp(away)
                total += weight
                shifted += weight * shifts[j]
                scaled += weight * scales[j]
        new_shifts[i] = shifted / total
        new_scales[i] = scaled / total

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
        shift = shifts[b, low:high]
        total, square = sums[cell, low:high], squares[b, low:high]
        position, end = starts[cell], starts[cell + 1]
        # Slices are vectorised where indices are not; four rows share a visit to the sums.
        while position + 3 < end:
            first = values[order[position], low:high]
            second = values[order[position + 1], low:high]
            third = values[order[position + 2], low:high]
            fourth = values[order[position + 3], low:high]
            for j in range(len(first)):
                above = shift[j]
                d1, d2 = first[j] - above, second[j] - above
                d3, d4 = third[j] - above, fourth[j] - above
                total[j] += (d1 + d2) + (d3 + d4)
                square[j] += (d1 * d1 + d2 * d2) + (d3 * d3 + d4 * d4)
            position += 4
        while position < end:
            first = values[order[position], low:high]
            for j in range(len(first)):
                d1 = first[j] - shift[j]
                total[j] += d1
                square[j] += d1 * d1
            position += 1
        for z in range(centred.shape[1]):
            product = products[b, z, low:high]
            for position in range(starts[cell], starts[cell + 1]):
                weight = centred[order[position], z]
                first = values[order[position], low:high]
                for j in range(len(first)):
                    product[j] += weight * (first[j] - shift[j])


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
        row = values[j]
        for cell in range(len(starts) - 1):
            b = batch_of_cell[cell]
            shift = shifts[b, j]
            members = order[starts[cell] : starts[cell + 1]]
            total, square = 0.0, 0.0
            for i in members:
                above = row[i] - shift
                total += above
                square += above * above
            sums[cell, j] += total
            squares[b, j] += square
            for z in range(centred.shape[1]):
                product = 0.0
                for i in members:
                    product += centred[i, z] * (row[i] - shift)
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
    whole = np.empty(width)  # sums of several terms stay in double precision until the end
    for left in range(0, features, width):
        right = min(left + width, features)
        for i in range(low, high):
            scale, offset = scales[codes[i], left:right], offsets[cells[i], left:right]
            given, to = values[i, left:right], out[i, left:right]
            if terms == 0:
                for j in range(len(given)):
                    to[j] = scale[j] * given[j] + offset[j]
                continue
            loss, line = lost[codes[i], left:right], whole[: right - left]
            for j in range(len(given)):
                line[j] = scale[j] * given[j] + offset[j]
            for z in range(terms):
                weight, slope = covariates[i, z], slopes[z, left:right]
                for j in range(len(line)):
                    line[j] += weight * loss[j] * slope[j]
            for j in range(len(line)):
                to[j] = line[j]


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
    scale, offset = np.empty(scales.shape[0]), np.empty(offsets.shape[0])
    for j in range(low, high):
        scale[:] = scales[:, j]
        offset[:] = offsets[:, j]
        given, to = values[j], out[j]
        if terms == 0:
            for i in range(len(given)):
                to[i] = scale[codes[i]] * given[i] + offset[cells[i]]
            continue
        for i in range(len(given)):
            kept = 0.0
            for z in range(terms):
                kept += covariates[i, z] * slopes[z, j]
            to[i] = scale[codes[i]] * given[i] + (offset[cells[i]] + lost[codes[i], j] * kept)


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

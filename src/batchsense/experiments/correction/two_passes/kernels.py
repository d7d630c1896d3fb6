"""The two passes over the data, compiled: sums of a tile of features, correction of a block.

Each function works on a piece and releases the interpreter's lock, so plain threads run the pieces
side by side. Arithmetic is in double precision whatever the type of the data. Importing this
module loads numba.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from batchsense.experiments.correction.two_passes.compiling import compiled

Array = Any


@compiled
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
    at: int,
    low: int,
    high: int,
) -> None:
    """Sum features ``low`` to ``high`` of specimens × features, which begin with ``at``, in place.

    Adds to ``sums`` (cells, features), ``squares`` (batches, features) and ``products`` (batches,
    covariates, features) what lies above ``shifts`` (batches, features). Eight rows are read side
    by side: that many streams fill the memory bus, and they share a visit to the sums. Slices are
    vectorised where indices are not. Without covariates ``centred`` is None, and what would use
    them is not compiled.
    """
    left, right = low - at, high - at
    for cell in range(len(starts) - 1):
        b = batch_of_cell[cell]
        shift = shifts[b, low:high]
        total, square = sums[cell, low:high], squares[b, low:high]
        position, end = starts[cell], starts[cell + 1]
        while position < end:
            stop = min(position + 8, end)
            if stop - position == 8:
                r1 = values[order[position], left:right]
                r2 = values[order[position + 1], left:right]
                r3 = values[order[position + 2], left:right]
                r4 = values[order[position + 3], left:right]
                r5 = values[order[position + 4], left:right]
                r6 = values[order[position + 5], left:right]
                r7 = values[order[position + 6], left:right]
                r8 = values[order[position + 7], left:right]
                for j in range(len(r1)):
                    above = shift[j]
                    d1, d2, d3, d4 = r1[j] - above, r2[j] - above, r3[j] - above, r4[j] - above
                    d5, d6, d7, d8 = r5[j] - above, r6[j] - above, r7[j] - above, r8[j] - above
                    total[j] += d1 + d2 + d3 + d4 + d5 + d6 + d7 + d8
                    square[j] += d1 * d1 + d2 * d2 + d3 * d3 + d4 * d4
                    square[j] += d5 * d5 + d6 * d6 + d7 * d7 + d8 * d8
            else:
                for p in range(position, stop):
                    r1 = values[order[p], left:right]
                    for j in range(len(r1)):
                        d1 = r1[j] - shift[j]
                        total[j] += d1
                        square[j] += d1 * d1
            if centred is not None:
                for z in range(centred.shape[1]):
                    product = products[b, z, low:high]
                    for p in range(position, stop, 4):
                        # A row that is not there stands in with weight 0 for the one before.
                        a2, a3 = min(p + 1, stop - 1), min(p + 2, stop - 1)
                        a4 = min(p + 3, stop - 1)
                        w1 = centred[order[p], z]
                        w2 = centred[order[a2], z] * (p + 1 < stop)
                        w3 = centred[order[a3], z] * (p + 2 < stop)
                        w4 = centred[order[a4], z] * (p + 3 < stop)
                        r1, r2 = values[order[p], left:right], values[order[a2], left:right]
                        r3, r4 = values[order[a3], left:right], values[order[a4], left:right]
                        for j in range(len(r1)):
                            above = shift[j]
                            d1, d2 = r1[j] - above, r2[j] - above
                            d3, d4 = r3[j] - above, r4[j] - above
                            product[j] += w1 * d1 + w2 * d2 + w3 * d3 + w4 * d4
            position = stop


@compiled
def in_order(indices: Array, starts: Array, features: int) -> bool:
    """Whether the columns of each row of a sparse matrix ascend, and exist."""
    if starts[0] != 0 or starts[-1] != len(indices):
        return False
    for i in range(len(starts) - 1):
        own = indices[max(starts[i], 0) : max(starts[i + 1], 0)]
        falls = 0 if starts[i] <= starts[i + 1] else 1
        for k in range(1, len(own)):
            falls += own[k] <= own[k - 1]
        if falls or (len(own) and (own[0] < 0 or own[-1] >= features)):
            return False
    return True


@compiled
def unfold(
    data: Array, indices: Array, starts: Array, rows: Array, low: int, high: int, out: Array
) -> None:
    """Put features ``low`` to ``high`` of rows of a sparse matrix into ``out``, with zeros."""
    for place in range(len(rows)):
        line = out[place]
        line[:] = 0.0
        start, stop = starts[rows[place]], starts[rows[place] + 1]
        start += np.searchsorted(indices[start:stop], low)
        for k in range(start, stop):
            if indices[k] >= high:
                break
            line[indices[k] - low] = data[k]


@compiled
def mix(data: Array, indices: Array, starts: Array, to: Array, signs: Array, sums: Array) -> None:
    """Add each row of a sparse matrix, with its sign, to a row of ``sums``."""
    for i in range(len(to)):
        line, sign = sums[to[i]], signs[i]
        for k in range(starts[i], starts[i + 1]):
            line[indices[k]] += sign * data[k]


@compiled
def times(
    data: Array,
    indices: Array,
    starts: Array,
    columns: Array,
    weights: Array,
    out: Array,
    lengths: Array,
) -> None:
    """Multiply rows of a sparse matrix with some columns; the squared lengths of weighted rows."""
    for i in range(len(starts) - 1):
        line, length = out[i], 0.0
        for k in range(starts[i], starts[i + 1]):
            value, column = data[k], columns[indices[k]]
            length += (value * weights[indices[k]]) ** 2
            for c in range(len(line)):
                line[c] += value * column[c]
        lengths[i] = length


@compiled
def sum_folded(
    data: Array,
    indices: Array,
    places: Array,
    room: Array,
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
    """Do the same for a sparse matrix, eight rows of which are unfolded at a time, in ``room``."""
    still, ends = np.arange(8), np.zeros(2, dtype=np.int64)
    for cell in range(len(starts) - 1):
        own = sums[cell : cell + 1], squares, products, low, low, high
        batch = batch_of_cell[cell : cell + 1]
        for start in range(starts[cell], starts[cell + 1], 8):
            rows = order[start : min(start + 8, starts[cell + 1])]
            ends[1] = len(rows)
            unfold(data, indices, places, rows, low, high, room)
            if centred is None:
                sum_rows(room, still, ends, batch, None, shifts, *own)
            else:
                sum_rows(room, still, ends, batch, centred[rows], shifts, *own)


@compiled
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
            if centred is not None:
                for z in range(centred.shape[1]):
                    product = 0.0
                    for i in members:
                        product += centred[i, z] * (row[i] - shift)
                    products[b, z, j] += product


@compiled
def shift_rows(
    values: Array,
    order: Array,
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
    """Correct the specimens at places ``low`` to ``high`` of an order that keeps cells together.

    ``out = scales[batch]·x + offsets[cell] + lost[batch]·Σ covariates·slopes``, for specimens ×
    features; without the last part where ``covariates`` is None.
    """
    if covariates is not None:
        line = np.empty(values.shape[1])  # sums of terms stay in double precision
        for i in order[low:high]:
            scale, offset, loss = scales[codes[i]], offsets[cells[i]], lost[codes[i]]
            given, to = values[i], out[i]
            for j in range(len(line)):
                line[j] = scale[j] * given[j] + offset[j]
            for z in range(covariates.shape[1]):
                weight, slope = covariates[i, z], slopes[z]
                for j in range(len(line)):
                    line[j] += weight * loss[j] * slope[j]
            for j in range(len(line)):
                to[j] = line[j]
        return
    position = low
    while position < high:
        i = order[position]
        scale, offset = scales[codes[i]], offsets[cells[i]]
        given, to = values[i], out[i]
        if position + 3 < high and cells[order[position + 3]] == cells[i]:
            given2, to2 = values[order[position + 1]], out[order[position + 1]]
            given3, to3 = values[order[position + 2]], out[order[position + 2]]
            given4, to4 = values[order[position + 3]], out[order[position + 3]]
            for j in range(len(given)):
                times, plus = scale[j], offset[j]
                to[j] = times * given[j] + plus
                to2[j] = times * given2[j] + plus
                to3[j] = times * given3[j] + plus
                to4[j] = times * given4[j] + plus
            position += 4
        else:
            for j in range(len(given)):
                to[j] = scale[j] * given[j] + offset[j]
            position += 1


@compiled
def shift_rows_in_place(
    values: Array,
    order: Array,
    codes: Array,
    cells: Array,
    scales: Array,
    offsets: Array,
    low: int,
    high: int,
) -> None:
    """Do the same without covariates, into the values themselves.

    Where input and output are one array, the code above would run without vectors.
    """
    position = low
    while position < high:
        i = order[position]
        scale, offset = scales[codes[i]], offsets[cells[i]]
        one = values[i]
        if position + 3 < high and cells[order[position + 3]] == cells[i]:
            two, three = values[order[position + 1]], values[order[position + 2]]
            four = values[order[position + 3]]
            for j in range(len(one)):
                times, plus = scale[j], offset[j]
                one[j] = times * one[j] + plus
                two[j] = times * two[j] + plus
                three[j] = times * three[j] + plus
                four[j] = times * four[j] + plus
            position += 4
        else:
            for j in range(len(one)):
                one[j] = scale[j] * one[j] + offset[j]
            position += 1


@compiled
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
    scale, offset = np.empty(scales.shape[0]), np.empty(offsets.shape[0])
    for j in range(low, high):
        scale[:] = scales[:, j]
        offset[:] = offsets[:, j]
        given, to = values[j], out[j]
        for i in range(len(given)):
            plus = offset[cells[i]]
            if covariates is not None:
                kept = 0.0
                for z in range(covariates.shape[1]):
                    kept += covariates[i, z] * slopes[z, j]
                plus += lost[codes[i], j] * kept
            to[i] = scale[codes[i]] * given[i] + plus


@compiled
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

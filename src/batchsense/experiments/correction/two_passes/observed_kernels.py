"""The first pass over features with missing values, compiled: sums of what was observed.

As in :mod:`~batchsense.experiments.correction.two_passes.kernels`, a function works on a tile of
features and releases the interpreter's lock.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from batchsense.experiments.correction.two_passes.compiling import compiled

Array = Any


@compiled
def sum_observed(
    values: Array,
    at: int,
    order: Array,
    starts: Array,
    batch_of_cell: Array,
    shifts: Array,
    sums: Array,
    squares: Array,
    counts: Array,
    low: int,
    high: int,
) -> None:
    """Sum what was observed in columns ``at`` and following of specimens × features.

    Adds to ``sums`` and ``squares``, features ``low`` to ``high``, as ``sum_rows`` does, and to
    ``counts`` (cells, features) how many values there were. What lies above the shift of a missing
    value is missing, and counts as zero.
    """
    width = high - low
    for cell in range(len(starts) - 1):
        b = batch_of_cell[cell]
        shift, square = shifts[b, low:high], squares[b, low:high]
        total, count = sums[cell, low:high], counts[cell, low:high]
        position, end = starts[cell], starts[cell + 1]
        while position + 3 < end:
            r1 = values[order[position], at : at + width]
            r2 = values[order[position + 1], at : at + width]
            r3 = values[order[position + 2], at : at + width]
            r4 = values[order[position + 3], at : at + width]
            for j in range(width):
                above = shift[j]
                d1, d2, d3, d4 = r1[j] - above, r2[j] - above, r3[j] - above, r4[j] - above
                s1, s2 = 1.0 if d1 == d1 else 0.0, 1.0 if d2 == d2 else 0.0
                s3, s4 = 1.0 if d3 == d3 else 0.0, 1.0 if d4 == d4 else 0.0
                d1, d2 = d1 if d1 == d1 else 0.0, d2 if d2 == d2 else 0.0
                d3, d4 = d3 if d3 == d3 else 0.0, d4 if d4 == d4 else 0.0
                count[j] += s1 + s2 + s3 + s4
                total[j] += d1 + d2 + d3 + d4
                square[j] += d1 * d1 + d2 * d2 + d3 * d3 + d4 * d4
            position += 4
        for i in order[position:end]:
            r1 = values[i, at : at + width]
            for j in range(width):
                d1 = r1[j] - shift[j]
                count[j] += 1.0 if d1 == d1 else 0.0
                d1 = d1 if d1 == d1 else 0.0
                total[j] += d1
                square[j] += d1 * d1


@compiled
def sum_observed_covariates(
    values: Array,
    at: int,
    order: Array,
    starts: Array,
    batch_of_cell: Array,
    centred: Array,
    shifts: Array,
    products: Array,
    first: Array,
    second: Array,
    low: int,
    high: int,
) -> None:
    """Sum the covariates of what was observed, their products with it and with each other.

    Adds to ``products`` and ``first`` (batches, covariates, features), and to the lower half of
    ``second`` (batches, covariates, covariates, features). Four specimens share a visit to the
    sums; where fewer are left, the others weigh nothing.
    """
    width, terms = high - low, centred.shape[1]
    kept = np.zeros((4, terms))
    d1, d2, d3, d4 = np.empty(width), np.empty(width), np.empty(width), np.empty(width)
    s1, s2, s3, s4 = np.empty(width), np.empty(width), np.empty(width), np.empty(width)
    for cell in range(len(starts) - 1):
        b, end = batch_of_cell[cell], starts[cell + 1]
        shift = shifts[b, low:high]
        for position in range(starts[cell], end, 4):
            r1 = values[order[position], at : at + width]
            r2 = values[order[min(position + 1, end - 1)], at : at + width]
            r3 = values[order[min(position + 2, end - 1)], at : at + width]
            r4 = values[order[min(position + 3, end - 1)], at : at + width]
            for j in range(width):
                above = shift[j]
                a1, a2, a3, a4 = r1[j] - above, r2[j] - above, r3[j] - above, r4[j] - above
                s1[j], s2[j] = 1.0 if a1 == a1 else 0.0, 1.0 if a2 == a2 else 0.0
                s3[j], s4[j] = 1.0 if a3 == a3 else 0.0, 1.0 if a4 == a4 else 0.0
                d1[j], d2[j] = a1 if a1 == a1 else 0.0, a2 if a2 == a2 else 0.0
                d3[j], d4[j] = a3 if a3 == a3 else 0.0, a4 if a4 == a4 else 0.0
            for lane in range(4):
                there = position + lane < end
                for z in range(terms):
                    kept[lane, z] = centred[order[position + lane], z] if there else 0.0
            for z in range(terms):
                k1, k2, k3, k4 = kept[0, z], kept[1, z], kept[2, z], kept[3, z]
                product, weight = products[b, z, low:high], first[b, z, low:high]
                for j in range(width):
                    product[j] += k1 * d1[j] + k2 * d2[j] + k3 * d3[j] + k4 * d4[j]
                    weight[j] += k1 * s1[j] + k2 * s2[j] + k3 * s3[j] + k4 * s4[j]
                for y in range(z + 1):
                    p1, p2 = k1 * kept[0, y], k2 * kept[1, y]
                    p3, p4 = k3 * kept[2, y], k4 * kept[3, y]
                    pair = second[b, z, y, low:high]
                    for j in range(width):
                        pair[j] += p1 * s1[j] + p2 * s2[j] + p3 * s3[j] + p4 * s4[j]

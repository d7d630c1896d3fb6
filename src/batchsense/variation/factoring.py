"""The numerics under linear models: rank, basis and null space of a design."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg

from batchsense.arrays import Floats
from batchsense.variation.aliasing import CANCELLED, NEGLIGIBLE, echelon_from_right, with_mean_zero

#: The constant counts as part of the column space if no more than this of it is left over.
CONSTANT_LEFT = 1e-12


@dataclass(frozen=True, slots=True)
class Factors:
    """Basis Q (observations, rank), S with design·S = Q, null vectors on columns / scales."""

    basis: Floats
    solution: Floats
    null: Floats
    scales: Floats
    has_constant: bool


def factorise(matrix: Floats, tolerance: float) -> Factors:
    """Factor the columns at norm 1, around their means where the constant lies in their span."""
    constant = _constant_combination(matrix, tolerance)
    negligible = max(NEGLIGIBLE, 10.0 * tolerance)
    if constant is None:
        scales = column_norms(matrix)
        basis, solution, null = pivoted(matrix / scales, tolerance)
        null = echelon_from_right(null, negligible)
        return Factors(basis, solution / scales[:, None], null, scales, False)
    means, centred = centre_columns(matrix)
    level = np.where(means != 0, np.abs(means), 1.0)
    scales = np.where(centred.any(axis=0), column_norms(centred), level)
    basis, solution, null = pivoted(centred / scales, tolerance)
    solution /= scales[:, None]
    solution -= np.outer(constant, means @ solution)
    share = len(matrix) ** -0.5
    basis = np.hstack([np.full((len(matrix), 1), share), basis])
    solution = np.hstack([constant[:, None] * share, solution])
    null = echelon_from_right(null, negligible)
    null = with_mean_zero(null, means / scales, max(CANCELLED, tolerance / 10.0))
    return Factors(basis, solution, null, scales, True)


def pivoted(scaled: Floats, tolerance: float) -> tuple[Floats, Floats, Floats]:
    """Split scaled columns into basis Q, solution S (scaled·S = Q) and null vectors (rows)."""
    columns = scaled.shape[1]
    q, r, order = linalg.qr(scaled, mode="economic", pivoting=True)
    diagonal = np.abs(np.diagonal(r))
    largest = diagonal[0] if len(diagonal) else 0.0
    rank = int((diagonal > tolerance * largest).sum()) if largest > 0 else 0
    solution = np.zeros((columns, rank))
    null = np.zeros((columns - rank, columns))
    null[:, order[rank:]] = np.eye(columns - rank)
    if rank:
        upper = r[:rank, :rank]
        solution[order[:rank]] = linalg.solve_triangular(upper, np.eye(rank))
        null[:, order[:rank]] = -linalg.solve_triangular(upper, r[:rank, rank:]).T
    return q[:, :rank], solution, null


def centre_columns(matrix: Floats) -> tuple[Floats, Floats]:
    """Means and centred columns; a column that is constant up to round-off becomes zero.

    Subtracting the first row beforehand keeps small differences on a large offset exact.
    """
    origin = matrix[0]
    shifted = matrix - origin
    means = shifted.mean(axis=0)
    centred = shifted - means
    spread = matrix.max(axis=0) - matrix.min(axis=0)
    centred[:, spread <= 8 * np.finfo(float).eps * np.abs(matrix).max(axis=0)] = 0.0
    return origin + means, centred


def _constant_combination(matrix: Floats, tolerance: float) -> Floats | None:
    """Coefficients whose combination of columns is 1 in every row, if there are any."""
    columns = matrix.shape[1]
    level = np.flatnonzero((matrix == matrix[0]).all(axis=0) & (matrix[0] != 0))
    combination = np.zeros(columns)
    if len(level):
        combination[level[0]] = 1.0 / matrix[0, level[0]]
        return combination
    scales = column_norms(matrix)
    basis, solution, _ = pivoted(matrix / scales, tolerance)
    ones = np.ones(len(matrix))
    effects = basis.T @ ones
    if np.linalg.norm(ones - basis @ effects) > CONSTANT_LEFT * np.sqrt(len(matrix)):
        return None
    return np.asarray(solution @ effects / scales)


def column_norms(matrix: Floats) -> Floats:
    """Norms of the columns, 1 for a column of zeros; scaled, so that none under- or overflows."""
    largest = np.abs(matrix).max(axis=0)
    largest = np.where(largest > 0, largest, 1.0)
    norms = largest * np.linalg.norm(matrix / largest, axis=0)
    return np.where(norms > 0, norms, 1.0)

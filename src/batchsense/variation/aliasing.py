"""Which columns of a design are combinations of others, named as equations.

The null space of the design is reduced to echelon form from the right: in each relation the
*last* column that takes part stands alone on the left of the equation and is expressed by
earlier, independent ones. Such a relation is a minimal one: none of its columns can be left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from batchsense.arrays import Floats

#: Entries of a null vector (for columns of norm 1) below this are round-off.
NEGLIGIBLE = 1e-8
#: A sum below this share of the terms that cancel in it is round-off.
CANCELLED = 1e-11


@dataclass(frozen=True, slots=True)
class Relation:
    """An exact linear relation between columns, ``Σ coefficients·columns = 0``.

    Attributes
    ----------
    terms : tuple of str
        Names of the columns that take part, in the order of the design. The last one is the
        dependent term: the one that stands on the left of the equation.
    coefficients : tuple of float
        One per term; the last is 1.

    Examples
    --------
    >>> print(Relation(("month[July]", "drug[yes]"), (-1.0, 1.0)))
    drug[yes] = month[July]
    >>> print(Relation(("Intercept", "celsius", "fahrenheit"), (-32.0, -1.8, 1.0)))
    fahrenheit = 32*Intercept + 1.8*celsius
    """

    terms: tuple[str, ...]
    coefficients: tuple[float, ...]

    @property
    def dependent(self) -> str:
        """The term on the left of the equation."""
        return self.terms[-1]

    def __str__(self) -> str:
        """Write the relation as an equation, positive terms first."""
        others = [(name, -c) for name, c in zip(self.terms, self.coefficients, strict=True)][:-1]
        ordered = [pair for pair in others if pair[1] > 0] + [p for p in others if p[1] < 0]
        right = ""
        for name, coefficient in ordered:
            sign = "-" if coefficient < 0 else "+"
            lead = {"+": "", "-": "-"}[sign] if not right else f" {sign} "
            size = f"{abs(coefficient):.6g}"
            right += lead + (name if size == "1" else f"{size}*{name}")
        return f"{self.dependent} = {right or '0'}"


def relation(vector: Floats, names: Sequence[str]) -> Relation:
    """Name the nonzero entries of a null vector; the last one is scaled to 1."""
    support = np.flatnonzero(vector)
    scaled = vector[support] / vector[support[-1]]
    return Relation(tuple(names[j] for j in support.tolist()), tuple(float(c) for c in scaled))


def echelon_from_right(rows: Floats, negligible: float = NEGLIGIBLE) -> Floats:
    """Reduce the rows so that each has a 1 in its last nonzero column, where all others have 0.

    Gauss-Jordan elimination from the last column to the first with row exchanges. Entries below
    ``negligible`` times the largest of their row count as zero, and so do sums that cancel.
    """
    reduced = np.array(rows, dtype=np.float64)
    count, columns = reduced.shape
    done = 0
    for column in range(columns - 1, -1, -1):
        if done == count:
            break
        reduced[done:] /= np.abs(reduced[done:]).max(axis=1, keepdims=True)
        best = done + int(np.argmax(np.abs(reduced[done:, column])))
        if abs(reduced[best, column]) <= negligible:
            reduced[done:, column] = 0.0
            continue
        reduced[[done, best]] = reduced[[best, done]]
        reduced[done] /= reduced[done, column]
        others = np.arange(count) != done
        reduced[others] = less(reduced[others], np.outer(reduced[others, column], reduced[done]))
        reduced[others, column] = 0.0
        done += 1
    reduced[np.abs(reduced) <= negligible * np.abs(reduced).max(axis=1, keepdims=True)] = 0.0
    return reduced + 0.0  # turns -0.0 into 0.0


def less(first: Floats, second: Floats) -> Floats:
    """Subtract; a difference that is rounding beside its two terms is zero."""
    difference = first - second
    difference[np.abs(difference) <= CANCELLED * (np.abs(first) + np.abs(second))] = 0.0
    return difference


def with_mean_zero(vectors: Floats, means: Floats, cancelled: float = CANCELLED) -> Floats:
    """Combine null vectors of the centred design into those of the design itself.

    A vector v belongs to the null space of F = F_c + 1·meansᵀ, whose span holds the constant, iff
    F_c v = 0 and means·v = 0. One vector is spent to give the others a mean of zero. What the
    vectors hold is exact by now: an offset of 1e10 makes honest coefficients of 1e-10, so from
    here on only cancellation, not size, makes a zero.
    """
    sizes = np.abs(vectors) @ np.abs(means)
    sums = vectors @ means
    sums[np.abs(sums) <= cancelled * sizes] = 0.0
    spent = int(np.argmax(np.abs(sums) / np.where(sizes > 0, sizes, 1.0)))
    factors = np.delete(sums, spent) / sums[spent]
    kept = less(np.delete(vectors, spent, axis=0), np.outer(factors, vectors[spent]))
    return echelon_from_right(kept, negligible=0.0)


def sparsest(vector: Floats, moves: Sequence[Floats], depth: int) -> Floats:
    """Add multiples of other null vectors where that leaves fewer terms; ``depth`` at a time.

    Greedy, so the result need not be the sparsest of all; it is never longer than ``vector``.
    """
    best = vector
    while True:
        found = _step(best, moves, depth)
        if np.count_nonzero(found) >= np.count_nonzero(best):
            return best
        best = found


def _step(vector: Floats, moves: Sequence[Floats], depth: int) -> Floats:
    """Give the shortest vector that at most ``depth`` eliminations lead to."""
    best = vector
    for move in moves:
        shared = (vector != 0) & (move != 0)
        for ratio in np.unique(vector[shared] / move[shared]):
            candidate = less(vector, ratio * move)
            if depth > 1:
                candidate = _step(candidate, moves, depth - 1)
            if 0 < np.count_nonzero(candidate) < np.count_nonzero(best):
                best = candidate
    return best

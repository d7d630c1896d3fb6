"""Gradients of matrices that multiply: sums of outer products over the places of an example."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from batchsense.training.per_example.contribution import (
    matrix_shape,
    norms_of_rows,
    parts_of,
)

#: Places from which on it pays to compute a symmetric table by halves.
_LEAST_HALF = 32


@dataclass(frozen=True, slots=True)
class OuterProducts:
    r"""The gradient of example i is :math:`\sum_t l_{it} r_{it}^\top`, for each of g groups.

    Its squared norm is Σ_ts (l_t·l_s)(r_t·r_s), which costs T²(rows + columns) multiplications for
    T places, or that of the matrix itself, which costs T·rows·columns. The cheaper one is taken.

    Attributes
    ----------
    left : Tensor of shape (n, groups, places, rows)
        For a linear layer the gradients with respect to its output.
    right : Tensor of shape (n, groups, places, columns)
        For a linear layer its input.
    first_row : int
        Where the rows begin in the parameter, if only some of its rows were used.
    """

    left: Tensor
    right: Tensor
    first_row: int = 0

    @property
    def examples(self) -> int:
        """The number of examples, n."""
        return len(self.left)

    @property
    def rows(self) -> range:
        """The rows of the parameter that were used."""
        return range(self.first_row, self.first_row + self.left.shape[1] * self.left.shape[3])

    def norms(self) -> Tensor:
        """Give the norms, of shape (n,), by the cheaper formula."""
        _, groups, places, rows = self.left.shape
        columns = self.right.shape[3]
        if places == 1:
            left = torch.linalg.vector_norm(self.left, dim=3)
            return norms_of_rows(left.mul_(torch.linalg.vector_norm(self.right, dim=3)))
        if gram_is_cheaper(places, rows, columns):
            return _with_itself(self).clamp_min_(0).sqrt_()
        formed = [
            norms_of_rows(self.left[part].mT @ self.right[part])
            for part in parts_of(self.examples, groups * rows * columns)
        ]
        return torch.cat(formed) if len(formed) > 1 else formed[0]

    def dense(self, shape: torch.Size, part: slice) -> Tensor:
        """Form lᵀr, of shape (part, rows, columns)."""
        rows, columns = matrix_shape(shape)
        formed = (self.left[part].mT @ self.right[part]).flatten(1, 2)
        if formed.shape[1] == rows:
            return formed
        whole = formed.new_zeros((len(formed), rows, columns))
        whole[:, self.rows.start : self.rows.stop] = formed
        return whole

    def projected(self, left: Tensor, right: Tensor) -> Tensor:
        """Give Σ (l·left)(r·right)."""
        _, groups, _, rows = self.left.shape
        used = left[self.rows.start : self.rows.stop].to(self.left.dtype)
        onto_left = self.left @ used.view(groups, rows, 1)
        onto_right = self.right @ right.to(self.right.dtype).unsqueeze(1)
        return (onto_left * onto_right).sum()


def gram_is_cheaper(places: int, rows: int, columns: int) -> bool:
    """Whether the formula with inner products between places needs fewer multiplications.

    Examples
    --------
    >>> gram_is_cheaper(64, 192, 768), gram_is_cheaper(784, 16, 9)
    (True, False)
    """
    return places * (rows + columns) <= rows * columns


def _with_itself(one: OuterProducts) -> Tensor:
    """Give the squared norms, of shape (n,); of two halves' symmetric table, three quarters."""
    examples, groups, places, _ = one.left.shape
    half = places // 2
    if places % 2 or half < _LEAST_HALF:
        return inner(one, one)
    left = one.left.reshape(examples, 2 * groups, half, -1)
    right = one.right.reshape(examples, 2 * groups, half, -1)
    on_diagonal = inner(OuterProducts(left, right), OuterProducts(left, right))
    first = OuterProducts(left[:, ::2], right[:, ::2])
    second = OuterProducts(left[:, 1::2], right[:, 1::2])
    return on_diagonal + 2 * inner(first, second)


def inner(one: OuterProducts, other: OuterProducts) -> Tensor:
    """Give the inner products of two uses of the same rows, of shape (n,)."""
    groups, places = one.left.shape[1:3]
    numbers = 2 * groups * places * other.left.shape[2]
    found = []
    for part in parts_of(one.examples, numbers):
        lefts = one.left[part] @ other.left[part].mT
        rights = one.right[part] @ other.right[part].mT
        found.append(lefts.mul_(rights).flatten(1).sum(1))
    return torch.cat(found) if len(found) > 1 else found[0]

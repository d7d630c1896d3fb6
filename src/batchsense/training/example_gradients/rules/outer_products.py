"""Gradients of matrices that multiply: sums of outer products over the places of an example."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from batchsense.training.example_gradients.contribution import (
    matrix_shape,
    norms_of_rows,
    parts_of,
)


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
            return inner(self, self).clamp_min_(0).sqrt_()
        formed = [
            norms_of_rows(self._formed(part))
            for part in parts_of(self.examples, groups * rows * columns)
        ]
        return torch.cat(formed) if len(formed) > 1 else formed[0]

    def dense(self, shape: torch.Size, part: slice) -> Tensor:
        """Form lᵀr, of shape (part, rows, columns)."""
        rows, columns = matrix_shape(shape)
        formed = self._formed(part).view(-1, len(self.rows), columns)
        if formed.shape[1] == rows:
            return formed
        whole = formed.new_zeros((len(formed), rows, columns))
        whole[:, self.rows.start : self.rows.stop] = formed
        return whole

    def _formed(self, part: slice) -> Tensor:
        """Form lᵀr, of shape (part, groups·rows·columns)."""
        left, right = self.left[part], self.right[part]
        formed = torch.bmm(left.flatten(0, 1).mT, right.flatten(0, 1))
        return formed.view(len(left), -1)

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


def inner(one: OuterProducts, other: OuterProducts) -> Tensor:
    """Give the inner products of two uses of the same rows, of shape (n,)."""
    groups, places = one.left.shape[1:3]
    found = [
        _summed(one.left[part], one.right[part], other.left[part], other.right[part])
        for part in parts_of(one.examples, 2 * groups * places * other.left.shape[2])
    ]
    return torch.cat(found) if len(found) > 1 else found[0]


def _summed(left: Tensor, right: Tensor, other_left: Tensor, other_right: Tensor) -> Tensor:
    """Give Σ (l_t·l'_s)(r_t·r'_s) over groups and places, of shape (n,)."""
    lefts = torch.bmm(left.flatten(0, 1), other_left.flatten(0, 1).mT)
    rights = torch.bmm(right.flatten(0, 1), other_right.flatten(0, 1).mT)
    return lefts.mul_(rights).view(len(left), -1).sum(1)

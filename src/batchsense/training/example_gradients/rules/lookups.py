"""Gradients of tables from which rows are looked up; a row looked up twice collects both."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from batchsense.training.example_gradients.contribution import norms_of_rows
from batchsense.training.example_gradients.rules.outer_products import OuterProducts


@dataclass(frozen=True, slots=True)
class Lookups:
    r"""Row v of the gradient of example i is :math:`\sum_{t: x_{it} = v} r_{it}`.

    Attributes
    ----------
    tokens : integer Tensor of shape (n, places)
        Which row was looked up, x.
    right : Tensor of shape (n, places, columns)
        The gradients with respect to what was found; zero where a row collects no gradient.
    """

    tokens: Tensor
    right: Tensor

    @property
    def examples(self) -> int:
        """The number of examples, n."""
        return len(self.tokens)

    def norms(self) -> Tensor:
        """Sum what each row collects in each example, and take the norm."""
        examples, places, columns = self.right.shape
        if places == 1:
            return norms_of_rows(self.right)
        table = int(self.tokens.max()) + 1 if self.tokens.numel() else 1
        owner = torch.arange(examples, device=self.tokens.device).unsqueeze(1)
        cells, where = torch.unique((self.tokens + owner * table).flatten(), return_inverse=True)
        collected = self.right.new_zeros((len(cells), columns))
        collected.index_add_(0, where, self.right.reshape(-1, columns))
        squares = collected.square_().sum(1)
        return squares.new_zeros(examples).index_add_(0, cells // table, squares).sqrt_()

    def dense(self, shape: torch.Size, part: slice) -> Tensor:
        """Form the tables of gradients, of shape (part, rows, columns)."""
        tokens, right = self.tokens[part], self.right[part]
        rows, columns = shape[0], shape[1]
        owner = torch.arange(len(tokens), device=tokens.device).unsqueeze(1)
        whole = right.new_zeros((len(tokens) * rows, columns))
        whole.index_add_(0, (tokens + owner * rows).flatten(), right.reshape(-1, columns))
        return whole.view(len(tokens), rows, columns)

    def projected(self, left: Tensor, right: Tensor) -> Tensor:
        """Give Σ left[x] (r·right)."""
        return (left.to(self.right.dtype)[self.tokens] * (self.right @ right.to(self.right))).sum()


def inner_with_outer(lookups: Lookups, outer: OuterProducts) -> Tensor:
    r"""Give :math:`\sum_{ts} l_s[x_t] (r_t \cdot r'_s)`, of shape (n,), as for a tied head."""
    left, right = outer.left[:, 0], outer.right[:, 0]
    at = lookups.tokens.unsqueeze(1).expand(-1, left.shape[1], -1)
    return (left.gather(2, at) * (right @ lookups.right.mT)).sum((1, 2))


def inner_of_lookups(one: Lookups, other: Lookups) -> Tensor:
    """Give the inner products of what two uses of the same table collect, of shape (n,)."""
    same = one.tokens.unsqueeze(2) == other.tokens.unsqueeze(1)
    return ((one.right @ other.right.mT) * same).sum((1, 2))

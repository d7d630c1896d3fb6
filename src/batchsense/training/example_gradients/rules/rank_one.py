"""Gradients of linear layers where an example has one place: a single outer product."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from batchsense.training.example_gradients.rules.outer_products import OuterProducts


@dataclass(frozen=True, slots=True)
class RankOne:
    r"""The gradient of example i is :math:`l_i r_i^\top`, of norm :math:`|l_i| |r_i|`.

    Attributes
    ----------
    left : Tensor of shape (n, rows)
        The gradients with respect to the output.
    right : Tensor of shape (n, columns)
        The input.
    left_norms : Tensor of shape (n,)
        Norms of ``left``, which are also those of the bias.
    """

    left: Tensor
    right: Tensor
    left_norms: Tensor

    @property
    def examples(self) -> int:
        """The number of examples, n."""
        return len(self.left)

    def norms(self) -> Tensor:
        """Give |l||r|, of shape (n,)."""
        right_norms: Tensor = torch.linalg.vector_norm(self.right, dim=1)
        return right_norms.mul_(self.left_norms)

    def dense(self, shape: torch.Size, part: slice) -> Tensor:
        """Form the outer products, of shape (part, rows, columns)."""
        return self.left[part].unsqueeze(2) * self.right[part].unsqueeze(1)

    def projected(self, left: Tensor, right: Tensor) -> Tensor:
        """Give Σ (l·left)(r·right)."""
        dtype = self.left.dtype
        return torch.dot(self.left @ left.to(dtype), self.right @ right.to(dtype))

    def as_outer_products(self) -> OuterProducts:
        """Give the same with one place and one group."""
        return OuterProducts(self.left[:, None, None], self.right[:, None, None])

"""Gradients that are cheap to form: biases, scales and anything added to or multiplied with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from batchsense.training.example_gradients.contribution import matrix_shape, norms_of_rows


@dataclass(frozen=True, slots=True)
class View:
    """Which elements of a contiguous parameter a view of it shows, as ``torch.as_strided``."""

    shape: torch.Size
    stride: tuple[int, ...]
    offset: int

    def of(self, values: Tensor) -> Tensor:
        """Show the same elements of every row of ``values``, of shape (n, parameter size)."""
        stride = (values.stride(0), *self.stride)
        return values.as_strided((len(values), *self.shape), stride, self.offset)


@dataclass(frozen=True, slots=True)
class Explicit:
    """The gradients themselves.

    Attributes
    ----------
    gradients : Tensor of shape (n, *shape)
        One gradient for each example, of the parameter or of the part of it that ``view`` shows.
    view : View or None
        The part of the parameter that was used; None for all of it.
    known_norms : Tensor of shape (n,) or None
        Norms of the gradients, where they are known already.
    """

    gradients: Tensor
    view: View | None = None
    known_norms: Tensor | None = None

    @property
    def examples(self) -> int:
        """The number of examples, n."""
        return len(self.gradients)

    def norms(self) -> Tensor:
        """Give √Σ g², of shape (n,)."""
        return norms_of_rows(self.gradients) if self.known_norms is None else self.known_norms

    def dense(self, shape: torch.Size, part: slice) -> Tensor:
        """Put the gradients of the part in their places, of shape (part, rows, columns)."""
        gradients = self.gradients[part]
        matrix = (len(gradients), *matrix_shape(shape))
        if self.view is None:
            return gradients.reshape(matrix)
        whole = gradients.new_zeros((len(gradients), shape.numel()))
        self.view.of(whole).copy_(gradients)
        return whole.view(matrix)

    def projected(self, left: Tensor, right: Tensor) -> Tensor:
        """Give leftᵀ (Σᵢ gᵢ) right."""
        total = self.gradients.sum(0)
        directions = torch.outer(left, right).to(total.dtype)
        if self.view is None:
            return (total * directions.view(total.shape)).sum()
        return (total * self.view.of(directions.view(1, -1))[0]).sum()

"""What one use of a parameter adds to the gradient of each example.

A parameter is seen as a matrix of shape (rows, columns): rows is its first dimension, columns all
others, so a bias is one column. A contribution knows that gradient of every example without
necessarily forming it.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

#: Numbers formed at a time where examples can be treated one after another: 64 MiB in float32.
MOST_NUMBERS = 1 << 24

HALF_PRECISION = (torch.float16, torch.bfloat16)


class Contribution(Protocol):
    """One use's share in the gradient of each example."""

    @property
    def examples(self) -> int:
        """The number of examples, n."""

    def norms(self) -> Tensor:
        """Give the Frobenius norm for each example, of shape (n,)."""

    def dense(self, shape: torch.Size, part: slice) -> Tensor:
        """Form the gradients of some examples, of shape (part, rows, columns)."""

    def projected(self, left: Tensor, right: Tensor) -> Tensor:
        """Give leftᵀ (sum of the examples' gradients) right, a scalar."""


def matrix_shape(shape: torch.Size) -> tuple[int, int]:
    """Give (rows, columns) of a parameter seen as a matrix.

    Examples
    --------
    >>> matrix_shape(torch.Size([8, 3, 5, 5])), matrix_shape(torch.Size([7]))
    ((8, 75), (7, 1))
    """
    rows = shape[0] if shape else 1
    return rows, math.prod(shape[1:])


def parts_of(examples: int, numbers_each: int) -> list[slice]:
    """Cut the examples into parts of at most ``MOST_NUMBERS`` numbers, one example at least.

    Examples
    --------
    >>> parts_of(5, MOST_NUMBERS // 2)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    step = max(1, MOST_NUMBERS // max(1, numbers_each))
    return [slice(start, min(start + step, examples)) for start in range(0, examples, step)]


def precise(values: Tensor) -> Tensor:
    """Widen half precision to float32, in which squares neither overflow nor vanish."""
    return values.float() if values.dtype in HALF_PRECISION else values


def norms_of_rows(values: Tensor) -> Tensor:
    """Give the norm of each example's numbers; ``values`` has shape (n, ...)."""
    flat = values if values.dim() == 2 else values.reshape(len(values), -1)
    norms: Tensor = torch.linalg.vector_norm(flat, dim=1)
    return norms

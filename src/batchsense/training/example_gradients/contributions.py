"""What one use of a parameter adds to the gradient of each example.

A parameter is seen as a matrix of shape (rows, columns): rows is its first dimension, columns all
others, so a bias is one column. A contribution knows that gradient of every example without
necessarily forming it; those of several uses add before the norm is taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Protocol

import torch
from torch import Tensor

#: Numbers formed at a time where examples can be treated one after another: 64 MiB in float32.
#: It bounds what examples times weights would need; other sizes were not compared for speed.
MOST_NUMBERS = 1 << 24

HALF_PRECISION = (torch.float16, torch.bfloat16)


class Contribution(Protocol):
    """One use's share in the gradient of each example; its length is the number of examples, n."""

    def __len__(self) -> int: ...

    def norms(self) -> Tensor:
        """Return the Frobenius norm for each example, of shape (n,)."""

    def dense(self, shape: torch.Size, part: slice) -> Tensor:
        """Form the gradients of some examples, of shape (part, rows, columns)."""

    def projected(self, left: Tensor, right: Tensor) -> Tensor:
        """Return leftᵀ (sum of the examples' gradients) right, a scalar."""


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
    """The gradients themselves, of shape (n, *shape), of a parameter or the ``view`` that was used.

    ``known_norms``, of shape (n,), are their norms where these are known already.
    """

    gradients: Tensor
    view: View | None = None
    known_norms: Tensor | None = None

    def __len__(self) -> int:
        return len(self.gradients)

    def norms(self) -> Tensor:
        """Return √Σ g²."""
        return norms_of_rows(self.gradients) if self.known_norms is None else self.known_norms

    def dense(self, shape: torch.Size, part: slice) -> Tensor:
        """Put the gradients of the part in their places."""
        gradients = self.gradients[part]
        matrix = (len(gradients), *matrix_shape(shape))
        if self.view is None:
            return gradients.reshape(matrix)
        whole = gradients.new_zeros((len(gradients), shape.numel()))
        self.view.of(whole).copy_(gradients)
        return whole.view(matrix)

    def projected(self, left: Tensor, right: Tensor) -> Tensor:
        """Return leftᵀ (Σᵢ gᵢ) right."""
        total = self.gradients.sum(0)
        directions = torch.outer(left, right).to(total.dtype)
        if self.view is None:
            return (total * directions.view(total.shape)).sum()
        return (total * self.view.of(directions.view(1, -1))[0]).sum()


@dataclass(frozen=True, slots=True)
class OuterProducts:
    r"""The gradient of example i is :math:`\sum_t l_{it} r_{it}^\top`, for each of g groups.

    Its squared norm is Σ_ts (l_t·l_s)(r_t·r_s), which costs T²(rows + columns) multiplications for
    T places, or that of the matrix itself, which costs T·rows·columns. The cheaper one is taken.

    For a linear layer ``left``, of shape (n, groups, places, rows), is the gradient with respect to
    its output, and ``right``, of shape (n, groups, places, columns), its input. The rows begin at
    ``first_row`` of the parameter, if only some of them were used.
    """

    left: Tensor
    right: Tensor
    first_row: int = 0

    def __len__(self) -> int:
        return len(self.left)

    @property
    def rows(self) -> range:
        """The rows of the parameter that were used."""
        return range(self.first_row, self.first_row + self.left.shape[1] * self.left.shape[3])

    def norms(self) -> Tensor:
        """Return the norms by the cheaper formula."""
        _, groups, places, rows = self.left.shape
        columns = self.right.shape[3]
        if places == 1:
            left = torch.linalg.vector_norm(self.left, dim=3)
            return norms_of_rows(left.mul_(torch.linalg.vector_norm(self.right, dim=3)))
        if gram_is_cheaper(places, rows, columns):
            return inner(self, self).clamp_min_(0).sqrt_()
        formed = [
            norms_of_rows(self._formed(part))
            for part in parts_of(len(self), groups * rows * columns)
        ]
        return torch.cat(formed) if len(formed) > 1 else formed[0]

    def dense(self, shape: torch.Size, part: slice) -> Tensor:
        """Form lᵀr."""
        rows, columns = matrix_shape(shape)
        formed = self._formed(part).view(-1, len(self.rows), columns)
        if formed.shape[1] == rows:
            return formed
        whole = formed.new_zeros((len(formed), rows, columns))
        whole[:, self.rows.start : self.rows.stop] = formed
        return whole

    def _formed(self, part: slice) -> Tensor:
        left, right = self.left[part], self.right[part]
        formed = torch.bmm(left.flatten(0, 1).mT, right.flatten(0, 1))
        return formed.view(len(left), -1)

    def projected(self, left: Tensor, right: Tensor) -> Tensor:
        """Return Σ (l·left)(r·right)."""
        _, groups, _, rows = self.left.shape
        used = left[self.rows.start : self.rows.stop].to(self.left.dtype)
        onto_left = self.left @ used.view(groups, rows, 1)
        onto_right = self.right @ right.to(self.right.dtype).unsqueeze(1)
        return (onto_left * onto_right).sum()


@dataclass(frozen=True, slots=True)
class RankOne:
    r"""The gradient of example i is :math:`l_i r_i^\top`, of norm :math:`|l_i| |r_i|`.

    For a linear layer where an example has one place ``left``, of shape (n, rows), is the gradient
    with respect to the output, with ``left_norms`` that the bias shares, and ``right`` the input.
    """

    left: Tensor
    right: Tensor
    left_norms: Tensor

    def __len__(self) -> int:
        return len(self.left)

    def norms(self) -> Tensor:
        """Return |l||r|."""
        right_norms: Tensor = torch.linalg.vector_norm(self.right, dim=1)
        return right_norms.mul_(self.left_norms)

    def dense(self, shape: torch.Size, part: slice) -> Tensor:
        """Form the outer products."""
        return self.left[part].unsqueeze(2) * self.right[part].unsqueeze(1)

    def projected(self, left: Tensor, right: Tensor) -> Tensor:
        """Return Σ (l·left)(r·right)."""
        dtype = self.left.dtype
        return torch.dot(self.left @ left.to(dtype), self.right @ right.to(dtype))

    def as_outer_products(self) -> OuterProducts:
        """Return the same with one place and one group."""
        return OuterProducts(self.left[:, None, None], self.right[:, None, None])


@dataclass(frozen=True, slots=True)
class Lookups:
    r"""Row v of the gradient of example i is :math:`\sum_{t: x_{it} = v} r_{it}`.

    ``tokens``, x of shape (n, places), are the rows looked up, and ``right``, r of shape (n,
    places, columns), the gradients with respect to what was found; zero where a row collects none.
    """

    tokens: Tensor
    right: Tensor

    def __len__(self) -> int:
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
        """Form the tables of gradients."""
        tokens, right = self.tokens[part], self.right[part]
        rows, columns = shape[0], shape[1]
        owner = torch.arange(len(tokens), device=tokens.device).unsqueeze(1)
        whole = right.new_zeros((len(tokens) * rows, columns))
        whole.index_add_(0, (tokens + owner * rows).flatten(), right.reshape(-1, columns))
        return whole.view(len(tokens), rows, columns)

    def projected(self, left: Tensor, right: Tensor) -> Tensor:
        """Return Σ left[x] (r·right)."""
        return (left.to(self.right.dtype)[self.tokens] * (self.right @ right.to(self.right))).sum()


def combined_norms(uses: Sequence[Contribution], shape: torch.Size) -> Tensor:
    r"""Return :math:`\bigl|\sum_u g_i^{(u)}\bigr|` for each example over the uses of a parameter.

    There is one use at least, all are of the same n examples; ``shape`` is the parameter's.
    """
    if len(uses) == 1:
        return uses[0].norms()
    uses = [use.as_outer_products() if isinstance(use, RankOne) else use for use in uses]
    outer = [use for use in uses if isinstance(use, OuterProducts)]
    if len(outer) == len(uses) and _disjoint(outer):
        return norms_of_rows(torch.stack([use.norms() for use in uses], dim=1))
    if _by_inner_products(uses, shape):
        alone = torch.stack([use.norms().square() for use in uses]).sum(0)
        between = torch.stack([_inner(one, other) for one, other in combinations(uses, 2)]).sum(0)
        return (alone + 2 * between).clamp_min_(0).sqrt_()
    rows, columns = matrix_shape(shape)
    summed = []
    for part in parts_of(len(uses[0]), rows * columns):
        total = uses[0].dense(shape, part)
        for use in uses[1:]:
            total = total + use.dense(shape, part)
        summed.append(norms_of_rows(total))
    return torch.cat(summed)


def _disjoint(uses: Sequence[OuterProducts]) -> bool:
    ranges = sorted((use.rows for use in uses), key=lambda rows: rows.start)
    return all(a.stop <= b.start for a, b in pairwise(ranges))


def _by_inner_products(uses: Sequence[Contribution], shape: torch.Size) -> bool:
    rows, columns = matrix_shape(shape)
    places = 0
    for use in uses:
        if isinstance(use, Lookups):
            places += use.tokens.shape[1]
        elif isinstance(use, OuterProducts) and use.left.shape[1] == 1 and len(use.rows) == rows:
            places += use.left.shape[2]
        else:
            return False
    return gram_is_cheaper(places, rows, columns)


def _inner(one: Contribution, other: Contribution) -> Tensor:
    if isinstance(one, Lookups):
        if isinstance(other, Lookups):
            return inner_of_lookups(one, other)
        assert isinstance(other, OuterProducts)
        return inner_with_outer(one, other)
    assert isinstance(one, OuterProducts)
    if isinstance(other, Lookups):
        return inner_with_outer(other, one)
    assert isinstance(other, OuterProducts)
    return inner(one, other)


def gram_is_cheaper(places: int, rows: int, columns: int) -> bool:
    """Whether the formula with inner products between places needs fewer multiplications.

    >>> gram_is_cheaper(64, 192, 768), gram_is_cheaper(784, 16, 9)
    (True, False)
    """
    return places * (rows + columns) <= rows * columns


def inner(one: OuterProducts, other: OuterProducts) -> Tensor:
    """Return the inner products of two uses of the same rows, of shape (n,)."""
    groups, places = one.left.shape[1:3]
    found = [
        _summed(one.left[part], one.right[part], other.left[part], other.right[part])
        for part in parts_of(len(one), 2 * groups * places * other.left.shape[2])
    ]
    return torch.cat(found) if len(found) > 1 else found[0]


def _summed(left: Tensor, right: Tensor, other_left: Tensor, other_right: Tensor) -> Tensor:
    lefts = torch.bmm(left.flatten(0, 1), other_left.flatten(0, 1).mT)
    rights = torch.bmm(right.flatten(0, 1), other_right.flatten(0, 1).mT)
    return lefts.mul_(rights).view(len(left), -1).sum(1)


def inner_with_outer(lookups: Lookups, outer: OuterProducts) -> Tensor:
    r"""Return :math:`\sum_{ts} l_s[x_t] (r_t \cdot r'_s)`, of shape (n,), as for a tied head."""
    left, right = outer.left[:, 0], outer.right[:, 0]
    at = lookups.tokens.unsqueeze(1).expand(-1, left.shape[1], -1)
    return (left.gather(2, at) * (right @ lookups.right.mT)).sum((1, 2))


def inner_of_lookups(one: Lookups, other: Lookups) -> Tensor:
    """Return the inner products of what two uses of one table collect, of shape (n,)."""
    same = one.tokens.unsqueeze(2) == other.tokens.unsqueeze(1)
    return ((one.right @ other.right.mT) * same).sum((1, 2))


def matrix_shape(shape: torch.Size) -> tuple[int, int]:
    """Return (rows, columns) of a parameter seen as a matrix.

    >>> matrix_shape(torch.Size([8, 3, 5, 5])), matrix_shape(torch.Size([7]))
    ((8, 75), (7, 1))
    """
    rows = shape[0] if shape else 1
    return rows, math.prod(shape[1:])


def parts_of(examples: int, numbers_each: int, most: int | None = None) -> list[slice]:
    """Cut the examples into parts of at most ``most`` numbers, one example at least.

    >>> parts_of(5, MOST_NUMBERS // 2)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    step = max(1, (most or MOST_NUMBERS) // max(1, numbers_each))
    return [slice(start, min(start + step, examples)) for start in range(0, examples, step)]


def precise(values: Tensor) -> Tensor:
    """Widen half precision to float32, in which squares neither overflow nor vanish."""
    return values.float() if values.dtype in HALF_PRECISION else values


def norms_of_rows(values: Tensor) -> Tensor:
    """Return the norm of each example's numbers; ``values`` has shape (n, ...)."""
    flat = values if values.dim() == 2 else values.reshape(len(values), -1)
    norms: Tensor = torch.linalg.vector_norm(flat, dim=1)
    return norms

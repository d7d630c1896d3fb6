"""A parameter used more than once: its gradients add before their norm is taken."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import TypeGuard

import torch
from torch import Tensor

from batchsense.training.example_gradients.contribution import (
    Contribution,
    matrix_shape,
    norms_of_rows,
    parts_of,
)
from batchsense.training.example_gradients.rules.lookups import (
    Lookups,
    inner_of_lookups,
    inner_with_outer,
)
from batchsense.training.example_gradients.rules.outer_products import (
    OuterProducts,
    gram_is_cheaper,
    inner,
)
from batchsense.training.example_gradients.rules.rank_one import RankOne


def combined_norms(uses: Sequence[Contribution], shape: torch.Size) -> Tensor:
    r"""Give :math:`\bigl|\sum_u g_i^{(u)}\bigr|` for each example over the uses of a parameter.

    Parameters
    ----------
    uses : sequence of Contribution
        At least one; all of the same n examples.
    shape : torch.Size
        The parameter's.

    Returns
    -------
    Tensor of shape (n,)
        In the precision of the contributions.

    Examples
    --------
    A 1×1 matrix used twice, with gradients 2·3 and 1·4.

    >>> use = lambda left, right: OuterProducts(
    ...     torch.full((1, 1, 1, 1), left), torch.full((1, 1, 1, 1), right)
    ... )
    >>> combined_norms([use(2.0, 3.0), use(1.0, 4.0)], torch.Size([1, 1])).item()
    10.0
    """
    if len(uses) == 1:
        return uses[0].norms()
    uses = [use.as_outer_products() if isinstance(use, RankOne) else use for use in uses]
    if _all_outer(uses) and _disjoint(uses):
        return norms_of_rows(torch.stack([use.norms() for use in uses], dim=1))
    if _by_inner_products(uses, shape):
        alone = torch.stack([use.norms().square() for use in uses]).sum(0)
        between = torch.stack([_inner(one, other) for one, other in combinations(uses, 2)]).sum(0)
        return (alone + 2 * between).clamp_min_(0).sqrt_()
    rows, columns = matrix_shape(shape)
    summed = []
    for part in parts_of(uses[0].examples, rows * columns):
        total = uses[0].dense(shape, part)
        for use in uses[1:]:
            total = total + use.dense(shape, part)
        summed.append(norms_of_rows(total))
    return torch.cat(summed)


def _all_outer(uses: Sequence[Contribution]) -> TypeGuard[Sequence[OuterProducts]]:
    """Whether every use is a sum of outer products."""
    return all(isinstance(use, OuterProducts) for use in uses)


def _disjoint(uses: Sequence[OuterProducts]) -> bool:
    """Whether no row of the parameter is used twice."""
    ranges = sorted((use.rows for use in uses), key=lambda rows: rows.start)
    return all(a.stop <= b.start for a, b in pairwise(ranges))


def _by_inner_products(uses: Sequence[Contribution], shape: torch.Size) -> bool:
    """Whether inner products between the uses are defined, and cheaper than the matrices."""
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
    """Give the inner products of two uses."""
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

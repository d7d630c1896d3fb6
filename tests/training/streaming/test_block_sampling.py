"""The design effect of pools of blocks, against what it is by definition."""

from itertools import combinations

import numpy as np
import pytest

from batchsense.errors import DataError
from batchsense.training.streaming import design_effect, effective_size, least_pool


def by_enumeration(values, block, pool, size):
    """Variance of the means of all minibatches of all pools, over that of independent rows."""
    blocks = values.reshape(-1, block)
    means = [
        np.mean(rows)
        for chosen in combinations(range(len(blocks)), pool)
        for rows in combinations(blocks[list(chosen)].ravel(), size)
    ]
    return np.mean((np.array(means) - values.mean()) ** 2) / (values.var() / size)


@pytest.mark.parametrize(("block", "pool", "size"), [(3, 2, 4), (2, 3, 3), (4, 2, 8), (2, 6, 5)])
def test_it_is_exact_for_every_table(block, pool, size):
    """Of twelve numbers every possible minibatch is drawn; the formula gives the same ratio."""
    values = np.random.default_rng(block).normal(size=12) + np.repeat([0.0, 2.0, 3.0, 9.0], 3)
    share = values.reshape(-1, block).mean(axis=1).var() / values.var()
    icc = (share - 1 / block) / (1 - 1 / block)

    expected = by_enumeration(values, block, pool, size)

    assert design_effect(icc, size, 12, block, pool) == pytest.approx(expected, rel=1e-9)


def test_the_number_of_blocks_counts_not_that_of_rows():
    """4,096 sorted rows in a pool: 64 blocks of 64 cost a factor of five, 4,096 rows none."""
    assert design_effect(1.0, 256, 10**7, 64, 64) == pytest.approx(4.9, abs=0.1)
    assert design_effect(1.0, 256, 10**7, 1, 4096) == pytest.approx(1.0, abs=1e-3)


def test_the_least_pool_is_the_least():
    """One block less has more than what is allowed."""
    for icc in (0.01, 0.3, 1.0):
        pool = least_pool(icc, 256, 10**6, 16, 1.05)

        assert design_effect(icc, 256, 10**6, 16, pool) <= 1.05
        assert pool == 16 or design_effect(icc, 256, 10**6, 16, pool - 1) > 1.05


def test_a_minibatch_is_worth_what_was_wanted():
    """Divided by its design effect it is the wanted size, within one row."""
    size = effective_size(0.5, 256, 10**6, 8, 1024)

    assert size / design_effect(0.5, size, 10**6, 8, 1024) >= 256
    assert (size - 1) / design_effect(0.5, size - 1, 10**6, 8, 1024) < 256


def test_what_no_pool_can_give_is_not_promised():
    """64 sorted blocks hold about 64 independent rows; more are not to be had."""
    assert effective_size(1.0, 65, 10**6, 64, 64) is None


@pytest.mark.parametrize(
    "call",
    [
        lambda: design_effect(0.5, 256, 1000, 8, 16),
        lambda: least_pool(0.5, 256, 1000, 8, 0.9),
        lambda: least_pool(0.5, 256, 100, 8, 1.05),
    ],
)
def test_impossible_sizes_are_refused(call):
    """A pool smaller than a minibatch, an effect below one, a table too small."""
    with pytest.raises(DataError):
        call()

"""Each row once an epoch, whoever reads, wherever it goes on."""

from itertools import pairwise

import numpy as np
import pytest

from batchsense.training.streaming.order import StreamOrder

#: rows, block, pool, batch size, shares: also more shares than pools, and than rows.
SHAPES = [
    (100, 3, 5, 7, 1), (100, 3, 5, 7, 4), (97, 4, 3, 5, 3), (23, 2, 4, 8, 2),
    (40, 8, 5, 40, 2), (5, 2, 1, 2, 8), (64, 1, 16, 16, 3), (31, 31, 1, 4, 5),
]  # fmt: skip


def sequence(order, share, epoch=0, minibatch=0):
    """The rows of one share from a minibatch on."""
    parts = [order.rows_of(epoch, part) for part in order.parts_from(share, minibatch)]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=int)


@pytest.mark.parametrize("shape", SHAPES)
def test_each_row_once_an_epoch(shape):
    """All shares together have every row once, and none a minibatch more than one more."""
    order = StreamOrder(*shape, seed=2)
    for epoch in (0, 5):
        rows = [sequence(order, share, epoch) for share in range(order.shares)]

        assert sorted(np.concatenate(rows).tolist()) == list(range(order.rows))
    counts = [order.minibatches(share) for share in range(order.shares)]
    assert counts == [-(-len(one) // order.batch_size) for one in rows]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] - counts[-1] <= 1


@pytest.mark.parametrize("shape", SHAPES[:5])
def test_from_any_minibatch_on(shape):
    """What is read from a minibatch on is the rest of what is read from the beginning."""
    order = StreamOrder(*shape, seed=4)
    for share in range(order.shares):
        whole = sequence(order, share, epoch=1)
        for minibatch in range(order.minibatches(share) + 1):
            rest = sequence(order, share, 1, minibatch)

            assert rest.tolist() == whole[minibatch * order.batch_size :].tolist()


def test_full_minibatches_for_all_alike():
    """With drop_last every share has as many, all of them full."""
    order = StreamOrder(103, 4, 3, 5, 4, seed=0, drop_last=True)

    assert {order.minibatches(share) for share in range(4)} == {5}


def test_epochs_and_seeds_differ():
    """Which blocks meet in a pool changes, not only their order within."""
    one = StreamOrder(1000, 10, 10, 32, 1, seed=0)
    other = StreamOrder(1000, 10, 10, 32, 1, seed=1)
    pools = [one.spans(0, 0), one.spans(1, 0), other.spans(0, 0)]

    assert all(a != b for a, b in [pools[:2], pools[1:], pools[::2]])


def test_blocks_are_read_in_the_order_of_the_disk():
    """Rising, and neighbours in one read."""
    spans = StreamOrder(64, 2, 20, 8, 1, seed=3).spans(0, 0)

    assert spans == sorted(spans)
    assert all(high < low for (_, high), (low, _) in pairwise(spans))
    assert sum(high - low for low, high in spans) == 40

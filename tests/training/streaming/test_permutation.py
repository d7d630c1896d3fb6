"""An order of rows that is computed where it is asked for."""

from collections import Counter
from math import factorial

import numpy as np
import pytest
from scipy.stats import chi2

from batchsense.training.streaming.permutation import Permutation


@pytest.mark.parametrize("size", [1, 2, 3, 15, 16, 17, 255, 256, 257, 5000])
def test_everyone_stands_once(size):
    """A bijection of 0 to size - 1, also where size is no power of two."""
    order = Permutation(size, (7, 1)).at(range(size))

    assert sorted(order.tolist()) == list(range(size))


def test_a_place_needs_no_other_place():
    """Asked for alone, in any order, of a table of a billion rows."""
    order = Permutation(10**9, (1,))
    places = np.array([0, 999_999_999, 123_456_789])

    assert order.at(places)[::-1].tolist() == order.at(places[::-1]).tolist()
    assert [int(order.at(one)[0]) for one in places] == order.at(places).tolist()


@pytest.mark.slow
def test_all_orders_of_a_handful_are_alike_frequent():
    """Chi-square over the six orders of three, by 240 keys."""
    counts = Counter(tuple(Permutation(3, (3, key)).at(range(3))) for key in range(240))
    expected = 240 / factorial(3)
    statistic = sum((counts[order] - expected) ** 2 / expected for order in counts)

    assert len(counts) == 6
    assert statistic < chi2.ppf(0.999, 5)


def test_neighbours_are_torn_apart():
    """What follows in the order is no nearer than two rows drawn at random."""
    order = Permutation(100_000, (5,)).at(range(100_000))
    gaps = np.abs(np.diff(order)) / 100_000

    assert abs(gaps.mean() - 1 / 3) < 5 * np.sqrt(1 / 18 / 100_000)
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 5 / np.sqrt(100_000)


def test_another_key_is_another_order():
    """Epochs and seeds, also when they are exchanged."""
    orders = {tuple(Permutation(50, key).at(range(50))) for key in [(0, 1), (1, 0), (0,), (1, 1)]}

    assert len(orders) == 4

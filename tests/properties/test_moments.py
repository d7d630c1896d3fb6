"""Laws of merging: any order and any split give what one pass gives."""

from __future__ import annotations

from functools import reduce

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from batchsense.variation import GroupedMoments, Moments

LAW = settings(derandomize=True, deadline=None, max_examples=200)
offsets = st.sampled_from([0.0, 1e8, -1e8])


@st.composite
def tables(draw: st.DrawFn) -> np.ndarray:
    """Values on a grid of 2^-20, so that an offset of 1e8 leaves them exact."""
    shape = (draw(st.integers(1, 40)), draw(st.integers(1, 3)))
    steps = st.integers(-(2**24), 2**24)
    return draw(arrays.arrays(np.int64, shape, elements=steps)) * 2.0**-20


def split(values: np.ndarray, cuts: list[int]) -> list[np.ndarray]:
    """Cut the rows into pieces; some may be empty."""
    return np.split(values, sorted(cut % (len(values) + 1) for cut in cuts))


def assert_same(found: Moments, expected: Moments) -> None:
    """Counts equal, numbers within 1e-12 (cross products relative to their diagonal)."""
    assert found.count == expected.count
    if expected.count == 0:
        return
    np.testing.assert_allclose(found.weight, expected.weight, rtol=1e-12)
    scale = expected.centred_sum_of_squares
    np.testing.assert_allclose(found.centred_sum_of_squares, scale, rtol=1e-12)
    spread = np.sqrt(scale / expected.weight)
    difference = (found.mean - expected.mean) + (found.remainder - expected.remainder)
    assert (np.abs(difference) <= 1e-12 * (spread + np.abs(expected.mean))).all()
    if expected.cross_products is not None and found.cross_products is not None:
        allowed = 1e-12 * np.sqrt(np.outer(scale, scale))
        assert (np.abs(found.cross_products - expected.cross_products) <= allowed).all()


@LAW
@given(tables(), st.lists(st.integers(0, 40), max_size=6), st.randoms(), offsets)
def test_any_split_in_any_order_equals_one_pass(values, cuts, shuffle, offset) -> None:
    """Pieces merged along a random tree equal one pass to 1e-12, with an offset of 1e8 too."""
    values = values + offset
    pieces = [Moments.of(piece, cross=True) for piece in split(values, cuts)]
    while len(pieces) > 1:
        shuffle.shuffle(pieces)
        pieces.append(pieces.pop() + pieces.pop())

    assert_same(pieces[0], Moments.of(values, cross=True))


@LAW
@given(tables(), st.lists(st.integers(0, 40), max_size=6), st.data(), offsets)
def test_weighted_splits_equal_one_pass(values, cuts, data, offset) -> None:
    """The same with weights, zeros among them."""
    values = values + offset
    weight = st.one_of(st.just(0.0), st.floats(0.01, 100.0))
    weights = np.array(data.draw(st.lists(weight, min_size=len(values), max_size=len(values))))
    pairs = zip(split(values, cuts), split(weights, cuts), strict=True)
    pieces = [Moments.of(piece, part, cross=True) for piece, part in pairs]

    assert_same(reduce(Moments.merge, pieces), Moments.of(values, weights, cross=True))


@LAW
@given(tables(), st.randoms(), offsets)
def test_permuting_rows_changes_nothing(values, shuffle, offset) -> None:
    """Moments know no order."""
    order = list(range(len(values)))
    shuffle.shuffle(order)

    assert_same(Moments.of(values[order] + offset), Moments.of(values + offset))


@LAW
@given(tables(), offsets)
def test_an_offset_moves_the_mean_only(values, offset) -> None:
    """Adding a constant leaves the centred squares as they are."""
    plain, moved = Moments.of(values), Moments.of(values + offset)

    expected = plain.centred_sum_of_squares
    np.testing.assert_allclose(moved.centred_sum_of_squares, expected, rtol=1e-12)
    np.testing.assert_allclose(moved.mean, plain.mean + offset, rtol=1e-15, atol=1e-15)


@LAW
@given(tables(), st.data(), st.lists(st.integers(0, 40), max_size=4), offsets)
def test_groups_merge_like_their_rows(values, data, cuts, offset) -> None:
    """Grouped pieces equal the one pass of each group, under any names of the groups."""
    values = values + offset
    codes = np.array(
        data.draw(st.lists(st.integers(0, 3), min_size=len(values), max_size=len(values)))
    )
    names = np.array(data.draw(st.permutations(["May", "June", "July", "August"])))
    found = GroupedMoments()
    for piece, part in zip(split(values, cuts), split(codes, cuts), strict=True):
        if len(piece):
            found = GroupedMoments.of(piece, names[part]) + found

    for code in np.unique(codes):
        assert_same(found[str(names[code])], Moments.of(values[codes == code]))
    assert_same(found.total(), Moments.of(values))

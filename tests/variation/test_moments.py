"""Moments that merge."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import numpy as np
import pytest

from batchsense.errors import DataError, UnresolvedError
from batchsense.variation import GroupedMoments, Moments, merged_weights


def exact_moments(values: list[float], weights: list[float]) -> tuple[float, float]:
    """Twin: mean and centred squares of one feature in rational numbers."""
    exact = [Fraction(v) for v in values]
    shares = [Fraction(w) for w in weights]
    mean = sum((w * v for w, v in zip(shares, exact, strict=True)), Fraction(0)) / sum(shares)
    squares = sum((w * (v - mean) ** 2 for w, v in zip(shares, exact, strict=True)), Fraction(0))
    return float(mean), float(squares)


@pytest.mark.parametrize("offset", [0.0, 1e8, -1e12])
@pytest.mark.parametrize("weighted", [False, True])
def test_one_pass_equals_rational_arithmetic(offset: float, weighted: bool) -> None:
    """Mean and centred squares are those of exact arithmetic on the same floats, to 1e-13."""
    generator = np.random.default_rng(0)
    values = generator.normal(size=(40, 3)) + offset
    weights = generator.random(40) if weighted else np.ones(40)

    found = Moments.of(values, weights if weighted else None)

    for feature in range(3):
        mean, squares = exact_moments(values[:, feature].tolist(), weights.tolist())
        assert found.mean[feature] == pytest.approx(mean, rel=1e-15)
        assert found.centred_sum_of_squares[feature] == pytest.approx(squares, rel=1e-13)
    assert found.weight == pytest.approx(weights.sum(), rel=1e-15)


def test_ten_thousand_merges_with_an_offset_keep_twelve_digits() -> None:
    """One observation at a time, on an offset of 1e8: still the exact centred squares."""
    values = np.random.default_rng(1).normal(size=3000) + 1e8
    _, squares = exact_moments(values.tolist(), [1.0] * 3000)

    stream = Moments.empty(1)
    for value in values:
        stream = stream.update([value])

    assert stream.count == 3000
    assert stream.centred_sum_of_squares[0] == pytest.approx(squares, rel=1e-12)


def test_cross_products_by_loops() -> None:
    """Covariances of merged pieces equal a double loop over centred features."""
    values = np.random.default_rng(2).normal(size=(30, 4)) + 1e6
    weights = np.random.default_rng(3).integers(0, 4, 30).astype(float)

    pieces = [Moments.of(values[i : i + 7], weights[i : i + 7], cross=True) for i in (0, 7, 14, 21)]
    merged = sum(pieces[1:], pieces[0]).update(values[28:], weights[28:])

    repeated = np.repeat(values, weights.astype(int), axis=0)
    for i in range(4):
        for j in range(4):
            a, b = repeated[:, i], repeated[:, j]
            terms = ((a - a.mean()) * (b - b.mean())).tolist()
            expected = math.fsum(terms) / (len(terms) - 1)
            assert merged.covariance()[i, j] == pytest.approx(expected, abs=1e-9)
    np.testing.assert_allclose(np.diag(merged.covariance()), merged.variance(), rtol=1e-12)


def test_weight_two_is_the_row_twice() -> None:
    """Weights count as repetitions, weight zero as absence."""
    rows = np.array([[1.0, 5.0], [4.0, 2.0], [9.0, 9.0]])

    weighted = Moments.of(rows, [2, 1, 0])
    repeated = Moments.of(rows[[0, 0, 1]])

    np.testing.assert_allclose(weighted.variance(), repeated.variance(), rtol=1e-15)
    np.testing.assert_array_equal(weighted.mean, repeated.mean)
    assert (weighted.count, repeated.count) == (2, 3)
    assert weighted.weight == repeated.weight == 3.0


@pytest.mark.parametrize("kind", [np.float32, np.int16, np.uint8, np.bool_])
def test_narrow_types_are_summed_in_float64(kind: type) -> None:
    """A million equal float32 values have exactly their mean and no variance."""
    values = np.full((1_000_000, 1), 1, dtype=kind)
    if kind is np.float32:
        values = values * np.float32(16777.217)

    found = Moments.of(values)

    assert found.mean.dtype == np.float64
    assert found.mean[0] == float(values[0, 0])
    assert found.centred_sum_of_squares[0] == 0.0


def test_weights_of_arrays_are_those_of_numbers() -> None:
    """Feature by feature, an empty set among them, the weights equal those of single numbers."""
    first, second = np.array([0.0, 0.0, 2.0, 3.0]), np.array([0.0, 4.0, 0.0, 5.0])

    together = np.array(merged_weights(first, second))

    alone = [merged_weights(a, b) for a, b in zip(first.tolist(), second.tolist(), strict=True)]
    np.testing.assert_array_equal(together, np.array(alone).T)


def test_empty_is_neutral() -> None:
    """Merging with nothing changes nothing, from either side and for zero rows."""
    some = Moments.of([[1.0, 2.0], [3.0, 5.0]])

    for merged in (some + Moments.empty(2), Moments.empty(2) + some, some.update(np.empty((0, 2)))):
        np.testing.assert_array_equal(merged.mean, some.mean)
        np.testing.assert_array_equal(merged.variance(), some.variance())


def test_too_little_for_a_variance_is_refused() -> None:
    """One observation has no variance; the answer is not zero and not NaN."""
    with pytest.raises(UnresolvedError, match="no degree of freedom"):
        Moments.of([3.0]).variance()
    assert Moments.of([3.0]).variance(ddof=0)[0] == 0.0


def test_groups_equal_moments_of_their_rows() -> None:
    """Each group, their total and the pooled within equal direct computation."""
    generator = np.random.default_rng(4)
    values = generator.normal(size=(50, 2)) + 1e8
    labels = generator.integers(0, 4, 50)

    found = GroupedMoments()
    for rows in np.array_split(generator.permutation(50), 6):
        found = found.update(values[rows], labels[rows])

    assert sorted(found) == [0, 1, 2, 3]
    for label in found:
        direct = Moments.of(values[labels == label])
        assert found[label].count == direct.count
        np.testing.assert_allclose(found[label].variance(), direct.variance(), rtol=1e-12)
    np.testing.assert_allclose(found.total().variance(), Moments.of(values).variance(), rtol=1e-12)
    squares = sum(Moments.of(values[labels == g]).centred_sum_of_squares for g in range(4))
    np.testing.assert_allclose(found.within().variance(ddof=4), squares / 46, rtol=1e-12)


def test_groups_carry_weights_and_cross_products() -> None:
    """Weights and cross products reach the groups and survive merging."""
    values = np.array([[1.0, 2.0], [3.0, 1.0], [5.0, 4.0], [7.0, 9.0]])
    labels, weights = ["a", "b", "a", "b"], [1.0, 2.0, 3.0, 1.0]

    whole = GroupedMoments.of(values, labels, weights, cross=True)
    parts = GroupedMoments.of(values[:2], labels[:2], weights[:2], cross=True) + GroupedMoments.of(
        values[2:], labels[2:], weights[2:], cross=True
    )

    for label in ("a", "b"):
        np.testing.assert_allclose(whole[label].covariance(), parts[label].covariance())
    expected = np.cov(values.T, fweights=[1, 2, 3, 1])
    np.testing.assert_allclose(parts.total().covariance(), expected)


def test_order_of_the_stream_does_not_matter() -> None:
    """Shuffled pieces merged along a random tree agree to 1e-12 with one pass."""
    values = np.random.default_rng(5).normal(size=(400, 3)) * [1, 1e-3, 1e5] + 1e8
    pieces = [Moments.of(part, cross=True) for part in np.array_split(values, 37)]
    shuffle = random.Random(0)
    while len(pieces) > 1:
        shuffle.shuffle(pieces)
        pieces.append(pieces.pop() + pieces.pop())
    whole = Moments.of(values, cross=True)

    np.testing.assert_allclose(pieces[0].variance(), whole.variance(), rtol=1e-12)
    scale = np.sqrt(np.outer(whole.variance(), whole.variance()))
    difference = np.abs(pieces[0].covariance() - whole.covariance()) / scale
    assert difference.max() < 1e-12


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: Moments.of([[1.0, 2.0], [3.0, np.nan]]), "row 1, column 1 is nan"),
        (lambda: Moments.of([[np.inf]]), "row 0, column 0 is inf"),
        (lambda: Moments.of([[1j]]), "complex"),
        (lambda: Moments.of(3.0), r"shape \(\)"),
        (lambda: Moments.of([[1.0, 2.0], [3.0]]), "must be numbers"),
        (lambda: Moments.of([1e200, 0.0]), "another unit"),
        (lambda: Moments.of([1.0, 2.0], [1.0, -1.0]), "weight 1 is -1.0"),
        (lambda: Moments.of([1.0, 2.0], [1.0]), r"weights of shape \(1,\) for 2"),
        (lambda: Moments.of([1.0]) + Moments.empty(2), "1 features .* 2 features"),
        (lambda: Moments.of([1.0]) + Moments.of([1.0], cross=True), "only one of the two"),
        (lambda: Moments.of([1.0, 2.0]).covariance(), "cross=True"),
        (lambda: GroupedMoments.of([1.0, 2.0], ["a"]), "1 labels for 2"),
        (lambda: GroupedMoments.of([1.0, 2.0], ["a", None]), "missing in rows 1"),
        (lambda: GroupedMoments.of([1.0, np.nan], ["a", "b"]), "row 1, column 0"),
        (lambda: GroupedMoments().total(), "no groups yet"),
    ],
)
def test_bad_input_says_what_and_where(call, text: str) -> None:
    """Every misuse raises DataError with the place."""
    with pytest.raises(DataError, match=text):
        call()


def test_adding_something_else_is_a_type_error() -> None:
    """Moments add to moments only."""
    with pytest.raises(TypeError):
        Moments.of([1.0]) + 1
    with pytest.raises(TypeError):
        GroupedMoments() + 1

"""Relations between columns: how they are found short, and how they read."""

from __future__ import annotations

import numpy as np
import pytest

from batchsense.variation import Relation
from batchsense.variation.aliasing import echelon_from_right, sparsest


@pytest.mark.parametrize(
    ("coefficients", "text"),
    [
        ((-1.0, -1.0, 1.0), "c = a + b"),
        ((1.0, -1.0, 1.0), "c = b - a"),
        ((1.0, 1.0, 1.0), "c = -a - b"),
        ((-2.5, 0.5, 1.0), "c = 2.5*a - 0.5*b"),
        ((-1e-9, -1.0000000000002, 1.0), "c = 1e-09*a + b"),
    ],
)
def test_relations_read_as_equations(coefficients, text: str) -> None:
    """The last term stands on the left; positive terms come first; ones are not written."""
    relation = Relation(("a", "b", "c"), coefficients)

    assert str(relation) == text
    assert relation.dependent == "c"


@pytest.mark.parametrize("seed", range(20))
def test_echelon_rows_span_the_same_space(seed: int) -> None:
    """Reduction keeps the span, and each pivot column holds a single 1."""
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(3, 7))

    reduced = echelon_from_right(rows)

    assert np.linalg.matrix_rank(np.vstack([rows, reduced])) == 3
    last = 6 - np.argmax(reduced[:, ::-1] != 0, axis=1)
    assert sorted(last) == [4, 5, 6]
    np.testing.assert_array_equal(reduced[:, last], np.eye(3))


def test_two_factors_coded_in_full_are_simplified_together() -> None:
    """1 - arm[A] = 1 - day[1] needs both factors' sums to become arm[A] = day[1]."""
    # columns: 1, day[1], day[2], day[3], arm[A], arm[B], arm[C]
    lost = np.array([0.0, 0, -1, -1, 0, 1, 1])
    coding = [np.array([-1.0, 1, 1, 1, 0, 0, 0]), np.array([-1.0, 0, 0, 0, 1, 1, 1])]

    found = sparsest(lost, coding, depth=2)

    np.testing.assert_array_equal(np.flatnonzero(found), [1, 4])
    assert found[1] == -found[4]

"""Labels of any kind become sorted levels and codes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from batchsense.errors import DataError
from batchsense.variation.labels import levels_of, table_of_counts


@pytest.mark.parametrize(
    ("labels", "levels"),
    [
        (["b", "a", "b"], ("a", "b")),
        (np.array([10, 9, 10]), (9, 10)),
        (np.array(["a", 1, "b"], dtype=object), (1, "a", "b")),
        (pd.Categorical(["x", "w", "x"], categories=["x", "w", "unused"]), ("w", "x")),
        (pd.to_datetime(["2024-07-01", "2024-05-01"]), ("2024-05-01", "2024-07-01")),
        (pd.array(["b", "a"], dtype="string"), ("a", "b")),
        ([True, False], (False, True)),
    ],
)
def test_levels_are_sorted_and_decode_to_the_labels(labels, levels) -> None:
    """Numbers sort as numbers, mixed labels by their text, dates as text; codes point back."""
    found = levels_of(labels)

    assert found.levels == levels
    decoded = [str(found.levels[code]) for code in found.codes]
    assert decoded == [str(label)[:10] for label in labels]
    assert found.counts.sum() == len(labels)
    assert (found.indicators.argmax(axis=1) == found.codes).all()


@pytest.mark.parametrize(
    "labels",
    [
        ["a", None],
        [1.0, float("nan")],
        pd.array(["a", pd.NA], dtype="string"),
        pd.to_datetime(["2024-07-01", None]),
        np.array(["a", np.nan], dtype=object),
    ],
)
def test_missing_labels_are_named_by_row(labels) -> None:
    """None, NaN, NA and NaT are all missing; none becomes a level of its own."""
    with pytest.raises(DataError, match="month are missing in rows 1"):
        levels_of(labels, "month")


def test_table_counts_every_pair() -> None:
    """The cross table holds each pair once per observation."""
    rows, columns = levels_of(["a", "b", "a"]), levels_of([2, 1, 2])

    np.testing.assert_array_equal(table_of_counts(rows, columns), [[0, 2], [1, 0]])

"""The forms of the digits, derived again from the order of the rows."""

from __future__ import annotations

import numpy as np
import pytest

from batchsense.datasets import FORM_STARTS, align_forms, form_starts, load_digits
from batchsense.datasets.digits import form_of_rows
from batchsense.errors import DataError

TEMPLATE_HEAD = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] * 3 + [0, 9, 5, 5, 6, 5, 0, 9, 8, 9]


def plain_edit_distance(rows, printed):
    """Compute the edit distance cell by cell."""
    table = list(range(len(printed) + 1))
    for i, row in enumerate(rows, start=1):
        diagonal, table[0] = table[0], i
        for j, digit in enumerate(printed, start=1):
            diagonal, table[j] = (
                table[j],
                min(diagonal + (row != digit), table[j] + 1, table[j - 1] + 1),
            )
    return table[-1]


def test_starts_are_those_of_the_constants():
    """The 14 starts follow from the order of the rows alone, with 24 edits."""
    alignment = align_forms(load_digits().digit)

    assert tuple(alignment.starts.tolist()) == FORM_STARTS
    assert alignment.edits == 24
    assert alignment.template[:40].tolist() == TEMPLATE_HEAD
    assert np.array_equal(load_digits().digit[386:516], alignment.template)
    assert np.bincount(alignment.template).tolist() == [13] * 10


def test_starts_are_unique():
    """Among all best alignments each form begins at one row only: 14 forms, not 13 or 15."""
    digit = load_digits().digit
    edits = {}
    for forms in (13, 14, 15):
        try:
            edits[forms] = align_forms(digit, forms=forms).edits
        except DataError:
            edits[forms] = None  # ambiguous starts

    assert edits[14] == 24
    assert edits[13] is None or edits[13] > 100
    assert edits[15] is None or edits[15] > 100


def test_edits_per_form():
    """Eight forms are exact; the edits of the others add up to 24 (plain loop as reference)."""
    digits = load_digits()
    template = align_forms(digits.digit).template.tolist()
    edits = [
        plain_edit_distance(digits.digit[digits.form_labels == form].tolist(), template)
        for form in range(14)
    ]

    assert edits == [0, 4, 1, 0, 0, 0, 0, 7, 2, 0, 2, 0, 8, 0]


def test_lengths_and_labels():
    """Form lengths are those of the note, and every row belongs to the form that covers it."""
    labels, position = form_of_rows(1797)
    expected = [130, 126, 130, 130, 130, 130, 130, 123, 128, 130, 128, 130, 122, 130]

    assert np.bincount(labels).tolist() == expected
    assert (np.diff(labels) >= 0).all()
    assert [position[labels == form].tolist() for form in range(14)] == [
        list(range(length)) for length in expected
    ]


def test_shuffled_rows_are_refused():
    """Rows in random order hold no repeated form: a typed error, not invented starts."""
    shuffled = np.random.default_rng(0).permutation(load_digits().digit)

    with pytest.raises(DataError, match="order of the file"):
        form_starts(shuffled)


def test_too_few_rows_are_refused():
    """Fewer rows than one form cannot be aligned."""
    with pytest.raises(DataError, match="fewer than one form"):
        form_starts([1, 2, 3])


@pytest.mark.parametrize("lost", [103, 160, 257, 499])
def test_a_lost_row_moves_only_later_starts(lost):
    """One missing row costs one edit and shifts the starts behind it by one."""
    rng = np.random.default_rng(4)
    template = rng.integers(0, 10, 100)
    rows = np.delete(np.tile(template, 6), lost)
    alignment = align_forms(rows, length=100, forms=6)
    expected = [start - (start > lost) for start in range(0, 600, 100)]

    assert alignment.edits == 1
    assert alignment.starts.tolist() == expected

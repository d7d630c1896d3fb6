"""The forms of the digits, derived again from the order of the rows.

The form is the most frequent window of so many digits; the rows are aligned to it, repeated, with
the fewest edits (Wagner and Fischer 1974). With F(i, j) the edit distance of the first i rows to
the first j printed digits and G(i, j) that of the rests, form k may begin at row i exactly if
F(i, length·k) + G(i, length·k) is the least total.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from batchsense.datasets import FORM_STARTS, load_digits
from batchsense.datasets.digits import form_of_rows

#: Digits on the preprinted form: each of the ten thirteen times.
FORM_LENGTH = 130
TEMPLATE_HEAD = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] * 3 + [0, 9, 5, 5, 6, 5, 0, 9, 8, 9]


def align_forms(rows, length=FORM_LENGTH, forms=14):
    """The rows at which each form may begin, the number of edits, and the form."""
    windows = Counter(rows[i : i + length].tobytes() for i in range(len(rows) - length + 1))
    (template, count), (_, second) = windows.most_common(2)
    assert count > second
    template = np.frombuffer(template, dtype=np.int64)
    printed = np.tile(template, forms)
    forward = edit_table(rows, printed)
    # Unit costs only: with substitutions at cost 2 one boundary of the digits becomes ambiguous.
    backward = edit_table(rows[::-1], printed[::-1])[::-1, ::-1]
    edits = int(forward[-1, -1])
    on_best_path = (forward + backward)[:, ::length] == edits
    return [np.flatnonzero(at).tolist() for at in on_best_path.T[:-1]], edits, template


def edit_table(rows, printed):
    """The edit distances of the first i rows and the first j printed digits."""
    columns = np.arange(len(printed) + 1, dtype=np.int32)
    table = np.empty((len(rows) + 1, len(columns)), dtype=np.int32)
    table[0] = columns
    for i, digit in enumerate(rows, start=1):
        best = table[i - 1] + 1
        best[1:] = np.minimum(best[1:], table[i - 1, :-1] + (printed != digit))
        # A missing row costs 1 per column, so d[j] = min over k ≤ j of best[k] + (j - k).
        table[i] = np.minimum.accumulate(best - columns) + columns
    return table


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
    """The 14 starts follow from the order of the rows alone, uniquely, with 24 edits."""
    starts, edits, template = align_forms(load_digits().digit)

    assert starts == [[start] for start in FORM_STARTS]
    assert edits == 24
    assert template[:40].tolist() == TEMPLATE_HEAD
    assert np.array_equal(load_digits().digit[386:516], template)
    assert np.bincount(template).tolist() == [13] * 10


@pytest.mark.parametrize("forms", [13, 15])
def test_there_are_14_forms(forms):
    """Another number of forms leaves starts open, or takes many more edits."""
    starts, edits, _ = align_forms(load_digits().digit, forms=forms)

    assert edits > 100 or any(len(one) > 1 for one in starts)


def test_edits_per_form():
    """Eight forms are exact; the edits of the others add up to 24 (plain loop as reference)."""
    digits = load_digits()
    template = align_forms(digits.digit)[2].tolist()
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


@pytest.mark.parametrize("lost", [103, 160, 257, 499])
def test_a_lost_row_moves_only_later_starts(lost):
    """One missing row costs one edit and shifts the starts behind it by one."""
    rng = np.random.default_rng(4)
    template = rng.integers(0, 10, 100)
    rows = np.delete(np.tile(template, 6), lost)
    starts, edits, _ = align_forms(rows, length=100, forms=6)
    expected = [start - (start > lost) for start in range(0, 600, 100)]

    assert edits == 1
    assert starts == [[one] for one in expected]

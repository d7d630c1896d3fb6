"""The digits: real data, read-only, with forms that are nearly balanced against digits."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits as load_from_sklearn

from batchsense.datasets import load_digits


def test_rows_are_those_of_scikit_learn():
    """Nothing is reordered, rescaled or lost."""
    digits = load_digits()
    observations, digit = load_from_sklearn(return_X_y=True)

    assert np.array_equal(observations, digits.observations)
    assert np.array_equal(digit, digits.digit)
    assert digits.observations.dtype == np.float64
    assert len(set(digits.specimen_ids)) == 1797
    assert len(set(digits.feature_names)) == 64


def test_arrays_are_read_only():
    """The shared object cannot be changed by one of its users."""
    with pytest.raises(ValueError, match="read-only"):
        load_digits().observations[0, 0] = 1.0


def test_every_form_holds_every_digit():
    """Each of the 140 cells form × digit holds 9 to 14 rows."""
    digits = load_digits()
    cells = np.zeros((14, 10), dtype=int)
    np.add.at(cells, (digits.form_labels, digits.digit), 1)

    assert cells.min() == 9
    assert cells.max() == 14

"""Numbers that cannot be squared are refused by name; all others are answered in any unit."""

from __future__ import annotations

import numpy as np
import pytest

from batchsense.errors import DataError
from batchsense.experiments import CombatCorrection, Table, correct, diagnose
from batchsense.experiments.testing import test as compare

RNG = np.random.default_rng(2)
SHEET = {"month": np.repeat(["May", "July"], 8), "drug": np.tile(["no", "yes"], 8)}
AGE = RNG.permutation(16) + 20.0
VALUES = RNG.normal(size=(16, 5)) + 0.1 * AGE[:, None]
compare.__test__ = False


@pytest.mark.parametrize(
    ("size", "says"),
    [(1e160, "too large to be squared"), (1e-170, "too small to be squared"), (1e-310, "small")],
)
def test_features_that_cannot_be_squared(size, says):
    """Values beyond 1e150, and features wholly below 1e-150, are refused by feature."""
    values = VALUES.copy()
    values[:, 2] *= size
    values[3, 2] = np.nan

    with pytest.raises(DataError, match=f"{says}.* in feature 'feature 3'; rescale"):
        Table.from_arrays(values, SHEET)


@pytest.mark.parametrize("size", [1e300, 1e-200])
def test_kept_numbers_that_cannot_be_squared(size):
    """A kept column of such numbers is refused by name, not left out without a word."""
    table = Table.from_arrays(VALUES, {**SHEET, "age": size * AGE})

    for call in (
        lambda: correct(table, "month", ["age"]),
        lambda: CombatCorrection(keep=("age",)).fit(table, "month"),
        lambda: diagnose(table, "month", ["age"]),
        lambda: compare(table, "age", "month"),
    ):
        with pytest.raises(DataError, match=r"to be squared .* in column 'age'; rescale"):
            call()


@pytest.mark.parametrize("size", [1e-140, 1e-30, 1e30, 1e140])
def test_any_other_unit_gives_the_same_answer(size):
    """Observations and kept numbers in odd units: the same shares, tests and corrected values."""
    plain = Table.from_arrays(VALUES, {**SHEET, "age": AGE})
    other = Table.from_arrays(VALUES * size, {**SHEET, "age": AGE / size})
    shares = [diagnose(one, "month", ["age"], permutations=20) for one in (plain, other)]
    tests = [compare(one, ["drug", "age"], "month").effects for one in (plain, other)]

    assert shares[0].batch_share.raw == pytest.approx(shares[1].batch_share.raw, rel=1e-9)
    assert shares[0].kept[0].share.raw == pytest.approx(shares[1].kept[0].share.raw, rel=1e-9)
    for first, second in zip(*tests, strict=True):
        np.testing.assert_allclose(second.t, first.t, rtol=1e-8)
    for make in (lambda table: correct(table, "month", ["age"]).values, by_combat):
        np.testing.assert_allclose(make(other) / size, make(plain), rtol=1e-8)


def by_combat(table):
    """Correct by ComBat."""
    return CombatCorrection(keep=("age",)).fit(table, "month").transform(table).values


def test_missing_features_have_no_size():
    """A feature that is missing everywhere is neither too large nor too small."""
    values = VALUES.copy()
    values[:, 2] = np.nan

    assert np.isnan(Table.from_arrays(values, SHEET).values[:, 2]).all()


def test_arrays_in_double_precision_are_not_copied():
    """A writeable array in one piece serves as it is; others are copied."""
    given = np.arange(12.0).reshape(4, 3) ** 2
    sheet = {"month": [*"abab"]}
    locked = given.copy()
    locked.flags.writeable = False

    assert np.shares_memory(Table.from_arrays(given, sheet).values, given)
    for other in (locked, given[:, ::2], given.astype(np.float32)):
        assert not np.shares_memory(Table.from_arrays(other, sheet).values, other)

"""What all fitted corrections share: one class, files, a place for the result."""

from __future__ import annotations

import numpy as np
import pytest

from batchsense.experiments import (
    CombatCorrection,
    CombatSeqCorrection,
    FittedCombat,
    FittedCombatSeq,
    FittedLinear,
    LinearCorrection,
    Table,
    load_correction,
)
from batchsense.experiments.correction.fitted import Fitted

MEMBERS = [
    ("linear", LinearCorrection, FittedLinear),
    ("combat", CombatCorrection, FittedCombat),
    ("combat-seq", CombatSeqCorrection, FittedCombatSeq),
]


def counts() -> Table:
    """Twelve specimens of three months; July counts twice as much."""
    rng = np.random.default_rng(0)
    month, drug = np.repeat(["May", "June", "July"], 4), np.tile(["no", "yes"], 6)
    drawn = rng.poisson(20.0 * (1 + (month == "July"))[:, None], size=(12, 5)).astype(float)
    return Table.from_arrays(drawn, {"month": month, "drug": drug})


@pytest.mark.parametrize(("method", "make", "kind"), MEMBERS)
def test_files_give_what_was_fitted(tmp_path, method, make, kind):
    """Values, notes and what is kept, whatever the method; read by name or by its own class."""
    fresh, path = make(keep=("drug",)).fit(counts(), "month"), tmp_path / f"{method}.npz"
    fresh.save(path)
    found = load_correction(path)
    before, after = found.transform(counts()), fresh.transform(counts())

    assert isinstance(found, kind)
    assert isinstance(found, Fitted)
    assert found.correction == fresh.correction
    assert (before.notes, before.unchanged, before.learned) == (
        after.notes,
        after.unchanged,
        after.learned,
    )
    assert np.array_equal(before.values, after.values)
    assert kind.load(path).batch_levels == ("July", "June", "May")


@pytest.mark.parametrize(("method", "make", "kind"), MEMBERS)
def test_the_result_goes_where_it_is_wanted(method, make, kind):
    """An array of the caller takes the values, even that of the table itself."""
    table, expected = counts(), make(keep=("drug",)).fit(counts(), "month")
    values = expected.transform(table).values

    found = expected.transform(table, out=table.values)

    assert found.method == method
    assert found.values is table.values
    assert np.array_equal(found.values, values)

"""Surrogates in the place of the batches: the tests that follow."""

from __future__ import annotations

import numpy as np
import pytest

from batchsense.errors import ConfoundedError, DataError
from batchsense.experiments import (
    ContrastOptions,
    PlantedEffects,
    Table,
    find_surrogates,
    plant,
    test,
)


@pytest.fixture(scope="module")
def planted():
    """42 specimens, R² of drug with the hidden month .71."""
    effects = PlantedEffects(drug_share=0.1, month_share=0.5)
    return plant(42, 1500, 3, treated_share=0.9, effects=effects)


@pytest.fixture(scope="module")
def found(planted):
    """Its surrogates."""
    return find_surrogates(planted.table, ["drug"])


def test_equals_a_dense_fit_and_keeps_the_level(planted, found):
    """T equals that of plain least squares; 5 % of what the drug leaves alone is called."""
    table = Table.from_arrays(planted.table.values, found.sheet())
    effect = test(
        table, "drug", options=ContrastOptions(shrink=False), surrogates=found.names
    ).effects[0]
    treated = (np.array(planted.table.sheet["drug"]) == "yes").astype(float)
    design = np.column_stack([np.ones(42), treated, found.values])
    beta, squares = np.linalg.lstsq(design, table.values, rcond=None)[:2]
    error = np.sqrt(squares / 38 * np.linalg.inv(design.T @ design)[1, 1])

    assert np.abs(beta[1] / error - effect.t).max() < 1e-10
    assert effect.vif == pytest.approx(found.kept[0][1].vif, rel=1e-9)
    rate = (effect.p_value[planted.drug_effect == 0] < 0.05).mean()
    assert abs(rate - 0.05) < 0.015


def test_the_tests_say_that_covariates_were_estimated(planted, found):
    """A note names the surrogates; they stand where the batch column would."""
    table = Table.from_arrays(planted.table.values, found.sheet())
    tests = test(table, "drug", surrogates=found.names)

    assert tests.batch_labels == "sv1 + sv2"
    assert "estimated_covariates" in [note.code for note in tests.notes]


def test_surrogates_that_are_the_drug_are_refused(planted):
    """A contrast that the surrogates determine is not tested."""
    treated = [float(label == "yes") for label in planted.table.sheet["drug"]]
    table = Table.from_arrays(planted.table.values, dict(planted.table.sheet) | {"sv1": treated})

    with pytest.raises(ConfoundedError, match=r"drug: yes - no cannot be told from sv1"):
        test(table, "drug", surrogates=["sv1"])


def test_wrong_use_is_refused(planted, found):
    """Beside a batch column surrogates are kept columns; text is no surrogate."""
    table = Table.from_arrays(planted.table.values, found.sheet())
    with pytest.raises(DataError, match="beside a batch column"):
        test(table, "drug", "month", surrogates=["sv1"])
    with pytest.raises(DataError, match="both a surrogate and kept"):
        test(table, "drug", keep=["sv1"], surrogates=["sv1"])
    with pytest.raises(DataError, match="not a number"):
        test(table, "drug", surrogates=["month"])
    beside = test(table, "drug", "month", keep=["sv1"])
    assert beside.terms == ("drug", "sv1")

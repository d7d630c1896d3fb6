"""Scene: controls in May, treated in July. No method may pretend to tell drug from month."""

import numpy as np
import pytest

from batchsense import ConfoundedError
from batchsense.experiments import Table, correct, diagnose


def experiment(drug: list[str]) -> Table:
    """Measure 30 genes on 24 specimens: July adds 2 to each, the drug adds 1 to each."""
    month = ["May"] * 12 + ["July"] * 12
    rng = np.random.default_rng(20240501)
    shifts = 2.0 * (np.array(month) == "July") + 1.0 * (np.array(drug) == "yes")
    return Table.from_arrays(
        rng.normal(size=(24, 30)) + shifts[:, None], {"month": month, "drug": drug}
    )


def test_all_controls_in_may_cannot_be_answered() -> None:
    """The verdict is not_estimable and the entangled columns are named."""
    found = diagnose(experiment(["no"] * 12 + ["yes"] * 12), "month", ["drug"])

    assert found.verdict == "not_estimable"
    assert any(
        "drug" in relation and "month" in relation
        for relation in found.kept[0].entanglement.confounding.aliased
    )


def test_correcting_such_a_table_is_refused() -> None:
    """No corrected table comes out; the refusal names drug and month."""
    with pytest.raises(ConfoundedError, match="drug cannot be told from month") as refusal:
        correct(experiment(["no"] * 12 + ["yes"] * 12), "month", ["drug"])

    assert refusal.value.aliased


def test_controls_in_july_too_rescue_the_experiment() -> None:
    """With four controls in July and four treated in May the drug effect comes back near 1."""
    drug = ["no"] * 8 + ["yes"] * 4 + ["no"] * 4 + ["yes"] * 8
    table = experiment(drug)

    corrected = correct(table, "month", ["drug"]).values
    treated = np.array(drug) == "yes"
    effect = corrected[treated].mean() - corrected[~treated].mean()
    naive = table.values[treated].mean() - table.values[~treated].mean()

    # 24 specimens × 30 genes, VIF 1.125: standard error 0.08.
    assert effect == pytest.approx(1.0, abs=0.32)
    assert naive == pytest.approx(1.0 + 2.0 / 3.0, abs=0.32)

"""Planned layouts: constraints kept, numbers as diagnose gives them, refusals with names."""

from __future__ import annotations

import numpy as np
import pytest

from batchsense.errors import ConfoundedError, DataError, InfeasibleError
from batchsense.experiments import (
    LayoutRules,
    PlateRules,
    SheetColumns,
    Table,
    diagnose,
    plan_layout,
)
from batchsense.experiments.layout.allocation import random_layouts
from batchsense.experiments.layout.rules import read_rules
from batchsense.experiments.layout.sheet import sheet_table
from batchsense.experiments.layout.swapping import scores


def trial(specimens=96, seed=0):
    """A sheet with three arms, sex, age and subjects of two rows."""
    rng = np.random.default_rng(seed)
    return {
        "id": [f"s{i:03d}" for i in range(specimens)],
        "treatment": ["abc"[i % 3] for i in rng.permutation(specimens)],
        "sex": rng.choice(["f", "m"], specimens).tolist(),
        "age": rng.normal(60, 10, specimens).round(1).tolist(),
        "subject": [f"p{i // 2}" for i in range(specimens)],
    }


BALANCE = ("treatment", "sex", "age")


@pytest.mark.parametrize(("specimens", "batch_count"), [(96, 4), (384, 8)])
def test_the_output_passes_diagnose(specimens, batch_count):
    """ΣR² is at most 0.003, and diagnose gives every factor the same VIF, at most 1.01."""
    layout = plan_layout(trial(specimens), batch_count, BALANCE)
    sheet = layout.sheet()
    values = np.random.default_rng(1).normal(size=(specimens, 30))

    found = diagnose(Table.from_arrays(values, sheet), "batch", BALANCE, permutations=20)

    assert layout.score <= 0.003
    for kept, worth in zip(found.kept, layout.factors, strict=True):
        assert kept.entanglement.confounding.vif <= 1.01
        assert kept.entanglement.confounding.r2 == worth.entanglement.confounding.r2
    assert sheet["id"] == tuple(trial(specimens)["id"])


def test_subjects_locks_capacities_and_references_together():
    """All constraints at once are kept, and every reference has its row."""
    sheet = trial()
    sheet["done"] = ["west"] * 4 + ["east"] * 2 + [None] * 90
    sheet["twin"] = [f"t{i // 2}" if i >= 80 and i % 2 else None for i in range(96)]
    layout = plan_layout(
        sheet,
        4,
        BALANCE,
        LayoutRules([32, 26, 26, 22], "subject", ["twin"], "done", reference_specimens=2),
        columns=SheetColumns(new_column="run"),
    )
    out = layout.sheet()

    assert layout.batch_levels == ("east", "west", "1", "2")
    assert out["run"][:6] == ("west",) * 4 + ("east",) * 2
    for first, second in zip(out["run"][0:96:2], out["run"][1:96:2], strict=True):
        assert first == second
    assert all(
        size + 2 <= limit for size, limit in zip(layout.sizes, (32, 26, 26, 22), strict=True)
    )
    assert out["reference"] == ("no",) * 96 + ("yes",) * 8
    assert out["id"][96:98] == ("reference east-1", "reference east-2")
    assert out["age"][96:] == (None,) * 8
    assert max(f.entanglement.confounding.vif for f in layout.factors) < 1.05


def test_apart_rows_never_meet():
    """Replicates of a subject go to different batches."""
    layout = plan_layout(trial(), 4, BALANCE, LayoutRules(apart=["subject"], capacities=24))
    codes = layout.codes

    assert (codes[0::2] != codes[1::2]).all()
    assert layout.sizes == (24, 24, 24, 24)
    assert layout.score < 0.003


@pytest.mark.parametrize("seed", range(4))
def test_never_worse_than_random_layouts_under_constraints(seed):
    """With subjects, labels and locks: at least as good as 200 random layouts of another seed."""
    sheet = trial(48, seed)
    sheet["done"] = [str(1 + i % 4) if i % 11 == 0 else None for i in range(48)]
    sheet["done"] = [None if i % 2 else entry for i, entry in enumerate(sheet["done"])]
    sheet["litter"] = [f"l{i // 8}" if i % 2 == 0 else None for i in range(48)]
    asked = LayoutRules(14, together="subject", apart=["litter"], lock="done")
    rules = read_rules(sheet_table(sheet), 4, asked, [14] * 4)
    layout = plan_layout(sheet, 4, BALANCE, asked)

    basis = _basis(layout)
    vectors = np.zeros((len(rules.constraints.sizes), basis.shape[1]))
    np.add.at(vectors, rules.units, basis)
    drawn = random_layouts(rules.constraints, 200, np.random.default_rng(100 + seed))
    chance = scores(vectors, rules.constraints.sizes, drawn, 4)
    assert len(drawn) > 100
    assert layout.score <= chance.min() + 1e-12


def _basis(layout):
    from batchsense.experiments.layout.allocation import balance_basis

    return balance_basis(layout.design.wanted()[0])


def test_plates_have_wells_of_their_own():
    """Each specimen and reference has its own well, and positions are balanced."""
    layout = plan_layout(
        trial(), 2, ["treatment"], LayoutRules(reference_specimens=2), PlateRules((5, 10))
    )
    out = layout.sheet()

    for name in layout.batch_levels:
        wells = [w for w, batch in zip(out["well"], out["batch"], strict=True) if batch == name]
        assert len(wells) == len(set(wells)) == 50
    assert layout.plates.score < layout.plates.random_best
    assert out["well"][0] == f"{'ABCDE'[int(out['plate_row'][0]) - 1]}{out['plate_column'][0]}"
    assert 0 <= layout.factors[0].position_r2 < 0.4


def test_a_data_frame_serves_as_a_sheet():
    """The columns of a pandas data frame are read like a mapping."""
    import pandas as pd

    layout = plan_layout(pd.DataFrame(trial(24)), 3, ["treatment"])

    assert layout.sizes == (8, 8, 8)


@pytest.mark.parametrize(
    ("change", "options", "message", "needed"),
    [
        ({}, {"capacities": 20}, "96 specimens do not fit 4 batches with 80", "16 more places"),
        (
            {},
            {"capacities": 30, "together": "treatment"},
            "treatment 'a' has 32 rows",
            "a batch with 2 more places",
        ),
        (
            {"subject": ["p"] * 7 + [None] * 89},
            {"apart": ["subject"]},
            "subject 'p' is on 7 rows",
            "3 more batches",
        ),
        (
            {"done": ["1"] * 30 + [None] * 66},
            {"capacities": 25, "lock": "done"},
            "30 rows are locked to batch 1, which has 25 places",
            "5 more places in batch 1",
        ),
        (
            {"done": ["1", "2"] + [None] * 94},
            {"together": "subject", "lock": "done"},
            "subject 'p0' is to stay together, but column 'done' locks its rows to batches '1'",
            "one batch for all rows",
        ),
        (
            {"litter": ["l"] * 2 + [None] * 94},
            {"together": "subject", "apart": ["litter"]},
            "rows 's000' and 's001' have the same litter 'l' and must be apart",
            "rows apart by litter",
        ),
        (
            {"done": ["1"] * 3 + [None] * 93, "litter": ["l"] * 3 + [None] * 93},
            {"apart": ["litter"], "lock": "done"},
            "litter 'l' must be apart, but rows with it are locked to the same batch",
            "2 of these rows not locked",
        ),
    ],
)
def test_impossible_by_counting(change, options, message, needed):
    """The error names the constraint, the rows and by how much it fails."""
    with pytest.raises(InfeasibleError) as caught:
        plan_layout(trial() | change, 4, ["sex"], LayoutRules(**options))

    assert message in caught.value.message
    assert needed in caught.value.needed


def test_impossible_by_exact_search():
    """Places enough, none too small, and yet no layout: proved, with what would have to give."""
    sheet = {
        "arm": ["a", "b"] * 6,
        "subject": [f"p{i // 4}" for i in range(12)],
    }
    with pytest.raises(InfeasibleError, match="exact search") as caught:
        plan_layout(sheet, 2, ["arm"], LayoutRules([6, 6], together="subject"))

    assert "2 more places" in caught.value.needed


def test_locks_that_confound_are_refused():
    """If the locked rows leave no choice, the entangled terms are named."""
    sheet = {"arm": ["a", "a", "b", "b"], "done": ["1", "1", "2", "2"]}

    with pytest.raises(ConfoundedError) as caught:
        plan_layout(sheet, 2, ["arm"], LayoutRules(lock="done"))

    assert caught.value.aliased == ("arm[b] = batch[2]",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"balance": []}, "at least one column"),
        ({"balance": ["dose"]}, "no column 'dose'"),
        ({"batch_count": 1}, "two batches or more"),
        ({"batch_count": 97}, "some would be empty"),
        ({"columns": SheetColumns(new_column="sex")}, "columns 'sex' already"),
        ({"rules": LayoutRules(2, reference_specimens=2)}, "no room beside 2 references"),
        ({"rules": LayoutRules([30, 30])}, "2 capacities for 4 batches"),
        ({"rules": LayoutRules(60), "plates": PlateRules((5, 10))}, "60 on plates of 50 wells"),
        ({"balance": ["sex", "sex"]}, "twice"),
    ],
)
def test_requests_that_cannot_be_meant(options, message):
    """Each is refused with what is wrong."""
    asked = {"batch_count": 4, "balance": ["sex"]} | options
    with pytest.raises(DataError, match=message):
        plan_layout(trial(), asked.pop("batch_count"), asked.pop("balance"), **asked)


def test_missing_labels_of_a_balanced_column_are_named():
    """A specimen without a label cannot be balanced."""
    sheet = trial(12)
    sheet["sex"][3] = None
    with pytest.raises(DataError, match="'s003'"):
        plan_layout(sheet, 2, ["sex"])


def test_remarks():
    """Dependent rows and what could not be balanced are said."""
    sheet = trial(24)
    sheet["arm"] = ["rare"] + ["common"] * 23
    layout = plan_layout(sheet, 4, ["arm"], LayoutRules(together="subject"))
    codes = [note.code for note in layout.notes]

    assert "dependent_rows" in codes
    assert "not_balanced" in codes


def test_odd_wishes():
    """Room without end is room enough; a nameless column is refused; look-alikes are noted."""
    sheet = trial(12)
    vast = plan_layout(sheet, 3, ["sex"], LayoutRules([10**20, 4, 4]))
    assert sorted(vast.codes.tolist()) == [0] * 4 + [1] * 4 + [2] * 4
    with pytest.raises(DataError, match="needs a name"):
        plan_layout(sheet, 3, ["sex"], columns=SheetColumns(new_column=" "))
    sheet["sex"] = ["f", "F", "m"] * 4
    notes = plan_layout(sheet, 3, ["sex"]).notes
    assert ("F", "f") in [note.where for note in notes if note.code == "look_alike_labels"]
    with pytest.raises(ConfoundedError, match="Use fewer batches, so that each holds more"):
        plan_layout(sheet, 12, ["sex"])

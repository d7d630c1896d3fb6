"""Rows that are no independent specimens: found by the sheet, said alike, and as wrong as said."""

from __future__ import annotations

import numpy as np
import pytest

from batchsense.experiments import (
    PlainModel,
    SheetColumns,
    ShuffledFolds,
    Table,
    compare_gaps,
    diagnose,
    plan_layout,
    testing,
)
from batchsense.experiments.dependence import dependent_rows, shared_rows
from batchsense.experiments.design import read_design
from batchsense.experiments.kinds import ColumnKinds

NEW = SheetColumns(new_column="run")
NAMES = ["subject", "Patient ID", "donor_id", "participant", "animalNr", "mouse", "pair", "sample"]


def drawn(seed):
    """Draw a study of subjects that are measured several times, nested in arms or crossed."""
    rng = np.random.default_rng(seed)
    subjects, times = int(rng.integers(6, 16)), int(rng.integers(2, 6))
    units = np.repeat(np.arange(subjects), times)
    crossed = bool(rng.random() < 0.5)
    n = len(units)
    batches = np.tile(np.arange(times), subjects) if rng.random() < 0.5 else units % 3
    arm = (np.arange(n) + units // 2) % 2 if crossed else units % 2
    order = rng.permutation(n)
    labels = {
        "code": [f"P{unit:02d}" for unit in units],
        "number": [str(unit + 1) for unit in units],
        "text": [f"{'abcdefghijklmnop'[unit]}nna" for unit in units],
    }[str(rng.choice(["code", "number", "text"]))]
    sheet = {
        "batch": [f"b{batch}" for batch in batches[order]],
        "arm": [f"arm {label}" for label in arm[order]],
        str(rng.choice(NAMES)): [labels[row] for row in order],
        "age": rng.integers(20, 80, n).astype(str).tolist(),
        "sex": rng.choice(["f", "m"], n).tolist(),
        "volume": rng.normal(size=n).round(3).tolist(),
        "day": [f"D{day}" for day in rng.integers(1, 9, n)],
    }
    return sheet, units[order], rng


@pytest.mark.parametrize("seed", range(40))
def test_shared_rows_are_found_whatever_they_are_called(seed):
    """The subject is found under many names and kinds of labels, and nothing else is."""
    sheet, units, rng = drawn(seed)
    table = Table.from_arrays(rng.normal(size=(len(units), 3)), sheet)
    found = shared_rows(table, read_design(table, "batch", ["arm"]))
    names = [name for name in sheet if name not in ("batch", "arm", "age", "sex", "volume", "day")]

    assert [one.column for one in found] == names
    assert found[0].rows == len(units)
    assert found[0].units == len(set(units.tolist()))
    kept = read_design(table, "batch", names, ColumnKinds(categorical=names))
    assert shared_rows(table, kept) == ()


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("sex", ["f", "m"] * 12),
        ("age", [str(20 + k % 20) for k in range(24)]),
        ("visit", [f"V{k % 8}" for k in range(24)]),
        ("well", [f"A{k % 8}" for k in range(24)]),
        ("subject age", [str(30 + k % 11) for k in range(24)]),
        ("sample type", ["blood", "urine", "blood"] * 8),
        ("stage", [("I", "II", "III")[k % 3] for k in range(24)]),
        ("subject", [f"P{k}" for k in range(24)]),
        ("note", [None] * 24),
        ("rin", [f"{7 + k % 8 / 10}" for k in range(24)]),
        ("site of batch", ["north" if k < 12 else "south" for k in range(24)]),
    ],
)
def test_other_columns_name_no_units(name, labels):
    """Ages, visits, wells, stages, ids and what the batches account for are no repeated units."""
    batches = [f"b{k // 6}" for k in range(24)]
    arm = np.random.default_rng(0).permutation(["x", "y"] * 12)
    table = Table.from_arrays(np.zeros((24, 1)), {"batch": batches, "arm": arm, name: labels})

    assert shared_rows(table, read_design(table, "batch", ["arm"])) == ()


def test_units_nested_in_a_tested_factor_need_no_name():
    """A column in which the arm is constant names units: 8 of them by numbers under any name."""
    unit = np.repeat(np.arange(8), 3)
    sheet = {"batch": [*"abc"] * 8, "arm": (unit % 2).astype(str), "nr": unit.astype(str)}
    table = Table.from_arrays(np.zeros((24, 1)), sheet)
    (found,) = shared_rows(table, read_design(table, "batch", ["arm"]))

    assert (found.column, found.constant, found.over_batches) == ("nr", ("arm",), 8)
    assert shared_rows(table, read_design(table, "batch")) == ()


@pytest.mark.parametrize("seed", range(6))
def test_standard_errors_are_as_wrong_as_said(seed):
    """Where residuals of a subject agree, errors are as many times too small as the note says."""
    sheet, units, rng = drawn(seed)
    values = rng.normal(size=(units.max() + 1, 3000))[units] + 1e-3 * rng.normal(
        size=(len(units), 3000)
    )
    table = Table.from_arrays(values, sheet)
    found = testing.test(table, "arm", "batch", options=testing.ContrastOptions(shrink=False))
    (note,) = [note for note in found.notes if note.code == "dependent_rows"]
    effect = found.effects[0]
    errors = np.abs(effect.effect / effect.t)
    ratio = float(np.sqrt((effect.effect**2).mean() / (errors**2).mean()))

    if ratio > 1.0:
        said = float(note.message.split(" times")[0].split()[-1])
        assert said == pytest.approx(ratio, rel=0.1, abs=0.02)
    else:
        assert "too large" in note.message


def test_every_command_says_it_alike():
    """test, diagnose, gap and layout begin with the same words."""
    unit = np.repeat(np.arange(8), 3)
    sheet = {"batch": [*"abc"] * 8, "arm": (unit % 2).astype(str), "subject": unit.astype(str)}
    table = Table.from_arrays(np.random.default_rng(0).normal(size=(24, 20)), sheet)
    folds = ShuffledFolds(1)
    answers = [
        testing.test(table, "arm", "batch"),
        diagnose(table, "batch", ["arm"], permutations=20),
        compare_gaps(table, "batch", "arm", PlainModel(corrections=()), folds),
        plan_layout(sheet | {"batch": list(range(24))}, 2, ["arm"], columns=NEW),
    ]
    head = dependent_rows("subject", "X").message.split("X")[0]
    for answer in answers:
        (note,) = [note for note in answer.notes if note.code == "dependent_rows"]

        assert note.message.startswith(head)
        assert "a factor that is constant within subject counts subjects, not rows" in note.message


@pytest.mark.parametrize("seed", range(4))
def test_no_gap_is_excluded_where_rows_share_a_subject(seed):
    """On pure noise that subjects alone predict, no gap is excluded unless subjects are unknown."""
    rng = np.random.default_rng(seed)
    unit, site = np.repeat(np.arange(30), 5), np.tile(np.arange(5), 30)
    values = rng.normal(size=(30, 10))[unit] + 0.6 * rng.normal(size=(150, 10))
    sheet = {"site": site, "arm": np.where(unit % 2, "x", "y"), "patient": unit + 100}
    model = PlainModel(corrections=())
    known = compare_gaps(Table.from_arrays(values, sheet), "site", "arm", model)
    del sheet["patient"]
    unknown = compare_gaps(Table.from_arrays(values, sheet), "site", "arm", model)

    assert known.verdict in ("cannot_tell", "gap")
    assert known.excluded == unknown.excluded
    assert unknown.verdict in ("no_gap_seen", "cannot_tell", "gap")

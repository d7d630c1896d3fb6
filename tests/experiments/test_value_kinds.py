"""What the values of a matrix are: recognised, said in the same words, and acted upon."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from batchsense.cli.main import run
from batchsense.errors import ConfoundedError, DataError, UnresolvedError
from batchsense.experiments import (
    ColumnKinds,
    CombatSeqCorrection,
    Table,
    compare_gaps,
    correct,
    diagnose,
    find_surrogates,
    testing,
)
from batchsense.experiments.value_kinds import RAW, read_values, value_notes

SHEET = {"batch": ["a", "b"] * 6, "drug": ["no", "no", "yes", "yes"] * 3}


def drawn(kind: str, rng: np.random.Generator, features: int = 120) -> np.ndarray:
    """Draw a table of one kind, of random depth, spread and share of zeros."""
    size = (12, features)
    level = rng.normal(0, rng.uniform(0.8, 1.5), features)
    if kind == "counts":
        means = np.exp(rng.uniform(1.5, 7) + level) * rng.uniform(0.5, 2, (12, 1))
        return rng.negative_binomial(rng.uniform(2, 20), 0.3, size) * 0.0 + rng.poisson(
            means * rng.gamma(rng.uniform(3, 20), 0.1, size)
        )
    if kind == "intensities":
        found = np.exp(rng.uniform(15, 20) + level + rng.normal(0, 0.4, size))
        whole = rng.random() < 0.5
        found *= 1 if whole else np.exp(rng.normal(0, 1.5, features))  # shown by spread alone
        found[rng.random(size) < rng.uniform(0, 0.3)] = 0
        return np.rint(found) if whole else found
    if kind == "bounded":
        return rng.beta(rng.uniform(0.5, 5), rng.uniform(0.5, 5), size)
    logs = rng.uniform(5, 20) + level + rng.normal(0, 0.5, size)
    return logs if kind == "log" else 200 + 6 * rng.normal(size=size).round()


@pytest.mark.parametrize("kind", ["counts", "intensities", "bounded", "log", "numbers"])
def test_kinds_are_recognised(kind: str) -> None:
    """Forty random tables of each kind are read as such; logarithms as the numbers they are."""
    rng = np.random.default_rng(11)
    found = [read_values(drawn(kind, rng)).kind for _ in range(40)]

    assert found == ["numbers" if kind == "log" else kind] * 40


def asked(table: Table) -> list[str]:
    """Which questions withhold their answer."""
    questions = {
        "diagnose": lambda: diagnose(table, "batch", ["drug"], permutations=20),
        "test": lambda: testing.test(table, "drug", "batch"),
        "gap": lambda: compare_gaps(table, "batch", "drug"),
        "surrogates": lambda: find_surrogates(table, ["drug"], permutations=20),
    }
    withheld = []
    for name, question in questions.items():
        try:
            question()
        except UnresolvedError as error:
            if "withheld" in str(error) and "--values numbers" in str(error.needed):
                withheld.append(name)
    return withheld


@pytest.mark.parametrize("kind", sorted(RAW))
def test_raw_values_get_no_verdict(kind: str) -> None:
    """Questions withhold the answer, unless told otherwise; all take counts as such."""
    rng = np.random.default_rng(3)
    table = Table.from_arrays(drawn(kind, rng), SHEET)

    withheld = [] if kind == "counts" else ["diagnose", "test", "gap", "surrogates"]
    assert asked(table) == withheld
    assert asked(replace(table, values_are="numbers")) == []
    assert asked(replace(table, values=np.log2(table.values + 1))) == []
    if kind != "counts":
        declared = replace(table, values=np.floor(np.log2(table.values + 1)), values_are=kind)
        assert asked(declared) == withheld


def test_confounding_is_said_before_the_values() -> None:
    """What the sheet alone refuses is refused as such, whatever the values."""
    table = Table.from_arrays(
        drawn("counts", np.random.default_rng(0)), {"batch": SHEET["drug"], "drug": SHEET["drug"]}
    )

    assert diagnose(table, "batch", ["drug"], permutations=20).verdict == "not_estimable"
    with pytest.raises(ConfoundedError):
        testing.test(table, "drug", "batch")


def test_declared_kinds_are_checked() -> None:
    """Counts and intensities are never negative."""
    table = Table.from_arrays([[1.0], [-1.0]], {"batch": ["a", "b"]}, values_are="counts")

    with pytest.raises(DataError, match="never negative; the lowest is -1"):
        table.values_read()


@pytest.mark.parametrize("end", [0.0, -999.0, 9999.0])
def test_values_that_look_missing(end: float) -> None:
    """A repeated extreme far from all others is named; real zeros near others are not."""
    rng = np.random.default_rng(5)
    for _ in range(20):
        logs = rng.uniform(18, 22) + rng.normal(0, 1.5, (12, 60))
        near = np.maximum(rng.normal(1, 1, (12, 60)), 0.0)
        gaps = rng.random(logs.shape) < rng.uniform(0.02, 0.2)
        holed = np.where(gaps, end, logs)

        (note,) = value_notes(holed, read_values(holed))
        assert note.code == "looks_missing"
        assert f"{gaps.sum():,} values are exactly {end:g}" in note.message
        assert value_notes(near, read_values(near)) == value_notes(logs, read_values(logs)) == []


def test_values_that_leave_their_range() -> None:
    """The number of corrected values that such values cannot have is counted."""
    rng, told = np.random.default_rng(9), 0
    for kind in ["counts", "bounded", "log"] * 5:
        table = Table.from_arrays(drawn(kind, rng) * 1.0, SHEET)
        shifted = (
            table.values + (np.array(SHEET["batch"]) == "a")[:, None] * table.values.mean() * 3
        )
        shifted = np.minimum(shifted, 1) if kind == "bounded" else shifted
        found = correct(replace(table, values=shifted), "batch", ["drug"])
        below, above = (found.values < 0).sum(), (found.values > 1).sum()
        said = [note.message for note in found.notes if note.code == "left_range"]

        assert len(said) == (kind != "log" and below + above * (kind == "bounded") > 0)
        told += len(said)
        for message in said:
            assert (f"{below:,} are negative" in message) == (below > 0)
            assert (f"{above:,} are above 1" in message) == (kind == "bounded" and above > 0)

    assert told > 4


def test_tallies_are_no_features() -> None:
    """Rows that counting programs append change no corrected count, and are named."""
    rng = np.random.default_rng(1)
    counts = drawn("counts", rng, 40)
    names = [f"g{j}" for j in range(40)]
    tallies = ["__no_feature", "__ambiguous", "N_unmapped", "Unassigned_NoFeatures"]
    more = rng.poisson(1e5, (12, 4)) * np.where(np.array(SHEET["batch"]) == "a", 1, 9)[:, None]
    plain = Table.from_arrays(counts, SHEET, features=names)
    table = Table.from_arrays(np.hstack([more, counts]), SHEET, features=[*tallies, *names])
    method = CombatSeqCorrection(keep=("drug",))
    found = method.fit(table, "batch").transform(table).values

    expected = method.fit(plain, "batch").transform(plain).values
    assert np.array_equal(found[:, 4:], expected)
    assert np.array_equal(found[:, :4], more)
    assert table.remarked().notes[-1].where == tuple(tallies)


def test_intensities_are_no_counts() -> None:
    """ComBat-seq asks before it models whole numbers of the size of intensities."""
    values = np.rint(drawn("intensities", np.random.default_rng(2), 20))

    with pytest.raises(DataError, match=r"read as intensities .* say --values counts"):
        CombatSeqCorrection().fit(Table.from_arrays(values, SHEET), "batch")


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["test", "--contrast", "drug"], 0, ""),
        (["test", "--contrast", "drug", "--corrected"], 1, "the test is withheld"),
        (["diagnose", "--keep", "drug", "--no-placebo"], 0, ""),
        (["gap", "--predict", "drug"], 1, "own library"),
        (["surrogates", "--keep", "drug", "-o", "-"], 0, "Log2 counts per million"),
        (["test", "--contrast", "drug", "--values", "numbers"], 0, ""),
        (["correct", "-o", "-", "--values", "log", "--method", "combat-seq"], 2, "--values log"),
    ],
)
def test_command_lines(words, status, says, tmp_path, capsys):
    """The commands say the same, and ``--values`` answers."""
    values = drawn("counts", np.random.default_rng(4))
    ids = [f"s{i}" for i in range(12)]
    pd.DataFrame(values, ids, [f"g{j}" for j in range(120)]).to_csv(tmp_path / "m.csv")
    pd.DataFrame({"id": ids, **SHEET}).to_csv(tmp_path / "s.csv", index=False)
    command, *options = words
    if command != "surrogates":
        options += ["--batch", "batch"]

    assert run([command, str(tmp_path / "m.csv"), str(tmp_path / "s.csv"), *options]) == status
    told = capsys.readouterr()
    assert says in told.out + told.err


def test_numbers_in_the_place_of_batches() -> None:
    """Fractions are asked about, unless they are declared to be names; many numbers are noted."""
    rng = np.random.default_rng(8)
    for _ in range(5):
        rin = 5.5 + rng.choice(40, 6, replace=False) / 10
        rin[0] = 9.75
        sheet = {"rin": rng.permutation(np.repeat(rin, 2)), "drug": SHEET["drug"]}
        table = Table.from_arrays(rng.normal(size=(12, 5)), sheet)
        with pytest.raises(DataError, match=r"'rin' holds fractional numbers .*--surrogate rin"):
            correct(table, "rin")
        declared = replace(table, categorical=frozenset({"rin"}))
        assert diagnose(declared, "rin", permutations=20).specimens == 12
        kinds = ColumnKinds(categorical=["rin"])
        assert "numbers_as_batches" in [
            note.code for note in diagnose(table, "rin", kinds=kinds, permutations=20).notes
        ]


@pytest.mark.parametrize(("broken", "told"), [(0.5, True), (-1.0, True), (12.0, False)])
def test_a_few_values_that_keep_counts_from_being_counts_are_told(
    broken: float, told: bool
) -> None:
    """One half or negative among 600 counts: read as numbers, which the note says."""
    counts = np.random.default_rng(0).poisson(80, size=(20, 30)).astype(float)
    counts[3, 4] = broken
    read = read_values(counts)
    codes = [note.code for note in value_notes(counts, read)]
    assert (read.kind, "nearly_counts" in codes) == (
        ("numbers", True) if told else ("counts", False)
    )
    assert "nearly_counts" not in [
        note.code for note in value_notes(np.log2(counts + 2), read_values(np.log2(counts + 2)))
    ]

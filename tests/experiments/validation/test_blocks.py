"""Subjects kept apart: no subject is in training and predicted at once, whichever way is tested."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from batchsense.cli.main import run
from batchsense.errors import ConfoundedError, DataError
from batchsense.experiments import PlainModel, ShuffledFolds, Table, compare_gaps
from batchsense.experiments.validation.answers import read_answers
from batchsense.experiments.validation.folds import apart, batch_folds, shuffled_folds
from batchsense.experiments.validation.over_groups import (
    Clusters,
    crossed_error,
    standard_error,
)

ONCE, PLAIN = ShuffledFolds(1), PlainModel(corrections=["none"])


def visits(seed: int = 0) -> Table:
    """30 subjects, each at two of six sites; their fingerprints are larger than the disease."""
    rng = np.random.default_rng(seed)
    subject = np.tile(np.arange(30), 2)
    site = np.concatenate([np.arange(30) % 6, (np.arange(30) + 1 + np.arange(30) // 6) % 6])
    ill = np.arange(30) // 3 % 2
    values = rng.normal(size=(30, 8))[subject] + 0.1 * rng.normal(size=(60, 8))
    values[:, 0] += ill[subject]
    sheet = {"site": site, "subject": [f"P{k}" for k in subject], "ill": [*"ny"]}
    sheet["ill"] = [sheet["ill"][k] for k in ill[subject]]
    return Table.from_arrays(values, {**sheet, "site": [f"s{k}" for k in site]})


@pytest.mark.parametrize("shuffled", [False, True])
def test_nobody_is_learned_from_and_predicted(shuffled: bool) -> None:
    """Each row counts once; neither its subject nor its fold is in the training of its model."""
    sheet = visits().sheet
    subject = np.unique(sheet["subject"], return_inverse=True)[1]
    answers = read_answers(60, sheet["ill"], sheet["site"])
    folds = shuffled_folds(answers, True, 0) if shuffled else batch_folds(answers)
    left_out, asked, unseen = apart(folds, answers, subject, 0)

    assert sorted(np.concatenate(left_out).tolist()) == list(range(60))
    for rows, given, excluded in zip(left_out, asked, unseen, strict=True):
        training = np.setdiff1d(np.arange(60), excluded)
        assert not set(subject[rows]) & set(subject[training])
        assert not set(given) & set(training)
        assert set(rows) <= set(given)


def test_fingerprints_no_longer_help() -> None:
    """By rows alone a new site is easy; for new subjects the nearest neighbour errs often."""
    rows = compare_gaps(visits(), "site", "ill", PLAIN, ONCE)
    subjects = compare_gaps(visits(), "site", "ill", PLAIN, ONCE, blocks="subject")

    assert rows.ways[0].gap.held_out.estimate < 0.05
    assert rows.verdict == "cannot_tell"
    assert "--block subject keeps them apart" in rows.notes[-1].message
    assert subjects.ways[0].gap.held_out.estimate > 0.2
    assert subjects.shared == ()
    assert subjects.blocks == "subject"


def test_corrections_see_the_whole_batch() -> None:
    """With a correction inside the folds every row is still answered once, by other subjects."""
    found = compare_gaps(visits(), "site", "ill", PlainModel(), ONCE, blocks="subject")

    assert [way.correction for way in found.ways] == ["none", "linear"]
    assert found.ways[1].gap.held_out.estimate > 0.2


def test_errors_over_batches_and_blocks() -> None:
    """With one block a row the error is that over batches; shared blocks make it larger."""
    rng = np.random.default_rng(0)
    batches, blocks = np.repeat(np.arange(6), 20), np.tile(np.arange(20), 6)
    noise = 0.1 * rng.normal(size=120)
    between = rng.normal(size=6)[batches] + noise
    alike = rng.normal(size=20)[blocks] + noise
    means = between.reshape(6, 20).mean(axis=1)
    alone, freedom = crossed_error(between, batches, np.arange(120), paired=True)

    assert alone == pytest.approx(standard_error(means), rel=0.02)
    assert freedom == pytest.approx(5.0, rel=0.1)
    assert crossed_error(alike, batches, blocks)[0] == pytest.approx(
        standard_error(alike.reshape(6, 20).mean(axis=0)), rel=0.02
    )
    assert Clusters(batches, blocks, 0.95).mean(between).estimate == pytest.approx(means.mean())


@pytest.mark.parametrize(
    ("entries", "error", "words"),
    [
        ([f"r{k}" for k in range(60)], DataError, "block of its own for each row"),
        (["P1"] * 60, DataError, "all rows into one block"),
        ([None] + ["a", "b"] * 29 + ["a"], DataError, "no label"),
        (visits().sheet["site"], ConfoundedError, "each site is of one who only"),
        (visits().sheet["ill"], ConfoundedError, "each class of ill is of one who only"),
    ],
)
def test_nothing_to_keep_apart(entries, error, words) -> None:
    """A column by which nothing can be kept apart is refused."""
    table = visits()
    table = Table.from_arrays(table.values, {**table.sheet, "who": entries})
    with pytest.raises(error, match=words):
        compare_gaps(table, "site", "ill", PLAIN, ONCE, blocks="who")


def test_from_the_command_line(tmp_path, capsys) -> None:
    """The document names the column, and the text says whose errors these are."""
    table = visits()
    ids = [f"r{k}" for k in range(60)]
    frame = pd.DataFrame(table.values, index=ids, columns=[f"g{k}" for k in range(8)])
    frame.to_csv(tmp_path / "m.csv")
    pd.DataFrame({"id": ids, **table.sheet}).to_csv(tmp_path / "s.csv", index=False)
    words = ["gap", str(tmp_path / "m.csv"), str(tmp_path / "s.csv"), "--batch", "site"]
    words += ["--predict", "ill", "--block", "subject", "--repeats", "1", "--correct", "none"]
    run(words)
    assert "no subject is in training and predicted at once" in capsys.readouterr().out.replace(
        "\n", " "
    )
    run([*words, "--json"])
    assert json.loads(capsys.readouterr().out)["result"]["block"] == "subject"

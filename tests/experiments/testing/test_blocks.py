"""Blocks in a test: what they are refused for, what is said of them, and corrected data."""

from __future__ import annotations

import numpy as np
import pytest

from batchsense.errors import BatchsenseError, ConfoundedError, DataError, UnresolvedError
from batchsense.experiments import ContrastOptions, Table, correct, test
from batchsense.experiments.design import read_design
from batchsense.experiments.diagnosis.block_share import share_of_blocks
from batchsense.experiments.testing import ContrastTests
from batchsense.experiments.testing.blocks.mixed import fit_mixed
from batchsense.variation.linear import factor

SUBJECTS = ContrastOptions(blocks="subject")
EACH = ContrastOptions(blocks="subject", per_feature=True)
#: 12 subjects, 4 rows each: two months, early and late; the group is constant within a subject.
SHEET = {
    "subject": np.repeat([f"P{k}" for k in range(12)], 4),
    "group": np.repeat(["a", "b"], 24),
    "month": np.tile(["x", "y"], 24),
    "time": np.tile(["early", "early", "late", "late"], 12),
}


def table(features: int = 60, **columns: object) -> Table:
    """Subjects that differ as much as rows do, and nothing else."""
    rng = np.random.default_rng(3)
    values = rng.normal(size=(12, features))[np.repeat(np.arange(12), 4)]
    values += rng.normal(size=(48, features)) + (SHEET["month"] == "x")[:, None]
    return Table.from_arrays(values, {**SHEET, **columns})


def codes(found: ContrastTests) -> dict[str, str]:
    """Notes by their code."""
    return {note.code: note.message for note in found.notes}


@pytest.mark.parametrize(
    ("subject", "error", "words"),
    [
        ([f"P{k}" for k in range(48)], DataError, "block of its own for each row"),
        (["P1"] * 48, DataError, "all rows into one block"),
        ([40.5 + k // 2 for k in range(48)], DataError, "fractional numbers .40.5, 41.5, 42.5"),
        (["", *SHEET["subject"][1:]], DataError, "no label"),
        (SHEET["month"], ConfoundedError, "subject = month"),
        (SHEET["group"], ConfoundedError, "subject is a function of what is in the model"),
    ],
)
def test_blocks_of_which_nothing_can_be_seen(subject, error, words) -> None:
    """They are refused with the typed error, which names the column and what to do."""
    labels = [one or None for one in np.asarray(subject).tolist()]
    with pytest.raises(error, match=words):
        test(table(subject=labels), "group", "month", options=SUBJECTS)


def test_the_batch_as_block_is_named_as_such() -> None:
    """Not as an equation of a column with itself."""
    options = ContrastOptions(blocks="month")
    with pytest.raises(ConfoundedError, match="month is the batch, which takes up"):
        test(table(), "group", "month", options=options)


def test_rows_that_leave_nothing_to_compare() -> None:
    """Where every pair of a block is used up by a term, no correlation is claimed."""
    values = np.random.default_rng(0).normal(size=(4, 9))
    sheet = {"month": [*"xyxy"], "subject": [*"aabb"], "drug": [*"nyyn"]}
    with pytest.raises(UnresolvedError, match="no two rows of one subject tell"):
        test(Table.from_arrays(values, sheet), "drug", "month", ["drug"], options=SUBJECTS)


@pytest.mark.parametrize(
    "options",
    [
        ContrastOptions(per_feature=True),
        ContrastOptions(blocks="subject", per_feature=True, trend=True),
        ContrastOptions(shrink=False, robust=True),
        ContrastOptions(blocks="time"),
    ],
)
def test_contradictions(options: ContrastOptions) -> None:
    """Per feature without blocks, sharing what is not shared, a block that is kept: refused."""
    with pytest.raises(BatchsenseError):
        test(table(), "group", "month", ["time"], options=options)


@pytest.mark.parametrize("options", [SUBJECTS, EACH])
@pytest.mark.parametrize("gaps", [False, True])
def test_corrected_values_give_the_same_answer(options: ContrastOptions, gaps: bool) -> None:
    """The removed terms are in the model, so t, df and correlation are those of the original."""
    whole = table()
    if gaps:
        whole.values[np.random.default_rng(0).random(whole.values.shape) < 0.1] = np.nan
    one = test(whole, ["group", "time"], "month", options=options)
    other = test(correct(whole, "month", ["group", "time"]), ["group", "time"], options=options)

    assert np.allclose(one.blocks.each, other.blocks.each, atol=1e-8)
    for before, after in zip(one.effects, other.effects, strict=True):
        assert np.allclose(before.t, after.t, rtol=1e-7, atol=1e-10)
        assert np.allclose(before.df, after.df, rtol=1e-6)


def test_what_is_said() -> None:
    """The correlation, which contrast lies between subjects, and no more that nobody knows."""
    plain, blocked, each = (
        test(table(), ["group", "time"], "month", options=options)
        for options in (ContrastOptions(), SUBJECTS, EACH)
    )

    assert "--block subject lets rows of one agree" in codes(plain)["dependent_rows"]
    assert "dependent_rows" not in codes(blocked)
    assert "dependent_rows" not in codes(each)
    assert f"correlation of {blocked.blocks.correlation:.3f}" in codes(blocked)["blocks"]
    assert codes(blocked)["between_blocks"].startswith("group: b - a: told between")
    assert "--per-feature" in codes(blocked)["between_blocks"]
    assert "--per-feature" not in codes(each)["between_blocks"]


def test_degrees_of_freedom_of_a_balanced_design() -> None:
    """Between subjects there are those of subjects, within those of rows, exactly."""
    found = test(table(), ["group", "time"], "month", options=EACH)
    varies = found.blocks.each > 0
    group, time = found.effects

    assert varies.mean() > 0.9
    assert np.allclose(group.df[varies], 10)
    assert np.allclose(time.df[varies], 34)
    assert np.allclose(group.df[~varies], 44)


def test_a_balanced_design_is_one_of_means() -> None:
    """Between subjects the mixed model gives the t test of their means; within, that of pairs."""
    rng = np.random.default_rng(1)
    subject, time = np.repeat(np.arange(10), 2), np.tile([0.0, 1.0], 10)
    values = 2 * rng.normal(size=(10, 30))[subject] + rng.normal(size=(20, 30))
    group = np.repeat([0.0, 1.0], 10)
    design = factor(np.column_stack([np.ones(20), group, time]))
    fits, each = fit_mixed(values, design, np.eye(3)[1:], (), subject)
    t = fits.estimates / np.sqrt(fits.residual_squares / fits.df * fits.unscaled)
    means = factor(np.column_stack([np.ones(10), group[::2]])).fit(
        values.reshape(10, 2, 30).mean(1)
    )
    between, error = means.contrast([0.0, 1.0])
    pairs = values[1::2] - values[::2]
    within = pairs.mean(axis=0) / (pairs.std(axis=0, ddof=1) / np.sqrt(10))
    varies = each > 0

    assert varies.sum() > 25
    assert np.allclose(t[0, varies], (between / error)[varies])
    assert np.allclose(t[1, varies], within[varies])


def test_the_share_of_subjects() -> None:
    """Diagnose says what subjects add to batch and group: half the variance within groups here."""
    found = share_of_blocks(table(200), read_design(table(), "month", ["group"]), "subject")

    assert found.count == 12
    assert found.share is not None
    assert 0.3 < found.share.share.low < found.share.share.high < 0.6
    assert found.share.null.p_value < 0.01


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("options", [SUBJECTS, EACH])
def test_features_that_say_nothing(options: ContrastOptions) -> None:
    """Constant, unobserved and half observed features are named or answered, never NaN in silence.

    Whether values lie far from zero changes nothing.
    """
    whole = table(20)
    whole.values[:, 0], whole.values[:, 1], whole.values[24:, 2] = 4.0, np.nan, np.nan
    whole.values[:5, 3:6] = np.nan
    found = test(whole, "group", "month", options=options)
    far = Table.from_arrays(whole.values + 1e6, SHEET)
    other = test(far, "group", "month", options=options)
    answered = ~np.isnan(found.effects[0].p_value)

    assert np.array_equal(np.flatnonzero(~answered), [0, 1, 2])
    assert {one for names in found.untested.values() for one in names} == set(found.features[:3])
    assert np.allclose(found.effects[0].t[3:], other.effects[0].t[3:], rtol=1e-6)

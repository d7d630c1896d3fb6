"""The report of a gap: figures draw the given numbers, names are shown as they are, few of many."""

from __future__ import annotations

import re

import numpy as np
import pytest

from batchsense.experiments import PlainModel, ShuffledFolds, Table, compare_gaps
from batchsense.questions.gap.report import gap_report
from batchsense.questions.gap.result import GapResult
from batchsense.questions.gap.text import batch_rows, change_sentences, verdict_sentence
from batchsense.reports.envelope import Envelope, Estimate
from batchsense.reports.figures.batches import draw_folds
from batchsense.reports.page import LARGEST_PAGE


def result(batches=4, rows=8, names="batch {}", predict="kind", corrections=("linear",)):
    """Measure a small table."""
    rng = np.random.default_rng(0)
    kind = np.tile(["ill", "well"], batches * rows // 2)
    values = (kind == "ill")[:, None] + rng.normal(size=(len(kind), 3))
    values += 2.0 * rng.normal(size=(batches, 3)).repeat(rows, axis=0)
    sheet = {
        "$site_": np.repeat([names.format(k) for k in range(batches)], rows),
        "kind": kind,
        "age": 20 + 5 * values[:, 1] + rng.normal(size=len(kind)),
    }
    table = Table.from_arrays(values, sheet)
    found = compare_gaps(
        table,
        "$site_",
        predict,
        PlainModel(corrections=corrections),
        folds=ShuffledFolds(repeats=1),
    )
    return GapResult.of(found, 3, 1)


def page_of(given):
    """Render it."""
    return gap_report(Envelope[GapResult](command="gap", seed=0, result=given))


def words(page):
    """Give the text of a page without drawings and numbers."""
    body = re.sub(r"<(script|style|svg)\b.*?</\1>", " ", page, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body)).replace("\xa0", " ")


def test_folds_of_several_figures_can_share_their_axis():
    """Numbers are scaled, named as told, and drawn up to a common largest one."""
    ax = draw_folds([[1.0, 3.0]], ["a"], labels=("mean squared error", "site"), scale=1, most=10)
    drawn = {line.get_label(): line.get_xdata().tolist() for line in ax.get_lines()}

    assert drawn["shuffled folds"] == [1.0]
    assert ax.get_xlim()[1] == pytest.approx(10.5)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("mean squared error", "site")
    assert draw_folds([[0.0, 0.0]], ["a"]).get_xlim()[1] > 0


def test_the_page_tells_what_was_measured():
    """Verdict, both errors and the correction stand in words; the figures have their numbers."""
    given = result()
    text = words(page_of(given))

    assert " ".join(verdict_sentence(given).split()) in text
    assert change_sentences(given)[0] in text
    assert "32 in 4 batches of 8" in text
    assert page_of(given).count("<svg") == 3
    assert "batch 3" in text


def test_many_batches_with_strange_names_stay_readable():
    """Forty of sixty are drawn and listed, all are in the page; names never become markup."""
    given = result(60, 4, "<b>{}</b> & $x_y$", corrections=["none"])
    page = page_of(given)
    _, rows = batch_rows(given)

    assert len(rows) == 40
    assert batch_rows(given)[0][0] == "$site_ (largest gaps)"
    assert "The 40 with the largest gaps are drawn" in page
    assert "<b>59</b>" not in page.split("<script")[0]
    assert "&lt;b&gt;59&lt;/b&gt;" in page
    assert len(page.encode()) < LARGEST_PAGE / 4


def test_numbers_have_no_per_cent():
    """A mean squared error is no rate."""
    text = words(page_of(result(predict="age")))

    assert "Mean squared error" in text
    assert "points" not in text
    assert not re.search(r"\d %(?! interval)", text)


@pytest.mark.parametrize(
    ("low", "high", "word"), [(-2.0, -1.0, "helps"), (1.0, 2.0, "harms"), (-1.0, 1.0, "no differ")]
)
def test_a_change_is_called_what_its_interval_shows(low, high, word):
    """Helps, harms, or makes no difference that shows."""
    given = result()
    change = Estimate(estimate=(low + high) / 2, low=low, high=high)
    ways = [given.ways[0], given.ways[1].model_copy(update={"change": change})]

    assert word in change_sentences(given.model_copy(update={"ways": ways}))[0]


def test_without_any_shuffled_error_the_ratio_is_left_out():
    """Unbounded above: null beside a reason, and a sentence without a ratio."""
    given = result()
    plain = given.ways[0].model_copy(
        update={"ratio": Estimate(estimate=None, low=0, high=None, reason="no error to compare")}
    )
    told = given.model_copy(update={"ways": [plain], "verdict": "gap"})

    assert "times as much" not in verdict_sentence(told)
    assert "no error to compare" in words(page_of(told))


def test_there_must_be_a_result():
    """A refusal has no report."""
    with pytest.raises(ValueError, match="no result"):
        gap_report(Envelope[GapResult](command="gap", result=None))

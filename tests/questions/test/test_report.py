"""The report of tests: figures draw the given numbers, the page says what was found."""

import json
import re

import numpy as np
import pytest

from batchsense.experiments import ContrastTests, Table, testing
from batchsense.questions.test.report import contrast_report
from batchsense.questions.test.result import ContrastTestsResult
from batchsense.reports.envelope import Envelope, Note
from batchsense.reports.figures.expression.features import (
    BARS,
    MOST_POINTS,
    draw_mean_difference,
    draw_p_values,
    draw_volcano,
)
from batchsense.reports.numbers import numbers_of
from batchsense.reports.page import LARGEST_PAGE


def reported(found: ContrastTests) -> tuple[str, Envelope[ContrastTestsResult]]:
    """Make the page of tests."""
    answer = Envelope[ContrastTestsResult](
        command="test",
        result=ContrastTestsResult.of(found, "specimens × features"),
        notes=Note.published(found.notes),
    )
    return contrast_report(answer, found), answer


def words(page: str) -> str:
    """Give the text of a page without its numbers element."""
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body)).replace("\xa0", " ")


def experiment(features: int = 50) -> Table:
    """Three drugs in two lots, C nowhere with the others."""
    rng = np.random.default_rng(0)
    sheet = {"lot": ["1", "2"] * 12 + ["3"] * 12, "drug": [*"AABB" * 6, *"C" * 12]}
    values = rng.normal(size=(36, features))
    values[:, : features // 5] += 3.0 * (np.array(sheet["drug"]) == "B")[:, None]
    return Table.from_arrays(values, sheet)


def test_the_volcano_draws_effects_and_evidence() -> None:
    """Points are (effect, -log10 p), called ones apart, named, on or above the line of q."""
    p, q = np.array([0.1, 0.01, np.nan, 0.001]), np.array([0.1, 0.04, np.nan, 0.01])
    ax = draw_volcano([1.0, 2.0, 3.0, -4.0], p, q, ["a", "b", "untested", "d"])
    plain, called = (np.asarray(part.get_offsets()) for part in ax.collections)

    assert np.allclose(plain, [[1.0, 1.0]])
    assert np.allclose(called, [[-4.0, 3.0], [2.0, 2.0]])
    assert ax.get_lines()[0].get_ydata()[0] == pytest.approx(2.0)
    assert [text.get_text() for text in ax.texts] == ["d", "b", "a"]


def test_the_volcano_keeps_the_smallest_p_of_many() -> None:
    """Of 20,000 features 300 of a kind are drawn, the most certain among them."""
    rng = np.random.default_rng(0)
    p = rng.uniform(size=20_000)
    ax = draw_volcano(rng.normal(size=20_000), p, np.ones(20_000), [f"f{k}" for k in range(20_000)])
    heights = np.asarray(ax.collections[0].get_offsets())[:, 1]

    assert len(heights) == MOST_POINTS
    assert heights.max() == pytest.approx(-np.log10(p.min()))
    assert len(ax.get_lines()) == 1  # nothing is called, so there is no line of q


def test_effects_stand_over_the_mean() -> None:
    """Points are (mean, effect); the numbers of the figure name the features, called ones first."""
    ax = draw_mean_difference([5.0, 6.0], [1.0, -2.0], [0.5, 0.001], [0.5, 0.002], ["a", "b"])

    assert [np.asarray(part.get_offsets()).tolist() for part in ax.collections] == [
        [[5.0, 1.0]],
        [[6.0, -2.0]],
    ]
    assert numbers_of(ax)["feature"] == ["b", "a"]
    assert numbers_of(ax)["effect"] == [-2.0, 1.0]


def test_the_histogram_counts_p_values() -> None:
    """Bars add up to the features with p; the line is what chance gives."""
    ax = draw_p_values([0.01, 0.02, 0.5, np.nan, 1.0])
    heights = [bar.get_height() for bar in ax.patches]  # type: ignore[attr-defined]

    assert len(heights) == BARS
    assert sum(heights) == 4
    assert heights[0] == 2
    assert ax.get_lines()[0].get_ydata()[0] == pytest.approx(4 / BARS)


def test_tests_are_reported_with_what_was_refused() -> None:
    """Counts, first features, the refusal and the price of forgetting stand on the page."""
    found = testing.test(experiment(), "drug", "lot")
    page, answer = reported(found)
    text = words(page)
    result = answer.result
    assert result is not None

    assert json.loads(
        re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.S)[0]
    )
    assert f"drug: B - A: {result.effects[0].called} of 50 features at q ≤ 0.05" in text
    assert "drug: C - A cannot be told from lot: drug[C] = lot[3]" in text
    assert result.effects[0].top[0].feature in text
    assert page.count("<figure") == 3
    assert not re.search(r"\b(None|nan|NaN)\b", text)


def test_names_in_the_data_cannot_change_the_page() -> None:
    """Markup in names of features and levels appears as text."""
    rng = np.random.default_rng(1)
    sheet = {"lot": ["1", "2"] * 8, "drug": ["<b>", "<b>", "$x$", "$x$"] * 4}
    features = ["<script>alert(1)</script>", *(f"f{k}" for k in range(9))]
    table = Table.from_arrays(rng.normal(size=(16, 10)), sheet, features=features)
    page, _ = reported(testing.test(table, "drug", "lot"))

    assert page.count("<script") == 1
    assert "alert(1)" in words(page)


def test_many_features_make_a_small_page() -> None:
    """20,000 features make a page far below the limit, which says what was left out."""
    page, _ = reported(testing.test(experiment(20_000), "drug", "lot"))

    assert len(page.encode()) < LARGEST_PAGE / 2
    assert "at most 300 are drawn" in words(page)


def test_an_answer_without_result_is_not_reported() -> None:
    """A refusal has no page."""
    with pytest.raises(ValueError, match="no result"):
        contrast_report(Envelope[ContrastTestsResult](command="test", result=None))


def test_the_page_shows_how_deep_the_libraries_are() -> None:
    """Counts: how many features were kept, and every library, the least effective first."""
    rng = np.random.default_rng(2)
    sheet = {"lot": ["1", "2"] * 4, "drug": [*"AAAABBBB"]}
    counts = rng.poisson(np.linspace(1, 200, 40) * np.arange(8, 0, -1)[:, None]).astype(float)
    found = testing.test(Table.from_arrays(counts, sheet, values_are="counts"), "drug", "lot")
    page, answer = reported(found)
    published = answer.answer().counts
    shown = words(page)
    rows = re.findall(r"specimen \d", shown[shown.index("The least effective first") :])

    assert published is not None
    assert published.kept < published.features == 40
    assert f"of the {published.kept} features with enough counts (of 40)" in shown
    assert rows[:8] == [f"specimen {k}" for k in range(8, 0, -1)]
    assert list(published.sizes.values()) == counts[:, found.counts.kept].sum(axis=1).tolist()


def test_the_page_draws_leading_features_and_the_trend() -> None:
    """With the table a heat map of the first contrast, of counts the trend; all can be saved."""
    rng = np.random.default_rng(2)
    sheet = {"lot": ["1", "2"] * 6, "drug": [*"AAAABBBBCCCC"]}
    counts = rng.poisson(np.linspace(20, 200, 40), size=(12, 40)).astype(float)
    table = Table.from_arrays(counts, sheet, values_are="counts")
    found = testing.test(table, "drug", "lot")
    _, answer = reported(found)
    page = contrast_report(answer, found, None, table)
    figures = re.findall(r'<figure id="([^"]+)"', page)

    assert [name for name in figures if name.startswith("leading")] == ["leading-0"]
    assert figures[-1] == "trend"
    assert "the 40 features with the smallest p: log counts per million" in words(page).lower()
    assert page.count("<a download=") == 3 * len(figures)
    assert "voom" in words(page)


def test_names_too_long_for_a_page_cost_what_saves_its_figures_first() -> None:
    """The page stays below its limit and says which links are gone; the figures stay."""
    names = ["n" * 12_000 + str(k) for k in range(50)]
    table = Table.from_arrays(experiment().values, experiment().sheet, features=names)
    found = testing.test(table, "drug:B-A", "lot")
    page, _ = reported(found)

    assert len(page.encode()) <= LARGEST_PAGE
    assert "(csv: too large)" in words(page)
    assert page.count("<figure") == 3

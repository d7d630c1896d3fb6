"""The reports of plan, diagnose and correct: complete, faithful, small, fit for any data."""

import dataclasses
import json
import re
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from batchsense.experiments import Table, correct, diagnose, digits_table
from batchsense.questions.correct.report import correct_report
from batchsense.questions.correct.result import CorrectResult
from batchsense.questions.diagnose.report import diagnose_report
from batchsense.questions.diagnose.result import DiagnoseResult
from batchsense.questions.plan.report import plan_report
from batchsense.questions.plan.result import PlanResult
from batchsense.reports.envelope import Envelope, Note
from batchsense.reports.page import LARGEST_PAGE, NUMBERS_ID

SVG = re.compile(r"<svg.*?</svg>", re.S)


def numbers(page: str) -> Any:
    """Parse the document inside a page."""
    block = page.split(f'id="{NUMBERS_ID}">')[1].split("</script>")[0]
    return json.loads(block)


def words(page: str) -> str:
    """Give the text of a page, without drawings, on one line."""
    body = SVG.sub(" ", page.split("</head>")[1].split("<script")[0])
    return " ".join(re.sub(r"<[^>]+>", " ", body).replace("\xa0", " ").split())


def images(page: str) -> list[ElementTree.Element]:
    """Give the drawings of a page."""
    return [ElementTree.fromstring(text) for text in SVG.findall(page)]


def diagnosed(table: Table, batch_labels: str, keep: list[str]) -> tuple[str, Any]:
    """Diagnose a table and write its report."""
    found = diagnose(table, batch_labels, keep, permutations=20)
    result = DiagnoseResult.of(found, table.orientation)
    answer = Envelope[DiagnoseResult](
        command="diagnose", seed=0, result=result, notes=Note.published(found.notes)
    )
    return diagnose_report(answer, found, table), answer


@pytest.fixture(scope="module")
def plan(module_timed_digits: None) -> Envelope[PlanResult]:
    """Plan a small job, measured for a moment."""
    from batchsense.training import PlanRequirements, load_target, plan_training

    measured = plan_training(load_target("digits"), PlanRequirements(tolerance=0.5), seconds=2)
    result = PlanResult.of(measured, "digits")
    return Envelope[PlanResult](command="plan", seed=0, result=result)


@pytest.fixture(scope="module")
def digits() -> tuple[str, Any]:
    """Diagnose the digits."""
    return diagnosed(digits_table(), "form", ["digit"])


def test_a_plan_is_reported_as_it_was_measured(plan: Envelope[PlanResult]) -> None:
    """Advice, intervals and every row of the trade-off stand on the page; the JSON is equal."""
    page = plan_report(plan, "batchsense plan digits --seed 0")
    text, result = words(page), plan.result
    assert result is not None

    assert numbers(page) == json.loads(plan.to_json())
    assert f"{result.batch_size:,} examples per minibatch" in text
    for row in result.pareto:
        time, spent = row.relative_time, row.relative_examples
        assert f"{row.batch_size:,} {time.estimate:.2f} {time.low:.2f} to {time.high:.2f}" in text
        assert f"{spent.estimate:.2f} {spent.low:.2f} to" in text
    for doubt in result.doubts:
        assert doubt.message.split(";")[0] in text.replace("&#39;", "'")
    assert "batchsense plan digits --seed 0" in text
    assert len(images(page)) == 3


def test_a_plan_with_open_ends_is_reported_in_words(plan: Envelope[PlanResult]) -> None:
    """What is unbounded or unknown is said, never written as None or NaN."""
    assert plan.result is not None
    open_end = {"estimate": None, "low": 40.0, "high": None, "reason": "no bound"}
    critical = plan.result.critical_batch_size.model_copy(update={**open_end, "resolved": False})
    memory = plan.result.memory.model_copy(
        update={"peak_bytes": None, "max_batch_size": None, "reason": "it grew in steps"}
    )
    changed = plan.result.model_copy(
        update={
            "critical_batch_size": critical,
            "memory": memory,
            "learning_rate": None,
            "learning_rate_rule": None,
            "batch_size_today": None,
            "pareto": [
                row for row in plan.result.pareto if row.batch_size == plan.result.batch_size
            ],
            "tolerance": [],
        }
    )
    text = words(plan_report(plan.model_copy(update={"result": changed})))

    assert "at least 40" in text
    assert "Not resolved yet" in text
    assert "it grew in steps" in text
    assert not re.search(r"\b(None|nan|NaN|inf)\b", text)


def test_a_diagnosis_is_reported_as_it_was_found(digits: tuple[str, Any]) -> None:
    """Verdict, shares, confounding numbers and all counts stand on the page."""
    page, answer = digits
    text, result = words(page), answer.result

    assert numbers(page) == json.loads(answer.to_json())
    assert "Adjust" in text
    assert f"{100 * result.batch.share.estimate:.2f} %" in text
    assert f"{result.kept[0].r2_with_batch:.3f}" in text
    for level, row in result.kept[0].counts.items():
        assert f"{level} {' '.join(map(str, row))} {sum(row)}" in text
    assert sum(map(sum, result.kept[0].counts.values())) == 1797
    assert len(images(page)) == 6


def test_every_drawing_tells_its_finding(digits: tuple[str, Any]) -> None:
    """Each drawing is an image with a title and a description in a full sentence."""
    for image in images(digits[0]):
        title, description = list(image)[:2]
        assert image.get("role") == "img"
        assert title.text
        assert (description.text or "").endswith(".")
        assert len(description.text or "") > 40


def test_ids_are_unique_in_the_whole_page(digits: tuple[str, Any]) -> None:
    """No id of any drawing or section occurs twice."""
    ids = re.findall(r'\bid="([^"]+)"', digits[0])

    assert len(ids) == len(set(ids))


def test_the_form_is_never_called_a_person(digits: tuple[str, Any]) -> None:
    """Nobody knows who filled which form."""
    assert "writer" not in words(digits[0]).lower()


def test_a_hopeless_design_names_what_is_entangled() -> None:
    """The relation, what is missing and the counts stand on the page, the verdict first."""
    sheet = {"month": ["May"] * 4 + ["July"] * 4, "drug": ["no"] * 4 + ["yes"] * 4}
    values = np.random.default_rng(0).normal(size=(8, 5))
    page, answer = diagnosed(Table.from_arrays(values, sheet), "month", ["drug"])
    text = words(page)

    assert answer.result.verdict == "not_estimable"
    assert "Not estimable" in text
    assert answer.result.kept[0].aliased[0] in text
    assert "yes 4 0 4" in text
    assert "2 of 4 combinations of drug and month have no specimen" in text


def test_names_in_the_data_cannot_change_the_page() -> None:
    """Markup, formulas and endless names in a sheet appear as text."""
    rng = np.random.default_rng(0)
    evil = "<script>alert(1)</script>"
    sheet = {evil: ["a<b", "$x$", "_u", "y" * 80] * 10, "drug": ["p", "p", "q", "q"] * 10}
    table = Table.from_arrays(rng.normal(size=(40, 6)), sheet)
    page, answer = diagnosed(table, evil, ["drug"])

    assert page.count("<script") == 1
    assert numbers(page) == json.loads(answer.to_json())
    assert "y" * 80 in words(page)
    assert len(images(page)) == 5


def test_a_numeric_factor_needs_no_counts() -> None:
    """A factor of numbers is reported by its confounding numbers alone."""
    rng = np.random.default_rng(0)
    sheet = {"month": [0, 1] * 15, "age": (rng.normal(size=30) + 40).tolist()}
    table = Table.from_arrays(rng.normal(size=(30, 5)), sheet)
    page, answer = diagnosed(table, "month", ["age"])

    assert answer.result.kept[0].counts is None
    assert "What is kept against month" in words(page)
    assert "None" not in words(page)


def test_nothing_kept_is_reported_too() -> None:
    """Without a wanted factor the page shows the batches and says what is missing."""
    table = Table.from_arrays(np.random.default_rng(0).normal(size=(12, 4)), {"month": [1, 2] * 6})
    page, _ = diagnosed(table, "month", [])

    assert "Specimens per month" in words(page)
    assert "No factor was named to be kept" in words(page)


@pytest.mark.parametrize(
    ("specimens", "features"),
    [
        (200, 20_000),
        (20_000, 8),
        (5000, 12),
        pytest.param(100_000, 8, marks=pytest.mark.slow),
    ],
)
def test_large_tables_give_small_pages(specimens: int, features: int) -> None:
    """20,000 genes or 100,000 cells make a page below 1.5 MB, which says what was reduced."""
    rng = np.random.default_rng(0)
    month, drug = np.arange(specimens) % 12, rng.integers(3, size=specimens)
    sheet = {"month": month, "drug": drug}
    values = rng.normal(size=(specimens, features))
    table = Table.from_arrays(values, sheet, categorical=["month", "drug"])
    page, _ = diagnosed(table, "month", ["drug"])

    assert len(page.encode()) < LARGEST_PAGE
    assert ("Drawn are 600 of the" in words(page)) == (specimens > 600)


def test_a_correction_is_reported_with_before_and_after() -> None:
    """What was removed, what was kept and every remark stand on the page."""
    corrected = correct(digits_table(), "form", ["digit"])
    result = CorrectResult.of(corrected, "corrected.csv")
    answer = Envelope[CorrectResult](command="correct", seed=0, result=result)
    page = correct_report(answer, corrected)
    text = words(page)

    assert numbers(page) == json.loads(answer.to_json())
    assert "corrected.csv" in text
    for note in result.notes:
        assert note.message.split(";")[0] in text
    titles = [next(iter(image)).text for image in images(page)]
    assert titles == [
        "Coloured by form, before correction",
        "Coloured by form, after correction",
        "Coloured by digit, before correction",
        "Coloured by digit, after correction",
        "Relative expression, before correction",
        "Relative expression, after correction",
    ]


def test_an_answer_without_result_is_not_reported() -> None:
    """A refusal has no figures: writing a report of it is a fault of the caller."""
    with pytest.raises(ValueError, match="no result"):
        plan_report(Envelope[PlanResult](command="plan", result=None))


def test_results_are_frozen() -> None:
    """A report cannot change the numbers that it shows."""
    from batchsense.reports.page import Picture

    with pytest.raises(dataclasses.FrozenInstanceError):
        Picture("a", "b", "c", "d").name = "e"  # type: ignore[misc]


@pytest.mark.parametrize("batches", [["lane"], ["rin", "age"], ["lane", "rin"]])
def test_batches_that_are_numbers_have_a_page(batches: list[str]) -> None:
    """Eight numbered lanes are labels, drawn and named as such; two measured columns are none."""
    rng = np.random.default_rng(0)
    sheet = {"lane": np.repeat(np.arange(1, 9), 4).astype(str), "drug": [*"abba"] * 8}
    sheet |= {name: rng.normal(size=32).round(2).astype(str) for name in ("rin", "age")}
    table = Table.from_arrays(rng.normal(size=(32, 12)), sheet)
    found = diagnose(table, batches, ["drug"], permutations=20)
    result = DiagnoseResult.of(found, table.orientation)
    page = diagnose_report(Envelope(command="diagnose", seed=0, result=result), found, table)

    mixing = [(one.name, one.measure) for one in found.scores.mixing]
    of_lane = [("lane", "iLISI"), ("lane", "kBET")] if "lane" in batches else []
    assert mixing == [*of_lane, ("drug", "cLISI")]
    assert ("Relative expression" in page) == ("lane" in batches)
    assert ("beside numbers" in page) == ("lane" not in batches)
    none = diagnose(table, batches, ["rin"] if batches == ["lane"] else [], permutations=20)
    assert {one.measure for one in none.scores.mixing} == ({"iLISI", "kBET"} if of_lane else set())

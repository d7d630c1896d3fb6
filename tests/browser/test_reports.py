"""Every report opens offline in a browser without JavaScript: quiet, complete, readable."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchsense.experiments import compare_gaps, correct, diagnose, digits_table
from batchsense.questions.correct.report import correct_report
from batchsense.questions.correct.result import CorrectResult
from batchsense.questions.demo.report import demo_report
from batchsense.questions.demo.result import DemoResult
from batchsense.questions.diagnose.report import diagnose_report
from batchsense.questions.diagnose.result import DiagnoseResult
from batchsense.questions.gap.report import gap_report
from batchsense.questions.gap.result import GapResult
from batchsense.questions.plan.report import plan_report
from batchsense.questions.plan.result import PlanResult
from batchsense.reports.envelope import Envelope

Open = Callable[..., Any]
REPORTS = ("plan", "diagnose", "correct", "gap", "demo")

pytestmark = pytest.mark.browser


def plan() -> tuple[Envelope[PlanResult], str]:
    """Plan for a moment."""
    from batchsense.training import load_target, plan_training

    result = PlanResult.of(plan_training(load_target("digits"), seconds=1), "digits")
    answer = Envelope[PlanResult](command="plan", seed=0, result=result)
    return answer, plan_report(answer)


def diagnosis() -> tuple[Envelope[DiagnoseResult], str]:
    """Diagnose the digits."""
    table = digits_table()
    found = diagnose(table, "form", ["digit"], permutations=20)
    result = DiagnoseResult.of(found, table.orientation)
    answer = Envelope[DiagnoseResult](command="diagnose", seed=0, result=result)
    return answer, diagnose_report(answer, found, table)


def correction() -> tuple[Envelope[CorrectResult], str]:
    """Correct the digits."""
    corrected = correct(digits_table(), "form", ["digit"])
    result = CorrectResult.of(corrected, "corrected.csv")
    answer = Envelope[CorrectResult](command="correct", seed=0, result=result)
    return answer, correct_report(answer, corrected)


def unseen() -> tuple[Envelope[GapResult], str]:
    """Predict the digits on forms left out."""
    found = compare_gaps(digits_table(), "form", "digit", repeats=1)
    answer = Envelope[GapResult](command="gap", seed=0, result=GapResult.of(found, 64, 1))
    return answer, gap_report(answer)


def story() -> tuple[Envelope[DemoResult], str]:
    """Tell the demo's story with few draws."""
    from batchsense.questions.demo import confounded, forms, gradient
    from batchsense.questions.demo.story import tell

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradient, "DRAWS", 20)
        patch.setattr(gradient, "CHECKS", 20)
        patch.setattr(forms, "REPEATS", 1)
        patch.setattr(forms, "PERMUTATIONS", 20)
        patch.setattr(confounded, "DRAWS", 3)
        result = tell(seed=0, plan_seconds=1)
    answer = Envelope[DemoResult](command="demo", seed=0, result=result)
    return answer, demo_report(answer)


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Path]]:
    """Write every report once."""
    folder = tmp_path_factory.mktemp("reports")
    written = {}
    all_made = (plan(), diagnosis(), correction(), unseen(), story())
    for name, made in zip(REPORTS, all_made, strict=True):
        answer, page = made
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
        written[name] = (answer, folder / f"{name}.html")
    return written


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_needs_nothing_but_itself(
    visit: Open, reports: dict[str, tuple[Any, Path]], name: str
) -> None:
    """No request besides the file and its own data, no complaint, under 1.5 MB."""
    _, path = reports[name]
    seen = visit(path)
    elsewhere = [url for url in seen.requests if not url.startswith("data:")]

    assert elsewhere == [path.resolve().as_uri()]
    assert seen.console == []
    assert path.stat().st_size < 1_500_000


@pytest.mark.parametrize("name", REPORTS)
def test_every_image_has_words_and_can_be_seen(
    visit: Open, reports: dict[str, tuple[Any, Path]], name: str
) -> None:
    """Role, title and finding are there, and each drawing has a size on the page."""
    images = visit(reports[name][1]).images()

    assert len(images) >= 2
    for role, title, finding, width in images:
        assert role == "img"
        assert len(title) > 5
        assert len(finding) > 30
        assert width > 200


@pytest.mark.parametrize("name", REPORTS)
def test_the_numbers_are_those_of_json(
    visit: Open, reports: dict[str, tuple[Any, Path]], name: str
) -> None:
    """What the browser finds in the page parses to the --json document."""
    answer, path = reports[name]

    assert visit(path).numbers() == json.loads(answer.to_json())


@pytest.mark.parametrize("name", REPORTS)
@pytest.mark.parametrize("width", [1000, 500])
def test_nothing_is_wider_than_the_window(
    visit: Open, reports: dict[str, tuple[Any, Path]], name: str, width: int
) -> None:
    """The page never scrolls sideways; wide tables scroll by themselves."""
    assert visit(reports[name][1], width=width).overflow() == 0

"""``batchsense demo``: the account, the document and the report tell one story."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from batchsense.cli.main import run
from batchsense.questions.demo import forms, gradient, report, story
from batchsense.reports.page import LARGEST_PAGE, NUMBERS_ID
from published import check_document


@pytest.fixture(scope="module")
def told(module_timed_digits: None) -> Any:
    """Tell the story once, with fewer draws than the command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradient, "DRAWS", 150)
        patch.setattr(gradient, "CHECKS", 400)
        patch.setattr(forms, "REPEATS", 1)
        return story.tell(seed=0, plan_seconds=3)


@pytest.fixture(scope="module")
def pictures(told: Any) -> Any:
    """Draw its figures once."""
    return report._demo_pictures(told)


@pytest.fixture
def quick(told: Any, pictures: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let the command tell the story that was computed and drawn already, in an empty folder."""
    monkeypatch.setattr(story, "tell", lambda seed=0, **_: told)
    monkeypatch.setattr(report, "_demo_pictures", lambda _: pictures)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def numbers(page: Path) -> Any:
    """Parse the document inside a page."""
    block = page.read_text().split(f'id="{NUMBERS_ID}">')[1].split("</script>")[0]
    return json.loads(block)


def test_the_story_is_true(told: Any) -> None:
    """Variances fall as 1/n; the plan is sane; forms hurt; centring destroys; refusal names."""
    assert -1.03 < told.gradient.slope.estimate < -0.97
    assert told.tolerance.observed_miss_rate.low < 1.4 * told.tolerance.miss_rate
    assert 16 <= told.plan.batch_size <= 512
    for one in told.classifiers:
        assert one.ratio.estimate > 2
        assert one.difference.low > 0
        assert one.forms_worse + one.forms_equal + one.forms_better == len(one.by_form) == 14
        gaps = [form.left_out - form.shuffled for form in one.by_form]
        assert one.difference.estimate == pytest.approx(sum(gaps) / 14)
    ignored, centred, kept = (method.error.estimate for method in told.confounded.methods)
    assert centred > 3 * max(ignored, kept)
    assert told.confounded.refusal.aliased
    assert told.memory.peak_bytes <= told.memory.limit_bytes < told.memory.beyond_bytes
    assert (told.workers.fastest, told.workers.choices[-1].relative_time.low > 2) == (1, True)
    assert [(one.name, one.verdict) for one in told.splits] == [("atoms", "no"), ("points", "yes")]
    lost = 1 - 8 * 7 / (64 * 63)  # of the pairs among 64 atoms, in parts of 8
    assert told.splits[0].deviation == pytest.approx(lost, abs=0.05)
    assert told.splits[1].deviation < 1e-9
    months = told.months
    assert months.share.low > 0.3
    assert (months.moved, months.p_value) == (30, pytest.approx(1 / 201))
    shares = [wrong / called for wrong, called in zip(months.wrong, months.called, strict=True)]
    assert shares[0] > 0.5
    assert shares[1] <= 0.15
    assert months.refusal.aliased == ["drug[yes] = month[July]"]
    above = told.heat.loss - told.heat.floor
    assert told.heat.heat.low < above < told.heat.heat.high


def test_json_is_one_valid_document_and_equals_the_report(
    quick: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One document that fits the schema is on stdout, even at -vv; the report carries the same."""
    assert run(["demo", "--json", "-vv", "-o", "story.html"]) == 0
    document = json.loads(capsys.readouterr().out)

    check_document(document, "demo")
    assert numbers(quick / "story.html") == document
    assert len((quick / "story.html").read_bytes()) < LARGEST_PAGE


def test_the_account_has_twelve_scenes_with_uncertainties(
    quick: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every scene is told in order; numbers come with intervals; the report is named and there."""
    assert run(["demo"]) == 0
    text = capsys.readouterr().out

    assert re.findall(r"^(\d+)\. ", text, re.M) == [str(place) for place in range(1, 13)]
    assert text.count("95 % interval") >= 12
    assert "±" in text
    assert "form" in text
    assert "inferred from the order of the rows" in text.replace("\n", " ")
    assert "writer" not in text.lower()
    assert "smaller part of what a form does" in text.replace("\n", " ")
    assert "demo-report.html" in text
    assert (quick / "demo-report.html").exists()
    assert max(map(len, text.splitlines())) <= 100


def test_the_report_shows_the_same_words_and_numbers(quick: Path) -> None:
    """Each sentence of the account stands in the report."""
    from batchsense.questions.demo.text import scenes

    run(["demo"])
    page = (quick / "demo-report.html").read_text()
    body = re.sub(r"<svg.*?</svg>", " ", page, flags=re.S)
    text = " ".join(re.sub(r"<[^>]+>", "", body).split()).replace("\xa0", " ")
    text = text.replace("&#39;", "'").replace("&lt;", "<").replace("&gt;", ">")

    for scene in scenes(story.tell()).values():
        assert scene.title in text
        for paragraph in scene.paragraphs:
            assert paragraph.replace("`", "") in text
    assert page.count('role="img"') == 9


def test_an_existing_report_of_the_default_name_is_kept(
    quick: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The account is told all the same, the report stays, and --force is named."""
    page = quick / "demo-report.html"
    page.write_text("mine")
    assert run(["demo"]) == 0
    streams = capsys.readouterr()

    assert page.read_text() == "mine"
    assert "8. " in streams.out
    assert "The same with figures" not in streams.out
    assert "--force" in streams.err
    assert run(["demo", "--force"]) == 0
    assert page.read_text() != "mine"


def test_an_existing_report_that_was_named_is_a_mistake(
    quick: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2 before any work; the file stays; so with a folder that does not exist."""
    monkeypatch.setattr(story, "tell", lambda *_, **__: pytest.fail("worked"))
    (quick / "mine.html").write_text("mine")

    assert run(["demo", "-o", "mine.html"]) == 2
    assert "--force" in capsys.readouterr().err
    assert (quick / "mine.html").read_text() == "mine"
    assert run(["demo", "-o", "nowhere/story.html"]) == 2
    assert run(["demo", "-o", "-", "--json"]) == 2
    assert [path.name for path in quick.iterdir()] == ["mine.html"]


def test_the_report_may_go_to_stdout(quick: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With -o - stdout holds the page alone, stderr the account, and no file is written."""
    assert run(["demo", "-o", "-"]) == 0
    streams = capsys.readouterr()

    assert streams.out.startswith("<!DOCTYPE html>")
    assert streams.out.rstrip().endswith("</html>")
    assert "8. " in streams.err
    assert list(quick.iterdir()) == []


def test_a_plan_without_advice_is_measured_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine too slow for the first attempt the plan takes three times as long."""
    from batchsense.errors import UnresolvedError

    budgets = []

    def plan(workload: object, *, seconds: float, **_: object) -> str:
        budgets.append(seconds)
        if len(budgets) == 1:
            raise UnresolvedError("the gradient drowns in its noise")
        return "advice"

    monkeypatch.setattr(story, "plan_training", plan)

    assert story._plan(None, 10.0, 0, lambda *_: None) == "advice"  # type: ignore[arg-type]
    assert budgets == [10.0, 30.0]

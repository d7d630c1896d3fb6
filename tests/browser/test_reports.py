"""Every report opens offline in a browser without JavaScript: quiet, complete, readable."""

from __future__ import annotations

import contextlib
import functools
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from batchsense.cli.main import run

Open = Callable[..., Any]
pytestmark = pytest.mark.browser

JOB = """
import torch
from torch.utils.data import TensorDataset
from batchsense import clock
from batchsense.training import Workload

generator = torch.Generator().manual_seed(0)
inputs = torch.randn(2000, 8, generator=generator)
targets = inputs.sum(1) + 2 * torch.randn(2000, generator=generator)

def square(model, minibatch):
    clock.now.spend(1e-3 + 5e-5 * len(minibatch[0]))
    return (model(minibatch[0])[:, 0] - minibatch[1]).square().mean()

def job():
    torch.manual_seed(0)
    model, data = torch.nn.Linear(8, 1), TensorDataset(inputs, targets)
    return Workload(model, square, data, lambda p: torch.optim.SGD(p, lr=0.02), batch_size=16)
"""

#: The words of each command in a folder that holds JOB, a matrix, its sheet, and a plan.
REPORTS = {
    "plan": "plan digits --budget 1 --tolerance 0.5",
    "noise": "noise digits --steps 16",
    "audit": "audit digits",
    "verify": "verify job.py:job --plan plan.json --budget 90 --loss 6.5",
    "diagnose": "diagnose --permutations 20",
    "diagnose a sheet": "diagnose m.csv s.csv --batch month --keep drug --permutations 20",
    "correct": "correct -o corrected.csv",
    "test": "test",
    "layout": "layout s.csv --batches 3 --balance drug --plate 3x3 -o layout.csv",
    "surrogates": "surrogates m.csv s.csv --keep drug -o surrogates.csv",
    "gap": "gap --model nearest --repeats 1",
    "demo": "demo",
}
#: The longest story is read by `make validate`.
EACH = [pytest.param(name, marks=[pytest.mark.slow] if name == "demo" else []) for name in REPORTS]


class Written(dict[str, tuple[Any, Path]]):
    """The document and the page of a command, written when they are first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __missing__(self, name: str) -> tuple[Any, Path]:
        page = self.folder / f"{name.replace(' ', '-')}.html"
        option = "-o" if name == "demo" else "--report"
        said = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, few_draws():
            patch.chdir(self.folder)
            with contextlib.redirect_stdout(said):
                code = run([*REPORTS[name].split(), option, str(page), "--json", "-q"])
        assert code in (0, 1), name
        self[name] = (json.loads(said.getvalue()), page)
        return self[name]


@contextlib.contextmanager
def few_draws() -> Any:
    """Let the demo tell its story with few draws."""
    from batchsense.questions.demo import confounded, forms, gradient, story

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradient, "DRAWS", 20)
        patch.setattr(gradient, "CHECKS", 20)
        patch.setattr(forms, "REPEATS", 1)
        patch.setattr(forms, "PERMUTATIONS", 20)
        patch.setattr(confounded, "DRAWS", 3)
        patch.setattr(story, "tell", functools.partial(story.tell, plan_seconds=2))
        yield


@pytest.fixture(scope="module")
def reports(
    tmp_path_factory: pytest.TempPathFactory, module_timed_digits: None
) -> dict[str, tuple[Any, Path]]:
    """Let commands write their reports once; the document of each and the page."""
    from batchsense.experiments import PlantedEffects, plant

    folder = tmp_path_factory.mktemp("reports")
    (folder / "job.py").write_text(JOB)
    table = plant(
        24, 300, 3, treated_share=0.67, effects=PlantedEffects(drug_share=0.1), seed=1
    ).table
    pd.DataFrame(table.values, table.specimens, table.features).to_csv(folder / "m.csv")
    pd.DataFrame(table.sheet, pd.Index(table.specimens, name="id")).to_csv(folder / "s.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run(["plan", "job.py:job", "--budget", "2", "-o", "plan.json", "-q"]) == 0
    return Written(folder)


@pytest.mark.parametrize("name", EACH)
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


@pytest.mark.parametrize("name", EACH)
def test_every_image_has_words_and_can_be_seen(
    visit: Open, reports: dict[str, tuple[Any, Path]], name: str
) -> None:
    """Role, title and finding are there, and each drawing has a size on the page."""
    images = visit(reports[name][1]).images()

    assert images or name == "audit"
    for role, title, finding, width in images:
        assert role == "img"
        assert len(title) > 5
        assert len(finding) > 15
        assert width > 200


@pytest.mark.parametrize("name", EACH)
def test_the_numbers_are_those_of_json(
    visit: Open, reports: dict[str, tuple[Any, Path]], name: str
) -> None:
    """What the browser finds in the page parses to the --json document."""
    answer, path = reports[name]

    assert visit(path).numbers() == answer


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("width", [1000, 500])
def test_nothing_is_wider_than_the_window(
    visit: Open, reports: dict[str, tuple[Any, Path]], name: str, width: int
) -> None:
    """The page never scrolls sideways; wide tables scroll by themselves."""
    assert visit(reports[name][1], width=width).overflow() == 0


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("width", [1000, pytest.param(400, marks=pytest.mark.slow)])
def test_everybody_can_read_it(
    scripting: Any,
    violations: Callable[[], list[str]],
    reports: dict[str, tuple[Any, Path]],
    name: str,
    width: int,
) -> None:
    """axe-core finds no violation of any impact, wide or narrow, light or dark."""
    scripting.set_window_size(width, 900)
    scripting.get(reports[name][1].resolve().as_uri())

    assert violations() == []


def test_a_figure_is_saved_without_script_and_network(visit: Open, tmp_path: Path) -> None:
    """The three links of a figure save what they name, from a file, offline, without JavaScript."""
    import time

    from batchsense.reports.figures.points import draw_points
    from batchsense.reports.page import Picture

    drawn = Picture.of(draw_points([1.0, 2.0], [3.0, 4.0], ["x", "y"], "drug"), "p", "It's", "F.")
    links = [f'<a download="{one.file}" href="{one.address}">save</a>' for one in drawn.saves]
    policy = "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'\">"
    page = tmp_path / "page.html"
    page.write_text(f"<!DOCTYPE html>{policy}{''.join(links)}")
    seen = visit(page)
    saved = tmp_path / "saved"
    allowed = {"behavior": "allow", "downloadPath": str(saved)}
    seen.driver.execute_cdp_cmd("Browser.setDownloadBehavior", allowed)
    for link in seen.driver.find_elements("css selector", "a"):
        link.click()
    wanted = {"p.svg": b"<svg", "p.png": b"\x89PNG", "p.csv": b"firs"}
    until = time.monotonic() + 20
    while {path.name for path in saved.glob("p.*")} != set(wanted) and time.monotonic() < until:
        time.sleep(0.1)

    assert {path.name: path.read_bytes()[:4] for path in saved.iterdir()} == wanted

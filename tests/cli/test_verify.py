"""`batchsense verify`: verdicts, exit codes, resuming, and what wrong input looks like."""

import json
from pathlib import Path
from typing import Any

import pytest

from batchsense.cli.main import run
from published import check_document

pytestmark = pytest.mark.usefixtures("module_clock")

HEAD = """
import torch
from torch import nn
from torch.utils.data import TensorDataset
from batchsense import clock
from batchsense.training import Workload

generator = torch.Generator().manual_seed(0)
inputs = torch.randn(2000, 8, generator=generator)
data = TensorDataset(inputs, inputs.sum(1) + 2 * torch.randn(2000, generator=generator))

def square(model, minibatch):
    clock.now.spend(1e-3 + 5e-5 * len(minibatch[0]))  # the clock goes on by work, not by load
    return (model(minibatch[0])[:, 0] - minibatch[1]).square().mean()

def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.02)

def line():
    torch.manual_seed(0)
    return nn.Linear(8, 1)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, module_clock: object) -> Path:
    """Give a folder with a small job and its plan."""
    here = tmp_path_factory.mktemp("verify")
    text = f"{HEAD}\ndef job():\n    return Workload(line(), square, data, sgd, batch_size=16)\n"
    (here / "train.py").write_text(text + "\ndef other():\n    return Workload("
                                   "nn.Linear(8, 1, bias=False), square, data, sgd)\n")  # fmt: skip
    assert run(["plan", target(here), "--budget", "8", "-o", str(here / "plan.json"), "-q"]) == 0
    return here


def target(folder: Path, function: str = "job") -> str:
    """Give the TARGET of the job."""
    return f"{folder / 'train.py'}:{function}"


def plan_with(folder: Path, tmp_path: Path, **changes: Any) -> str:
    """Write the plan with other claims."""
    document = json.loads((folder / "plan.json").read_text())
    document["result"].update(changes)
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(document))
    return str(path)


def test_a_plan_is_checked_and_goes_on_from_its_state(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """JSON by the schema, text and report by name; the second call makes no run again."""
    plan = plan_with(folder, tmp_path, batch_size=16)
    words = ["verify", target(folder), "--plan", plan, "--budget", "90", "--loss", "6.5"]
    code = run([*words, "--json", "-q"])
    document = json.loads(capsys.readouterr().out)
    check_document(document, "verify")
    result = document["result"]
    page = tmp_path / "report.html"
    again = run([*words, "--report", str(page)])
    text = capsys.readouterr().out

    assert code == again == (1 if result["verdict"] == "refuted" else 0)
    assert result["complete"]
    assert result["batch_size"] == 16
    assert [size["batch_size"] for size in result["sizes"]] == [2, 6, 16, 45, 128]
    assert all(size["reached"] and len(size["orders"]) == 5 for size in result["sizes"])
    assert result["minimum_steps"]["estimate"] > 0
    assert min(size["relative_time"] for size in result["sizes"]) == 1
    assert document["inputs"][0]["path"] == plan
    assert "other_target_loss" in [note["code"] for note in document["notes"]]
    assert text.startswith("The advice of 16 examples ")
    assert "Critical batch size by the sweep: " in text
    assert "<h1>Is 16 right for" in page.read_text()
    state = json.loads((tmp_path / "plan.verify.json").read_text())
    assert sum(run["seconds"] for run in state["runs"]) == pytest.approx(result["run_seconds"])


def test_a_wrong_plan_is_refuted_with_exit_code_1(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One example a step takes many times as long as eight: exit code 1, and the answer is said."""
    plan = plan_with(folder, tmp_path, batch_size=1, binding="noise")
    code = run(["verify", target(folder), "--plan", plan, "--budget", "90", "--loss", "6.5"])
    text = capsys.readouterr().out

    assert code == 1
    assert text.startswith("The advice of 1 examples is refuted")


def test_too_little_time_is_no_answer_and_says_what_is_needed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    """When the budget ends first: exit code 1, a refusal, and the state is kept."""
    monkeypatch.setattr("batchsense.training.verify.sweeping._Work._out_of_time", lambda _: True)
    plan = plan_with(folder, tmp_path)
    code = run(["verify", target(folder), "--plan", plan, "--json", "-q"])
    document = json.loads(capsys.readouterr().out)

    assert code == 1
    assert document["refusal"]["kind"] == "unresolved"
    assert "--budget" in document["refusal"]["needed"]
    assert (tmp_path / "plan.verify.json").exists()


def test_ctrl_c_keeps_what_was_done(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    """Exit code 130, and a line that says where finished runs are."""

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("batchsense.training.verify.sweeping.train_to_loss", interrupt)
    plan = plan_with(folder, tmp_path)

    assert run(["verify", target(folder), "--plan", plan]) == 130
    assert "plan.verify.json: the same command goes on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "cannot be read"),
        ("not json", "not a JSON document"),
        ("[1]", "not a plan"),
        ('{"command": "noise", "result": {}}', "not a plan"),
        ('{"command": "plan", "result": null}', "holds a refusal"),
        ('{"command": "plan", "result": {"target": 3}}', "plan again"),
    ],
)
def test_what_is_no_plan_is_bad_data(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, text: str
) -> None:
    """Exit code 3, naming the file and what to do, without a traceback."""
    path = tmp_path / "p.json"
    if content is not None:
        path.write_text(content)
    code = run(["verify", target(folder), "--plan", str(path)])
    said = capsys.readouterr().err

    assert code == 3
    assert "p.json: " in said
    assert text in said


def test_a_plan_for_another_job_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Numbers of parameters and examples tell one job from another."""
    code = run(["verify", target(folder, "other"), "--plan", str(folder / "plan.json")])

    assert code == 3
    assert "made for" in capsys.readouterr().err


def test_usage(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No plan, or nothing allowed at all, is a matter of usage: exit code 2."""
    assert run(["verify", target(folder)]) == 2
    plan = str(folder / "plan.json")
    assert run(["verify", target(folder), "--plan", plan, "--allowed", "0"]) == 2
    assert "--allowed must be positive" in capsys.readouterr().err

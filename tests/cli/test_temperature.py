"""`batchsense temperature`: a run that has settled, one that travels, a simulation, wrong input."""

import json
from pathlib import Path

import jsonschema
import pytest

from batchsense.cli.main import run
from batchsense.questions.registry import json_schema

JOB = """
import torch
from torch import nn
from torch.utils.data import TensorDataset
from batchsense.training import Workload

x = torch.randn(256, 4, generator=torch.Generator().manual_seed(0))
y = x.sum(1, keepdim=True) + torch.randn(256, 1, generator=torch.Generator().manual_seed(1))

def workload(optimizer=torch.optim.SGD, at_minimum=True, batch_size=8, **more):
    model = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.linalg.lstsq(x, y).solution.T)
        if not at_minimum:
            model.weight += 200
    return Workload(
        model,
        lambda model, minibatch: (model(minibatch[0]) - minibatch[1]).square().mean(),
        TensorDataset(x, y),
        lambda parameters: optimizer(parameters, **more),
        batch_size=batch_size,
    )

def settled():
    return workload(lr=0.05)

def travelling():
    return workload(at_minimum=False, lr=1e-5)

def adam():
    return workload(torch.optim.Adam, lr=0.01)

def unnamed():
    return workload(batch_size=None, lr=0.05)

def unstable():
    return workload(lr=1e9)
"""


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Write the jobs; give the start of their TARGET."""
    file = tmp_path_factory.mktemp("jobs") / "train.py"
    file.write_text(JOB)
    return f"{file}:"


def asked(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, object]]:
    """Ask with --json; give the exit code and the document, held to the schema."""
    code = run(["temperature", *words, "--json"])
    document = json.loads(capsys.readouterr().out)
    jsonschema.validate(document, json_schema("temperature"))
    return code, document


def test_a_settled_run_forecasts_its_heat(jobs: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Within the interval of the known bowl, with advice that says the same number."""
    code, document = asked(capsys, f"{jobs}settled", "--steps", "3200")
    result = document["result"]
    assert isinstance(result, dict)

    assert code == 0
    assert document["refusal"] is None
    assert result["settled"]["yes"]
    assert result["heat"]["low"] < result["heat"]["estimate"] < result["heat"]["high"]
    assert result["forecast"]["estimate"] == result["heat"]["estimate"]
    assert result["advice"].startswith("cool now: −")
    assert result["injected_heat"] > result["heat"]["estimate"] > 0
    assert result["sampling"] == "epoch"


def test_a_travelling_run_forecasts_nothing(jobs: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1, null with the reason, and what would help."""
    code, document = asked(capsys, f"{jobs}travelling", "--steps", "1000")
    result, refusal = document["result"], document["refusal"]
    assert isinstance(result, dict)
    assert isinstance(refusal, dict)

    assert code == 1
    assert result["forecast"]["estimate"] is None
    assert "travel" in result["forecast"]["reason"]
    assert not result["settled"]["yes"]
    assert result["advice"] == "still travelling: train on"
    assert "longer run" in refusal["needed"]


def test_text_and_page_say_the_same(
    jobs: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Heat, advice and why; a page with its figure."""
    page = tmp_path / "heat.html"
    code = run(["temperature", f"{jobs}adam", "--steps", "1000", "--report", str(page)])
    told = " ".join(capsys.readouterr().out.split())

    assert code in (0, 1)
    assert told.startswith("Heat of ") or "still travelling" in told
    assert "Adam has no such formula" in told
    assert "not verified by cooling" in told
    assert "Loss along the run" in page.read_text()


def test_simulated_escapes_follow_the_law(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fewer than usual here; the slope with its interval, and no heat of any training."""
    monkeypatch.setattr(
        "batchsense.training.simulate.arrhenius_plot", lambda seed, progress: _few(seed)
    )
    code, document = asked(capsys, "--simulate", "well")
    result = document["result"]
    assert isinstance(result, dict)

    assert code == 0
    assert 0.6 < result["escapes"]["slope"]["estimate"] < 1.4
    assert result["heat"]["estimate"] is None
    assert result["target"] is None


def _few(seed: int) -> object:
    from batchsense.training.simulate.arrhenius import arrhenius_plot

    return arrhenius_plot(escapes=40, seed=seed)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["settled", "--steps", "100"], 1, "960 steps"),
        (["unnamed", "--steps", "2000"], 3, "names no batch size"),
        (["settled", "--steps", "2000", "--batch-size", "300"], 3, "at most 256"),
        (["unstable", "--steps", "2000"], 3, "at step"),
        (["settled", "--window", "3"], 2, "window"),
        (["settled", "--steps", "9", "--simulate", "well"], 2, "leave out --steps"),
    ],
)
def test_what_cannot_be_measured_is_said(
    jobs: str, words: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what to do."""
    assert run(["temperature", f"{jobs}{words[0]}", *words[1:]]) == code
    assert says in " ".join(capsys.readouterr().err.split())

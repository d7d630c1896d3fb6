"""`batchsense plan`: the answer in both forms, and what wrong input looks like."""

import json
import sys
from pathlib import Path

import pytest

from batchsense.cli.main import run
from published import check_document

pytestmark = pytest.mark.usefixtures("work_clock")

HEAD = """
import torch
from torch import nn
from torch.utils.data import TensorDataset
from batchsense import clock
from batchsense.training import Workload

inputs = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
data = TensorDataset(inputs, inputs.sum(1) + torch.randn(200))

def square(model, minibatch):
    if hasattr(clock.now, "spend"):
        clock.now.spend(1e-3 + 5e-5 * len(minibatch[0]))
    return (model(minibatch[0])[:, 0] - minibatch[1]).square().mean()

def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.01)
"""


def job(tmp_path: Path, expression: str) -> str:
    """Write a file whose function `job` returns an expression; give its TARGET."""
    file = tmp_path / "train.py"
    file.write_text(f"{HEAD}\ndef job():\n    return {expression}\n")
    return f"{file}:job"


GOOD = "Workload(nn.Linear(3, 1), square, data, sgd)"


@pytest.mark.usefixtures("timed_digits")
def test_json_has_the_published_keys(capsys: pytest.CaptureFixture[str]) -> None:
    """One valid document on stdout, at any verbosity, with the keys that programs rely on."""
    code = run(["plan", "digits", "--budget", "2", "--json", "-vv"])
    document = json.loads(capsys.readouterr().out)
    check_document(document, "plan")
    result = document["result"]

    assert code == 0
    assert (document["command"], document["seed"]) == ("plan", 0)
    assert 8 <= result["batch_size"] <= 1797
    assert result["binding"] in ("noise", "overhead", "data")
    critical = result["critical_batch_size"]
    assert 0 < critical["low"] < critical["estimate"] < critical["high"]
    assert critical["resolved"] == (critical["high"] <= 4 * critical["low"])
    assert result["step_time"]["c0_seconds"] == pytest.approx(1e-3, rel=0.05)
    assert result["step_time"]["c1_seconds_per_example"] == pytest.approx(5e-5, rel=0.05)
    assert result["memory"]["peak_bytes"] > 4 * 26122
    assert result["memory"]["max_batch_size"] > result["batch_size"]
    assert result["learning_rate"] > 0
    assert result["batch_size"] in [row["batch_size"] for row in result["pareto"]]


@pytest.mark.usefixtures("timed_digits")
def test_text_is_one_page_in_plain_words(capsys: pytest.CaptureFixture[str]) -> None:
    """It begins with the answer, explains its words, and ends with its doubts."""
    assert run(["plan", "digits", "--budget", "2", "--tolerance", "0.5"]) == 0
    text = capsys.readouterr().out

    assert text.startswith("Recommended batch size for digits: ")
    for words in (
        "What decides: ",
        "critical batch size is where",
        "A step takes",
        "recommended",
        "Learning rate: ",
        "Memory: a step of",
        "Chebyshev",
        "What this is unsure of, first what may move the advice most:",
    ):
        assert words in text, words
    assert len(text.splitlines()) < 75
    assert "nan" not in text.lower()


def test_files_are_written_and_equal_the_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """-o holds the document, --report a page that carries it; an existing file is kept."""
    plan, page = tmp_path / "plan.json", tmp_path / "plan.html"
    words = ["plan", job(tmp_path, GOOD), "--budget", "1", "-o", str(plan), "--report", str(page)]

    assert run([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert json.loads(plan.read_text()) == document
    assert document["result"]["target"] in page.read_text()
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == [
        "plan.html",
        "plan.json",
        "train.py",
    ]
    assert run(words) == 2
    assert "exists" in capsys.readouterr().err


def test_an_unknown_size_of_today_gives_no_learning_rate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Null with a reason; with --today it is a number by a named rule."""
    named = job(tmp_path, GOOD)
    run(["plan", named, "--budget", "1", "--json"])
    unknown = json.loads(capsys.readouterr().out)["result"]
    run(["plan", named, "--budget", "1", "--json", "--today", "20"])
    known = json.loads(capsys.readouterr().out)["result"]

    assert unknown["learning_rate"] is None
    assert "batch_size_today_unknown" in [doubt["code"] for doubt in unknown["doubts"]]
    assert known["learning_rate"] > 0
    assert known["learning_rate_rule"]["from_batch_size"] == 20


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("1 / 0", ["ZeroDivisionError", "train.py:20"]),
        ("None", ["returned NoneType"]),
        ("Workload(nn.Linear(3, 1), lambda m, b: m(b[0]), data, sgd)", ["return one number"]),
        (
            "Workload(nn.Linear(3, 1), lambda m, b: square(m, b) * float('nan'), data, sgd)",
            ["the loss is nan"],
        ),
        (
            "Workload(nn.Linear(3, 1), lambda m, b: square(m, b).detach(), data, sgd)",
            ["no gradient"],
        ),
        (
            "Workload(nn.Linear(3, 1), lambda m, b: b[0].missing, data, sgd)",
            ["AttributeError", "train.py:20"],
        ),
        ("Workload(nn.Linear(3, 1), square, TensorDataset(*data[:1]), sgd)", ["one example"]),
        ("Workload(nn.Linear(3, 1), square, [], sgd)", ["examples is empty"]),
        ("Workload(nn.ReLU(), square, data, sgd)", ["nothing to train"]),
        ("Workload(nn.Linear(3, 1), square, data, lambda p: 3)", ["torch.optim.Optimizer"]),
        (
            "Workload(nn.Linear(3, 1), square, data, lambda p: torch.optim.SGD(p, lr=1e9))",
            ["at step", "short run"],
        ),
    ],
)
def test_faulty_targets_end_with_3_and_one_paragraph(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], expression: str, words: list[str]
) -> None:
    """No traceback, nothing on stdout, no file written; the text says what and where."""
    named = job(tmp_path, expression)
    output = tmp_path / "plan.json"
    code = run(["plan", named, "--budget", "1", "-o", str(output), "-q"])
    said = capsys.readouterr()

    assert code == 3
    assert said.out == ""
    assert all(word in said.err for word in words), said.err
    assert "Traceback" not in said.err
    assert len(said.err.strip().splitlines()) == 1
    assert not output.exists()


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["digts"], 3, "did you mean 'digits'"),
        (["missing.py:job"], 3, "no such file"),
        (["no_such_module_xyz:job"], 3, "no module named"),
        (["digits", "--memory", "8 apples"], 2, "8GiB"),
        (["digits", "--min", "64", "--max", "32"], 2, "--max 32 is below --min 64"),
        (["digits", "--tolerance", "0"], 2, "--tolerance must be positive"),
        (["digits", "--confidence", "1"], 2, "between 0 and 1"),
        (["digits", "--budget", "0"], 2, "budget"),
        (["digits", "-o", "missing_folder/plan.json"], 2, "not a folder"),
    ],
)
def test_wrong_words_are_refused_before_any_work(
    capsys: pytest.CaptureFixture[str], words: list[str], code: int, text: str
) -> None:
    """Usage ends with 2, data with 3; the text says what to write."""
    assert code == run(["plan", *words])
    said = capsys.readouterr()
    assert text in said.err
    assert said.out == ""


def test_no_is_an_answer(capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be done ends with 1 and, with --json, a document that says what would help."""
    code = run(["plan", "digits", "--budget", "1", "--memory", "1MB", "--json"])
    document = json.loads(capsys.readouterr().out)
    check_document(document, "plan")

    assert code == 1
    assert document["result"] is None
    assert document["refusal"]["kind"] == "unresolved"
    assert "not even one example fits" in document["refusal"]["message"]
    assert document["refusal"]["needed"]


def test_ctrl_c_ends_with_130(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is printed or written."""
    import batchsense.training

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(batchsense.training, "plan_training", interrupted)
    output = tmp_path / "plan.json"

    assert run(["plan", "digits", "-o", str(output)]) == 130
    assert capsys.readouterr().out == ""
    assert not output.exists()


def test_missing_torch_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the training extra: exit 2 and the exact command."""
    for name in [n for n in sys.modules if n.startswith("batchsense.training")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)

    assert run(["plan"]) == 2
    assert "pip install 'batchsense[training]'" in capsys.readouterr().err

"""`batchsense noise`: the answer in both forms, the answer "not yet", and wrong input."""

import json
from pathlib import Path

import pytest

from batchsense.cli.main import run
from published import check_document

HEAD = """
import torch
from torch import nn
from torch.utils.data import TensorDataset
from batchsense.training import Workload

inputs = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
targets = inputs.sum(1) + torch.randn(400, generator=torch.Generator().manual_seed(1))
data = TensorDataset(inputs, targets)

def square(model, minibatch):
    return (model(minibatch[0])[:, 0] - minibatch[1]).square().mean()

def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.01)

def linear():
    torch.manual_seed(0)
    return nn.Linear(3, 1)

def normed():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))

def ratio(model, minibatch):
    weights = minibatch[0][:, 0].exp()
    return (weights * (model(minibatch[0])[:, 0] - minibatch[1]).square()).sum() / weights.sum()
"""


def job(tmp_path: Path, expression: str) -> str:
    """Write a file whose function `job` returns an expression; give its TARGET."""
    file = tmp_path / "train.py"
    file.write_text(f"{HEAD}\ndef job():\n    return {expression}\n")
    return f"{file}:job"


GOOD = "Workload(linear(), square, data, sgd)"


def test_json_has_the_published_keys(capsys: pytest.CaptureFixture[str]) -> None:
    """One valid document on stdout, at any verbosity, with the keys that programs rely on."""
    code = run(["noise", "digits", "--steps", "40", "--json", "-vv"])
    document = json.loads(capsys.readouterr().out)
    check_document(document, "noise")
    result = document["result"]

    assert code == 0
    assert document["refusal"] is None
    assert result["method"] == "per_example"
    assert result["examples_used"] == 1792
    assert result["examples_needed"] == 0
    scale = result["noise_scale"]
    assert scale["resolved"]
    assert scale["low"] < 118.97 < scale["high"]
    tau, gamma = result["trace_covariance"], result["squared_gradient_norm"]
    assert scale["estimate"] == pytest.approx(tau["estimate"] / gamma["estimate"])
    critical = result["critical_batch_size"]
    assert critical["low"] is None or critical["low"] < critical["estimate"]
    assert result["run"]["steps"] == 40
    assert [layer["name"] for layer in result["layers"]] == ["0", "2", "4"]
    assert sum(layer["noise_share"]["estimate"] for layer in result["layers"]) == pytest.approx(1)


def test_the_text_says_the_number_first(capsys: pytest.CaptureFixture[str]) -> None:
    """Headline, meaning, run and layers, in less than a page."""
    assert run(["noise", "digits", "--steps", "40"]) == 0
    text = capsys.readouterr().out

    assert text.startswith("Noise scale of digits: ")
    for words in ("Each example gives", "Critical batch size", "Where the noise comes from"):
        assert words in text, words
    assert len(text.splitlines()) < 30
    assert "nan" not in text.lower()


def test_not_resolved_is_an_answer_with_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    """Too few examples: everything measured is printed, with how many more are needed."""
    words = ["noise", "digits", "--examples", "32", "--steps", "0"]
    assert run([*words, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    check_document(document, "noise")

    assert document["refusal"]["kind"] == "unresolved"
    assert "more examples" in document["refusal"]["needed"]
    assert document["result"]["noise_scale"]["resolved"] is False
    assert document["result"]["examples_needed"] >= 32
    assert document["result"]["critical_batch_size"]["reason"] == "there was no run"
    assert run(words) == 1
    assert "Not resolved yet: " in capsys.readouterr().out


def test_asking_for_what_is_needed_resolves_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Following the advice a few times leads to an answer."""
    examples = 32
    for _ in range(5):
        code = run(["noise", "digits", "--steps", "0", "--examples", str(examples), "--json"])
        result = json.loads(capsys.readouterr().out)["result"]
        if code == 0:
            break
        examples = result["examples_used"] + result["examples_needed"]

    assert code == 0
    assert result["noise_scale"]["low"] < 119 < result["noise_scale"]["high"]


def test_micro_batches_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    """Without single examples the interval is wider and the seed decides the split."""
    words = ["noise", "digits", "--steps", "0", "--no-per-example", "--json"]
    run([*words, "--seed", "1"])
    one = json.loads(capsys.readouterr().out)
    run([*words, "--seed", "2"])
    two = json.loads(capsys.readouterr().out)

    assert one["result"]["method"] == "micro_batches"
    assert one["seed"] == 1
    assert one["result"]["noise_scale"] != two["result"]["noise_scale"]


def test_modules_that_mix_examples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """BatchNorm: micro-batches with a caution; single examples, if insisted on, are refused."""
    target = job(tmp_path, "Workload(normed(), square, data, sgd)")
    assert run(["noise", target, "--steps", "0", "--json"]) in (0, 1)
    document = json.loads(capsys.readouterr().out)
    assert document["result"]["method"] == "micro_batches"
    codes = [note["code"] for note in document["notes"]]
    assert codes == ["coupled_examples", "micro_batches"]

    assert run(["noise", target, "--steps", "0", "--per-example"]) == 3
    assert "BatchNorm1d" in capsys.readouterr().err


def test_a_loss_that_is_no_mean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The quick audit goes first: a weighted mean is named as what it is."""
    target = job(tmp_path, "Workload(linear(), ratio, data, sgd)")
    run(["noise", target, "--steps", "0", "--no-per-example", "--json"])
    notes = json.loads(capsys.readouterr().out)["notes"]

    assert [note["code"] for note in notes] == ["loss_not_a_mean"]
    assert "batchsense audit" in notes[0]["message"]


def test_files_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """-o and --report hold the same numbers as --json; existing files are not replaced."""
    target = job(tmp_path, GOOD)
    numbers, page = tmp_path / "noise.json", tmp_path / "noise.html"
    words = ["noise", target, "--steps", "32", "-o", str(numbers), "--report", str(page), "--json"]
    assert run(words) == 0
    printed = json.loads(capsys.readouterr().out)

    assert json.loads(numbers.read_text()) == printed
    html = page.read_text()
    embedded = html.split('<script type="application/json" id="batchsense-numbers">')[1]
    assert json.loads(embedded.split("</script>")[0]) == printed
    assert "<svg" in html
    assert "--seed 0" in html
    assert run(words) == 2
    assert "exists" in capsys.readouterr().err


def test_an_unresolved_report_has_no_bare_infinity(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The page of an unbounded interval says so in words."""
    page = tmp_path / "noise.html"
    words = ["noise", "digits", "--examples", "32", "--steps", "0", "--report", str(page)]
    assert run(words) == 1
    capsys.readouterr()

    html = page.read_text()
    assert "Not resolved yet" in html
    assert "Infinity" not in html
    assert "None" not in html.split("<script")[0]


@pytest.mark.parametrize(
    ("expression", "words", "code"),
    [
        (GOOD, ["--steps", "8"], 2),
        (GOOD, ["--examples", "4"], 2),
        (GOOD, ["--micro-batches", "2"], 2),
        ("Workload(linear(), lambda m, b: m(b[0]), data, sgd)", [], 3),
        ("Workload(linear(), lambda m, b: m(b[0]).mean() * float('nan'), data, sgd)", [], 3),
        ("Workload(linear(), lambda m, b: square(m, b) * len(b[0]), data, sgd)", [], 3),
        ("Workload(linear(), square, TensorDataset(inputs[:4], targets[:4]), sgd)", [], 1),
        ("nothing", [], 3),
    ],
)
def test_wrong_input(
    expression: str, words: list[str], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A typed error in one readable paragraph, no traceback, no file."""
    output = tmp_path / "noise.json"
    assert run(["noise", job(tmp_path, expression), *words, "-o", str(output)]) == code
    said = capsys.readouterr()

    assert said.out == ""
    assert "Traceback" not in said.err
    assert 20 < len(said.err) < 600
    assert not output.exists()

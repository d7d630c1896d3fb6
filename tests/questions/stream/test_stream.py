"""``batchsense stream``: what it answers, when the answer is no, and what a plan makes of it."""

import json

import numpy as np
import pytest

from batchsense.cli.main import run
from batchsense.questions.plan.document import read_document
from batchsense.questions.plan.result import PlanResult
from batchsense.questions.plan.stream import streamed
from batchsense.questions.registry import json_schema
from batchsense.questions.stream.result import StreamResult
from batchsense.training.streaming import design_effect

jsonschema = pytest.importorskip("jsonschema")


@pytest.fixture(scope="module")
def sorted_rows(tmp_path_factory):
    """Twenty groups of two thousand rows, one after the other."""
    path = tmp_path_factory.mktemp("rows") / "sorted.npy"
    np.save(path, np.repeat(np.arange(20.0), 2000)[:, None] * np.ones(64))
    return path


def asked(capsys, *words, code=0):
    """The document that the command prints, and its exit code."""
    assert run(["stream", *map(str, words), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_its_document_has_the_promised_keys(sorted_rows, capsys):
    """Correlation with its interval, block, pool and design effect, as the schema says."""
    document = asked(capsys, sorted_rows, "--batch-size", 16, "--memory", "8MB")
    result = document["result"]

    jsonschema.validate(document, json_schema("stream"))
    assert result["icc"]["low"] <= result["icc"]["estimate"] <= result["icc"]["high"]
    assert result["design_effect"]["high"] <= 1.05
    assert result["memory_bytes"] == 8_000_000
    assert result["used_bytes"] <= 8_000_000
    assert result["design_effect"]["estimate"] == pytest.approx(
        design_effect(result["icc"]["estimate"], 16, 40_000, result["block"], result["pool"]),
        rel=1e-6,
    )


def test_too_little_memory_is_a_no_with_what_would_do(sorted_rows, capsys):
    """Exit code 1; with the memory that it names the answer is yes."""
    result = asked(capsys, sorted_rows, "--batch-size", 64, "--memory", "600kB", code=1)["result"]

    assert result["design_effect"]["high"] > 1.05
    enough = int(result["least_bytes"] * 1.02)
    asked(capsys, sorted_rows, "--batch-size", 64, "--memory", enough)
    assert run(["stream", str(sorted_rows), "--batch-size", "64", "--memory", "600kB"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "cannot be streamed well" in said
    assert "--shuffle-to OUT" in said


def test_a_shuffle_mends_it(sorted_rows, capsys, tmp_path):
    """The answer is about the shuffled file, whose rows are the same, and says what was before."""
    out = tmp_path / "shuffled.npy"
    words = [sorted_rows, "--batch-size", 64, "--memory", "600kB", "--shuffle-to", out]
    result = asked(capsys, *words)["result"]

    assert result["file"] == str(out)
    assert result["before"]["high"] > 1.05 >= result["design_effect"]["high"]
    assert np.sort(np.load(out)[:, 0]).tolist() == np.load(sorted_rows)[:, 0].tolist()
    assert run(["stream", *map(str, words)]) == 2
    assert "exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["absent.npy"], 3, "no such file"),
        (["https://example.org/x.npy"], 3, "address"),
        (["rows.npy", "--memory", "much"], 2, "amount of memory"),
        (["rows.npy", "--batch-size", "0"], 2, "greater than or equal to 1"),
        (["rows.npy", "--by", "label"], 3, "0 to 63"),
        (["rows.npy", "--memory", "2kB"], 3, "not even one minibatch"),
        (["rows.npy", "--shuffle-to", "rows.npy"], 2, "input of this run"),
        (["rows.npy", "--shuffle-to", "out.parquet"], 3, "written as .npy"),
    ],
)
def test_faults_are_told_plainly(words, code, says, sorted_rows, capsys, tmp_path, monkeypatch):
    """Files, options, and what does not fit."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.npy").write_bytes(sorted_rows.read_bytes())

    assert run(["stream", *words]) == code
    assert says in " ".join(capsys.readouterr().err.split())


def test_a_page_shows_the_plan(sorted_rows, tmp_path):
    """With its figure, and the words that ask again."""
    page = tmp_path / "stream.html"
    words = ["--batch-size", "16", "--memory", "8MB", "--report", str(page)]

    assert run(["stream", str(sorted_rows), *words]) == 0
    assert "blocks in a pool" in page.read_text()


def test_a_plan_takes_as_many_rows_as_are_worth_its_advice(sorted_rows, capsys, tmp_path):
    """The advised size times its design effect; without enough blocks it refuses."""
    run(["stream", str(sorted_rows), "--memory", "1MB", "-o", str(tmp_path / "stream.json")])
    capsys.readouterr()
    stream = read_document(
        str(tmp_path / "stream.json"), "stream", StreamResult, "batchsense stream"
    )
    plan = PlanResult.model_construct(
        batch_size=64,
        doubts=[],
        memory=type("Memory", (), {"max_batch_size": 10_000}),
    )
    found = streamed(plan, stream).stream

    assert found.independent == 64
    assert found.batch_size / found.design_effect == pytest.approx(64, rel=0.02)
    assert found.design_effect > 1.02

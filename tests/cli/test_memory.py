"""`batchsense memory`: what fits, what does not, a described net, and a step under the limit."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from batchsense.cli.main import run
from published import check_document


def asked(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the result of a valid document."""
    code = run(["memory", *words, "--json"])
    document = json.loads(capsys.readouterr().out)
    check_document(document, "memory")
    return code, document["result"]


def test_the_largest_size_is_the_inverse_of_the_peak(capsys: pytest.CaptureFixture[str]) -> None:
    """A described net in a limit: the peak at the answer fits into what is usable."""
    code, result = asked(
        capsys, "--features", "2e6", "--examples", "5400", "--dtype", "float64",
        "--limit", "24GiB",
    )  # fmt: skip

    assert code == 0
    assert result["fits"]
    assert result["batch_size"] == result["max_batch_size"] < 5400
    assert result["peak_bytes"] <= result["usable_bytes"] < 24 * 2**30
    assert result["full_batch_bytes"] == pytest.approx(86.5e9, rel=0.01)
    assert sum(result["breakdown"].values()) == pytest.approx(result["peak_bytes"], abs=8)
    assert result["binding"] == {"operation": "loading the next minibatch",
                                 "at": result["batch_size"]}  # fmt: skip
    assert result["max_batch_size_when_deleted"] > 1.9 * result["max_batch_size"]
    assert not result["verified"]


def test_a_size_that_does_not_fit_is_no_and_split(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1, and micro-batches that fit and add up to it."""
    words = ("--features", "1000", "--examples", "1e6", "--hidden", "1000", "--limit", "4GiB")
    code, result = asked(capsys, *words, "--batch-size", "900000")
    parts = result["accumulation"]

    assert code == 1
    assert not result["fits"]
    assert parts["count"] >= 2
    assert parts["micro_batch"] * parts["count"] >= 900_000 > parts["micro_batch"]
    assert parts["peak_bytes"] <= result["usable_bytes"]


def test_the_text_says_what_the_document_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every example of the digits fits into 4 GiB; the page says the same."""
    page = tmp_path / "memory.html"
    assert run(["memory", "digits", "--limit", "4GiB", "--report", str(page)]) == 0
    text = capsys.readouterr().out

    assert "All 1,797 examples of digits fit" in text
    assert re.search(r"a real step of 64 took what was predicted", text)
    assert "All 1,797 examples of digits fit" in page.read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--features", "3"], "given together"),
        (["digits", "--features", "3", "--examples", "4"], "either TARGET or"),
        (["--hidden", "12"], "describes a net"),
        (["--features", "3", "--examples", "4", "--hidden", "8,,9"], "1024,1024"),
        (["--features", "2.5", "--examples", "4"], "whole numbers"),
        (["--limit", "much"], "not an amount"),
        (["--check", "--fake"], "real step"),
    ],
)
def test_wrong_questions_are_usage(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and what to write instead."""
    assert run(["memory", *words]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


TARGET = """
import torch
from torch import nn
from torch.utils.data import Dataset
from batchsense.training import Workload

class Rows(Dataset):
    # A tenth of 2,000,000 features: 1.6 MB a row, made when it is asked for.
    def __len__(self):
        return 5400
    def __getitem__(self, index):
        return torch.full((200_000,), index / 5400, dtype=torch.float64)

def linear():
    return Workload(
        nn.Linear(200_000, 1, dtype=torch.float64),
        lambda model, minibatch: model(minibatch).square().mean(),
        Rows(),
        torch.optim.AdamW,
    )
"""


@pytest.mark.slow
def test_the_advice_trains_where_the_full_batch_dies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """8.6 GB of rows in 1.2 GB: all at once run out, the advised minibatch trains."""
    from batchsense.training.memory.trial import in_child

    (tmp_path / "job.py").write_text(TARGET)
    target = f"{tmp_path / 'job.py'}:linear"
    code, result = asked(capsys, target, "--limit", "1.5GiB", "--check")
    whole = {"target": target, "batch_size": 5400, "limit_bytes": 3 * 2**29, "seed": 0}

    assert code == 0
    assert result["verified"]
    assert result["batch_size"] >= 50
    assert in_child(whole, returning=True) == {"trained": False}


@pytest.mark.parametrize(
    "words",
    [
        ["--features", "9e15", "--examples", "9e15"],
        ["--features", "1e12", "--examples", "1e12", "--dtype", "float64"],
        ["--features", "3", "--examples", "4", "--hidden", "9" * 21],
    ],
)
def test_what_no_machine_can_address_is_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 3 and no answer: sizes of tensors would overflow."""
    assert run(["memory", *words]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "no machine can address" in " ".join(captured.err.split())


def test_a_trial_that_fails_for_another_reason_is_no_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fault of the user's code in the child is told; it is not taken for memory that ran out."""
    found = {"refused": "a step of 1797 examples failed: RuntimeError: a bug of mine"}
    monkeypatch.setattr("batchsense.training.memory.trial.in_child", lambda asked, returning: found)

    assert run(["memory", "digits", "--limit", "4GiB", "--check"]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "a bug of mine" in captured.err


@pytest.mark.parametrize(
    ("error", "ran_out"),
    [
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"), True),
        (RuntimeError("not enough memory: you tried to allocate 8 bytes"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("a bug of mine"), False),
    ],
)
def test_only_words_of_memory_mean_memory(error: Exception, ran_out: bool) -> None:
    """Also where the error is the cause of another."""
    from batchsense.errors import DataError
    from batchsense.training.memory.trial import _ran_out

    outer = DataError("the loss raised something")
    outer.__cause__ = error
    assert _ran_out(error) is _ran_out(outer) is ran_out

"""The command line's manners: exit codes, stdout for the answer only, help that helps."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from batchsense.cli import main as entry
from batchsense.cli.commands import SUMMARIES
from batchsense.errors import (
    BatchsenseError,
    ConfoundedError,
    DataError,
    MissingExtraError,
    UnresolvedError,
)
from batchsense.questions.registry import QUESTIONS, json_schema

ROOT = Path(__file__).resolve().parents[2]


def raising(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run the entry point with a command tree that raises this error."""

    def app(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(entry, "app", app)
    return entry.run(["anything"])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfoundedError("month and drug are aliased", ["drug = month"]), 1),
        (UnresolvedError("too noisy", needed="more examples"), 1),
        (MissingExtraError("AnnData files", "experiments"), 2),
        (typer.BadParameter("no such option"), 2),
        (DataError("not a number", where="m.csv"), 3),
        (ZeroDivisionError("ours"), 70),
        (KeyboardInterrupt(), 130),
        (typer.Abort(), 130),
    ],
)
def test_every_ending_has_its_exit_code(
    error: BaseException,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Answers, misuse, bad data, our bugs and interrupts are told apart; no traceback is shown."""
    assert code == raising(error, monkeypatch)

    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err


def test_errors_form_one_family() -> None:
    """Every typed error is a BatchsenseError, and a missing extra is also an ImportError."""
    for error in (ConfoundedError, UnresolvedError, DataError, MissingExtraError):
        assert issubclass(error, BatchsenseError)
    assert issubclass(MissingExtraError, ImportError)


def test_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt command exits with 2 and suggests the right one."""
    assert entry.run(["schma"]) == 2

    assert "Did you mean 'schema'?" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [["-q"], ["-v"], ["-vv"], ["--debug"]])
@pytest.mark.parametrize("where", ["before", "after"])
def test_verbosity_may_stand_anywhere_and_never_reaches_stdout(
    flags: list[str], where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """-q, -v and --debug work before and after the command; stdout holds one JSON document."""
    command = ["schema", "diagnose"]

    assert entry.run(flags + command if where == "before" else command + flags) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "batchsense diagnose --json"


def test_a_closed_pipe_is_not_a_no() -> None:
    """`batchsense schema plan | head -0` ends with 141, not with the code for "no"."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "batchsense", "schema", "plan"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)

    assert "Traceback" not in done.stderr
    assert done.returncode == 141


@pytest.mark.parametrize("name", sorted(SUMMARIES))
def test_every_command_is_documented(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command has help with an example and a docs page."""
    assert entry.run([name, "--help"]) == 0

    text = capsys.readouterr().out
    assert "Example" in text
    assert f"batchsense {name}" in text
    page = ROOT / "docs" / "commands" / f"{name}.md"
    assert page.exists(), f"write {page.relative_to(ROOT)}"


@pytest.mark.parametrize("name", sorted(set(SUMMARIES) - {"schema", "web"}))
def test_every_command_publishes_its_schema(name: str) -> None:
    """`--json` has a published model, and the committed copy of its schema is current."""
    assert name in QUESTIONS
    copy = ROOT / "docs" / "schemas" / f"{name}.json"

    assert copy.exists(), "run `make schemas`"
    assert json.loads(copy.read_text()) == json_schema(name), "run `make schemas`"

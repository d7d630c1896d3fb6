"""Text fits the terminal, is aligned in a pipe, and is one line where little is to be said."""

from __future__ import annotations

import os
import pty
import sys

import pytest

from batchsense.cli.main import run
from batchsense.cli.run import _words
from batchsense.questions.answer import Answer
from batchsense.questions.registry import QUESTIONS
from batchsense.reports.columns import columns, for_terminal, one_line, prose

HEADER = ["batch size", "remark", "time"]
ROWS = [["4", "slower and dearer than a smaller one", "1.5"], ["1,024", "", "2"]]


@pytest.mark.parametrize("width", [24, 30, 40])
def test_a_narrow_terminal_wraps_entries_and_loses_nothing(width: int) -> None:
    """No line is wider, and every word is there."""
    with for_terminal(width):
        table, sentence = columns(HEADER, ROWS), prose("one of them is " + "very " * 20 + "long")

    assert max(map(len, [*table.splitlines(), *sentence.splitlines()])) <= width
    words = [word for row in [HEADER, *ROWS] for cell in row for word in cell.split()]
    assert sorted(table.split()) == sorted(words)


def test_a_wide_one_and_a_pipe_keep_rows_whole() -> None:
    """With a rule where there is a terminal."""
    plain = columns(HEADER, ROWS)
    assert [line.index("1.5") for line in plain.splitlines()[1:2]] == [plain.index("time")]
    with for_terminal(80):
        assert columns(HEADER, ROWS) == plain
        assert set(columns(HEADER, ROWS, rule=True).splitlines()[1]) == {"─", " "}


def test_stdout_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real terminal of 40 columns is asked for its width; a pipe has none."""
    from batchsense.cli.console import line_width

    assert line_width() is None
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        monkeypatch.setenv("COLUMNS", "40")
        assert line_width() == 40
    os.close(ours)


def test_a_notebook_gets_lines_instead_of_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its cells are terminals that cannot move up."""
    from batchsense.cli import console

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(console, "_START_AFTER_S", 0.0)
    for inside, bar in ((True, False), (False, True)):
        monkeypatch.setenv("JPY_PARENT_PID", "1")
        if not inside:
            monkeypatch.delenv("JPY_PARENT_PID")
        with console.progress_on_stderr() as progress:
            progress("reading", 1, 2)
        assert bool(capsys.readouterr().err) is bar


def test_one_line_is_the_verdict_or_the_first_paragraph() -> None:
    """Without the line that says what was read."""
    assert one_line("m.csv: 4 rows\nRemoved: a\nlot.\n\nNotes", "m.csv") == "Removed: a lot."
    assert one_line("m.csv: 4\n\nVerdict: fine,\nall of it.\n\nMore", "m.csv") == (
        "Verdict: fine, all of it."
    )


@pytest.mark.parametrize(
    ("words", "start"),
    [
        (["audit", "digits", "-q"], "The loss of digits may be split into micro-batches."),
        (["memory", "digits", "-q"], "All 1,797 examples of digits fit"),
    ],
)
def test_quiet_prints_one_line(
    words: list[str], start: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The answer, and nothing on stderr."""
    run(words)
    said = capsys.readouterr()

    assert said.out.startswith(start)
    assert (len(said.out.splitlines()), said.err) == (1, "")


def test_every_command_has_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through one place: no question can print more."""
    from batchsense.cli.console import verbosity

    monkeypatch.setattr(verbosity, "level", -1)
    for question in QUESTIONS.values():
        request = question.request.model_construct()
        answer: Answer[object] = Answer(None, lambda _: "One\nanswer.\n\nAnd more.")  # type: ignore[type-var, arg-type]
        monkeypatch.setattr(question.request, "described", lambda _: "m.csv", raising=False)
        assert _words(request, answer) == "One answer."

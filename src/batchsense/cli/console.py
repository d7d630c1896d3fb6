"""Where words go: stdout carries only the answer, everything else goes to stderr.

Text is laid out for the width of the terminal; in a pipe nothing is wrapped that is one row.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchsense.progress import Progress, silent
from batchsense.reports.columns import columns

if TYPE_CHECKING:
    from rich.console import Console

# A bar that is over at once only flickers; in a log one line every ten seconds can be read.
_START_AFTER_S = 0.5
_LINE_EVERY_S = 10.0


@dataclass(slots=True)
class Verbosity:
    """How much is said on stderr in this process: -1 errors only, 0 normal, 1 and 2 more."""

    level: int = 0
    debug: bool = False


verbosity = Verbosity()


def write_answer(text: str) -> None:
    """Write the answer to stdout, with one final newline; every command ends here."""
    try:
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes stdout again at exit; without this it would print a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None


def line_width() -> int | None:
    """Letters of a line of the terminal on stdout; None in a pipe or a file."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def say(text: str, level: int = 0) -> None:
    """Write a line to stderr when the verbosity allows it."""
    if verbosity.level >= level:
        with contextlib.suppress(BrokenPipeError):
            print(text, file=sys.stderr, flush=True)


def _stderr_console() -> Console:
    from rich.console import Console

    return Console(stderr=True)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a table: aligned columns, with a rule below the header on a terminal.

    Examples
    --------
    >>> print(table(["batch size", "seconds"], [["32", "1.5"]]))
    batch size  seconds
    32          1.5
    """
    return columns(header, rows, rule=sys.stdout.isatty())


@contextlib.contextmanager
def progress_on_stderr() -> Iterator[Progress]:
    """Give a progress listener: a bar on a terminal, else one line every ten seconds.

    A cell of a notebook is a terminal whose lines cannot be taken back.
    """
    if verbosity.level < 0:
        yield silent
    elif sys.stderr.isatty() and "JPY_PARENT_PID" not in os.environ:
        with _bar() as listener:
            yield listener
    else:
        yield _lines()


def _lines() -> Progress:
    last = time.monotonic()

    def listener(task: str, done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _LINE_EVERY_S:
            last = time.monotonic()
            say(f"{task}: {done} of {total}")

    return listener


@contextlib.contextmanager
def _bar() -> Iterator[Progress]:
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    shown = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    bars = Bars(*shown, console=_stderr_console(), transient=True)
    tasks: dict[str, int] = {}
    began = time.monotonic()
    started = False

    def listener(task: str, done: int, total: int) -> None:
        nonlocal started
        if task not in tasks:
            tasks[task] = bars.add_task(task, total=total)
        bars.update(tasks[task], completed=done, total=total)  # type: ignore[arg-type]
        if not started and time.monotonic() - began > _START_AFTER_S:
            bars.start()
            started = True

    try:
        yield listener
    finally:
        if started:
            bars.stop()

"""Read a form into a request, ask, and tell the answer: in words, JSON, files and an exit code."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from batchsense.cli.console import (
    line_width,
    progress_on_stderr,
    say,
    table,
    verbosity,
    write_answer,
)
from batchsense.errors import (
    BatchsenseError,
    ConfoundedError,
    DataError,
    RequestError,
    UnresolvedError,
)
from batchsense.reports.columns import for_terminal, one_line
from batchsense.storage.inputs import check_input
from batchsense.storage.outputs import check_outputs

if TYPE_CHECKING:
    from batchsense.questions.answer import Answer, Product
    from batchsense.questions.registry import Question
    from batchsense.questions.request import Request

# 70 is EX_SOFTWARE of sysexits.h; the others are explained at the top of main.
EXIT_OK, EXIT_NO, EXIT_USAGE, EXIT_DATA, EXIT_BUG = 0, 1, 2, 3, 70


@dataclass(frozen=True, slots=True)
class Delivery:
    """How the answer is told."""

    as_json: bool
    report: str | None
    force: bool


def exit_code(error: BatchsenseError) -> int:
    """Map a typed error to its exit code."""
    if isinstance(error, ConfoundedError | UnresolvedError):
        return EXIT_NO
    return EXIT_DATA if isinstance(error, DataError) else EXIT_USAGE


def run_question(question: Question, values: Mapping[str, Any], delivery: Delivery) -> None:
    """Ask a question and tell its answer."""
    request = question.request.of(values)
    outputs = request.written_paths()
    if delivery.report is not None:
        outputs["--report"] = delivery.report
    _check_stdout(outputs, delivery)
    for path in request.read_paths():
        check_input(path)
    kept = request.kept_paths()
    begun = {option: path for option, path in kept.items() if not Path(path).exists()}
    inputs = [*request.read_paths(), *request.code_paths(), *kept.values()]
    check_outputs({**outputs, **begun}, inputs, delivery.force)
    try:
        # What the user's own code prints would stand before the answer.
        with progress_on_stderr() as progress, contextlib.redirect_stdout(sys.stderr):
            answer = question.ask(request, progress)
    except SystemExit as stop:
        raise DataError(
            f"the code of the training job ended the program (SystemExit: {stop.code}); let it "
            "raise an error instead"
        ) from None
    except KeyboardInterrupt as stop:
        if str(stop):
            say(f"batchsense: {stop}", level=-1)
        raise
    except (ConfoundedError, UnresolvedError) as error:
        if error.told or not delivery.as_json:
            raise
        _tell_refusal(request, error)
        raise typer.Exit(EXIT_NO) from None
    if answer.told:
        _tell(request, answer, delivery)
    if answer.no:
        raise typer.Exit(EXIT_NO)


def _check_stdout(outputs: Mapping[str, str], delivery: Delivery) -> None:
    """Refuse to mix what ``-o -`` prints with the JSON document, or to print a page."""
    if sys.stdout is None or sys.stdout.closed:
        raise RequestError("stdout is closed: there is nowhere for the answer to go")
    if delivery.report == "-":
        raise typer.BadParameter("--report - is not offered; name a file for the page")
    if delivery.as_json and "-" in outputs.values():
        option = next(name for name, path in outputs.items() if path == "-")
        raise typer.BadParameter(f"{option} - and --json both print to stdout; choose one")


def _tell(request: Request, answer: Answer[Any], delivery: Delivery) -> None:
    # Drawn before anything is written: if that failed, no result would lie there without an answer.
    page = None if delivery.report is None else answer.html(request.words())
    printed = None
    for product in answer.products:
        path = getattr(request, product.field) or _default_path(product, delivery)
        if path == "-" and product.text is not None:
            printed = product
        elif path is not None:
            product.write(Path(path))
            if product.announced:
                say(f"{product.name}: {path}")
    if delivery.report is not None and page is not None:
        from batchsense.storage.atomic import write_text

        write_text(Path(delivery.report), page)
        say(f"report: {delivery.report}")
    if printed is not None and printed.text is not None:
        write_answer(printed.text())
        say(answer.text(table))
    elif delivery.as_json:
        write_answer(answer.envelope.to_json())
    else:
        write_answer(_words(request, answer))


def _words(request: Request, answer: Answer[Any]) -> str:
    """The answer for people: in one line where little is to be said."""
    if verbosity.level >= 0:
        with for_terminal(line_width()):
            return answer.text(table)
    if answer.brief is not None:
        return answer.brief()
    described = getattr(request, "described", None)
    return one_line(answer.text(table), "" if described is None else described())


def _default_path(product: Product, delivery: Delivery) -> str | None:
    """Where a file goes that nobody named; what stands there is kept unless it may be replaced."""
    path = product.by_default
    if path is None or not Path(path).exists():
        return path
    if not delivery.force:
        say(f"{path} exists and was kept; --force replaces it, -o writes another one")
        return None
    check_outputs({"--output": path}, [], delivery.force)
    return path


def _tell_refusal(request: Request, error: ConfoundedError | UnresolvedError) -> None:
    from batchsense.reports.envelope import Refusal

    write_answer(request.envelope(None, refusal=Refusal.of(error)).to_json())
    say(str(error))

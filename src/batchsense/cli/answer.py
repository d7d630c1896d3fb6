"""How a command answers: text or one JSON document on stdout, a report, an exit code."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from batchsense.cli.console import say, write_answer
from batchsense.errors import BatchsenseError, ConfoundedError, DataError, UnresolvedError
from batchsense.storage.atomic import write_text

if TYPE_CHECKING:
    from batchsense.reports.envelope import Envelope

EXIT_OK, EXIT_NO, EXIT_USAGE, EXIT_DATA, EXIT_BUG = 0, 1, 2, 3, 70

write_text_atomically = write_text


def exit_code(error: BatchsenseError) -> int:
    """Map a typed error to its exit code."""
    if isinstance(error, ConfoundedError | UnresolvedError):
        return EXIT_NO
    return EXIT_DATA if isinstance(error, DataError) else EXIT_USAGE


def give(envelope: Envelope[Any], as_json: bool, text: Callable[[], str]) -> None:
    """Print the answer: the envelope as JSON, or the text made for people."""
    write_answer(envelope.to_json() if as_json else text())


@contextlib.contextmanager
def refusals(
    command: str, as_json: bool, seed: int | None, inputs: Sequence[str | Path] = ()
) -> Iterator[None]:
    """Turn a refusal inside the block into an answer: a JSON document if wanted, exit code 1."""
    try:
        yield
    except (ConfoundedError, UnresolvedError) as error:
        if not as_json:
            raise
        from batchsense.reports.envelope import Envelope, InputFile, Refusal
        from batchsense.storage.outputs import file_of

        envelope = Envelope[Any](
            command=command,
            inputs=[InputFile.of(path) for path in inputs if file_of(path).exists()],
            seed=seed,
            result=None,
            refusal=Refusal.of(error),
        )
        write_answer(envelope.to_json())
        say(str(error))
        raise typer.Exit(EXIT_NO) from None


def check_output(path: str | Path | None, force: bool) -> None:
    """Refuse, before any work, an output that exists or whose folder does not.

    Raises
    ------
    typer.BadParameter
        With exit code 2.
    """
    if path is None or str(path) == "-":
        return
    target = Path(path)
    if target.exists() and not force:
        raise typer.BadParameter(f"{target} exists; give another name or --force to replace it")
    if not target.parent.is_dir():
        raise typer.BadParameter(f"{target.parent} is not a folder; create it first")

"""``batchsense NAME``: one line, the question that it answers."""

from __future__ import annotations

from typing import Annotated

import typer

from batchsense.cli.answer import give, refusals
from batchsense.cli.console import progress_on_stderr


def name(
    matrix: Annotated[str, typer.Argument(metavar="MATRIX", help="What it is; which formats.")],
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of every draw.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Say in one line what it answers.

    Then what it does, what it changes (nothing) and when the answer is no (exit code 1).

    \b
    Examples:
      batchsense name matrix.csv
    """
    # Everything heavy is imported here, so that --help stays cheap.
    from batchsense.experiments import read
    from batchsense.questions.correct.result import CorrectResult
    from batchsense.reports.envelope import Envelope, InputFile

    with refusals("name", as_json, seed, [matrix]), progress_on_stderr() as progress:
        progress("reading", 0, 1)
        table = read(matrix, "sheet.csv")
        envelope = Envelope[CorrectResult](
            command="name", inputs=[InputFile.of(matrix)], seed=seed, result=None
        )
    give(envelope, as_json, lambda: f"{len(table.specimens)} specimens")

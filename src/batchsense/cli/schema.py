"""``batchsense schema``: the published shape of what ``--json`` prints."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from batchsense.cli.console import write_answer


def schema(
    command: Annotated[
        str | None, typer.Argument(metavar="[COMMAND]", help="The command; all names if left out.")
    ] = None,
) -> None:
    """Print the JSON Schema of a command's --json output.

    \b
    Examples:
      batchsense schema plan
      batchsense schema            (the names of the commands that have one)
    """
    from batchsense.questions.registry import QUESTIONS, json_schema

    if command is None:
        write_answer("\n".join(sorted(QUESTIONS)))
        return
    if command not in QUESTIONS:
        known = ", ".join(sorted(QUESTIONS))
        raise typer.BadParameter(f"no command {command!r} with a schema; known: {known}")
    write_answer(json.dumps(json_schema(command), indent=2, sort_keys=True))

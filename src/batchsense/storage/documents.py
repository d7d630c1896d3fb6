"""Reads back the JSON document of a question."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from batchsense.errors import DataError

#: Of the documents that this version writes and reads.
SCHEMA_VERSION = "1"


def read_result(
    path: str | Path, command: str, how: str, name: str | None = None
) -> dict[str, Any]:
    """Give the ``result`` of what ``batchsense COMMAND`` wrote; ``how`` is the line that does.

    Raises DataError: the file, called by its name, cannot be read, is another document, one of
    another version or a refusal.
    """
    where = name or str(path)
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", where) from None
    except (ValueError, RecursionError):
        raise DataError(f"not a JSON document, or cut off; write one with `{how}`", where) from None
    of = document.get("command") if isinstance(document, dict) else None
    if of != command:
        kind = f" but of batchsense {of}" if of else ""
        raise DataError(f"not a {command}{kind}; write one with `{how}`", where)
    version = document.get("schema_version", SCHEMA_VERSION)
    if version != SCHEMA_VERSION:
        raise DataError(
            f"its schema has version {version!r}, and this batchsense reads {SCHEMA_VERSION!r}; "
            f"write it anew with `{how}`",
            where,
        )
    result: Any = document.get("result")
    if not isinstance(result, dict):
        raise DataError(f"holds a refusal, not a {command}", where)
    return result

"""The commands, in the order in which help shows them."""

from __future__ import annotations

from collections.abc import Callable

from batchsense.cli.schema import schema

COMMANDS: dict[str, Callable[..., None]] = {
    "schema": schema,
}

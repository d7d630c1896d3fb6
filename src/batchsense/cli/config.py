"""Configuration by TOML: one table per command, the same names as the options.

Precedence: flag, then environment (``BATCHSENSE_PLAN_SEED``), then file, then default. An unknown
key is an error: a misspelt setting that is silently ignored is a silent wrong answer.
"""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any

import typer


def read(path: str, root: Any) -> dict[str, Any]:
    """Read a configuration file and check every key against the commands.

    Raises
    ------
    typer.BadParameter
        The file cannot be read, or a key is unknown; names the key and the nearest valid one.
    """
    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise typer.BadParameter(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise typer.BadParameter(f"{path} is not text in UTF-8; save it so") from None
    except tomllib.TOMLDecodeError as error:
        raise typer.BadParameter(f"{path} is not valid TOML: {error}") from None
    commands = root.list_commands(None)
    values: dict[str, Any] = {}
    for name, settings in tables.items():
        if name not in commands or not isinstance(settings, dict):
            raise typer.BadParameter(_unknown(path, name, commands))
        known = _names(root.get_command(None, name))
        values[name] = {}
        for key, value in settings.items():
            if key.replace("_", "-") not in known:
                raise typer.BadParameter(_unknown(path, f"{name}.{key}", known))
            values[name][known[key.replace("_", "-")]] = value
    return values


def _names(command: Any) -> dict[str, str]:
    names = {}
    for parameter in command.params:
        for word in [parameter.name, *parameter.opts]:
            if not word.startswith("-") or word.startswith("--"):
                names[word.lstrip("-").replace("_", "-")] = parameter.name
    return names


def _unknown(path: str, key: str, known: Any) -> str:
    last = key.rsplit(".", 1)[-1].replace("_", "-")
    near = difflib.get_close_matches(last, list(known), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known))}"
    return f"{path}: unknown key {key!r}{hint}"

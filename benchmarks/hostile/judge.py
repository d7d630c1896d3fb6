"""What must hold of every ending, whatever was asked: the promises of the command line."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import os
import subprocess
import sys
import traceback
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np

import batchsense
from batchsense.cli.main import run
from batchsense.experiments.tables.table import Table
from batchsense.questions.registry import json_schema

PACKAGE = Path(batchsense.__file__).parent
#: Ends that are answers or refusals; 70 is a bug of ours, and 130 is for who interrupts.
ENDS = (0, 1, 2, 3)


@dataclass(frozen=True)
class Ending:
    """How a command ended.

    Attributes
    ----------
    code : int
        Its exit code.
    out, err : str
        What it printed.
    warned : list of str
        Warnings that Python would have printed.
    """

    code: int
    out: str
    err: str
    warned: list[str]


def in_process(words: Sequence[str]) -> Ending:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with warnings.catch_warnings(record=True) as warned, contextlib.redirect_stdout(out):
        warnings.simplefilter("always")
        with contextlib.redirect_stderr(err):
            try:
                code = run(["--debug", *words])
            except BaseException:  # a traceback is what is looked for
                traceback.print_exc()
                code = -1
    said = [
        f"{one.category.__name__}: {one.message} ({one.filename})" for one in filter(_ours, warned)
    ]
    return Ending(code, out.getvalue(), err.getvalue(), said)


def _ours(warned: warnings.WarningMessage) -> bool:
    """Whether a warning is of our own making; what torch says of a job is the user's to hear."""
    of_a_job = issubclass(warned.category, UserWarning) and PACKAGE / "training" in (
        Path(warned.filename).parents
    )
    return Path(warned.filename).is_relative_to(PACKAGE) and not of_a_job


def in_a_process(words: Sequence[str], seconds: float = 600.0) -> Ending:
    """Run a command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "batchsense", *words],
        capture_output=True,
        timeout=seconds,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    err = done.stderr.decode(errors="replace")
    said = [line for line in err.splitlines() if "Warning:" in line]
    return Ending(done.returncode, done.stdout.decode(errors="replace"), err, said)


def state(folder: Path) -> dict[str, str]:
    """Every file under a folder, by content."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def faults(
    words: Sequence[str],
    ending: Ending,
    before: Mapping[str, str],
    folder: Path,
    outputs: Mapping[str, Path],
) -> list[str]:
    """What does not hold of an ending; empty where all does."""
    found = []
    if ending.code not in ENDS:
        found.append(f"exit {ending.code}")
    if "internal error" in ending.err or (ending.code == -1 and "Traceback" in ending.err):
        found.append("traceback")
    found += [f"warning: {one[:160]}" for one in ending.warned[:1]]
    if ending.code in (2, 3) and ending.out:
        found.append("words on stdout beside a refusal")
    if ending.code and not (ending.err or ending.out).strip():
        found.append("a refusal without a word")
    if "--json" in words and ending.code in (0, 1):
        found += _of_document(ending, words[0])
    after = state(folder)
    found += [f"changed {name}" for name in before if after.get(name) != before[name]]
    known = [path.relative_to(folder).as_posix() for path in outputs.values()]
    # Python keeps the bytecode of a job beside it, as for any module that is imported.
    new = [name for name in after if name not in before and "__pycache__" not in name]
    found += [f"left {one}" for one in new if not any(one.startswith(name) for name in known)]
    written = [path.exists() for path in outputs.values()]
    if ending.code in (2, 3) and any(written):
        found.append("an output beside a refusal")
    if ending.code == 0 and not all(written):
        found.append("an output is missing")
    return found


def _of_document(ending: Ending, command: str) -> list[str]:
    if ending.code == 1 and not ending.out:
        return ["no document beside exit 1"]
    try:
        document = json.loads(ending.out, parse_constant=_not_json)
        _validator(command).validate(document)
    except (ValueError, jsonschema.ValidationError) as error:
        return [f"document: {str(error)[:160]}"]
    return []


def _not_json(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


@functools.cache
def _validator(command: str) -> Any:
    return jsonschema.Draft202012Validator(json_schema(command))


def lost_values(original: Table, corrected: Table) -> list[str]:
    """Numbers of the matrix that a correction turned into none."""
    if corrected.values.shape != original.values.shape:
        return [f"a result of another shape, {corrected.values.shape}"]
    lost = ~np.isfinite(corrected.values) & np.isfinite(original.values)
    made = ~np.isnan(corrected.values) & np.isnan(original.values)
    found = [f"{lost.sum()} of {lost.size} values are lost"] if lost.any() else []
    return [*found, *([f"{made.sum()} values are made up"] if made.any() else [])]

"""Corrections as files: everything that was learned, in one archive of arrays."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from batchsense.errors import DataError
from batchsense.experiments.correction.beside import Beside
from batchsense.experiments.correction.gathered import Gathered, bare_sheet
from batchsense.experiments.correction.terms import Term
from batchsense.experiments.correction.two_passes.statistics import BatchStatistics
from batchsense.experiments.tables.table import Source
from batchsense.notes import Note
from batchsense.storage.atomic import writing
from batchsense.storage.inputs import check_input
from batchsense.storage.seal import Arrays, BrokenSealError, read_arrays, write_arrays

_FORMAT = "batchsense correction"
#: Of one batch column; and of several, which must not be read as one.
_VERSION, _SEVERAL = 2, 3


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """What a file holds."""

    method: str  #: Name of the correction
    options: dict[str, Any]  #: Its options
    gathered: Gathered  #: The sufficient statistics
    batch_levels: tuple[str, ...]  #: The batches it can correct
    notes: tuple[Note, ...]  #: What the reader must know
    model: Arrays  #: What was learned
    beside: Beside | None = None  #: Further batch columns


def save(path: str | Path, stored: Stored) -> None:
    """Write a correction in one piece.

    Of the sheet only the ids, the batch and the kept columns are written: the file may go to
    others. Numbers are stored as they are, so that a loaded correction gives equal results.
    """
    gathered = stored.gathered
    beside = stored.beside
    more = () if beside is None else beside.columns
    columns = tuple(dict.fromkeys((gathered.batch_labels, *gathered.keep, *more)))
    about = {
        "format": _FORMAT,
        "version": _VERSION if beside is None else _SEVERAL,
        "beside": None if beside is None else beside.about(),
        "method": stored.method,
        "options": stored.options,
        "batch_labels": gathered.batch_labels,
        "batch_levels": stored.batch_levels,
        "gathered_levels": gathered.batch_levels,
        "keep": gathered.keep,
        "terms": [(term.factor, term.level) for term in gathered.terms],
        "features": gathered.features,
        "specimens": gathered.sheet.specimens,
        "sheet": {name: gathered.sheet.sheet[name] for name in columns},
        "categorical": sorted(gathered.sheet.categorical & set(columns)),
        "notes": [(note.code, note.message, note.where) for note in stored.notes],
    }
    arrays: Arrays = {"about": np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)}
    arrays |= {f"seen_{name}": array for name, array in gathered.statistics.arrays().items()}
    arrays |= {f"model_{name}": array for name, array in stored.model.items()}
    if beside is not None:
        arrays |= {f"beside_{name}": array for name, array in beside.arrays().items()}
    with writing(path) as temporary, temporary.open("wb") as stream:
        write_arrays(stream, arrays)


def load(path: str | Path) -> Stored:
    """Read a correction."""
    check_input(path)
    try:
        arrays, sealed = read_arrays(path)
        about = json.loads(arrays["about"].tobytes())
        known = about["format"] == _FORMAT
        version = about["version"]
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"cannot be read: {reason}", str(path)) from None
    except (BrokenSealError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from None
    if not known:
        raise DataError("not a correction that batchsense saved", str(path))
    if version not in (_VERSION, _SEVERAL):
        raise DataError(
            f"a correction of format {version}; this version of batchsense reads {_VERSION} and "
            f"{_SEVERAL}, so fit again",
            str(path),
        )
    if not sealed:
        raise _damaged(path, "its seal")
    return _stored(about, arrays, str(path))


def _damaged(path: str | Path, reason: object) -> DataError:
    """The refusal of a file that is not as it was saved."""
    return DataError(
        "not a correction that batchsense saved, or it was damaged or changed afterwards "
        f"({' '.join(str(reason).split())}); fit again, or take the file from a backup",
        str(path),
    )


def _stored(about: Mapping[str, Any], arrays: Arrays, path: str) -> Stored:
    sheet = bare_sheet(
        about["specimens"],
        {name: tuple(entries) for name, entries in about["sheet"].items()},
        Source(path, path),
        about["categorical"],
    )
    gathered = Gathered(
        batch_labels=about["batch_labels"],
        batch_levels=tuple(about["gathered_levels"]),
        keep=tuple(about["keep"]),
        terms=tuple(Term(*term) for term in about["terms"]),
        features=tuple(about["features"]),
        statistics=BatchStatistics.from_arrays(_part(arrays, "seen_")),
        sheet=sheet,
    )
    notes = tuple(Note(code, message, tuple(where)) for code, message, where in about["notes"])
    levels = tuple(about["batch_levels"])
    model = _part(arrays, "model_")
    several = about.get("beside")
    beside = None if several is None else Beside.of(several, _part(arrays, "beside_"))
    # A document knows no tuples.
    options = {n: tuple(v) if isinstance(v, list) else v for n, v in about["options"].items()}
    return Stored(about["method"], options, gathered, levels, notes, model, beside)


def _part(arrays: Arrays, prefix: str) -> Arrays:
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }

"""Reads a table of measured steps, and one of configurations to predict."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from batchsense.arrays import Floats
from batchsense.errors import DataError, listed
from batchsense.storage.inputs import check_input
from batchsense.training.workers.prediction import StepConfiguration

#: The names of a column, ours first; the others are those of the tables of Pollux (OSDI 2021).
_NAMES = {
    "nodes": ("nodes", "num_nodes"),
    "workers": ("workers", "num_replicas"),
    "micro_batch": ("micro_batch", "local_bsz"),
    "seconds": ("seconds", "step_seconds", "step_time"),
    "accumulation": ("accumulation",),
    # One digit a node: how many workers it has.
    "placement": ("placement",),
}
#: Seconds of a step in another unit, or a slip; the forms' parameters would leave their range.
_SHORTEST, _LONGEST = 1e-7, 1e7
#: More workers or examples than any machine has; products of two still are exact whole numbers.
_MOST = 10**9


@dataclass(frozen=True, slots=True)
class StepTable:
    """Measured steps, each configuration once.

    Attributes
    ----------
    configurations : tuple of StepConfiguration
        What was measured.
    seconds : ndarray of shape (configurations,)
        Wall time of one optimizer step: the median where a configuration was measured repeatedly.
    rows : int
        Measurements, repeats included.
    """

    configurations: tuple[StepConfiguration, ...]
    seconds: Floats
    rows: int

    @classmethod
    def of(cls, measured: Sequence[tuple[StepConfiguration, float]]) -> StepTable:
        """Merge repeats by their median.

        Examples
        --------
        >>> one = StepConfiguration(1, 1, 32)
        >>> StepTable.of([(one, 0.1), (one, 0.3), (one, 0.12)]).seconds
        array([0.12])
        """
        grouped: dict[StepConfiguration, list[float]] = {}
        for configuration, seconds in measured:
            grouped.setdefault(configuration, []).append(seconds)
        middles = np.array([float(np.median(times)) for times in grouped.values()])
        return cls(tuple(grouped), middles, len(measured))


def read_steps(path: str | Path, name: str | None = None) -> StepTable:
    """Read measured steps from a .csv or .tsv file.

    Columns are ``nodes``, ``workers`` (in all), ``micro_batch`` (per worker), ``seconds`` (of an
    optimizer step) and optionally ``accumulation``. The names of Pollux' tables are taken too:
    ``num_nodes``, ``num_replicas``, ``local_bsz``, ``step_time``, and ``placement``, which has one
    digit a node; there, nodes may have unlike numbers of workers.

    Parameters
    ----------
    path : path
        The file.
    name : str, optional
        Its name in errors; the path by default.

    Returns
    -------
    StepTable
        The steps.

    Raises
    ------
    DataError
        No such file or column, or a row that cannot be: it is named.
    """
    columns, rows = _read(path, name or str(path), ("seconds",))
    measured = []
    for where, cells in rows:
        seconds = _positive(cells, columns["seconds"], where)
        if not _SHORTEST <= seconds <= _LONGEST:
            raise DataError(f"no step takes {seconds:g} seconds", where=where)
        measured.append((_configuration(columns, cells, where), seconds))
    return StepTable.of(measured)


def read_configurations(path: str | Path, name: str | None = None) -> list[StepConfiguration]:
    """Read configurations to predict, in their order; columns as for :func:`read_steps`.

    Raises
    ------
    DataError
        As :func:`read_steps`.
    """
    columns, rows = _read(path, name or str(path), ())
    return [_configuration(columns, cells, where) for where, cells in rows]


def _read(
    path: str | Path, name: str, beside: Sequence[str]
) -> tuple[dict[str, str], list[tuple[str, dict[str, str]]]]:
    """The columns by what they hold, and each row as text with its place."""
    check_input(path)
    delimiter = "\t" if name.lower().endswith(".tsv") else ","
    try:
        # A mark at the beginning, as spreadsheets write it, is no letter of a name.
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter)
            lines = [(reader.line_num, line) for line in reader if any(map(str.strip, line))]
    except FileNotFoundError:
        raise DataError("there is no such file", where=name) from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=name) from None
    except (ValueError, csv.Error) as error:
        raise DataError(f"this is no table of comma-separated values: {error}", name) from None
    if len(lines) < 2:
        raise DataError("the table has no rows; give a header and one row per step", where=name)
    header = [cell.strip().lower() for cell in lines[0][1]]
    rows = []
    for number, line in lines[1:]:
        where = f"{name}, line {number}"
        if len(line) != len(header):
            raise DataError(f"{len(line)} cells under {len(header)} column names", where)
        rows.append((where, dict(zip(header, map(str.strip, line), strict=True))))
    return _columns(header, beside, name), rows


def _columns(header: Sequence[str], beside: Sequence[str], name: str) -> dict[str, str]:
    wanted = ["placement"] if "placement" in header else ["nodes", "workers"]
    found: dict[str, str] = {}
    for key in [*wanted, "micro_batch", *beside, "accumulation"]:
        named = [one for one in header if one in _NAMES[key]]
        if len(named) > 1:
            raise DataError(f"there are two columns for {key}: {listed(named)}; keep one", name)
        if not named and key != "accumulation":
            needed = ["nodes", "workers", "micro_batch", *beside]
            raise DataError(
                f"there is no column {key} among {listed(header)}; needed are {listed(needed)}",
                where=name,
            )
        if named:
            found[key] = named[0]
    return found


def _configuration(
    columns: Mapping[str, str], cells: Mapping[str, str], where: str
) -> StepConfiguration:
    numbers = {
        key: _whole(cells, columns[key], where)
        for key in ("nodes", "workers", "micro_batch", "accumulation")
        if key in columns
    }
    uneven = False
    if "placement" in columns:
        placement = cells[columns["placement"]]
        numbers |= _placed(placement, where)
        uneven = len(set(placement)) > 1
    elif columns["workers"] == "num_replicas":
        uneven = numbers["workers"] % numbers["nodes"] > 0
    try:
        return StepConfiguration(**numbers, uneven=uneven)
    except DataError as error:
        raise DataError(error.message, where=where) from None


def _placed(text: str, where: str) -> dict[str, int]:
    if not text.isascii() or not text.isdigit() or "0" in text:
        raise DataError(
            f"placement {text!r} must have one digit from 1 to 9 for each node, such as 44", where
        )
    return {"nodes": len(text), "workers": sum(int(digit) for digit in text)}


def _whole(cells: Mapping[str, str], column: str, where: str) -> int:
    number = _positive(cells, column, where)
    if number != int(number) or number > _MOST:
        raise DataError(
            f"{column} must be a whole number up to {_MOST:,}, not {cells[column]}", where=where
        )
    return int(number)


def _positive(cells: Mapping[str, str], column: str, where: str) -> float:
    text = cells[column]
    if not text:
        raise DataError(f"{column} is missing; give it or remove the row", where=where)
    try:
        number = float(text)
    except ValueError:
        raise DataError(f"{column} must be a number, not {text!r}", where=where) from None
    if not math.isfinite(number) or number <= 0:
        raise DataError(f"{column} must be a positive number, not {text}", where=where)
    return number

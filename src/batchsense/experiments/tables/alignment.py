"""Which axis of a matrix holds the specimens: told by the ids of the sheet, never by its shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from batchsense.errors import DataError, listed
from batchsense.experiments.tables.id_forms import look_alikes, partners_by_r_names
from batchsense.experiments.tables.table import Column, repeated
from batchsense.notes import Note

Axis = Literal["row", "column"]
#: Ids shown of each side: enough to see how they are written.
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Alignment:
    """How a sheet belongs to a matrix.

    Attributes
    ----------
    axis : {"row", "column"}
        The axis of the matrix that holds the specimens.
    id_column : str
        The column of the sheet that holds their ids.
    sheet_rows : tuple of int
        For each specimen, in the order of the matrix, its row in the sheet.
    notes : tuple of Note
        Rows of the sheet that the matrix does not have; an id column found by its contents.
    """

    axis: Axis
    id_column: str
    sheet_rows: tuple[int, ...]
    notes: tuple[Note, ...] = ()


def align(
    row_ids: Sequence[str],
    column_ids: Sequence[str],
    sheet: Mapping[str, Column],
    id_column: str | None = None,
    where: tuple[str, str] = ("the matrix", "the sheet"),
) -> Alignment:
    """Find the axis whose ids all have a row in the sheet.

    The ids are taken from ``id_column``; without it from the first column of the sheet if its
    entries match one axis, else from the only column that does. Rows of the sheet without a
    specimen are left out and noted; a specimen without a row is an error. Ids that match only as R
    rewrites names (``s.1`` for ``s-1``) are matched with a note, where each has one partner.

    Parameters
    ----------
    row_ids, column_ids : sequence of str
        The ids of the matrix.
    sheet : mapping of str to tuple
        The sheet.
    id_column : str, optional
        The column with the ids.
    where : pair of str
        Names of matrix and sheet, for messages.

    Raises
    ------
    DataError
        Neither or both axes match (with three unmatched ids of each side), ids occur twice, or
        several columns of the sheet match in different ways.

    Examples
    --------
    >>> sheet = {"id": ("s2", "s1"), "month": ("July", "May")}
    >>> found = align(["gene a", "gene b"], ["s1", "s2"], sheet)
    >>> found.axis, found.sheet_rows
    ('column', (1, 0))
    """
    axes: dict[Axis, Sequence[str]] = {"row": row_ids, "column": column_ids}
    for axis, ids in axes.items():
        if twice := repeated([name.strip() for name in ids]):
            raise DataError(
                f"{axis} ids occur more than once: {listed(map(repr, twice))}; make them unique",
                where=where[0],
            )
    first = next(iter(sheet))
    name = id_column or first
    if matching := _matching_axes(axes, sheet[name]):
        return _aligned(name, matching, axes, sheet, where)
    others = {} if id_column else _other_columns(axes, sheet)
    if len(others) == 1:
        name, matching = next(iter(others.items()))
        found = _aligned(name, matching, axes, sheet, where)
        note = Note(
            "id_column",
            f"The ids of the specimens were found in column {name!r} of the sheet, not in its "
            f"first column {first!r}; --id {name} says so explicitly.",
            (name,),
        )
        return replace(found, notes=(note, *found.notes))
    if others:
        names = listed(map(repr, others))
        raise DataError(
            f"the sheet has several columns that match ids of the matrix: {names}; "
            "choose one with --id",
            where=where[1],
        )
    if found_as_r_names := _aligned_as_r_names(id_column or first, axes, sheet, where):
        return found_as_r_names
    raise _unmatched(id_column or first, axes, sheet, where)


def _aligned_as_r_names(
    name: str,
    axes: Mapping[Axis, Sequence[str]],
    sheet: Mapping[str, Column],
    where: tuple[str, str],
) -> Alignment | None:
    """Match ids that R rewrote when it read the matrix; None where that fits no axis."""
    entries = [entry for entry in sheet[name] if entry is not None]
    pairs = {
        axis: partners
        for axis, ids in axes.items()
        if (partners := partners_by_r_names([one.strip() for one in ids], entries))
    }
    if not pairs:
        return None
    written = {
        axis: [pairs[axis][one.strip()] for one in ids] if axis in pairs else ids
        for axis, ids in axes.items()
    }
    found = _aligned(name, list(pairs), written, sheet, where)
    changed = [f"{old!r} for {new!r}" for old, new in pairs[found.axis].items() if old != new]
    note = Note(
        "ids_as_r_names",
        f"{len(changed)} ids of the matrix are those of the sheet as R rewrites names "
        f"(make.names): {listed(changed, _SHOWN)}. They were matched so.",
        tuple(old for old, new in pairs[found.axis].items() if old != new)[:10],
    )
    return replace(found, notes=(note, *found.notes))


def _matching_axes(axes: Mapping[Axis, Sequence[str]], entries: Column) -> list[Axis]:
    known = {entry for entry in entries if entry is not None}
    return [
        axis for axis, ids in axes.items() if ids and all(name.strip() in known for name in ids)
    ]


def _other_columns(
    axes: Mapping[Axis, Sequence[str]], sheet: Mapping[str, Column]
) -> dict[str, list[Axis]]:
    return {
        name: matching
        for name, entries in list(sheet.items())[1:]
        if None not in entries
        and not repeated([str(entry) for entry in entries])
        and (matching := _matching_axes(axes, entries))
    }


def _aligned(
    name: str,
    matching: list[Axis],
    axes: Mapping[Axis, Sequence[str]],
    sheet: Mapping[str, Column],
    where: tuple[str, str],
) -> Alignment:
    if len(matching) == 2:
        raise DataError(
            f"the ids in column {name!r} of {where[1]} match the rows and the columns of the "
            "matrix; rename the features so that the ids tell which axis holds the specimens",
            where=where[0],
        )
    ids = [specimen.strip() for specimen in axes[matching[0]]]
    wanted = set(ids)
    rows: dict[str, int] = {}
    more: dict[str, list[int]] = {}  # a list for each specimen would take longer than all the rest
    for row, entry in enumerate(sheet[name]):
        if entry in wanted and entry is not None and rows.setdefault(entry, row) != row:
            more.setdefault(entry, [rows[entry]]).append(row)
    twice = [
        f"{entry!r} (rows {' and '.join(str(r + 2) for r in places)})"
        for entry, places in sorted(more.items(), key=lambda one: one[1])
    ]
    if twice:
        raise DataError(
            f"ids occur more than once in column {name!r}: {listed(twice)}; one row per specimen "
            "is needed",
            where=where[1],
        )
    left_out = [entry for entry in sheet[name] if entry is None or entry not in wanted]
    notes = []
    if left_out:
        shown = [entry if entry is not None else "(no id)" for entry in left_out]
        notes.append(
            Note(
                "sheet_rows_left_out",
                f"{len(left_out)} rows of the sheet have no specimen in the matrix and were left "
                f"out: {listed(shown, _SHOWN)}.",
                tuple(shown[:10]),
            )
        )
    return Alignment(matching[0], name, tuple(rows[entry] for entry in ids), tuple(notes))


def _unmatched(
    name: str,
    axes: Mapping[Axis, Sequence[str]],
    sheet: Mapping[str, Column],
    where: tuple[str, str],
) -> DataError:
    """Say which ids lack a partner, three of each side, for the axis that comes nearest."""
    known = {entry for entry in sheet[name] if entry is not None}
    missing = {axis: [i for i in ids if i.strip() not in known] for axis, ids in axes.items()}
    found = {axis: len(axes[axis]) - len(missing[axis]) for axis in axes}
    nearest = max(axes, key=lambda axis: found[axis] / max(len(axes[axis]), 1))
    if found[nearest]:
        present = {i.strip() for i in axes[nearest]}
        spare = [entry for entry in sheet[name] if entry is not None and entry not in present]
        rest = f" (in the sheet only: {listed(map(repr, spare), _SHOWN)})" if spare else ""
        if twice := repeated([entry for entry in sheet[name] if entry is not None]):
            rest += f" (the sheet has {listed(map(repr, twice), _SHOWN)} more than once)"
        rest += _alike(missing[nearest], spare)
        return DataError(
            f"{found[nearest]} of {len(axes[nearest])} {nearest} ids are in column {name!r} of "
            f"{where[1]}, but not {listed(map(repr, missing[nearest]), _SHOWN)}{rest}; add their "
            f"rows to the sheet or take these {nearest}s out of the matrix",
            where=where[0],
        )
    alike = max((_alike(missing[axis], sorted(known)) for axis in axes), key=len)
    entries = listed((repr(entry) for entry in sheet[name]), _SHOWN)
    sides = [f"its {axis}s are {listed(map(repr, ids), _SHOWN)}" for axis, ids in axes.items()]
    return DataError(
        f"no id of the matrix is in column {name!r} of {where[1]}: {'; '.join(sides)}; the "
        f"sheet has {entries}{alike}; correct the ids, "
        "or name the column that holds them with --id",
        where=where[0],
    )


def _alike(ids: Sequence[str], entries: Sequence[str]) -> str:
    """Name pairs of ids that look like the same specimen."""
    pairs = [f"{one!r} and {other!r}" for one, other in look_alikes(ids, entries).items()]
    return f" (perhaps the same: {listed(pairs, _SHOWN)})" if pairs else ""

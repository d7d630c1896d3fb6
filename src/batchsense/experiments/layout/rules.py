"""What the sheet says about who goes where, and the words for what cannot be had."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from batchsense.arrays import Flags, Integers
from batchsense.errors import DataError, InfeasibleError, listed
from batchsense.experiments.layout.constraints import FREE, Constraints, shortfalls
from batchsense.experiments.layout.feasibility import remedies
from batchsense.experiments.tables.columns import column
from batchsense.experiments.tables.table import Column, Table

#: Wells of a batch beyond which there is always room.
MOST_WELLS = 10**9


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """The constraints of a layout, with their names.

    Attributes
    ----------
    constraints : Constraints
        On units of specimens.
    units : array of shape (specimens,)
        The unit of each specimen.
    unit_names : tuple of str
        Such as ``subject S1``.
    label_names : tuple of str
        Labels that must not meet, such as ``litter 4``.
    batch_levels : tuple of str
        Names of the batches.
    unlimited : bool
        Whether no capacity was given.
    """

    constraints: Constraints
    units: Integers
    unit_names: tuple[str, ...]
    label_names: tuple[str, ...]
    batch_levels: tuple[str, ...]
    unlimited: bool


def read_rules(
    table: Table,
    batch_count: int,
    capacities: Sequence[int] | None = None,
    together: str | None = None,
    apart: Sequence[str] = (),
    lock: str | None = None,
) -> Rules:
    """Read the rules from the columns of the sheet, and refuse those that contradict each other.

    Parameters
    ----------
    table : Table
        The sheet.
    batch_count : int
        How many batches.
    capacities : sequence of int, optional
        Specimens that fit each batch; no limit by default.
    together : str, optional
        Rows with the same entry in this column go to the same batch.
    apart : sequence of str
        Rows with the same entry in one of these columns go to different batches.
    lock : str, optional
        Column with the batch of the rows that are assigned already; empty where free.

    Returns
    -------
    Rules
        Checked by everything that can be counted.

    Raises
    ------
    DataError
        Unknown columns, or more locked batches than asked for.
    InfeasibleError
        The rules cannot be kept, with the rule, the rows and by how much.
    """
    where = table.source.sheet
    units, unit_names = _units(table, together)
    levels, row_locks = _locks(table, lock, batch_count)
    locked = _unit_locks(table, units, unit_names, row_locks, levels, lock)
    labels, label_names = _labels(table, units, unit_names, apart, together)
    if capacities is None:
        limits = np.full(batch_count, len(table.specimens))
    else:
        if len(capacities) != batch_count:
            raise DataError(f"{len(capacities)} capacities for {batch_count} batches", where=where)
        # More room than there are rows is no more room, and might not fit a whole number.
        limits = np.array([min(int(one), MOST_WELLS) for one in capacities], dtype=np.int64)
    constraints = Constraints.of(np.bincount(units), limits, locked, labels)
    rules = Rules(constraints, units, unit_names, label_names, levels, capacities is None)
    refuse_shortfalls(rules, where)
    return rules


def refuse_shortfalls(rules: Rules, where: str) -> None:
    """Say what cannot be kept, by counting.

    Raises
    ------
    InfeasibleError
        With one sentence and one remedy for each thing that is missing.
    """
    messages, needed = [], []
    constraints = rules.constraints
    for lack in shortfalls(constraints):
        if lack.kind == "wells":
            messages.append(
                f"{constraints.sizes.sum()} specimens do not fit {constraints.batch_count} batches "
                f"with {constraints.capacities.sum()} places"
            )
            needed.append(f"{lack.amount} more places")
        elif lack.kind == "unit":
            messages.append(
                f"{rules.unit_names[lack.index]} has {constraints.sizes[lack.index]} rows that "
                f"stay together, the largest batch {constraints.capacities.max()} places"
            )
            needed.append(f"a batch with {lack.amount} more places")
        elif lack.kind == "locked_wells":
            name = rules.batch_levels[lack.index]
            messages.append(
                f"{constraints.held()[lack.index]} rows are locked to batch {name}, which has "
                f"{constraints.capacities[lack.index]} places"
            )
            needed.append(f"{lack.amount} more places in batch {name}")
        elif lack.kind == "apart":
            count = int(constraints.apart[:, lack.index].sum())
            messages.append(
                f"{rules.label_names[lack.index]} is on {count} rows (or groups of rows) that must "
                f"be apart, and there are {constraints.batch_count} batches"
            )
            needed.append(f"{lack.amount} more batches")
        else:
            messages.append(
                f"{rules.label_names[lack.index]} must be apart, but rows with it are locked to "
                "the same batch"
            )
            needed.append(f"{lack.amount} of these rows not locked")
    if messages:
        raise InfeasibleError(
            f"{where}: no layout can keep all constraints: {listed(messages, 5)}",
            needed=listed(needed, 5),
        )


def refuse_impossible(rules: Rules, where: str) -> InfeasibleError:
    """Make the error for constraints that an exact search proved impossible together."""
    ways = remedies(rules.constraints)
    words = {
        "capacity": "{} more places (spread over the batches as needed)",
        "apart": "{} rows that may meet one with the same label",
        "lock": "{} locked rows (or groups) that may move",
    }
    asked = ["capacities"]
    asked += ["rows kept together"] if (rules.constraints.sizes > 1).any() else []
    asked += ["rows kept apart"] if rules.constraints.apart.any() else []
    asked += ["locked rows"] if (rules.constraints.locked != FREE).any() else []
    needed = " or ".join(words[kind].format(amount) for kind, amount in ways.items())
    return InfeasibleError(
        f"{where}: no layout can keep all constraints together ({listed(asked)}); an exact search "
        "through all assignments proved it",
        needed=needed or "more than one kind of constraint must give way",
    )


def _units(table: Table, together: str | None) -> tuple[Integers, tuple[str, ...]]:
    """Number the units; a row without an entry is a unit of its own."""
    if together is None:
        return np.arange(len(table.specimens)), tuple(f"row {name!r}" for name in table.specimens)
    names: dict[str, int] = {}
    units = []
    for name, entry in zip(
        table.specimens, column(table.sheet, together, table.source.sheet), strict=True
    ):
        key = f"row {name!r}" if entry is None else f"{together} {entry!r}"
        units.append(names.setdefault(key, len(names)))
    return np.array(units, dtype=np.int64), tuple(names)


def _locks(table: Table, lock: str | None, batch_count: int) -> tuple[tuple[str, ...], Column]:
    rows = len(table.specimens)
    entries = (None,) * rows if lock is None else column(table.sheet, lock, table.source.sheet)
    numbers = [str(k + 1) for k in range(batch_count)]
    named = {entry for entry in entries if entry is not None}
    if named <= set(numbers):
        return tuple(numbers), entries
    if len(named) > batch_count:
        raise DataError(
            f"column {lock!r} locks rows to {len(named)} batches ({listed(sorted(named))}), and "
            f"{batch_count} were asked for",
            where=table.source.sheet,
        )
    free = [number for number in numbers if number not in named]
    return (*sorted(named), *free[: batch_count - len(named)]), entries


def _unit_locks(
    table: Table,
    units: Integers,
    unit_names: tuple[str, ...],
    row_locks: Column,
    levels: tuple[str, ...],
    lock: str | None,
) -> Integers:
    """Lock a unit where one of its rows is; two different locks in one unit contradict it."""
    locked = np.full(len(unit_names), FREE)
    for unit, entry in zip(units, row_locks, strict=True):
        if entry is None:
            continue
        code = levels.index(entry)
        if locked[unit] not in (FREE, code):
            raise InfeasibleError(
                f"{table.source.sheet}: {unit_names[unit]} is to stay together, but column "
                f"{lock!r} locks its rows to batches {levels[locked[unit]]!r} and {entry!r}",
                needed="one batch for all rows that stay together",
            )
        locked[unit] = code
    return locked


def _labels(
    table: Table,
    units: Integers,
    unit_names: tuple[str, ...],
    apart: Sequence[str],
    together: str | None,
) -> tuple[Flags, tuple[str, ...]]:
    parts, names = [], []
    for name in apart:
        carried: dict[str, set[int]] = {}
        rows: dict[tuple[str, int], str] = {}
        for specimen, unit, entry in zip(
            table.specimens, units, column(table.sheet, name, table.source.sheet), strict=True
        ):
            if entry is None:
                continue
            first = rows.setdefault((entry, int(unit)), specimen)
            if first != specimen:
                raise InfeasibleError(
                    f"{table.source.sheet}: rows {first!r} and {specimen!r} have the same {name} "
                    f"{entry!r} and must be apart, but {unit_names[unit]} keeps them together",
                    needed=f"rows apart by {name} that are not together by {together}",
                )
            carried.setdefault(entry, set()).add(int(unit))
        for entry, own in carried.items():
            if len(own) > 1:
                row = np.zeros(len(unit_names), dtype=bool)
                row[list(own)] = True
                parts.append(row)
                names.append(f"{name} {entry!r}")
    empty = np.zeros((len(unit_names), 0), dtype=bool)
    return np.column_stack(parts) if parts else empty, tuple(names)

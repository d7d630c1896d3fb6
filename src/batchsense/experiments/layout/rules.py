"""What the sheet says about who goes where, and the words for what cannot be had."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from batchsense.arrays import Flags, Integers
from batchsense.errors import DataError, InfeasibleError, listed
from batchsense.experiments.layout.constraints import FREE, Constraints, Shortfall, shortfalls
from batchsense.experiments.layout.feasibility import remedies
from batchsense.experiments.tables.columns import column
from batchsense.experiments.tables.table import Column, Table

#: Wells of a batch beyond which there is always room; more might not fit a whole number of numpy.
MOST_WELLS = 10**9


@dataclass(frozen=True, slots=True)
class LayoutRules:
    """What a layout must obey.

    Attributes
    ----------
    capacities : int or sequence of int, optional
        Wells of every batch, or of each; references take some of them. No limit by default, or
        those of the plate. Batches are filled as evenly as the rules allow.
    together : str, optional
        Rows with the same entry in this column (a subject) go to the same batch.
    apart : sequence of str
        Rows with the same entry in one of these columns go to different batches.
    lock : str, optional
        Column with the batch of rows that are assigned already; empty where free. It may be the new
        column itself, whose gaps are then filled.
    reference_specimens : int
        Wells reserved in every batch for aliquots of one reference.
    """

    capacities: int | Sequence[int] | None = None
    together: str | None = None
    apart: Sequence[str] = ()
    lock: str | None = None
    reference_specimens: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class NamedConstraints:
    """The constraints of a layout, with their names."""

    constraints: Constraints  #: On units of specimens
    units: Integers  #: (specimens,): the unit of each specimen
    unit_names: tuple[str, ...]  #: Such as ``subject S1``
    label_names: tuple[str, ...]  #: Labels that must not meet, such as ``litter 4``
    batch_levels: tuple[str, ...]  #: Names of the batches


def places_in_batches(
    rules: LayoutRules, batch_count: int, where: str, wells: int | None = None, empty: int = 0
) -> list[int] | None:
    """Count the places for specimens in each batch, references not counted; None without limit.

    Examples
    --------
    >>> places_in_batches(LayoutRules([24, 20], reference_specimens=2), 2, "the sheet")
    [22, 18]
    """
    references = rules.reference_specimens
    wells = None if wells is None else wells - empty
    asked = wells if rules.capacities is None else rules.capacities
    if asked is None:
        return None
    limits = [asked] if isinstance(asked, int) else [int(capacity) for capacity in asked]
    limits = limits * batch_count if len(limits) == 1 else limits
    if wells is not None and max(limits) > wells:
        left = " that are not to stay empty" if empty else ""
        raise DataError(
            f"a capacity of {max(limits)} on plates of {wells} wells{left}", where=where
        )
    if min(limits) - references < 1:
        raise DataError(
            f"a batch of {min(limits)} places has no room beside {references} references",
            where=where,
        )
    if len(limits) != batch_count:
        raise DataError(f"{len(limits)} capacities for {batch_count} batches", where=where)
    return [limit - references for limit in limits]


def read_rules(
    table: Table, batch_count: int, rules: LayoutRules, places: Sequence[int] | None = None
) -> NamedConstraints:
    """Read the rules from the columns of the sheet, and refuse those that contradict each other."""
    units, unit_names = _units(table, rules.together)
    levels, row_locks = _locks(table, rules.lock, batch_count)
    locked = _unit_locks(table, units, unit_names, row_locks, levels, rules.lock)
    labels, label_names = _labels(table, units, unit_names, rules)
    room = [len(table.specimens)] * batch_count if places is None else places
    limits = np.array([min(one, MOST_WELLS) for one in room], dtype=np.int64)
    constraints = Constraints.of(np.bincount(units), limits, locked, labels)
    found = NamedConstraints(constraints, units, unit_names, label_names, levels)
    refuse_shortfalls(found, table.source.sheet)
    return found


def refuse_shortfalls(named: NamedConstraints, where: str) -> None:
    """Say what cannot be kept, by counting."""
    lacks = [_in_words(named, lack) for lack in shortfalls(named.constraints)]
    if lacks:
        messages, needed = zip(*lacks, strict=True)
        raise InfeasibleError(
            f"{where}: no layout can keep all constraints: {listed(messages, 5)}",
            needed=listed(needed, 5),
        )


def _in_words(named: NamedConstraints, lack: Shortfall) -> tuple[str, str]:
    """Say what cannot be kept, and what would help."""
    held, amount, index = named.constraints, lack.amount, lack.index
    if lack.kind == "wells":
        message = (
            f"{held.sizes.sum()} specimens do not fit {held.batch_count} batches with "
            f"{held.capacities.sum()} places"
        )
        return message, f"{amount} more places"
    if lack.kind == "unit":
        message = (
            f"{named.unit_names[index]} has {held.sizes[index]} rows that stay together, the "
            f"largest batch {held.capacities.max()} places"
        )
        return message, f"a batch with {amount} more places"
    if lack.kind == "locked_wells":
        name = named.batch_levels[index]
        message = (
            f"{held.held()[index]} rows are locked to batch {name}, which has "
            f"{held.capacities[index]} places"
        )
        return message, f"{amount} more places in batch {name}"
    if lack.kind == "apart":
        message = (
            f"{named.label_names[index]} is on {int(held.apart[:, index].sum())} rows (or groups "
            f"of rows) that must be apart, and there are {held.batch_count} batches"
        )
        return message, f"{amount} more batches"
    message = (
        f"{named.label_names[index]} must be apart, but rows with it are locked to the same batch"
    )
    return message, f"{amount} of these rows not locked"


def refuse_impossible(named: NamedConstraints, where: str) -> InfeasibleError:
    """The error for constraints that an exact search proved impossible together."""
    ways = remedies(named.constraints)
    words = {
        "capacity": "{} more places (spread over the batches as needed)",
        "apart": "{} rows that may meet one with the same label",
        "lock": "{} locked rows (or groups) that may move",
    }
    asked = ["capacities"]
    asked += ["rows kept together"] if (named.constraints.sizes > 1).any() else []
    asked += ["rows kept apart"] if named.constraints.apart.any() else []
    asked += ["locked rows"] if (named.constraints.locked != FREE).any() else []
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
    table: Table, units: Integers, unit_names: tuple[str, ...], rules: LayoutRules
) -> tuple[Flags, tuple[str, ...]]:
    parts, names = [], []
    for name in rules.apart:
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
                    needed=f"rows apart by {name} that are not together by {rules.together}",
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

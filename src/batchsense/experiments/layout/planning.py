"""Plan a layout: who goes into which batch, before anything is measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from batchsense.arrays import Floats, Integers
from batchsense.errors import ConfoundedError, DataError, InfeasibleError, listed
from batchsense.experiments.design import Design
from batchsense.experiments.entanglement import Entanglement, entanglements
from batchsense.experiments.layout.allocation import Allocation, allocate, balance_basis
from batchsense.experiments.layout.plates import Plates, fill_plates
from batchsense.experiments.layout.result import Layout
from batchsense.experiments.layout.rules import Rules, read_rules, refuse_impossible
from batchsense.experiments.layout.sheet import sheet_table
from batchsense.experiments.layout.wells import parse_wells, taken_wells
from batchsense.experiments.layout.worth import FactorWorth, detectable_effects
from batchsense.experiments.statistics.confounding import analyse
from batchsense.experiments.tables.columns import Factor, kept_factors
from batchsense.experiments.tables.table import Table
from batchsense.notes import Note
from batchsense.progress import Progress, silent
from batchsense.variation.linear import factor

#: R² of a balanced factor with the batches above which a note is due: VIF 1.05.
NOTEWORTHY_R2 = 0.05


def plan_layout(
    sheet: Table | Mapping[str, Iterable[object]] | str | Path,
    batch_count: int,
    balance: Sequence[str],
    *,
    capacities: int | Sequence[int] | None = None,
    together: str | None = None,
    apart: Sequence[str] = (),
    reference_specimens: int = 0,
    lock: str | None = None,
    plate: tuple[int, int] | None = None,
    empty_wells: str | None = None,
    lock_wells: str | None = None,
    categorical: Iterable[str] = (),
    numeric: Iterable[str] = (),
    column: str = "batch",
    id_column: str | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Layout:
    """Assign specimens to batches so that nothing wanted goes with the batches.

    The score is the sum of the squared canonical correlations between the balanced columns and the
    batches: 0 iff every factor, and every combination of them in an additive model, has the same
    mean in every batch; :func:`~batchsense.experiments.layout.allocation.allocate` searches.

    Parameters
    ----------
    sheet : mapping, data frame, path or Table
        One entry per specimen in every column.
    batch_count : int
        How many batches.
    balance : sequence of str
        Columns to be balanced, categorical or numeric; one at least.
    capacities : int or sequence of int, optional
        Wells of every batch, or of each; references take some of them. No limit by default, or
        those of the plate. Batches are filled as evenly as the constraints allow.
    together : str, optional
        Rows with the same entry in this column (a subject) go to the same batch.
    apart : sequence of str
        Rows with the same entry in one of these columns go to different batches.
    reference_specimens : int
        Wells reserved in every batch for aliquots of one reference.
    lock : str, optional
        Column with the batch of rows that are assigned already; empty where free. It may be
        ``column`` itself, whose gaps are then filled.
    plate : pair of int, optional
        Rows and columns of a plate; each batch is one. Specimens are then also balanced over plate
        rows, plate columns and edge.
    empty_wells : str, optional
        Wells that stay empty on every plate: ``"edge"``, single wells, blocks by two corners, with
        commas between, such as ``"edge, C3-D4"``.
    lock_wells : str, optional
        Column with the wells of rows that are assigned already by ``lock``; empty where free. It
        may be ``"well"`` itself, as an earlier layout wrote it.
    categorical, numeric : iterable of str
        Columns of ``balance`` whose kind is declared.
    column : str
        Name of the new column.
    id_column : str, optional
        Column with the ids, for messages and references.
    seed : int
        Seed of everything random.
    progress : Progress
        Told of the search.

    Returns
    -------
    Layout
        Never worse than the best of 200 random layouts that keep the constraints as evenly.

    Raises
    ------
    DataError
        The sheet, a column or a number cannot be used.
    InfeasibleError
        It is proved that no layout keeps all constraints; says which, and by how much.
    ConfoundedError
        The constraints (locks, rows kept together) leave a balanced factor that cannot be told
        from the batches.
    UnresolvedError
        No layout was found in time, nor was it proved that there is none.

    Examples
    --------
    >>> arm = ["drug", "placebo"] * 6
    >>> age = [30, 35, 41, 42, 50, 51, 58, 60, 63, 66, 70, 71]
    >>> layout = plan_layout({"arm": arm, "age": age}, 2, ["arm", "age"])
    >>> layout.sizes, [round(f.entanglement.confounding.vif, 2) for f in layout.factors]
    ((6, 6), [1.0, 1.0])
    """
    table = sheet_table(sheet, id_column)
    _check(table, batch_count, balance, reference_specimens)
    _check_names(table, column, plate is not None, reference_specimens > 0, lock, lock_wells)
    empty = _empty_wells(table, plate, empty_wells, lock_wells)
    kept, notes = kept_factors(table, balance, column, categorical, numeric)
    limits = _limits(table, batch_count, capacities, reference_specimens, plate, len(empty))
    rules = read_rules(table, batch_count, limits, together, apart, lock)
    locked = rules.constraints.locked[rules.units]
    taken = None if plate is None else taken_wells(table, lock_wells, locked, plate, empty)
    columns = np.hstack(
        [one.indicators() if one.values is None else one.design()[0] for one in kept]
    )
    basis = balance_basis(columns)
    found = _allocated(rules, basis, table, seed, progress)
    codes = found.codes[rules.units]
    design = _design(table, column, rules.batch_levels, codes, kept)
    entangled = entanglements(design)
    _refuse_confounded(entangled, column)
    plates = None
    if plate is not None and taken is not None:
        references = reference_specimens
        plates = fill_plates(
            basis, codes, batch_count, plate, references, empty, taken, seed, progress
        )
    return Layout(
        table=table,
        design=design,
        column=column,
        batch_levels=rules.batch_levels,
        codes=codes,
        capacities=None if limits is None else tuple(limits),
        reference_specimens=reference_specimens,
        score=found.score,
        random_scores=found.random_scores,
        factors=tuple(
            FactorWorth(
                one, _position_r2(design, kept_one, plates), *detectable_effects(design, kept_one)
            )
            for one, kept_one in zip(entangled, kept, strict=True)
        ),
        plates=plates,
        seed=seed,
        notes=(*table.notes, *notes, *_remarks(rules, codes, entangled, together, column)),
    )


def _check(table: Table, batch_count: int, balance: Sequence[str], references: int) -> None:
    where = table.source.sheet
    if not balance:
        raise DataError("name at least one column to balance", where=where)
    if batch_count < 2:
        raise DataError(f"a layout needs two batches or more, not {batch_count}", where=where)
    if batch_count > len(table.specimens):
        raise DataError(
            f"{batch_count} batches for {len(table.specimens)} specimens: some would be empty",
            where=where,
        )
    if references < 0:
        raise DataError("the number of reference specimens cannot be negative", where=where)


def _check_names(
    table: Table,
    name: str,
    plates: bool,
    references: bool,
    lock: str | None,
    lock_wells: str | None,
) -> None:
    """Refuse new columns that the sheet has already, unless their gaps are what is to be filled."""
    if not name.strip():
        raise DataError("the new batch column needs a name (--column)", where=table.source.sheet)
    added = [name]
    added += ["well", "plate_row", "plate_column"] if plates else []
    added += ["reference"] if references else []
    filled = {lock, *(("well", "plate_row", "plate_column") if lock_wells == "well" else ())}
    if taken := [one for one in added if one in table.sheet and one not in filled]:
        raise DataError(
            f"the sheet has columns {listed(map(repr, taken))} already; give the new batch column "
            "another name (--column), or rename these",
            where=table.source.sheet,
        )


def _empty_wells(
    table: Table, plate: tuple[int, int] | None, empty: str | None, lock_wells: str | None
) -> Integers:
    if plate is None and (empty is not None or lock_wells is not None):
        raise DataError(
            "wells were named and no plate; give its size, such as 8x12 (--plate)",
            where=table.source.sheet,
        )
    if plate is None or empty is None:
        return np.array([], dtype=np.int64)
    return parse_wells(empty, plate)


def _limits(
    table: Table,
    batch_count: int,
    capacities: int | Sequence[int] | None,
    references: int,
    plate: tuple[int, int] | None,
    empty: int,
) -> list[int] | None:
    where = table.source.sheet
    wells = None if plate is None else plate[0] * plate[1] - empty
    if capacities is None:
        if wells is None:
            return None
        limits = [wells] * batch_count
    elif isinstance(capacities, int):
        limits = [capacities] * batch_count
    else:
        limits = [int(capacity) for capacity in capacities]
        limits = limits * batch_count if len(limits) == 1 else limits
    if wells is not None and max(limits) > wells:
        left = " that are not to stay empty" if empty else ""
        raise DataError(
            f"a capacity of {max(limits)} on plates of {wells} wells{left}", where=where
        )
    limits = [limit - references for limit in limits]
    if min(limits) < 1:
        raise DataError(
            f"a batch of {min(limits) + references} places has no room beside {references} "
            "references",
            where=where,
        )
    return limits


def _allocated(
    rules: Rules, basis: Floats, table: Table, seed: int, progress: Progress
) -> Allocation:
    try:
        return allocate(basis, rules.units, rules.constraints, seed=seed, progress=progress)
    except InfeasibleError:
        raise refuse_impossible(rules, table.source.sheet) from None


def _design(
    table: Table, name: str, levels: tuple[str, ...], codes: Integers, kept: tuple[Factor, ...]
) -> Design:
    """Make the design as ``diagnose`` will read it; batches without a specimen do not count."""
    used = np.unique(codes)
    batches = Factor(name, tuple(levels[b] for b in used), np.searchsorted(used, codes))
    design = Design(batches, kept)
    wanted, names = design.wanted()
    relations = factor(wanted, names).relations
    if relations:
        raise DataError(
            f"columns to balance say the same: {listed(relations)}; name one of them",
            where=table.source.sheet,
        )
    return design


def _refuse_confounded(entangled: tuple[Entanglement, ...], column: str) -> None:
    lost = [one for one in entangled if not one.confounding.estimable]
    if lost:
        relations = list(dict.fromkeys(r for one in lost for r in one.confounding.aliased))
        raise ConfoundedError(
            f"in the best layout found {listed([one.name for one in lost])} cannot be told from "
            f"{column}: {listed(relations)}. Use fewer batches, so that each holds more specimens, "
            "or loosen what is locked or kept together.",
            relations,
        )


def _position_r2(design: Design, kept: Factor, plates: Plates | None) -> float | None:
    if plates is None:
        return None
    others = [one.design()[0] for one in design.kept if one.name != kept.name]
    return analyse(
        kept.design()[0],
        np.hstack([design.batches.indicators(), plates.terms()]),
        np.hstack(others) if others else None,
    ).r2


def _remarks(
    rules: Rules,
    codes: Integers,
    entangled: tuple[Entanglement, ...],
    together: str | None,
    column: str,
) -> list[Note]:
    notes = []
    held = np.bincount(codes, minlength=len(rules.batch_levels))
    if not held.all():
        empty = [rules.batch_levels[b] for b in np.flatnonzero(held == 0)]
        message = f"Batches without a specimen: {listed(empty)}."
        notes.append(Note("empty_batches", message, tuple(empty)))
    for one in entangled:
        if one.confounding.r2 > NOTEWORTHY_R2:
            message = (
                f"{one.name} still goes with {column}: R² = {one.confounding.r2:.3f}. The best "
                f"layout found leaves it; few specimens of a level, locks or rows kept together "
                "allow no better."
            )
            notes.append(Note("not_balanced", message, (one.name,)))
    if together is not None:
        message = (
            f"Rows with the same {together} are no independent specimens, which the detectable "
            f"effects do not know: a factor that is constant within {together} counts subjects, "
            "not rows."
        )
        notes.append(Note("dependent_rows", message, (together,)))
    return notes

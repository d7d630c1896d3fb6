"""Plan a layout: who goes into which batch, before anything is measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from batchsense.arrays import Integers
from batchsense.errors import ConfoundedError, DataError, InfeasibleError, listed
from batchsense.experiments.dependence import dependent_rows, shared_rows
from batchsense.experiments.design import Design
from batchsense.experiments.entanglement import Entanglement, entanglements
from batchsense.experiments.layout.allocation import allocate, balance_basis
from batchsense.experiments.layout.plates import Plates, fill_plates
from batchsense.experiments.layout.result import Layout
from batchsense.experiments.layout.rules import (
    LayoutRules,
    NamedConstraints,
    places_in_batches,
    read_rules,
    refuse_impossible,
)
from batchsense.experiments.layout.sheet import SheetColumns, sheet_table
from batchsense.experiments.layout.wells import PlateRules, parse_wells, read_wells
from batchsense.experiments.layout.worth import FactorWorth, detectable_effects
from batchsense.experiments.readings import refuse_doubtful
from batchsense.experiments.statistics.confounding import analyse
from batchsense.experiments.tables.columns import Factor, kept_factors
from batchsense.experiments.tables.table import Table
from batchsense.notes import Note
from batchsense.progress import Progress, silent
from batchsense.variation.linear import factor

if TYPE_CHECKING:
    from anndata import AnnData

#: R² of a balanced factor with the batches above which a note is due: its VIF is then 1.05, as if
#: one specimen of 20 had been left out.
NOTEWORTHY_R2 = 0.05


def plan_layout(
    sheet: Table | AnnData | Mapping[str, Iterable[object]] | str | Path,
    batch_count: int,
    balance: Sequence[str],
    rules: LayoutRules = LayoutRules(),
    plates: PlateRules | None = None,
    columns: SheetColumns = SheetColumns(),
    seed: int = 0,
    progress: Progress = silent,
) -> Layout:
    """Assign specimens to batches so that nothing wanted goes with the batches.

    The score is the sum of the squared canonical correlations between the balanced columns and the
    batches: 0 iff every factor, and every combination of them in an additive model, has the same
    mean in every batch; :func:`~batchsense.experiments.layout.allocation.allocate` searches.

    Parameters
    ----------
    sheet : mapping, data frame, path, Table or AnnData
        One entry per specimen in every column.
    batch_count : int
        How many batches.
    balance : sequence of str
        Columns to be balanced, categorical or numeric; one at least.
    rules : LayoutRules
        Capacities, rows together or apart, rows assigned already, references.
    plates : PlateRules, optional
        Each batch is a plate. Specimens are then also balanced over plate rows, plate columns and
        edge.
    columns : SheetColumns
        Declared kinds, the name of the new column, and the column with the ids.
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
        from the batches, or numbers of undeclared kind that cannot if read the other way.
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
    table = sheet_table(sheet, columns.id_column)
    where, column = table.source.sheet, columns.new_column
    _check(table, batch_count, balance, rules.reference_specimens)
    _check_names(table, column, rules, plates)
    empty = np.zeros(0, dtype=np.int64)
    if plates is not None and plates.empty_wells is not None:
        empty = parse_wells(plates.empty_wells, plates.size)
    kept, notes = kept_factors(table, balance, column, columns)
    wells = None if plates is None else plates.size[0] * plates.size[1]
    places = places_in_batches(rules, batch_count, where, wells, len(empty))
    named = read_rules(table, batch_count, rules, places)
    locked = named.constraints.locked[named.units]
    standing = None if plates is None else read_wells(table, plates, empty, locked)
    basis = balance_basis(
        np.hstack([one.indicators() if one.values is None else one.design()[0] for one in kept])
    )
    try:
        found = allocate(basis, named.units, named.constraints, seed=seed, progress=progress)
    except InfeasibleError:
        # The proof knows numbers; the reader knows names.
        raise refuse_impossible(named, where) from None
    codes = found.codes[named.units]
    design = _design(table, column, named.batch_levels, codes, kept)
    refuse_doubtful(design)
    entangled = entanglements(design)
    _refuse_confounded(entangled, column)
    filled = None
    references = rules.reference_specimens
    if standing is not None:
        filled = fill_plates(basis, codes, batch_count, standing, references, seed, progress)
    return Layout(
        table=table,
        design=design,
        column=column,
        batch_levels=named.batch_levels,
        codes=codes,
        capacities=None if places is None else tuple(places),
        reference_specimens=references,
        score=found.score,
        random_scores=found.random_scores,
        factors=tuple(
            FactorWorth(
                one, _position_r2(design, wanted, filled), *detectable_effects(design, wanted)
            )
            for one, wanted in zip(entangled, kept, strict=True)
        ),
        plates=filled,
        seed=seed,
        notes=(
            *table.notes,
            *notes,
            *_remarks(named, codes, entangled, column),
            *_dependent(table, design, rules.together),
        ),
    )


def _check(table: Table, batch_count: int, balance: Sequence[str], references: int) -> None:
    specimens, wrong = len(table.specimens), ""
    if not balance:
        wrong = "name at least one column to balance"
    elif batch_count < 2:
        wrong = f"a layout needs two batches or more, not {batch_count}"
    elif batch_count > specimens:
        wrong = f"{batch_count} batches for {specimens} specimens: some would be empty"
    elif references < 0:
        wrong = "the number of reference specimens cannot be negative"
    if wrong:
        raise DataError(wrong, where=table.source.sheet)


def _check_names(table: Table, name: str, rules: LayoutRules, plates: PlateRules | None) -> None:
    """Refuse new columns that the sheet has already, unless their gaps are what is to be filled."""
    if not name.strip():
        raise DataError("the new batch column needs a name (--column)", where=table.source.sheet)
    in_plates = ("well", "plate_row", "plate_column")
    added = [name, *(in_plates if plates else ())]
    added += ["reference"] if rules.reference_specimens > 0 else []
    filled = {rules.lock, *(in_plates if plates and plates.lock_wells == "well" else ())}
    if taken := [one for one in added if one in table.sheet and one not in filled]:
        raise DataError(
            f"the sheet has columns {listed(map(repr, taken))} already; give the new batch column "
            "another name (--column), or rename these",
            where=table.source.sheet,
        )


def _design(
    table: Table, name: str, levels: tuple[str, ...], codes: Integers, kept: tuple[Factor, ...]
) -> Design:
    """Make the design as ``diagnose`` will read it; batches without a specimen do not count."""
    used = np.unique(codes)
    batches = Factor(name, tuple(levels[b] for b in used), np.searchsorted(used, codes))
    design = Design(batches, kept)
    if relations := factor(*design.wanted()).relations:
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
    named: NamedConstraints,
    codes: Integers,
    entangled: tuple[Entanglement, ...],
    column: str,
) -> list[Note]:
    notes = []
    held = np.bincount(codes, minlength=len(named.batch_levels))
    if not held.all():
        empty = [named.batch_levels[b] for b in np.flatnonzero(held == 0)]
        message = f"Batches without a specimen: {listed(empty)}."
        notes.append(Note("empty_batches", message, tuple(empty)))
    for one in entangled:
        if one.confounding.r2 > NOTEWORTHY_R2:
            message = (
                f"{one.name} still goes with {column}: R² = {one.confounding.r2:.3f}. The best "
                f"layout found leaves it; few specimens of a level, locks or rows kept together "
                "may allow no better."
            )
            notes.append(Note("not_balanced", message, (one.name,)))
    return notes


def _dependent(table: Table, design: Design, together: str | None) -> list[Note]:
    what = "the detectable effects"
    if together is not None:
        return [dependent_rows(together, what)]
    return [
        dependent_rows(one.column, what, f"--together {one.column} keeps them in one batch.")
        for one in shared_rows(table, design)
    ]

"""Further batch columns beside the one that a correction is made for: removed in one model.

By Frisch and Waugh, what a correction for one column learns from values that lost the others, with
the slopes of the model of all, is what it would learn in that model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from batchsense.arrays import Flags, Floats, Integers
from batchsense.errors import DataError, listed
from batchsense.experiments.correction.full_fit import full_fit
from batchsense.experiments.correction.remarks import (
    chosen_features,
    entangled_features,
    remarks,
)
from batchsense.experiments.correction.terms import Term, columns_of, match_terms, terms_of
from batchsense.experiments.correction.two_passes.statistics import BatchStatistics
from batchsense.experiments.design import Design
from batchsense.experiments.sheets.nuisances import parts_of, terms_to_zero
from batchsense.experiments.tables.columns import Factor, batch_factor
from batchsense.experiments.tables.table import Table
from batchsense.notes import Note
from batchsense.progress import Progress
from batchsense.storage.seal import Arrays
from batchsense.variation.linear import factor

if TYPE_CHECKING:
    from batchsense.experiments.correction.from_sums import CorrectionFromSums

#: Eigenvalues of terms of norm 1 below this part are rounding.
_SINGULAR = 1e-10
#: What a correction for one column says of itself, and what is said of all columns instead.
_OF_ONE = {"attenuation", "nothing_kept", "additive_only", "later_tests", "numbers_as_batches"}


@dataclass(frozen=True, slots=True, eq=False)
class Beside:
    """What is subtracted before the correction for one column."""

    columns: tuple[str, ...]  #: All batch columns, as they were named
    #: Columns whose combination is the one that is corrected for; empty if it is a single one.
    combined: tuple[str, ...]
    terms: tuple[Term, ...]  #: Levels and numbers of the others
    centres: Floats  #: (terms,): where each has no effect: levels sum to zero, numbers are centred
    #: (terms, features): in units of the observations per unit of the term; zero where others
    #: determine it.
    slopes: Floats = field(repr=False)
    rank: int  #: How many of them say something of their own
    #: (features,): features whose observed specimens do not tell the terms apart.
    unchanged: Flags = field(repr=False)

    @property
    def name(self) -> str:
        """All columns in words."""
        return " + ".join(self.columns)

    @property
    def numeric(self) -> tuple[str, ...]:
        """Which of the columns are numbers."""
        return tuple(term.factor for term in self.terms if term.level is None)

    def modelled(self, main: str) -> tuple[str, ...]:
        """The column that is corrected for, and the others."""
        return (main, *dict.fromkeys(term.factor for term in self.terms))

    def apart(self, table: Table) -> Floats:
        """The terms around their centres, shape (specimens, terms)."""
        return match_terms(table, self.terms) - self.centres

    def taken_out(self, table: Table, features: Integers) -> Table:
        """The table without their effects, and with the column that is corrected for."""
        table = _with_combination(table, self.combined)
        return replace(table, values=table.values - self.apart(table) @ self.slopes[:, features])

    def about(self) -> dict[str, Any]:
        """What a file says of it beside its arrays."""
        terms = [(term.factor, term.level) for term in self.terms]
        named = {"columns": self.columns, "combined": self.combined}
        return {**named, "terms": terms, "rank": self.rank}

    def arrays(self) -> Arrays:
        """Its arrays."""
        return {name: getattr(self, name) for name in ("centres", "slopes", "unchanged")}

    @classmethod
    def of(cls, about: Mapping[str, Any], arrays: Arrays) -> Beside:
        """Take up what a file holds."""
        terms = tuple(Term(*term) for term in about["terms"])
        columns, combined = tuple(about["columns"]), tuple(about["combined"])
        return cls(columns=columns, combined=combined, terms=terms, rank=about["rank"], **arrays)


def fit_beside(
    correction: CorrectionFromSums[Any], table: Table, names: Sequence[str], progress: Progress
) -> Any:
    """Fit a correction for the first column of categories, the others in its model."""
    if correction.despite_confounding:
        raise DataError("despite_confounding takes one batch column")
    parts = parts_of(correction.design(table, names)[0].batches)
    labelled = tuple(one.name for one in parts if one.values is None)
    if not labelled:
        raise DataError(
            f"{listed(names)} are numbers, and a correction needs a column of categories; test "
            "takes numbers alone as --surrogate",
            where=table.source.sheet,
        )
    combined = labelled if getattr(correction, "combine", False) and len(labelled) > 1 else ()
    main = " × ".join(combined) or labelled[0]
    whole = _with_combination(table, combined)
    if combined:
        _refuse_single(whole, main)
    others = [one for one in parts if one.name not in (combined or labelled[:1])]
    modelled = (main, *(one.name for one in others))
    design, found = correction.without_kinds(combined).design(whole, modelled)
    beside = _learned(whole, design, batch_factor(whole, main), others, (tuple(names), combined))
    values = beside.taken_out(table, np.arange(len(table.features)))
    alone = correction.without_kinds(names)
    fitted = alone.fit(values, main, progress)
    own = [note for note in fitted.notes if note.code not in _OF_ONE]
    read = [note for note in design.notes if note not in own]
    scales = fitted.method == "combat"
    rest = {name: each for name, each in table.sheet.items() if name not in combined}
    notes = [*read, *own, *remarks(replace(table, sheet=rest), design, found, scales)]
    notes += entangled_features(chosen_features(table.features, beside.unchanged))
    if others:
        notes.append(_said(main, others, scales, design))
    return replace(fitted, correction=correction, kept=found, notes=tuple(notes), beside=beside)


def _said(main: str, others: Sequence[Factor], scales: bool, design: Design) -> Note:
    names = listed([one.name for one in others])
    if not scales:
        message = f"{main}, {names} were removed together, in one model of all of them."
        return Note("removed_together", message)
    several = sum(one.values is None for one in parts_of(design.batches)) > 1
    first = "the first batch column of categories" if several else "the categories"
    message = (
        f"ComBat shifted and stretched by {main}, {first}; the means and slopes of {names} were "
        "removed in the same model, not their scales."
    )
    if several and " × " not in main:
        least = int(design.batches.counts.min())
        held = f"has {least} specimens" if least > 1 else "has a single specimen, which is too few"
        message += (
            " To stretch by another, name it first; by all combinations (the smallest of which "
            f"{held}), say --combine."
        )
    return Note("combat_over", message, (main,))


def _learned(
    table: Table,
    design: Design,
    main: Factor,
    others: Sequence[Factor],
    named: tuple[tuple[str, ...], tuple[str, ...]],
) -> Beside:
    specimens = len(table.specimens)
    columns, terms = columns_of(others, specimens), terms_of(others)
    base = np.hstack([np.ones((specimens, 1)), terms_to_zero(main)])
    null = factor(np.hstack([base, columns])).null_vectors
    follows = {int(np.flatnonzero(vector)[-1]) - base.shape[1] for vector in null}
    chosen = [place for place in range(len(terms)) if place not in follows]
    kept = columns_of(design.kept, specimens)
    together = np.hstack([kept, columns[:, chosen]])
    empty = BatchStatistics.empty(len(main.levels), len(table.features), together.shape[1])
    fit = full_fit(empty.add(table.values, main.codes, together))
    unchanged = ~fit.estimable | _hidden(table.values, base, kept, columns[:, chosen])
    sizes = {one.name: len(one.levels) for one in others}
    means = columns.mean(axis=0)
    centres = [
        mean if term.level is None else 1.0 / sizes[term.factor]
        for mean, term in zip(means.tolist(), terms, strict=True)
    ]
    slopes = np.zeros((len(terms), len(table.features)))
    slopes[chosen] = np.where(unchanged, 0.0, fit.slopes[kept.shape[1] :])
    return Beside(*named, terms, np.array(centres), slopes, len(chosen), unchanged)


def _hidden(values: Floats, base: Floats, kept: Floats, others: Floats) -> Flags:
    """Features in whose observed specimens a kept term goes with the others."""
    missing = np.isnan(values)
    found = np.zeros(values.shape[1], dtype=bool)
    columns = np.hstack([base, kept, others])
    columns = columns / np.maximum(np.linalg.norm(columns, axis=0), np.finfo(np.float64).tiny)
    pairs = (columns[:, :, None] * columns[:, None, :]).reshape(len(columns), -1)
    rank = factor(columns).rank
    incomplete = np.flatnonzero(missing.any(axis=0))
    for low in range(0, len(incomplete), 1024):
        part = incomplete[low : low + 1024]
        grams = (~missing[:, part]).T.astype(np.float64) @ pairs
        sizes = np.linalg.eigvalsh(grams.reshape(len(part), columns.shape[1], -1))
        for feature in part[(sizes > _SINGULAR * sizes[:, -1:]).sum(axis=1) < rank].tolist():
            rows = ~missing[:, feature]
            if not rows.any():
                continue
            wanted = np.hstack([base[:, :1], kept])
            both = np.hstack([base, others])
            ranks = [factor(one[rows]).rank for one in (columns, wanted, both)]
            found[feature] = ranks[0] < ranks[1] + ranks[2] - 1
    return found


def _with_combination(table: Table, columns: Sequence[str]) -> Table:
    if not columns:
        return table
    labels = [table.sheet[name] for name in columns]
    cells = tuple(
        None if None in each else " · ".join(map(str, each)) for each in zip(*labels, strict=True)
    )
    name = " × ".join(columns)
    return replace(
        table, sheet={**table.sheet, name: cells}, categorical=table.categorical | {name}
    )


def _refuse_single(table: Table, name: str) -> None:
    cells = batch_factor(table, name)
    alone = [level for level, n in zip(cells.levels, cells.counts, strict=True) if n == 1]
    if alone:
        raise DataError(
            f"combinations of {name} with a single specimen have no scale: {listed(alone, 4)}; "
            "leave out --combine, so that only the first column scales",
            where=table.source.sheet,
        )

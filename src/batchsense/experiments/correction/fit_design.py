"""What every fit stands on: the design of all specimens, and what cannot be told apart in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from batchsense.arrays import Floats
from batchsense.errors import DataError, listed
from batchsense.experiments.correction.gathered import Gathered, gather_factors
from batchsense.experiments.correction.interface import matched_features
from batchsense.experiments.correction.terms import Term, match_terms, terms_of
from batchsense.experiments.correction.two_passes.statistics import BatchStatistics
from batchsense.experiments.design import Design, read_design
from batchsense.experiments.entanglement import Entanglement, entanglements, refuse_confounded
from batchsense.experiments.kinds import ColumnKinds
from batchsense.experiments.tables.columns import label_factor
from batchsense.experiments.tables.table import Table
from batchsense.notes import Note


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepingColumns:
    """What every correction is asked to keep; the corrections add options of their own."""

    keep: tuple[str, ...] = ()
    #: Columns of `keep` whose kind is declared.
    categorical: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    #: Go on where a kept column cannot be told from the batches: the difference is then removed
    #: with them, and a note says what is lost.
    despite_confounding: bool = False

    def without_kinds(self, names: Sequence[str]) -> Self:
        """The same, with no kind declared for some columns."""
        kinds = (self.categorical, self.numeric)
        categorical, numeric = (tuple(one for one in kind if one not in names) for kind in kinds)
        return replace(self, categorical=categorical, numeric=numeric)

    def design(
        self, table: Table, batch_labels: str | Sequence[str]
    ) -> tuple[Design, tuple[Entanglement, ...]]:
        """Read the design of a sheet, and each kept factor against the batches.

        Raises
        ------
        DataError
            A column of the sheet cannot be used.
        ConfoundedError
            A kept factor cannot be told from the batches, and this was not asked for.
        """
        design = read_design(
            table, batch_labels, self.keep, ColumnKinds(self.categorical, self.numeric)
        )
        found = entanglements(design)
        if not self.despite_confounding:
            refuse_confounded(design, found)
        return design, found


@dataclass(frozen=True, slots=True, eq=False)
class FitDesign:
    """The specimens of a fit, their design and its entanglements."""

    gathered: Gathered  #: The sufficient statistics
    design: Design  #: Batches and kept factors of all specimens
    found: tuple[Entanglement, ...]  #: Each kept factor against the batches


def design_of_table(table: Table, batch_labels: str, keeping: KeepingColumns) -> FitDesign:
    """Read a whole table; look at its sheet before its observations."""
    design, found = keeping.design(table, batch_labels)
    return FitDesign(gather_factors(table, design.batches, design.kept), design, found)


def design_of_parts(gathered: Gathered, keeping: KeepingColumns) -> FitDesign:
    """Read the joined sheet of gathered parts, as if it were that of one table."""
    design, found = keeping.design(gathered.sheet, gathered.batch_labels)
    if terms_of(design.kept) != gathered.terms:
        doubtful = [
            factor.name
            for factor in design.kept
            if (Term(factor.name, None) in gathered.terms) != (factor.kind == "numeric")
        ]
        raise DataError(
            f"the parts read {listed(map(repr, doubtful or gathered.keep))} differently from the "
            "whole; declare the kind with numeric=... or categorical=..."
        )
    return FitDesign(gathered, design, found)


def lost_notes(fit: FitDesign) -> list[Note]:
    """Say what a correction loses that went on despite confounding."""
    lost = [one for one in fit.found if not one.confounding.estimable]
    if not lost:
        return []
    batch = fit.design.batches.name
    levels = {factor.name: factor.levels for factor in fit.design.kept}
    relations = list(dict.fromkeys(r for one in lost for r in one.confounding.aliased))
    names = listed([one.name for one in lost])
    sizes = listed(
        f"{one.confounding.rank_lost} of {max(len(levels[one.name]) - 1, 1)} independent "
        f"differences of {one.name}"
        for one in lost
    )
    message = (
        f"{names} cannot be told from {batch} ({listed(relations)}). As you asked, {batch} was "
        f"removed all the same, and with it {sizes}: these are gone from the corrected values. "
        "That they show no difference there says nothing about the specimens."
    )
    return [Note("confounded_removed", message, tuple(relations))]


def new_batches(
    table: Table, gathered: Gathered, batch_levels: Sequence[str]
) -> tuple[tuple[str, ...], BatchStatistics]:
    """Gather the specimens of batches that were not fitted.

    Specimens of known batches are passed over; the statistics have the fitted terms and features.
    """
    factor = label_factor(table, gathered.batch_labels)
    new = [level for level in factor.levels if level not in batch_levels]
    if not new:
        raise DataError(
            f"column {factor.name!r} holds no batch that was not fitted: {listed(factor.levels)}",
            where=table.source.sheet,
        )
    places = matched_features(table, gathered.features)
    if len(places) != len(gathered.features):
        raise DataError(
            f"{len(gathered.features) - len(places)} fitted features are missing; new batches need "
            "all of them",
            where=table.source.matrix,
        )
    code_of = np.array([new.index(level) if level in new else -1 for level in factor.levels])
    codes = code_of[factor.codes]
    rows = np.flatnonzero(codes >= 0)
    values: Floats = np.empty((len(rows), len(places)))
    values[:, places] = table.values[rows]
    terms = match_terms(table, gathered.terms)
    empty = BatchStatistics.empty(len(new), len(places), len(gathered.terms))
    return tuple(new), empty.add(values, codes[rows], terms[rows])


def extended_note(levels: Sequence[str], batch_labels: str) -> Note:
    """Say that batches were added to a finished fit."""
    message = (
        f"{batch_labels} {listed(levels)} came later: brought to the level of the batches that "
        "were fitted before, with the slopes of what is kept as they were found there."
    )
    return Note("batches_added", message, tuple(levels))

"""The model of an experiment: a constant, what must be kept, and the batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from batchsense.arrays import Floats
from batchsense.errors import DataError, listed
from batchsense.experiments.kinds import ColumnKinds
from batchsense.experiments.readings import refuse_doubtful
from batchsense.experiments.sheets.nuisances import (
    FEW_EACH,
    numeric_batches,
    parts_of,
    several_batches,
    terms_to_zero,
)
from batchsense.experiments.tables.columns import (
    Factor,
    batch_factor,
    kept_factors,
    look_alikes,
)
from batchsense.experiments.tables.table import Table
from batchsense.experiments.tables.text import is_number
from batchsense.notes import Note
from batchsense.variation.linear import factor

#: A larger interaction (batches times terms) is not looked at: 20 batches by 20 terms. Chosen, not
#: measured; factoring it costs the square of its columns.
MOST_PRODUCTS = 400
#: A larger product of levels in a model is refused: no experiment fills that many cells, and its
#: columns would fill the memory.
MOST_CROSSED = 2000


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """Batches and kept factors of the specimens of a table."""

    #: The batch column, or several (:mod:`~batchsense.experiments.sheets.nuisances`).
    batches: Factor
    kept: tuple[Factor, ...]  #: What must be kept
    notes: tuple[Note, ...] = ()  #: Decisions made in reading the sheet; small batches
    #: Products of kept factors that are in the model beside them, smaller ones first.
    interactions: tuple[tuple[str, ...], ...] = ()

    @property
    def specimens(self) -> int:
        """Number of specimens."""
        return len(self.batches.codes)

    def wanted(self, leaving_out: str | None = None) -> tuple[Floats, tuple[str, ...]]:
        """The constant and the kept factors, possibly without one, with the names of the columns.

        The columns, of shape (specimens, terms), are of full rank when the kept factors are not
        entangled among themselves, and all cells of an interaction occupied.
        """
        parts = [np.ones((self.specimens, 1))]
        names: list[str] = ["Intercept"]
        for kept in self.kept:
            if kept.name != leaving_out:
                columns, terms = kept.design()
                parts.append(columns)
                names.extend(terms)
        factors = {kept.name: kept for kept in self.kept}
        for term in self.interactions:
            if leaving_out not in term:
                columns, terms = _crossed([factors[name] for name in term])
                parts.append(columns)
                names.extend(terms)
        return np.hstack(parts), tuple(names)

    def terms(self) -> tuple[tuple[str, ...], ...]:
        """What is kept, factor by factor, and the interactions."""
        return (*((kept.name,) for kept in self.kept), *self.interactions)

    def assumed(self, names: Sequence[str]) -> list[str]:
        """Sentences that say as what columns were read whose kind nobody declared."""
        guessed = [note for note in self.notes if note.code == "kind_assumed"]
        return [note.message for note in guessed if set(note.where) & set(names)]

    def batch_terms(self) -> Floats:
        """The batches coded to sum to zero, shape (specimens, batches - 1); numbers centred."""
        return terms_to_zero(self.batches)

    def interaction(self) -> tuple[str, Floats] | None:
        """The name and columns by which the batches may act differently on what is kept.

        The name is ``month × drug``, or ``month × (drug, age)`` for several factors. The columns
        are every batch times every term of a kept factor. With the constant, the batches and the
        kept factors they span the cells of batch and factor, and a slope for each batch. None if
        nothing is kept, or there are more than 400 products.
        """
        if not self.kept:
            return None
        batches = self.batches.indicators()
        terms = np.hstack([kept.design()[0] for kept in self.kept])
        terms = terms - terms.mean(axis=0)
        if batches.shape[1] * terms.shape[1] > MOST_PRODUCTS:
            return None
        products = (batches[:, :, None] * terms[:, None, :]).reshape(self.specimens, -1)
        sizes = np.linalg.norm(products, axis=0)
        products = products[:, sizes > 0] / sizes[sizes > 0]  # units must not decide about ranks
        names = ", ".join(kept.name for kept in self.kept)
        name = f"{self.batches.name} × {names if len(self.kept) == 1 else f'({names})'}"
        return name, products


def read_design(
    table: Table,
    batch_labels: str | Sequence[str] | None,
    keep: Sequence[str] = (),
    kinds: ColumnKinds = ColumnKinds(),
    surrogates: Sequence[str] = (),
    interactions: Sequence[tuple[str, ...]] = (),
) -> Design:
    """Read the columns of the sheet that a model needs, and refuse what cannot be meant."""
    if batch_labels is None:
        if twice := [name for name in surrogates if name in keep]:
            raise DataError(
                f"{listed(map(repr, twice))} cannot be both a surrogate and kept",
                where=table.source.sheet,
            )
        kept, notes = kept_factors(table, keep, "", kinds)
        design = Design(numeric_batches(table, surrogates), kept, notes)
    elif isinstance(batch_labels, str) or len(batch_labels) == 1:
        (name,) = [batch_labels] if isinstance(batch_labels, str) else batch_labels
        batches = batch_factor(table, name, kinds)
        kept, notes = kept_factors(table, keep, name, kinds)
        design = Design(batches, kept, (*notes, *_batch_notes(batches)))
    else:
        several, rest, read = several_batches(table, batch_labels, keep, kinds)
        kept, notes = kept_factors(table, keep, "", rest)
        labelled = [one for one in parts_of(several) if one.values is None]
        small = [note for one in labelled for note in (*_small_batches(one), *look_alikes([one]))]
        design = Design(several, kept, (*notes, *read, *small, *_adding_nothing(several)))
    wanted, names = design.wanted()
    relations = factor(wanted, names).relations
    if relations:
        raise DataError(
            f"columns to be kept say the same: {listed(relations)}; keep one of them",
            where=table.source.sheet,
        )
    refuse_doubtful(design)
    if interactions:
        sizes = {kept.name: max(1, len(kept.levels) - 1) for kept in design.kept}
        most = max(interactions, key=lambda term: prod(sizes[name] for name in term))
        if prod(sizes[name] for name in most) > MOST_CROSSED:
            raise DataError(
                f"{' * '.join(most)} has more than {MOST_CROSSED:,} products of levels; leave a "
                "column out, or join levels",
                where=table.source.sheet,
            )
    return replace(design, interactions=tuple(interactions))


def _crossed(factors: Sequence[Factor]) -> tuple[Floats, tuple[str, ...]]:
    """Products of the columns of factors, the first level of each left out, and their names."""
    columns, names = factors[0].design()[0], list(factors[0].design()[1])
    for more in factors[1:]:
        own, terms = more.design()
        columns = (columns[:, :, None] * own[:, None, :]).reshape(len(columns), -1)
        names = [f"{name}:{term}" for name in names for term in terms]
    return columns, tuple(names)


def _adding_nothing(batches: Factor) -> list[Note]:
    """Name the batch columns that say nothing beyond those before them."""
    columns = [np.ones((len(batches.codes), 1))]
    notes = []
    for one in parts_of(batches):
        more = np.hstack([*columns, terms_to_zero(one)])
        if factor(more).rank == factor(np.hstack(columns)).rank:
            message = f"{one.name} adds nothing to the batch columns before it: they determine it."
            notes.append(Note("batch_column_determined", message, (one.name,)))
        columns = [more]
    return notes


def _batch_notes(batches: Factor) -> list[Note]:
    levels = batches.levels
    numbers = []
    if all(map(is_number, levels)) and len(batches.codes) < FEW_EACH * len(levels):
        message = (
            f"Column {batches.name!r} has {len(levels)} distinct numbers and was read as "
            f"{len(levels)} batches. If it measures something, name it as --surrogate of test."
        )
        numbers.append(Note("numbers_as_batches", message, (batches.name,)))
    return [*numbers, *_small_batches(batches), *look_alikes([batches])]


def _small_batches(batches: Factor) -> list[Note]:
    single = [level for level, n in zip(batches.levels, batches.counts, strict=True) if n == 1]
    if not single:
        return []
    message = (
        f"Batches with a single specimen: {listed(single)}. Such a specimen tells nothing about "
        "the variation inside its batch, and correction moves it onto the fitted value."
    )
    return [Note("single_specimen_batches", message, tuple(single))]

"""Diagnose a table: how much varies with the batches, and what of the wanted goes with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from typing_extensions import override

from batchsense.arrays import Floats
from batchsense.errors import UnresolvedError
from batchsense.experiments.beyond_memory.sketching import Sketch
from batchsense.experiments.beyond_memory.stored_table import StoredTable
from batchsense.experiments.counts import log_count_table
from batchsense.experiments.dependence import dependent_rows, shared_rows
from batchsense.experiments.design import Design, read_design
from batchsense.experiments.diagnosis.component import BatchComponent, batch_component
from batchsense.experiments.diagnosis.products import Products
from batchsense.experiments.diagnosis.scores import Scores, score
from batchsense.experiments.diagnosis.shares import (
    Share,
    share_alone,
)
from batchsense.experiments.diagnosis.terms import BatchPart, Terms
from batchsense.experiments.diagnosis.usable import usable_features
from batchsense.experiments.diagnosis.verdict import Verdict, judge, linked_through, remarks
from batchsense.experiments.entanglement import (
    Entanglement,
    LevelContrast,
    entanglements,
    level_contrasts,
)
from batchsense.experiments.kinds import ColumnKinds
from batchsense.experiments.sheets.nuisances import Nuisances
from batchsense.experiments.shown import Shown, per_cent
from batchsense.experiments.tables.anndata_objects import as_table
from batchsense.experiments.tables.table import Table
from batchsense.experiments.threads import one_thread_if_small
from batchsense.experiments.value_kinds import refuse_raw
from batchsense.notes import Note
from batchsense.progress import Progress, silent
from batchsense.variation.interval import Interval

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

#: Labels are permuted so often: the smallest possible p-value is 1/201, and one near 0.05 has a
#: standard error of 0.015.
PERMUTATIONS = 200
#: With fewer the smallest possible p-value, 1/(1 + permutations), is not below 0.05.
FEWEST_PERMUTATIONS = 20


@dataclass(frozen=True, slots=True)
class KeptDiagnosis:
    """One kept factor.

    Attributes
    ----------
    entanglement : Entanglement
        How it goes with the batches.
    share : Share or None
        What it adds to the batches and the other kept factors; None where nothing is left of it.
    alone : float
        Share of the sum of squares that it explains without any other term.
    contrasts : tuple of LevelContrast
        The differences between its levels: which are estimable, and through whom.
    """

    entanglement: Entanglement
    share: Share | None
    alone: float
    contrasts: tuple[LevelContrast, ...]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Diagnosis(Shown):
    """What varies with the batches, and what that means for the wanted factors.

    Attributes
    ----------
    verdict : {"fine", "adjust", "partly_lost", "not_estimable"}
        See :func:`~batchsense.experiments.diagnosis.verdict.judge`.
    reason : str
        The numbers that decided.
    design : Design
        The factors as they were read.
    batch_share : Share or None
        What the batches add to the kept factors; None where nothing is left of them.
    joint_share : Share or None
        What batches and kept factors explain together; more than the sum of the single shares
        where they are entangled.
    interaction_share : Share or None
        What differs between batches in how they act on what is kept: on the levels of a factor, or
        as slopes. None where no degree of freedom is left for it, or it has more than 400 columns.
    kept : tuple of KeptDiagnosis
        The kept factors.
    batch_parts : tuple of BatchPart
        Of several batch columns each, given the others and what is kept; empty for one.
    batch_alone : float
        Share of the sum of squares that the batches explain without any other term.
    shared : float or None
        What batches and kept factors explain together beyond what each adds to the others, as a
        share of the sum of squares; variation that cannot be given to one of them. May be negative.
    residual_share : float or None
        Share of the sum of squares left by batches and kept factors (no interaction); None where
        no degree of freedom is left for it.
    residual : Interval or None
        Share of the variance that no term explains, the interaction among them, chance added back.
    component : BatchComponent or None
        How far the batches lie apart in the unit of the data; None where nothing is left of them,
        and for several batch columns.
    scores : Scores or None
        What principal components and distances between specimens go with; None where fewer than
        two directions vary.
    specimens, features : int
        Size of the analysed table.
    notes : tuple of Note
        What the reader must know.
    sketch : Sketch or None
        Where permutations and the ends of intervals rest on a sketch; None where all is exact.
    """

    verdict: Verdict
    reason: str
    design: Design
    batch_share: Share | None
    joint_share: Share | None
    interaction_share: Share | None
    kept: tuple[KeptDiagnosis, ...]
    batch_parts: tuple[BatchPart, ...]
    batch_alone: float
    shared: float | None
    residual_share: float | None
    residual: Interval | None
    component: BatchComponent | None
    scores: Scores | None
    specimens: int
    features: int
    notes: tuple[Note, ...]
    sketch: Sketch | None = None

    @override
    def headline(self) -> str:
        name, share = self.design.batches.name, self.batch_share
        size = f"{self.specimens:,} specimens, {self.features:,} features"
        if share is None:
            return f"{self.verdict}; nothing of {name} is left beside what is kept; {size}"
        part, ends = share.share, (share.share.low, share.share.high)
        low, high = map(per_cent, ends)
        return f"{self.verdict}; {name} has {per_cent(part.estimate)} ({low} to {high}); {size}"

    @override
    def to_frame(self) -> pd.DataFrame:
        """The share of each term in the variance, beside what chance gives; a row for each term."""
        import pandas as pd

        terms = [(self.design.batches.name, self.batch_share)]
        terms += [(one.entanglement.name, one.share) for one in self.kept]
        if crossed := self.design.interaction():
            terms.append((crossed[0], self.interaction_share))
        terms.append(("together", self.joint_share))
        rows = {
            name: {
                "share": one.share.estimate,
                "low": one.share.low,
                "high": one.share.high,
                "raw": one.raw,
                "by_chance": one.null.mean,
                "by_chance_high": one.null.high,
                "p": one.null.p_value,
            }
            for name, one in terms
            if one is not None
        }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("term")


def diagnose(
    table: Table | AnnData,
    batch_labels: str | Sequence[str],
    keep: Sequence[str] = (),
    *,
    kinds: ColumnKinds = ColumnKinds(),
    standardise: bool = False,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    progress: Progress = silent,
) -> Diagnosis:
    """Measure how much varies with the batches and with what must be kept.

    All terms are fitted together, y = constant + kept + batches + error, and each is given what it
    adds to all others, with what chance explains subtracted (see
    :func:`~batchsense.experiments.diagnosis.shares.share_of_variance`), an interval and its
    permutation null.

    Parameters
    ----------
    table : Table or AnnData
        The observations and their sheet (also a table on disk, from
        :func:`~batchsense.experiments.on_disk`). Features with missing values are left out and
        noted. Of counts, log counts per million of the features with enough of them are looked at.
    batch_labels : str or sequence of str
        The column of the sheet with the batch labels, or several, also of numbers: judged jointly,
        and each given the others.
    keep : sequence of str
        The columns of what must be kept.
    kinds : ColumnKinds
        Columns of ``keep`` whose kind is declared.
    standardise : bool
        Give every feature the same weight instead of its variance.
    permutations : int
        How often labels are permuted, at least 20: fewer can never show p < 0.05.
    seed : int
        Seed of the permutations.
    progress : Progress
        Told of the terms and their permutations.

    Raises
    ------
    DataError
        A column is unknown, incomplete or constant, or no feature is complete or varies.
    ValueError
        Fewer than 20 permutations.
    UnresolvedError
        The factors can be told apart, but no degree of freedom is left to judge noise by, or the
        values are intensities, for which the model does not hold, or counts that are too few.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> month, drug = np.repeat([0, 1], 20), np.tile([0, 1], 20)
    >>> observations = rng.normal(size=(40, 30)) + 2 * month[:, None] + drug[:, None]
    >>> table = Table.from_arrays(observations, {"month": month, "drug": drug})
    >>> found = diagnose(table, "month", ["drug"])
    >>> found.verdict, found.batch_share.share.low > 0.3
    ('adjust', True)
    """
    if permutations < FEWEST_PERMUTATIONS:
        raise ValueError(f"permutations must be at least {FEWEST_PERMUTATIONS}, not {permutations}")
    table = as_table(table)
    design = read_design(table, batch_labels, keep, kinds)
    if isinstance(table, StoredTable):
        table.refuse_raw("the verdict")
    table = log_count_table(table, design)
    found = entanglements(design)
    if all(one.confounding.estimable for one in found):  # what the sheet refuses needs no values
        refuse_raw(table.values_read(), "the verdict")
    observations: Floats | Products
    if isinstance(table, StoredTable):
        # It needs this chapter, and workers of a cluster load it first.
        from batchsense.experiments.beyond_memory.stored_products import stored_products

        observations, notes, sketch = stored_products(table, design, standardise, seed)
        size = table.location.shape[0] * table.location.shape[1]
    else:
        observations, notes = usable_features(table, standardise)
        size, sketch = observations.size, None
    with one_thread_if_small(size):
        terms = Terms(design, observations, permutations, seed, progress)
        shared = [
            dependent_rows(
                one.column,
                "these p-values, intervals and any placebo",
                f"{one.counted}. {one.mended('shows their share; in test it lets them agree')}",
            )
            for one in shared_rows(table, design)
        ]
        told = (*table.notes, *design.notes, *notes, *shared)
        judged = _judged(design.batches.name, found, terms, told)
        return replace(judged, sketch=sketch)


def _judged(
    batch_labels: str, found: tuple[Entanglement, ...], terms: Terms, notes: tuple[Note, ...]
) -> Diagnosis:
    design, products = terms.design, terms.products
    joint = terms.share("all terms", np.hstack([terms.wanted, terms.batches]), terms.constant)
    batch_share = terms.share(batch_labels, terms.batches, terms.wanted)
    kept = tuple(
        KeptDiagnosis(
            one,
            terms.share(one.name, *terms.kept(one.name)),
            share_alone(products, terms.kept(one.name)[0]),
            level_contrasts(design, factor),
        )
        for one, factor in zip(found, design.kept, strict=True)
    )
    verdict, reason = judge(batch_share, found, batch_labels)
    if joint is None and verdict != "not_estimable":
        raise UnresolvedError(
            f"{design.specimens} specimens are too few for {batch_labels} and what is to be kept: "
            "no degree of freedom is left to judge noise by",
            needed="at least one more specimen in a batch and condition that exist already",
        )
    interaction = terms.interaction()
    parts = terms.batch_parts() if isinstance(design.batches, Nuisances) else ()
    unique = [one.share.raw for one in kept if one.share] + [batch_share.raw if batch_share else 0]
    return Diagnosis(
        verdict=verdict,
        reason=reason,
        design=design,
        batch_share=batch_share,
        joint_share=joint,
        interaction_share=interaction,
        kept=kept,
        batch_parts=parts,
        batch_alone=share_alone(products, terms.batches),
        shared=joint.raw - sum(unique) if joint else None,
        residual_share=max(0.0, 1.0 - joint.raw) if joint else None,
        residual=terms.residual(interaction is not None),
        component=None
        if parts
        else batch_component(
            products, terms.batches, terms.wanted, terms.generator(), terms.permutations
        ),
        scores=score(products, design, terms.generator(), terms.permutations, terms.progress),
        specimens=design.specimens,
        features=products.features,
        notes=(
            *notes,
            *remarks(design, batch_share, interaction),
            *linked_through({one.entanglement.name: one.contrasts for one in kept}),
        ),
    )

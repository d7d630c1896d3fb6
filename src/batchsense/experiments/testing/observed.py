"""What is fitted: values as they are, log counts with weights, or a matrix on disk; and the fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from batchsense.arrays import Flags, Floats
from batchsense.errors import UnresolvedError
from batchsense.experiments.beyond_memory import StoredTable
from batchsense.experiments.correction.interface import COUNTS_METHOD, Corrected
from batchsense.experiments.counts import PreparedCounts, log_cpm_for_weights, prepare_counts
from batchsense.experiments.design import Design
from batchsense.experiments.tables.table import Table
from batchsense.experiments.testing import remarks
from batchsense.experiments.testing.blocks.consensus import fit_correlated
from batchsense.experiments.testing.blocks.fitting import fit_in_blocks, weights_in_blocks
from batchsense.experiments.testing.comparisons import Comparisons, Model
from batchsense.experiments.testing.contrasts import ContrastOptions, Values
from batchsense.experiments.testing.fitting import ContrastFits, fit_contrasts, means
from batchsense.experiments.testing.moderation import FeatureVariances, scale_of
from batchsense.experiments.testing.results import Blocks
from batchsense.experiments.testing.weights.precision_weights import (
    Fit,
    PrecisionWeights,
    precision_weights,
)
from batchsense.experiments.testing.weights.specimen_weights import (
    SpecimenWeights,
    specimen_weights,
)
from batchsense.experiments.threads import one_thread_if_small
from batchsense.experiments.value_kinds import refuse_raw, tallies
from batchsense.progress import Progress
from batchsense.variation.linear import DesignFactor, factor

if TYPE_CHECKING:
    from batchsense.experiments.beyond_memory.stored_fits import StoredFits


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """Values of shape (specimens, features), NaN where a feature is left out, and their weights.

    ``mean`` and ``varies`` of each feature are known once they were fitted.
    """

    values: Floats
    counts: PreparedCounts | None = None
    precision: PrecisionWeights | None = None
    stored: StoredFits | None = None
    blocks: Blocks | None = None
    specimens: SpecimenWeights | None = None
    mean: Floats = field(default_factory=lambda: np.empty(0))
    varies: Flags = field(default_factory=lambda: np.empty(0, dtype=bool))

    def weight_of_each(self, specimens: Sequence[str]) -> dict[str, float]:
        """What specimens weigh, by name; nothing where they were not weighed."""
        if self.specimens is None:
            return {}
        return dict(zip(specimens, self.specimens.weights.tolist(), strict=True))

    def trace(self, design: Design, model: Model) -> remarks.Trace:
        """What is left of the batches."""
        if self.stored is not None:
            return self.stored.trace(design, model)
        return remarks.trace_of_batches(self.values, design, model)


def observe(
    table: Table,
    chosen: tuple[Values, Floats],
    corrected: Corrected | None,
    options: ContrastOptions,
    design: DesignFactor,
) -> Observed:
    """Take counts as counts, unless they went through a correction; leave out tallies."""
    which, values = chosen
    if isinstance(table, StoredTable):
        table.refuse_raw("the test")
        if options.blocks is not None or options.specimen_weights:
            what = "rows of a block agree" if options.blocks is not None else "a specimen scatters"
            raise UnresolvedError(
                f"how far {what} is not told by the sums of one pass",
                needed="the matrix in memory, or a test without blocks and specimen weights",
            )
        from batchsense.experiments.beyond_memory.stored_fits import (
            StoredFits,
        )  # needs this chapter

        return Observed(values, stored=StoredFits(table))
    read = table.values_read()
    if read.kind != "counts":
        refuse_raw(read, "the test")
        tally = tallies(table.features)
        return Observed(np.where(tally, np.nan, values) if tally.any() else values)
    through = corrected is not None and (
        which == "corrected" or corrected.method != COUNTS_METHOD or options.ignore_batches
    )
    if through or options.corrected_by is not None:
        raise UnresolvedError(
            f"{read.sentence} Counts that went through a correction no longer scatter as counts "
            "do, so the test is withheld",
            needed="the original counts, which are tested with the batches in the model",
        )
    _refuse_without_freedom(design)
    counts = prepare_counts(table, design.leverages)
    logs = log_cpm_for_weights(counts.values, counts.effective)
    placed = np.full(table.values.shape, np.nan)
    placed[:, counts.kept] = logs
    return Observed(placed, counts, precision_weights(logs, design, counts.effective))


def weigh(
    observed: Observed,
    model: Model,
    blocks: Blocks | None,
    options: ContrastOptions,
    names: Sequence[str],
    progress: Progress,
) -> Observed:
    """Let weights know of the blocks, and weigh specimens, where that is asked."""
    known = _in_blocks(observed, model.full, blocks, progress)
    return _weigh_specimens(known, model, names) if options.specimen_weights else known


def _in_blocks(
    observed: Observed, design: DesignFactor, blocks: Blocks | None, progress: Progress
) -> Observed:
    """Let the precision weights of counts know of the blocks."""
    if blocks is None or observed.counts is None or observed.precision is None:
        return replace(observed, blocks=blocks)
    logs, effective = observed.values[:, observed.counts.kept], observed.counts.effective
    with one_thread_if_small(logs.size):
        anew = weights_in_blocks(logs, design, effective, blocks, observed.precision, progress)
    return replace(observed, precision=anew, blocks=blocks)


def _weigh_specimens(observed: Observed, model: Model, names: Sequence[str]) -> Observed:
    """Weigh specimens; precision weights of counts are then made anew.

    Of counts in the order of Liu et al. 2015: precision weights, weights of specimens, both again.
    """
    _refuse_without_freedom(model.full)
    with one_thread_if_small(observed.values.size):
        if observed.counts is None or observed.precision is None:
            found = specimen_weights(observed.values, model.full, names=names)
            return replace(observed, specimens=found)
        logs = observed.values[:, observed.counts.kept]
        first = specimen_weights(logs, model.full, observed.precision.weights, names=names)
        roots, scaled = _scaled(first, model)
        fit = scaled.fit(roots * logs)
        fitted = Fit(fit.fitted / roots, fit.residual_sum_of_squares, fit.df)
        anew = precision_weights(logs, model.full, observed.counts.effective, fitted)
        found = specimen_weights(logs, model.full, anew.weights, names=names)
        anew = replace(anew, weights=anew.weights * found.weights[:, None])
    return replace(observed, precision=anew, specimens=found)


def _scaled(weights: SpecimenWeights, model: Model) -> tuple[Floats, DesignFactor]:
    roots = np.sqrt(weights.weights)[:, None]
    return roots, factor(roots * model.columns, model.names)


def _refuse_without_freedom(full: DesignFactor) -> None:
    if full.df_residual < 1:
        raise UnresolvedError(
            f"{full.observations} specimens for {full.rank} independent terms leave no degrees of "
            "freedom for the residual variance",
            needed=f"at least {1 - full.df_residual} more specimens, or fewer terms",
        )


def fit_observed(
    observed: Observed,
    model: Model,
    compared: Comparisons,
    options: ContrastOptions,
    progress: Progress,
) -> tuple[ContrastFits, FeatureVariances, Observed]:
    """Fit all features, and find the scale of their errors; blocks then know how far they agree."""
    full, values, blocks = model.full, observed.values, observed.blocks
    _refuse_without_freedom(full)
    weights = np.array([one.weights(model.names) for one in compared.differences])
    groups = tuple(group.members for group in compared.groups)
    own = None
    if observed.counts is not None and observed.precision is not None:
        own = np.ones_like(values)
        own[:, observed.counts.kept] = observed.precision.weights
    elif observed.specimens is not None:
        own = np.ones_like(values) * observed.specimens.weights[:, None]
    with one_thread_if_small(values.size):
        if observed.stored is not None:
            fits, (mean, varies) = observed.stored.fit(model, weights, groups, progress)
        else:
            mean, varies = means(values)
            if blocks is not None:
                fits, blocks = fit_in_blocks(values, full, weights, groups, blocks, own, progress)
            elif own is not None:
                alone = np.zeros(len(values), dtype=np.int64)
                fits = fit_correlated(values, full, weights, groups, alone, 0.0, own)
            else:
                fits = fit_contrasts(values, full, model.columns, weights, groups, progress)
    shrink = options.shrink and not options.per_feature
    scale = scale_of(fits, varies, shrink, mean if options.trend else None, options.robust)
    return fits, scale, replace(observed, blocks=blocks, mean=mean, varies=varies)

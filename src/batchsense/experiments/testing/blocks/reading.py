"""The column that names the blocks: what cannot be meant by it is refused."""

from __future__ import annotations

import numpy as np

from batchsense.errors import ConfoundedError, DataError, UnresolvedError, listed
from batchsense.experiments.dependence import block_factor
from batchsense.experiments.design import Design
from batchsense.experiments.tables.table import Table
from batchsense.experiments.testing.comparisons import Comparisons, Model
from batchsense.experiments.testing.contrasts import ContrastOptions
from batchsense.experiments.testing.results import Blocks
from batchsense.notes import Note
from batchsense.variation.linear import factor

#: Squares of indicators below this share of themselves are rounding, as are differences of
#: eigenvalues.
_NOTHING = 1e-8


def read_blocks(
    table: Table, design: Design, model: Model, options: ContrastOptions
) -> Blocks | None:
    """Read the blocks, where there are any, and refuse those of which a model leaves nothing."""
    if (name := options.blocks) is None:
        return None
    where = table.source.sheet
    if name in {one.name for one in design.kept}:
        raise DataError(
            f"column {name!r} cannot be both in the model and a block: as a kept column each "
            f"{name} has a constant of its own, as a block all share one variance; drop one",
            where=where,
        )
    blocks = block_factor(table, name)
    count = len(blocks.levels)
    left = model.full.residuals(blocks.indicators())
    if (left**2).sum() <= _NOTHING * len(left):
        says = f"{name} = {design.batches.name}"
        if name == design.batches.name:
            says = f"{name} is the batch"
        elif not _same(blocks.codes, design.batches.codes):
            says = f"{name} is a function of what is in the model"
        raise ConfoundedError(
            f"{says}, which takes up all that {name} could add: rows of one {name} cannot agree "
            f"beyond it. Leave out --block {name}; the tests are the same",
            [says],
        )
    spread = np.linalg.eigvalsh(left.T @ left)
    spread = spread[spread > _NOTHING * spread[-1]]
    if len(spread) == model.full.df_residual and np.ptp(spread) <= _NOTHING * spread[-1]:
        raise UnresolvedError(
            f"beside what is in the model, no two rows of one {name} tell how far rows agree: "
            f"{len(table.specimens)} rows, {count} blocks, {model.full.rank} terms",
            needed=f"several rows of one {name} that the terms do not tell apart",
        )
    return Blocks(name, blocks.codes, count, options.per_feature)


def refuse_contradictions(options: ContrastOptions) -> None:
    """Refuse a level that is none, and options that cannot stand beside one another."""
    if not 0.0 < options.level < 1.0:
        raise DataError(f"the confidence level must lie between 0 and 1, not {options.level:g}")
    if options.per_feature and options.blocks is None:
        raise DataError("per_feature needs blocks: the column that names the subjects")
    if (options.per_feature or not options.shrink) and (options.trend or options.robust):
        raise DataError(
            "with per_feature, or without shrink, each feature is judged by its own variances; "
            "trend and robust say how variances are shared: drop one of them"
        )
    if options.blocks is not None and options.specimen_weights:
        raise DataError(
            "weights of specimens and correlations within blocks are not estimated together; drop "
            "blocks or specimen_weights"
        )
    if options.blocks is not None and options.ignore_batches:
        raise DataError("a test that ignores the batches is shown without blocks; drop one of them")


def on_blocks(blocks: Blocks | None, compared: Comparisons, model: Model) -> list[Note]:
    """Say how far rows of a block agree, and which contrasts lie between blocks."""
    if blocks is None:
        return []
    name, known = blocks.name, blocks.each[~np.isnan(blocks.each)]
    low, high = blocks.middle_half()
    message = f"{len(blocks.codes):,} rows share {blocks.count:,} entries of {name}. "
    half = f"the middle half of {len(known):,} features {low:.2f} to {high:.2f}"
    if blocks.per_feature:
        none = int((known == 0).sum())
        message += (
            "Each feature has a variance between them of its own (mixed model, restricted "
            "likelihood, Satterthwaite's degrees of freedom). Two rows of one agree with a median "
            f"correlation of {blocks.correlation:.3f} ({half}); {none:,} of the features show no "
            "variance between them and are judged by all rows."
        )
    else:
        message += (
            "Two rows of one are taken to agree with a correlation of "
            f"{blocks.correlation:.3f}, the consensus of the features ({half})."
        )
        if blocks.correlation < 0:
            message += " Below zero: rows of one differ more than rows of two."
    notes = [Note("blocks", message, (name,))]
    indicators = np.eye(blocks.count)[blocks.codes]
    within = factor(np.hstack([model.columns, indicators]))
    padding = np.zeros(blocks.count)
    between = [
        str(one)
        for one in compared.differences
        if not within.estimable(np.concatenate([one.weights(model.names), padding]))
    ]
    if between:
        message = (
            f"{listed(between, 4)}: told between entries of {name} only, of which there are "
            f"{blocks.count:,}, however many rows they have."
        )
        if not blocks.per_feature:
            message += (
                " One correlation for all features makes p too small where a feature's own is "
                "larger, and the degrees of freedom count rows. --per-feature gives each feature "
                "its own."
            )
        notes.append(Note("between_blocks", message, tuple(between)))
    return notes


def _same(first: np.ndarray, second: np.ndarray) -> bool:
    pairs = len(np.unique(np.stack([first, second]), axis=1).T)
    return bool(pairs == len(np.unique(first)) == len(np.unique(second)))

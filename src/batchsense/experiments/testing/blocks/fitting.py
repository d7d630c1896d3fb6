"""Fit contrasts where rows share blocks: the steps in their order, for values and for counts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from batchsense.arrays import Floats
from batchsense.experiments.testing.blocks.consensus import (
    consensus_correlation,
    correlated_fit,
    fit_correlated,
)
from batchsense.experiments.testing.blocks.mixed import fit_mixed
from batchsense.experiments.testing.fitting import ContrastFits
from batchsense.experiments.testing.results import Blocks
from batchsense.experiments.testing.weights.precision_weights import (
    PrecisionWeights,
    precision_weights,
)
from batchsense.progress import Progress
from batchsense.variation.linear import DesignFactor


def weights_in_blocks(
    logs: Floats,
    design: DesignFactor,
    effective: Floats,
    blocks: Blocks,
    first: PrecisionWeights,
    progress: Progress,
) -> PrecisionWeights:
    """Weigh log counts anew with the correlation that the first weights give, as limma's users do.

    Shapes: ``logs`` (specimens, kept features), ``effective`` (specimens,).
    """
    agreed = consensus_correlation(logs, design, blocks.codes, first.weights, progress)
    fit = correlated_fit(logs, design, blocks.codes, agreed.correlation)
    return precision_weights(logs, design, effective, fit)


def fit_in_blocks(
    values: Floats,
    design: DesignFactor,
    contrasts: Floats,
    groups: tuple[tuple[int, ...], ...],
    blocks: Blocks,
    weights: Floats | None,
    progress: Progress,
) -> tuple[ContrastFits, Blocks]:
    """Estimate how far rows of a block agree, and fit the contrasts with that.

    Shapes as in :func:`~batchsense.experiments.testing.fitting.fit_contrasts`; ``weights`` as
    ``values``, positive.
    """
    if blocks.per_feature:
        fits, each = fit_mixed(values, design, contrasts, groups, blocks.codes, weights, progress)
        return fits, replace(blocks, correlation=float(np.nanmedian(each)), each=each)
    agreed = consensus_correlation(values, design, blocks.codes, weights, progress)
    found = replace(blocks, correlation=agreed.correlation, each=agreed.each)
    fits = fit_correlated(
        values, design, contrasts, groups, blocks.codes, agreed.correlation, weights
    )
    return fits, found

"""What subjects, or other units of which there are several rows, add to the model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchsense.experiments.dependence import block_factor
from batchsense.experiments.design import Design
from batchsense.experiments.diagnosis.shares import Share, share_of_variance
from batchsense.experiments.diagnosis.usable import usable_features
from batchsense.experiments.tables.table import Table
from batchsense.experiments.threads import one_thread_if_small
from batchsense.progress import Progress, silent


@dataclass(frozen=True, slots=True)
class BlockShare:
    """The share of the variance that blocks add to batches and kept factors."""

    name: str  #: The column
    count: int  #: Number of blocks
    #: None where batches and kept factors leave nothing of the blocks, or no degree of freedom is
    #: left within them.
    share: Share | None


def share_of_blocks(
    table: Table,
    design: Design,
    name: str,
    *,
    standardise: bool = False,
    permutations: int = 200,
    seed: int = 0,
    progress: Progress = silent,
) -> BlockShare:
    """Measure how much rows of one subject have in common beyond the terms of a model."""
    blocks = block_factor(table, name)
    observations, _ = usable_features(table, standardise)
    others = np.hstack([design.wanted()[0], design.batches.indicators()])
    with one_thread_if_small(observations.size):
        share = share_of_variance(
            observations,
            blocks.indicators(),
            others,
            np.random.default_rng(seed),
            permutations,
            progress=lambda task, done, total: progress(f"{task} of {name}", done, total),
        )
    return BlockShare(name, len(blocks.levels), share)

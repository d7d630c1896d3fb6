"""The terms of a diagnosis: the columns of its model, and the share of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchsense.arrays import Floats
from batchsense.experiments.design import Design
from batchsense.experiments.diagnosis.products import Products, products_of
from batchsense.experiments.diagnosis.shares import (
    Share,
    explained_share,
    share_alone,
    share_of_variance,
)
from batchsense.experiments.sheets.nuisances import parts_of
from batchsense.progress import Progress
from batchsense.variation.interval import Interval


@dataclass(frozen=True, slots=True)
class BatchPart:
    """One of several batch columns."""

    #: The column; ``"categorical"`` or ``"numeric"``.
    name: str
    kind: str
    #: What it adds to the other batch columns and what is kept; None where nothing is left of it.
    share: Share | None
    alone: float  #: Share of the sum of squares that it explains without any other term


class Terms:
    """The columns of the model, and the share of each."""

    def __init__(
        self,
        design: Design,
        observations: Floats | Products,
        permutations: int,
        seed: int,
        progress: Progress,
    ) -> None:
        self.design = design
        self.products = products_of(observations)
        self.permutations = permutations
        self.progress = progress
        self.constant = np.ones((design.specimens, 1))
        self.wanted = design.wanted()[0]
        self.batches = design.batches.indicators()
        # Each term gets a stream of its own, so that adding a factor moves no other null.
        streams = len(design.kept) + 5 + len(parts_of(design.batches))
        self._seeds = np.random.SeedSequence(seed).spawn(streams)

    def generator(self) -> np.random.Generator:
        """The next stream of random numbers."""
        return np.random.default_rng(self._seeds.pop(0))

    def share(self, name: str, term: Floats, others: Floats) -> Share | None:
        """What a term adds to others; None where nothing is left of it."""

        def listener(task: str, done: int, total: int) -> None:
            self.progress(f"{task} of {name}", done, total)

        return share_of_variance(
            self.products,
            term,
            others,
            self.generator(),
            self.permutations,
            progress=listener,
        )

    def kept(self, name: str) -> tuple[Floats, Floats]:
        """The columns of a kept factor, and those of all other terms."""
        factor = next(kept for kept in self.design.kept if kept.name == name)
        others = self.design.wanted(leaving_out=name)[0]
        return factor.design()[0], np.hstack([others, self.batches])

    def batch_parts(self) -> tuple[BatchPart, ...]:
        """Each batch column, given the others and what is kept."""
        columns = {one.name: one.design()[0] for one in parts_of(self.design.batches)}
        found = []
        for one in parts_of(self.design.batches):
            others = [own for name, own in columns.items() if name != one.name]
            share = self.share(one.name, columns[one.name], np.hstack([self.wanted, *others]))
            alone = share_alone(self.products, columns[one.name])
            found.append(BatchPart(one.name, one.kind, share, alone))
        return tuple(found)

    def interaction(self) -> Share | None:
        """What batches do differently to what is kept; None where nothing is left for it."""
        crossed = self.design.interaction()
        if crossed is None:
            self.generator()
            return None
        return self.share(*crossed, np.hstack([self.wanted, self.batches]))

    def residual(self, interacting: bool) -> Interval | None:
        """The share that no term explains; None where no degree of freedom is left."""
        crossed = self.design.interaction() if interacting else None
        parts = [self.wanted, self.batches, *([] if crossed is None else [crossed[1]])]
        explained = explained_share(self.products, np.hstack(parts))
        if explained is None:
            return None
        # Rounding may leave less than nothing.
        left = max(0.0, 1.0 - explained.estimate)
        ends = (max(0.0, 1.0 - explained.high), max(0.0, 1.0 - explained.low))
        return Interval(left, *ends, explained.level)

"""What both passes need to know: the matrix, and batch and kept terms of its specimens."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from batchsense.arrays import Floats, Integers
from batchsense.experiments.out_of_core.budget import Size
from batchsense.experiments.out_of_core.location import Place
from batchsense.experiments.out_of_core.specimen_runs import Span


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """A matrix and its design, or those of a piece of it.

    Attributes
    ----------
    place : Place
        The whole matrix.
    codes : array of shape (specimens,)
        The batch of each specimen.
    covariates : array of shape (specimens, terms)
        The kept terms.
    size : Size
        Of the model.
    first : int
        The specimen to which the first of ``codes`` belongs.
    """

    place: Place
    codes: Integers
    covariates: Floats
    size: Size
    first: int = 0

    @classmethod
    def of(cls, place: Place, codes: Integers, covariates: Floats, batch_count: int) -> Work:
        """Put together what both passes need to know."""
        cells = len(np.unique(np.column_stack([codes, covariates]), axis=0))
        return cls(place, codes, covariates, Size(batch_count, covariates.shape[1], cells))

    def design(self, span: Span) -> tuple[Integers, Floats]:
        """Give batches and kept terms of some specimens."""
        own = slice(span[0] - self.first, span[1] - self.first)
        return self.codes[own], self.covariates[own]

    def piece(self, span: Span) -> Work:
        """Keep only some specimens, so that little travels to another process."""
        codes, covariates = self.design(span)
        return replace(self, codes=codes, covariates=covariates, first=span[0])

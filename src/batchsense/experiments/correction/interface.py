"""What every correction offers: fit, transform, merge, save and load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from typing_extensions import override

from batchsense import __version__
from batchsense.arrays import Floats, Integers
from batchsense.errors import DataError, listed
from batchsense.experiments.entanglement import Entanglement
from batchsense.experiments.kinds import ColumnKinds
from batchsense.experiments.shown import Shown
from batchsense.experiments.tables.columns import Factor
from batchsense.experiments.tables.table import Table
from batchsense.notes import Note

if TYPE_CHECKING:
    import pandas as pd

#: The method whose values are counts.
COUNTS_METHOD = "combat-seq"
#: Features that are summed at a time: the three intermediate arrays of all features would be larger
#: than the data, those of 256 are small beside them and still long enough for numpy.
_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class LearnedBatch:
    """What the features of one batch have in common.

    Attributes
    ----------
    level : str
        The batch.
    specimens : int
        How many were fitted.
    shift, shift_spread : float
        Mean and standard deviation, over the features, of what the batch adds, in standard
        deviations of the feature.
    scale, scale_spread : float
        The same for the factor by which it stretches them; 1 and 0 where scales were left alone.
    """

    level: str
    specimens: int
    shift: float
    shift_spread: float
    scale: float
    scale_spread: float


@dataclass(frozen=True, slots=True, eq=False)
class Account:
    """What every correction says of itself, whether its values lie in memory or on disk."""

    #: The table that was corrected; without values where these lie on disk.
    table: Table
    batch_labels: str
    batch_levels: tuple[str, ...]
    #: Degrees of freedom that the correction used.
    rank_lost: int
    method: str
    kept: tuple[Entanglement, ...]
    #: Features that were left as they are.
    unchanged: tuple[str, ...]
    notes: tuple[Note, ...]
    #: Of each batch over all features; empty for methods that learn nothing in common.
    learned: tuple[LearnedBatch, ...] = field(default=(), kw_only=True)
    #: The batch columns, where there are several; `batch_labels` then holds all their names.
    several: tuple[str, ...] = field(default=(), kw_only=True)
    #: Where there are several, the column (or `run × plate`) that `batch_levels` are of.
    levels_of: str = field(default="", kw_only=True)
    numeric_batches: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def batch_columns(self) -> tuple[str, ...]:
        """The batch columns: one, or several."""
        return self.several or (self.batch_labels,)

    @property
    def shown_column(self) -> str:
        """A batch column of categories, by which figures show specimens."""
        named = (self.levels_of, *self.batch_columns)
        known = [one for one in named if one in self.table.sheet]
        return next(one for one in known if one not in self.numeric_batches)

    def with_kinds(self, kinds: ColumnKinds, keep: Sequence[str]) -> ColumnKinds:
        """Kinds, with those that were used here where none is declared."""
        known = {one.name: one.kind for one in self.kept if one.name in keep}
        known |= {
            name: "numeric" if name in self.numeric_batches else "categorical"
            for name in self.several
        }
        return kinds.completed(known)

    def record(self) -> dict[str, Any]:
        """What was done, in the plain names, texts and lists that an AnnData file can keep."""
        return {
            "batchsense_version": __version__,
            "method": self.method,
            "layer": self.table.source.layer,
            "batch": self.batch_labels,
            "batch_levels": list(self.batch_levels),
            "keep": [one.name for one in self.kept],
            **(
                {
                    "batch_columns": list(self.several),
                    "numeric_batches": list(self.numeric_batches),
                }
                if self.several
                else {}
            ),
            "rank_lost": self.rank_lost,
            "unchanged_features": list(self.unchanged),
            "notes": [f"{note.code}: {note.message}" for note in self.notes],
        }


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Corrected(Shown, Account):
    """Corrected observations that still know what was done to them.

    A later test must know: ``y_corrected - y`` lies in the span of ``batch_terms``, so a model with
    these terms gives on the corrected values exactly what it gives on the original ones, while a
    model without them counts degrees of freedom that correction has used up.

    Attributes
    ----------
    values : array of shape (specimens, features)
        The corrected observations; NaN exactly where the original is.
    batch_terms : array of shape (specimens, batches - 1)
        The removed terms, coded to sum to zero over the batches; those of further batch columns
        after them.

    Notes
    -----
    The other attributes are those of every correction: ``table``, ``batch_labels``,
    ``batch_levels``, ``rank_lost`` (degrees of freedom that the correction used), ``method``,
    ``kept``, ``unchanged`` (features that were left as they are), ``notes`` and ``learned``.
    """

    values: Floats
    batch_terms: Floats

    @override
    def headline(self) -> str:
        specimens, features = self.values.shape
        kept = f", keeping {', '.join(one.name for one in self.kept)}" if self.kept else ""
        size = f"{specimens:,} specimens, {features:,} features"
        return f"{self.method} for {self.batch_labels}{kept}; {size}; {self.rank_lost} df used"

    @override
    def to_frame(self) -> pd.DataFrame:
        """The corrected values: a row for each specimen, a column for each feature."""
        import pandas as pd

        return pd.DataFrame(self.values, self.table.specimens, self.table.features, copy=False)

    @property
    def removed_share(self) -> float:
        """Part of the total sum of squares that was removed, over what was observed."""
        before, after = map(_variation, self.compared())
        return 1 - after / before if before else 0.0

    def compared(self) -> tuple[Floats, Floats]:
        r"""The values before and after on a scale on which their variation means something.

        Counts of unlike specimens and features are compared by their logarithms,

        .. math:: \log_2 \frac{10^6 (y + 0.5)}{N + 1},

        N the sum of a specimen's counts before correction; other values as they are.

        Returns
        -------
        before, after : array of shape (specimens, features)
            The values; log2 per million where they are counts.

        References
        ----------
        Law et al. (2014), "voom: precision weights unlock linear model analysis tools for RNA-seq
        read counts".
        """
        if self.method != COUNTS_METHOD:
            return self.table.values, self.values
        library = self.table.values.sum(axis=1, keepdims=True) + 1
        before, after = (
            np.log2((counts + 0.5) / library * 1e6) for counts in (self.table.values, self.values)
        )
        return before, after


class FittedCorrection(Protocol):
    """A correction that has learned its batch effects."""

    def transform(self, table: Table) -> Corrected:
        """Correct a table whose batches were all seen in fitting."""


class Correction(Protocol):
    """A way to remove batch effects; the implementations are final."""

    def fit(self, table: Table, batch_labels: str | Sequence[str]) -> FittedCorrection:
        """Learn the batch effects of a table; refuse if what is kept goes with them."""


def matched_batches(table: Table, factor: Factor, known: tuple[str, ...]) -> Integers:
    """The place of each specimen's batch among those seen in fitting."""
    unseen = [level for level in factor.levels if level not in known]
    if unseen:
        raise DataError(
            f"column {factor.name!r} holds batches that were not fitted: {listed(unseen)}; known "
            f"are {listed(known)}. Fit again with these specimens included, or add their batches "
            "to the fit (extend; --new-batches)",
            where=table.source.sheet,
        )
    places = np.array([known.index(level) for level in factor.levels], dtype=np.int64)
    return np.asarray(places[factor.codes])


def matched_features(table: Table, known: tuple[str, ...]) -> Integers:
    """The place of each feature of a table among those seen in fitting."""
    if table.features == known:
        return np.arange(len(known), dtype=np.int64)
    places = {name: place for place, name in enumerate(known)}
    unseen = [name for name in table.features if name not in places]
    if unseen:
        raise DataError(
            f"features that were not fitted: {listed(map(repr, unseen))}", table.source.matrix
        )
    return np.array([places[name] for name in table.features], dtype=np.int64)


def _variation(values: Floats) -> float:
    total = 0.0
    for low in range(0, values.shape[1], _AT_ONCE):
        block = values[:, low : low + _AT_ONCE]
        above = block - block.mean(axis=0)
        squares = float(np.einsum("ij,ij->", above, above))
        if not np.isnan(squares):
            total += squares
            continue
        observed = ~np.isnan(block)
        means = np.where(observed, block, 0.0).sum(axis=0) / np.maximum(observed.sum(axis=0), 1)
        total += float((np.where(observed, block - means, 0.0) ** 2).sum())
    return total

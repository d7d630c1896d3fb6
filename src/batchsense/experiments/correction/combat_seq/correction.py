"""ComBat-seq: counts moved to the distribution that they would have without their batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from batchsense.arrays import Integers, Matrix
from batchsense.errors import DataError, listed
from batchsense.experiments.correction.combat_seq.model import (
    CombatSeqModel,
    apply_combat_seq,
    fit_combat_seq,
)
from batchsense.experiments.correction.combat_seq.remarks import (
    check_counts,
    notes_on,
    refuse_empty,
    refuse_no_counts,
    refuse_single,
)
from batchsense.experiments.correction.fit_design import FitDesign, KeepingColumns
from batchsense.experiments.correction.fitted import Fitted
from batchsense.experiments.correction.gathered import of_factors
from batchsense.experiments.correction.interface import COUNTS_METHOD
from batchsense.experiments.correction.terms import columns_of, match_terms, terms_of
from batchsense.experiments.correction.two_passes.statistics import BatchStatistics
from batchsense.experiments.tables.table import Table
from batchsense.experiments.threads import one_thread_if_small
from batchsense.progress import Progress, silent


@dataclass(frozen=True, slots=True, kw_only=True)
class CombatSeqCorrection(KeepingColumns):
    r"""ComBat-seq: a negative binomial model of counts, and a map from quantile to quantile.

    The log mean of a count is the log library size plus what is kept plus a shift γ of its batch;
    every batch and feature has a dispersion φ of its own. A count y > 1 becomes

    .. math:: y^* = 1 + F^{-1}_{\mu^*, \varphi^*}\bigl(F_{\mu, \varphi}(y - 1)\bigr), \qquad
              \mu^* = \mu e^{-\gamma}, \quad \varphi^* \text{ the mean of the batches' } \varphi,

    so whole numbers stay whole and zeros stay zeros. Equal to R's sva (version 3.46, without its
    shrinking options) in more than 99.9 % of the counts; the others differ by one, where R stops
    its fits early.

    Features without any count in some batch are left unchanged. Where kept terms cannot be fitted
    inside a batch, all its features share one dispersion. There are no sufficient statistics: a fit
    needs all specimens at once, so parts cannot be merged.

    Attributes
    ----------
    keep : tuple of str
        Columns of the sheet that are kept.
    categorical, numeric : tuple of str
        Columns of ``keep`` whose kind is declared.
    despite_confounding : bool
        Go on where a kept column cannot be told from the batches: the difference is then removed
        with them, and a note says what is lost.

    References
    ----------
    Zhang, Parmigiani and Johnson (2020), "ComBat-seq: batch effect adjustment for RNA-seq count
    data", NAR Genomics and Bioinformatics 2, lqaa078.

    Examples
    --------
    Half of the features go up in July and half go down:

    >>> rng = np.random.default_rng(0)
    >>> month, july = np.repeat(["May", "July"], 8), np.tile([30.0, 10.0], 25)
    >>> counts = rng.poisson(np.where((month == "May")[:, None], 20.0, july))
    >>> table = Table.from_arrays(counts, {"month": month})
    >>> corrected = CombatSeqCorrection().fit(table, "month").transform(table)
    >>> means = [corrected.values[month == m].mean(axis=0) for m in ("May", "July")]
    >>> bool(abs(np.log(means[1] / means[0])).max() < 0.1)
    True
    """

    def fit(self, table: Table, batch_labels: str, progress: Progress = silent) -> FittedCombatSeq:
        """Learn means, batch effects and dispersions.

        Parameters
        ----------
        table : Table
            Counts and their sheet.
        batch_labels : str
            The column of the sheet with the batch labels.
        progress : Progress
            Told of batches and features.

        Returns
        -------
        FittedCombatSeq
            The model.

        Raises
        ------
        DataError
            A value is missing, negative or not whole (named by specimen and feature), a specimen
            has no counts, a batch has one specimen only, no feature has counts in every batch, or a
            column of the sheet cannot be used.
        ConfoundedError
            A kept factor cannot be told from the batches; names every relation.
        """
        design, found = self.design(table, batch_labels)
        check_counts(table)
        refuse_single(design, table)
        refuse_empty(design, table)
        levels, terms = design.batches.levels, terms_of(design.kept)
        none = BatchStatistics.empty(len(levels), 0, len(terms))  # counts have no sums that suffice
        gathered = of_factors(table, design.batches, design.kept, none)
        with one_thread_if_small(table.values.size):
            columns = columns_of(design.kept, design.specimens)
            model = fit_combat_seq(table.values, design.batches.codes, columns, progress)
        notes = notes_on(table, FitDesign(gathered, design, found), model)
        return FittedCombatSeq(self, gathered, levels, model, found, notes)


@dataclass(frozen=True, slots=True, eq=False)
class FittedCombatSeq(Fitted[CombatSeqCorrection, CombatSeqModel]):
    """A model of counts, ready to take the batches out."""

    method: ClassVar[str] = COUNTS_METHOD
    options_type: ClassVar[type[CombatSeqCorrection]] = CombatSeqCorrection
    learned_type: ClassVar[type[CombatSeqModel]] = CombatSeqModel

    def _apply(
        self, table: Table, codes: Integers, features: Integers, out: Matrix | None, told: Progress
    ) -> Matrix:
        check_counts(table)
        if len(features) < len(self.features):
            lacking = [name for name in self.features if name not in set(table.features)]
            raise DataError(
                f"features that were fitted are missing, and library sizes need them: "
                f"{listed(lacking)}",
                table.source.matrix,
            )
        # The model's order of the features, and back.
        order = np.argsort(features)
        counts = table.values[:, order]
        refuse_no_counts(counts[:, self.model.used].sum(axis=1), table)
        columns = match_terms(table, self.gathered.terms)
        mapped = apply_combat_seq(self.model, counts, codes, columns, told)
        values = np.empty_like(mapped) if out is None else out
        values[:, order] = mapped
        return values

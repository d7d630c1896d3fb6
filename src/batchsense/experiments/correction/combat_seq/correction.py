"""ComBat-seq: counts moved to the distribution that they would have without their batch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

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
from batchsense.experiments.correction.fit_design import Grounds
from batchsense.experiments.correction.fitted import (
    batch_codes,
    corrected_by,
    load_fitted,
    save_fitted,
)
from batchsense.experiments.correction.gathered import Gathered
from batchsense.experiments.correction.interface import (
    COUNTS_METHOD,
    Corrected,
    matched_features,
)
from batchsense.experiments.correction.remarks import chosen_features
from batchsense.experiments.correction.terms import columns_of, match_terms, terms_of
from batchsense.experiments.correction.two_passes.statistics import BatchStatistics
from batchsense.experiments.design import Design, read_design
from batchsense.experiments.entanglement import Entanglement, entanglements, refuse_confounded
from batchsense.experiments.kinds import ColumnKinds
from batchsense.experiments.tables.table import Table
from batchsense.experiments.threads import one_thread_if_small
from batchsense.notes import Note
from batchsense.progress import Progress, silent


@dataclass(frozen=True, slots=True, kw_only=True)
class CombatSeqCorrection:
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

    keep: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    despite_confounding: bool = False

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
        design = read_design(
            table, batch_labels, self.keep, ColumnKinds(self.categorical, self.numeric)
        )
        found = entanglements(design)
        if not self.despite_confounding:
            refuse_confounded(design, found)
        check_counts(table)
        refuse_single(design, table)
        refuse_empty(design, table)
        grounds = Grounds(_sheet_alone(table, design), design, found)
        with one_thread_if_small(table.values.size):
            columns = columns_of(design.kept, design.specimens)
            model = fit_combat_seq(table.values, design.batches.codes, columns, progress)
        notes = notes_on(table, grounds, model)
        levels = design.batches.levels
        return FittedCombatSeq(self, grounds.gathered, levels, model, found, notes)


def _sheet_alone(table: Table, design: Design) -> Gathered:
    """Keep what the sheet says; counts have no sufficient statistics."""
    terms = terms_of(design.kept)
    levels = design.batches.levels
    return Gathered(
        batch_labels=design.batches.name,
        batch_levels=levels,
        keep=tuple(factor.name for factor in design.kept),
        terms=terms,
        features=table.features,
        statistics=BatchStatistics.empty(len(levels), 0, len(terms)),
        sheet=replace(table, values=np.empty((len(table.specimens), 0)), features=()),
    )


@dataclass(frozen=True, slots=True, eq=False)
class FittedCombatSeq:
    """A model of counts, ready to take the batches out.

    Attributes
    ----------
    correction : CombatSeqCorrection
        What was asked for.
    gathered : Gathered
        The sheet of the fitted specimens.
    batch_levels : tuple of str
        The batches.
    model : CombatSeqModel
        Coefficients, shifts and dispersions.
    kept : tuple of Entanglement
        The kept factors.
    notes : tuple of Note
        What the reader must know.
    """

    correction: CombatSeqCorrection
    gathered: Gathered
    batch_levels: tuple[str, ...]
    model: CombatSeqModel
    kept: tuple[Entanglement, ...]
    notes: tuple[Note, ...]

    @property
    def batch_labels(self) -> str:
        """The batch column."""
        return self.gathered.batch_labels

    @property
    def features(self) -> tuple[str, ...]:
        """The features."""
        return self.gathered.features

    @property
    def unchanged(self) -> tuple[str, ...]:
        """Features that are left as they are."""
        return chosen_features(self.features, ~self.model.used)

    def transform(self, table: Table, progress: Progress = silent) -> Corrected:
        """Map every count to the distribution that it would have without its batch.

        Parameters
        ----------
        table : Table
            The fitted table, or other specimens of the same batches and levels, with all fitted
            features: the library sizes come from them.
        progress : Progress
            Told of the features.

        Returns
        -------
        Corrected
            The corrected counts.

        Raises
        ------
        DataError
            A value is no count, or a batch, level or feature was not seen in fitting, or a fitted
            feature is missing.
        """
        check_counts(table)
        codes = batch_codes(self, table)
        places = matched_features(table, self.features)
        if len(places) < len(self.features):
            lacking = [name for name in self.features if name not in set(table.features)]
            raise DataError(
                f"features that were fitted are missing, and library sizes need them: "
                f"{listed(lacking)}",
                table.source.matrix,
            )
        # The model's order of the features, and back.
        order = np.argsort(places)
        counts = table.values[:, order]
        refuse_no_counts(counts[:, self.model.used].sum(axis=1), table)
        columns = match_terms(table, self.gathered.terms)
        mapped = apply_combat_seq(self.model, counts, codes, columns, progress)
        values = np.empty_like(mapped)
        values[:, order] = mapped
        return corrected_by(self, COUNTS_METHOD, table, codes, values)

    def save(self, path: str | Path) -> None:
        """Write all that was learned to a file, with the ids, batches and kept columns.

        Raises
        ------
        DataError
            The file cannot be written.
        """
        save_fitted(path, COUNTS_METHOD, self)

    @classmethod
    def load(cls, path: str | Path) -> FittedCombatSeq:
        """Read a correction that was saved; it gives equal results.

        Raises
        ------
        DataError
            The file holds no such correction.
        """
        return cls(**load_fitted(path, COUNTS_METHOD, CombatSeqCorrection, CombatSeqModel))

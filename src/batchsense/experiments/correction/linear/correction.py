"""Linear removal: subtract what the full model gives to the batches, keep what is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from batchsense.arrays import Flags, Floats
from batchsense.experiments.correction.fit_design import (
    Grounds,
    Kept,
    extended_note,
    grounds_of_parts,
    grounds_of_table,
    lost_notes,
    new_batches,
)
from batchsense.experiments.correction.fitted import (
    batch_codes,
    corrected_by,
    load_fitted,
    merged,
    save_fitted,
)
from batchsense.experiments.correction.gaps import left_unchanged_notes, unseen_notes
from batchsense.experiments.correction.gathered import Gathered, gather
from batchsense.experiments.correction.interface import (
    Corrected,
    matched_features,
)
from batchsense.experiments.correction.linear.model import (
    LinearModel,
    apply_linear,
    extend_linear,
    fit_linear,
)
from batchsense.experiments.correction.remarks import (
    chosen_features,
    entangled_features,
    remarks,
)
from batchsense.experiments.entanglement import Entanglement
from batchsense.experiments.tables.table import Table
from batchsense.experiments.threads import one_thread
from batchsense.notes import Note
from batchsense.progress import Progress, silent


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearCorrection:
    r"""Linear removal of batch effects that keeps the wanted factors.

    With the wanted terms X (constant and kept factors) and the batches B coded to sum to zero,

    .. math:: y_c = y - B\hat\beta_B, \qquad (\hat\beta_X, \hat\beta_B)
              = \arg\min |y - X\beta_X - B\beta_B|^2,

    feature by feature: the batch effects come from the *full* fit, so a wanted difference that
    happens to go with the batches is not taken for one of theirs. Each batch counts the same for
    the level that is left. Correcting twice equals correcting once. What a batch does differently
    to different levels of a kept factor is not removed.

    A feature with missing values is fitted on its observed specimens; if then a kept factor cannot
    be told from the batches, the feature is left unchanged and named in a note.

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
    Frisch and Waugh (1933); Ritchie et al. (2015), "limma powers differential expression analyses".

    Examples
    --------
    A drug that adds 1 and a July that adds 10, unevenly mixed:

    >>> sheet = {"month": ["May"] * 3 + ["July"] * 3, "drug": [*"nny", *"nyy"]}
    >>> table = Table.from_arrays([[0.0], [0.0], [1.0], [10.0], [11.0], [11.0]], sheet)
    >>> corrected = LinearCorrection(keep=("drug",)).fit(table, "month").transform(table)
    >>> corrected.values.ravel().round(9).tolist()
    [5.0, 5.0, 6.0, 5.0, 6.0, 6.0]
    """

    keep: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    despite_confounding: bool = False

    def fit(self, table: Table, batch_labels: str, progress: Progress = silent) -> FittedLinear:
        """Learn the batch effects of every feature.

        Parameters
        ----------
        table : Table
            The observations and their sheet.
        batch_labels : str
            The column of the sheet with the batch labels.
        progress : Progress
            Told of the passes over the data.

        Returns
        -------
        FittedLinear
            The effects.

        Raises
        ------
        DataError
            A column of the sheet cannot be used.
        ConfoundedError
            A kept factor cannot be told from the batches; names every relation.
        """
        progress("learning batch effects", 0, 1)
        with one_thread():  # the passes over the data have threads of their own
            grounds = grounds_of_table(table, batch_labels, Kept.of(self))
            fitted = self._finish(grounds)
        progress("learning batch effects", 1, 1)
        return fitted

    def gather(self, table: Table, batch_labels: str) -> Gathered:
        """Read one part of the data, which need not be able to be corrected alone.

        Parameters
        ----------
        table : Table
            The part.
        batch_labels : str
            The column of the sheet with the batch labels.

        Returns
        -------
        Gathered
            To be merged with other parts, then given to :meth:`finish`.

        Raises
        ------
        DataError
            A column of the sheet cannot be used.
        """
        return gather(table, batch_labels, self.keep, self.categorical, self.numeric)

    def finish(self, gathered: Gathered) -> FittedLinear:
        """Learn the batch effects of all gathered parts, as :meth:`fit` does at once.

        Raises
        ------
        DataError
            The parts together cannot be used.
        ConfoundedError
            A kept factor cannot be told from the batches.
        """
        return self._finish(grounds_of_parts(gathered, Kept.of(self)))

    def _finish(self, grounds: Grounds) -> FittedLinear:
        """Solve, and say what must be said."""
        gathered, design, found = grounds.gathered, grounds.design, grounds.found
        model = fit_linear(gathered.statistics, forced=self.despite_confounding)
        unchanged = chosen_features(gathered.features, model.unchanged)
        return FittedLinear(
            correction=self,
            gathered=gathered,
            batch_levels=gathered.batch_levels,
            model=model,
            kept=found,
            notes=(
                *design.notes,
                *lost_notes(grounds),
                *remarks(gathered.sheet, design, found),
                *entangled_features(unchanged),
                *unseen_notes(_lacking(gathered, model), gathered.features, gathered.batch_levels),
            ),
        )


@dataclass(frozen=True, slots=True, eq=False)
class FittedLinear:
    """Batch effects, ready to be subtracted.

    Attributes
    ----------
    correction : LinearCorrection
        What was asked for.
    gathered : Gathered
        The sufficient statistics of the fitted specimens.
    batch_levels : tuple of str
        The batches that can be corrected.
    model : LinearModel
        What each batch adds.
    kept : tuple of Entanglement
        The kept factors.
    notes : tuple of Note
        What the reader must know.
    """

    correction: LinearCorrection
    gathered: Gathered
    batch_levels: tuple[str, ...]
    model: LinearModel
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
    def effects(self) -> Floats:
        """What each batch adds, shape (batches, features), in units of the observations.

        Each feature's effects sum to zero over the batches in which it was observed.
        """
        return self.model.effects

    @property
    def unchanged(self) -> tuple[str, ...]:
        """Features that could not be corrected."""
        return chosen_features(self.features, self.model.unchanged)

    def transform(self, table: Table) -> Corrected:
        """Subtract from each specimen what its batch adds.

        Parameters
        ----------
        table : Table
            The fitted table, or another one with the same batches and features.

        Returns
        -------
        Corrected
            The corrected values with the terms that were removed.

        Raises
        ------
        DataError
            A batch or feature was not seen in fitting.
        """
        codes = batch_codes(self, table)
        places = matched_features(table, self.features)
        model = self.model if table.features == self.features else self.model.only(places)
        values = np.asarray(apply_linear(model, table.values, codes))
        unseen = _lacking(self.gathered, self.model)[:, places]
        notes = left_unchanged_notes(unseen, table, codes, self.batch_levels)
        return corrected_by(self, "linear", table, codes, values, tuple(notes))

    def merge(self, other: FittedLinear) -> FittedLinear:
        """Give the correction that fits the specimens of both, as if fitted at once.

        Parameters
        ----------
        other : FittedLinear
            Fitted to other specimens with the same options. Parts that cannot be fitted alone (one
            batch, say) go through :meth:`LinearCorrection.gather` instead.

        Returns
        -------
        FittedLinear
            A new one.

        Raises
        ------
        DataError
            Options, columns or features differ, or a specimen occurs in both.
        """
        return self.correction.finish(merged(self, other))

    def extend(self, table: Table) -> FittedLinear:
        """Add batches that were not fitted; the fitted ones stay as they are.

        The effect of a new batch is what its mean, after the fitted slopes of what is kept, lies
        above the level at which the fitted batches meet.

        Parameters
        ----------
        table : Table
            Specimens of the new batches with what is kept; those of known batches are passed over.

        Returns
        -------
        FittedLinear
            A new one, which also corrects the new batches.

        Raises
        ------
        DataError
            There is no new batch, or a feature or a level of what is kept was not fitted.
        """
        levels, statistics = new_batches(table, self.gathered, self.batch_levels)
        return replace(
            self,
            batch_levels=(*self.batch_levels, *levels),
            model=extend_linear(self.model, statistics),
            notes=(*self.notes, extended_note(levels, self.batch_labels)),
        )

    def save(self, path: str | Path) -> None:
        """Write all that was learned to a file, with the ids, batches and kept columns.

        Raises
        ------
        DataError
            The file cannot be written.
        """
        save_fitted(path, "linear", self)

    @classmethod
    def load(cls, path: str | Path) -> FittedLinear:
        """Read a correction that was saved; it gives equal results.

        Raises
        ------
        DataError
            The file holds no such correction.
        """
        return cls(**load_fitted(path, "linear", LinearCorrection, LinearModel))


def _lacking(gathered: Gathered, model: LinearModel) -> Flags:
    """Mark what a fitted batch lacks of the corrected features, shape (batches, features)."""
    return np.asarray((gathered.statistics.counts == 0) & ~model.unchanged)


def correct(table: Table, batch_labels: str, keep: Sequence[str] = ()) -> Corrected:
    """Correct a table by linear removal, in one call.

    Parameters
    ----------
    table : Table
        The observations and their sheet.
    batch_labels : str
        The column of the sheet with the batch labels.
    keep : sequence of str
        The columns of what must be kept.

    Returns
    -------
    Corrected
        The corrected values with the terms that were removed.

    Raises
    ------
    DataError
        A column of the sheet cannot be used.
    ConfoundedError
        A kept factor cannot be told from the batches.

    Examples
    --------
    >>> sheet = {"month": ["May", "May", "July", "July"], "drug": ["no", "no", "yes", "yes"]}
    >>> correct(Table.from_arrays([[1.0], [2.0], [3.0], [5.0]], sheet), "month", ["drug"])
    Traceback (most recent call last):
    batchsense.errors.ConfoundedError: drug cannot be told from month: ...
    """
    return LinearCorrection(keep=tuple(keep)).fit(table, batch_labels).transform(table)

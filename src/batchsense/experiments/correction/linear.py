"""Linear removal: subtract what the full model gives to the batches, keep what is wanted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchsense.errors import listed
from batchsense.experiments.correction.interface import (
    Corrected,
    matched_batches,
    matched_features,
)
from batchsense.experiments.correction.remarks import remarks
from batchsense.experiments.design import Design, read_design
from batchsense.experiments.entanglement import Entanglement, entanglements, refuse_confounded
from batchsense.experiments.notes import Note
from batchsense.experiments.tables.columns import label_factor
from batchsense.experiments.tables.table import Table
from batchsense.experiments.threads import one_thread_if_small
from batchsense.progress import Progress, silent
from batchsense.variation.linear import factor

Floats = npt.NDArray[np.float64]


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

    def fit(self, table: Table, batch_labels: str, progress: Progress = silent) -> FittedLinear:
        """Learn the batch effects of every feature.

        Parameters
        ----------
        table : Table
            The observations and their sheet.
        batch_labels : str
            The column of the sheet with the batch labels.
        progress : Progress
            Told of the features with missing values, which are fitted group by group.

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
        design = read_design(table, batch_labels, self.keep, self.categorical, self.numeric)
        found = entanglements(design)
        refuse_confounded(design, found)
        with one_thread_if_small(table.values.size):
            effects, unchanged = _all_effects(design, table, progress)
        return FittedLinear(
            batch_labels=batch_labels,
            batch_levels=design.batches.levels,
            features=table.features,
            effects=effects,
            kept=found,
            unchanged=tuple(unchanged),
            notes=(*design.notes, *remarks(table, design, found), *_unchanged(unchanged)),
        )


@dataclass(frozen=True, slots=True, eq=False)
class FittedLinear:
    """Batch effects, ready to be subtracted.

    Attributes
    ----------
    batch_labels : str
        The batch column.
    batch_levels : tuple of str
        The batches.
    features : tuple of str
        The features.
    effects : array of shape (batches, features)
        What each batch adds, in units of the observations; each feature's effects sum to zero over
        the batches in which it was observed.
    kept : tuple of Entanglement
        The kept factors.
    unchanged : tuple of str
        Features that could not be corrected.
    notes : tuple of Note
        What the reader must know.
    """

    batch_labels: str
    batch_levels: tuple[str, ...]
    features: tuple[str, ...]
    effects: Floats
    kept: tuple[Entanglement, ...]
    unchanged: tuple[str, ...]
    notes: tuple[Note, ...]

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
        batches = label_factor(table, self.batch_labels)
        codes = matched_batches(table, batches, self.batch_levels)
        places = matched_features(table, self.features)
        indicators = np.eye(len(self.batch_levels))[codes]
        with np.errstate(invalid="ignore"):  # the NA of R is a NaN that signals
            values = table.values - self.effects[codes][:, places]
        return Corrected(
            values=values,
            table=table,
            batch_labels=self.batch_labels,
            batch_levels=self.batch_levels,
            batch_terms=indicators[:, :-1] - indicators[:, -1:],
            rank_lost=len(self.batch_levels) - 1,
            method="linear",
            kept=self.kept,
            unchanged=self.unchanged,
            notes=self.notes,
        )


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


def _all_effects(design: Design, table: Table, progress: Progress) -> tuple[Floats, list[str]]:
    """Fit every feature on its observed specimens; also name those that cannot be fitted."""
    effects = np.zeros((len(design.batches.levels), len(table.features)))
    unchanged: list[str] = []
    done = 0
    for rows, features in _patterns(table.values):
        part = _effects(design, table.values[np.ix_(rows, features)], rows)
        if part is None:
            unchanged.extend(table.features[j] for j in features)
        else:
            effects[:, features] = part
        done += len(features)
        progress("fitting features", done, len(table.features))
    return effects, unchanged


def _patterns(values: Floats) -> Iterator[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """Group the features that are observed in the same specimens: rows and features of each."""
    observed = ~np.isnan(values)
    if observed.all():
        yield np.arange(len(values)), np.arange(values.shape[1])
        return
    packed = np.packbits(observed, axis=0)
    _, codes = np.unique(packed, axis=1, return_inverse=True)
    codes = codes.ravel()
    order = np.argsort(codes, kind="stable")
    for features in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
        yield np.flatnonzero(observed[:, features[0]]), features


def _effects(design: Design, values: Floats, rows: npt.NDArray[np.intp]) -> Floats | None:
    """Fit the full model on some specimens; None if it cannot tell batches from what is kept."""
    present = np.unique(design.batches.codes[rows])
    if len(present) < 2:
        return None
    indicators = design.batches.indicators()[np.ix_(rows, present)]
    terms = indicators[:, :-1] - indicators[:, -1:]
    wanted = design.wanted()[0][rows]
    fitted = factor(np.hstack([wanted, terms])).fit(values)
    estimates = fitted.coefficients[wanted.shape[1] :]
    if np.isnan(estimates).any():
        return None
    effects = np.zeros((len(design.batches.levels), values.shape[1]))
    effects[present[:-1]] = estimates
    effects[present[-1]] = -estimates.sum(axis=0)
    return effects


def _unchanged(features: list[str]) -> list[Note]:
    """Remark on features that were left as they are."""
    if not features:
        return []
    message = (
        f"{len(features)} features were left unchanged, because the specimens in which they were "
        "observed lie in one batch, or do not tell batches and kept factors apart: "
        f"{listed(features, 3)}."
    )
    return [Note("features_unchanged", message, tuple(features[:10]))]

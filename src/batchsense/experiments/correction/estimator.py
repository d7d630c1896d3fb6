"""A correction as a scikit-learn transformer: fitted inside each fold, so that nothing leaks."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from batchsense.arrays import Floats
from batchsense.errors import DataError, listed
from batchsense.experiments.correction.combat.correction import CombatCorrection
from batchsense.experiments.correction.interface import Correction
from batchsense.experiments.correction.linear import LinearCorrection
from batchsense.experiments.row_labels import in_one_order
from batchsense.experiments.tables.columns import label_factor
from batchsense.experiments.tables.overlap import shared_with_sheet
from batchsense.experiments.tables.table import Column, Table, repeated
from batchsense.experiments.tables.text import label_text
from batchsense.notes import Note

#: The column of the inner sheet that holds the batch labels.
_BATCHES = "batch_labels"
_ROUTING = (
    "sklearn.set_config(enable_metadata_routing=True) lets a Pipeline hand them on, and "
    "cross_validate(..., params={'batch_labels': ...}) splits them with the rows"
)


class BatchCorrector(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Batch correction for pipelines and cross-validation.

    The batch effects are learned from the rows given to ``fit`` and removed from those given to
    ``transform``; see :class:`~batchsense.experiments.LinearCorrection` and
    :class:`~batchsense.experiments.CombatCorrection` for the methods. What is to
    be predicted takes no part: ``y`` is accepted, because pipelines pass it, and never looked at,
    for a correction that knows the answers hands them on to the test rows.

    Both ``fit`` and ``transform`` need the batch labels of their rows, and request them by metadata
    routing: inside a Pipeline call ``sklearn.set_config(enable_metadata_routing=True)`` first.

    Parameters
    ----------
    method : {"linear", "combat"}
        How to correct. ComBat moves each value by what was kept of it, which is not known of the
        rows to be predicted, so it takes no ``covariates`` here.
    unseen : {"refuse", "estimate"}
        What to do at ``transform`` with a batch that was not fitted. ``"refuse"`` raises an error
        that names it. ``"estimate"`` takes the mean of that batch's own rows to the mean of the
        fitted ones, which supposes that it holds the same mixture of everything that matters: of
        several rows, each then depends on the others.

    Attributes
    ----------
    batch_levels_ : tuple of str
        The fitted batches, sorted.
    centre_ : array of shape (features,)
        Mean of the corrected rows that were fitted, in units of the observations.
    notes_ : tuple of Note
        What the reader must know, such as what is entangled with the batches.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : array of shape (features,)
        Their names, where ``X`` had any.

    Raises
    ------
    DataError
        Labels are missing or do not fit the rows, the matrix holds a covariate or the batch labels
        as features, or a batch was not seen in fitting.
    ConfoundedError
        A covariate that is to be kept cannot be told from the batches.

    Examples
    --------
    A July that adds 10:

    >>> X = np.array([[0.0], [1.0], [10.0], [11.0]])
    >>> corrector = BatchCorrector().fit(X, batch_labels=["May", "May", "July", "July"])
    >>> corrector.transform([[0.0], [10.0]], batch_labels=["May", "July"]).ravel()
    array([5., 5.])
    >>> corrector.transform([[0.0]])
    Traceback (most recent call last):
    batchsense.errors.DataError: batch labels are needed at transform: 2 batches were fitted; ...
    """

    # The mixture of requests that scikit-learn reads: labels are always wanted where they exist.
    __metadata_request__fit = {"batch_labels": True, "covariates": True}  # noqa: RUF012
    __metadata_request__transform = {"batch_labels": True}  # noqa: RUF012

    def __init__(
        self,
        method: Literal["linear", "combat"] = "linear",
        *,
        unseen: Literal["refuse", "estimate"] = "refuse",
    ) -> None:
        self.method = method
        self.unseen = unseen

    def fit(
        self,
        X: Any,
        y: object = None,
        *,
        batch_labels: Iterable[object] | None = None,
        covariates: Any = None,
    ) -> BatchCorrector:
        """Learn the batch effects.

        Parameters
        ----------
        X : array of shape (specimens, features)
            Observations; NaN where a value is missing. Labels and covariates that carry an index
            are matched with that of a data frame, never by position.
        y : object
            Ignored.
        batch_labels : iterable of length specimens
            The batch of each specimen. Without it there is nothing to correct, with a warning.
        covariates : array of shape (specimens, columns) or data frame, optional
            What must be kept: text is read as categories, numbers as numbers, with the rules of
            :func:`~batchsense.experiments.tables.columns.kept_factors`. Do not give ``y`` here if
            the rows are to be predicted later: it would not be known for them.

        Returns
        -------
        BatchCorrector
            Itself.
        """
        self._check_parameters()
        ordered = in_one_order({"X": X, _BATCHES: batch_labels, "covariates": covariates})
        batch_labels, covariates = ordered[_BATCHES], ordered["covariates"]
        needed = 1 if batch_labels is None else 2
        X = self._observations(X, copy=False, ensure_min_samples=needed)
        labels = self._labels(batch_labels, len(X))
        self.notes_: tuple[Note, ...] = ()
        self._fitted = None
        self.batch_levels_: tuple[str, ...] = ()
        corrected = X
        if labels is None:
            warnings.warn(
                f"no batch_labels were given, so nothing is corrected; {_ROUTING}", stacklevel=2
            )
        else:
            sheet = {_BATCHES: labels, **_columns(covariates, len(X))}
            table = self._table(X, sheet)
            self._refuse_in_features(table, getattr(batch_labels, "name", None))
            self.batch_levels_ = label_factor(table, _BATCHES).levels
            if len(self.batch_levels_) == 1:
                self.notes_ = (_one_batch(self.batch_levels_[0]),)
            else:
                self._fitted = self._correction(tuple(sheet)[1:]).fit(table, _BATCHES)
                applied = self._fitted.transform(table)
                self.notes_, corrected = applied.notes, applied.values
        self.centre_: Floats = _means(corrected)
        return self

    def transform(
        self, X: Any, *, batch_labels: Iterable[object] | None = None
    ) -> npt.NDArray[np.floating[Any]]:
        """Subtract the batch effects.

        Parameters
        ----------
        X : array of shape (specimens, features)
            Observations, of any of the fitted batches.
        batch_labels : iterable of length specimens
            The batch of each specimen; needed if more than one was fitted.

        Returns
        -------
        array of shape (specimens, features)
            The corrected observations, in the precision of ``X``.
        """
        check_is_fitted(self, "centre_")
        batch_labels = in_one_order({"X": X, _BATCHES: batch_labels})[_BATCHES]
        X = self._observations(X, reset=False)
        labels = self._labels(batch_labels, len(X))
        if labels is None:
            if len(self.batch_levels_) > 1:
                raise DataError(
                    "batch labels are needed at transform: "
                    f"{len(self.batch_levels_)} batches were fitted; {_ROUTING}"
                )
            return np.array(X)
        values = self._corrected(self._table(X, {_BATCHES: labels}))[: len(X)]
        return np.asarray(values, dtype=X.dtype)

    def fit_transform(
        self,
        X: Any,
        y: object = None,
        *,
        batch_labels: Iterable[object] | None = None,
        covariates: Any = None,
    ) -> npt.NDArray[np.floating[Any]]:
        """Fit and transform the same rows; the inherited one would not hand the labels on."""
        if batch_labels is not None and not hasattr(batch_labels, "iloc"):
            batch_labels = tuple(batch_labels)  # may be an iterator
        self.fit(X, batch_labels=batch_labels, covariates=covariates)
        return self.transform(X, batch_labels=batch_labels)

    def __sklearn_tags__(self) -> Any:
        """Say that missing values are allowed."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def _observations(self, X: Any, **checks: Any) -> npt.NDArray[Any]:
        if twice := repeated([str(name) for name in getattr(X, "columns", ())]):
            raise DataError(
                f"features occur more than once: {listed(map(repr, twice))}; make them unique",
                where="X",
            )
        values = validate_data(
            self, X, dtype=[np.float64, np.float32], ensure_all_finite=False, **checks
        )
        infinite = np.argwhere(np.isinf(values))
        if len(infinite):
            names = getattr(self, "feature_names_in_", range(values.shape[1]))
            cells = (f"{row} / {names[column]}" for row, column in infinite.tolist())
            raise DataError(
                f"infinite values (row / feature, counted from 0): {listed(cells)}; replace them, "
                "or use NaN where a value is missing",
                where="X",
            )
        return np.asarray(values)

    def _check_parameters(self) -> None:
        """Refuse parameters that mean nothing; here, because __init__ must only store them."""
        for name, known in (("method", ("linear", "combat")), ("unseen", ("refuse", "estimate"))):
            if getattr(self, name) not in known:
                raise DataError(
                    f"{name} is {getattr(self, name)!r}; known are {listed(map(repr, known))}"
                )

    def _correction(self, keep: tuple[str, ...]) -> Correction:
        if self.method == "linear":
            return LinearCorrection(keep=keep)
        if keep:
            raise DataError(
                "method='combat' takes no covariates: they would be needed at transform too; use "
                "method='linear', or CombatCorrection with a table"
            )
        return CombatCorrection()

    def _labels(self, batch_labels: Iterable[object] | None, rows: int) -> Column | None:
        if batch_labels is None:
            return None
        labels = tuple(map(label_text, batch_labels))
        if len(labels) != rows:
            raise DataError(f"{len(labels)} batch labels for {rows} rows of X; give one per row")
        return labels

    def _table(self, X: npt.NDArray[Any], sheet: dict[str, Column]) -> Table:
        if len(X) == 1:  # a table has two specimens at least
            X, sheet = np.repeat(X, 2, axis=0), {name: one * 2 for name, one in sheet.items()}
        names = getattr(self, "feature_names_in_", None)
        return Table.from_arrays(
            X, sheet, features=None if names is None else list(names), name="X"
        )

    def _refuse_in_features(self, table: Table, name: str | None) -> None:
        """Refuse features that are labels: a correction would change what it rests on."""
        inside = [] if table.aside is None else list(table.aside.names)
        if name is not None and name in table.features:
            labels = {str(name): table.sheet[_BATCHES]}
            inside += shared_with_sheet(table.values, table.features, labels)[0].values()
        if inside:
            raise DataError(
                f"batch labels or covariates are among the features: {listed(map(repr, inside))}; "
                "take them out of X",
                where="X",
            )

    def _corrected(self, table: Table) -> Floats:
        factor = label_factor(table, _BATCHES)
        new = [code for code, level in enumerate(factor.levels) if level not in self.batch_levels_]
        if new and self.unseen == "refuse":
            raise DataError(
                f"batches that were not fitted: {listed([factor.levels[c] for c in new])}; known "
                f"are {listed(self.batch_levels_ or ['none'])}. Fit with rows of these batches, or "
                "say unseen='estimate'"
            )
        values = table.values.copy()
        known = ~np.isin(factor.codes, new)
        if self._fitted is not None and known.any():
            labels = tuple(factor.levels[code] for code in factor.codes[known])
            rows = self._fitted.transform(self._table(values[known], {_BATCHES: labels})).values
            values[known] = rows[: known.sum()]
        for code in new:
            here = factor.codes == code
            shift = self.centre_ - _means(values[here])
            values[here] += np.where(np.isnan(shift), 0.0, shift)  # nothing is known of some
        return values


def _one_batch(level: str) -> Note:
    message = (
        f"All rows belong to one batch, {level}, so there is nothing to compare, and nothing is "
        "corrected."
    )
    return Note("one_batch", message, (level,))


def _means(values: npt.NDArray[Any]) -> Floats:
    """Mean of each feature over its observed values; NaN, without a warning, where none is."""
    observed = (~np.isnan(values)).sum(axis=0)
    sums = np.nansum(values, axis=0, dtype=np.float64)
    return np.where(observed > 0, sums / np.maximum(observed, 1), np.nan)


def _columns(covariates: Any, rows: int) -> dict[str, Column]:
    if covariates is None:
        return {}
    if hasattr(covariates, "columns"):  # a data frame, of pandas or of another library
        named = {str(name): list(covariates[name]) for name in covariates.columns}
    else:
        entries = np.asarray(covariates)
        entries = (
            entries.reshape(rows, -1) if entries.ndim == 1 and len(entries) == rows else entries
        )
        if entries.ndim != 2:
            raise DataError(f"covariates has {entries.ndim} axes; give a column for each covariate")
        named = {f"covariate {j + 1}": list(column) for j, column in enumerate(entries.T)}
    columns = {name: tuple(map(label_text, entry)) for name, entry in named.items()}
    for name, entry in columns.items():
        if len(entry) != rows:
            raise DataError(f"{name!r} has {len(entry)} entries for {rows} rows of X")
        if name == _BATCHES:
            raise DataError(f"a covariate is named {_BATCHES!r}; give it another name")
    return columns

"""ComBat: shift and scale of every batch and feature, shrunken towards what the features share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from batchsense.errors import DataError, listed
from batchsense.experiments.correction.combat.apply import apply_combat
from batchsense.experiments.correction.combat.model import (
    CORRECTED,
    CombatModel,
    extend_combat,
    fit_combat,
)
from batchsense.experiments.correction.combat.priors import Stopping
from batchsense.experiments.correction.combat.remarks import combat_notes, learned_batches
from batchsense.experiments.correction.fit_design import (
    Grounds,
    Kept,
    extended_note,
    grounds_of_parts,
    grounds_of_table,
    new_batches,
)
from batchsense.experiments.correction.fitted import (
    batch_codes,
    corrected_by,
    load_fitted,
    merged,
    save_fitted,
)
from batchsense.experiments.correction.gaps import left_unchanged_notes
from batchsense.experiments.correction.gathered import Gathered, gather
from batchsense.experiments.correction.interface import (
    Corrected,
    matched_features,
)
from batchsense.experiments.correction.remarks import chosen_features
from batchsense.experiments.correction.terms import match_terms
from batchsense.experiments.entanglement import Entanglement
from batchsense.experiments.tables.table import Table
from batchsense.experiments.threads import one_thread
from batchsense.notes import Note
from batchsense.progress import Progress, silent


@dataclass(frozen=True, slots=True, kw_only=True)
class CombatCorrection:
    r"""ComBat, as R's sva computes it, from one pass over the data.

    A value of batch b is brought to the common level and scale of its feature,

    .. math:: y = \frac{x - st}{\sqrt{\delta^*_b}} + st - \frac{sd\,\gamma^*_b}{\sqrt{\delta^*_b}},
              \qquad st = grand + z^T\beta

    with kept terms z. Shift γ* and scale δ* of each feature are shrunken towards those of the other
    features of the batch, so that small batches are not over-corrected. Equal to ``sva::ComBat`` to
    1e-8 in every option. Where sva fails or returns nonsense this does not: features that do not
    vary inside a batch are left alone, features missing from a whole batch are corrected in the
    others, and both are named.

    Attributes
    ----------
    keep : tuple of str
        Columns of the sheet that are kept.
    categorical, numeric : tuple of str
        Columns of ``keep`` whose kind is declared.
    parametric : bool
        Normal and inverse gamma priors; else the features themselves are the prior.
    mean_only : bool
        Adjust means, not scales. A batch of a single specimen has this effect on all batches.
    reference_batch : str, optional
        The batch to which the others are brought; it stays as it is.
    stopping : {"sva", "converged"}
        Where the iteration ends: as in sva (relative change 1e-4), or where nothing changes.
    despite_confounding : bool
        Go on where a kept column cannot be told from the batches: the difference is then removed
        with them, and a note says what is lost.

    References
    ----------
    Johnson, Li and Rabinovic (2007), "Adjusting batch effects in microarray expression data using
    empirical Bayes methods"; Leek et al. (2012), "The sva package".

    Examples
    --------
    A July that adds 3 and doubles what varies, in 100 features:

    >>> rng = np.random.default_rng(0)
    >>> values = rng.normal(size=(40, 100))
    >>> values[20:] = 2.0 * values[20:] + 3.0
    >>> table = Table.from_arrays(values, {"month": ["May"] * 20 + ["July"] * 20})
    >>> corrected = CombatCorrection().fit(table, "month").transform(table).values
    >>> corrected[:20].mean().round(1) == corrected[20:].mean().round(1)
    np.True_
    >>> round(float(corrected[20:].std() / corrected[:20].std()), 1)
    1.0
    """

    keep: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    parametric: bool = True
    mean_only: bool = False
    reference_batch: str | None = None
    stopping: Stopping = "sva"
    despite_confounding: bool = False

    def fit(self, table: Table, batch_labels: str, progress: Progress = silent) -> FittedCombat:
        """Learn shift and scale of every batch and feature.

        Parameters
        ----------
        table : Table
            The observations and their sheet.
        batch_labels : str
            The column of the sheet with the batch labels.
        progress : Progress
            Told of the pass over the data and of the shrinking.

        Returns
        -------
        FittedCombat
            The correction.

        Raises
        ------
        DataError
            A column of the sheet cannot be used, the reference is no batch or has a single
            specimen, or fewer than three features can be corrected.
        ConfoundedError
            A kept factor cannot be told from the batches; names every relation.
        UnresolvedError
            No residual variation is left.
        """
        progress("learning batch effects", 0, 2)
        with one_thread():  # the passes over the data have threads of their own
            grounds = grounds_of_table(table, batch_labels, Kept.of(self))
            progress("learning batch effects", 1, 2)
            fitted = self._finish(grounds)
        progress("learning batch effects", 2, 2)
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

    def finish(self, gathered: Gathered) -> FittedCombat:
        """Learn from all gathered parts, as :meth:`fit` does at once.

        Raises
        ------
        DataError, ConfoundedError, UnresolvedError
            As :meth:`fit`.
        """
        return self._finish(grounds_of_parts(gathered, Kept.of(self)))

    def _finish(self, grounds: Grounds) -> FittedCombat:
        """Fit the model, and say what must be said."""
        gathered = grounds.gathered
        levels = gathered.batch_levels
        if self.reference_batch is not None and self.reference_batch not in levels:
            raise DataError(
                f"no batch {self.reference_batch!r} in column {gathered.batch_labels!r}; there are "
                f"{listed(levels)}",
                where=gathered.sheet.source.sheet,
            )
        model = fit_combat(
            gathered.statistics,
            parametric=self.parametric,
            mean_only=self.mean_only,
            reference=None if self.reference_batch is None else levels.index(self.reference_batch),
            stopping=self.stopping,
            forced=self.despite_confounding,
        )
        notes = combat_notes(grounds, model, self.mean_only)
        return FittedCombat(self, gathered, levels, model, grounds.found, notes)


@dataclass(frozen=True, slots=True, eq=False)
class FittedCombat:
    """Shift and scale of every batch and feature, ready to be applied.

    Attributes
    ----------
    correction : CombatCorrection
        What was asked for.
    gathered : Gathered
        The sufficient statistics of the fitted specimens.
    batch_levels : tuple of str
        The batches that can be corrected.
    model : CombatModel
        The numbers.
    kept : tuple of Entanglement
        The kept factors.
    notes : tuple of Note
        What the reader must know.
    """

    correction: CombatCorrection
    gathered: Gathered
    batch_levels: tuple[str, ...]
    model: CombatModel
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
        """Features that were left as they are."""
        return chosen_features(self.features, self.model.status != CORRECTED)

    def transform(self, table: Table, out: npt.NDArray[Any] | None = None) -> Corrected:
        """Correct specimens of fitted batches.

        Parameters
        ----------
        table : Table
            The fitted table, or another one with the same batches, features and kept levels.
        out : array of shape (specimens, features), optional
            Where the values go. ``table.values`` itself saves memory, and the original values are
            then gone: later tests are best made on them.

        Returns
        -------
        Corrected
            The corrected values.

        Raises
        ------
        DataError
            A batch, a feature or a level of a kept factor was not seen in fitting.
        """
        codes = batch_codes(self, table)
        places = matched_features(table, self.features)
        model = self.model if table.features == self.features else self.model.only(places)
        terms = self.gathered.terms
        if model.mean_only:  # then the kept terms cancel
            covariates = np.zeros((len(codes), len(terms)))
        else:
            covariates = match_terms(table, terms)
        notes = tuple(left_unchanged_notes(model.unseen, table, codes, self.batch_levels))
        values = apply_combat(model, table.values, codes, covariates, out)
        return corrected_by(
            self,
            "combat",
            table,
            codes,
            values,
            more_notes=notes,
            learned=learned_batches(self.model, self.batch_levels, self.gathered),
        )

    def merge(self, other: FittedCombat) -> FittedCombat:
        """Give the correction that fits the specimens of both, as if fitted at once.

        Parameters
        ----------
        other : FittedCombat
            Fitted to other specimens with the same options. Parts that cannot be fitted alone (one
            batch, say) go through :meth:`CombatCorrection.gather` instead.

        Returns
        -------
        FittedCombat
            A new one.

        Raises
        ------
        DataError
            Options, columns or features differ, or a specimen occurs in both.
        """
        return self.correction.finish(merged(self, other))

    def extend(self, table: Table) -> FittedCombat:
        """Add batches that were not fitted; the fitted ones stay as they are.

        Level, standard deviation and slopes are those of the fit; each new batch gets shift and
        scale, shrunken towards what its own features have in common.

        Parameters
        ----------
        table : Table
            Specimens of the new batches with what is kept; those of known batches are passed over.

        Returns
        -------
        FittedCombat
            A new one, which also corrects the new batches.

        Raises
        ------
        DataError
            There is no new batch, one has a single specimen although scales are adjusted, or a
            feature or a level of what is kept was not fitted.
        """
        levels, statistics = new_batches(table, self.gathered, self.batch_levels)
        return replace(
            self,
            batch_levels=(*self.batch_levels, *levels),
            model=extend_combat(
                self.model,
                statistics,
                parametric=self.correction.parametric,
                stopping=self.correction.stopping,
            ),
            notes=(*self.notes, extended_note(levels, self.batch_labels)),
        )

    def save(self, path: str | Path) -> None:
        """Write all that was learned to a file, with the ids, batches and kept columns.

        Raises
        ------
        DataError
            The file cannot be written.
        """
        save_fitted(path, "combat", self)

    @classmethod
    def load(cls, path: str | Path) -> FittedCombat:
        """Read a correction that was saved; it gives equal results.

        Raises
        ------
        DataError
            The file holds no such correction.
        """
        return cls(**load_fitted(path, "combat", CombatCorrection, CombatModel))

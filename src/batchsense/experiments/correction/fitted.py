"""What all fitted corrections do alike: meet a table, merge, go to a file and come back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Integers
from batchsense.errors import DataError
from batchsense.experiments.correction.fit_design import Kept, grounds_of_parts
from batchsense.experiments.correction.gathered import Gathered
from batchsense.experiments.correction.interface import Corrected, LearnedBatch, matched_batches
from batchsense.experiments.correction.storage import Stored, as_tuples, load_method, save
from batchsense.experiments.entanglement import Entanglement
from batchsense.experiments.tables.columns import label_factor
from batchsense.experiments.tables.table import Table
from batchsense.notes import Note

Arrays = dict[str, npt.NDArray[Any]]


class Model(Protocol):
    """What was learned, as arrays."""

    def arrays(self) -> Arrays:
        """Give the model as named arrays."""

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """Take up stored arrays."""


class Fitted(Protocol):
    """A fitted correction; its fields are those of the dataclasses that implement it."""

    @property
    def correction(self) -> Any:
        """Its options, a dataclass."""

    @property
    def gathered(self) -> Gathered:
        """The fitted specimens."""

    @property
    def batch_levels(self) -> tuple[str, ...]:
        """The batches that it can correct."""

    @property
    def model(self) -> Any:
        """Its :class:`Model`."""

    @property
    def kept(self) -> tuple[Entanglement, ...]:
        """The kept factors."""

    @property
    def notes(self) -> tuple[Note, ...]:
        """What the reader must know."""

    @property
    def unchanged(self) -> tuple[str, ...]:
        """Features that are left as they are."""


def batch_codes(fitted: Fitted, table: Table) -> Integers:
    """Give, for each specimen of a table, the place of its batch among the fitted ones.

    Raises
    ------
    DataError
        A batch was not seen in fitting.
    """
    factor = label_factor(table, fitted.gathered.batch_labels)
    return matched_batches(table, factor, fitted.batch_levels)


def corrected_by(
    fitted: Fitted,
    method: str,
    table: Table,
    codes: Integers,
    values: npt.NDArray[Any],
    more_notes: tuple[Note, ...] = (),
    learned: tuple[LearnedBatch, ...] = (),
) -> Corrected:
    """Put corrected values together with what a later test must know of them.

    Parameters
    ----------
    fitted : Fitted
        The correction.
    method : str
        Its name.
    table : Table
        What was corrected.
    codes : array of shape (specimens,)
        Its batches, from :func:`batch_codes`.
    values : array of shape (specimens, features)
        The corrected values.
    more_notes : tuple of Note
        What must be said of this table beyond the notes of the fit.
    learned : tuple of LearnedBatch
        What was learned of each batch.

    Returns
    -------
    Corrected
        With the removed terms, coded to sum to zero over the batches.
    """
    indicators = np.eye(len(fitted.batch_levels))[codes]
    return Corrected(
        values=values,
        table=table,
        batch_labels=fitted.gathered.batch_labels,
        batch_levels=fitted.batch_levels,
        batch_terms=indicators[:, :-1] - indicators[:, -1:],
        rank_lost=len(fitted.batch_levels) - 1,
        method=method,
        kept=fitted.kept,
        unchanged=fitted.unchanged,
        notes=(*fitted.notes, *more_notes),
        learned=learned,
    )


def merged(first: Fitted, second: Fitted) -> Gathered:
    """Put the specimens of two fitted corrections together.

    Raises
    ------
    DataError
        Options, columns or features differ, a specimen occurs in both, or batches were added to
        one after it was fitted.
    """
    if first.correction != second.correction:
        raise DataError(
            f"corrections with different options cannot be merged: {first.correction} and "
            f"{second.correction}"
        )
    for fitted in (first, second):
        if fitted.batch_levels != fitted.gathered.batch_levels:
            raise DataError(
                "a correction to which batches were added cannot be merged; merge first, then add"
            )
    return first.gathered.merge(second.gathered)


def save_fitted(path: str | Path, method: str, fitted: Fitted) -> None:
    """Write all that was learned to a file, with the ids, batches and kept columns.

    Raises
    ------
    DataError
        The file cannot be written.
    """
    stored = Stored(
        method=method,
        options=asdict(fitted.correction),
        gathered=fitted.gathered,
        batch_levels=fitted.batch_levels,
        notes=fitted.notes,
        model=fitted.model.arrays(),
    )
    save(path, stored)


def load_fitted(
    path: str | Path, method: str, options: Callable[..., object], model: type[Model]
) -> dict[str, Any]:
    """Read the fields of a correction that was saved.

    Raises
    ------
    DataError
        The file holds no correction by this method.
    """
    stored = load_method(path, method)
    correction = options(**as_tuples(stored.options))
    return {
        "correction": correction,
        "gathered": stored.gathered,
        "batch_levels": stored.batch_levels,
        "model": model.from_arrays(stored.model),
        "kept": grounds_of_parts(stored.gathered, Kept.of(correction)).found,
        "notes": stored.notes,
    }

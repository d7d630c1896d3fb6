"""One fitted correction for all methods, generic over what a method learned."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Flags, Integers, Matrix
from batchsense.errors import DataError
from batchsense.experiments.correction.beside import Beside
from batchsense.experiments.correction.fit_design import KeepingColumns, design_of_parts
from batchsense.experiments.correction.gathered import Gathered
from batchsense.experiments.correction.interface import (
    Corrected,
    LearnedBatch,
    matched_batches,
    matched_features,
)
from batchsense.experiments.correction.remarks import chosen_features, left_unchanged_notes
from batchsense.experiments.correction.storage import Stored, load, save
from batchsense.experiments.entanglement import Entanglement
from batchsense.experiments.tables.anndata_objects import as_table
from batchsense.experiments.tables.columns import label_factor
from batchsense.experiments.tables.table import Table
from batchsense.experiments.value_kinds import range_notes
from batchsense.notes import Note
from batchsense.progress import Progress, silent

if TYPE_CHECKING:
    from anndata import AnnData


class LearnedArrays(ABC):
    """What a method learned of batches and features: a frozen dataclass of arrays.

    The last axis of each is that of the features, save those named in ``not_by_feature``.
    """

    __slots__ = ()
    not_by_feature: ClassVar[tuple[str, ...]] = ()

    @property
    @abstractmethod
    def left_alone(self) -> Flags:
        """Features that are left as they are, shape (features,)."""

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The model as named arrays, to be stored."""
        return {one.name: np.asarray(getattr(self, one.name)) for one in fields(self)}  # type: ignore[arg-type]

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Take up a stored model; a single value becomes a plain one again."""
        stored = {one.name: arrays[one.name] for one in fields(cls)}  # type: ignore[arg-type]
        return cls(**{n: one if one.ndim else one.item() for n, one in stored.items()})

    def only(self, features: Integers) -> Self:
        """The model of some features, in the order asked for."""
        return self.from_arrays(
            {
                name: one if name in self.not_by_feature else one[..., features]
                for name, one in self.arrays().items()
            }
        )


OptionsT = TypeVar("OptionsT", bound=KeepingColumns)
LearnedT = TypeVar("LearnedT", bound=LearnedArrays)


@dataclass(frozen=True, slots=True, eq=False)
class Fitted(ABC, Generic[OptionsT, LearnedT]):
    """A fitted correction: it meets a table, goes to a file and comes back.

    Each method says in a class of its own how what it learned changes values.
    """

    #: Name of the method, and the classes of its options and of what it learns.
    method: ClassVar[str]
    options_type: ClassVar[type[KeepingColumns]]
    learned_type: ClassVar[type[LearnedArrays]]

    correction: OptionsT
    #: The fitted specimens: their sheet, and their sufficient statistics where there are such.
    gathered: Gathered
    batch_levels: tuple[str, ...]
    model: LearnedT
    kept: tuple[Entanglement, ...]
    notes: tuple[Note, ...]
    #: Further batch columns, which are removed before.
    beside: Beside | None = None

    @property
    def batch_labels(self) -> str:
        """The batch column; of several the one that the correction itself is for."""
        return self.gathered.batch_labels

    @property
    def features(self) -> tuple[str, ...]:
        """The features."""
        return self.gathered.features

    @property
    def unchanged(self) -> tuple[str, ...]:
        """Features that are left as they are."""
        alone = self.model.left_alone
        return chosen_features(
            self.features, alone if self.beside is None else alone | self.beside.unchanged
        )

    @property
    def unseen(self) -> Flags:
        """Where a fitted batch has no observation of a corrected feature.

        Shape (batches, features); such values of later specimens are left as they are.
        """
        return np.zeros((len(self.batch_levels), len(self.features)), dtype=bool)

    def learned(self) -> tuple[LearnedBatch, ...]:
        """What the features of each batch have in common; empty where a method looks for nothing.

        Specimens of batches that were added later are not counted.
        """
        return ()

    def transform(
        self, table: Table | AnnData, out: Matrix | None = None, progress: Progress = silent
    ) -> Corrected:
        """Correct specimens of fitted batches.

        Shapes: ``out`` (specimens, features).

        Raises
        ------
        DataError
            A batch, a feature, or a level of a kept factor that the method needs was not seen in
            fitting, or a value is none that the method takes.
        """
        table = as_table(table)
        beside, features = self.beside, matched_features(table, self.features)
        less = table if beside is None else beside.taken_out(table, features)
        factor = label_factor(less, self.batch_labels)
        codes = matched_batches(table, factor, self.batch_levels)
        unseen = self.unseen if table.features == self.features else self.unseen[:, features]
        notes = left_unchanged_notes(unseen, table, codes, self.batch_levels)
        values = self._apply(less, codes, features, out, progress)
        if table.values_are not in ("log", "numbers"):
            notes += range_notes(table.values, values)
        indicators = np.eye(len(self.batch_levels))[codes]
        terms = indicators[:, :-1] - indicators[:, -1:]
        if beside is not None:
            as_they_were = np.flatnonzero(beside.unchanged[features])
            values[:, as_they_were] = table.values[:, as_they_were]
            terms = np.hstack([terms, beside.apart(less)])
        return Corrected(
            values=values,
            table=table,
            batch_labels=self.batch_labels if beside is None else beside.name,
            batch_levels=self.batch_levels,
            batch_terms=terms,
            rank_lost=len(self.batch_levels) - 1 + (0 if beside is None else beside.rank),
            method=self.method,
            several=() if beside is None else beside.columns,
            levels_of=self.batch_labels,
            numeric_batches=() if beside is None else beside.numeric,
            kept=self.kept,
            unchanged=self.unchanged,
            notes=(*self.notes, *notes),
            learned=self.learned(),
        )

    @abstractmethod
    def _apply(
        self, table: Table, codes: Integers, features: Integers, out: Matrix | None, told: Progress
    ) -> Matrix:
        """Change the values of a table whose batches and features were found in the fit."""

    def save(self, path: str | Path) -> None:
        """Write all that was learned to a file, with the ids, batches and kept columns.

        Raises
        ------
        DataError
            The file cannot be written.
        """
        stored = Stored(
            method=self.method,
            options=asdict(self.correction),
            gathered=self.gathered,
            batch_levels=self.batch_levels,
            notes=self.notes,
            model=self.model.arrays(),
            beside=self.beside,
        )
        save(path, stored)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a correction that was saved; it gives equal results.

        Raises
        ------
        DataError
            The file holds no correction of this method.
        """
        stored = load(path)
        if stored.method != cls.method:
            raise DataError(
                f"a correction by the {stored.method} method, not {cls.method}", str(path)
            )
        correction: Any = cls.options_type(**stored.options)
        model: Any = cls.learned_type.from_arrays(stored.model)
        if stored.beside is None:
            kept = design_of_parts(stored.gathered, correction).found
        else:
            columns = stored.beside.modelled(stored.gathered.batch_labels)
            plain = correction.without_kinds(stored.beside.combined)
            kept = plain.design(stored.gathered.sheet, columns)[1]
        return cls(
            correction,
            stored.gathered,
            stored.batch_levels,
            model,
            kept,
            stored.notes,
            stored.beside,
        )

"""A planned layout, and the sheet that it makes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from typing_extensions import override

from batchsense.arrays import Floats, Integers
from batchsense.experiments.design import Design
from batchsense.experiments.layout.plates import Plates
from batchsense.experiments.layout.worth import FactorWorth
from batchsense.experiments.shown import Shown
from batchsense.experiments.tables.table import Column, Table
from batchsense.notes import Note

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Layout(Shown):
    """A layout with what it leaves to find.

    Attributes
    ----------
    table : Table
        The sheet as it was read.
    design : Design
        The batches as they are now, and the balanced factors.
    column : str
        Name of the new column.
    batch_levels : tuple of str
        Names of the batches.
    codes : array of shape (specimens,)
        Index into ``batch_levels``.
    capacities : tuple of int or None
        Places for specimens in each batch (references not counted); None without limit.
    reference_specimens : int
        References in each batch.
    score : float
        Sum of the squared canonical correlations of all balanced factors with the batches.
    random_scores : array
        The same of random layouts that keep the same constraints; empty where none was drawn.
    factors : tuple of FactorWorth
        Each balanced factor.
    plates : Plates or None
        Wells, where a plate was given.
    seed : int
        The seed that repeats the layout.
    notes : tuple of Note
        What the reader must know.
    """

    table: Table
    design: Design
    column: str
    batch_levels: tuple[str, ...]
    codes: Integers
    capacities: tuple[int, ...] | None
    reference_specimens: int
    score: float
    random_scores: Floats
    factors: tuple[FactorWorth, ...]
    plates: Plates | None
    seed: int
    notes: tuple[Note, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Specimens in each batch, references not counted."""
        return tuple(np.bincount(self.codes, minlength=len(self.batch_levels)).tolist())

    @override
    def headline(self) -> str:
        sizes = self.sizes
        balanced = ", ".join(one.entanglement.name for one in self.factors)
        spread = f"{min(sizes)} to {max(sizes)}" if min(sizes) < max(sizes) else f"{min(sizes)}"
        return (
            f"{len(self.codes):,} specimens in {len(sizes)} batches of {spread} ({self.column}); "
            f"{balanced} balanced to a score of {self.score:.3g}"
        )

    @override
    def to_frame(self) -> pd.DataFrame:
        """The sheet with its new columns."""
        import pandas as pd

        return pd.DataFrame(self.sheet())

    def sheet(self) -> dict[str, Column]:
        """The sheet with the new columns, and one more row for each reference.

        Returns
        -------
        dict
            The columns of the input, then the batch; with plates also ``well``, ``plate_row`` and
            ``plate_column``; with references also ``reference`` (yes or no), whose rows come last.
            Columns of an earlier layout whose gaps were filled stay in their place.
        """
        references = [
            (b, k) for b in range(len(self.batch_levels)) for k in range(self.reference_specimens)
        ]
        batches = [*self.codes, *(b for b, _ in references)]
        added = {self.column: [self.batch_levels[b] for b in batches]}
        if self.plates is not None:
            standing = [self.plates.reference_wells[b][k] for b, k in references]
            wells, across = [*self.plates.wells, *standing], self.plates.columns
            added["well"] = [self.plates.name(well) for well in wells]
            added["plate_row"] = [str(well // across + 1) for well in wells]
            added["plate_column"] = [str(well % across + 1) for well in wells]
        if references:
            added["reference"] = ["no"] * len(self.codes) + ["yes"] * len(references)
        names = [f"reference {self.batch_levels[b]}-{k + 1}" for b, k in references]
        columns: dict[str, Column] = {}
        for name, entries in self.table.sheet.items():
            is_id = name == self.table.source.id_column
            columns[name] = (*entries, *(names if is_id else [None] * len(references)))
        return columns | {name: tuple(entries) for name, entries in added.items()}

"""A table whose values stay on disk, and what can be asked of it pass by pass."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from batchsense.arrays import Floats, Integers, Places
from batchsense.errors import DataError, UnresolvedError
from batchsense.experiments.beyond_memory.picking import Picked
from batchsense.experiments.correction.two_passes.statistics import BatchStatistics
from batchsense.experiments.out_of_core.correcting import StoredMatrix, looked_at
from batchsense.experiments.out_of_core.description import describe
from batchsense.experiments.out_of_core.engine import MEMORY, Engine, ThisProcess
from batchsense.experiments.out_of_core.pass_inputs import PassInputs
from batchsense.experiments.out_of_core.pass_protocol import Pass
from batchsense.experiments.out_of_core.summing import Passes, fingerprint_of, resumable
from batchsense.experiments.tables.table import Table
from batchsense.experiments.value_kinds import RAW, ValuesRead
from batchsense.machine_memory import available_memory
from batchsense.progress import Progress, silent
from batchsense.storage.matrices.location import MatrixLocation, find, inside_of

#: Part of the free memory that is used where nothing is said: products of specimens are exact and
#: large, and what else runs on the machine needs some.
_USUAL = 0.25
#: Bytes of features that are picked out together: as much as a block.
_PICKED = 48_000_000


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class StoredTable(Table):
    """A table without its values, which are read in passes.

    :func:`~batchsense.experiments.test`, :func:`~batchsense.experiments.diagnose` and
    :func:`~batchsense.experiments.find_surrogates` take it as they take a table; opened by
    :func:`on_disk`.

    Attributes
    ----------
    location : MatrixLocation
        Where the values are.
    passes : Passes
        Who reads them; counts how often.
    looked : ValuesRead
        As what the first specimens were read.
    resumed : bool
        Whether sums of an interrupted run were taken up.
    """

    location: MatrixLocation
    passes: Passes
    looked: ValuesRead
    resumed: bool

    def values_read(self) -> ValuesRead:
        """As what the values are read: by the first block of specimens."""
        return self.looked

    def fits(self, inputs: Pass) -> bool:
        """Whether memory suffices for a pass."""
        try:
            self.passes.engine.blocks(inputs)
        except DataError:
            return False
        return True

    def sums(self, codes: Integers, directions: Floats) -> BatchStatistics:
        """Sum up all specimens, by stratum, with their products with some directions."""
        inputs = PassInputs.of(self.location, codes, directions)
        found: BatchStatistics = self.passes.run(inputs, "summing up specimens")
        return found

    def picked(self, places: Places) -> Iterator[tuple[Places, Floats]]:
        """Read some features, a few at a time, each group in a pass of its own."""
        size = max(1, _PICKED // (8 * self.location.shape[0]))
        for start in range(0, len(places), size):
            part = places[start : start + size]
            found = self.passes.run(Picked(self.location, part), "reading features again")
            yield part, found.sums["values"]

    def refuse_raw(self, what: str) -> None:
        """Refuse counts and intensities, whose treatment needs all values at once.

        Raises
        ------
        UnresolvedError
            The first specimens hold such values.
        """
        if self.looked.kind in RAW:
            raise UnresolvedError(
                f"{self.looked.sentence} Beyond memory {what} takes values in which effects add "
                f"up; what {self.looked.kind} need first (library sizes, precision weights) needs "
                "all of them in memory",
                needed="log counts per million (or logarithms of intensities) as a layer, or "
                "memory: --no-out-of-core",
            )


def usual_memory() -> int:
    """Bytes to keep within where nothing is said: a quarter of what is free, 500 MB at least."""
    return max(MEMORY, int(_USUAL * (available_memory() or 0)))


@contextlib.contextmanager
def on_disk(
    matrix: str | Path | StoredMatrix,
    *,
    engine: Engine | None = None,
    asked: Sequence[object] = (),
    progress: Progress = silent,
) -> Iterator[StoredTable]:
    """Open a matrix as a table whose values stay on disk.

    What the passes add up is kept in the cache of the user, under what is ``asked``, until the
    block ends, so that the same question goes on where an interrupted one stopped.

    Raises
    ------
    DataError
        The input cannot be used, or memory does not suffice.

    Examples
    --------
    >>> import tempfile, zarr
    >>> from batchsense.experiments import plant, test
    >>> table, folder = (
    ...     plant(specimens=40, features=200, months=2, seed=1).table,
    ...     tempfile.mkdtemp(),
    ... )
    >>> array = zarr.create_array(f"{folder}/m.zarr", shape=(40, 200), dtype="float64")
    >>> array[:] = table.values
    >>> months, drugs = table.sheet["month"], table.sheet["drug"]
    >>> rows = "".join(f"s{i},{m},{d}\\n" for i, (m, d) in enumerate(zip(months, drugs)))
    >>> _ = Path(f"{folder}/s.csv").write_text("id,month,drug\\n" + rows)
    >>> with on_disk(StoredMatrix(f"{folder}/m.zarr", f"{folder}/s.csv")) as stored:
    ...     found = test(stored, "drug", "month").effects[0]
    >>> bool(np.allclose(found.t, test(table, "drug", "month").effects[0].t, rtol=1e-10))
    True
    """
    given = matrix if isinstance(matrix, StoredMatrix) else StoredMatrix(matrix)
    location = find(given.matrix, inside_of(given.layer))
    described = describe(location, given.sheet, given.id_column)
    table = replace(described, values_are=given.values_are)
    fingerprint = fingerprint_of(location, [*asked, given.values_are, table.sheet])
    doer = engine or ThisProcess(usual_memory())
    with resumable(fingerprint, doer, progress) as passes:
        flat = PassInputs.of(
            location, np.zeros(location.shape[0], np.int64), np.empty((location.shape[0], 0))
        )
        table, looked = looked_at(table, location, doer.blocks(flat).rows)
        yield StoredTable(
            **{field.name: getattr(table, field.name) for field in fields(table)},
            location=location,
            passes=passes,
            looked=looked,
            resumed=passes.found is not None and passes.found.resumed,
        )

"""Correct a matrix that does not fit in memory: two passes, one atomic result."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

from batchsense.errors import BatchsenseError, DataError
from batchsense.experiments.correction.affine import Affine
from batchsense.experiments.correction.interface import Account
from batchsense.experiments.correction.linear import LinearCorrection
from batchsense.experiments.correction.two_passes.statistics import BatchStatistics
from batchsense.experiments.out_of_core import annotated_file, zarr_store
from batchsense.experiments.out_of_core.description import describe
from batchsense.experiments.out_of_core.engine import Assignment, Engine, Sizes, ThisProcess
from batchsense.experiments.out_of_core.journal import Journal, journal, partial_folder, publish
from batchsense.experiments.out_of_core.pass_inputs import PassInputs, Streamed, StreamedFit
from batchsense.experiments.out_of_core.result_array import ResultArray
from batchsense.experiments.out_of_core.runs import SpecimenRun, length, missing
from batchsense.experiments.out_of_core.summing import Passes, fingerprint_of
from batchsense.experiments.row_labels import is_annotated
from batchsense.experiments.tables.table import Table
from batchsense.experiments.value_kinds import ValueKind, ValuesRead
from batchsense.machine_memory import format_bytes
from batchsense.progress import Progress, silent
from batchsense.storage.matrices.chunks import opened
from batchsense.storage.matrices.location import MatrixLocation, find, inside_of


@dataclass(frozen=True, slots=True, eq=False)
class CorrectedStore(Account):
    """A correction whose values lie on disk; its ``table`` has ids and sheet, and no values.

    Attributes
    ----------
    output : str
        Where.
    removed_share : float
        Part of the total sum of squares that was removed.
    resumed : bool
        Whether work of an interrupted run was taken up.

    Notes
    -----
    The other attributes are those of :class:`~batchsense.experiments.Corrected`: ``table``,
    ``batch_labels``, ``batch_levels``, ``rank_lost``, ``method``, ``kept``, ``unchanged``,
    ``notes`` and ``learned``.
    """

    output: str
    removed_share: float
    resumed: bool


@dataclass(frozen=True, slots=True)
class StoredMatrix:
    """A matrix on disk, with the sheet of its specimens.

    Attributes
    ----------
    matrix : path
        ``.h5ad`` or ``.zarr``, specimens in rows; dense or CSR.
    sheet : path, optional
        The sheet; the ``obs`` of the store by default.
    id_column : str, optional
        The column of the sheet with the ids.
    layer : str, optional
        The layer of an AnnData store to correct; its ``X`` by default.
    values_are : str, optional
        What the values are, as for :func:`~batchsense.experiments.read`.
    """

    matrix: str | Path
    sheet: str | Path | None = None
    id_column: str | None = None
    layer: str | None = None
    values_are: ValueKind | None = None


#: Values of the first specimens that are looked at: enough to tell counts, and 16 MB of float32.
_LOOKED_AT = 4_000_000


def correct_store(
    matrix: str | Path | StoredMatrix,
    output: str | Path,
    batch_labels: str,
    correction: Streamed | None = None,
    *,
    engine: Engine | None = None,
    keep_original: bool = True,
    provenance: Callable[[CorrectedStore], Mapping[str, Any]] | None = None,
    progress: Progress = silent,
) -> CorrectedStore:
    """Correct an AnnData file, AnnData Zarr store or plain Zarr array without loading it.

    The first pass sums up, the second one corrects; both hold a few specimens in memory at a time.
    The result has the form of the input: a layer ``batchsense`` beside ``X``, or a further array.
    It appears under its name when it is complete. Until then everything lies in the folder
    ``OUTPUT.partial``, and the same call goes on where an interrupted one stopped.

    Parameters
    ----------
    matrix : path or StoredMatrix
        ``.h5ad`` or ``.zarr``; a :class:`StoredMatrix` also names the sheet, its ids or a layer.
    output : path
        The result, of the same kind; replaced if it exists.
    batch_labels : str
        The column of the sheet with the batch labels.
    correction : LinearCorrection or CombatCorrection, optional
        How to correct; linear removal that keeps nothing by default.
    engine : Engine, optional
        Who does the work; this process in 500 MB of memory by default.
    keep_original : bool
        Whether an AnnData result also holds the numbers that were corrected.
    provenance : callable, optional
        Gives what the result shall say about itself.
    progress : Progress
        Told of the specimens that were read and corrected.

    Returns
    -------
    CorrectedStore
        What was done.

    Raises
    ------
    DataError
        The input cannot be used, memory or disk are too small, or the result cannot be written.
    ConfoundedError
        A kept factor cannot be told from the batches.

    Examples
    --------
    >>> import tempfile, numpy as np, zarr
    >>> folder = Path(tempfile.mkdtemp())
    >>> array = zarr.create_array(folder / "m.zarr", shape=(4, 1), chunks=(2, 1), dtype="float64")
    >>> array[:] = np.array([[1.0], [2.0], [5.0], [6.0]])
    >>> (folder / "s.csv").write_text("id,month\\na,May\\nb,May\\nc,July\\nd,July\\n")
    35
    >>> stored = StoredMatrix(folder / "m.zarr", sheet=folder / "s.csv")
    >>> found = correct_store(stored, folder / "o.zarr", "month")
    >>> zarr.open_array(folder / "o.zarr")[:].ravel().tolist(), round(found.removed_share, 3)
    ([3.0, 4.0, 3.0, 4.0], 0.941)
    """
    given = matrix if isinstance(matrix, StoredMatrix) else StoredMatrix(matrix)
    if is_annotated(given.matrix):
        raise DataError(
            "an AnnData object lies in memory already: correct(data, ...) corrects it there; give "
            "the path of its file to correct it on disk"
        )
    location = find(given.matrix, inside_of(given.layer))
    target = Path(output)
    check_output_form(location, target)
    described = describe(location, given.sheet, given.id_column)
    table = replace(described, values_are=given.values_are)
    plan = StreamedFit.of(correction or LinearCorrection(), table, batch_labels)
    inputs = plan.inputs(location)
    doer = engine or ThisProcess()
    sizes = doer.sizes(inputs)
    plan = replace(plan, table=looked_at(table, location, sizes.sums.rows)[0])
    with journal(target, _fingerprint(inputs, plan, keep_original)) as found:
        run = _Run(found, inputs, doer, sizes, progress)
        resumed = found.resumed
        try:
            begun = found.result is not None
            statistics = run.sum_up(None if begun else _copying(location, found, keep_original))
            fitted = plan.fit(statistics)
            affine = fitted.model.affine()
            answer = CorrectedStore(
                output=str(target),
                table=plan.table,
                batch_labels=fitted.batch_labels,
                batch_levels=fitted.batch_levels,
                rank_lost=len(fitted.batch_levels) - 1,
                method=fitted.method,
                kept=fitted.kept,
                removed_share=affine.removed_share(statistics),
                unchanged=fitted.unchanged,
                notes=fitted.notes,
                learned=fitted.learned(),
                resumed=resumed,
            )
            if found.result is None:
                about = provenance(answer) if provenance else {}
                found.note_reserved(_maker(location).reserve(location, found.work, about))
            assert found.result is not None
            run.correct(found.result, affine)
            _maker(location).mark_complete(found.result)
            publish(found, target)
        except BatchsenseError:
            if found.result is None:  # nothing that another try could go on with
                shutil.rmtree(found.folder, ignore_errors=True)
            raise
        except OSError as error:
            raise DataError(
                f"cannot be written: {error.strerror or error}; what is done is kept in "
                f"{found.folder}, and the same command goes on with it",
                where=str(target),
            ) from None
        except (ValueError, LookupError, TypeError, RuntimeError) as error:
            if not resumed:
                raise
            # What readers of a store raise where it was damaged since it was left.
            raise DataError(
                f"what an earlier run left in {found.folder} cannot be taken up "
                f"({type(error).__name__}: {error}); remove that folder, and the same command "
                "begins anew",
                where=str(target),
            ) from None
    return answer


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """Both passes, with journal and progress."""

    found: Journal
    inputs: PassInputs
    engine: Engine
    sizes: Sizes
    progress: Progress

    def sum_up(self, copying: Callable[[Event], None] | None) -> BatchStatistics:
        """Do what is left of the first pass, and copy the original beside it."""
        stop = Event()
        with ThreadPoolExecutor(1) as beside:
            try:
                copied: Future[None] | None = beside.submit(copying, stop) if copying else None
                passes = Passes(self.engine, self.progress, self.found, self.sizes)
                statistics = passes.run(self.inputs, "summing up specimens")
                if copied is not None:
                    copied.result()
            except BaseException:
                stop.set()  # an interrupted user does not wait for a copy
                raise
        assert isinstance(statistics, BatchStatistics)
        return statistics

    def correct(self, result: ResultArray, affine: Affine) -> None:
        """Do what is left of the second pass."""
        left = missing(self.found.written, result.shape[0])
        count = result.shape[0] - length(left)

        def done(run: SpecimenRun) -> None:
            nonlocal count
            self.found.note_written(run)
            count += run[1] - run[0]
            self.progress("correcting specimens", count, result.shape[0])

        self.engine.correct(Assignment(self.inputs, self.sizes, left, done), result, affine)


def check_output_form(location: MatrixLocation, target: Path) -> None:
    """Refuse an output whose name does not suit the input, or that is the input.

    Raises
    ------
    DataError
        Another suffix, a folder that does not exist, the input itself or a place inside it.
    """
    suffix = ".zarr" if location.store == "zarr" else ".h5ad"
    if target.suffix.lower() != suffix:
        raise DataError(
            f"out of core the result has the form of the input; name a {suffix} file",
            where=str(target),
        )
    if target.resolve() == Path(location.path).resolve():
        raise DataError("the output is the input; give it another name", where=str(target))
    if Path(location.path).resolve() in target.resolve().parents:
        raise DataError("lies in the folder of the input; name another place", where=str(target))
    if not target.parent.is_dir():
        raise DataError(f"{target.parent} is not a folder; create it first", where=str(target))


def looked_at(table: Table, location: MatrixLocation, rows: int) -> tuple[Table, ValuesRead]:
    """Remark on the first specimens, which stand for all, and tell as what they were read."""
    rows = max(1, min(rows, location.shape[0], _LOOKED_AT // location.shape[1]))
    block = np.empty((rows, location.shape[1]), dtype=location.working)
    with opened(location) as read:
        read(0, rows, block)
    part = "" if rows == location.shape[0] else f" in the first {rows} specimens"
    return table.remarked(block, part), table.values_read_of(block)


def _maker(location: MatrixLocation) -> Any:
    return zarr_store if location.store == "zarr" else annotated_file


def _copying(
    location: MatrixLocation, found: Journal, keep_original: bool
) -> Callable[[Event], None]:
    source = Path(location.path)
    files = source.rglob("*") if source.is_dir() else [source]
    copied = sum(path.stat().st_size for path in files) if location.inside and keep_original else 0
    free = shutil.disk_usage(found.folder).free
    wanted = copied + location.dense_bytes
    if wanted > free and not found.work.exists():
        raise DataError(
            f"the result takes {format_bytes(wanted)}, and {format_bytes(free)} are free on the "
            "disk",
            where=str(found.folder.parent),
        )
    return lambda stop: _maker(location).copy_original(location, found.work, keep_original, stop)


def _fingerprint(inputs: PassInputs, plan: StreamedFit, keep_original: bool) -> str:
    """Stand for everything that the result depends on."""
    asked = [repr(plan.correction), plan.design.batches.levels, keep_original]
    return fingerprint_of(inputs.location, asked, inputs.codes, inputs.covariates)


__all__ = [
    "CorrectedStore",
    "StoredMatrix",
    "check_output_form",
    "correct_store",
    "partial_folder",
]

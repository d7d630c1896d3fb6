"""Correct a matrix that does not fit in memory: two passes, one atomic result."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

from batchsense.errors import BatchsenseError, DataError
from batchsense.experiments.correction.combat.remarks import learned_batches
from batchsense.experiments.correction.interface import LearnedBatch, recorded
from batchsense.experiments.correction.linear import FittedLinear, LinearCorrection
from batchsense.experiments.correction.two_passes.statistics import BatchStatistics
from batchsense.experiments.entanglement import Entanglement
from batchsense.experiments.out_of_core import annotated_file, zarr_store
from batchsense.experiments.out_of_core.affine import Affine
from batchsense.experiments.out_of_core.chunks import opened
from batchsense.experiments.out_of_core.description import describe
from batchsense.experiments.out_of_core.engine import Engine, Sizes, ThisProcess
from batchsense.experiments.out_of_core.journal import Journal, journal, partial_folder, publish
from batchsense.experiments.out_of_core.location import Place, find, inside_of
from batchsense.experiments.out_of_core.pass_inputs import Work
from batchsense.experiments.out_of_core.recipe import Fitted, Recipe, Streamed, affine_of, recipe
from batchsense.experiments.out_of_core.result_array import Slot
from batchsense.experiments.out_of_core.specimen_runs import Span, length, missing, united
from batchsense.experiments.tables.reading import count_remarks
from batchsense.experiments.tables.table import Table
from batchsense.machine_memory import format_bytes
from batchsense.notes import Note
from batchsense.progress import Progress, silent


@dataclass(frozen=True, slots=True, eq=False)
class CorrectedStore:
    """A correction whose values lie on disk.

    Attributes
    ----------
    output : str
        Where.
    table : Table
        Ids, sheet and source of what was corrected; its ``values`` have no columns.
    batch_labels : str
        The batch column.
    batch_levels : tuple of str
        The batches.
    rank_lost : int
        Degrees of freedom that the correction used.
    method : str
        Name of the correction.
    kept : tuple of Entanglement
        What was kept, and how it goes with the batches.
    removed_share : float
        Part of the total sum of squares that was removed.
    unchanged : tuple of str
        Features that were left as they are.
    notes : tuple of Note
        What the reader must know.
    learned : tuple of LearnedBatch
        What was learned of each batch over all features; empty for linear removal.
    resumed : bool
        Whether work of an interrupted run was taken up.
    """

    output: str
    table: Table
    batch_labels: str
    batch_levels: tuple[str, ...]
    rank_lost: int
    method: str
    kept: tuple[Entanglement, ...]
    removed_share: float
    unchanged: tuple[str, ...]
    notes: tuple[Note, ...]
    learned: tuple[LearnedBatch, ...]
    resumed: bool

    def record(self) -> dict[str, Any]:
        """Say what was done, in the plain names, texts and lists that an AnnData file can keep."""
        return recorded(self)


def correct_store(
    matrix: str | Path,
    output: str | Path,
    batch_labels: str,
    correction: Streamed | None = None,
    sheet: str | Path | None = None,
    *,
    id_column: str | None = None,
    layer: str | None = None,
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
    matrix : path
        ``.h5ad`` or ``.zarr``, specimens in rows; dense or CSR.
    output : path
        The result, of the same kind; replaced if it exists.
    batch_labels : str
        The column of the sheet with the batch labels.
    correction : LinearCorrection or CombatCorrection, optional
        How to correct; linear removal that keeps nothing by default.
    sheet : path, optional
        The sheet; the ``obs`` of the store by default.
    id_column : str, optional
        The column of the sheet with the ids.
    layer : str, optional
        The layer of an AnnData store to correct; its ``X`` by default.
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
    >>> found = correct_store(folder / "m.zarr", folder / "o.zarr", "month", sheet=folder / "s.csv")
    >>> zarr.open_array(folder / "o.zarr")[:].ravel().tolist(), round(found.removed_share, 3)
    ([3.0, 4.0, 3.0, 4.0], 0.941)
    """
    place = find(matrix, inside_of(layer))
    target = Path(output)
    check_output_form(place, target)
    table = describe(place, sheet, id_column)
    plan = recipe(correction or LinearCorrection(), table, batch_labels)
    work = Work.of(place, plan.codes, plan.covariates, len(plan.batch_levels))
    doer = engine or ThisProcess()
    sizes = doer.sizes(work)
    plan = replace(plan, table=_looked_at(table, place, sizes.sums.rows))
    with journal(target, _fingerprint(place, plan, keep_original)) as found:
        run = _Run(found, work, plan, doer, sizes, progress)
        resumed = found.resumed
        try:
            statistics = run.sum_up(None if found.slot else _copying(place, found, keep_original))
            fitted = plan.fit(statistics)
            affine = affine_of(fitted)
            answer = _answer(target, plan, fitted, affine.removed_share(statistics), resumed)
            if found.slot is None:
                found.note_reserved(
                    _maker(place).reserve(
                        place, found.work, provenance(answer) if provenance else {}
                    )
                )
            assert found.slot is not None
            run.correct(found.slot, affine)
            _maker(place).mark_complete(found.slot)
            publish(found, target)
        except BatchsenseError:
            if found.slot is None:  # nothing that another try could go on with
                shutil.rmtree(found.folder, ignore_errors=True)
            raise
        except OSError as error:
            raise DataError(
                f"cannot be written: {error.strerror or error}; what is done is kept in "
                f"{found.folder}, and the same command goes on with it",
                where=str(target),
            ) from None
    return answer


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """Both passes, with journal and progress."""

    found: Journal
    work: Work
    plan: Recipe
    engine: Engine
    sizes: Sizes
    progress: Progress

    def sum_up(self, copying: Callable[[Event], None] | None) -> BatchStatistics:
        """Do what is left of the first pass, and copy the original beside it."""
        before, before_spans = self.found.statistics()
        specimens = self.work.place.shape[0]
        statistics = self.plan.empty() if before is None else before

        def keep(statistics: BatchStatistics, spans: Sequence[Span]) -> None:
            self.found.keep_statistics(statistics, united([*before_spans, *spans]))

        left, stop = missing(before_spans, specimens), Event()
        with ThreadPoolExecutor(1) as beside:
            try:
                copied: Future[None] | None = beside.submit(copying, stop) if copying else None
                if left:
                    told = _counting(
                        self.progress, "summing up specimens", length(before_spans), specimens
                    )
                    statistics = self.engine.sums(
                        self.work, self.sizes, left, statistics, keep, told
                    )
                    keep(statistics, [(0, specimens)])
                if copied is not None:
                    copied.result()
            except BaseException:
                stop.set()  # an interrupted user does not wait for a copy
                raise
        return statistics

    def correct(self, slot: Slot, affine: Affine) -> None:
        """Do what is left of the second pass."""
        specimens = slot.shape[0]
        left = missing(self.found.written, specimens)
        told = _counting(self.progress, "correcting specimens", specimens - length(left), specimens)

        def done(span: Span) -> None:
            self.found.note_written(span)
            told(span)

        self.engine.correct(self.work, self.sizes, slot, left, affine, done)


def check_output_form(place: Place, target: Path) -> None:
    """Refuse an output whose name does not suit the input, or that is the input.

    Raises
    ------
    DataError
        Another suffix, a folder that does not exist, the input itself or a place inside it.
    """
    suffix = ".zarr" if place.store == "zarr" else ".h5ad"
    if target.suffix.lower() != suffix:
        raise DataError(
            f"out of core the result has the form of the input; name a {suffix} file",
            where=str(target),
        )
    if target.resolve() == Path(place.path).resolve():
        raise DataError("the output is the input; give it another name", where=str(target))
    if Path(place.path).resolve() in target.resolve().parents:
        raise DataError("lies in the folder of the input; name another place", where=str(target))
    if not target.parent.is_dir():
        raise DataError(f"{target.parent} is not a folder; create it first", where=str(target))


def _looked_at(table: Table, place: Place, rows: int) -> Table:
    """Add what a first block of specimens brings to light."""
    rows = min(rows, place.shape[0])
    block = np.empty((rows, place.shape[1]), dtype=place.working)
    with opened(place) as read:
        read(0, rows, block)
    remarks = count_remarks(block, f"All values of the first {rows} specimens")
    return replace(table, notes=(*table.notes, *remarks))


def _maker(place: Place) -> Any:
    """Give the functions that make the result of this form."""
    return zarr_store if place.store == "zarr" else annotated_file


def _copying(place: Place, found: Journal, keep_original: bool) -> Callable[[Event], None]:
    """Check the room on the disk, and give the function that copies the original."""
    source = Path(place.path)
    files = source.rglob("*") if source.is_dir() else [source]
    copied = sum(path.stat().st_size for path in files) if place.inside and keep_original else 0
    free = shutil.disk_usage(found.folder).free
    wanted = copied + place.dense_bytes
    if wanted > free and not found.work.exists():
        raise DataError(
            f"the result takes {format_bytes(wanted)}, and {format_bytes(free)} are free on the "
            "disk",
            where=str(found.folder.parent),
        )
    return lambda stop: _maker(place).copy_original(place, found.work, keep_original, stop)


def _counting(progress: Progress, task: str, begun: int, total: int) -> Callable[[Span], None]:
    """Turn spans into progress."""
    count = begun

    def done(span: Span) -> None:
        nonlocal count
        count += span[1] - span[0]
        progress(task, count, total)

    return done


def _answer(
    target: Path, plan: Recipe, fitted: Fitted, share: float, resumed: bool
) -> CorrectedStore:
    """Put together what was done."""
    learned = (
        ()
        if isinstance(fitted, FittedLinear)
        else learned_batches(fitted.model, fitted.batch_levels, fitted.gathered)
    )
    return CorrectedStore(
        output=str(target),
        table=plan.table,
        batch_labels=fitted.batch_labels,
        batch_levels=fitted.batch_levels,
        rank_lost=len(fitted.batch_levels) - 1,
        method="linear" if isinstance(fitted, FittedLinear) else "combat",
        kept=fitted.kept,
        removed_share=share,
        unchanged=fitted.unchanged,
        notes=fitted.notes,
        learned=learned,
        resumed=resumed,
    )


def _fingerprint(place: Place, plan: Recipe, keep_original: bool) -> str:
    """Stand for everything that the result depends on."""
    from batchsense import __version__

    source = Path(place.path)
    files = sorted(source.rglob("*")) if source.is_dir() else [source]
    states = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.is_file()]
    described = [
        __version__, asdict(place), states, repr(plan.correction), plan.batch_levels,
        keep_original,
    ]  # fmt: skip
    digest = hashlib.sha256(json.dumps(described, default=str).encode())
    digest.update(plan.codes.tobytes())
    digest.update(plan.covariates.tobytes())
    return digest.hexdigest()


__all__ = ["CorrectedStore", "check_output_form", "correct_store", "partial_folder"]

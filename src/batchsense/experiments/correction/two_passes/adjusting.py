"""The second pass over the data: one multiplication and one addition per value."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Floats, Matrix, Places
from batchsense.errors import DataError
from batchsense.experiments.correction.two_passes.pass_runner import (
    available_threads,
    compiled_for,
    run_pieces,
)
from batchsense.experiments.correction.two_passes.specimen_groups import checked, group

#: Features that a thread takes at a time where a feature lies in one piece: many more pieces than
#: threads, so that none waits long for the last.
_COLUMNS = 256
#: Values that numpy handles at a time: 8 MB for each intermediate array.
_BLOCK = 1_000_000


def adjust(
    scales: Floats,
    offsets: Floats,
    slopes: Floats,
    values: npt.ArrayLike,
    codes: npt.ArrayLike,
    covariates: npt.ArrayLike | None,
    out: Matrix | None,
    threads: int | None,
) -> Matrix:
    """Change x to scales·x + offsets + (1 - scales)·zᵀslopes, batch by batch.

    Shapes: ``scales``, ``offsets`` (batches, features); ``slopes`` (covariates, features);
    ``values`` (specimens, features); ``codes`` (specimens,); ``covariates`` (specimens,
    covariates); ``out`` (specimens, features); the result (specimens, features).
    """
    batches, features = scales.shape
    matrix, places, kept = checked(values, codes, covariates, len(slopes))
    if matrix.shape[1] != features:
        raise DataError(f"the model has {features} features, the observations {matrix.shape[1]}")
    if len(places) and (places.min() < 0 or places.max() >= batches):
        raise DataError(f"batch codes must lie between 0 and {batches - 1}")
    if out is None:
        out = np.empty_like(matrix)
    elif out.shape != matrix.shape or out.dtype.kind != "f":
        raise DataError(f"out has shape {out.shape} and type {out.dtype}, not {matrix.shape}")
    cells = group(places, kept)
    tables: _Tables = (places, places, scales, offsets, None, None, None)
    if kept.shape[1]:
        lost, by_cell = 1.0 - scales, offsets[cells.batch_of_cell]
        if cells.covariates is not None:
            by_cell += lost[cells.batch_of_cell] * (cells.covariates @ slopes)
            tables = (places, cells.of_specimen, scales, by_cell, None, None, None)
        else:
            tables = (places, cells.of_specimen, scales, by_cell, kept, slopes, lost)
    _run(matrix, out, cells.order, tables, threads)
    return out


#: Batch of each specimen and its row of offsets, scales by batch, offsets; covariates, slopes and
#: what scales take away, where there are covariates that the row of offsets does not hold.
_Tables = tuple[Places, Places, Floats, Floats, Floats | None, Floats | None, Floats | None]


def _run(values: Matrix, out: Matrix, order: Places, tables: _Tables, threads: int | None) -> None:
    specimens, features = values.shape
    codes, of_specimen, scales, offsets, kept, slopes, lost = tables
    kernels = compiled_for(values.size)
    rows = values.flags.c_contiguous and out.flags.c_contiguous
    columns = values.flags.f_contiguous and out.flags.f_contiguous
    if kernels is None or not (rows or columns):
        step = max(1, _BLOCK // max(features, 1))
        for low in range(0, specimens, step):
            part = slice(low, low + step)
            own = codes[part]
            shift = offsets[of_specimen[part]]
            if kept is not None and slopes is not None and lost is not None:
                shift += lost[own] * (kept[part] @ slopes)
            with np.errstate(invalid="ignore"):  # the NA of R is a NaN that signals
                shift += scales[own] * values[part]
            out[part] = shift
        return
    total, step = features, _COLUMNS
    run: Callable[[int, int], None]
    if rows:
        total, step = specimens, max(1, -(-specimens // (4 * available_threads(threads))))
        run = partial(kernels.shift_rows, values, order, *tables, out)
        if _same(values, out) and kept is None:
            run = partial(
                kernels.shift_rows_in_place, out, order, codes, of_specimen, scales, offsets
            )
    else:
        run = partial(kernels.shift_columns, values.T, *tables, out.T)
    run_pieces(run, total, step, threads)


def _same(first: Matrix, second: Matrix) -> bool:
    return (
        first.dtype == second.dtype
        and first.strides == second.strides
        and first.ctypes.data == second.ctypes.data
    )

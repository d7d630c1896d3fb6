"""Numbers to text and back by Arrow: to the nearest double and by the shortest digits, as Python.

What the two would take or write differently is left to Python.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Floats
from batchsense.experiments.tables.arrow.arrays import array_of, strings_of, values_of
from batchsense.experiments.tables.text import MISSING

if TYPE_CHECKING:
    import pyarrow as pa

#: Arrow writes numbers of this size with a point and without an exponent, as Python does.
_PLAIN_FROM, _PLAIN_TO = 1e-4, 1e10


def arrow_is_here() -> bool:
    """Whether Arrow is installed."""
    with contextlib.suppress(ImportError):
        import pyarrow.csv  # noqa: F401

        return True
    return False


def numbers_of(lines: list[str], delimiter: str, count: int) -> Floats | None:
    """The numbers in lines of ``count`` cells without quotation marks; NaN where missing.

    None where Arrow reads no numbers, or reads what Python might not.

    Examples
    --------
    >>> numbers_of(["1,NA", "2.5,"], ",", 4), numbers_of(["1,low"], ",", 2)
    (array([1. , nan, 2.5, nan]), None)
    """
    import pyarrow as pa
    from pyarrow import csv

    # As one column, whatever the shape of the matrix: each column of Arrow's costs by itself. Its
    # delimiter stands in no number.
    text = "\n".join(lines).replace(delimiter, "\n") + "\n"
    try:
        column = csv.read_csv(
            pa.BufferReader(text.encode()),
            csv.ReadOptions(column_names=["x"]),
            csv.ParseOptions(delimiter="\x1f", quote_char=False, ignore_empty_lines=False),
            csv.ConvertOptions(column_types={"x": pa.float64()}, null_values=sorted(MISSING)),
            memory_pool=pa.system_memory_pool(),
        )["x"]
    except pa.ArrowInvalid:
        return None
    values = np.concatenate([values_of(chunk) for chunk in column.chunks])
    # Arrow has more words for what is no finite number.
    finite = np.count_nonzero(np.isfinite(values)) == len(values) - column.null_count
    return values if finite and len(values) == count else None


def rows_of_text(values: npt.NDArray[Any], delimiter: str) -> list[str]:
    """The rows of contiguous float64 or int64 values, written as Python does; nothing for NaN.

    Examples
    --------
    >>> rows_of_text(np.array([[1.0, 0.1], [np.nan, 1e-5]]), ",")
    ['1.0,0.1', ',1e-05']
    """
    import pyarrow as pa
    from pyarrow import compute

    ends = np.arange(0, values.size + 1, values.shape[1], dtype=np.int32)
    lists = pa.ListArray.from_arrays(array_of(ends), _texts(values.reshape(-1)))
    mark, pool = strings_of([delimiter])[0], pa.system_memory_pool()
    joined: list[str] = compute.binary_join(lists, mark, memory_pool=pool).to_pylist()
    return joined


def _texts(values: npt.NDArray[Any]) -> pa.Array:
    import pyarrow as pa
    from pyarrow import compute

    # Arrow's own pool keeps what was freed, and would raise the peak by tens of megabytes.
    texts = compute.cast(array_of(values), "string", memory_pool=pa.system_memory_pool())
    if values.dtype.kind != "f":
        return texts
    sizes = np.abs(values)
    whole = (values == np.rint(values)) & (sizes < _PLAIN_TO)
    if whole.any():
        pointed = compute.binary_join_element_wise(texts, *strings_of([".0", ""]))
        texts = compute.if_else(array_of(whole), pointed, texts)
    odd = ~(whole | ((sizes >= _PLAIN_FROM) & (sizes < _PLAIN_TO)))  # NaN among them
    if odd.any():
        written = ["" if one != one else repr(one) for one in values[odd].tolist()]
        texts = compute.replace_with_mask(texts, array_of(odd), strings_of(written))
    return texts

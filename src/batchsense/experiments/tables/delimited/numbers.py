"""Numbers to text and back at the speed of Arrow, where it agrees with Python to the last sign.

Arrow reads decimal numbers to the nearest double, as Python does, and writes the same shortest
digits; what the two would take or write differently is left to Python.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Floats
from batchsense.experiments.tables.text import MISSING

if TYPE_CHECKING:
    import pyarrow as pa

#: Arrow writes numbers of this size with a point and without an exponent, as Python does.
_PLAIN_FROM, _PLAIN_TO = 1e-4, 1e10
#: A sign that stands in no number: where it does, Arrow finds two cells and gives up.
_NO_SIGN = "\x1f"


def arrow_is_here() -> bool:
    """Whether Arrow is installed."""
    with contextlib.suppress(ImportError):
        import pyarrow.csv  # noqa: F401

        return True
    return False


def numbers_of(lines: list[str], delimiter: str, count: int) -> Floats | None:
    """The numbers in plain lines, NaN where missing; None where Arrow and Python could differ.

    Parameters
    ----------
    lines : list of str
        Cells without quotation marks, separated by ``delimiter``.
    delimiter : str
        One sign.
    count : int
        How many cells there are.

    Returns
    -------
    array of shape (count,) or None

    Examples
    --------
    >>> numbers_of(["1,NA", "2.5,"], ",", 4), numbers_of(["1,low"], ",", 2)
    (array([1. , nan, 2.5, nan]), None)
    """
    import pyarrow as pa
    from pyarrow import csv

    # As one column, whatever the shape of the matrix: each column of Arrow's costs by itself.
    text = "\n".join(lines).replace(delimiter, "\n") + "\n"
    try:
        column = csv.read_csv(
            pa.BufferReader(text.encode()),
            csv.ReadOptions(column_names=["numbers"]),
            csv.ParseOptions(delimiter=_NO_SIGN, quote_char=False, ignore_empty_lines=False),
            csv.ConvertOptions(
                column_types={"numbers": pa.float64()},
                null_values=sorted(MISSING),
                check_utf8=False,
            ),
        )["numbers"]
    except pa.ArrowInvalid:
        return None
    values = np.concatenate([_values(chunk) for chunk in column.chunks])
    # Arrow has more words for what is no finite number.
    finite = np.count_nonzero(np.isfinite(values)) == len(values) - column.null_count
    return values if finite and len(values) == count else None


def rows_of_text(values: npt.NDArray[Any], delimiter: str) -> list[str]:
    """The rows of a matrix as delimited text, each number as Python writes it, nothing for NaN.

    Values are float64 or int64, contiguous, of shape (rows, columns).

    Examples
    --------
    >>> rows_of_text(np.array([[1.0, 0.1], [np.nan, 1e-5]]), ",")
    ['1.0,0.1', ',1e-05']
    """
    import pyarrow as pa
    from pyarrow import compute

    rows, columns = values.shape
    ends = np.arange(0, rows * columns + 1, columns, dtype=np.int32)
    lists = pa.ListArray.from_arrays(
        _array(ends, pa.int32()), _texts(values.reshape(-1)), type=pa.list_(pa.string())
    )
    joined: list[str] = compute.binary_join(lists, _strings([delimiter])[0]).to_pylist()
    return joined


def _texts(values: npt.NDArray[Any]) -> pa.Array:
    import pyarrow as pa
    from pyarrow import compute

    if values.dtype.kind != "f":
        return compute.cast(_array(values, pa.int64()), pa.string())
    texts = compute.cast(_array(values, pa.float64()), pa.string())
    sizes = np.abs(values)
    whole = (values == np.rint(values)) & (sizes < _PLAIN_TO)
    if whole.any():
        point, nothing = _strings([".0", ""])
        pointed = compute.binary_join_element_wise(texts, point, nothing)
        texts = compute.if_else(_array(whole, pa.bool_()), pointed, texts)
    odd = ~(whole | ((sizes >= _PLAIN_FROM) & (sizes < _PLAIN_TO)))  # NaN among them
    if odd.any():
        written = ["" if one != one else repr(one) for one in values[odd].tolist()]
        texts = compute.replace_with_mask(texts, _array(odd, pa.bool_()), _strings(written))
    return texts


# By their buffers: Arrow's own conversions load pandas first.


def _array(values: npt.NDArray[Any], kind: pa.DataType) -> pa.Array:
    import pyarrow as pa

    held = np.packbits(values, bitorder="little") if values.dtype == bool else values
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(held)])


def _strings(texts: list[str]) -> pa.Array:
    import pyarrow as pa

    encoded = [text.encode() for text in texts]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    held = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(texts), held)


def _values(numbers: pa.Array) -> Floats:
    validity, held = numbers.buffers()
    values = np.frombuffer(held, np.float64, len(numbers), 8 * numbers.offset)
    if numbers.null_count == 0:
        return values
    bits = np.unpackbits(np.frombuffer(validity, np.uint8), bitorder="little")
    present = bits[numbers.offset :][: len(numbers)]
    return np.where(present, values, np.nan)

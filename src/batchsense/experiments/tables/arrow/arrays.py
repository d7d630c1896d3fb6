"""Arrow arrays of numpy's and back, by their buffers: Arrow's own conversions load pandas first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Flags, Floats

if TYPE_CHECKING:
    import pyarrow as pa


def array_of(values: npt.NDArray[Any], missing: Flags | None = None) -> pa.Array:
    """An array of numbers or truth values; null where ``missing``."""
    import pyarrow as pa

    held = np.packbits(values, bitorder="little") if values.dtype == bool else values
    validity = None if missing is None or not missing.any() else _bits(~missing)
    kind = pa.from_numpy_dtype(values.dtype)
    return pa.Array.from_buffers(kind, len(values), [validity, pa.py_buffer(held)])


def strings_of(texts: Sequence[str | None]) -> pa.Array:
    """An array of texts; null where one is None."""
    import pyarrow as pa

    missing = np.array([text is None for text in texts], dtype=bool)
    encoded = [(text or "").encode() for text in texts]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    kind, width = pa.string(), "int32"
    if ends[-1] > np.iinfo(np.int32).max:
        kind, width = pa.large_string(), "int64"
    validity = _bits(~missing) if missing.any() else None
    held = [validity, pa.py_buffer(ends.astype(width)), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(kind, len(texts), held)


def _bits(flags: Flags) -> pa.Buffer:
    import pyarrow as pa

    return pa.py_buffer(np.packbits(flags, bitorder="little"))


def values_of(numbers: pa.Array) -> Floats:
    """The numbers of an array in double precision; NaN where it is null."""
    validity, held = numbers.buffers()
    kind = np.dtype(numbers.type.to_pandas_dtype())
    values = np.frombuffer(held, kind, len(numbers), kind.itemsize * numbers.offset)
    values = values.astype(np.float64, copy=False)
    if numbers.null_count == 0:
        return values
    bits = np.unpackbits(np.frombuffer(validity, np.uint8), bitorder="little")
    return np.where(bits[numbers.offset :][: len(numbers)], values, np.nan)

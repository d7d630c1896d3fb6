"""Data frames of other libraries, such as polars and Arrow, taken through their protocols."""

from __future__ import annotations

from typing import Any

import numpy as np

from batchsense.errors import DataError, MissingExtraError, listed


def own_frame(given: Any, where: str) -> Any:
    """Make a pandas frame of a table of another library; anything else stays as it is.

    Asked for are ``__arrow_c_stream__`` (polars, pyarrow, DuckDB and others; needs pyarrow), then
    ``__dataframe__``.

    Raises
    ------
    MissingExtraError
        pyarrow is not installed, and the library has no other protocol.
    DataError
        The table cannot be read; ``where`` names it.

    Examples
    --------
    >>> own_frame([[1.0]], "values")
    [[1.0]]
    """
    if type(given).__module__.partition(".")[0] == "pandas":
        return given
    # A single column streams too, and is no table.
    streams = hasattr(given, "__arrow_c_stream__") and hasattr(given, "columns")
    offers = hasattr(given, "__dataframe__")
    if not streams and not offers:
        return given
    try:
        if streams:
            return _through_arrow(given)
    except ImportError:
        if not offers:
            raise MissingExtraError("Arrow tables", "experiments") from None
    except Exception as error:
        raise DataError(f"the table cannot be read through Arrow: {error}", where=where) from error
    try:
        from pandas.api.interchange import from_dataframe

        return from_dataframe(given)
    except Exception as error:
        raise DataError(f"the table cannot be read: {error}", where=where) from error


def frame_numbers(given: Any, where: str) -> Any:
    """The values of a pandas frame, gaps of nullable columns as NaN; else what was given."""
    if not hasattr(given, "dtypes") or not hasattr(given, "columns"):
        return given
    from pandas.api.types import is_numeric_dtype

    kinds = list(given.dtypes)
    odd = [
        repr(name)
        for name, kind in zip(given.columns, kinds, strict=True)
        if not is_numeric_dtype(kind)
    ]
    if odd:
        raise DataError(
            f"columns without numbers: {listed(odd, 10)}; name them as columns of the sheet, or "
            "leave them out",
            where=where,
        )
    alike = all(kind == kinds[0] and isinstance(kind, np.dtype) for kind in kinds)
    return given if alike else given.to_numpy(dtype=np.float64, na_value=np.nan)


def _through_arrow(given: Any) -> Any:
    import pyarrow

    return pyarrow.table(given).to_pandas()

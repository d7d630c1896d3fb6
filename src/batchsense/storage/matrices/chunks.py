"""Matrices read a few specimens at a time, into an array that is used again and again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from batchsense.arrays import Matrix
from batchsense.errors import DataError
from batchsense.storage.matrices.folded import Folded
from batchsense.storage.matrices.location import MatrixLocation, open_hdf5, open_zarr

#: ``read(low, high, into)``: fill ``into`` with the specimens ``low`` to ``high``.
Reader = Callable[[int, int, Any], None]

#: Bytes, and stored numbers of a sparse matrix, that are read at a time where features are wanted:
#: a few megabytes beside the features themselves.
_AT_ONCE, _STORED_AT_ONCE = 8_000_000, 1_000_000
#: Chunks that Zarr unpacks side by side; each takes memory of its own.
ZARR_AT_ONCE = 2


def zarr_bounded() -> contextlib.AbstractContextManager[Any]:
    """Keep Zarr from unpacking many chunks at the same time."""
    import zarr

    setting = {"threading.max_workers": ZARR_AT_ONCE, "async.concurrency": ZARR_AT_ONCE}
    bounded: contextlib.AbstractContextManager[Any] = zarr.config.set(setting)
    return bounded


@contextlib.contextmanager
def opened(location: MatrixLocation) -> Iterator[Reader]:
    """Open a matrix and give the function that reads specimens of it.

    ``read(low, high, into)`` fills ``into``, of shape (high - low, features) and of the working
    type of the location, or a :class:`Folded` where the matrix is sparse. Not to be called by two
    threads at a time.

    Raises
    ------
    DataError
        The file cannot be opened or read.

    Examples
    --------
    >>> import tempfile, zarr
    >>> folder = tempfile.mkdtemp()
    >>> array = zarr.create_array(folder, shape=(3, 2), chunks=(2, 2), dtype="float32")
    >>> array[:] = np.arange(6.0).reshape(3, 2)
    >>> from batchsense.storage.matrices.location import find
    >>> block = np.empty((1, 2), dtype="float32")
    >>> with opened(find(folder)) as read:
    ...     read(1, 2, block)
    >>> block.tolist()
    [[2.0, 3.0]]
    """
    if location.store == "zarr":
        with zarr_bounded():
            root = open_zarr(location.path)
            yield _guarded(location, root[location.inside] if location.inside else root)
    else:
        with open_hdf5(location.path) as root:
            yield _guarded(location, root[location.inside])


@contextlib.contextmanager
def opened_by_feature(location: MatrixLocation) -> Iterator[Reader]:
    """Open a matrix and give the function that reads features of it.

    ``read(low, high, into)`` fills ``into``, of shape (specimens, high - low) and of the working
    type. Where whole specimens are stored together, each call goes through the whole matrix. Not to
    be called by two threads at a time.

    Raises
    ------
    DataError
        The file cannot be opened or read.

    Examples
    --------
    >>> import tempfile, zarr
    >>> folder = tempfile.mkdtemp()
    >>> array = zarr.create_array(folder, shape=(3, 2), chunks=(2, 2), dtype="float32")
    >>> array[:] = np.arange(6.0).reshape(3, 2)
    >>> from batchsense.storage.matrices.location import find
    >>> block = np.empty((3, 1), dtype="float32")
    >>> with opened_by_feature(find(folder)) as read:
    ...     read(1, 2, block)
    >>> block.ravel().tolist()
    [1.0, 3.0, 5.0]
    """
    bounded = zarr_bounded() if location.store == "zarr" else contextlib.nullcontext()
    with bounded, contextlib.ExitStack() as stack:
        if location.store == "zarr":
            root = open_zarr(location.path)
        else:
            root = stack.enter_context(open_hdf5(location.path))
        element = root[location.inside] if location.inside else root

        def read(low: int, high: int, into: Matrix) -> None:
            try:
                if location.form == "csr":
                    _sparse_features(element, low, high, into)
                else:  # a few specimens at a time: what is unpacked stays small
                    step = -(-max(1, _AT_ONCE // (into.shape[1] * into.itemsize)) // location.rows)
                    step *= location.rows
                    for first in range(0, len(into), step):
                        last = min(first + step, len(into))
                        into[first:last] = element[first:last, low:high]
            except (OSError, RuntimeError, ValueError, KeyError) as error:
                message = f"features {low + 1} to {high} cannot be read: {error}"
                raise DataError(message, where=location.path) from None

        yield read


def _sparse_features(group: Any, low: int, high: int, into: Matrix) -> None:
    from scipy.sparse import csr_matrix

    starts = np.asarray(group["indptr"][:], dtype=np.int64)
    first = 0
    while first < len(into):
        last = int(np.searchsorted(starts, starts[first] + _STORED_AT_ONCE, "right")) - 1
        last = min(max(last, first + 1), len(into))
        data, indices = csr_parts(group, int(starts[first]), int(starts[last]))
        rows = np.repeat(np.arange(last - first), np.diff(starts[first : last + 1]))
        own = (indices >= low) & (indices < high)
        cells = (data[own], (rows[own], indices[own] - low))
        part = csr_matrix(cells, shape=(last - first, high - low), dtype=into.dtype)
        part.toarray(out=into[first:last])
        first = last


def _guarded(location: MatrixLocation, element: Any) -> Reader:
    read = _sparse(element) if location.form == "csr" else _dense(location, element)

    def guarded(low: int, high: int, into: Any) -> None:
        try:
            read(low, high, into)
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            message = f"specimens {low + 1} to {high} cannot be read: {error}"
            raise DataError(message, where=location.path) from None

    return guarded


def _dense(location: MatrixLocation, array: Any) -> Reader:
    if array.dtype != location.working:

        def converted(low: int, high: int, into: Matrix) -> None:
            into[:] = array[low:high]

        return converted
    if location.store == "hdf5":

        def straight(low: int, high: int, into: Matrix) -> None:
            array.read_direct(into, np.s_[low:high])

        return straight
    from zarr.core.buffer import default_buffer_prototype

    wrap = default_buffer_prototype().nd_buffer.from_numpy_array

    def unpacked(low: int, high: int, into: Matrix) -> None:
        array.get_basic_selection((slice(low, high), slice(None)), out=wrap(into))

    return unpacked


def csr_parts(group: Any, first: int, last: int) -> tuple[Matrix, Matrix]:
    """Read stored numbers of a CSR matrix, from one place to another, and their columns."""
    return group["data"][first:last], group["indices"][first:last]


def _sparse(group: Any) -> Reader:
    starts = group["indptr"]

    def unfold(low: int, high: int, into: Any) -> None:
        from scipy.sparse import csr_matrix

        bounds = np.asarray(starts[low : high + 1], dtype=np.int64)
        if isinstance(into, Folded):
            into.read(group, bounds)
            return
        first, last = int(bounds[0]), int(bounds[-1])
        data, indices = csr_parts(group, first, last)
        part = csr_matrix((data, indices, bounds - first), shape=into.shape)
        if part.dtype != into.dtype:
            part = part.astype(into.dtype)
        part.toarray(out=into)

    return unfold

"""Where a matrix lies on disk: enough to open it again, in this process or in another one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from batchsense.errors import DataError, MissingExtraError, listed
from batchsense.storage.inputs import check_input

Store = Literal["hdf5", "zarr"]
Form = Literal["dense", "csr"]
#: The attribute of a result, with the key that says whether it was finished.
MARK, COMPLETE = "batchsense", "complete"


@dataclass(frozen=True, slots=True)
class MatrixLocation:
    """A matrix of specimens × features in an HDF5 file or a Zarr store.

    Attributes
    ----------
    path : str
        The file or folder.
    store : {"hdf5", "zarr"}
        Which library reads it.
    inside : str
        Where in the file; empty for a Zarr array without a group.
    form : {"dense", "csr"}
        How the numbers are stored.
    shape : tuple of int
        Specimens and features.
    dtype : str
        Type of the stored numbers.
    rows : int
        Specimens per stored chunk: a read of fewer unpacks them all. 1 where there are no chunks.
    chunk_bytes : int
        Bytes of an unpacked chunk; 0 where there are none.
    chunks_per_row : int
        Chunks that hold a specimen together; 0 where there are none.
    stored : int
        Numbers that a sparse matrix stores.
    """

    path: str
    store: Store
    inside: str
    form: Form
    shape: tuple[int, int]
    dtype: str
    rows: int
    chunk_bytes: int
    chunks_per_row: int
    stored: int = 0

    @property
    def working(self) -> np.dtype[Any]:
        """The type of a block in memory and of the result: float32 for float32, else float64."""
        return np.dtype(np.float32 if self.dtype == "float32" else np.float64)

    @property
    def layer(self) -> str | None:
        """The layer of an AnnData store; None for its ``X`` and for a plain array."""
        return self.inside.removeprefix("layers/") if self.inside.startswith("layers/") else None

    @property
    def stored_bytes(self) -> float:
        """Bytes of a specimen of a sparse matrix as it is stored, values and places."""
        return self.stored * (self.working.itemsize + 8) / self.shape[0]

    @property
    def dense_bytes(self) -> int:
        """Bytes of the whole matrix when every number is stored."""
        return self.shape[0] * self.shape[1] * self.working.itemsize


def is_store(path: str | Path) -> bool:
    """Tell whether a path is a matrix that can be read in chunks: ``.h5ad`` or a Zarr store.

    Examples
    --------
    >>> is_store("matrix.csv"), is_store("cells.h5ad"), is_store("cells.zarr")
    (False, True, True)
    """
    return Path(path).suffix.lower() in (".h5ad", ".zarr")


def inside_of(layer: str | None) -> str:
    """Name the matrix inside an AnnData store: ``X``, or a layer.

    Examples
    --------
    >>> inside_of(None), inside_of("counts")
    ('X', 'layers/counts')
    """
    return "X" if layer is None else f"layers/{layer}"


def find(path: str | Path, inside: str = "X") -> MatrixLocation:
    """Look where the matrix of an AnnData file, AnnData Zarr store or plain Zarr array lies.

    ``inside`` is the matrix of an AnnData store: ``X`` or ``layers/NAME``.

    Raises
    ------
    DataError
        No such file, not an AnnData store, an unfinished result, numbers stored by columns, or
        something else than numbers.
    MissingExtraError
        h5py or zarr is not installed.
    """
    check_input(path)
    target = Path(path)
    if not target.exists():
        raise DataError("cannot be read: no such file", where=str(path))
    if target.is_dir():
        return _in_zarr(str(path), inside)
    return _in_hdf5(str(path), inside)


def open_zarr(path: str) -> Any:
    """Open a Zarr array or group for reading."""
    try:
        import zarr
    except ImportError:
        raise MissingExtraError("Zarr stores", "experiments") from None
    try:
        return zarr.open(path, mode="r")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"not a Zarr store: {error}", where=path) from None


def open_hdf5(path: str) -> Any:
    """Open an HDF5 file for reading, with a small cache: blocks are read once, in order."""
    try:
        import h5py
    except ImportError:
        raise MissingExtraError("AnnData files", "experiments") from None
    try:
        return h5py.File(path, "r", rdcc_nbytes=1 << 20)
    except OSError as error:
        raise DataError(f"not an AnnData file: {error}", where=path) from None


def refuse_lost_chunks(values: Any, where: str) -> None:
    """Refuse a sparse Zarr matrix if some of its values, which are never zero, have no file."""
    if values.nchunks_initialized < values.nchunks:
        raise DataError(
            f"{values.nchunks - values.nchunks_initialized} of {values.nchunks} chunks of X are "
            "missing; the store was not copied or written to its end",
            where=where,
        )


def _in_zarr(path: str, inside: str) -> MatrixLocation:
    root = open_zarr(path)
    mark = root.attrs.get(MARK)
    if isinstance(mark, dict) and mark.get(COMPLETE) is False:
        raise DataError("an unfinished result; run the command that writes it again", where=path)
    if hasattr(root, "shape"):
        if inside != "X":
            raise DataError("a plain Zarr array has no layers", where=path)
        return _of_array(path, "zarr", "", root)
    try:
        held = _holds(root, inside)
        _refuse_unfinished(root, path)
        element = root[inside] if held else None
    except json.JSONDecodeError as error:  # a writer was killed between creating and filling it
        raise DataError(f"a broken Zarr store, its metadata end early: {error}", path) from None
    if element is None:
        raise _absent(root, inside, path)
    return _of_element(path, "zarr", inside, element)


def _in_hdf5(path: str, inside: str) -> MatrixLocation:
    with open_hdf5(path) as root:
        if not _holds(root, inside):
            raise _absent(root, inside, path)
        _refuse_unfinished(root, path)
        return _of_element(path, "hdf5", inside, root[inside])


def _holds(root: Any, inside: str) -> bool:
    """Tell whether the matrix is there; a layer whose name is a path is none."""
    if inside == "X":
        return inside in root
    return "layers" in root and inside.removeprefix("layers/") in set(root["layers"])


def _absent(root: Any, inside: str, path: str) -> DataError:
    layers = sorted(root["layers"]) if "layers" in root else []
    there = f"its layers are {listed(layers)}" if layers else "it has no layers"
    return DataError(f"the file has no {inside}; {there}", where=path)


def _refuse_unfinished(root: Any, path: str) -> None:
    flag = f"uns/{MARK}/{COMPLETE}"
    if flag in root and not bool(root[flag][()]):
        raise DataError("an unfinished result; run the command that writes it again", where=path)


def _of_element(path: str, store: Store, inside: str, element: Any) -> MatrixLocation:
    if hasattr(element, "shape"):
        return _of_array(path, store, inside, element)
    encoding = element.attrs.get("encoding-type")
    if encoding == "csc_matrix":
        raise DataError(
            f"{inside} is stored by columns (CSC) and cannot be read a few specimens at a time; "
            "store it as CSR or dense",
            where=path,
        )
    if encoding != "csr_matrix":
        raise DataError(f"{inside} is neither an array nor a sparse matrix", where=path)
    data = element["data"]
    if store == "zarr":
        refuse_lost_chunks(data, path)
    _check_numbers(data.dtype, inside, path)
    shape = tuple(int(length) for length in element.attrs["shape"])
    return MatrixLocation(
        path, store, inside, "csr", (shape[0], shape[1]), str(data.dtype), 1, 0, 0, data.size
    )


def _of_array(path: str, store: Store, inside: str, array: Any) -> MatrixLocation:
    if len(array.shape) != 2:
        raise DataError(f"the matrix must have two axes, not {len(array.shape)}", where=path)
    _check_numbers(array.dtype, inside or "the array", path)
    chunks = getattr(array, "shards", None) or array.chunks or (1, 0)
    return MatrixLocation(
        path=path,
        store=store,
        inside=inside,
        form="dense",
        shape=(int(array.shape[0]), int(array.shape[1])),
        dtype=str(array.dtype),
        rows=min(int(chunks[0]), max(int(array.shape[0]), 1)),
        chunk_bytes=int(chunks[0]) * int(chunks[1]) * array.dtype.itemsize,
        chunks_per_row=-(-int(array.shape[1]) // int(chunks[1])) if chunks[1] else 0,
    )


def _check_numbers(dtype: np.dtype[Any], inside: str, path: str) -> None:
    if dtype.kind not in "fiu":
        raise DataError(f"{inside} holds {dtype}, not numbers", where=path)

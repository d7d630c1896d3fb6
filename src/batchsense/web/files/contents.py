"""What a file holds, looked at before it is read: whether it unfolds to too much or points away.

A few bytes can stand for any number of them (gzip, an array without chunks), HDF5 can name other
files of this machine as its data, and a Zarr codec can be Python's pickle, which runs code.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import math
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from batchsense.errors import DataError, listed
from batchsense.experiments.tables.matrix import suffix_of
from batchsense.web.entrance.guard import TooLargeError

#: A spreadsheet takes some fifty times its size in memory.
_LARGEST_WORKBOOK = 50_000_000
#: Codecs that turn bytes into bytes or numbers, and nothing else.
_CODECS = {
    "adler32",
    "blosc",
    "bytes",
    "bz2",
    "crc32",
    "crc32c",
    "delta",
    "fixedscaleoffset",
    "fletcher32",
    "gzip",
    "lz4",
    "lzma",
    "packbits",
    "sharding_indexed",
    "shuffle",
    "transpose",
    "vlen-array",
    "vlen-bytes",
    "vlen-utf8",
    "zlib",
    "zstd",
}
Found = TypeVar("Found")
_CODEC_KEYS = ("filters", "compressor", "compressors", "codecs", "index_codecs", "object_codec")


def check_contents(path: Path, most: int) -> None:
    """Look at a file before anything reads it; what is damaged is left to the reader to refuse."""
    if path.is_dir():
        for part in path.rglob("*.gz"):
            _check_unfolded(part, most)
        _check_zarr(path, most)
        return
    if path.suffix.lower() in (".gz", ".tgz"):
        _check_unfolded(path, most)
    # The reader is chosen by this suffix, whatever the file is packed in or claims to be.
    kind = suffix_of(path)
    if kind == ".xlsx":
        _check_workbook(path)
    elif kind == ".parquet":
        _check_parquet(path, most)
    elif kind == ".h5ad":
        _check_hdf5(path, most)


def _check_unfolded(path: Path, most: int) -> None:
    """Unfold into nothing and stop where it becomes too much."""
    with contextlib.suppress(OSError, EOFError, zlib.error), gzip.open(path) as packed:
        _count(packed, most, path.name)


def _count(packed: BinaryIO | gzip.GzipFile, most: int, name: str) -> None:
    seen = 0
    while block := packed.read(1 << 20):
        seen += len(block)
        if seen > most:
            raise TooLargeError(name)


def _check_workbook(path: Path) -> None:
    """Add up the parts of a workbook; a reader takes from each no more than it declares."""
    with contextlib.suppress(zipfile.BadZipFile, OSError), zipfile.ZipFile(path) as packed:
        if sum(part.file_size for part in packed.infolist()) > _LARGEST_WORKBOOK:
            raise DataError(
                f"the workbook unfolds to more than {_LARGEST_WORKBOOK // 10**6} MB; save the "
                "worksheet with the specimens as .csv",
                where=path.name,
            )


def _check_parquet(path: Path, most: int) -> None:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import read_metadata
    except ImportError:
        return
    with contextlib.suppress(ArrowException, OSError):
        found = read_metadata(path)
        if found.num_rows * found.num_columns * 8 > most:
            raise TooLargeError(path.name)


def _check_hdf5(path: Path, most: int) -> None:
    try:
        import h5py
    except ImportError:
        return
    try:
        root = h5py.File(path, "r")
    except OSError:
        return
    with root:
        try:
            parts = list(_members(root, set()))
            total = sum(part.size * part.dtype.itemsize for part in parts if part.size)
            away = [part.name for part in parts if part.is_virtual or part.external]
        except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"a damaged .h5ad file: {error}", where=path.name) from None
    if away:
        raise _points_away(away[0], path.name)
    if total > most:
        raise TooLargeError(path.name)


def _members(group: Any, seen: set[tuple[int, int]]) -> Iterator[Any]:
    import h5py

    place = h5py.h5o.get_info(group.id)
    if (place.fileno, place.addr) in seen:
        return
    seen.add((place.fileno, place.addr))
    for name in group:
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            raise _points_away(name, group.file.filename)
        if isinstance(link, h5py.SoftLink):
            continue  # leads to another place in the same file, which is seen there
        part = group[name]
        if isinstance(part, h5py.Group):
            yield from _members(part, seen)
        elif isinstance(part, h5py.Dataset):
            yield part


def _points_away(inside: str, name: str) -> DataError:
    """Refuse a file whose data lie elsewhere."""
    return DataError(
        f"{inside!r} refers to another file; write an .h5ad that holds its own data",
        where=Path(name).name,
    )


def _check_zarr(folder: Path, most: int) -> None:
    """Read the metadata: add up the arrays, and refuse codecs that are not plain ones."""
    sizes, gathered = 0, 0
    for file in folder.rglob("*"):
        if file.name not in (".zarray", ".zmetadata", "zarr.json"):
            continue
        try:
            document = json.loads(file.read_bytes())
        except (ValueError, RecursionError):
            continue  # the reader says what is wrong with it
        if unknown := sorted(set(_codecs(document)) - _CODECS):
            raise DataError(
                f"the store uses the codec {listed(map(repr, unknown))}, which no visitor may send;"
                " write it with Zarr's own codecs",
                where=folder.name,
            )
        # A copy of all metadata at the top would count every array twice.
        copy = document.pop("consolidated_metadata", None) if isinstance(document, dict) else None
        if file.name == ".zmetadata":
            document, copy = None, document
        sizes += _array_bytes(document)
        gathered = max(gathered, _array_bytes(copy))
    if max(sizes, gathered) > most:
        raise TooLargeError(folder.name)


def _walk(document: Any, visit: Callable[[dict[str, Any]], Iterator[Found]]) -> Iterator[Found]:
    if isinstance(document, dict):
        yield from visit(document)
        # What users note beside an array may look like anything.
        noted = "attributes" if isinstance(document.get("zarr_format"), int) else None
        for key, value in document.items():
            if key != noted and not key.endswith(".zattrs"):
                yield from _walk(value, visit)
    elif isinstance(document, list):
        for value in document:
            yield from _walk(value, visit)


def _codecs(document: Any) -> Iterator[str]:
    def visit(found: dict[str, Any]) -> Iterator[str]:
        for key in _CODEC_KEYS:
            named = found.get(key) or []
            for one in named if isinstance(named, list) else [named]:
                name = (one.get("id") or one.get("name")) if isinstance(one, dict) else one
                yield str(name).removeprefix("numcodecs.")

    return _walk(document, visit)


def _array_bytes(document: Any) -> int:

    def visit(found: dict[str, Any]) -> Iterator[int]:
        shape, kind = found.get("shape"), found.get("dtype", found.get("data_type"))
        if isinstance(shape, list) and kind and all(isinstance(n, int) for n in shape):
            yield math.prod(shape) * _item_bytes(kind)

    return sum(_walk(document, visit))


def _item_bytes(kind: Any) -> int:
    """Give the size of one number; eight bytes for what has no fixed size."""
    import numpy as np

    try:
        return max(int(np.dtype(kind).itemsize), 1)
    except (TypeError, ValueError):
        return 8

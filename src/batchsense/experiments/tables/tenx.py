"""Counts as 10x Genomics writes them: a folder with a sparse matrix, its barcodes and features."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
import zlib
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from batchsense.errors import DataError, listed
from batchsense.experiments.tables.delimited.lines import Lines, LongLineError, open_text
from batchsense.experiments.tables.matrix import (
    RawMatrix,
    check_ids,
    dense,
    refuse_unfolding,
    stored,
)

#: The file in a result's folder that says what was done.
PROVENANCE = "batchsense.json"
_BARCODES = ("barcodes.tsv",)
_FEATURES = ("features.tsv", "genes.tsv")


def read(path: str | Path, densify: bool = False) -> RawMatrix:
    """Read a folder with ``matrix.mtx``, ``barcodes.tsv`` and ``features.tsv`` or ``genes.tsv``.

    Each may be gzipped. Features are named by the first column of their file.

    The matrix is features × barcodes; the path may be that of the folder or of the matrix in it.

    Raises
    ------
    DataError
        A file is missing, damaged or of another length than the matrix, ids are empty, or the dense
        matrix would be too large.
    """
    from scipy.io import mminfo, mmread

    folder = folder_of(path)
    matrix = _file(folder, ("matrix.mtx",))
    try:
        *shape, entries, _, _, _ = mminfo(matrix)
        _refuse_claims(matrix, tuple(shape), entries, densify)
        features = _ids(_file(folder, _FEATURES), "feature", shape[0])
        barcodes = _ids(_file(folder, _BARCODES), "barcode", shape[1])
        if tuple(shape) != (len(features), len(barcodes)):
            raise DataError(
                f"{_count(features, shape[0])} features and {_count(barcodes, shape[1])} barcodes "
                f"do not fit a matrix of shape {tuple(shape)}; the three files of a folder must "
                "belong together",
                where=str(matrix),
            )
        sparse = mmread(matrix, spmatrix=False)
    except (OSError, EOFError, ValueError, OverflowError, zlib.error) as error:
        raise DataError(f"not a Matrix Market file, or damaged: {error}", str(matrix)) from None
    values, dtype = dense(sparse, str(matrix), densify)
    return RawMatrix(values, features, barcodes, None, dtype)


def write(
    path: str | Path, original: str | Path, matrix: RawMatrix, provenance: Mapping[str, Any]
) -> None:
    """Write a folder with the result; barcodes and features are those of the original.

    ``provenance`` goes to ``batchsense.json``.
    """
    from scipy.io import mmwrite
    from scipy.sparse import coo_array

    folder, source = Path(path), folder_of(original)
    folder.mkdir()
    for names in (_BARCODES, _FEATURES):
        ids = _file(source, names)
        shutil.copyfile(ids, folder / ids.name)
    target = folder / _file(source, ("matrix.mtx",)).name
    sparse = coo_array(stored(matrix.values, matrix.dtype))
    if target.suffix == ".gz":
        with target.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed:
            mmwrite(packed, sparse, symmetry="general")
    else:
        with target.open("wb") as raw:
            mmwrite(raw, sparse, symmetry="general")
    known = {key: value for key, value in provenance.items() if value not in ([], None)}
    text = json.dumps(known, indent=2, ensure_ascii=False)
    (folder / PROVENANCE).write_text(text + "\n", encoding="utf-8")


def folder_of(path: str | Path) -> Path:
    """The folder itself, or that of a matrix named in it.

    Raises
    ------
    DataError
        There is no such folder or file.
    """
    target = Path(path)
    if not target.exists():
        raise DataError("cannot be read: no such file or folder", where=str(path))
    return target if target.is_dir() else target.parent


def _file(folder: Path, names: tuple[str, ...]) -> Path:
    tried = [name + end for name in names for end in (".gz", "")]
    for name in tried:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"the folder has no {listed(names)} (nor with .gz)", where=str(folder))


def _refuse_claims(matrix: Path, shape: tuple[int, ...], entries: int, densify: bool) -> None:
    """Refuse what a header claims and a file of its size cannot hold: memory would be laid out."""
    # The shortest line of an entry, "1 1", has four bytes; gzip packs at most 1,032 times.
    most = matrix.stat().st_size * (1032 if matrix.suffix == ".gz" else 1) // 2
    if entries > most:
        raise DataError(
            f"damaged: its header speaks of {entries:,} entries, more than the file can hold",
            where=str(matrix),
        )
    refuse_unfolding(shape, str(matrix), densify)


def _count(ids: tuple[str, ...], most: int) -> str:
    return f"more than {most}" if len(ids) > most else str(len(ids))


def _ids(path: Path, kind: str, most: int) -> tuple[str, ...]:
    """The first column of a file, and no more of it than one line too many."""
    try:
        with open_text(path) as stream:
            lines = csv.reader(Lines(stream), delimiter="\t", quoting=csv.QUOTE_NONE)
            ids = tuple(line[0] if line else "" for line in islice(lines, most + 1))
    except LongLineError as error:
        raise DataError(str(error), where=str(path)) from None
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, zlib.error) as error:
        raise DataError(f"cannot be read: {error}", where=str(path)) from None
    check_ids(ids, kind, str(path))
    return ids

"""Files that a visitor sends: taken in as a stream, kept under their own names, counted."""

from __future__ import annotations

import contextlib
import gzip
import shutil
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from batchsense.errors import DataError
from batchsense.experiments.tables.matrix import DELIMITERS, suffix_of
from batchsense.web.guard import TooLargeError

_KINDS = (*DELIMITERS, ".parquet", ".h5ad")
_LONGEST_NAME = 120
#: A compressed file may unfold to so many times the limit; a text of 200 MB packs to 20 or more.
_UNFOLDED = 10


@dataclass(frozen=True, slots=True)
class Upload:
    """A matrix and its sheet, as files of a visitor.

    Attributes
    ----------
    folder : Path
        Holds both, each in a folder of its own, since they may have the same name.
    matrix : Path
        The matrix.
    sheet : Path or None
        The sheet; None for an ``.h5ad`` whose ``obs`` serves.
    size : int
        Bytes of both.
    """

    folder: Path
    matrix: Path
    sheet: Path | None
    size: int

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the files, matrix first."""
        return tuple(path.name for path in (self.matrix, self.sheet) if path is not None)

    def named(self, text: str) -> str:
        """Say in a message the names that the visitor knows instead of our paths."""
        for path in (self.matrix, self.sheet):
            if path is not None:
                text = text.replace(str(path), path.name)
        return text


async def receive_upload(request: Request, parent: Path, limit: int) -> Upload:
    """Take in the files of a form.

    Parameters
    ----------
    request : Request
        With the file parts ``matrix`` and, unless an ``.h5ad`` needs none, ``sheet``.
    parent : Path
        Where their folder is made.
    limit : int
        Bytes that may be sent; ten times as many may come out of compressed files.

    Returns
    -------
    Upload
        The files.

    Raises
    ------
    DataError
        A file is missing, empty or of an unknown kind.
    TooLargeError
        A compressed file unfolds to too much.
    """
    async with request.form(max_files=2, max_fields=4) as form:
        matrix, sheet = _chosen(form, "matrix"), _chosen(form, "sheet")
        if matrix is None:
            raise DataError("no matrix was chosen; choose a file and send the form again")
        name, kind = file_name(matrix.filename), suffix_of(file_name(matrix.filename))
        if kind not in _KINDS:
            known = f"{', '.join(_KINDS)} (text also .gz)"
            raise DataError(f"unknown kind of file {kind!r}; known: {known}", where=name)
        if sheet is None and kind != ".h5ad":
            raise DataError("a sheet is needed: one row per specimen, with its id and its batch")
        if sheet is not None and suffix_of(file_name(sheet.filename)) not in _KINDS[:-1]:
            raise DataError(
                "a sheet is a .csv, .tsv or .txt (each also .gz) or .parquet file",
                where=file_name(sheet.filename),
            )
        return await run_in_threadpool(_keep, parent, matrix, sheet, _UNFOLDED * limit)


def file_name(given: str | None) -> str:
    r"""Give a file name that is safe to use in a folder of ours: no path, nothing unprintable.

    Examples
    --------
    >>> file_name("../../etc/passwd"), file_name("C:\\data\\m.csv"), file_name("..")
    ('passwd', 'm.csv', 'unnamed')
    """
    last = (given or "").replace("\\", "/").rsplit("/", 1)[-1]
    name = "".join(sign for sign in last if sign.isprintable()).lstrip(".").strip()
    while len(name.encode()) > _LONGEST_NAME:
        name = name[1:]
    return name or "unnamed"


def _chosen(form: FormData, field: str) -> UploadFile | None:
    """Give the file of a field; browsers send an empty nameless one where none was chosen."""
    part = form.get(field)
    return part if isinstance(part, UploadFile) and part.filename else None


def _keep(parent: Path, matrix: UploadFile, sheet: UploadFile | None, most: int) -> Upload:
    """Write the files into a new folder; nothing stays if one of them cannot be kept."""
    folder = Path(tempfile.mkdtemp(dir=parent))
    try:
        kept = _written(matrix, folder / "matrix", most)
        beside = None if sheet is None else _written(sheet, folder / "sheet", most)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    size = sum(path.stat().st_size for path in (kept, beside) if path is not None)
    return Upload(folder, kept, beside, size)


def _written(part: UploadFile, folder: Path, most: int) -> Path:
    """Write one file and check that it is not empty and does not unfold without end."""
    folder.mkdir()
    path = folder / file_name(part.filename)
    with path.open("wb") as file:
        shutil.copyfileobj(part.file, file, 1 << 20)
    if path.stat().st_size == 0:
        raise DataError("the file is empty", where=path.name)
    if path.suffix.lower() == ".gz":
        # A damaged file is for the reader to refuse, with its reason.
        with contextlib.suppress(OSError, EOFError, zlib.error), gzip.open(path) as packed:
            _check_unfolded(packed, most)
    return path


def _check_unfolded(packed: BinaryIO | gzip.GzipFile, most: int) -> None:
    """Unfold into nothing and stop where it becomes too much."""
    seen = 0
    while block := packed.read(1 << 20):
        seen += len(block)
        if seen > most:
            raise TooLargeError

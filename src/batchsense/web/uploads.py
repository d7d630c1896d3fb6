"""Files that a visitor sends: taken in as a stream, kept under their own names, counted."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import FormData, UploadFile

from batchsense.errors import DataError
from batchsense.experiments.tables.matrix import DELIMITERS, suffix_of
from batchsense.web.archives import ARCHIVES, unpack
from batchsense.web.contents import check_contents
from batchsense.web.file_names import file_name

#: Kinds of files, in the order in which the forms name them.
MATRIX_KINDS = (*DELIMITERS, ".parquet", ".h5ad", *ARCHIVES)
SHEET_KINDS = (*DELIMITERS, ".xlsx", ".parquet")
#: A file may unfold to so many times the limit; a text of 200 MB packs to 20 or more.
UNFOLDED = 10


@dataclass(frozen=True, slots=True)
class Upload:
    """A matrix and its sheet, or a sheet alone, as files of a visitor.

    Attributes
    ----------
    folder : Path
        Holds both, each in a folder of its own, since they may have the same name.
    matrix : Path or None
        The matrix, a folder where it came as an archive; None where a sheet was sent alone.
    sheet : Path or None
        The sheet; None for a matrix whose ``obs`` serves.
    size : int
        Bytes of both on disk.
    """

    folder: Path
    matrix: Path | None
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

    def known(self, error: DataError) -> DataError:
        """Give an error with the names that the visitor knows."""
        where = None if error.where is None else self.named(error.where)
        return DataError(self.named(error.message), where)


def chosen_files(form: FormData, with_matrix: bool) -> tuple[UploadFile | None, UploadFile | None]:
    """Give the files of a form, after a look at their names.

    Parameters
    ----------
    form : FormData
        With the file parts ``matrix`` and ``sheet``.
    with_matrix : bool
        Whether a matrix is wanted; else a sheet alone.

    Returns
    -------
    matrix, sheet : UploadFile or None
        The files.

    Raises
    ------
    DataError
        A file is missing or of an unknown kind.
    """
    matrix, sheet = _chosen(form, "matrix"), _chosen(form, "sheet")
    if not with_matrix:
        matrix = None
    elif matrix is None:
        raise DataError("no matrix was chosen; choose a file and send the form again")
    kind = ""
    if matrix is not None:
        kind = _kind(matrix)
        if kind not in MATRIX_KINDS:
            known = f"{', '.join(MATRIX_KINDS)} (text and .tar also .gz)"
            where = file_name(matrix.filename)
            raise DataError(f"unknown kind of file {kind!r}; known: {known}", where=where)
    if sheet is None and kind not in (".h5ad", *ARCHIVES):
        raise DataError("a sheet is needed: one row per specimen, with its id and its batch")
    if sheet is not None and _kind(sheet) not in SHEET_KINDS:
        raise DataError(
            f"a sheet is one of {', '.join(SHEET_KINDS)} (text also .gz); save an .xls as .xlsx",
            where=file_name(sheet.filename),
        )
    return matrix, sheet


def keep_files(
    parent: Path, matrix: UploadFile | None, sheet: UploadFile | None, limit: int
) -> Upload:
    """Write files into a new folder; nothing stays if one of them cannot be kept.

    Parameters
    ----------
    parent : Path
        Where their folder is made.
    matrix, sheet : UploadFile or None
        The files.
    limit : int
        Bytes that may be sent; ten times as many may come out of what is compressed.

    Returns
    -------
    Upload
        The files.

    Raises
    ------
    DataError
        A file is empty, an archive holds something else than one store, or a file points outside
        itself.
    TooLargeError
        A file unfolds to too much.
    """
    folder = Path(tempfile.mkdtemp(dir=parent))
    try:
        most = UNFOLDED * limit
        kept = None if matrix is None else _kept(matrix, folder / "matrix", most)
        beside = None if sheet is None else _kept(sheet, folder / "sheet", most)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Upload(folder, kept, beside, size)


def _kind(part: UploadFile) -> str:
    """Give the suffix that tells the format, without .gz where that may stand."""
    name = file_name(part.filename)
    kind = suffix_of(name)
    packed = name.lower().endswith(".gz") and kind not in (*DELIMITERS, ".tar")
    return f"{kind}.gz" if packed else kind


def _chosen(form: FormData, field: str) -> UploadFile | None:
    """Give the file of a field; browsers send an empty nameless one where none was chosen."""
    part = form.get(field)
    return part if isinstance(part, UploadFile) and part.filename else None


def _kept(part: UploadFile, folder: Path, most: int) -> Path:
    """Write one file, unpack it if it is an archive, and look at what it holds."""
    folder.mkdir()
    path = folder / file_name(part.filename)
    with path.open("wb") as file:
        shutil.copyfileobj(part.file, file, 1 << 20)
    if path.stat().st_size == 0:
        raise DataError("the file is empty", where=path.name)
    check_contents(path, most)
    if suffix_of(path) in ARCHIVES:
        path = unpack(path, most)
        check_contents(path, most)
    return path

"""Files that a visitor sends: taken in as a stream, kept under their own names, counted."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.datastructures import FormData, UploadFile

from batchsense.errors import DataError
from batchsense.experiments.tables.matrix import DELIMITERS, suffix_of
from batchsense.web.files.archives import ARCHIVES
from batchsense.web.files.file_names import file_name
from batchsense.web.files.look import Look
from batchsense.web.files.sheet_columns import WIDE_KINDS, SheetOutline

if TYPE_CHECKING:
    from batchsense.web.readers import Readers

#: Kinds of files, in the order in which the forms name them.
MATRIX_KINDS = (*DELIMITERS, ".parquet", ".xlsx", ".h5ad", *ARCHIVES)
SHEET_KINDS = (*DELIMITERS, ".xlsx", ".parquet")
DOCUMENT_KINDS = (".json",)
STEPS_KINDS = (".csv", ".tsv", ".json")
#: A file may unfold to so many times the limit; a text of 200 MB packs to 20 or more.
UNFOLDED = 10
#: A plan has some ten kB, and measured steps a few; JSON takes ten times its size in memory.
_LARGEST_DOCUMENT = 5_000_000


@dataclass(frozen=True, slots=True)
class Upload:
    """Files of a visitor: a matrix, perhaps with its sheet, a sheet, or a plan or measured steps.

    Each has a folder of its own, since they may have the same name; a matrix that came as an
    archive is a folder itself. The size is that of all, in bytes; before archives were unpacked it
    was that which was sent.
    """

    folder: Path
    matrix: Path | None = None
    sheet: Path | None = None
    document: Path | None = None
    size: int = 0
    sent: int = 0
    outline: SheetOutline = field(default_factory=lambda: SheetOutline([]))

    def moved(self, parent: Path) -> Upload:
        """Move the files into the folder of their visitor."""
        target = self.folder.rename(parent / self.folder.name)
        found = {part: getattr(self, part) for part in ("matrix", "sheet", "document")}
        there = {
            part: target / path.relative_to(self.folder)
            for part, path in found.items()
            if path is not None
        }
        return replace(self, folder=target, **there)

    def delete(self) -> None:
        """Delete the files."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def parts(self) -> dict[str, Path]:
        """The files that a table needs, by field."""
        found = {"matrix": self.matrix, "sheet": self.sheet}
        return {part: path for part, path in found.items() if path is not None}

    @property
    def wide(self) -> bool:
        """Whether a text or Parquet file came alone: one table with its sheet in some columns."""
        alone = self.matrix is not None and self.sheet is None
        return alone and suffix_of(str(self.matrix)) in WIDE_KINDS

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files, matrix first."""
        files = (self.matrix, self.sheet, self.document)
        return tuple(path for path in files if path is not None)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the files, matrix first."""
        return tuple(path.name for path in self.paths)


def chosen_files(form: FormData, about: str) -> dict[str, UploadFile]:
    """The files of a form, after a look at their names."""
    alone = {about: (about,) for about in ("sheet", "plan", "steps")}
    wanted = {"table": ("matrix", "sheet"), **alone}[about]
    files = {part: file for part in wanted if (file := _chosen(form, part)) is not None}
    if wanted[0] != "sheet" and wanted[0] not in files:
        raise DataError(f"no {wanted[0]} was chosen; choose a file and send the form again")
    kinds = {part: _kind(file) for part, file in files.items()}
    if (kind := kinds.get("matrix", MATRIX_KINDS[0])) not in MATRIX_KINDS:
        known = f"{', '.join(MATRIX_KINDS)} (text and .tar also .gz)"
        where = file_name(files["matrix"].filename)
        raise DataError(f"unknown kind of file {kind!r}; known: {known}", where=where)
    carries_sheet = kinds.get("matrix") in (".h5ad", *ARCHIVES, *WIDE_KINDS)
    if "sheet" in wanted and "sheet" not in files and not carries_sheet:
        raise DataError("a sheet is needed: one row per specimen, with its id and its batch")
    if "sheet" in kinds and kinds["sheet"] not in SHEET_KINDS:
        raise DataError(
            f"a sheet is one of {', '.join(SHEET_KINDS)} (text also .gz); save an .xls as .xlsx",
            where=file_name(files["sheet"].filename),
        )
    if "plan" in kinds and kinds["plan"] not in DOCUMENT_KINDS:
        raise DataError(
            "a plan is the .json document that `batchsense plan -o FILE` writes",
            where=file_name(files["plan"].filename),
        )
    if "steps" in kinds and kinds["steps"] not in STEPS_KINDS:
        raise DataError(
            f"measured steps are one of {', '.join(STEPS_KINDS)}",
            where=file_name(files["steps"].filename),
        )
    return files


def keep_files(root: Path, files: Mapping[str, UploadFile], readers: Readers) -> Upload:
    """Write files into a new folder and look at them; nothing stays if one cannot be kept."""
    folder = Path(tempfile.mkdtemp(dir=root))
    try:
        kept = {part: _kept(file, folder / part) for part, file in files.items()}
        sent = size_of(folder)
        kept, outline = readers.look(Look(kept, UNFOLDED * readers.limit), sent)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    parts = (kept.get("matrix"), kept.get("sheet"), kept.get("plan", kept.get("steps")))
    return Upload(folder, *parts, size=size_of(folder), sent=sent, outline=outline)


def size_of(folder: Path) -> int:
    """The bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _kind(part: UploadFile) -> str:
    name = file_name(part.filename)
    kind = suffix_of(name)
    packed = name.lower().endswith(".gz") and kind not in (*DELIMITERS, ".tar")
    return f"{kind}.gz" if packed else kind


def _chosen(form: FormData, field: str) -> UploadFile | None:
    part = form.get(field)
    return part if isinstance(part, UploadFile) and part.filename else None


def _kept(part: UploadFile, folder: Path) -> Path:
    folder.mkdir()
    path = folder / file_name(part.filename)
    try:
        with path.open("wb") as file:
            shutil.copyfileobj(part.file, file, 1 << 20)
    except OSError as error:
        raise DataError(f"the file cannot be kept: {error.strerror}", where=path.name) from None
    size = path.stat().st_size
    if size == 0:
        raise DataError("the file is empty", where=path.name)
    if suffix_of(path) in DOCUMENT_KINDS and size > _LARGEST_DOCUMENT:
        raise DataError("no plan is so large; choose the document of one", where=path.name)
    if folder.name == "steps" and size > _LARGEST_DOCUMENT:
        raise DataError("no table of measured steps is so large", where=path.name)
    return path

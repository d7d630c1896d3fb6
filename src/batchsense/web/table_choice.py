"""What a visitor chose for a table: the files, the batch column, and what else is in the model."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from starlette.datastructures import FormData

from batchsense.errors import DataError
from batchsense.web.form_fields import text_field
from batchsense.web.uploads import Upload

if TYPE_CHECKING:
    from batchsense.experiments import Table
    from batchsense.reports.envelope import InputFile

#: The largest seed that a form takes.
LARGEST_SEED = 2**32 - 1
#: Options as they are typed: one word, some, or a flag.
Options = Mapping[str, str | Sequence[str] | bool | None]


@dataclass(frozen=True, slots=True)
class FileChoice:
    """Which files, and which part of them.

    Attributes
    ----------
    upload : Upload or None
        The files; None for the built-in digits.
    id_column : str or None
        The column with the ids; None to find it.
    worksheet : str or None
        The worksheet of a workbook.
    layer : str or None
        The layer of an AnnData file; None for its X.
    """

    upload: Upload | None = None
    id_column: str | None = None
    worksheet: str | None = None
    layer: str | None = None

    @classmethod
    def of(cls, form: FormData, upload: Upload | None) -> FileChoice:
        """Read the form."""
        names = ("id", "worksheet", "layer")
        return cls(upload, *(text_field(form, name) for name in names))

    @property
    def sheet(self) -> str | None:
        """Path of the sheet, with the worksheet."""
        if self.upload is None or self.upload.sheet is None:
            return None
        return f"{self.upload.sheet}{self._worksheet}"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the files as the command line takes them, matrix first."""
        if self.upload is None:
            return ()
        *first, last = self.upload.names
        return (*first, last + self._worksheet)

    @property
    def _worksheet(self) -> str:
        """The worksheet as it follows the name of a workbook; other sheets have none."""
        sheet = None if self.upload is None else self.upload.sheet
        is_workbook = sheet is not None and sheet.suffix.lower() == ".xlsx"
        return f"#{self.worksheet}" if is_workbook and self.worksheet is not None else ""

    def known(self, error: DataError) -> DataError:
        """Give an error with the names that the visitor knows."""
        return error if self.upload is None else self.upload.known(error)

    def inputs(self) -> list[InputFile]:
        """Give the files by content."""
        from batchsense.reports.envelope import InputFile

        if self.upload is None:
            return []
        paths = [str(path) for path in (self.upload.matrix, self.sheet) if path is not None]
        return [
            InputFile.of(path).model_copy(update={"path": name})
            for path, name in zip(paths, self.names, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class TableChoice:
    """The columns of the model, as diagnose, correct and test share them.

    Attributes
    ----------
    files : FileChoice
        The files.
    batch_labels : str or None
        The batch column.
    keep, categorical, numeric : tuple of str
        Columns to keep, and those whose kind is declared.
    """

    files: FileChoice
    batch_labels: str | None = None
    keep: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()

    @classmethod
    def of(cls, form: FormData, upload: Upload | None) -> TableChoice:
        """Read the form.

        Raises
        ------
        DataError
            No batch column was chosen.
        """
        batch_labels = text_field(form, "batch")
        if batch_labels is None:
            raise DataError(NO_BATCH)
        keep = ticked(form, "keep")
        files = FileChoice.of(form, upload)
        return cls(files, batch_labels, keep, *declared_kinds(form, keep))

    @classmethod
    def first(cls, builtin: bool) -> TableChoice:
        """Choose no column yet, or for the built-in digits those of the command line."""
        if not builtin:
            return cls(FileChoice())
        from batchsense.experiments.builtin import BATCH_COLUMN, KEPT_COLUMN

        return cls(FileChoice(), BATCH_COLUMN, (KEPT_COLUMN,))

    def options(self) -> Options:
        """Give the options of the command line."""
        return {
            "batch": self.batch_labels,
            "keep": self.keep,
            "id": self.files.id_column,
            "categorical": self.categorical,
            "numeric": self.numeric,
            "layer": self.files.layer,
        }


#: What is said where no batch column was chosen.
NO_BATCH = "no batch column was chosen; choose the column that names the batch"


def ticked(form: FormData, name: str) -> tuple[str, ...]:
    """Give the values of the boxes that were ticked."""
    return tuple(value for value in form.getlist(name) if isinstance(value, str))


def declared_kinds(form: FormData, names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Give the columns that were declared to be categories, and those declared to be numbers.

    Examples
    --------
    >>> declared_kinds(FormData({"kind:dose": "categorical"}), ["dose", "age"])
    (('dose',), ())
    """
    kinds = {name: form.get(f"kind:{name}") for name in names}
    categorical = tuple(name for name in names if kinds[name] == "categorical")
    return categorical, tuple(name for name in names if kinds[name] == "numeric")


def typed(command: str, names: Sequence[str], options: Options) -> str:
    """Give the words that repeat an answer in a terminal.

    Examples
    --------
    >>> typed("test", ["m.csv"], {"batch": "the month", "contrast": ["a", "b"], "trend": True})
    "batchsense test m.csv --batch 'the month' --contrast a --contrast b --trend"
    """
    words = ["batchsense", command, *names]
    for option, given in options.items():
        if given is True:
            words.append(f"--{option}")
        elif given:
            for value in [given] if isinstance(given, str) else given:
                words += [f"--{option}", value]
    return shlex.join(words)


def load(files: FileChoice) -> tuple[Table, Table]:
    """Read the table of a choice.

    Parameters
    ----------
    files : FileChoice
        What is read.

    Returns
    -------
    table : Table
        With the names that the visitor knows, for everything that is shown.
    stored : Table
        The same with the paths of our copies, for what reads them again.

    Raises
    ------
    DataError
        As :func:`batchsense.experiments.read`, with the names that the visitor knows.
    """
    from batchsense.experiments import digits_table, read

    upload = files.upload
    if upload is None or upload.matrix is None:
        table = digits_table()
        return table, table
    try:
        stored = read(upload.matrix, files.sheet, files.id_column, layer=files.layer)
    except DataError as error:
        raise files.known(error) from None
    source = replace(stored.source, matrix=files.names[0], sheet=files.names[-1])
    return replace(stored, source=source), stored

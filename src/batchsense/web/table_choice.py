"""What a visitor chose for a table: the batch column, what to keep, and the settings."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from starlette.datastructures import FormData

from batchsense.errors import DataError
from batchsense.web.form_fields import text_field, whole_field
from batchsense.web.uploads import Upload

if TYPE_CHECKING:
    from batchsense.experiments import Table
    from batchsense.reports.envelope import InputFile

DEFAULT_PERMUTATIONS = 200
_MOST_PERMUTATIONS = 10_000
_LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True, slots=True)
class TableChoice:
    """The second step of the form.

    Attributes
    ----------
    upload : Upload or None
        The files; None for the built-in digits.
    batch_labels : str
        The batch column.
    keep, categorical, numeric : tuple of str
        Columns to keep, and those among them whose kind is declared.
    id_column : str or None
        The column with the ids; None to find it.
    standardise : bool
        Give every feature the same weight (only for a diagnosis).
    permutations : int
        How often labels are permuted (only for a diagnosis).
    seed : int
        Seed of the permutations.
    """

    upload: Upload | None
    batch_labels: str
    keep: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    id_column: str | None = None
    standardise: bool = False
    permutations: int = DEFAULT_PERMUTATIONS
    seed: int = 0

    @classmethod
    def of(cls, form: FormData, upload: Upload | None) -> TableChoice:
        """Read the form.

        Raises
        ------
        DataError
            No batch column was chosen, or a number is none.
        """
        batch_labels = text_field(form, "batch")
        if batch_labels is None:
            raise DataError("no batch column was chosen; choose the column that names the batch")
        keep = tuple(name for name in form.getlist("keep") if isinstance(name, str))
        kinds = {name: form.get(f"kind:{name}") for name in keep}
        permutations = whole_field(form, "permutations", "Permutations", 20, _MOST_PERMUTATIONS)
        return cls(
            upload=upload,
            batch_labels=batch_labels,
            keep=keep,
            categorical=tuple(name for name in keep if kinds[name] == "categorical"),
            numeric=tuple(name for name in keep if kinds[name] == "numeric"),
            id_column=text_field(form, "id"),
            standardise=text_field(form, "standardise") is not None,
            permutations=permutations or DEFAULT_PERMUTATIONS,
            seed=whole_field(form, "seed", "Seed", 0, _LARGEST_SEED) or 0,
        )

    def kind(self, name: str) -> str:
        """Give the declared kind of a kept column."""
        return (
            "categorical" if name in self.categorical else "numeric" if name in self.numeric else ""
        )

    def command_line(self, command: str, *more: str) -> str:
        """Give the words that repeat the answer in a terminal.

        Examples
        --------
        >>> TableChoice(None, "form", ("digit",)).command_line("diagnose", "--seed", "0")
        'batchsense diagnose --batch form --keep digit --seed 0'
        """
        words = ["batchsense", command, *(() if self.upload is None else self.upload.names)]
        words += ["--batch", self.batch_labels]
        options = (("--keep", self.keep), ("--id", filter(None, [self.id_column])))
        kinds = (("--categorical", self.categorical), ("--numeric", self.numeric))
        for option, values in (*options, *kinds):
            for value in values:
                words += [option, value]
        return shlex.join([*words, *more])


def load(choice: TableChoice) -> tuple[Table, Table, list[InputFile]]:
    """Read the table of a choice.

    Parameters
    ----------
    choice : TableChoice
        Whose files are read.

    Returns
    -------
    table : Table
        With the names that the visitor knows, for everything that is shown.
    stored : Table
        The same with the paths of our copies, for what reads them again.
    inputs : list of InputFile
        The files by content.

    Raises
    ------
    DataError
        As :func:`batchsense.experiments.read`, with the names that the visitor knows.
    """
    from batchsense.experiments import digits_table, read
    from batchsense.reports.envelope import InputFile

    upload = choice.upload
    if upload is None:
        table = digits_table()
        return table, table, []
    try:
        stored = read(upload.matrix, upload.sheet, choice.id_column)
    except DataError as error:
        raise DataError(upload.named(str(error))) from None
    inputs = [
        InputFile.of(path).model_copy(update={"path": path.name})
        for path in (upload.matrix, upload.sheet)
        if path is not None
    ]
    source = replace(stored.source, matrix=upload.names[0], sheet=upload.names[-1])
    return replace(stored, source=source), stored, inputs

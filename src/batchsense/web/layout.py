"""The page of ``batchsense layout``: who goes into which batch, as a sheet to download."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.datastructures import FormData

from batchsense.errors import ConfoundedError, DataError, UnresolvedError
from batchsense.experiments.tables.matrix import DELIMITERS, suffix_of
from batchsense.progress import Progress
from batchsense.web.form_fields import text_field, whole_field
from batchsense.web.jobs import Answer, Work, refused
from batchsense.web.table_choice import (
    LARGEST_SEED,
    FileChoice,
    declared_kinds,
    ticked,
    typed,
)
from batchsense.web.table_pages import TablePage, table_routes
from batchsense.web.uploads import Upload

if TYPE_CHECKING:
    from batchsense.experiments import Table

DEFAULT_COLUMN = "batch"
_MOST_BATCHES = 10_000


@dataclass(frozen=True, slots=True)
class LayoutChoice:
    """What the form asks for; the names are those of the options."""

    files: FileChoice
    batch_count: int | None = None
    balance: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    together: str | None = None
    apart: tuple[str, ...] = ()
    lock: str | None = None
    capacity: str | None = None
    references: int = 0
    plate: str | None = None
    empty_wells: str | None = None
    lock_wells: str | None = None
    column: str = DEFAULT_COLUMN
    seed: int = 0

    @classmethod
    def of(cls, form: FormData, upload: Upload | None) -> LayoutChoice:
        """Read the form.

        Raises
        ------
        DataError
            Nothing is to be balanced, or a number is missing or none.
        """
        batch_count = whole_field(form, "batches", "Number of batches", 2, _MOST_BATCHES)
        if batch_count is None:
            raise DataError("say how many batches there are", where="Number of batches")
        balance = ticked(form, "balance")
        if not balance:
            raise DataError("nothing is to be balanced; choose a column at least")
        categorical, numeric = declared_kinds(form, balance)
        return cls(
            files=FileChoice.of(form, upload),
            batch_count=batch_count,
            balance=balance,
            categorical=categorical,
            numeric=numeric,
            together=text_field(form, "together"),
            apart=ticked(form, "apart"),
            lock=text_field(form, "lock"),
            capacity=text_field(form, "capacity"),
            references=whole_field(form, "references", "References", 0, _MOST_BATCHES) or 0,
            plate=text_field(form, "plate"),
            empty_wells=text_field(form, "empty_wells"),
            lock_wells=text_field(form, "lock_wells"),
            column=text_field(form, "column") or DEFAULT_COLUMN,
            seed=whole_field(form, "seed", "Seed", 0, LARGEST_SEED) or 0,
        )

    @property
    def columns(self) -> LayoutChoice:
        """Where the kinds of the columns are declared."""
        return self

    @property
    def settings(self) -> bool:
        """Whether any of the further settings was used."""
        return self.column != DEFAULT_COLUMN or bool(self.lock or self.lock_wells or self.seed)

    @property
    def wells(self) -> list[int] | None:
        """Places of every batch, or of each."""
        from batchsense.experiments.layout.wells import parse_capacities

        try:
            return None if self.capacity is None else parse_capacities(self.capacity)
        except DataError as error:
            raise DataError(error.message, where="Places in a batch") from None

    @property
    def plate_size(self) -> tuple[int, int] | None:
        """Rows and columns of a plate."""
        from batchsense.experiments.layout.wells import parse_plate

        try:
            return None if self.plate is None else parse_plate(self.plate)
        except DataError as error:
            raise DataError(error.message, where="Plate") from None

    def command_line(self, output: str) -> str:
        """Give the words that repeat the layout in a terminal."""
        options = {
            "batches": str(self.batch_count),
            "balance": self.balance,
            "capacity": self.capacity,
            "together": self.together,
            "apart": self.apart,
            "reference-specimens": str(self.references) if self.references else None,
            "lock": self.lock,
            "plate": self.plate,
            "empty-wells": self.empty_wells,
            "lock-wells": self.lock_wells,
            "column": self.column,
            "id": self.files.id_column,
            "categorical": self.categorical,
            "numeric": self.numeric,
            "seed": str(self.seed),
            "output": output,
        }
        return typed("layout", self.files.names, options)


def work_on(choice: LayoutChoice) -> Work:
    """Make the calculation of a choice; the sheet goes to the folder."""

    def work(progress: Progress, folder: Path) -> Answer:
        from batchsense.experiments import plan_layout
        from batchsense.experiments.layout.sheet import write_sheet
        from batchsense.questions.layout.report import layout_report
        from batchsense.questions.layout.result import LayoutResult
        from batchsense.questions.shares import published
        from batchsense.reports.envelope import Envelope

        progress("reading the sheet", 0, 1)
        table = _table(choice)
        inputs = choice.files.inputs()
        try:
            found = plan_layout(
                table,
                choice.batch_count or 0,
                choice.balance,
                capacities=choice.wells,
                together=choice.together,
                apart=choice.apart,
                reference_specimens=choice.references,
                lock=choice.lock,
                plate=choice.plate_size,
                empty_wells=choice.empty_wells,
                lock_wells=choice.lock_wells,
                categorical=choice.categorical,
                numeric=choice.numeric,
                column=choice.column,
                seed=choice.seed,
                progress=progress,
            )
        except (ConfoundedError, UnresolvedError) as error:
            return refused("layout", error, choice.seed, inputs)
        name = output_name(choice.files.upload)
        envelope = Envelope[LayoutResult](
            command="layout",
            inputs=inputs,
            seed=choice.seed,
            result=LayoutResult.of(found, name),
            notes=published(found.notes),
        )
        write_sheet(found.sheet(), folder / name)
        progress("drawing the report", 0, 1)
        report = layout_report(envelope, found, choice.command_line(name))
        return Answer(envelope.to_json(), report, file=folder / name)

    return work


def _table(choice: LayoutChoice) -> Table:
    """Read the sheet, with the names that the visitor knows."""
    from batchsense.experiments.layout.sheet import sheet_table

    assert choice.files.sheet is not None
    try:
        table = sheet_table(choice.files.sheet, choice.files.id_column)
    except DataError as error:
        raise choice.files.known(error) from None
    name = choice.files.names[-1]
    return replace(table, source=replace(table.source, matrix=name, sheet=name))


def output_name(upload: Upload | None) -> str:
    """Name the sheet with the layout after the one that was sent, as text.

    Examples
    --------
    >>> output_name(Upload(Path("."), None, Path("plates.xlsx"), 0))
    'plates-layout.csv'
    """
    sheet = Path("sheet.csv") if upload is None or upload.sheet is None else upload.sheet
    ending = suffix_of(sheet)
    plain = sheet.with_suffix("") if sheet.suffix.lower() == ".gz" else sheet
    return f"{plain.stem}-layout{ending if ending in DELIMITERS else '.csv'}"


ROUTES = table_routes(
    TablePage(
        "layout", LayoutChoice.of, lambda _: LayoutChoice(FileChoice()), work_on, takes="sheet"
    )
)

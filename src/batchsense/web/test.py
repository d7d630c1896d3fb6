"""The page of ``batchsense test``: what differs between conditions, with the batches in the model.

The choice of a column is its role: tested, only in the model, or in the place of the batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import FormData

from batchsense.errors import ConfoundedError, DataError, UnresolvedError
from batchsense.progress import Progress
from batchsense.web.form_fields import number_field, text_field
from batchsense.web.jobs import Answer, Work, refused
from batchsense.web.table_choice import (
    NO_BATCH,
    FileChoice,
    TableChoice,
    declared_kinds,
    load,
    typed,
)
from batchsense.web.table_pages import TablePage, table_routes
from batchsense.web.uploads import Upload

#: What a column may be, with what the form says.
ROLES = {
    "": "not in the model",
    "contrast": "test it",
    "keep": "in the model, not tested",
    "surrogate": "in the place of the batches",
}
#: What is compared in the built-in digits, as on the command line.
BUILT_IN = "digit:8-3"
DEFAULT_LEVEL = 0.95
_MOST_PAIRS = 100


@dataclass(frozen=True, slots=True)
class ContrastChoice:
    """What the form asks for; the names are those of the options."""

    columns: TableChoice
    tested: tuple[str, ...] = ()
    pairs: tuple[str, ...] = ()
    surrogates: tuple[str, ...] = ()
    ordinary: bool = False
    trend: bool = False
    robust: bool = False
    level: float = DEFAULT_LEVEL
    corrected: bool = False

    @classmethod
    def of(cls, form: FormData, upload: Upload | None) -> ContrastChoice:
        """Read the form.

        Raises
        ------
        DataError
            Nothing is to be tested, or a number is none.
        """
        named = {
            name.removeprefix("role:"): role
            for name, role in form.multi_items()
            if name.startswith("role:") and role in ROLES
        }
        keep, tested, surrogates = (
            tuple(name for name, role in named.items() if role == wanted)
            for wanted in ("keep", "contrast", "surrogate")
        )
        lines = str(form.get("pairs") or "").splitlines()
        pairs = tuple(line.strip() for line in lines if line.strip())
        if not tested and not pairs:
            raise DataError(
                "nothing is to be tested; choose “test it” for a column, or name two levels as "
                "COLUMN:LEVEL-LEVEL"
            )
        if len(pairs) > _MOST_PAIRS:
            raise DataError(f"more than {_MOST_PAIRS} lines", where="Two levels of a column")
        compared = tuple(dict.fromkeys(pair.split(":", 1)[0] for pair in pairs))
        columns = TableChoice(
            FileChoice.of(form, upload),
            text_field(form, "batch"),
            keep,
            *declared_kinds(form, (*tested, *compared, *keep)),
        )
        level = number_field(form, "level", "Confidence level", 0.4999, 0.9999)
        flags = ("ordinary", "trend", "robust", "corrected")
        ticked = {name: text_field(form, name) is not None for name in flags}
        return cls(columns, tested, pairs, surrogates, level=level or DEFAULT_LEVEL, **ticked)

    @property
    def files(self) -> FileChoice:
        """The files."""
        return self.columns.files

    @property
    def roles(self) -> dict[str, str]:
        """What a column may be, with what the form says."""
        return ROLES

    @property
    def settings(self) -> bool:
        """Whether anything but the columns was chosen."""
        flags = self.ordinary or self.trend or self.robust or self.corrected
        return flags or self.level != DEFAULT_LEVEL

    def role(self, name: str) -> str:
        """Give the role of a column."""
        groups = {
            "contrast": self.tested,
            "keep": self.columns.keep,
            "surrogate": self.surrogates,
        }
        return next((role for role, names in groups.items() if name in names), "")


def first_choice(builtin: bool) -> ContrastChoice:
    """Give what the form shows at first: nothing chosen, or the comparison of the digits."""
    if not builtin:
        return ContrastChoice(TableChoice(FileChoice()))
    from batchsense.experiments.builtin import BATCH_COLUMN

    return ContrastChoice(TableChoice(FileChoice(), BATCH_COLUMN), pairs=(BUILT_IN,))


def work_on(choice: ContrastChoice) -> Work:
    """Make the calculation of a choice; the table of all features goes to the folder."""

    def work(progress: Progress, folder: Path) -> Answer:
        from batchsense.experiments import test as test_contrasts
        from batchsense.experiments.testing.recorded import recorded_test
        from batchsense.questions.shares import published
        from batchsense.questions.test.report import contrast_report
        from batchsense.questions.test.result import ContrastTestsResult
        from batchsense.questions.test.table import write_table
        from batchsense.reports.envelope import Envelope

        progress("reading the files", 0, 1)
        columns = choice.columns
        table, stored = load(choice.files)
        inputs = choice.files.inputs()
        try:
            recorded = recorded_test(
                stored, columns.batch_labels, columns.keep or None, choice.corrected
            )
        except DataError as error:
            raise choice.files.known(error) from None
        batch_labels, keep = recorded.batch_labels, recorded.keep or ()
        if batch_labels is None and not choice.surrogates:
            raise DataError(NO_BATCH)
        contrasts = [*choice.tested, *choice.pairs]
        progress("testing", 0, 1)
        try:
            found = test_contrasts(
                table,
                contrasts,
                batch_labels,
                keep,
                surrogates=choice.surrogates,
                categorical=columns.categorical,
                numeric=columns.numeric,
                shrink=not choice.ordinary,
                trend=choice.trend,
                robust=choice.robust,
                level=choice.level,
                corrected_by=recorded.corrected_by,
                progress=progress,
            )
        except (ConfoundedError, UnresolvedError) as error:
            return refused("test", error, 0, inputs)
        name = output_name(choice.files.names)
        envelope = Envelope[ContrastTestsResult](
            command="test",
            inputs=inputs,
            seed=0,
            result=ContrastTestsResult.of(
                found, table.orientation, not choice.ordinary, choice.trend, choice.robust, name
            ),
            notes=published((*table.notes, *recorded.notes, *found.notes)),
        )
        write_table(found, str(folder / name))
        progress("drawing the report", 0, 1)
        options = {
            **columns.options(),
            "batch": batch_labels,
            "keep": keep,
            "contrast": contrasts,
            "surrogate": choice.surrogates,
            "ordinary": choice.ordinary,
            "trend": choice.trend,
            "robust": choice.robust,
            "level": None if choice.level == DEFAULT_LEVEL else f"{choice.level:g}",
            "corrected": choice.corrected,
            "output": name,
        }
        words = typed("test", choice.files.names, options)
        report = contrast_report(envelope, found, words)
        return Answer(envelope.to_json(), report, file=folder / name)

    return work


def output_name(names: tuple[str, ...]) -> str:
    """Name the table of all features after the matrix.

    Examples
    --------
    >>> output_name(("cells.tsv.gz", "s.csv")), output_name(())
    ('cells-tests.csv', 'digits-tests.csv')
    """
    name = names[0] if names else "digits"
    plain = Path(name).with_suffix("") if name.lower().endswith(".gz") else Path(name)
    known = plain.suffix.lower() in (".csv", ".tsv", ".txt", ".parquet", ".h5ad", ".zarr")
    return f"{plain.stem if known else plain.name}-tests.csv"


ROUTES = table_routes(TablePage("test", ContrastChoice.of, first_choice, work_on))

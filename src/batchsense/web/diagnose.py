"""The page of ``batchsense diagnose``: what varies with the batches, and one verdict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import FormData

from batchsense.errors import ConfoundedError, UnresolvedError
from batchsense.progress import Progress
from batchsense.web.form_fields import text_field, whole_field
from batchsense.web.jobs import Answer, Work, refused
from batchsense.web.table_choice import LARGEST_SEED, FileChoice, TableChoice, load, typed
from batchsense.web.table_pages import TablePage, table_routes
from batchsense.web.uploads import Upload

DEFAULT_PERMUTATIONS = 200
_MOST_PERMUTATIONS = 10_000


@dataclass(frozen=True, slots=True)
class DiagnoseChoice:
    """What the form asks for; the names are those of the options."""

    columns: TableChoice
    standardise: bool = False
    permutations: int = DEFAULT_PERMUTATIONS
    placebo: bool = True
    seed: int = 0

    @classmethod
    def of(cls, form: FormData, upload: Upload | None) -> DiagnoseChoice:
        """Read the form.

        Raises
        ------
        DataError
            No batch column was chosen, or a number is none.
        """
        permutations = whole_field(form, "permutations", "Permutations", 20, _MOST_PERMUTATIONS)
        return cls(
            columns=TableChoice.of(form, upload),
            standardise=text_field(form, "standardise") is not None,
            permutations=permutations or DEFAULT_PERMUTATIONS,
            placebo=text_field(form, "no-placebo") is None,
            seed=whole_field(form, "seed", "Seed", 0, LARGEST_SEED) or 0,
        )

    @property
    def files(self) -> FileChoice:
        """The files."""
        return self.columns.files

    @property
    def settings(self) -> bool:
        """Whether anything but the columns was chosen."""
        changed = self.permutations != DEFAULT_PERMUTATIONS
        return self.standardise or bool(self.seed) or not self.placebo or changed


def work_on(choice: DiagnoseChoice) -> Work:
    """Make the calculation of a choice: the same as on the command line, number by number."""

    def work(progress: Progress, _: Path) -> Answer:
        from batchsense.experiments import diagnose, placebos
        from batchsense.questions.diagnose.report import diagnose_report
        from batchsense.questions.diagnose.result import DiagnoseResult
        from batchsense.questions.shares import published
        from batchsense.reports.envelope import Envelope

        progress("reading the files", 0, 1)
        columns = choice.columns
        table, _stored = load(choice.files)
        inputs = choice.files.inputs()
        try:
            found = diagnose(
                table,
                columns.batch_labels or "",
                columns.keep,
                categorical=columns.categorical,
                numeric=columns.numeric,
                standardise=choice.standardise,
                permutations=choice.permutations,
                seed=choice.seed,
                progress=progress,
            )
        except (ConfoundedError, UnresolvedError) as error:
            return refused("diagnose", error, choice.seed, inputs)
        noise = (
            placebos(table, found, seed=choice.seed, progress=progress) if choice.placebo else None
        )
        envelope = Envelope[DiagnoseResult](
            command="diagnose",
            inputs=inputs,
            seed=choice.seed,
            result=DiagnoseResult.of(found, table.orientation, choice.standardise, noise),
            notes=published(found.notes),
        )
        progress("drawing the report", 0, 1)
        options = {
            **columns.options(),
            "standardise": choice.standardise,
            "permutations": str(choice.permutations),
            "seed": str(choice.seed),
            "no-placebo": not choice.placebo,
        }
        words = typed("diagnose", choice.files.names, options)
        return Answer(envelope.to_json(), diagnose_report(envelope, found, table, words))

    return work


ROUTES = table_routes(
    TablePage(
        "diagnose",
        DiagnoseChoice.of,
        lambda builtin: DiagnoseChoice(TableChoice.first(builtin)),
        work_on,
    )
)

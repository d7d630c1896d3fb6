"""The page of ``batchsense correct``: the corrected matrix to download, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import FormData

from batchsense.errors import ConfoundedError, DataError, UnresolvedError
from batchsense.experiments.tables.matrix import suffix_of
from batchsense.progress import Progress
from batchsense.questions.correct.choice import CorrectionChoice, Method
from batchsense.web.archives import pack
from batchsense.web.form_fields import text_field
from batchsense.web.jobs import Answer, Work, refused
from batchsense.web.table_choice import FileChoice, TableChoice, load, typed
from batchsense.web.table_pages import TablePage, table_routes
from batchsense.web.uploads import Upload

#: The methods, as the form describes them.
METHODS = {
    Method.linear: ("Linear", "Shifts every batch, each feature on its own."),
    Method.combat: (
        "ComBat",
        "Shifts and rescales every batch, and learns from all features together how much.",
    ),
    Method.combat_seq: ("ComBat-seq", "Remodels counts: whole numbers stay whole, zeros zero."),
}


@dataclass(frozen=True, slots=True)
class CorrectChoice:
    """What the form asks for."""

    columns: TableChoice
    correction: CorrectionChoice

    @classmethod
    def of(cls, form: FormData, upload: Upload | None) -> CorrectChoice:
        """Read the form.

        Raises
        ------
        DataError
            No batch column was chosen, an unknown method, or options of another one.
        """
        method = text_field(form, "method") or Method.linear.value
        if method not in list(Method):
            raise DataError(f"{method[:40]!r} is none of {', '.join(Method)}", where="Method")
        correction = CorrectionChoice(
            Method(method),
            reference=text_field(form, "reference"),
            mean_only=text_field(form, "mean_only") is not None,
            non_parametric=text_field(form, "non_parametric") is not None,
            despite_confounding=text_field(form, "despite_confounding") is not None,
        )
        if misplaced := correction.misplaced():
            raise DataError(f"{misplaced}; choose ComBat, or leave them out", where="Method")
        return cls(TableChoice.of(form, upload), correction)

    @property
    def files(self) -> FileChoice:
        """The files."""
        return self.columns.files

    @property
    def methods(self) -> dict[Method, tuple[str, str]]:
        """What can be chosen, with name and description."""
        return METHODS


def work_on(choice: CorrectChoice) -> Work:
    """Make the calculation of a choice; the matrix goes to the folder."""

    def work(progress: Progress, folder: Path) -> Answer:
        from batchsense.experiments import write
        from batchsense.questions.correct.report import correct_report
        from batchsense.questions.correct.result import CorrectResult, provenance
        from batchsense.questions.shares import published
        from batchsense.reports.envelope import Envelope

        progress("reading the files", 0, 1)
        columns, correction = choice.columns, choice.correction
        table, stored = load(choice.files)
        inputs = choice.files.inputs()
        try:
            corrected = correction.corrected(
                table,
                columns.batch_labels or "",
                columns.keep,
                columns.categorical,
                columns.numeric,
                progress,
            )
        except (ConfoundedError, UnresolvedError) as error:
            return refused("correct", error, 0, inputs)
        upload = choice.files.upload
        name = output_name(None if upload is None else upload.matrix)
        envelope = Envelope[CorrectResult](
            command="correct",
            inputs=inputs,
            seed=0,
            result=CorrectResult.of(corrected, name),
            notes=published(correction.notes(table.notes)),
        )
        progress("writing the corrected matrix", 0, 1)
        target = folder / name
        done = provenance(corrected, envelope, correction.words())
        try:
            write(stored, corrected.values, target, done)
        except DataError as error:
            raise DataError(error.message, where=name) from None
        if target.is_dir():
            progress("packing the corrected matrix", 0, 1)
            target = pack(target)
        progress("drawing the report", 0, 1)
        options = {**columns.options(), "output": name, **correction.words()}
        words = typed("correct", choice.files.names, options)
        return Answer(envelope.to_json(), correct_report(envelope, corrected, words), file=target)

    return work


def output_name(matrix: Path | None) -> str:
    """Name the corrected matrix after the one that was sent, in the same format.

    Examples
    --------
    >>> output_name(Path("cells.tsv.gz")), output_name(None)
    ('cells-corrected.tsv.gz', 'digits-corrected.csv')
    """
    name = Path("digits.csv") if matrix is None else matrix
    if suffix_of(name) == ".mtx":  # a folder, whose name has no ending
        return f"{name.name}-corrected"
    endings = name.suffixes[-2:] if name.suffix.lower() == ".gz" else name.suffixes[-1:]
    ending = "".join(endings)
    return f"{name.name.removesuffix(ending)}-corrected{ending}"


ROUTES = table_routes(
    TablePage(
        "correct",
        CorrectChoice.of,
        lambda builtin: CorrectChoice(TableChoice.first(builtin), CorrectionChoice(Method.linear)),
        work_on,
    )
)

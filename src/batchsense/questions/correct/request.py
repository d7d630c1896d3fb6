"""What ``batchsense correct`` is asked, and how it is answered."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from typing_extensions import override

from batchsense.progress import Progress, silent
from batchsense.questions.answer import Answer, Product
from batchsense.questions.beyond_memory import BeyondMemory
from batchsense.questions.correct.choice import CorrectionChoice, Method, takes_fewer
from batchsense.questions.correct.result import CorrectResult
from batchsense.questions.option import Option
from batchsense.questions.table_request import ModelRequest, ValuesAre, beside, complete

if TYPE_CHECKING:
    from batchsense.experiments import Corrected
    from batchsense.questions.correct.out_of_core import OnDisk

#: What lies in the file of a fitted correction, and so must not be asked for beside it.
_LEARNED = (
    *("batch_labels", "keep", "method", "reference", "mean_only", "combine", "non_parametric"),
    *("no_shrinkage", "despite_confounding", "drop_incomplete", "categorical", "numeric"),
)


class CorrectRequest(BeyondMemory, ModelRequest):
    """Remove what the batches add, keep the wanted columns, and write the matrix to FILE.

    Three methods: linear (limma's removeBatchEffect) shifts every batch, combat (Johnson 2007) also
    rescales it and learns from all features together, combat-seq remodels counts. Refuses (exit
    code 1, nothing written) if a kept column cannot be told from the batches, unless told to go on
    --despite-confounding. Ids, order, orientation and precision stay those of MATRIX; an .h5ad or
    .zarr gets a layer "batchsense" beside its X, and is corrected out of core where memory does not
    suffice. Without MATRIX and SHEET it corrects the built-in digits.

    \b
    Examples:
      batchsense correct -o corrected.csv
      batchsense correct matrix.tsv.gz sheet.csv --batch month --keep drug -o corrected.tsv.gz
      batchsense correct m.csv s.csv --batch month --keep drug --method combat -o c.csv
      batchsense correct cells.h5ad --batch lane --keep treatment -o corrected.h5ad --json
      batchsense correct cells.h5ad --layer counts --batch lane --method combat-seq -o c.h5ad
      batchsense correct big.zarr --batch lane --out-of-core --memory 500MB -o corrected.zarr
      batchsense correct new.csv new-sheet.csv --fitted months.npz --new-batches -o new-c.csv
    """

    command: ClassVar[str] = "correct"

    output: Annotated[
        str,
        Option(
            "Where the corrected matrix goes, in the layout of MATRIX; - for stdout.",
            short="-o",
            metavar="FILE",
            of="output",
        ),
    ]
    method: Annotated[
        Method | None,
        Option(
            "How to correct: shift (linear, by default); shift and rescale; or remodel counts.",
            front=True,
            choices={
                "linear": "shifts every batch, each feature on its own",
                "combat": "shifts and rescales every batch, learning how much from all features",
                "combat-seq": "remodels counts: whole numbers stay whole, zeros zero",
            },
        ),
    ] = None
    reference: Annotated[
        str | None,
        Option(
            "combat: the batch that stays as it is; the others are brought to it.",
            metavar="LEVEL",
            label="Reference batch",
        ),
    ] = None
    mean_only: Annotated[bool, Option("combat: shift the batches, do not rescale them.")] = False
    combine: Annotated[bool, Option("combat: combinations of --batch columns are batches.")] = False
    non_parametric: Annotated[
        bool, Option("combat: no assumed shape of the batch effects; slower.")
    ] = False
    no_shrinkage: Annotated[
        bool,
        Option("combat: each feature by its own estimates, as for a single feature."),
    ] = False
    despite_confounding: Annotated[
        bool,
        Option("Go on where a kept column cannot be told from the batches, and lose it."),
    ] = False
    save_fitted: Annotated[
        str | None,
        Option(
            "Also keep what was learned, for specimens that come later.",
            metavar="FILE.npz",
            of="output",
        ),
    ] = None
    fitted: Annotated[
        str | None,
        Option(
            "Learn nothing: correct MATRIX by what --save-fitted kept.",
            metavar="FILE.npz",
            of="document",
        ),
    ] = None
    new_batches: Annotated[
        bool,
        Option(
            "--fitted: estimate batches that were not fitted from MATRIX; else they are refused.",
            of="machine",
        ),
    ] = False

    @override
    def own_fault(self) -> str | None:
        faults = (
            self.choice.misplaced(),
            self._fault_of_values(),
            self._fault_of_reuse(),
            self._fault_of_stdout(),
        )
        return next(filter(None, faults), None)

    @property
    def choice(self) -> CorrectionChoice:
        """The correction with its options."""
        return CorrectionChoice(
            self.method or Method.linear,
            self.reference,
            self.mean_only,
            self.non_parametric,
            self.despite_confounding,
            not self.no_shrinkage,
            self.combine,
        )

    @override
    def offered_output(self) -> str:
        from batchsense.experiments.tables.matrix import suffix_of
        from batchsense.storage.outputs import file_of

        name = self.name_of(self.matrix) if self.matrix else "digits.csv"
        is_folder = self.matrix is not None and suffix_of(self.matrix) == ".mtx"
        is_workbook = file_of(name).suffix.lower() == ".xlsx"
        return (
            f"{name}-corrected"
            if is_folder
            else beside(name, "corrected", ".csv" if is_workbook else None)
        )

    def recorded(self) -> dict[str, str | bool | None]:
        """The options that the result itself keeps, by their long names."""
        if self.fitted is not None:
            return {"fitted": self.name_of(self.fitted), "new-batches": self.new_batches}
        return {
            "method": self.choice.method.value,
            "reference": self.reference,
            "mean-only": self.mean_only,
            "combine": self.combine,
            "non-parametric": self.non_parametric,
            "no-shrinkage": self.no_shrinkage,
            "despite-confounding": self.despite_confounding,
        }

    def _fault_of_values(self) -> str | None:
        if self.method is not Method.combat_seq or self.values in (None, ValuesAre.counts):
            return None
        return f"--values {self.values} contradicts --method combat-seq, which is for counts"

    def _fault_of_reuse(self) -> str | None:
        if self.despite_confounding and len(self.batch_labels or ()) > 1:
            return "--despite-confounding takes one --batch; keep what can be told from several"
        if self.drop_incomplete and self.matrix and not takes_fewer(self.matrix):
            return f"--drop-incomplete needs text or Parquet; convert {self.matrix} to it"
        if self.new_batches and self.fitted is None:
            return "--new-batches belongs to --fitted; a fit learns all batches of MATRIX"
        if (self.goes_out_of_core or self.memory) and (self.save_fitted or self.fitted):
            name = "--fitted" if self.fitted else "--save-fitted"
            return f"{name} works in memory, not out of core"
        if self.save_fitted is not None and Path(self.save_fitted).suffix != ".npz":
            return f"--save-fitted {self.save_fitted}: name it FILE.npz"
        if self.fitted is None:
            return None
        defaults = type(self).model_fields
        given = [name for name in _LEARNED if getattr(self, name) != defaults[name].default]
        names = ["--" + name.replace("batch_labels", "batch").replace("_", "-") for name in given]
        if not names:
            return None
        return (
            f"{', '.join(names)} and --fitted contradict each other: {self.fitted} says what was "
            "fitted, and how"
        )

    @override
    def in_pieces(self) -> str | None:
        if self.method is Method.combat_seq:
            return "suits --method linear and combat; combat-seq needs all counts in memory"
        if len(self.batch_labels or ()) > 1:
            return "takes one --batch; several are removed in memory"
        if self.output == "-" and self._fault_of_stdout() is None:
            return "writes a file or store, not to stdout; name one"
        return None

    def _fault_of_stdout(self) -> str | None:
        if self.output == "-" and self.matrix is not None:
            from batchsense.experiments.tables.matrix import DELIMITERS, suffix_of

            if suffix_of(self.matrix) not in DELIMITERS:
                return "-o - prints text; name a file for this kind of MATRIX"
        return None


def ask(request: CorrectRequest, progress: Progress = silent) -> Answer[CorrectResult]:
    """Correct the matrix, in memory or out of core."""
    from batchsense.experiments.builtin import DIGITS
    from batchsense.experiments.correction.two_passes.pass_runner import correcting_once
    from batchsense.experiments.tables.writing import check_format
    from batchsense.questions.correct.out_of_core import correct_on_disk
    from batchsense.questions.correct.report import correct_report
    from batchsense.questions.correct.text import correct_text

    if request.output != "-":
        check_format(request.matrix or DIGITS, request.output)
    if how := _on_disk(request):
        envelope = correct_on_disk(request, how, progress)
        return Answer(
            envelope,
            lambda _: correct_text(envelope, request.described()),
            lambda: correct_report(envelope, None, request.words()),
        )
    with correcting_once():
        return _correct_in_memory(request, progress)


def _on_disk(request: CorrectRequest) -> OnDisk | None:
    """How the matrix is corrected out of core, where that is asked or memory does not suffice."""
    from batchsense.questions.correct.out_of_core import OnDisk

    if request.save_fitted or request.fitted:
        return None
    decision = request.decision()
    if decision is None:
        return None
    return OnDisk(decision, request.choice, request.output, request.recorded())


def _correct_in_memory(request: CorrectRequest, progress: Progress) -> Answer[CorrectResult]:
    from batchsense.experiments import write
    from batchsense.questions.correct.choice import load
    from batchsense.questions.correct.report import correct_report
    from batchsense.questions.correct.result import provenance
    from batchsense.questions.correct.text import correct_text
    from batchsense.reports.envelope import Note

    table = request.table(progress)
    reused = None
    if request.fitted is None:
        batch_columns = request.batch_columns(table)
        table = complete(request, table, [*batch_columns, *request.kept_columns()])
        kept = request.kept_columns()
        correction = request.choice.correction(kept, request.categorical, request.numeric)
        fitted = correction.fit(table, batch_columns, progress)
    else:
        fitted, reused = load(request.fitted, table, request.new_batches)
    corrected = fitted.transform(table, progress=progress)
    envelope = request.envelope(
        CorrectResult.of(
            corrected,
            request.name_of(request.output),
            reused=reused,
            saved_fitted=request.save_fitted,
        ),
        Note.published(request.choice.notes(table.notes)),
    )

    def write_matrix(path: Path) -> None:
        done = provenance(corrected, envelope, request.recorded())
        write(request.stored(corrected.table), corrected.values, path, done)

    return Answer(
        envelope,
        lambda _: correct_text(envelope, request.described()),
        lambda: correct_report(envelope, corrected, request.words()),
        (
            Product("save_fitted", "what was learned", fitted.save),
            Product(
                "output", "corrected matrix", write_matrix, lambda: _matrix_text(corrected, request)
            ),
        ),
    )


def _matrix_text(corrected: Corrected, request: CorrectRequest) -> str:
    from batchsense.experiments.tables.matrix import DELIMITERS, suffix_of
    from batchsense.experiments.tables.writing import layout, write_text

    delimiter = "," if request.matrix is None else DELIMITERS[suffix_of(request.matrix)]
    stream = io.StringIO()
    write_text(layout(corrected.table, corrected.values), stream, delimiter)
    return stream.getvalue()

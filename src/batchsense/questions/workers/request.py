"""What ``batchsense workers`` is asked, and how it is answered."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from batchsense.progress import Progress, silent
from batchsense.questions.answer import Answer, document_product
from batchsense.questions.option import Option
from batchsense.questions.quantities import whole_numbers
from batchsense.questions.request import About, Request
from batchsense.questions.workers.result import WorkersResult

if TYPE_CHECKING:
    from batchsense.training.workers.evidence import StepEvidence


class WorkersRequest(Request):
    """Say when one more worker slows a training step down, from a few measured steps.

    STEPS.csv has a row per measured step: nodes, workers (in all), micro_batch (per worker),
    seconds. At least five rows, one of them with one worker. Exit code 1 if the most workers asked
    about are slower for certain than fewer.

    \b
    Examples:
      batchsense workers steps.csv --workers 1,2,4,8 --batch-size 1024
      batchsense workers steps.csv --workers 4,8,16 --nodes 1,2,4 --micro-batch 64
      batchsense workers steps.csv --at configurations.csv --json
    """

    command: ClassVar[str] = "workers"
    about: ClassVar[About] = "steps"

    steps: Annotated[
        str,
        Option(
            "Measured steps as .csv or .tsv: nodes, workers, micro_batch, seconds and, if there is "
            "any, accumulation; or what `batchsense probe` wrote.",
            of="document",
            argument=True,
            metavar="STEPS",
        ),
    ]
    workers: Annotated[
        str | None,
        Option(
            "Numbers of workers to ask about, in all, e.g. 1,2,4,8; else 1, 2, 4 ... up to twice "
            "the most that were measured.",
            metavar="LIST",
            front=True,
        ),
    ] = None
    nodes: Annotated[
        str | None,
        Option(
            "Numbers of nodes to spread them over, e.g. 1,2,4, wherever they divide; else the "
            "fewest that hold them, as full as was measured.",
            metavar="LIST",
            front=True,
        ),
    ] = None
    at: Annotated[
        str | None,
        Option(
            "Predict these instead: .csv or .tsv with nodes, workers, micro_batch, in that order.",
            metavar="FILE",
            of="document",
        ),
    ] = None
    batch_size: Annotated[
        int | None,
        Field(ge=1),
        Option("Examples of a step over all workers, held fixed.", metavar="N", front=True),
    ] = None
    micro_batch: Annotated[
        int | None,
        Field(ge=1),
        Option("Examples of one worker, held fixed instead.", metavar="N", front=True),
    ] = None
    noise_scale: Annotated[
        float | None,
        Field(gt=0),
        Option(
            "Noise scale of the gradient, from `batchsense noise`: the best is what reaches a "
            "given loss soonest, not what sees the most examples a second.",
            metavar="N",
        ),
    ] = None
    output: Annotated[
        str | None,
        Option("Also write the JSON document here.", short="-o", metavar="FILE", of="output"),
    ] = None

    @field_validator("workers", "nodes")
    @classmethod
    def _are_counts(cls, given: str | None) -> str | None:
        try:
            # More than nine digits are no number of workers, and would overflow what counts them.
            if given is not None and max(whole_numbers(given)) >= 10**9:
                raise ValueError("no machines hold so many")
        except ValueError as error:
            raise ValueError(f"{given!r}: {error}") from None
        return given

    @model_validator(mode="after")
    def _one_question(self) -> Self:
        if self.batch_size is not None and self.micro_batch is not None:
            raise ValueError("hold either --batch-size or --micro-batch fixed")
        beside = {
            "--workers": self.workers,
            "--nodes": self.nodes,
            "--batch-size": self.batch_size,
            "--micro-batch": self.micro_batch,
        }
        given = [name for name, value in beside.items() if value is not None]
        if self.at is not None and given:
            raise ValueError(f"--at says all of a step; leave out {', '.join(given)}")
        return self


def ask(request: WorkersRequest, progress: Progress = silent) -> Answer[WorkersResult]:
    """Predict the steps.

    Raises DataError: a table cannot be read, or the workers cannot be spread as asked.
    Raises UnresolvedError: too little was measured.
    """
    from batchsense.questions.workers.configurations import asked_configurations, pairs_of
    from batchsense.questions.workers.report import workers_report
    from batchsense.questions.workers.text import workers_notes, workers_text
    from batchsense.reports.envelope import Note

    evidence = read_evidence(request, progress)
    held, configurations = asked_configurations(request, evidence)
    predictions = evidence.predict(configurations)
    comparisons = evidence.compare(pairs_of(configurations))
    result = WorkersResult.of(evidence, predictions, comparisons, held, request.noise_scale)
    notes = workers_notes(result, evidence.needed(predictions))
    if held == "batch_size":
        most = max(one.workers for one in configurations)
        remarks = evidence.remarks(configurations[0].batch_size, most)
        notes = [*Note.published(remarks), *notes]
    answer = request.envelope(result, notes)
    return Answer(
        answer,
        lambda table: workers_text(answer, table),
        lambda: workers_report(answer, request.words()),
        (document_product(answer, "workers"),),
        no=result.slower_for_certain,
    )


def read_evidence(request: WorkersRequest, progress: Progress) -> StepEvidence:
    """Read what was measured: a table of steps, or the document of a probe.

    Raises DataError: the file is neither.
    Raises UnresolvedError: too little was measured.
    """
    from batchsense.training.workers import fit_steps, read_steps
    from batchsense.training.workers.evidence import evidence_from_steps
    from batchsense.training.workers.probing.evidence import evidence_from_probe
    from batchsense.training.workers.probing.readings import read_probe

    name = request.name_of(request.steps)
    if Path(request.steps).suffix.lower() == ".json":
        return evidence_from_probe(read_probe(request.steps, name), seed=request.seed)
    table = read_steps(request.steps, name)
    return evidence_from_steps(fit_steps(table, request.seed, progress))

"""What ``batchsense plan`` is asked, and how it is answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from batchsense.machine_memory import parse_bytes
from batchsense.progress import Progress, silent
from batchsense.questions.answer import Answer, document_product
from batchsense.questions.option import Option
from batchsense.questions.plan.network import (
    bytes_per_second,
    check_same_gradients,
    from_bandwidth,
    from_probe,
    planned_workers,
    seconds_of,
)
from batchsense.questions.plan.result import PlanResult, WorkersResult
from batchsense.questions.quantities import is_an_amount, whole_numbers
from batchsense.questions.stream.result import StreamResult
from batchsense.questions.training_request import TrainingRequest


class PlanRequest(TrainingRequest):
    """Measure a training job and recommend its batch size.

    Times real steps, traces memory and trains a copy of the model for a moment to see how much its
    gradients differ from example to example. The model itself is not changed.

    \b
    Examples:
      batchsense plan
      batchsense plan train.py:workload --today 64 --budget 60
      batchsense plan charlm --memory 8GiB --report plan.html -o plan.json
      batchsense plan train.py:workload --workers 1,2,4,8 --probe probe.json
    """

    command: ClassVar[str] = "plan"

    budget: Annotated[
        float,
        Field(ge=1),
        Option("About how long to measure.", metavar="SECONDS", label="Seconds", front=True),
    ] = 30.0
    today: Annotated[
        int | None,
        Field(ge=1),
        Option(
            "Batch size that the learning rate belongs to.", metavar="N", label="Batch size today"
        ),
    ] = None
    tolerance: Annotated[
        float | None,
        Field(gt=0),
        Option("Wanted precision of the gradient: error over its length, e.g. 0.5."),
    ] = None
    confidence: Annotated[
        float,
        Field(gt=0, lt=1),
        Option("How often the tolerance must hold, between 0 and 1."),
    ] = 0.95
    memory: Annotated[
        str | None,
        Option("Memory of the process, e.g. 8GiB; else what is free.", metavar="BYTES"),
    ] = None
    minimum: Annotated[
        int, Field(ge=1), Option("Smallest batch size to advise.", name="min", metavar="N")
    ] = 1
    maximum: Annotated[
        int | None, Field(ge=1), Option("Largest batch size to advise.", name="max", metavar="N")
    ] = None
    workers: Annotated[
        str | None,
        Option(
            "Compare these numbers of workers, e.g. 1,2,4,8; with --probe, or --bandwidth and "
            "--latency.",
            metavar="N,N,...",
        ),
    ] = None
    probe: Annotated[
        str | None,
        Option("What batchsense probe wrote of this job.", metavar="FILE", of="document"),
    ] = None
    bandwidth: Annotated[
        str | None, Option("Of each worker's link, e.g. 1Gbit or 50MB/s.", metavar="RATE")
    ] = None
    latency: Annotated[
        str | None,
        Option("Round trip between workers, as ping says, e.g. 0.2ms.", metavar="TIME"),
    ] = None

    @field_validator("workers", "bandwidth", "latency")
    @classmethod
    def _can_be_read(cls, text: str | None, info: ValidationInfo) -> str | None:
        read: dict[str, Callable[[str], object]] = {
            "workers": whole_numbers,
            "bandwidth": bytes_per_second,
            "latency": seconds_of,
        }
        try:
            if text is not None:
                read[str(info.field_name)](text)
        except ValueError as error:
            raise ValueError(f"--{info.field_name} {text}: {error}") from None
        return text

    @model_validator(mode="after")
    def _one_network(self) -> Self:
        given = self.bandwidth is not None or self.latency is not None
        if given and (self.bandwidth is None or self.latency is None):
            raise ValueError("--bandwidth and --latency are given together")
        if given and self.probe is not None:
            raise ValueError("give either --probe or --bandwidth and --latency")
        if (self.workers is not None) != (given or self.probe is not None):
            raise ValueError(
                "--workers needs --probe, or --bandwidth and --latency, and these need --workers"
            )
        usual = type(self).model_fields["confidence"].default
        if self.tolerance is None and self.confidence != usual:
            raise ValueError("--confidence needs --tolerance: how often that must hold")
        return self

    stream: Annotated[
        str | None,
        Option(
            "A document of batchsense stream; the advice then has as many rows as are worth the "
            "wanted ones.",
            metavar="STREAM.json",
            of="document",
        ),
    ] = None

    _memory_is_an_amount = field_validator("memory")(is_an_amount)

    @model_validator(mode="after")
    def _limits_agree(self) -> Self:
        if self.maximum is not None and self.maximum < self.minimum:
            raise ValueError(f"--max {self.maximum} is below --min {self.minimum}")
        return self


def ask(request: PlanRequest, progress: Progress = silent) -> Answer[PlanResult]:
    """Measure, and plan.

    Raises DataError: the training job cannot be made or measured, or the document is not of a
    stream.
    Raises UnresolvedError: the batch size of its loss cannot be chosen, no pool of the stream holds
    as much, or the probe says nothing of the workers.
    """
    from batchsense.questions.plan.document import read_document
    from batchsense.questions.plan.report import plan_report
    from batchsense.questions.plan.stream import streamed
    from batchsense.questions.plan.text import plan_text
    from batchsense.training import PlanRequirements, plan_training
    from batchsense.training.workers.from_probe import fit_white_box
    from batchsense.training.workers.probing.readings import read_probe

    stream = None
    if request.stream is not None:
        how = "batchsense stream FILE -o stream.json"
        stream = read_document(request.stream, "stream", StreamResult, how)
    probed = (
        None
        if request.probe is None
        else fit_white_box(read_probe(request.probe, request.name_of(request.probe)))
    )
    if probed is not None:
        step_seconds = from_probe(probed)
        for count in sorted({*whole_numbers(request.workers or "1")}):
            step_seconds(count, 1)  # refuses what the probe says nothing of, before any work
    workload = request.workload(progress)
    if probed is not None and request.probe is not None:
        check_same_gradients(workload, probed, request.name_of(request.probe))
    measured = plan_training(
        workload,
        PlanRequirements(
            tolerance=request.tolerance,
            confidence=request.confidence,
            memory_bytes=None if request.memory is None else parse_bytes(request.memory),
            minimum=request.minimum,
            maximum=request.maximum,
        ),
        seconds=request.budget,
        batch_size_today=request.today,
        seed=request.seed,
        progress=progress,
    )
    workers = None
    if request.workers is not None:
        if request.bandwidth is not None and request.latency is not None:
            step_seconds = from_bandwidth(
                workload,
                measured.step_time,
                bytes_per_second(request.bandwidth),
                seconds_of(request.latency),
            )
        bounds = request.minimum, request.maximum
        workers = planned_workers(measured, step_seconds, request.workers, bounds, request.seed)
    result = PlanResult.of(measured, request.target, WorkersResult.of(workers, probed))
    if stream is not None:
        result = streamed(result, stream)
    envelope = request.envelope(result)
    return Answer(
        envelope,
        lambda table: plan_text(envelope.answer(), table),
        lambda: plan_report(envelope, request.words()),
        (document_product(envelope, "plan"),),
    )

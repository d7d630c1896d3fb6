"""What ``batchsense audit`` is asked, and how it is answered."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from batchsense.progress import Progress, silent
from batchsense.questions.answer import Answer, document_product
from batchsense.questions.audit.result import AuditResult
from batchsense.questions.option import Option
from batchsense.questions.training_request import TrainingRequest


class Precision(StrEnum):
    """In what the losses are computed."""

    float64 = "float64"
    float32 = "float32"
    bfloat16 = "bfloat16"


class AuditRequest(TrainingRequest):
    """Test whether the average gradient of micro-batches is the gradient of the minibatch.

    Runs the loss in float64 on a copy of the model, over a minibatch and its parts. Says what kind
    of loss it is, what it divides by, which module or line lets examples meet, what accumulation,
    DDP and an uneven last micro-batch make of it, and how to repair it. Exit code 1 unless it is
    safe.

    \b
    Examples:
      batchsense audit
      batchsense audit train.py:workload --micro-batch 4 --minibatch 64
      batchsense audit train.py:workload --json --report audit.html
    """

    command: ClassVar[str] = "audit"

    micro_batch: Annotated[
        int, Field(ge=1), Option("Examples per micro-batch.", metavar="M", front=True)
    ] = 8
    minibatch: Annotated[
        int, Field(ge=4), Option("Examples per minibatch, at least 4·M.", metavar="N", front=True)
    ] = 64
    partitions: Annotated[int, Field(ge=6), Option("Random partitions for kind and bias.")] = 24
    processes: Annotated[int, Field(ge=2), Option("Processes for the prediction of DDP.")] = 2
    bias_tolerance: Annotated[
        float, Field(gt=0), Option("Relative bias that is called safe where none is detected.")
    ] = 0.01
    alpha: Annotated[float, Field(gt=0, lt=0.5), Option("Level of the test for a bias.")] = 0.01
    precision: Annotated[
        Precision, Option("In what the losses are computed; less than float64 sees less.")
    ] = Precision.float64

    @model_validator(mode="after")
    def _can_be_split(self) -> Self:
        if self.minibatch < 4 * self.micro_batch:
            raise ValueError(
                f"--minibatch {self.minibatch} holds fewer than four micro-batches of "
                f"{self.micro_batch}"
            )
        return self


def ask(request: AuditRequest, progress: Progress = silent) -> Answer[AuditResult]:
    """Audit the loss.

    Raises DataError: the training job cannot be made or audited.
    Raises UnresolvedError: its loss cannot be judged.
    """
    from batchsense.questions.audit.report import audit_report
    from batchsense.questions.audit.text import audit_text
    from batchsense.reports.envelope import Note
    from batchsense.training.separability import audit

    found = audit(
        request.workload(progress),
        micro_batch=request.micro_batch,
        batch_size=request.minibatch,
        partitions=request.partitions,
        alpha=request.alpha,
        bias_tolerance=request.bias_tolerance,
        world_size=request.processes,
        precision=request.precision.value,
        seed=request.seed,
        progress=progress,
    )
    envelope = request.envelope(
        AuditResult.of(found, request.target),
        [Note(code="audit_limit", message=note) for note in found.notes],
    )
    return Answer(
        envelope,
        lambda table: audit_text(envelope, table),
        lambda: audit_report(envelope, request.words()),
        (document_product(envelope, "audit"),),
        no=not found.safe,
    )

"""What ``batchsense memory`` is asked, and how it is answered."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from batchsense.errors import UnresolvedError
from batchsense.machine_memory import parse_bytes
from batchsense.progress import Progress, silent
from batchsense.questions.answer import Answer, document_product
from batchsense.questions.memory.result import Job, MemoryResult
from batchsense.questions.option import Option
from batchsense.questions.quantities import is_an_amount, whole_numbers
from batchsense.questions.training_request import BUILT_IN_TARGETS, TrainingRequest

if TYPE_CHECKING:
    from batchsense.training import MemoryEnvelope, Workload
    from batchsense.training.memory import MemoryAdvice
    from batchsense.training.memory.trial import Trial


class Dtype(StrEnum):
    """The type of numbers and weights."""

    float64 = "float64"
    float32 = "float32"
    bfloat16 = "bfloat16"


#: Sizes beyond which a number typed as 2e6 is no whole number any more.
_EXACT = 2.0**53


class MemoryRequest(TrainingRequest):
    """Predict the memory of a training step at every batch size, and the largest that fits.

    Traces real steps at four tiny batch sizes, or with --fake steps without data for a model that
    is larger than this machine. Without TARGET the job is described by --features and --examples.
    Exit code 1 if --batch-size does not fit.

    \b
    Examples:
      batchsense memory digits --limit 8GiB
      batchsense memory train.py:workload --limit 16GB --batch-size 512 --check
      batchsense memory --features 2e6 --examples 5400 --dtype float64 --limit 24GiB
    """

    command: ClassVar[str] = "memory"

    target: Annotated[
        str | None,
        Option(
            "digits, charlm, path.py:function or module:function (it is run); digits if nothing is "
            "described.",
            of="target",
            argument=True,
            metavar="TARGET",
            label="Training job",
            front=True,
            choices=BUILT_IN_TARGETS,
        ),
    ] = None  # type: ignore[assignment]
    limit: Annotated[
        str | None,
        Option(
            "Memory of the whole process, e.g. 8GiB; else what is free now.",
            metavar="BYTES",
            front=True,
        ),
    ] = None
    batch_size: Annotated[
        int | None,
        Field(ge=1),
        Option("Ask whether this many examples fit; else the most that do.", metavar="N"),
    ] = None
    fake: Annotated[
        bool, Option("Follow steps on tensors without data: nothing is allocated or computed.")
    ] = False
    check: Annotated[
        bool,
        Option(
            "Also train two steps at the answer, in a process of its own under the limit.",
            of="machine",
        ),
    ] = False
    features: Annotated[
        float | None, Field(ge=1), Option("Columns of the table, without TARGET.", metavar="N")
    ] = None
    examples: Annotated[
        float | None, Field(ge=1), Option("Rows of the table, without TARGET.", metavar="N")
    ] = None
    dtype: Annotated[Dtype, Option("Of numbers and weights, without TARGET.")] = Dtype.float32
    hidden: Annotated[
        str | None,
        Option("Widths of hidden layers, e.g. 1024,1024; else a linear model.", metavar="WIDTHS"),
    ] = None

    _limit_is_an_amount = field_validator("limit")(is_an_amount)

    @field_validator("features", "examples")
    @classmethod
    def _is_whole(cls, count: float | None) -> float | None:
        if count is not None and (count >= _EXACT or count != int(count)):
            raise ValueError(f"--features and --examples are whole numbers, not {count:g}")
        return count

    @field_validator("hidden")
    @classmethod
    def _are_widths(cls, hidden: str | None) -> str | None:
        try:
            if hidden is not None:
                whole_numbers(hidden, "1024,1024")
        except ValueError as error:
            raise ValueError(f"--hidden {hidden}: {error}") from None
        return hidden

    @model_validator(mode="after")
    def _one_job(self) -> Self:
        described = self.features is not None or self.examples is not None
        if described and (self.features is None or self.examples is None):
            raise ValueError("--features and --examples are given together")
        if described and self.target is not None:
            raise ValueError("give either TARGET or --features and --examples")
        if not described and self.hidden is not None:
            raise ValueError("--hidden describes a net of --features and --examples")
        if not described and self.dtype != Dtype.float32:
            raise ValueError("--dtype is of --features and --examples; a TARGET has its own")
        if self.check and (described or self.fake):
            raise ValueError("--check trains a real step; it needs a TARGET and no --fake")
        return self


def ask(request: MemoryRequest, progress: Progress = silent) -> Answer[MemoryResult]:
    """Predict the memory.

    Raises DataError: the training job cannot be made or traced.
    Raises UnresolvedError: its allocations cannot be predicted, or nothing says how much memory
    there is.
    """
    from batchsense.questions.memory.report import memory_report
    from batchsense.questions.memory.text import memory_notes, memory_text
    from batchsense.training.memory import advise_memory

    envelope, job = _measured(request, progress)
    allowed = None if request.limit is None else parse_bytes(request.limit)
    advice = advise_memory(
        envelope, job.device, allowed, batch_size=request.batch_size, examples=job.examples
    )
    trial = _tried(request, advice, progress) if request.check and advice.fits else None
    result = MemoryResult.of(job, envelope, advice, trial, asked=request.batch_size is not None)
    answer = request.envelope(result, memory_notes(result))
    return Answer(
        answer,
        lambda table: memory_text(answer, table),
        lambda: memory_report(answer, request.words()),
        (document_product(answer, "memory"),),
        no=not result.fits,
    )


def _measured(request: MemoryRequest, progress: Progress) -> tuple[MemoryEnvelope, Job]:
    import torch

    from batchsense.training import fake_memory_envelope, fit_memory_envelope, load_target
    from batchsense.training.memory import PlainNet

    if request.features is not None and request.examples is not None:
        hidden = [int(part) for part in request.hidden.split(",")] if request.hidden else []
        net = PlainNet(
            int(request.features), int(request.examples), request.dtype.value, tuple(hidden)
        )
        envelope = fake_memory_envelope(net.workload, seed=request.seed, progress=progress)
        return envelope, Job(net.described, net.examples, torch.device("cpu"), True, True)
    target = request.target or "digits"
    if request.fake:
        made: list[int] = []

        def load() -> Workload:
            workload = load_target(target)
            made.append(len(workload.examples))
            return workload

        envelope = fake_memory_envelope(load, seed=request.seed, progress=progress)
        return envelope, Job(target, made[0], torch.device("cpu"), True, False)
    progress("preparing the training job", 0, 1)
    workload = load_target(target)
    envelope = fit_memory_envelope(workload, seed=request.seed, progress=progress)
    device = next(workload.model.parameters()).device
    return envelope, Job(target, len(workload.examples), device, False, False)


def _tried(request: MemoryRequest, advice: MemoryAdvice, progress: Progress) -> Trial:
    from batchsense.training.memory import returns_memory
    from batchsense.training.memory.trial import try_step

    if advice.limit.limit_bytes is None:
        raise UnresolvedError(advice.limit.source, "an allowed amount, --limit 8GiB")
    return try_step(
        request.target or "digits",
        advice.batch_size,
        advice.limit.limit_bytes,
        returning=returns_memory(),
        seed=request.seed,
        progress=progress,
    )

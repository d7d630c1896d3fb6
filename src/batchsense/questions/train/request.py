"""What ``batchsense train`` is asked, and how it is answered."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator
from typing_extensions import override

from batchsense.errors import DataError, RequestError
from batchsense.progress import Progress, silent
from batchsense.questions.answer import Answer, document_product
from batchsense.questions.option import Option
from batchsense.questions.train.result import TrainResult
from batchsense.questions.training_request import TrainingRequest

if TYPE_CHECKING:
    from batchsense.training import Workload
    from batchsense.training.running import CheckpointFolder, Ranks
    from batchsense.training.schedule import WrittenSchedule
    from batchsense.training.training_job import TrainedRun, TrainingSettings


class Compression(StrEnum):
    """The format in which gradients travel between processes."""

    fp16 = "fp16"
    bf16 = "bf16"


class Follows(StrEnum):
    """What the learning rate does when a schedule changes the batch size."""

    lr = "lr"
    temperature = "temperature"
    seesaw = "seesaw"


class TrainRequest(TrainingRequest):
    """Train a job at its planned batch size, in one process or many, with checkpoints.

    The learning rate follows the batch size by the plan's rule, and the gradient noise is measured
    on the way. Under torchrun every step takes the same examples as in one process, and its
    gradient is that of the whole minibatch. Exit code 1 if --loss was asked for and not reached.

    \b
    Examples:
      batchsense train digits --plan plan.json --epochs 10 --checkpoint run
      batchsense train train.py:workload --batch-size 256 --loss 0.5 --steps 10000
      batchsense train digits --schedule "32, 64 at 20000, 128 at 60000" --epochs 50
      torchrun --nproc_per_node 2 -m batchsense train digits --batch-size 64 --epochs 10
    """

    command: ClassVar[str] = "train"

    plan: Annotated[
        str | None,
        Option("What `batchsense plan -o FILE` wrote.", metavar="FILE", of="document"),
    ] = None
    batch_size: Annotated[
        int | None,
        Field(ge=1),
        Option(
            "Examples per step over all processes, instead of a plan's; else the job's own.",
            metavar="N",
            front=True,
        ),
    ] = None
    epochs: Annotated[
        int | None,
        Field(ge=1),
        Option("Stop when every example was seen so often.", metavar="N", front=True),
    ] = None
    steps: Annotated[int | None, Field(ge=1), Option("Stop after so many.", metavar="N")] = None
    loss: Annotated[
        float | None, Option("Stop when the mean loss of the last 20 minibatches is this low.")
    ] = None
    schedule: Annotated[
        str | None,
        Option(
            'Batch sizes by examples consumed, such as "64, 256 at 20000", or noise: double when '
            "the measured noise scale is twice the size.",
            metavar="SIZES",
        ),
    ] = None
    couple: Annotated[
        Follows | None,
        Option(
            "What the learning rate does when --schedule changes the size: lr follows the rule of "
            "the optimizer, temperature also changes what else keeps the heat (Adam), seesaw "
            "divides by the root; without it the rate stays and growth cools the run."
        ),
    ] = None
    micro_batch: Annotated[
        int | None,
        Field(ge=1),
        Option("Examples a process computes at once; larger steps take several.", metavar="N"),
    ] = None
    accumulate: Annotated[
        int,
        Field(ge=1),
        Option("Micro-batches into which each process cuts its part of a step.", metavar="N"),
    ] = 1
    compress: Annotated[
        Compression | None, Option("Send gradients between processes in half the bytes.")
    ] = None
    bucket_cap: Annotated[
        float | None,
        Field(gt=0),
        Option("Size of the buckets in which gradients are sent; else 1, then 25.", metavar="MIB"),
    ] = None
    sync_every: Annotated[
        int,
        Field(ge=1),
        Option(
            "Let each process step by itself and average parameters every so many steps.",
            metavar="STEPS",
        ),
    ] = 1
    inexact: Annotated[
        bool,
        Option("Split a loss even where the gradients of its parts are not that of the whole."),
    ] = False
    checkpoint: Annotated[
        str | None,
        Option("Folder in which the run keeps what it goes on from.", metavar="DIR", of="machine"),
    ] = None
    checkpoint_every: Annotated[
        float,
        Field(ge=0),
        Option("Time between two checkpoints.", metavar="SECONDS", of="machine"),
    ] = 60.0
    resume: Annotated[bool, Option("Go on from the checkpoint in --checkpoint.", of="machine")] = (
        False
    )
    timeout: Annotated[
        float,
        Field(gt=0, le=1e6),
        Option("How long a process waits for another.", metavar="SECONDS", of="machine"),
    ] = 300.0

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.epochs is None and self.steps is None and self.loss is None:
            raise ValueError("say when to stop: --epochs, --steps or --loss")
        if self.plan is not None and self.batch_size is not None:
            raise ValueError("give either --plan or --batch-size")
        if self.couple is not None and self.schedule is None:
            raise ValueError("--couple needs --schedule: the batch size does not change without")
        if self.schedule not in (None, "noise") and self.batch_size is not None:
            raise ValueError("--schedule begins with a size of its own: leave out --batch-size")
        if self.resume and self.checkpoint is None:
            raise ValueError("--resume needs --checkpoint: the folder to go on from")
        every = type(self).model_fields["checkpoint_every"].default
        if self.checkpoint_every != every and self.checkpoint is None:
            raise ValueError("--checkpoint-every needs --checkpoint: the folder to keep them in")
        if self.sync_every > 1 and (self.compress is not None or self.bucket_cap is not None):
            raise ValueError(
                "--sync-every sends parameters, no gradients: leave out --compress and --bucket-cap"
            )
        return self

    @override
    def kept_paths(self) -> dict[str, str]:
        return {} if self.checkpoint is None else {"--checkpoint": self.checkpoint}


def ask(request: TrainRequest, progress: Progress = silent) -> Answer[TrainResult]:
    """Train.

    Raises DataError: the job, the plan or the checkpoint cannot be used, or a process is gone.
    Raises UnresolvedError: the loss cannot be split over processes or micro-batches.
    Raises KeyboardInterrupt: Ctrl-C or SIGTERM came; with words about the checkpoint.
    """
    from batchsense.questions.train.report import train_report
    from batchsense.questions.train.text import train_text
    from batchsense.reports.envelope import Note
    from batchsense.training.running import joined_ranks

    with joined_ranks(timeout_seconds=request.timeout) as ranks:
        workload = ranks.agreed(lambda: request.workload(ranks.on_first(progress)))
        settings = ranks.agreed(lambda: _settings(request, workload, ranks.world_size))
        kept = ranks.from_first(lambda: _folder(request))
        trained = _trained(request, workload, settings, ranks, kept, ranks.on_first(progress))
        if trained.stopped_by == "signal":
            raise KeyboardInterrupt(_farewell(request, trained) if ranks.is_first else "")
    result = TrainResult.of(trained, request, settings, ranks)
    notes = [
        *Note.published(trained.notes),
        *result.what_the_loss_did(),
        *result.levers_that_did_nothing(request),
    ]
    envelope = request.envelope(result, notes)
    return Answer(
        envelope,
        lambda table: train_text(envelope, table),
        lambda: train_report(envelope, request.words()),
        (document_product(envelope, "run"),),
        no=result.missed,
        told=ranks.is_first,
    )


def _settings(request: TrainRequest, workload: Workload, workers: int) -> TrainingSettings:
    from batchsense.questions.plan.document import check_same_job, read_plan
    from batchsense.questions.verify.result import advice_of
    from batchsense.training.schedule import parse_schedule
    from batchsense.training.training_job import TrainingSettings
    from batchsense.training.workload import refuse_sum

    size, today, critical = request.batch_size or workload.batch_size, workload.batch_size, None
    if request.plan is not None:
        plan = read_plan(request.plan)
        check_same_job(workload, plan, request.plan)
        size, rule = plan.batch_size_of(workers), plan.learning_rate_rule
        today = None if rule is None else rule.from_batch_size
        critical = advice_of(plan).used_critical_batch_size
    sizes: WrittenSchedule | Literal["noise"] | None = None
    if request.schedule == "noise":
        sizes = "noise"
    elif request.schedule is not None:
        try:
            sizes = parse_schedule(request.schedule)
        except DataError as error:
            raise RequestError(f"--schedule: {error}") from None
        size = sizes.first
    if size is None:
        raise DataError(
            "the job names no batch size; give --plan or --batch-size", where=request.target
        )
    if sizes is not None or today not in (None, size):
        refuse_sum(workload, request.seed)
    return TrainingSettings(
        batch_size=size,
        batch_sizes=sizes,
        couple=None if request.couple is None else request.couple.value,
        micro_batch=request.micro_batch,
        learning_rate_batch_size=today,
        critical_batch_size=critical,
        accumulate=request.accumulate,
        compress=None if request.compress is None else request.compress.value,
        bucket_cap_mb=request.bucket_cap,
        sync_every=request.sync_every,
        inexact=request.inexact,
        seed=request.seed,
    )


def _folder(request: TrainRequest) -> CheckpointFolder | None:
    from batchsense.training.running import CheckpointFolder

    if request.checkpoint is None:
        return None
    return CheckpointFolder.opened(request.checkpoint, resume=request.resume)


def _trained(
    request: TrainRequest,
    workload: Workload,
    settings: TrainingSettings,
    ranks: Ranks,
    kept: CheckpointFolder | None,
    progress: Progress,
) -> TrainedRun:
    from batchsense.training.running import Ending
    from batchsense.training.training_job import train

    return train(
        workload,
        settings,
        Ending(request.steps, request.epochs, request.loss),
        ranks=ranks,
        kept=kept,
        resume=request.resume,
        keep_every_seconds=request.checkpoint_every,
        progress=progress,
    )


def _farewell(request: TrainRequest, trained: TrainedRun) -> str:
    done = f"stopped after step {trained.record.steps:,}"
    if request.checkpoint is None:
        return f"{done}; nothing is kept without --checkpoint"
    again = "the same command" if request.resume else "the same command with --resume"
    return f"{done}; {again} goes on from there"

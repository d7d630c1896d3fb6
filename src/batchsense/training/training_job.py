"""Train a workload to its end, in one process or many, at a planned batch size."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from batchsense.errors import DataError, UnresolvedError
from batchsense.notes import Note
from batchsense.progress import Progress, silent
from batchsense.training.example_gradients import LossForm
from batchsense.training.gradient_noise import GradientNoiseMeter, MeterReport
from batchsense.training.learning_rate import follow_batch_size, optimizer_family
from batchsense.training.running import (
    ALONE,
    BatchSizes,
    CheckpointFolder,
    Ending,
    EndlessOrder,
    Identity,
    Metering,
    Ranks,
    Run,
    RunRecord,
    StoppedBy,
    identity_of,
    refuse_other,
    train_until,
)
from batchsense.training.schedule import (
    Coupling,
    FollowNoise,
    ScheduledSizes,
    Switch,
    WrittenSchedule,
)
from batchsense.training.splitting import INEXACT, Compression, called_in_ranks, combination
from batchsense.training.workload import (
    Workload,
    admitted,
    borrowed_randomness,
    moving_optimizer,
)

#: Every 20th step is measured in a long run, and of a short one so many in all: the meter's own
#: defaults for how often to measure and how many steps to pool.
_RARELY, _POOLED = 20, 64


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """How a workload is trained.

    Attributes
    ----------
    batch_size : int
        Examples per step, over all processes; where they change, of the start.
    learning_rate_batch_size : int or None
        The size that the optimizer's learning rate belongs to; None leaves the rate as it is.
    critical_batch_size : float or None
        B_crit in examples, which the rule for SGD follows where it is known.
    accumulate : int
        Micro-batches a process cuts its part of a step into.
    compress : {"fp16", "bf16"} or None
        The format in which gradients travel.
    bucket_cap_mb : float or None
        Size of the buckets in which gradients travel, in MiB; None leaves it to torch: 1, then 25.
    sync_every : int
        1 averages gradients at each step; H lets each process step by itself and averages
        parameters every H steps (local SGD).
    inexact : bool
        Split the loss even where the gradients of its parts do not add up to that of the whole.
    seed : int
        Seed of the order and of the model's own randomness.
    batch_sizes : BatchSizes, WrittenSchedule, "noise" or None
        The size of each step; None for the same always. ``"noise"`` follows the noise scale of the
        run from ``batch_size`` on.
    couple : {"lr", "temperature", "seesaw"} or None
        What the learning rate does when a written or measured schedule changes the size.
    micro_batch : int or None
        Examples that a process computes at once; larger steps take more micro-batches.
    """

    batch_size: int
    learning_rate_batch_size: int | None = None
    critical_batch_size: float | None = None
    accumulate: int = 1
    compress: Compression | None = None
    bucket_cap_mb: float | None = None
    sync_every: int = 1
    inexact: bool = False
    seed: int = 0
    batch_sizes: BatchSizes | WrittenSchedule | Literal["noise"] | None = None
    couple: Coupling = None
    micro_batch: int | None = None

    @property
    def local(self) -> bool:
        """Whether processes step by themselves."""
        return self.sync_every > 1

    @property
    def cuts(self) -> bool:
        """Whether a process may cut its part of a step."""
        return self.accumulate > 1 or self.micro_batch is not None

    def plan(self) -> dict[str, Any]:
        """What a run must have in common with the checkpoint that it goes on from."""
        return {
            "batch size": self.batch_size,
            "--accumulate": self.accumulate,
            "--compress": self.compress,
            "--sync-every": self.sync_every,
            **({"--micro-batch": self.micro_batch} if self.micro_batch else {}),
            **(
                {"--schedule": str(self.batch_sizes), "--couple": self.couple}
                if isinstance(self.batch_sizes, WrittenSchedule | str)
                else {}
            ),
        }


@dataclass(frozen=True, slots=True, eq=False)
class TrainedRun:
    """What a training came to.

    Attributes
    ----------
    model : torch.nn.Module
        The trained copy.
    record : RunRecord
        Steps, examples, seconds and losses.
    stopped_by : str
        loss, steps, epochs or signal.
    learning_rate : float or None
        Of the first parameter group.
    noise : MeterReport or None
        Gradient noise over the last measured steps; None where none could be measured.
    combined : str or None
        How the losses of parts are put together: mean, sum or ratio, or inexact; None for one part.
    resumed_at : int or None
        The step of the checkpoint that it went on from.
    notes : tuple of Note
        What to keep in mind.
    switches : tuple of Switch
        The first batch size of a schedule and every change; empty without one.
    """

    model: nn.Module
    record: RunRecord
    stopped_by: StoppedBy
    learning_rate: float | None
    noise: MeterReport | None
    combined: str | None
    resumed_at: int | None
    notes: tuple[Note, ...]
    switches: tuple[Switch, ...] = ()


def train(
    workload: Workload,
    settings: TrainingSettings,
    ending: Ending,
    *,
    ranks: Ranks = ALONE,
    kept: CheckpointFolder | None = None,
    resume: bool = False,
    keep_every_seconds: float = 60.0,
    progress: Progress = silent,
) -> TrainedRun:
    """Train a copy of the model, and measure its gradient noise on the way.

    A step takes the same examples whatever the number of processes, and its gradient is that of
    the whole minibatch: parts of a loss that is a mean, a sum or a ratio are scaled as the audit
    says. All processes call this with the same arguments.

    Parameters
    ----------
    workload : Workload
        The training job; it is not changed.
    settings : TrainingSettings
        How to train.
    ending : Ending
        When to stop.
    ranks : Ranks
        The processes, from :func:`~batchsense.training.running.joined_ranks`.
    kept : CheckpointFolder, optional
        Where checkpoints go.
    resume : bool
        Go on from the checkpoint there.
    keep_every_seconds : float
        Time between checkpoints.
    progress : Progress
        Told on the first process.

    Returns
    -------
    TrainedRun
        The model, what happened, and the gradient noise.

    Raises
    ------
    DataError
        The workload cannot be trained, a loss is not finite, processes have different models or
        data, or a checkpoint is of another run.
    UnresolvedError
        The loss cannot be split and ``inexact`` is not set.

    Examples
    --------
    >>> from batchsense.training import digits_workload
    >>> trained = train(digits_workload(), TrainingSettings(64), Ending(steps=40))
    >>> trained.stopped_by, trained.record.examples, trained.record.loss < 2
    ('steps', 2560, True)
    """
    count = ranks.agreed(lambda: admitted(workload))
    notes: list[Note] = []
    seeds = np.random.SeedSequence([settings.seed, ranks.rank]).generate_state(1)
    with borrowed_randomness(int(seeds[0])):
        model = ranks.agreed(workload.fresh_model)
        optimizer = ranks.agreed(lambda: moving_optimizer(workload, model))
        notes += _follow(optimizer, settings)
        identity = ranks.agreed(
            lambda: identity_of(workload, model, optimizer, settings.plan(), settings.seed)
        )
        _refuse_other_ranks(ranks.gathered(identity))
        combined, scaling = ranks.agreed(
            lambda: combination(
                workload,
                ranks,
                split=settings.cuts or not (ranks.alone or settings.local),
                local=settings.local,
                inexact=settings.inexact,
                seed=settings.seed,
                progress=ranks.on_first(progress),
            )
        )
        notes += [INEXACT] if combined == "inexact" else []
        called = ranks.agreed(lambda: _called(workload, model, settings, ranks))
        meter, metering, more = _metered(called, optimizer, _spacing(settings, ending, count))
        notes += more
        sizes = ranks.agreed(lambda: _sizes(settings, optimizer, meter, ranks, count))
        run = Run(
            dataclasses.replace(workload, loss=lambda module, minibatch: module(minibatch)),
            called,
            model,
            optimizer,
            ranks,
            EndlessOrder(count, settings.seed),
            sizes,
            settings.accumulate,
            settings.micro_batch,
            scaling,
            settings.sync_every,
            metering,
        )
        resumed_at: int | None = None
        if kept is not None and resume:
            notes += ranks.agreed(lambda: _go_on(run, kept, identity))
            resumed_at = run.record.steps
        with meter or contextlib.nullcontext(), warnings.catch_warnings():
            # The report says the same, once and by one process.
            warnings.filterwarnings("ignore", "step .* was not measured", RuntimeWarning)
            stopped_by = train_until(
                run,
                ending,
                kept=kept,
                keep_every_seconds=keep_every_seconds,
                also_kept={"identity": identity},
                progress=progress,
            )
    report, more = _report(meter)
    scheduled = sizes if isinstance(sizes, ScheduledSizes) else None
    return TrainedRun(
        model=model,
        record=run.record,
        stopped_by=stopped_by,
        learning_rate=_rate(optimizer),
        noise=report,
        combined=combined,
        resumed_at=resumed_at,
        notes=(*notes, *more, *(scheduled.notes if scheduled else ())),
        switches=tuple(scheduled.switches) if scheduled else (),
    )


def _rate(optimizer: torch.optim.Optimizer) -> float | None:
    rate = optimizer.param_groups[0].get("lr")
    return None if rate is None else float(rate)


def _called(
    workload: Workload, model: nn.Module, settings: TrainingSettings, ranks: Ranks
) -> nn.Module:
    how = settings.sync_every, settings.compress, settings.bucket_cap_mb
    return called_in_ranks(workload, model, ranks, *how)


def _sizes(
    settings: TrainingSettings,
    optimizer: torch.optim.Optimizer,
    meter: GradientNoiseMeter | None,
    ranks: Ranks,
    count: int,
) -> BatchSizes:
    """What says how large each step is."""
    asked: Any = settings.batch_sizes
    if asked is None:
        return lambda steps, examples: settings.batch_size
    if asked == "noise":
        if meter is None:
            raise DataError("noise cannot be measured in this job; write the sizes instead")
        asked = FollowNoise(meter, settings.batch_size, largest=count)
    elif not isinstance(asked, WrittenSchedule):
        return asked  # type: ignore[no-any-return]
    return ScheduledSizes(optimizer, asked, couple=settings.couple, ranks=ranks, limit=count)


def _refuse_other_ranks(identities: Sequence[Identity]) -> None:
    first, *others = identities
    for rank, other in enumerate(others, start=1):
        refuse_other(first, other, "on rank 0", f"rank {rank}")


def _follow(optimizer: torch.optim.Optimizer, settings: TrainingSettings) -> list[Note]:
    """Let the learning rate follow the batch size, or say why it does not."""
    base, size = settings.learning_rate_batch_size, settings.batch_size
    if base is None:
        return [
            Note(
                "learning_rate_kept",
                "The learning rate is the optimizer's own: nothing says which batch size it "
                "belongs to (Workload.batch_size, or plan --today).",
            )
        ]
    if optimizer_family(optimizer) == "other" and base != size:
        return [
            Note(
                "learning_rate_kept",
                f"The learning rate is the optimizer's own, for {base:,} examples: no rule is "
                f"known for {type(optimizer).__name__}.",
            )
        ]
    follow_batch_size(optimizer, base, size, settings.critical_batch_size)
    return []


def _spacing(settings: TrainingSettings, ending: Ending, count: int) -> int:
    """Measure a short run more often, so that its noise is known too."""
    ends = [ending.steps or math.inf, (ending.epochs or math.inf) * count / settings.batch_size]
    return int(min(max(min(ends) / _POOLED, 1), _RARELY))


def _metered(
    called: nn.Module, optimizer: torch.optim.Optimizer, every: int
) -> tuple[GradientNoiseMeter | None, Metering, list[Note]]:
    metering = Metering()
    form = LossForm(loss_scale=lambda: metering.scale)
    try:
        meter = GradientNoiseMeter(called, optimizer, form=form, every=every)
    except DataError as error:
        return None, metering, [Note("noise_not_measured", f"No gradient noise: {error}.")]
    metering.watching = meter.watching
    metering.state_dict, metering.load_state_dict = meter.state_dict, meter.load_state_dict
    return meter, metering, []


def _report(meter: GradientNoiseMeter | None) -> tuple[MeterReport | None, list[Note]]:
    if meter is None:
        return None, []
    try:
        report = meter.report()
    except UnresolvedError as error:
        return None, [Note("noise_not_measured", f"No gradient noise: {error}.")]
    return report, list(report.cautions)


def _go_on(run: Run, kept: CheckpointFolder, identity: Any) -> list[Note]:
    state = kept.read()
    refuse_other(identity, state["identity"], "in this run", str(kept.file))
    wrote = len(state["ranks"])
    run.load_state_dict(state)
    if wrote == run.ranks.world_size:
        return []
    return [
        Note(
            "other_processes",
            f"The checkpoint is of {wrote} processes, this run of {run.ranks.world_size}: the same "
            "minibatches, but random numbers of the model itself (dropout) are others.",
        )
    ]

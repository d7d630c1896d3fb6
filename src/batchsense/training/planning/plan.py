"""Measure a training job and plan its batch size, from one call."""

from __future__ import annotations

import time
from dataclasses import dataclass

from torch import nn

from batchsense.errors import DataError, UnresolvedError
from batchsense.notes import Note
from batchsense.progress import Progress, silent
from batchsense.training.gradient_noise.measure import MICRO_BATCHES, measure_gradient_noise
from batchsense.training.gradient_noise.path import PathNoise, critical_batch_size_of_path
from batchsense.training.gradient_noise.report import NoiseReport
from batchsense.training.gradient_noise.short_run import record_short_run
from batchsense.training.learning_rate import (
    Family,
    LearningRate,
    matching_learning_rate,
    optimizer_family,
)
from batchsense.training.memory.envelope import MemoryEnvelope, fit_memory_envelope
from batchsense.training.memory.limit import MemoryLimit, memory_limit
from batchsense.training.planning.batch_size import BatchSizePlan, Limits, plan_batch_size
from batchsense.training.planning.doubts import (
    doubts_of_memory,
    doubts_of_noise,
    doubts_of_step_time,
    doubts_of_workload,
)
from batchsense.training.planning.objective import check_objective
from batchsense.training.step_time import StepTime, measure_step_time
from batchsense.training.tolerance import ToleranceRung, plan_tolerance
from batchsense.training.workload.checks import WorkloadCheck, check_workload
from batchsense.training.workload.workload import Workload

#: Batch size of the short run: small, because a run far above the critical size overestimates it.
RUN_BATCH_SIZE = 32
#: Steps of the short run, the most that fit into its share of the time.
RUN_STEPS = (25, 50, 100, 200, 400, 800)
_LEAST_RUN_BATCH_SIZE = 8
_STEP_TIME_SHARE, _NOISE_SHARE, _LEAST_RUN_SHARE = 0.2, 0.1, 0.3
_TOLERANCE_SHARE = 0.3
_NOISE_EXAMPLES = 2048


class _Watch:
    """The time there is, the seed and the listener of one measurement."""

    def __init__(self, seconds: float, seed: int, progress: Progress) -> None:
        self.seconds, self.seed, self.progress = seconds, seed, progress
        self._ends = time.monotonic() + (1 - _NOISE_SHARE) * seconds

    def left(self) -> float:
        """Give the seconds left for the short run; negative if they are used up."""
        return self._ends - time.monotonic()


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """Everything that was measured and what follows from it.

    Attributes
    ----------
    advice : BatchSizePlan
        The batch size and why.
    step_time : StepTime
        Time of a step.
    path : PathNoise
        Critical batch size along the short run.
    noise : NoiseReport
        Gradient noise at the weights where the short run ended.
    envelope : MemoryEnvelope or None
        Peak memory per batch size; None where it could not be resolved.
    memory : MemoryLimit or None
        What fits.
    learning_rate : LearningRate or None
        For the advised size; None if the size that today's belongs to is unknown.
    tolerance : tuple of ToleranceRung
        Least sizes for the wanted precision; empty if none was asked for.
    batch_size_today : int or None
        The batch size in use today, if known.
    family : str
        Kind of optimizer.
    check : WorkloadCheck
        Sizes of model and data.
    doubts : tuple of Note
        What the plan is unsure of.
    """

    advice: BatchSizePlan
    step_time: StepTime
    path: PathNoise
    noise: NoiseReport
    envelope: MemoryEnvelope | None
    memory: MemoryLimit | None
    learning_rate: LearningRate | None
    tolerance: tuple[ToleranceRung, ...]
    batch_size_today: int | None
    family: Family
    check: WorkloadCheck
    doubts: tuple[Note, ...]


def plan_training(
    workload: Workload,
    *,
    seconds: float = 30.0,
    tolerance: float | None = None,
    confidence: float = 0.95,
    memory_bytes: int | None = None,
    minimum: int = 1,
    maximum: int | None = None,
    batch_size_today: int | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> TrainingPlan:
    """Measure memory, step time and gradient noise on this machine, and advise a batch size.

    The user's model is not changed: everything runs on copies.

    Parameters
    ----------
    workload : Workload
        The training job.
    seconds : float
        About how long to measure.
    tolerance : float, optional
        Wanted precision of the gradient: allowed error as a part of its length. The calibrated
        guarantee then bounds the batch size from below.
    confidence : float
        How often the tolerance must hold.
    memory_bytes : int, optional
        Memory the process may use; what is available by default.
    minimum, maximum : int
        Bounds of the user's own.
    batch_size_today : int, optional
        The size in use, to which the optimizer's learning rate belongs; that of the workload by
        default.
    seed : int
        Seed of every draw. Noise repeats exactly, times do not.
    progress : Progress
        Told what is being measured.

    Returns
    -------
    TrainingPlan
        The advice, the measurements and the doubts.

    Raises
    ------
    DataError
        The workload cannot be trained or measured, or the bounds contradict each other.
    UnresolvedError
        The measurements allow no advice, or the objective itself changes with the batch size; says
        what would help.

    Examples
    --------
    >>> from batchsense.training import load_target
    >>> plan = plan_training(load_target("digits"), seconds=2)
    >>> 16 <= plan.advice.batch_size <= 512
    True
    """
    if seconds <= 0:
        raise DataError(f"the budget must be positive, not {seconds} seconds")
    if minimum < 1 or (maximum is not None and maximum < minimum):
        raise DataError(f"minimum {minimum} and maximum {maximum} leave no batch size")
    watch = _Watch(seconds, seed, progress)
    check = check_workload(workload, seed)
    cautions = check_objective(workload, seed)
    today = batch_size_today or workload.batch_size
    device = next(workload.model.parameters()).device
    envelope, refusal = _envelope(workload, seed, progress)
    memory = None if envelope is None else memory_limit(envelope, device, memory_bytes)
    fits = None if memory is None else memory.max_batch_size
    if fits == 0:
        assert memory is not None
        raise UnresolvedError(
            f"not even one example fits into {memory.source}", "more memory or a smaller model"
        )
    largest = None if fits is None else max(fits // 2, 2)
    timed = measure_step_time(
        workload, seconds=_STEP_TIME_SHARE * seconds, largest=largest, seed=seed, progress=progress
    )
    family = optimizer_family(workload.fresh_optimizer(workload.fresh_model()))
    path, trained, wanted_steps = _short_run(workload, timed, today, watch)
    there = _at(workload, trained)
    noise = _noise(there, timed, fits, watch)
    rungs = () if tolerance is None else _rungs(there, tolerance, confidence, fits, check, watch)
    limits = Limits(
        examples=check.examples,
        memory=fits,
        minimum=minimum,
        maximum=maximum,
        precision=next((r.batch_size for r in rungs if r.guarantee == "calibrated"), None),
    )
    advice = _advise(path, timed, limits, today)
    rate = None
    if today is not None:
        optimizer = workload.fresh_optimizer(workload.fresh_model())
        rate = matching_learning_rate(
            optimizer, today, advice.batch_size, advice.used_critical_batch_size
        )
    return TrainingPlan(
        advice=advice,
        step_time=timed,
        path=path,
        noise=noise,
        envelope=envelope,
        memory=memory,
        learning_rate=rate,
        tolerance=rungs,
        batch_size_today=today,
        family=family,
        check=check,
        doubts=(
            *doubts_of_workload(check),
            *_doubts_of_objective(check, cautions),
            *doubts_of_noise(path, family, wanted_steps, check.examples),
            *doubts_of_step_time(timed, advice),
            *doubts_of_memory(envelope, refusal, device.type),
            *_doubts_of_precision(limits, tolerance, rungs),
            *_doubts_of_rate(rate),
        ),
    )


def _envelope(
    workload: Workload, seed: int, progress: Progress
) -> tuple[MemoryEnvelope | None, str]:
    """Fit the memory envelope, or say why not."""
    try:
        return fit_memory_envelope(workload, seed=seed, progress=progress), ""
    except UnresolvedError as error:
        return None, error.message


def _short_run(
    workload: Workload, timed: StepTime, today: int | None, watch: _Watch
) -> tuple[PathNoise, nn.Module, int]:
    """Train a copy, once more at a smaller batch size if the first proves far too large."""
    size = max(min(RUN_BATCH_SIZE, today or RUN_BATCH_SIZE, len(workload.examples)), 2)
    path, model, wanted = _record(workload, timed, size, today, watch)
    if path.resolved and path.run_too_large and size > _LEAST_RUN_BATCH_SIZE and watch.left() > 0:
        path, model, wanted = _record(workload, timed, _LEAST_RUN_BATCH_SIZE, today, watch)
    return path, model, wanted


def _record(
    workload: Workload, timed: StepTime, size: int, today: int | None, watch: _Watch
) -> tuple[PathNoise, nn.Module, int]:
    """Run and integrate; a learning rate chosen for another batch size follows its rule."""
    # Where memory and step times took long, the run still gets some time: it is the answer.
    seconds = max(watch.left(), _LEAST_RUN_SHARE * watch.seconds)
    parts = min(8, size)
    one = parts * float(timed.seconds(size / parts))
    # From a coarse list, so that the number of steps rarely differs between runs.
    steps = max([n for n in RUN_STEPS if n * one <= 0.8 * seconds], default=RUN_STEPS[0])
    records, model = record_short_run(
        workload,
        steps,
        size,
        batch_size_ratio=1.0 if today is None else size / today,
        seconds=1.2 * seconds,
        seed=watch.seed,
        progress=watch.progress,
    )
    return critical_batch_size_of_path(records), model, steps


def _at(workload: Workload, model: nn.Module) -> Workload:
    """Give the same job at other weights."""
    return Workload(model, workload.loss, workload.examples, workload.optimizer, workload.collate)


def _noise(
    workload: Workload,
    timed: StepTime,
    fits: int | None,
    watch: _Watch,
) -> NoiseReport:
    """Measure noise at frozen weights, with as many examples as time and memory allow."""
    population = len(workload.examples)
    examples = min(_NOISE_EXAMPLES, population)
    while examples > 8 * MICRO_BATCHES and (
        MICRO_BATCHES * float(timed.seconds(examples / MICRO_BATCHES))
        > _NOISE_SHARE * watch.seconds
        or examples / MICRO_BATCHES > (fits or examples) / 2
    ):
        examples //= 2
    return measure_gradient_noise(workload, examples, seed=watch.seed, progress=watch.progress)


def _rungs(
    workload: Workload,
    tolerance: float,
    confidence: float,
    fits: int | None,
    check: WorkloadCheck,
    watch: _Watch,
) -> tuple[ToleranceRung, ...]:
    """Give the ladder of guarantees; none where examples have no gradient of their own."""
    if check.coupled_modules:
        return ()
    return plan_tolerance(
        workload,
        tolerance,
        confidence,
        seconds=_TOLERANCE_SHARE * watch.seconds,
        at_once=128 if fits is None else max(min(128, fits // 2), 1),
        seed=watch.seed,
        progress=watch.progress,
    )


def _advise(path: PathNoise, timed: StepTime, limits: Limits, today: int | None) -> BatchSizePlan:
    """Plan, or say how much longer to measure."""
    critical = path.critical_batch_size
    if critical.low <= 0 and not critical.bounded:
        raise UnresolvedError(
            f"{path.steps} steps at batch size {path.batch_size} do not tell the critical batch "
            "size from any other: the gradient drowns in its noise",
            f"about {path.steps_needed * path.batch_size:,} more examples of training, "
            "that is a larger --budget",
        )
    include = () if today is None else (today,)
    return plan_batch_size(critical, timed, limits, include=include)


def _doubts_of_objective(check: WorkloadCheck, cautions: list[Note]) -> list[Note]:
    """Pass on what the quick audit found, unless the layer behind it is named already."""
    if check.coupled_modules:
        return []
    return [Note(caution.code, caution.message) for caution in cautions]


def _doubts_of_precision(
    limits: Limits, tolerance: float | None, rungs: tuple[ToleranceRung, ...]
) -> list[Note]:
    """Say when the wanted precision could not be judged or reached."""
    if tolerance is None:
        return []
    if not rungs:
        return [
            Note(
                "precision_undefined",
                "A module mixes the examples of a minibatch, so no example has a gradient of its "
                "own and no batch size can be promised for the tolerance.",
            )
        ]
    if limits.precision is None:
        needed = next(rung.needed for rung in rungs if rung.guarantee == "calibrated")
        return [
            Note(
                "precision_unresolved",
                "The mean gradient is lost in noise, so no batch size can be named for the "
                f"tolerance; it would take {needed}.",
            )
        ]
    if limits.memory is not None and limits.precision > limits.memory:
        return [
            Note(
                "precision_beyond_memory",
                f"The tolerance needs {limits.precision:,} examples, more than fit at once; "
                "accumulate gradients over several minibatches.",
            )
        ]
    return [
        Note(
            "precision_at_these_weights",
            "The tolerance holds for the weights where the short run ended; as the gradient "
            "shrinks, more examples are needed.",
        )
    ]


def _doubts_of_rate(rate: LearningRate | None) -> list[Note]:
    """Pass on the doubts of the learning rate rule."""
    if rate is None:
        return [
            Note(
                "batch_size_today_unknown",
                "Which batch size the learning rate was chosen for is unknown, so no matching one "
                "can be given: say --today N, or Workload(batch_size=N).",
            )
        ]
    if rate.from_batch_size == rate.to_batch_size:
        return []
    return [Note("learning_rate_rule", text[0].upper() + text[1:] + ".") for text in rate.doubts]

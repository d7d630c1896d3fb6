"""Measure a training job and plan its batch size, from one call."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from torch import nn

from batchsense import clock
from batchsense.errors import DataError, UnresolvedError
from batchsense.notes import Note
from batchsense.progress import Progress, silent
from batchsense.training.gradient_noise import (
    NoiseReport,
    PathNoise,
    critical_batch_size_of_path,
    enough_examples,
    measure_gradient_noise,
    record_short_run,
)
from batchsense.training.gradient_noise.report import notes_on_coupling
from batchsense.training.learning_rate import (
    Family,
    LearningRate,
    matching_learning_rate,
    optimizer_family,
)
from batchsense.training.memory import (
    MemoryEnvelope,
    MemoryLimit,
    fit_memory_envelope,
    memory_limit,
)
from batchsense.training.planning.batch_size import BatchSizePlan, Limits, bounds, plan_batch_size
from batchsense.training.planning.doubts import (
    doubts_of_memory,
    doubts_of_noise,
    doubts_of_precision,
    doubts_of_rate,
    doubts_of_the_last_minibatch,
    ranked,
)
from batchsense.training.separability.objective import check_objective
from batchsense.training.step_time import StepTime, measure_step_time
from batchsense.training.tolerance import ToleranceRung, plan_tolerance
from batchsense.training.workload import (
    Workload,
    WorkloadCheck,
    check_workload,
    least_part,
)

#: Batch size of the short run: small, because a run far above the critical size overestimates it.
RUN_BATCH_SIZE = 32
#: Steps of the short run, the most that fit into its share of the time.
RUN_STEPS = (25, 50, 100, 200, 400, 800)
#: Where the first run proved too large; below it, eight micro-batches are single examples.
_LEAST_RUN_BATCH_SIZE = 8
#: Shares of the time, which trade one answer against another: step times and the final noise need
#: little, the short run is the answer and gets the rest, and at least its own share where memory
#: and step times took longer than theirs.
_STEP_TIME_SHARE, _NOISE_SHARE, _LEAST_RUN_SHARE = 0.2, 0.1, 0.3
#: Where a tolerance was asked for: its two measurements, each of so much, half of it taken from the
#: short run, so that all is done within 1.3 of the time asked for.
_TOLERANCE_SHARE = 0.3
#: Examples and parts behind the final noise: 32 parts know a variance to a quarter.
_NOISE_EXAMPLES, _NOISE_PARTS = 2048, 32
#: The least examples a part of the noise measurement is cut down to.
_LEAST_PART = 8


@dataclass(frozen=True, slots=True)
class PlanRequirements:
    """What a batch size has to keep, whatever would be fastest.

    Attributes
    ----------
    tolerance : float or None
        Wanted precision of the gradient: allowed error as a part of its length. The calibrated
        guarantee then bounds the batch size from below.
    confidence : float
        How often the tolerance must hold.
    memory_bytes : int or None
        Memory the process may use; what is available by default.
    minimum, maximum : int, int or None
        Bounds of the user's own.

    Raises
    ------
    DataError
        The bounds contradict each other.
    """

    tolerance: float | None = None
    confidence: float = 0.95
    memory_bytes: int | None = None
    minimum: int = 1
    maximum: int | None = None

    def __post_init__(self) -> None:
        if self.minimum < 1 or (self.maximum is not None and self.maximum < self.minimum):
            raise DataError(
                f"minimum {self.minimum} and maximum {self.maximum} leave no batch size"
            )


@dataclass(frozen=True, slots=True)
class _Watch:
    """The time there is, the seed and the listener of one measurement."""

    seconds: float
    seed: int
    progress: Progress
    reserved: float = 0.0
    began: float = field(default_factory=lambda: clock.now())

    def left(self) -> float:
        """Return the seconds left for the short run; negative if they are used up."""
        share = 1 - _NOISE_SHARE - self.reserved
        return self.began + share * self.seconds - clock.now()


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
        What the plan is unsure of, what may move the advised size most first.
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
    requirements: PlanRequirements | None = None,
    *,
    seconds: float = 30.0,
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
    requirements : PlanRequirements, optional
        A precision, memory and bounds that the advice has to keep; none by default.
    seconds : float
        About how long to measure.
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
        The workload cannot be trained or measured.
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
    if not seconds > 0:
        raise DataError(f"the budget must be positive, not {seconds} seconds")
    wanted = requirements or PlanRequirements()
    watch = _Watch(seconds, seed, progress, 0.0 if wanted.tolerance is None else _TOLERANCE_SHARE)
    check = check_workload(workload, seed)
    bounds(Limits(enough_examples(workload), minimum=wanted.minimum, maximum=wanted.maximum))
    optimizer = workload.fresh_optimizer(workload.fresh_model())
    family = optimizer_family(optimizer)
    cautions = check_objective(workload, seed)
    today = batch_size_today or workload.batch_size
    device = next(workload.model.parameters()).device
    envelope, refusal = _envelope(workload, watch)
    memory = None if envelope is None else memory_limit(envelope, device, wanted.memory_bytes)
    fits = None if memory is None else memory.max_batch_size
    if memory is not None and fits == 0:
        raise UnresolvedError(
            f"not even one example fits into {memory.source}", "more memory or a smaller model"
        )
    largest = None if fits is None else max(fits // 2, 2)
    timed = measure_step_time(
        workload, seconds=_STEP_TIME_SHARE * seconds, largest=largest, seed=seed, progress=progress
    )
    path, trained, wanted_steps = _short_run(workload, timed, today, watch)
    there = replace(workload, model=trained, batch_size=None)
    noise = _noise(there, timed, fits, watch)
    rungs = () if check.coupled_modules else _rungs(there, wanted, fits, watch)
    calibrated = next((rung for rung in rungs if rung.guarantee == "calibrated"), None)
    limits = Limits(
        examples=check.examples,
        memory=fits,
        # BatchNorm has no variance of one example.
        minimum=max(wanted.minimum, least_part(workload.model)),
        maximum=wanted.maximum,
        precision=None if calibrated is None else calibrated.batch_size,
    )
    advice = _advise(path, timed, limits, today)
    rate = None
    if today is not None:
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
        doubts=ranked(
            (
                *(notes_on_coupling(check.coupled_modules) or cautions),
                *doubts_of_noise(path, family, wanted_steps, check.examples),
                *timed.doubts(advice.batch_size),
                *doubts_of_memory(
                    refusal, None if envelope is None else envelope.differing_examples, device.type
                ),
                *_doubts_of_tolerance(wanted.tolerance, calibrated, advice.batch_size),
                *doubts_of_the_last_minibatch(there, check, advice.batch_size),
                *doubts_of_rate(None if rate is None else rate.doubts if rate.changes else ()),
            ),
            path,
            noise.noise_scale.estimate,
        ),
    )


def _envelope(workload: Workload, watch: _Watch) -> tuple[MemoryEnvelope | None, str]:
    try:
        return fit_memory_envelope(workload, seed=watch.seed, progress=watch.progress), ""
    except UnresolvedError as error:
        return None, error.message


def _short_run(
    workload: Workload, timed: StepTime, today: int | None, watch: _Watch
) -> tuple[PathNoise, nn.Module, int]:
    """Train a copy, once more at a smaller batch size if the first proves far too large."""
    least = 2 * least_part(workload.model)
    size = max(min(RUN_BATCH_SIZE, today or RUN_BATCH_SIZE, len(workload.examples)), least)
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


def _noise(workload: Workload, timed: StepTime, fits: int | None, watch: _Watch) -> NoiseReport:
    """Measure noise at frozen weights, with as many examples as time and memory allow."""
    examples = min(_NOISE_EXAMPLES, len(workload.examples))
    while examples > _LEAST_PART * _NOISE_PARTS and (
        _NOISE_PARTS * float(timed.seconds(examples / _NOISE_PARTS)) > _NOISE_SHARE * watch.seconds
        or examples / _NOISE_PARTS > (fits or examples) / 2
    ):
        examples //= 2
    return measure_gradient_noise(
        workload, examples, _NOISE_PARTS, seed=watch.seed, progress=watch.progress
    )


def _rungs(
    workload: Workload, wanted: PlanRequirements, fits: int | None, watch: _Watch
) -> tuple[ToleranceRung, ...]:
    if wanted.tolerance is None:
        return ()
    return plan_tolerance(
        workload,
        wanted.tolerance,
        wanted.confidence,
        seconds=_TOLERANCE_SHARE * watch.seconds,
        at_once=128 if fits is None else max(min(128, fits // 2), 1),
        seed=watch.seed,
        progress=watch.progress,
    )


def _advise(path: PathNoise, timed: StepTime, limits: Limits, today: int | None) -> BatchSizePlan:
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


def _doubts_of_tolerance(
    tolerance: float | None, calibrated: ToleranceRung | None, advised: int
) -> tuple[Note, ...]:
    if tolerance is None:
        return ()
    if calibrated is None:
        return (
            Note(
                "precision_undefined",
                "A module mixes the examples of a minibatch, so no example has a gradient of its "
                "own and no batch size can be promised for the tolerance.",
            ),
        )
    return (doubts_of_precision(calibrated, advised),)

"""Everything that can be said about the gradient noise of a training job, from one call."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from batchsense.arrays import Floats
from batchsense.errors import DataError, UnresolvedError, listed
from batchsense.notes import Note
from batchsense.progress import Progress, silent
from batchsense.training.gradient_noise.layers import (
    LayerNoise,
    Layers,
    noise_of_micro_batches,
)
from batchsense.training.gradient_noise.measure import (
    MICRO_BATCHES,
    MicroBatchGradients,
    example_gradients,
    micro_batch_gradients,
)
from batchsense.training.gradient_noise.path import (
    LEAST_STEPS,
    PathNoise,
    critical_batch_size_of_path,
    notes_on_path,
    record_short_run,
)
from batchsense.training.gradient_noise.report import (
    NoiseReport,
    notes_on_coupling,
    notes_on_tail,
)
from batchsense.training.learning_rate import optimizer_family
from batchsense.training.separability.objective import check_objective
from batchsense.training.workload import Workload, WorkloadCheck, check_workload, gram_matrix

#: Batch size of the run where the workload names none, and the largest otherwise: in trials runs at
#: 32 or fewer came within 0.84 and 1.62 of the swept critical batch size, at 256 up to 3.8 above.
RUN_BATCH_SIZE = 32


@dataclass(frozen=True, slots=True)
class ShortRun:
    """How long the run may last that the critical batch size is integrated over.

    Attributes
    ----------
    steps : int
        Its steps, at least 16.
    seconds : float
        Time after which it ends early.

    Raises
    ------
    DataError
        Fewer than 16 steps.
    """

    steps: int = 200
    seconds: float = math.inf

    def __post_init__(self) -> None:
        if self.steps < LEAST_STEPS:
            raise DataError(
                f"a run of {self.steps} steps is too short; {LEAST_STEPS} or more, or no run at all"
            )


#: 200 steps, however long they take.
ORDINARY_RUN = ShortRun()


@dataclass(frozen=True, slots=True)
class NoiseSurvey:
    """The gradient noise of a training job.

    Attributes
    ----------
    noise : NoiseReport
        At the weights that the model has now.
    layers : tuple of LayerNoise
        Each layer's share of the noise and its own noise scale.
    path : PathNoise or None
        The critical batch size, integrated over a short run from these weights; None without run.
    single_examples : bool
        Whether norms of single examples were used, or micro-batches only.
    micro_batches : int
        Into how many parts the examples were split.
    check : WorkloadCheck
        Sizes of model and data.
    cautions : tuple of Note
        What to keep in mind.
    """

    noise: NoiseReport
    layers: tuple[LayerNoise, ...]
    path: PathNoise | None
    single_examples: bool
    micro_batches: int
    check: WorkloadCheck
    cautions: tuple[Note, ...]


def survey_gradient_noise(
    workload: Workload,
    examples: int = 2048,
    micro_batches: int = MICRO_BATCHES,
    *,
    per_example: bool | None = None,
    run: ShortRun | None = ORDINARY_RUN,
    seed: int = 0,
    level: float = 0.95,
    progress: Progress = silent,
) -> NoiseSurvey:
    """Measure noise at the present weights, layer by layer, and along a short run from there.

    The model is not changed: everything runs on copies.

    Parameters
    ----------
    workload : Workload
        The training job.
    examples : int
        How many to draw at most, without replacement.
    micro_batches : int
        Into how many parts to split them, at least 8.
    per_example : bool, optional
        Use the norms of single examples, which tell more, or the spread of the micro-batches, which
        suits every model. By default the first, or where it is refused (BatchNorm) the second.
    run : ShortRun, optional
        The run that the critical batch size is integrated over; None for none.
    seed : int
        Seed of every draw.
    level : float
        Confidence level.
    progress : Progress
        Told what is being measured.

    Returns
    -------
    NoiseSurvey
        Noise, layers, path and cautions.

    Raises
    ------
    DataError
        The workload cannot be evaluated or trained, or the examples are coupled.
    UnresolvedError
        Fewer than eight examples, or an objective that itself changes with the batch size.

    Examples
    --------
    >>> from batchsense.training import digits_workload
    >>> survey = survey_gradient_noise(digits_workload(), examples=512, run=None)
    >>> survey.noise.resolved, [layer.name for layer in survey.layers]
    (True, ['0', '2', '4'])
    """
    check = check_workload(workload, seed)
    cautions = check_objective(workload, seed)
    cautions = notes_on_coupling(check.coupled_modules) or cautions
    named = {n: p.numel() for n, p in workload.model.named_parameters() if p.requires_grad}
    layers = Layers.of(list(named), list(named.values()))
    found, more = _measured(workload, examples, micro_batches, per_example, seed, progress)
    cautions += more
    noise, by_layer = noise_of_micro_batches(
        _grams(found.vectors, layers),
        found.sizes,
        layers,
        check.examples,
        example_squares=None if found.squares is None else layers.sums(found.squares.T).T,
        level=level,
    )
    if noise.trace_covariance.high == noise.squared_gradient_norm.high == 0:
        raise UnresolvedError(
            "the gradient of every example drawn is zero at these weights",
            "other weights, or a loss that can fall",
        )
    path = None
    if run is not None:
        path, more = _run(workload, run, seed, level, progress)
        cautions += more
    return NoiseSurvey(
        noise=noise,
        layers=by_layer,
        path=path,
        single_examples=found.squares is not None,
        micro_batches=len(found.sizes),
        check=check,
        cautions=tuple(cautions),
    )


def _measured(
    workload: Workload,
    examples: int,
    micro_batches: int,
    per_example: bool | None,
    seed: int,
    progress: Progress,
) -> tuple[MicroBatchGradients, list[Note]]:
    # Single examples first, unless that is not wanted.
    drawn = {"examples": examples, "micro_batches": micro_batches, "seed": seed}
    refusal = []
    if per_example is not False:
        try:
            found = example_gradients(workload, **drawn, progress=progress)
            tail = found.largest / max(float(found.squared_norms.mean[0]), 1e-300)
            return found, [*notes_on_tail(tail), *_notes_on_refused(found.refused)]
        except DataError as error:
            if per_example:
                raise
            refusal = [
                Note(
                    "micro_batches",
                    f"Measured by micro-batches, because single examples cannot be seen: {error}.",
                )
            ]
    vectors, sizes = micro_batch_gradients(workload, **drawn, progress=progress)
    return MicroBatchGradients(vectors, sizes), refusal


def _run(
    workload: Workload,
    run: ShortRun,
    seed: int,
    level: float,
    progress: Progress,
) -> tuple[PathNoise | None, list[Note]]:
    today = workload.batch_size
    size = max(2, min(today or RUN_BATCH_SIZE, RUN_BATCH_SIZE, len(workload.examples)))
    try:
        records, _ = record_short_run(
            workload,
            run.steps,
            size,
            batch_size_ratio=size / today if today else 1.0,
            seconds=run.seconds,
            seed=seed,
            progress=progress,
        )
        path = critical_batch_size_of_path(records, level)
    except UnresolvedError as error:
        return None, [Note("no_critical_batch_size", f"{error}.")]
    family = optimizer_family(workload.fresh_optimizer(workload.fresh_model()))
    notes = notes_on_path(path, family)
    if path.steps < run.steps:
        notes.append(
            Note(
                "run_cut_short",
                f"Time allowed {path.steps} of {run.steps} steps; the numbers of the run will not "
                "repeat to the digit.",
            )
        )
    return path, notes


def _grams(vectors: Sequence[Tensor], layers: Layers) -> Floats:
    grams = np.zeros((len(layers.names), len(vectors), len(vectors)))
    end = 0
    for count, layer in zip(layers.numbers, layers.of_parameter, strict=True):
        start, end = end, end + count
        grams[layer] += gram_matrix([vector[start:end] for vector in vectors])
    return grams


def _notes_on_refused(refused: Mapping[str, str]) -> list[Note]:
    if not refused:
        return []
    return [
        Note(
            "partly_micro_batches",
            f"The gradients of single examples of {listed(refused, 3)} cannot be seen; their noise "
            "is that of the micro-batches.",
        )
    ]

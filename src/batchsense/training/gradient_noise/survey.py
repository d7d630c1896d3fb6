"""Everything that can be said about the gradient noise of a training job, from one call."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from batchsense.arrays import Floats, Integers
from batchsense.errors import DataError, UnresolvedError, listed
from batchsense.notes import Note
from batchsense.progress import Progress, silent
from batchsense.training.example_gradients.micro_batches import example_gradients
from batchsense.training.gradient_noise.cautions import cautions_of_path, coupled, heavy_tail
from batchsense.training.gradient_noise.estimators import NoiseMoments
from batchsense.training.gradient_noise.jackknife import moments_of_layers, pseudo_values
from batchsense.training.gradient_noise.layers import LayerNoise, Layers, noise_of_layers
from batchsense.training.gradient_noise.measure import MICRO_BATCHES, micro_batch_gradients
from batchsense.training.gradient_noise.path import PathNoise, critical_batch_size_of_path
from batchsense.training.gradient_noise.report import NoiseReport, noise_report
from batchsense.training.gradient_noise.short_run import record_short_run
from batchsense.training.learning_rate import optimizer_family
from batchsense.training.separability.objective import check_objective
from batchsense.training.workload.checks import WorkloadCheck, check_workload
from batchsense.training.workload.gradients import gram_matrix
from batchsense.training.workload.workload import Workload

#: Batch size of the run where the workload names none, and the largest otherwise.
RUN_BATCH_SIZE = 32


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
    run_steps: int = 200,
    run_seconds: float = math.inf,
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
    run_steps : int
        Steps of the run that the critical batch size is integrated over, at least 16; 0 for none.
    run_seconds : float
        Time after which the run ends early.
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
    >>> survey = survey_gradient_noise(digits_workload(), examples=512, run_steps=0)
    >>> survey.noise.resolved, [layer.name for layer in survey.layers]
    (True, ['0', '2', '4'])
    """
    if run_steps and run_steps < 16:
        raise DataError(f"a run of {run_steps} steps is too short; 16 or more, or 0 for none")
    check = check_workload(workload, seed)
    cautions = check_objective(workload, seed)
    cautions = coupled(check.coupled_modules) or cautions
    layers = _layers_of(workload)
    found, more = _measured(workload, examples, micro_batches, per_example, seed, progress)
    cautions += more
    noise, by_layer = _noise(found, layers, check.examples, level)
    path = None
    if run_steps:
        path, more = _run(workload, run_steps, run_seconds, seed, level, progress)
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


@dataclass(frozen=True, slots=True, eq=False)
class _Measured:
    """Mean gradients of micro-batches, and Σ |gᵢ|² of each parameter where single ones are seen."""

    vectors: list[Tensor]
    sizes: Integers
    squares: Floats | None


def _measured(
    workload: Workload,
    examples: int,
    micro_batches: int,
    per_example: bool | None,
    seed: int,
    progress: Progress,
) -> tuple[_Measured, list[Note]]:
    """Measure at the present weights, single examples first unless that is not wanted."""
    refusal = []
    if per_example is not False:
        try:
            found = example_gradients(
                workload, examples, micro_batches, seed=seed, progress=progress
            )
            tail = float(found.values.max() / max(found.values.mean(), 1e-300))
            measured = _Measured(found.vectors, found.sizes, found.squares)
            return measured, [*heavy_tail(tail), *_partly(found.refused)]
        except DataError as error:
            if per_example:
                raise
            refusal = [
                Note(
                    "micro_batches",
                    f"Measured by micro-batches, because single examples cannot be seen: {error}.",
                )
            ]
    vectors, sizes = micro_batch_gradients(
        workload, examples, micro_batches, seed=seed, progress=progress
    )
    return _Measured(vectors, sizes, None), refusal


def _layers_of(workload: Workload) -> Layers:
    """Group the trained parameters by layer."""
    named = [(name, p.numel()) for name, p in workload.model.named_parameters() if p.requires_grad]
    return Layers.of([name for name, _ in named], [count for _, count in named])


def _noise(
    found: _Measured, layers: Layers, population: int, level: float
) -> tuple[NoiseReport, tuple[LayerNoise, ...]]:
    """Put noise, signal and their errors together, for the whole and for each layer."""
    sizes, squares = found.sizes, None
    if found.squares is not None:
        squares = layers.sums(found.squares.T).T
    grams = _grams(found.vectors, layers)
    used = int(sizes.sum())
    left = max(0.0, 1 - used / population)
    # The random split into micro-batches adds an error to τ̂ that a larger share of all examples
    # does not reduce; single examples are split in one way only.
    whole = squares is not None and not np.isnan(squares).any()
    shrink = (left if whole else 1.0, left)
    values = pseudo_values(grams, sizes, squares)
    estimates = moments_of_layers(grams, sizes, squares, population)
    total = estimates.sum(axis=0)
    covariance = np.cov(values.sum(axis=1).T) / len(sizes)
    noise = noise_report(
        NoiseMoments(float(total[0]), float(total[1])),
        covariance * np.array([[shrink[0], left], [left, left]]),
        degrees=len(sizes) - 1,
        examples_used=used,
        population=population,
        level=level,
    )
    return noise, noise_of_layers(values, layers, estimates=estimates, shrink=shrink, level=level)


def _run(
    workload: Workload,
    steps: int,
    seconds: float,
    seed: int,
    level: float,
    progress: Progress,
) -> tuple[PathNoise | None, list[Note]]:
    """Train a copy and integrate the critical batch size over the run."""
    today = workload.batch_size
    size = max(2, min(today or RUN_BATCH_SIZE, RUN_BATCH_SIZE, len(workload.examples)))
    records, _ = record_short_run(
        workload,
        steps,
        size,
        batch_size_ratio=size / today if today else 1.0,
        seconds=seconds,
        seed=seed,
        progress=progress,
    )
    try:
        path = critical_batch_size_of_path(records, level)
    except UnresolvedError as error:
        return None, [Note("no_critical_batch_size", f"{error}.")]
    family = optimizer_family(workload.fresh_optimizer(workload.fresh_model()))
    cautions = cautions_of_path(path, family)
    if path.steps < steps:
        cautions.append(
            Note(
                "run_cut_short",
                f"Time allowed {path.steps} of {steps} steps; the numbers of the run will not "
                "repeat to the digit.",
            )
        )
    return path, cautions


def _grams(vectors: Sequence[Tensor], layers: Layers) -> Floats:
    """Give the inner products of the micro-batches for each layer."""
    grams = np.zeros((len(layers.names), len(vectors), len(vectors)))
    end = 0
    for count, layer in zip(layers.numbers, layers.of_parameter, strict=True):
        start, end = end, end + count
        grams[layer] += gram_matrix([vector[start:end] for vector in vectors])
    return grams


def _partly(refused: Mapping[str, str]) -> list[Note]:
    """Say which parameters were measured by micro-batches after all."""
    if not refused:
        return []
    return [
        Note(
            "partly_micro_batches",
            f"The gradients of single examples of {listed(refused, 3)} cannot be seen; their noise "
            "is that of the micro-batches.",
        )
    ]

"""A pilot on a training job: how its examples' gradients spread at the weights it has now."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import special
from torch import Tensor, nn

from batchsense import clock
from batchsense.arrays import Floats
from batchsense.errors import DataError, listed
from batchsense.progress import Progress, silent
from batchsense.training.gradient_noise import micro_batch_gradients
from batchsense.training.tolerance.pilot_noise import PilotNoise, pilot_noise
from batchsense.training.workload import (
    Workload,
    admitted,
    borrowed_randomness,
    coupled_modules,
    flat_gradient,
    gram_matrix,
)

#: Examples whose own gradients are formed; fewer rows hold means where a gradient is very large.
#: Their bound of the variance is then about 15 % above the estimate, if tails are light.
PILOT_EXAMPLES = 256
#: Data sets up to this size are measured whole: then nothing about their spread is a guess, and
#: one gradient for each of 4,096 examples still takes seconds.
WHOLE_SET = 4096
#: Examples behind the mean gradient where the data set is larger: doubled until it is known well.
REFERENCE_EXAMPLES = (1024, 2048, 4096, 8192)
#: Its squared length is known well where the lower bound is this part of the estimate: tolerances
#: relative to the length, which go with its root, are then 5 % too strict at most.
_KNOWN_WELL = 0.9


@dataclass(frozen=True, slots=True, eq=False)
class GradientPilot:
    """How the gradients of a data set's examples spread at one set of weights.

    Attributes
    ----------
    noise : PilotNoise
        Variance, its bound and its shape, and the squared length of the mean gradient.
    mean : torch.Tensor of shape (parameters,)
        The mean gradient: of all examples, or of as many as ``mean_examples``.
    mean_examples : int
        Examples behind it.
    population : int
        N.
    radius : float or None
        The largest distance of an example's gradient from the mean, where all were seen.
    """

    noise: PilotNoise
    mean: Tensor
    mean_examples: int
    population: int
    radius: float | None

    @property
    def whole(self) -> bool:
        """Whether the mean gradient is that of the whole data set."""
        return self.mean_examples == self.population


class GradientSource:
    """Mean gradients of chosen examples, on a copy of the model.

    Parameters
    ----------
    workload : Workload
        The training job; it is not changed.
    at_once : int
        Most examples that go through the model at once.
    """

    def __init__(self, workload: Workload, at_once: int = 128) -> None:
        self._workload = workload
        self._model: nn.Module = workload.fresh_model()
        self._at_once = at_once

    def mean(self, rows: npt.NDArray[Any]) -> Tensor:
        """Return the mean gradient of the examples at ``rows``, one flat vector."""
        total: Tensor | None = None
        for part in np.array_split(rows, math.ceil(len(rows) / self._at_once)):
            minibatch = self._workload.minibatch(part)
            vector = flat_gradient(self._workload, self._model, minibatch)
            share = vector * (len(part) / len(rows))
            total = share if total is None else total.add_(share)
        assert total is not None
        return total

    def squared_distance(self, rows: npt.NDArray[Any], reference: Tensor) -> float:
        """Return the squared distance of a mean gradient from a reference."""
        return float((self.mean(rows) - reference).double().square().sum())


def measure_pilot(
    workload: Workload,
    examples: int = PILOT_EXAMPLES,
    *,
    whole_set: int = WHOLE_SET,
    whole_seconds: float = math.inf,
    at_once: int = 128,
    seed: int = 0,
    progress: Progress = silent,
) -> GradientPilot:
    """Measure how the gradients of single examples spread at the model's weights.

    The shape of the spread (tr Σ²) comes from the inner products of ``examples`` gradients. The
    rest comes from all examples where there are at most ``whole_set``, and is then exact; else
    from the pilot, with the mean gradient from 1,024 to 8,192 examples, until the bound of its
    squared length is within 10 % of the estimate.

    Parameters
    ----------
    workload : Workload
        The training job; it is not changed.
    examples : int
        Examples of the pilot.
    whole_set : int
        Largest data set that is measured whole; 0 for never.
    whole_seconds : float
        Nor one that would take longer than this, going by the pilot.
    at_once : int
        Most examples that go through the model at once (memory).
    seed : int
        Seed of the draws and of the model's own randomness.
    progress : Progress
        Told after each part.

    Returns
    -------
    GradientPilot
        For :func:`tolerance_ladder`.

    Raises
    ------
    DataError
        A module mixes the examples of a minibatch, so that no example has a gradient of its own;
        or the workload cannot be evaluated.
    UnresolvedError
        Fewer than eight examples.

    Examples
    --------
    >>> from batchsense.training import load_target
    >>> pilot = measure_pilot(load_target("digits"), whole_set=0)
    >>> pilot.noise.observations, pilot.whole, pilot.noise.heavy_tailed
    (256, False, False)
    """
    population = admitted(workload)
    if coupled := coupled_modules(workload.model):
        raise DataError(
            "mixes the examples of a minibatch, so no example has a gradient of its own and no "
            "batch size can be promised; put it in eval mode if it is frozen",
            where=listed(coupled, 3),
        )
    began = clock.now()
    vectors, sizes = micro_batch_gradients(
        workload, examples, examples, seed=seed, progress=progress
    )
    each = (clock.now() - began) / len(vectors)
    all_of_it = population <= whole_set and each * population <= whole_seconds
    noise = pilot_noise(
        gram_matrix(vectors),
        observations_per_row=int(sizes[0]),
        population=population,
        seed=seed,
    )
    with borrowed_randomness(seed):
        source = GradientSource(workload, at_once)
        rows = np.random.default_rng([seed, 1]).permutation(population)
        if all_of_it:
            return _whole(source, source.mean(rows), noise, population, progress)
        seen, mean = 0, torch.zeros_like(vectors[0])
        for wanted in REFERENCE_EXAMPLES:
            count = min(wanted, population)
            mean = mean * (seen / count) + source.mean(rows[seen:count]) * (1 - seen / count)
            seen = count
            progress("measuring the mean gradient", count, min(REFERENCE_EXAMPLES[-1], population))
            along = torch.stack([vector @ mean for vector in vectors]).double().numpy()
            known = _with_reference(noise, mean, along, count, population, int(sizes[0]))
            if known.squared_mean_bound >= _KNOWN_WELL * known.squared_mean or count == population:
                break
    return GradientPilot(known, mean, seen, population, radius=None)


def _whole(
    source: GradientSource,
    mean: Tensor,
    noise: PilotNoise,
    population: int,
    progress: Progress,
) -> GradientPilot:
    """Replace every estimate but the shape by the exact number over all examples."""
    distances = np.empty(population)
    for row in range(population):
        distances[row] = source.squared_distance(np.array([row]), mean)
        progress("measuring every example's gradient", row + 1, population)
    trace, squared = float(distances.mean()), float(mean.double().square().sum())
    exact = replace(
        noise,
        trace=trace,
        trace_bound=trace,
        fourth_ratio=float(distances.var()) / trace**2 if trace > 0 else 0.0,
        squared_mean=squared,
        squared_mean_bound=squared,
        outlier_ratio=float(distances.max()) / trace if trace > 0 else 1.0,
        observations=population,
    )
    radius = math.sqrt(float(distances.max())) or None
    return GradientPilot(exact, mean, population, population, radius)


def _with_reference(
    noise: PilotNoise,
    mean: Tensor,
    along: Floats,
    count: int,
    population: int,
    per_row: int,
) -> PilotNoise:
    """Take |G|² from the mean of many more examples than the pilot has.

    Its variance is 4 G'ΣG/n, and the pilot's products with the mean show G'ΣG.
    """
    left = (population - count) / max(population - 1, 1)
    squared = float(mean.double().square().sum()) - noise.trace / count * left
    error = 2 * math.sqrt(left * per_row * float(along.var(ddof=1)) / count)
    bound = squared - float(special.ndtri(noise.level)) * error
    return replace(noise, squared_mean=squared, squared_mean_bound=bound)

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
from batchsense.arrays import Floats, Integers
from batchsense.errors import DataError, listed
from batchsense.progress import Progress, silent
from batchsense.training.gradient_noise import micro_batch_gradients
from batchsense.training.tolerance.moments import drawn_by_length
from batchsense.training.tolerance.pilot_noise import PilotNoise, pilot_noise, surveyed_noise
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
#: With fewer gradients in memory than this, means of several tell more of the shape than single
#: ones drawn by their length.
_LEAST_DRAWN = 64
#: Its squared length is known well where the lower bound is this part of the estimate: tolerances
#: relative to the length, which go with its root, are then 5 % too strict at most.
_KNOWN_WELL = 0.9


@dataclass(frozen=True, slots=True, eq=False)
class GradientPilot:
    """How the gradients of a data set's examples spread at one set of weights."""

    #: Variance, its bound and its shape, and the squared length of the mean gradient.
    noise: PilotNoise
    #: The mean gradient: of all examples, or of as many as ``mean_examples``; shape (parameters,).
    mean: Tensor
    mean_examples: int  #: Examples behind it.
    population: int  #: N.
    #: The largest distance of an example's gradient from the mean, where all were seen.
    radius: float | None

    @property
    def whole(self) -> bool:
        """Whether the mean gradient is that of the whole data set."""
        return self.mean_examples == self.population


class GradientSource:
    """Mean gradients of examples on a copy of the model, at most ``at_once`` of them at a time."""

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

    The lengths of ``whole_set`` gradients are surveyed, or of all where there are no more: then
    the variance is exact. The shape of the spread comes from the inner products of ``examples``
    gradients drawn by these lengths, so that the few long ones that hold much of the variance late
    in training are among them. The mean gradient is that of 1,024 to 8,192 examples, until the
    bound of its squared length is within 10 % of the estimate. Where ``whole_seconds`` does not
    allow a survey, going by the first gradients, or gradients are too large to hold so many,
    random examples have to tell all. At most ``at_once`` go through the model together.

    Raises DataError: a module mixes the examples of a minibatch, so that no example has a gradient
    of its own; or the workload cannot be evaluated.
    Raises UnresolvedError: fewer than eight examples.
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
    surveyed = int(min(population, whole_set, whole_seconds / max(each, 1e-9)))
    few = pilot_noise(
        gram_matrix(vectors), observations_per_row=int(sizes[0]), population=population
    )
    rng = np.random.default_rng([seed, 1])
    with borrowed_randomness(seed):
        survey = _Survey(GradientSource(workload, at_once), rng.permutation(population), progress)
        if surveyed == population:
            return _whole(survey, few, len(vectors), rng)
        survey.enlarge_mean(REFERENCE_EXAMPLES[0])
        if surveyed > few.observations and len(vectors) >= _LEAST_DRAWN:
            distances, along = survey.lengths(surveyed)
            noise, per_row = survey.noise(distances, len(vectors), rng, population, (0.0, 0.0)), 1
        else:
            noise, per_row = few, int(sizes[0])
            along = torch.stack([vector @ survey.mean for vector in vectors]).double().numpy()
        del vectors
        for wanted in REFERENCE_EXAMPLES:
            survey.enlarge_mean(wanted)
            known = _with_reference(noise, survey, along, population, per_row)
            if known.squared_mean_bound >= _KNOWN_WELL * known.squared_mean:
                break
    return GradientPilot(known, survey.mean, survey.seen, population, radius=None)


class _Survey:
    """Gradients of single examples, measured from a mean over the first ``seen`` of ``rows``."""

    def __init__(self, source: GradientSource, rows: Integers, progress: Progress) -> None:
        self._source, self.rows, self._progress = source, rows, progress
        self.seen = 0
        self.mean = torch.zeros(())

    def enlarge_mean(self, examples: int) -> None:
        count = min(examples, len(self.rows))
        if count > self.seen:
            more = self._source.mean(self.rows[self.seen : count])
            self.mean = self.mean * (self.seen / count) + more * (1 - self.seen / count)
            self.seen = count
            self._progress("measuring the mean gradient", count, count)

    def lengths(self, examples: int) -> tuple[Floats, Floats]:
        """Squared distances from the mean, and components along it."""
        found = np.empty((2, examples))
        for row in range(examples):
            vector = self._source.mean(self.rows[row : row + 1])
            found[0, row] = float((vector - self.mean).double().square().sum())
            found[1, row] = float(vector @ self.mean)
            self._progress("measuring every example's gradient", row + 1, examples)
        return found[0], found[1]

    def noise(
        self,
        distances: Floats,
        examples: int,
        rng: np.random.Generator,
        population: int,
        squared_mean: tuple[float, float],
    ) -> PilotNoise:
        drawn, chances = drawn_by_length(distances, examples, rng)
        places, of = np.unique(drawn, return_inverse=True)
        vectors = [self._source.mean(self.rows[place : place + 1]) - self.mean for place in places]
        products = gram_matrix(vectors)[np.ix_(of, of)]
        return surveyed_noise(
            distances,
            drawn,
            chances,
            products,
            squared_mean=squared_mean,
            population=population,
        )


def _whole(survey: _Survey, few: PilotNoise, held: int, rng: np.random.Generator) -> GradientPilot:
    """Measure every example; of the shape of the spread, what a part of them tells."""
    population = len(survey.rows)
    survey.enlarge_mean(population)
    distances, _ = survey.lengths(population)
    squared = float(survey.mean.double().square().sum())
    noise = replace(few, squared_mean=squared, squared_mean_bound=squared)
    if few.observations < population and held >= _LEAST_DRAWN:
        noise = survey.noise(distances, held, rng, population, (squared, squared))
    elif few.observations < population:
        trace = float(distances.mean())
        shape = {"fourth_ratio": float(distances.var()) / trace**2} if trace > 0 else {}
        noise = replace(
            noise,
            moments=replace(few.moments, trace=trace, **shape),
            without=None,
            trace_bound=trace,
            outlier_ratio=float(distances.max()) / trace if trace > 0 else 1.0,
            observations=population,
        )
    radius = math.sqrt(float(distances.max())) or None
    return GradientPilot(noise, survey.mean, population, population, radius)


def _with_reference(
    noise: PilotNoise, survey: _Survey, along: Floats, population: int, per_row: int
) -> PilotNoise:
    """Take |G|² from the mean of many more examples than the pilot has.

    Its variance is 4 G'ΣG/n, and components along the mean show G'ΣG.
    """
    left = (population - survey.seen) / max(population - 1, 1)
    squared = float(survey.mean.double().square().sum()) - noise.trace / survey.seen * left
    error = 2 * math.sqrt(left * per_row * float(along.var(ddof=1)) / survey.seen)
    bound = squared - float(special.ndtri(noise.level)) * error
    return replace(noise, squared_mean=squared, squared_mean_bound=bound)

"""Measure gradient noise at frozen weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from batchsense.arrays import Floats, Integers
from batchsense.errors import DataError, UnresolvedError
from batchsense.progress import Progress, silent
from batchsense.training.example_gradients import PerExampleNorms, per_example_squared_norms
from batchsense.training.gradient_noise.layers import Layers, noise_of_micro_batches
from batchsense.training.gradient_noise.report import LEAST_GROUPS, NoiseReport
from batchsense.training.workload import (
    Workload,
    admitted,
    borrowed_randomness,
    flat_gradient,
    flattened,
    gram_matrix,
    least_part,
    loss_gradient,
    scalar_loss,
    trainable,
)
from batchsense.variation.moments import Moments

#: Micro-batches whose mean gradients are held at a time. The error of τ̂ falls as 1/√(K − 1),
#: and each costs the memory of a gradient.
MICRO_BATCHES = 32

#: Bytes that these gradients may take; a large model gets fewer, larger micro-batches. One GiB fits
#: most machines that train such a model; no study chose it.
_GRADIENT_BYTES = 1 << 30

#: Examples from which three are compared with themselves alone, before all others: a wrong axis or
#: a coupling shows at any of them, and each costs a backward pass.
_CHECKED_EXAMPLES = 4


@dataclass(frozen=True, slots=True, eq=False)
class MicroBatchGradients:
    """What K micro-batches gave, for P parameters and n examples."""

    #: The mean gradient of each micro-batch, over all trained parameters; shape (numbers,).
    vectors: list[Tensor]
    sizes: Integers  #: Examples in each; shape (K,).
    #: Σ |gᵢ|² of each parameter over the examples of each micro-batch, NaN where unknown; None
    #: where single examples were not looked at; shape (P, K).
    squares: Floats | None = None
    #: Of |gᵢ|² over the n examples, over the parameters that are known.
    squared_norms: Moments = field(default_factory=lambda: Moments.empty(1))
    largest: float = 0.0  #: The largest |gᵢ|².
    #: Parameters whose single gradients are unknown, and why.
    refused: Mapping[str, str] = field(default_factory=dict)


def measure_gradient_noise(
    workload: Workload,
    examples: int = 2048,
    micro_batches: int = MICRO_BATCHES,
    *,
    seed: int = 0,
    level: float = 0.95,
    progress: Progress = silent,
) -> NoiseReport:
    """Measure the gradient noise at the weights that the model has now.

    Examples are drawn without replacement and split at random into equal micro-batches; the mean
    gradients of these give τ and γ without bias and, left out one at a time, an interval that may
    honestly be unbounded. No gradient of a single example is
    formed. The model is not changed.

    Parameters
    ----------
    workload : Workload
        The training job. Modules that mix examples (BatchNorm) make the answer approximate.
    examples : int
        How many to draw at most.
    micro_batches : int
        Into how many parts to split them, at least 8; fewer where a gradient is very large.
    seed : int
        Seed of the draw and of the model's own randomness (dropout).
    level : float
        Confidence level.
    progress : Progress
        Told after each micro-batch.

    Returns
    -------
    NoiseReport
        τ, γ and the noise scale with intervals; ``resolved`` says whether it can be acted on.

    Raises
    ------
    UnresolvedError
        Fewer than eight examples.
    DataError
        The workload cannot be evaluated.

    References
    ----------
    McCandlish et al. (2018), "An empirical model of large-batch training", arXiv:1812.06162.

    Examples
    --------
    >>> from batchsense.training import load_target
    >>> report = measure_gradient_noise(load_target("digits"), examples=1024)
    >>> report.resolved, report.examples_used
    (True, 1024)
    """
    vectors, sizes = micro_batch_gradients(
        workload, examples, micro_batches, seed=seed, progress=progress
    )
    whole = Layers.of([""], [len(vectors[0])])
    grams = gram_matrix(vectors)[None]
    return noise_of_micro_batches(grams, sizes, whole, len(workload.examples), level=level)[0]


def micro_batch_gradients(
    workload: Workload,
    examples: int,
    micro_batches: int = MICRO_BATCHES,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> tuple[list[Tensor], Integers]:
    """Return the mean gradients of disjoint random micro-batches of equal size, and these sizes.

    Arguments and errors are as for :func:`measure_gradient_noise`.
    """
    chosen = _drawn(workload, examples, micro_batches, seed, _GRADIENT_BYTES)
    vectors = []
    with borrowed_randomness(seed):
        model = workload.fresh_model()
        for done, part in enumerate(chosen, start=1):
            vectors.append(flat_gradient(workload, model, workload.minibatch(part)))
            progress("measuring gradient noise", done, len(chosen))
    return vectors, _sizes(chosen)


def example_gradients(
    workload: Workload,
    examples: int,
    micro_batches: int = MICRO_BATCHES,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> MicroBatchGradients:
    """Return what :func:`micro_batch_gradients` does with the norms behind it, in one pass.

    A few examples are first compared with their gradients alone. Parameters and errors are as
    there; in addition a DataError where the examples are coupled (BatchNorm) or norms differ from
    those of examples alone.
    """
    chosen = _drawn(workload, examples, micro_batches, seed)
    few = chosen.reshape(-1)[:_CHECKED_EXAMPLES]
    with borrowed_randomness(seed):
        per_example_squared_norms(workload, workload.minibatch(few))
    vectors, parts = [], []
    squared_norms, largest = Moments.empty(1), 0.0
    with borrowed_randomness(seed):
        model = workload.fresh_model()
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        with PerExampleNorms(model) as recorder:
            for done, part in enumerate(chosen, start=1):
                minibatch = workload.minibatch(part)
                with recorder.watching(len(part)):
                    loss = scalar_loss(workload, model, minibatch)
                vectors.append(flattened(loss_gradient(loss, list(trained.values()))))
                parts.append(recorder.result())
                norms = parts[-1].values
                squared_norms = squared_norms.merge(Moments.of(norms))
                largest = max(largest, float(norms.max()))
                progress("measuring gradients of single examples", done, len(chosen))
    return MicroBatchGradients(
        vectors=vectors,
        sizes=_sizes(chosen),
        squares=np.stack([part.sums(list(trained)) for part in parts], axis=1),
        squared_norms=squared_norms,
        largest=largest,
        refused=parts[-1].refused,
    )


def enough_examples(workload: Workload) -> int:
    """Count the examples.

    Raises UnresolvedError: they are too few to see how gradients differ.
    """
    population = admitted(workload)
    needed = least_part(workload.model) * LEAST_GROUPS
    if population < needed:
        raise UnresolvedError(
            f"{population} examples are too few to see how gradients differ",
            f"{needed} or more examples",
        )
    return population


def _drawn(
    workload: Workload,
    examples: int,
    micro_batches: int,
    seed: int,
    gradient_bytes: float = math.inf,
) -> Integers:
    """Indices of random examples, of shape (groups, size); no example is drawn twice."""
    if micro_batches < LEAST_GROUPS:
        raise DataError(
            f"{micro_batches} micro-batches are too few; ask for {LEAST_GROUPS} or more"
        )
    population, least = enough_examples(workload), least_part(workload.model)
    weights = sum(parameter.numel() for parameter in trainable(workload.model))
    affordable = max(LEAST_GROUPS, gradient_bytes / max(1, 4 * weights))
    drawn = min(examples, population)
    groups = int(min(micro_batches, affordable, drawn // least))
    size = drawn // groups
    order = np.random.default_rng(seed).permutation(population)
    return order[: groups * size].reshape(groups, size)


def _sizes(chosen: Integers) -> Integers:
    groups, size = chosen.shape
    return np.full(groups, size, dtype=np.int64)

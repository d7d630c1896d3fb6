"""Measure gradient noise at frozen weights."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from batchsense.errors import DataError, UnresolvedError
from batchsense.progress import Progress, silent
from batchsense.training.gradient_noise.estimators import (
    covariance_of_moments,
    moments_of_micro_batches,
)
from batchsense.training.gradient_noise.report import LEAST_GROUPS, NoiseReport, noise_report
from batchsense.training.workload import (
    Workload,
    admitted,
    borrowed_randomness,
    flat_gradient,
    gram_matrix,
)

#: Micro-batches whose mean gradients are held at a time.
MICRO_BATCHES = 32
#: Bytes that these gradients may take; a large model gets fewer, larger micro-batches.
_GRADIENT_BYTES = 1 << 30


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
    gradients of these give τ and γ without bias (:func:`moments_of_micro_batches`) and, left out
    one at a time, an interval that may honestly be unbounded. No gradient of a single example is
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
    population = len(workload.examples)
    gram = gram_matrix(vectors)
    return noise_report(
        moments_of_micro_batches(gram, sizes, population),
        covariance_of_moments(gram, sizes, population),
        degrees=len(sizes) - 1,
        examples_used=int(sizes.sum()),
        population=population,
        level=level,
    )


def micro_batch_gradients(
    workload: Workload,
    examples: int,
    micro_batches: int = MICRO_BATCHES,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> tuple[list[Tensor], np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Give the mean gradients of disjoint random micro-batches of equal size.

    Parameters
    ----------
    workload, examples, micro_batches, seed, progress
        As for :func:`measure_gradient_noise`.

    Returns
    -------
    list of torch.Tensor of shape (parameters,)
        One mean gradient per micro-batch.
    array of shape (micro_batches,)
        Examples in each.

    Raises
    ------
    UnresolvedError
        Fewer than eight examples.
    DataError
        The workload cannot be evaluated, or fewer than eight micro-batches were asked for.
    """
    if micro_batches < LEAST_GROUPS:
        raise DataError(
            f"{micro_batches} micro-batches are too few; ask for {LEAST_GROUPS} or more"
        )
    population = admitted(workload)
    if population < LEAST_GROUPS:
        raise UnresolvedError(
            f"{population} examples are too few to see how gradients differ",
            f"{LEAST_GROUPS} or more examples",
        )
    with borrowed_randomness(seed):
        model = workload.fresh_model()
        weights = sum(p.numel() for p in model.parameters() if p.requires_grad)
        affordable = max(LEAST_GROUPS, _GRADIENT_BYTES // max(1, 4 * weights))
        drawn = min(examples, population)
        groups = min(micro_batches, affordable, drawn)
        size = drawn // groups
        order = np.random.default_rng(seed).permutation(population)[: groups * size]
        vectors = []
        for done, chosen in enumerate(order.reshape(groups, size), start=1):
            vectors.append(flat_gradient(workload, model, workload.minibatch(chosen)))
            progress("measuring gradient noise", done, groups)
    return vectors, np.full(groups, size, dtype=np.int64)

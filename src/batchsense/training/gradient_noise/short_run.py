"""A short training run on a copy of the model that records gradient noise at every step."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from batchsense import clock
from batchsense.errors import DataError
from batchsense.progress import Progress, silent
from batchsense.training.gradient_noise.estimators import moments_of_examples
from batchsense.training.gradient_noise.path import PathRecords
from batchsense.training.learning_rate import optimizer_family, rescale
from batchsense.training.workload import (
    Workload,
    admitted,
    borrowed_randomness,
    loss_gradient,
    scalar_loss,
    trainable,
)

#: Micro-batches into which each step's minibatch is split.
MICRO_BATCHES = 8
#: Records that a run makes even when its time is up.
_LEAST_STEPS = 16


def record_short_run(
    workload: Workload,
    steps: int,
    batch_size: int,
    *,
    batch_size_ratio: float = 1.0,
    micro_batches: int = MICRO_BATCHES,
    seconds: float = math.inf,
    seed: int = 0,
    progress: Progress = silent,
) -> tuple[PathRecords, nn.Module]:
    """Train a copy of the model and record τ̂ and γ̂ at every step.

    Each step draws its minibatch afresh from all examples, so that the draw never depends on the
    weights; it is computed as micro-batches, whose spread gives the noise at little extra cost.

    Parameters
    ----------
    workload : Workload
        The training job; it is not changed.
    steps : int
        Steps to train.
    batch_size : int
        Examples per step, at least 2; rounded down to whole micro-batches.
    batch_size_ratio : float
        ``batch_size`` over the size that the optimizer's learning rate was chosen for; it is
        rescaled by the rule of its kind where one is known.
    micro_batches : int
        Parts of a minibatch, at most ``batch_size``.
    seconds : float
        Time after which the run ends early. A run that is cut is not repeatable to the digit.
    seed : int
        Seed of draws and of the model's own randomness.
    progress : Progress
        Told after each step.

    Returns
    -------
    PathRecords
        One record per step.
    torch.nn.Module
        The trained copy.

    Raises
    ------
    DataError
        The loss or its gradient is not finite on the way.

    Examples
    --------
    >>> from batchsense.training import load_target
    >>> records, _ = record_short_run(load_target("digits"), steps=30, batch_size=32)
    >>> bool(records.loss[-5:].mean() < records.loss[:5].mean())
    True
    """
    groups = min(micro_batches, batch_size, admitted(workload))
    if groups < 2:
        raise DataError(f"a run at batch size {batch_size} cannot show noise; use 2 or more")
    size = min(batch_size, len(workload.examples)) // groups
    rows = []
    with borrowed_randomness(seed):
        model = workload.fresh_model()
        optimizer = workload.fresh_optimizer(model)
        if batch_size_ratio != 1.0 and optimizer_family(optimizer) != "other":
            rescale(optimizer, batch_size_ratio)
        rng = np.random.default_rng(seed)
        ends = clock.now() + seconds
        for step in range(steps):
            chosen = rng.choice(len(workload.examples), size=(groups, size), replace=False)
            try:
                rows.append(_step(workload, model, optimizer, chosen))
            except DataError as error:
                raise DataError(f"at step {step + 1} of a short run: {error}") from error
            progress("training a copy", step + 1, steps)
            if clock.now() > ends and step + 1 >= _LEAST_STEPS:
                break
    loss, tau, gamma = np.array(rows).T
    return PathRecords(groups * size, tau, gamma, loss), model


def _step(
    workload: Workload,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    chosen: np.ndarray[tuple[int, int], np.dtype[np.int64]],
) -> tuple[float, float, float]:
    """Take one optimizer step; give loss, τ̂ and γ̂."""
    parameters = trainable(model)
    groups, size = chosen.shape
    total: list[Tensor] = []
    squares = torch.zeros((), dtype=torch.float64)
    loss_sum = 0.0
    for part in chosen:
        loss = scalar_loss(workload, model, workload.minibatch(part))
        gradient = loss_gradient(loss, parameters)
        loss_sum += loss.item()
        squares += _squared_norm(gradient)
        total = [a + b for a, b in zip(total, gradient, strict=True)] if total else gradient
    mean = [part / groups for part in total]
    mean_square = _squared_norm(mean).item()
    if not math.isfinite(mean_square):
        raise DataError("the gradient is not finite although the loss is")
    for parameter, value in zip(parameters, mean, strict=True):
        parameter.grad = value
    optimizer.step()
    # A micro-batch mean is an "example" whose covariance is Σ/size.
    population = len(workload.examples)
    moments = moments_of_examples(squares.item() / groups, mean_square, groups)
    tau = moments.trace_covariance * size * (population - 1) / population
    gamma = moments.squared_gradient_norm + tau / (population - 1)
    return loss_sum / groups, tau, gamma


def _squared_norm(gradient: list[Tensor]) -> Tensor:
    """Give |g|² over all parameters, in float64 on the CPU."""
    norms = torch.stack([torch.linalg.vector_norm(part).double() for part in gradient])
    return norms.square().sum().cpu()

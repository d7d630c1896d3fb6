"""One run of a sweep: train a copy from the model's weights down to a loss, or give up."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from batchsense.arrays import Integers
from batchsense.errors import DataError
from batchsense.training.learning_rate import (
    learning_rate_factor,
    optimizer_family,
    rescale,
)
from batchsense.training.verify.advice import Advice
from batchsense.training.verify.curve import evaluation_steps, steps_to_loss
from batchsense.training.workload.gradients import scalar_loss
from batchsense.training.workload.randomness import borrowed_randomness
from batchsense.training.workload.workload import Workload

#: Examples on which every run is judged, the same for all: eight times the advised size, within
#: these bounds. Fewer make the target another one, because a subset has a loss of its own: judged
#: on 232 digits, B_crit down to a loss of 0.15 came out as 75, on 1,024 as 30.
_EVALUATION_EXAMPLES = (1024, 2048)
_AT_ONCE = 256
#: A loss that rose by this many times the way down to the target counts as divergence.
_DIVERGED = 3.0


class OutOfTimeError(Exception):
    """The budget ended inside a run."""


@dataclass(frozen=True, slots=True)
class SweptRun:
    """What one run found.

    Attributes
    ----------
    batch_size : int
        Examples per step.
    multiplier : float
        Factor on the learning rate that the rule gives for this size.
    repeat : int
        Which order of the examples; runs of one repeat share it.
    steps : float or None
        Steps to the target loss; None if it was not reached in ``tried`` steps.
    tried : int
        Steps made.
    diverged : bool
        Whether the loss grew beyond use.
    seconds : float
        What the run took, evaluations included.
    """

    batch_size: int
    multiplier: float
    repeat: int
    steps: float | None
    tried: int
    diverged: bool
    seconds: float


def ruled_optimizer(
    workload: Workload, model: nn.Module, advice: Advice, batch_size: int, multiplier: float
) -> torch.optim.Optimizer:
    """Make the workload's optimizer with the settings that the rule gives for a batch size.

    Parameters
    ----------
    workload : Workload
        Whose optimizer.
    model : torch.nn.Module
        A copy of its model.
    advice : Advice
        Tells which size the learning rate belongs to, and the critical batch size.
    batch_size : int
        The size to run at.
    multiplier : float
        Factor on the learning rate of the rule.

    Returns
    -------
    torch.optim.Optimizer
        Ready to step.
    """
    optimizer = workload.fresh_optimizer(model)
    base, family = advice.learning_rate_batch_size, optimizer_family(optimizer)
    if family == "adam":
        rescale(optimizer, batch_size / base)
    elif family == "sgd":
        multiplier *= learning_rate_factor(
            "saturating", base, batch_size, advice.used_critical_batch_size
        )
    for group in optimizer.param_groups:
        if isinstance(group.get("lr"), torch.Tensor):
            group["lr"].mul_(multiplier)
        elif "lr" in group:
            group["lr"] *= multiplier
    return optimizer


def train_to_loss(
    workload: Workload,
    advice: Advice,
    batch_size: int,
    multiplier: float,
    repeat: int,
    most_steps: int,
    *,
    seed: int = 0,
    out_of_time: Callable[[], bool] = lambda: False,
) -> SweptRun:
    """Train a copy until the smoothed loss of fixed examples reaches the plan's target.

    Parameters
    ----------
    workload : Workload
        The training job; it is not changed.
    advice : Advice
        Target loss and learning rate.
    batch_size : int
        Examples per step.
    multiplier : float
        Factor on the learning rate of the rule.
    repeat : int
        Which order of the examples; the same for all conditions that are compared.
    most_steps : int
        Where to give up.
    seed : int
        Seed of orders and of the model's own randomness.
    out_of_time : callable
        Asked before each evaluation.

    Returns
    -------
    SweptRun
        Steps to the target, if it was reached.

    Raises
    ------
    OutOfTimeError
        ``out_of_time`` said so.
    DataError
        The workload cannot be evaluated.
    """
    began = time.perf_counter()
    with borrowed_randomness(int(np.random.SeedSequence([seed, repeat]).generate_state(1)[0])):
        judge = _Judge(workload, 8 * advice.batch_size, seed)
        model = workload.fresh_model()
        optimizer = ruled_optimizer(workload, model, advice, batch_size, multiplier)
        minibatches = _minibatches(len(workload.examples), batch_size, seed, repeat)
        steps, losses = [0], [judge.loss(model)]
        found, diverged = None, False
        for goal in evaluation_steps(most_steps):
            if out_of_time():
                raise OutOfTimeError
            try:
                for _ in range(goal - steps[-1]):
                    optimizer.zero_grad(set_to_none=True)
                    minibatch = workload.minibatch(next(minibatches))
                    scalar_loss(workload, model, minibatch).backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                loss = judge.loss(model)
            except DataError:
                if len(steps) == 1:
                    raise
                diverged = True  # a loss that is not finite, after steps that were
                break
            steps.append(int(goal))
            losses.append(loss)
            found = steps_to_loss(steps, losses, advice.target_loss)
            diverged = loss - losses[0] > _DIVERGED * abs(losses[0] - advice.target_loss)
            if found is not None or diverged:
                break
    return SweptRun(
        batch_size, multiplier, repeat, found, steps[-1], diverged, time.perf_counter() - began
    )


def _minibatches(count: int, batch_size: int, seed: int, repeat: int) -> Iterator[Integers]:
    """Cut one endless shuffled order, the same for every batch size, into minibatches."""
    rng = np.random.default_rng([seed, repeat])
    queue = rng.permutation(count)
    while True:
        while len(queue) < batch_size:
            queue = np.concatenate([queue, rng.permutation(count)])
        yield queue[:batch_size]
        queue = queue[batch_size:]


class _Judge:
    """The loss of fixed examples, with the model as it trains but without leaving a trace."""

    def __init__(self, workload: Workload, wanted: int, seed: int) -> None:
        least, most = _EVALUATION_EXAMPLES
        order = np.random.default_rng([seed, 1 << 20]).permutation(len(workload.examples))
        chosen = order[: min(max(wanted, least), most)]
        parts = np.array_split(chosen, math.ceil(len(chosen) / _AT_ONCE))
        self._workload, self._seed = workload, seed
        self._parts = [(workload.minibatch(part), len(part)) for part in parts]

    def loss(self, model: nn.Module) -> float:
        """Evaluate; buffers and random states stay as they are."""
        buffers = [buffer.clone() for buffer in model.buffers()]
        with torch.no_grad(), borrowed_randomness(self._seed):
            losses = [
                scalar_loss(self._workload, model, minibatch).item() * size
                for minibatch, size in self._parts
            ]
            for buffer, before in zip(model.buffers(), buffers, strict=True):
                buffer.copy_(before)
        return sum(losses) / sum(size for _, size in self._parts)

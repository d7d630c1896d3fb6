"""One run of a sweep: train a copy from the model's weights down to a loss, or give up."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from batchsense import clock
from batchsense.arrays import Integers
from batchsense.errors import DataError
from batchsense.training.learning_rate import follow_batch_size
from batchsense.training.running import EndlessOrder, optimizer_step
from batchsense.training.verify.advice import Advice
from batchsense.training.workload import (
    Workload,
    borrowed_randomness,
    moving_optimizer,
    scalar_loss,
)

#: Examples on which every run is judged, the same for all: eight times the advised size, within
#: these bounds. Fewer make the target another one, because a subset has a loss of its own: judged
#: on 232 digits, B_crit down to a loss of 0.15 came out as 75, on 1,024 as 30.
_EVALUATION_EXAMPLES = (1024, 2048)
#: Examples evaluated at once: without gradients, less memory than a step of as many.
_AT_ONCE = 256
#: A loss that rose by this many times the way down to the target counts as divergence: noise rises
#: by a part of the way, a diverging run by ever more.
_DIVERGED = 3.0
#: Ratio of neighbouring evaluations once they are far apart: the arrival is then known to 4 %.
_GROWTH = 1.08
#: Evaluations that are averaged, so that one lucky step does not count as arrival.
SMOOTHED = 3


class OutOfTimeError(Exception):
    """The budget ended inside a run."""


@dataclass(frozen=True, slots=True)
class SweptRun:
    """What one run found."""

    batch_size: int  #: Examples per step.
    multiplier: float  #: Factor on the learning rate that the rule gives for this size.
    repeat: int  #: Which order of the examples; runs of one repeat share it.
    steps: float | None  #: Steps to the target loss; None if it was not reached in ``tried`` steps.
    tried: int  #: Steps made.
    diverged: bool  #: Whether the loss grew beyond use.
    seconds: float  #: What the run took, evaluations included.


def steps_to_loss(steps: npt.ArrayLike, losses: npt.ArrayLike, target: float) -> float | None:
    """Return the steps, not rounded, after which the smoothed loss first reached the target.

    The loss is averaged over three neighbouring evaluations, the steps likewise, and both are
    joined by straight lines. None if the target was not reached.

    >>> steps_to_loss([0, 8, 16, 24, 32], [4.0, 3.0, 2.0, 1.0, 0.0], target=1.5)
    20.0
    >>> steps_to_loss([0, 8, 16], [4.0, 3.0, 2.0], target=1.5) is None
    True
    """
    window = np.ones(SMOOTHED) / SMOOTHED
    if len(np.asarray(steps)) < SMOOTHED:
        return None
    at = np.convolve(np.asarray(steps, dtype=np.float64), window, mode="valid")
    smooth = np.convolve(np.asarray(losses, dtype=np.float64), window, mode="valid")
    arrived = np.flatnonzero(smooth <= target)
    if len(arrived) == 0:
        return None
    k = int(arrived[0])
    if k == 0:
        # Before the first smoothed point: as far along the first line as the loss had to fall.
        start = float(np.asarray(losses, dtype=np.float64)[0])
        part = 1.0 if start <= smooth[0] else (start - target) / (start - smooth[0])
        return float(min(max(part, 0.0), 1.0) * at[0])
    part = (smooth[k - 1] - target) / (smooth[k - 1] - smooth[k])
    return float(at[k - 1] + part * (at[k] - at[k - 1]))


def evaluation_steps(most: int) -> Integers:
    """Return the steps after which to evaluate: each at first, then ever more rarely.

    >>> evaluation_steps(40)[-5:].tolist()
    [31, 33, 36, 39, 40]
    """
    found, step = [], 1
    while step < most:
        found.append(step)
        step = max(step + 1, round(step * _GROWTH))
    return np.array([*found, most], dtype=np.int64)


def ruled_optimizer(
    workload: Workload, model: nn.Module, advice: Advice, batch_size: int, multiplier: float
) -> torch.optim.Optimizer:
    """Make the workload's optimizer with the settings that the rule gives for a batch size.

    The learning rate is multiplied beyond that.
    """
    optimizer = moving_optimizer(workload, model)
    follow_batch_size(
        optimizer,
        advice.learning_rate_batch_size,
        batch_size,
        advice.used_critical_batch_size,
        multiplier,
    )
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

    The learning rate is ``multiplier`` times that of the rule. ``repeat`` is an order of the
    examples, the same for all conditions that are compared; ``out_of_time`` is asked before each
    evaluation.

    Raises OutOfTimeError: it said so.
    """
    began = clock.now()
    with borrowed_randomness(int(np.random.SeedSequence([seed, repeat]).generate_state(1)[0])):
        judge = _Judge(workload, 8 * advice.batch_size, seed)
        model = workload.fresh_model()
        optimizer = ruled_optimizer(workload, model, advice, batch_size, multiplier)
        order = EndlessOrder(len(workload.examples), [seed, repeat])
        steps, losses = [0], [judge.loss(model)]
        found, diverged = None, False
        for goal in evaluation_steps(most_steps):
            if out_of_time():
                raise OutOfTimeError
            try:
                for step in range(steps[-1], goal):
                    rows = order.at(step * batch_size, batch_size)
                    optimizer_step(workload, model, optimizer, [workload.minibatch(rows)])
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
    return SweptRun(batch_size, multiplier, repeat, found, steps[-1], diverged, clock.now() - began)


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
        buffers = [buffer.clone() for buffer in model.buffers()]
        with torch.no_grad(), borrowed_randomness(self._seed):
            losses = [
                scalar_loss(self._workload, model, minibatch).item() * size
                for minibatch, size in self._parts
            ]
            for buffer, before in zip(model.buffers(), buffers, strict=True):
                buffer.copy_(before)
        return sum(losses) / sum(size for _, size in self._parts)

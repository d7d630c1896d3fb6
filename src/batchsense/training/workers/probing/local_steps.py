"""Time the parts of local steps, and when in the backward pass each gradient becomes ready."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from batchsense import clock
from batchsense.errors import DataError
from batchsense.training.running.ranks import Ranks
from batchsense.training.workers.probing.compute import ComputeReading
from batchsense.training.workers.probing.overlap import Bucket
from batchsense.training.workload import Workload, scalar_loss, still_optimizer

#: Rounds of all sizes: five are the least of which a median means something, twenty know it to a
#: fifth of the spread of one.
_LEAST_ROUNDS, _MOST_ROUNDS = 5, 20
#: Backward passes in which readiness is read: the median of three forgets one disturbance.
_READINGS_OF_READINESS = 3


class LocalSteps:
    """Steps on a copy of the model with learning rate zero; the weights stay.

    >>> from batchsense.training import load_target
    >>> steps = LocalSteps(load_target("digits"))
    >>> forward, backward, optimizer = steps.time(16)
    >>> min(forward, backward, optimizer) > 0
    True
    """

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.model: nn.Module = workload.fresh_model()
        self.optimizer = still_optimizer(workload, self.model)
        self.device = next(self.model.parameters()).device

    def wait(self) -> None:
        """Wait for the device, so that a clock reads what was done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def time(self, micro_batch: int) -> tuple[float, float, float]:
        """Seconds of fetch and forward, backward, optimizer; all above 0."""
        moments = [self._now()]
        loss = self._loss(micro_batch)
        moments.append(self._now())
        loss.backward()
        moments.append(self._now())
        self.optimizer.step()
        self.optimizer.zero_grad()
        moments.append(self._now())
        # A clock that does not tick between two parts gives 0, of which no line has a ratio.
        forward, backward, optimizer = np.maximum(np.diff(moments), 1e-9)
        return float(forward), float(backward), float(optimizer)

    def whole_step(self, wrapped: nn.Module, micro_batch: int) -> float:
        """Seconds of a step of what wraps the loss of the same model."""
        began = self._now()
        wrapped(self._minibatch(micro_batch)).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return self._now() - began

    def loss_module(self) -> nn.Module:
        """The loss as a module, so that DistributedDataParallel sees all uses of the model."""
        return _Loss(self.workload, self.model)

    def readiness(self, micro_batch: int) -> tuple[Bucket, ...]:
        """The gradients in the order in which they become ready; those never ready come last."""
        parameters = [one for one in self.model.parameters() if one.requires_grad]
        found = np.full((_READINGS_OF_READINESS, len(parameters)), np.nan)
        reading, began = 0, 0.0

        def noted(place: int) -> Callable[[torch.Tensor], None]:
            def note(_: torch.Tensor) -> None:
                found[reading, place] = self._now() - began

            return note

        hooks = [
            parameter.register_post_accumulate_grad_hook(noted(place))  # type: ignore[no-untyped-call]
            for place, parameter in enumerate(parameters)
        ]
        try:
            for reading in range(_READINGS_OF_READINESS):
                loss = self._loss(micro_batch)
                began = self._now()
                loss.backward()
                found[reading] /= self._now() - began
                self.optimizer.zero_grad()
        finally:
            for hook in hooks:
                hook.remove()
        parts = np.nan_to_num(np.median(found, axis=0), nan=1.0).clip(0, 1)
        sizes = [parameter.numel() * parameter.element_size() for parameter in parameters]
        order = np.argsort(parts, kind="stable")
        return tuple(Bucket(sizes[place], float(parts[place])) for place in order)

    def _loss(self, micro_batch: int) -> Any:
        return scalar_loss(self.workload, self.model, self._minibatch(micro_batch))

    def _minibatch(self, micro_batch: int) -> Any:
        return self.workload.minibatch(np.arange(micro_batch) % len(self.workload.examples))

    def _now(self) -> float:
        self.wait()
        return clock.now()


class _Loss(nn.Module):
    def __init__(self, workload: Workload, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.workload = workload
        self.training = model.training

    def forward(self, minibatch: Any) -> torch.Tensor:
        return scalar_loss(self.workload, self.model, minibatch)


def measure_compute(
    steps: LocalSteps, ranks: Ranks, micro_batches: tuple[int, int], seconds: float
) -> tuple[ComputeReading, ...]:
    """Time local steps of one worker alone, then of all at once, by the slowest of each repeat.

    Sizes take turns, so that a slow moment of the machine meets both.

    Raises DataError: a step fails on one of the workers.
    """
    together = (1,) if ranks.alone else (1, ranks.world_size)
    return tuple(
        reading
        for workers in together
        for reading in _rounds(steps, ranks, micro_batches, seconds / len(together), workers)
    )


def _rounds(
    steps: LocalSteps,
    ranks: Ranks,
    micro_batches: tuple[int, int],
    seconds: float,
    workers: int,
) -> list[ComputeReading]:
    takes_part = workers > 1 or ranks.is_first

    def one_round() -> list[tuple[float, float, float]]:
        return [steps.time(size) if takes_part else (0.0, 0.0, 0.0) for size in micro_batches]

    ranks.agreed(one_round)  # kernels, caches, optimizer state
    first = np.sum(ranks.agreed(one_round))
    longest = max(float(took) for took in ranks.gathered(first))
    rounds = int(np.clip(seconds / max(longest, 1e-9), _LEAST_ROUNDS, _MOST_ROUNDS))
    mine = []
    for _ in range(rounds):
        if workers > 1:
            ranks.wait()  # real workers begin each step together
        mine.append(one_round())
    taken = np.max(ranks.gathered(np.array(mine)), axis=0)  # (rounds, sizes, parts)
    return [
        ComputeReading(workers, size, *(tuple(map(float, taken[:, i, part])) for part in range(3)))
        for i, size in enumerate(micro_batches)
    ]


def refuse_unlike_models(model: nn.Module, ranks: Ranks) -> None:
    """Make sure that all workers train the same parameters.

    Raises DataError: two of them differ; it names the first difference.
    """
    mine = [
        (name, tuple(parameter.shape), str(parameter.dtype).removeprefix("torch."))
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    ]
    everyone = ranks.gathered(mine)
    for rank, theirs in enumerate(everyone):
        if theirs != everyone[0]:
            unlike = [(a, b) for a, b in zip(everyone[0], theirs, strict=False) if a != b]
            said = f"{len(everyone[0])} and {len(theirs)} trained parameters"
            if unlike:
                said = " and ".join(f"{name} of {shape} {kind}" for name, shape, kind in unlike[0])
            raise DataError(
                f"the models of ranks 0 and {rank} differ: {said}; every worker must make the same "
                "model: same code, same files, and no size that hangs on the rank"
            )

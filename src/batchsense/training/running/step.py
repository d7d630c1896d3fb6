"""One optimizer step, as every loop of batchsense makes it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from batchsense.arrays import Floats
from batchsense.errors import DataError
from batchsense.training.workload import NOT_OF_THE_MODEL, Workload, backward, scalar_loss

#: The moments of a step: before and after the loss of each micro-batch, after its backward pass;
#: then before and after the optimizer.
Moment: TypeAlias = Literal["start", "loss", "gradients", "ready", "step"]
#: Told each moment, with the loss where there is one.
Watch: TypeAlias = Callable[[Moment, Tensor | None], None]


def _unwatched(moment: Moment, loss: Tensor | None) -> None:
    """Look away."""


def optimizer_step(
    workload: Workload,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    minibatches: Iterable[Any],
    *,
    scales: Sequence[float] | Floats | None = None,
    differentiate: Callable[[Tensor], None] = backward,
    watch: Watch = _unwatched,
) -> None:
    r"""Add up the gradients of micro-batches, step once, and zero the gradients.

    The gradient is :math:`\sum_k s_k \nabla L_k`, with 1 for the scales by default. Micro-batches
    are taken one at a time, and a ``DistributedDataParallel`` model exchanges it in the backward
    pass of the last only. Gradients are zero or None before. A loss that leaves them so is refused
    (DataError). Who gives another ``differentiate``,
    which adds the gradient of a loss to what the parameters hold, sets all gradients by himself, so
    they are not zeroed after the step. ``watch`` is told each moment.
    """
    last = None if scales is None else len(scales) - 1
    for k, minibatch in enumerate(minibatches):
        watch("start", None)
        with _kept_back(model, k, last):
            loss = scalar_loss(workload, model, minibatch)
            watch("loss", loss)
            scale = 1.0 if scales is None else float(scales[k])
            differentiate(loss if scale == 1.0 else loss.mul(scale))
        watch("gradients", loss)
    if differentiate is backward and all(p.grad is None for p in model.parameters()):
        raise DataError(NOT_OF_THE_MODEL)
    watch("ready", None)
    optimizer.step()
    watch("step", None)
    if differentiate is backward:
        optimizer.zero_grad()


def _kept_back(
    model: nn.Module, k: int, last: int | None
) -> contextlib.AbstractContextManager[None]:
    if last is None or k == last or not isinstance(model, DistributedDataParallel):
        return contextlib.nullcontext()
    return model.no_sync()

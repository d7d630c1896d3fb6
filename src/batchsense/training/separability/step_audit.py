"""Audit a user's own accumulation loop: does it give the gradient of the whole minibatch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from batchsense.errors import BatchsenseError, DataError
from batchsense.training.separability.kind.screening import mixed
from batchsense.training.separability.preparation import chosen_examples
from batchsense.training.separability.probe.probe import GradientProbe
from batchsense.training.separability.remedies.compare import GradientComparison, compare_gradients
from batchsense.training.workload.blame import described
from batchsense.training.workload.minibatches import cloned
from batchsense.training.workload.workload import Workload

#: ``step(model, micro_batches)``: runs backward on all micro-batches, leaving ``.grad``.
Step = Callable[[nn.Module, Sequence[Any]], Any]


def audit_step(
    workload: Workload,
    step: Step,
    micro_batch: int = 8,
    *,
    batch_size: int = 64,
    world_size: int = 1,
    tolerance: float = 1e-6,
    seed: int = 0,
) -> GradientComparison:
    """Compare what an accumulation loop leaves in ``.grad`` with the gradient of the whole.

    Run in float64 on a private copy. Known errors are named: a loss divided by the number of
    micro-batches once too often is the factor ``"1/accumulation"``, a gradient multiplied by the
    number of processes ``"world"``.

    Parameters
    ----------
    workload : Workload
        The loss over a whole minibatch is the truth here.
    step : callable
        ``step(model, micro_batches)`` calls ``backward()`` for every collated micro-batch as the
        training loop does, and no optimizer.
    micro_batch : int
        Examples per micro-batch.
    batch_size : int
        Examples in all.
    world_size : int
        How many processes the loop believes in.
    tolerance : float
        Relative deviation that counts as equal.
    seed : int
        Seed of the choice of examples and of random numbers; a loss with random numbers differs
        by its noise.

    Returns
    -------
    GradientComparison
        Deviation, scale, the name of the scale, and the scale of each parameter that is off.

    Raises
    ------
    DataError
        The step fails or leaves no gradient.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> def loss(model, x):
    ...     return model(x).square().mean()
    >>> workload = Workload(
    ...     nn.Linear(3, 1), loss, torch.randn(64, 3, generator=generator), torch.optim.SGD
    ... )
    >>> def forgetful(model, micro_batches):
    ...     for part in micro_batches:
    ...         loss(model, part).backward()
    >>> audit_step(workload, forgetful).factor
    'accumulation'
    """
    taken = chosen_examples(workload, batch_size, micro_batch, seed)
    probe = GradientProbe(workload, taken, "float64", seed)
    whole = probe.by_parameter(range(probe.count), mixed(seed, 61))
    model = probe.isolated.ready("free")
    places = [range(k, k + micro_batch) for k in range(0, probe.count, micro_batch)]
    parts = [cloned(probe.minibatch_of(list(place))) for place in places]
    with probe.isolated.conditions([], True, mixed(seed, 61), "free"):
        try:
            step(model, parts)
        except BatchsenseError:
            raise
        except Exception as error:
            raise DataError(f"it fails: {described(error)}", where="step") from error
    found = {
        name: torch.zeros(0) if p.grad is None else p.grad
        for name, p in model.named_parameters()
        if p.requires_grad
    }
    if all(gradient.numel() == 0 for gradient in found.values()):
        raise DataError(
            "it leaves no gradient in the model that it is given; call backward() and do not "
            "zero the gradients at the end",
            where="step",
        )
    candidate: dict[str, Tensor] = {
        name: gradient.reshape(-1) if gradient.numel() else torch.zeros_like(whole[name])
        for name, gradient in found.items()
    }
    return compare_gradients(
        whole, candidate, {"accumulation": len(parts), "world": world_size}, tolerance
    )

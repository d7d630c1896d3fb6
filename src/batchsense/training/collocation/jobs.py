"""A collocation problem as a training job, so that audits, noise, plans and memory apply to it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from batchsense.errors import DataError
from batchsense.training.collocation.conditions import (
    Condition,
    DrawnPoints,
    check_conditions,
    collocation_loss,
)
from batchsense.training.collocation.deepxde import conditions_of
from batchsense.training.collocation.minibatches import balanced_places
from batchsense.training.workload import OptimizerFactory, Workload

#: What a TARGET may return, in the refusal of anything else.
_JOB = (
    "training job; give batchsense.training.Workload(model, loss, examples, optimizer), a "
    "transformers.Trainer, (LightningModule, data) or a collocation"
)


def as_workload(
    problem: Any,
    optimizer: OptimizerFactory | None = None,
    batch_size: int | None = None,
    seed: int = 0,
) -> Workload:
    r"""Make a training job whose examples hold one point of every condition.

    N examples for the largest pool; a point of a smaller one that is in m of them counts
    :math:`N / (N_c m)` in each. So the mean over all examples is the loss of all points, and a
    minibatch of B examples has B points of every condition.

    ``problem`` is ``(conditions, model)``, ``(DeepXDE data, net)``, a ``deepxde.Model``, or
    anything with ``conditions`` and ``model`` or ``network(seed)``; ``optimizer`` and
    ``batch_size`` are those of a Workload, Adam at 1e-3 by default. ``seed`` also chooses which
    points share an example.

    Raises
    ------
    DataError
        It is no such problem, or :func:`check_conditions` or :func:`conditions_of` refuses it.

    Examples
    --------
    >>> wall = Condition("wall", lambda model, points: model(points) - 1, torch.rand(8, 1))
    >>> len(as_workload(([wall], nn.Linear(1, 1))).examples)
    8
    """
    conditions, model = parts_of_problem(problem, seed, _JOB)
    check_conditions(model, conditions)
    most = max(condition.count for condition in conditions)
    columns = []
    for number, condition in enumerate(conditions):
        rng = np.random.default_rng((seed, number))
        order, weights = balanced_places(condition.count, most, rng)
        points = condition.points.detach()[torch.as_tensor(order)]
        columns += [points, torch.as_tensor(weights * most).to(points)]

    def loss(model: nn.Module, minibatch: Sequence[Tensor]) -> Tensor:
        pairs = zip(minibatch[::2], minibatch[1::2], strict=True)
        drawn = {
            condition.name: DrawnPoints(points, weights / len(points))
            for condition, (points, weights) in zip(conditions, pairs, strict=True)
        }
        return collocation_loss(model, conditions, drawn)

    optimizer = optimizer or partial(torch.optim.Adam, lr=1e-3)
    return Workload(model, loss, TensorDataset(*columns), optimizer, batch_size=batch_size)


def parts_of_problem(
    problem: Any, seed: int, wanted: str = "collocation"
) -> tuple[Sequence[Condition], nn.Module]:
    """Conditions and network of what :func:`as_workload` takes."""
    if isinstance(problem, tuple) and len(problem) == 2:
        given, model = problem
    else:
        given = getattr(problem, "conditions", None) or getattr(problem, "data", None)
        model = getattr(problem, "model", None) or getattr(problem, "net", None)
        if model is None and hasattr(problem, "network"):
            model = problem.network(seed)
    if given is None or not isinstance(model, nn.Module):
        raise DataError(
            f"this is no {wanted} problem: (conditions, model), (DeepXDE data, net) or a "
            "deepxde.Model"
        )
    if getattr(problem, "external_trainable_variables", None):
        raise DataError("variables outside the network are not in copies of it; put them inside")
    if isinstance(given, Sequence) and all(isinstance(one, Condition) for one in given):
        return given, model
    return conditions_of(given, getattr(problem, "loss_weights", None)), model

"""Optimizers that do all their work and move nothing: for measuring time and memory."""

from __future__ import annotations

import torch
from torch import nn

from batchsense.training.workload.workload import Workload


def still_optimizer(workload: Workload, model: nn.Module) -> torch.optim.Optimizer:
    """Make the workload's optimizer with learning rate zero.

    It computes and stores what it always does, but the weights stay where the user put them, so
    that repeated steps are alike.

    Parameters
    ----------
    workload : Workload
        Whose optimizer.
    model : torch.nn.Module
        A fresh copy of its model.

    Returns
    -------
    torch.optim.Optimizer
        A new optimizer.

    Raises
    ------
    DataError
        As :meth:`Workload.fresh_optimizer`.

    Examples
    --------
    >>> from batchsense.training import load_target
    >>> workload = load_target("digits")
    >>> still_optimizer(workload, workload.fresh_model()).param_groups[0]["lr"]
    0.0
    """
    optimizer = workload.fresh_optimizer(model)
    for group in optimizer.param_groups:
        rate = group.get("lr")
        if isinstance(rate, torch.Tensor):
            rate.zero_()
        elif rate is not None:
            group["lr"] = 0.0
    return optimizer

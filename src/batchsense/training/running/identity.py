"""What makes two runs the same run: model, data and settings, compared between ranks and later."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from batchsense.errors import DataError
from batchsense.training.workload import Workload, borrowed_randomness, named_tensors

#: Examples that stand for all, evenly spread: reading all of a large data set would cost a pass.
_LOOKED_AT = 8
#: Settings of an optimizer that are compared; others hold functions or follow from these.
_SETTINGS = ("lr", "momentum", "betas", "eps", "weight_decay", "nesterov", "dampening")

Identity = dict[str, dict[str, Any]]


def identity_of(
    workload: Workload,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    plan: Mapping[str, Any],
    seed: int,
) -> Identity:
    """Describe a run by its model, data and plan, in plain values.

    Examples that are not the same at each reading are known by their shapes alone.

    >>> from batchsense.training import digits_workload
    >>> job = digits_workload()
    >>> found = identity_of(job, job.model, job.fresh_optimizer(job.model), {"batch size": 8}, 0)
    >>> list(found), found["model"]["4.bias"], found["plan"]["batch size"]
    (['model', 'data', 'plan'], '(10,) float32', 8)
    """
    first, again = (_content(workload, seed) for _ in range(2))
    if first != again:
        first = {name: text.partition(" #")[0] for name, text in first.items()}
    groups: dict[str, Any] = {}
    for k, group in enumerate(optimizer.param_groups):
        of = type(optimizer).__name__ + (f" (group {k})" if k else "")
        groups |= {f"{of} {name}": _plain(group[name]) for name in _SETTINGS if name in group}
    tensors = model.state_dict(keep_vars=True).items()
    return {
        "model": {name: _shape(one) for name, one in tensors if isinstance(one, torch.Tensor)},
        "data": {"examples": len(workload.examples), **first},
        "plan": {**plan, **groups, "seed": seed},
    }


def refuse_other(own: Identity, other: Identity, here: str, there: str) -> None:
    """Refuse to go on if two runs are not the same one.

    Raises DataError: what differs first, and how.

    >>> refuse_other({"plan": {"seed": 0}}, {"plan": {"seed": 1}}, "asked for", "checkpoint.pt")
    Traceback (most recent call last):
    batchsense.errors.DataError: checkpoint.pt: is of another plan: seed is 1 there, 0 asked for
    """
    for part, values in own.items():
        others = other.get(part, {})
        for name in [*values, *(set(others) - set(values))]:
            one, two = values.get(name, "absent"), others.get(name, "absent")
            if one != two:
                raise DataError(
                    f"is of another {part}: {name} is {two} there, {one} {here}", where=there
                )


def _content(workload: Workload, seed: int) -> dict[str, str]:
    rows = np.linspace(0, len(workload.examples) - 1, _LOOKED_AT).astype(int)
    with borrowed_randomness(seed):
        # One after the other: together they may be of different lengths.
        read = [workload.minibatch([row]) for row in dict.fromkeys(rows.tolist())]
    found = {}
    for row, minibatch in zip(dict.fromkeys(rows.tolist()), read, strict=True):
        for name, tensor in named_tensors(minibatch, "example"):
            digest = hashlib.sha256(_bytes(tensor))
            found[f"{row} {name}"] = f"{_shape(tensor)} #{digest.hexdigest()[:12]}"
    return found


def _bytes(tensor: torch.Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().view(-1)
    return flat.view(torch.uint8).numpy().tobytes()  # numpy has no bfloat16


def _shape(tensor: torch.Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return float(value)
    return list(value) if isinstance(value, tuple) else value

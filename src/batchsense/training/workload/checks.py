"""Is this a workload that can be planned at all? Asked once, before anything is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from batchsense.errors import DataError
from batchsense.training.workload.blame import described
from batchsense.training.workload.gradients import flat_gradient, scalar_loss
from batchsense.training.workload.randomness import borrowed_randomness
from batchsense.training.workload.workload import Workload, trainable

_PROBE_EXAMPLES = 8
_SAME_MEAN = 1e-3


@dataclass(frozen=True, slots=True)
class WorkloadCheck:
    """What the check of a workload found.

    Attributes
    ----------
    examples : int
        How many there are.
    parameters : int
        Trained numbers in the model.
    coupled_modules : tuple of str
        Modules that mix the examples of a minibatch (BatchNorm in train mode).
    mean_of_examples : bool or None
        Whether the loss of a minibatch is the mean of the losses of its halves; None where the
        model cannot be evaluated in eval mode.
    """

    examples: int
    parameters: int
    coupled_modules: tuple[str, ...]
    mean_of_examples: bool | None


def check_workload(workload: Workload, seed: int = 0) -> WorkloadCheck:
    """Try one small minibatch, and refuse what would give wrong numbers later.

    Parameters
    ----------
    workload : Workload
        What to check; it is not changed.
    seed : int
        Seed of the random choice of examples.

    Returns
    -------
    WorkloadCheck
        Sizes and warnings.

    Raises
    ------
    DataError
        The model has nothing to train, there are fewer than two examples, the loss cannot be
        trained on, or it is a sum over the examples instead of their mean.

    Examples
    --------
    >>> from batchsense.training import load_target
    >>> check_workload(load_target("digits")).parameters
    26122
    """
    _check_parts(workload)
    count = len(workload.examples)
    with borrowed_randomness(seed):
        model = workload.fresh_model()
        rng = np.random.default_rng(seed)
        chosen = rng.choice(count, size=min(count, _PROBE_EXAMPLES), replace=False)
        chosen = chosen[: len(chosen) // 2 * 2]
        flat_gradient(workload, model, workload.minibatch(chosen))
        workload.fresh_optimizer(model)
        mean = _is_mean_of_examples(workload, chosen)
    size = sum(parameter.numel() for parameter in trainable(workload.model))
    return WorkloadCheck(count, size, coupled_modules(workload.model), mean)


def coupled_modules(model: nn.Module) -> tuple[str, ...]:
    """Name the modules whose output for one example depends on the others.

    Parameters
    ----------
    model : torch.nn.Module
        The model, in the mode in which it is trained.

    Returns
    -------
    tuple of str
        Names of BatchNorm modules that use the statistics of the minibatch.

    Examples
    --------
    >>> coupled_modules(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)))
    ('1 (BatchNorm1d)',)
    """
    kind = nn.modules.batchnorm._BatchNorm
    return tuple(
        f"{name or 'model'} ({type(module).__name__})"
        for name, module in model.named_modules()
        if isinstance(module, kind) and (module.training or not module.track_running_stats)
    )


def _check_parts(workload: Workload) -> None:
    """Check the types of the parts and that there is something to learn from."""
    if not isinstance(workload.model, nn.Module):
        raise DataError(f"Workload.model is a {type(workload.model).__name__}, not a torch Module")
    if not trainable(workload.model):
        raise DataError("the model has no parameter with requires_grad: there is nothing to train")
    for name in ("loss", "optimizer"):
        if not callable(getattr(workload, name)):
            raise DataError(f"Workload.{name} is not callable; give a function")
    if workload.batch_size is not None and workload.batch_size < 1:
        raise DataError(f"Workload.batch_size is {workload.batch_size}; it counts examples")
    try:
        count = len(workload.examples)
    except Exception as error:
        raise DataError(
            f"the number of examples is unknown ({described(error)}); give an indexable data set "
            "with a length, for example a list of the first thousands of a stream"
        ) from error
    if count < 2:
        what = "there is no example" if count == 0 else "there is one example"
        raise DataError(f"{what}; how gradients differ between examples needs at least two")


def _is_mean_of_examples(workload: Workload, chosen: np.ndarray[Any, Any]) -> bool | None:
    """Compare the loss of a minibatch with the losses of its halves, without randomness."""
    model = workload.fresh_model().eval()
    half = len(chosen) // 2
    try:
        with torch.no_grad():
            whole, first, second = (
                scalar_loss(workload, model, workload.minibatch(part)).item()
                for part in (chosen, chosen[:half], chosen[half:])
            )
    except DataError:
        return None
    scale = abs(first) + abs(second)
    if abs(whole - (first + second) / 2) <= _SAME_MEAN * scale:
        return True
    if abs(whole - (first + second)) <= _SAME_MEAN * scale:
        raise DataError(
            "the loss is the sum over the examples of the minibatch; return their mean "
            "(reduction='mean'), else the gradient grows with the batch size"
        )
    return False

"""The door that every workload passes before anything is measured.

:func:`admitted` looks at the parts and runs nothing; :func:`check_workload` tries one minibatch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils.data import DataLoader, IterableDataset

from batchsense.arrays import Places
from batchsense.blame import described
from batchsense.errors import DataError, listed
from batchsense.training.workload.gradients import flat_gradient, scalar_loss
from batchsense.training.workload.workload import Workload, borrowed_randomness, trainable

#: Enough for two halves of four, so that a sum differs from a mean by a factor of two; few enough
#: to cost nothing even where an example is a whole image.
_PROBE_EXAMPLES = 8
#: Relative difference taken for rounding: far above float32's 1e-7, and far below the factor of two
#: between sum and mean.
_SAME_MEAN = 1e-3

_AS_A_LIST = "give a list of its first thousands: examples=list(itertools.islice(stream, 5000))"


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
    """

    examples: int
    parameters: int
    coupled_modules: tuple[str, ...]


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
        As :func:`admitted`; or there are fewer than two examples, the loss cannot be trained on, or
        it is a sum over the examples instead of their mean.

    Examples
    --------
    >>> from batchsense.training import load_target
    >>> check_workload(load_target("digits")).parameters
    26122
    """
    count = admitted(workload)
    if count < 2:
        raise DataError(
            "there is one example; how gradients differ between examples needs at least two"
        )
    with borrowed_randomness(seed):
        model = workload.fresh_model()
        flat_gradient(workload, model, workload.minibatch(_few(count, seed)))
        workload.fresh_optimizer(model)
    refuse_sum(workload, seed)
    size = sum(parameter.numel() for parameter in trainable(workload.model))
    return WorkloadCheck(count, size, coupled_modules(workload.model))


def coupled_modules(model: nn.Module) -> tuple[str, ...]:
    """Name the BatchNorm modules whose output for one example depends on the others.

    >>> coupled_modules(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)))
    ('1 (BatchNorm1d)',)
    """
    kind = nn.modules.batchnorm._BatchNorm
    return tuple(
        f"{name or 'model'} ({type(module).__name__})"
        for name, module in model.named_modules()
        if isinstance(module, kind) and (module.training or not module.track_running_stats)
    )


def least_part(model: nn.Module) -> int:
    """Give the fewest examples that go through a model together: two where BatchNorm mixes them.

    >>> least_part(nn.Linear(4, 4)), least_part(nn.BatchNorm1d(4))
    (1, 2)
    """
    return 2 if coupled_modules(model) else 1


def admitted(workload: Workload) -> int:
    """Count the examples; refuse what cannot be measured, whatever the question. Nothing is run.

    Every function that measures a workload calls this first, so that the same fault is told in the
    same words everywhere.

    Raises DataError: it is no Workload; its model is no torch module, has no weights yet (lazy
    layers, meta device) or nothing to train; its examples are none, or a stream or a loader and
    cannot be indexed; or its loss or optimizer cannot be called.

    >>> from batchsense.training import load_target
    >>> admitted(load_target("digits"))
    1797
    """
    if not isinstance(workload, Workload):
        raise DataError(
            f"{_kind(workload)} is no workload; "
            "give batchsense.training.Workload(model, loss, examples, optimizer)"
        )
    if not isinstance(workload.model, nn.Module):
        raise DataError(f"Workload.model is of type {_kind(workload.model)}, not a torch Module")
    for name in ("loss", "optimizer"):
        if not callable(getattr(workload, name)):
            raise DataError(f"Workload.{name} is not callable; give a function")
    size: object = workload.batch_size
    whole = isinstance(size, int | np.integer) and not isinstance(size, bool)
    if size is not None and not (whole and size >= 1):  # type: ignore[operator]
        raise DataError(f"Workload.batch_size is {size!r}; it counts examples")
    _check_weights(workload.model)
    if (count := _count(workload.examples)) < 1:
        raise DataError("Workload.examples is empty: there is nothing to train on")
    return count


def _check_weights(model: nn.Module) -> None:
    tensors = dict([*model.named_parameters(), *model.named_buffers()])
    if lazy := [name for name, tensor in tensors.items() if is_lazy(tensor)]:
        raise DataError(
            "has no shape yet (lazy modules); run one minibatch through the model before it goes "
            "into the Workload",
            where=listed(lazy, 3),
        )
    if meta := [name for name, tensor in tensors.items() if tensor.is_meta]:
        raise DataError(
            "the model is on the meta device; build it with real weights", where=listed(meta, 3)
        )
    if not trainable(model):
        raise DataError("the model has no parameter with requires_grad: there is nothing to train")


def _count(examples: Any) -> int:
    if isinstance(examples, DataLoader):
        raise DataError(
            "Workload.examples is a DataLoader, whose items are minibatches; give its data set: "
            "examples=loader.dataset, collate=loader.collate_fn, batch_size=loader.batch_size"
        )
    indexable = hasattr(examples, "__getitem__") or hasattr(examples, "__getitems__")
    if isinstance(examples, IterableDataset) or (not indexable and hasattr(examples, "__iter__")):
        raise DataError(
            f"Workload.examples is a stream ({_kind(examples)}), which cannot be indexed; "
            f"{_AS_A_LIST}"
        )
    if not indexable:
        raise DataError(
            f"Workload.examples is of type {_kind(examples)}, which cannot be indexed; give a list "
            "or a data set with a length"
        )
    try:
        return len(examples)
    except Exception as error:
        raise DataError(
            f"the number of examples is unknown ({described(error)}); give a data set with a "
            f"length, or, if it is a stream, {_AS_A_LIST}"
        ) from error


def _kind(thing: object) -> str:
    return type(thing).__name__


def _few(count: int, seed: int) -> Places:
    rng = np.random.default_rng(seed)
    chosen = rng.choice(count, size=min(count, _PROBE_EXAMPLES), replace=False)
    return np.asarray(chosen[: len(chosen) // 2 * 2])


def refuse_sum(workload: Workload, seed: int = 0) -> None:
    """Refuse a loss that is the sum over its examples, where eval mode lets it be seen.

    Raises DataError: it is; its gradient grows with the batch size, which no rule for learning
    rates expects.
    """
    chosen = _few(admitted(workload), seed)
    half = len(chosen) // 2
    if not half:
        return
    try:
        with borrowed_randomness(seed), torch.no_grad():
            model = workload.fresh_model().eval()
            whole, first, second = (
                scalar_loss(workload, model, workload.minibatch(part)).item()
                for part in (chosen, chosen[:half], chosen[half:])
            )
    except DataError:
        return
    same = _SAME_MEAN * (abs(first) + abs(second))
    if abs(whole - (first + second)) <= same < abs(whole - (first + second) / 2):
        raise DataError(
            "the loss is the sum over the examples of the minibatch; return their mean "
            "(reduction='mean'), else the gradient grows with the batch size"
        )

"""Per-example gradients of the few parameters that no rule covers, formed one by one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from batchsense.arrays import Floats
from batchsense.errors import BatchsenseError, DataError
from batchsense.progress import Progress, silent
from batchsense.training.example_gradients.contribution import norms_of_rows, parts_of, precise
from batchsense.training.workload.blame import described
from batchsense.training.workload.gradients import scalar_loss
from batchsense.training.workload.minibatches import (
    example_axis_of,
    has_list_of_examples,
    leaves,
    rebuilt,
)
from batchsense.training.workload.workload import Workload

#: ``vmap``: all examples of a part at once; ``single``: one backward pass for each example;
#: ``auto``: the first, or the second where the model cannot be vectorised; ``none``: neither.
Fallback: TypeAlias = Literal["auto", "vmap", "single", "none"]


def formed_one_by_one(
    workload: Workload,
    model: nn.Module,
    names: Sequence[str],
    indices: Sequence[int],
    how: Fallback = "auto",
    example_dim: int = 0,
    progress: Progress = silent,
) -> tuple[Floats, Floats]:
    """Form the gradient of each example for some parameters, and square it.

    Parameters
    ----------
    workload : Workload
        Whose loss and examples.
    model : torch.nn.Module
        The model or a copy of it.
    names : sequence of str
        Parameters, as ``model.named_parameters()`` names them.
    indices : sequence of int
        The examples.
    how : {"auto", "vmap", "single"}
        See :data:`Fallback`.
    example_dim : {0, 1}
        The dimension of the minibatch's tensors that counts examples.
    progress : Progress
        Told how many examples are done.

    Returns
    -------
    array of shape (parameters, n)
        Squared norms.
    array of shape (parameters,)
        Squared norms of the mean gradients.

    Raises
    ------
    DataError
        The loss of a single example cannot be computed, or ``how`` is "vmap" and impossible.
    """
    parameters = dict(model.named_parameters())
    wanted = {name: parameters[name] for name in names}
    squared: list[Floats] = []
    sums = [torch.zeros_like(precise(parameter.detach())) for parameter in wanted.values()]
    numbers = sum(parameter.numel() for parameter in wanted.values())
    done = 0
    for part in parts_of(len(indices), numbers):
        chosen = list(indices[part])
        for gradients in _gradients(workload, model, wanted, chosen, how, example_dim):
            squared.append(_squared(gradients))
            for total, gradient in zip(sums, gradients, strict=True):
                total += precise(gradient).sum(0)
            done += len(gradients[0])
            progress("forming gradients one by one", done, len(indices))
    means = [float(torch.linalg.vector_norm(total)) / len(indices) for total in sums]
    return np.concatenate(squared, axis=1), np.array(means) ** 2


def _gradients(
    workload: Workload,
    model: nn.Module,
    wanted: dict[str, nn.Parameter],
    chosen: Sequence[int],
    how: Fallback,
    example_dim: int,
) -> Iterator[list[Tensor]]:
    """Give stacked gradients, one tensor (examples, *shape) for each parameter."""
    if how != "single":
        try:
            minibatch = workload.minibatch(chosen)
            gradients = _vectorised(
                workload.loss, model, wanted, minibatch, len(chosen), example_dim
            )
        except Exception as error:
            if how == "vmap":
                raise DataError(
                    f"the loss cannot be vectorised over examples: {described(error)}; "
                    "use fallback='single'"
                ) from error
        else:
            yield gradients
            return
    for index in chosen:
        yield _single(workload, model, wanted, index)


def _single(
    workload: Workload, model: nn.Module, wanted: dict[str, nn.Parameter], index: int
) -> list[Tensor]:
    """Differentiate the loss of one example alone."""
    try:
        loss = scalar_loss(workload, model, workload.minibatch([index]))
    except BatchsenseError as error:
        raise DataError(f"example {index} alone: {error}") from error
    found = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
    pairs = zip(found, wanted.values(), strict=True)
    whole = [torch.zeros_like(p) if g is None else g.to_dense() for g, p in pairs]
    return [gradient.detach().unsqueeze(0) for gradient in whole]


def _vectorised(
    loss: Callable[[nn.Module, Any], Tensor],
    model: nn.Module,
    wanted: dict[str, nn.Parameter],
    minibatch: Any,
    count: int,
    example_dim: int,
) -> list[Tensor]:
    """Differentiate the losses of all examples at once by ``torch.func``."""
    tensors = leaves(minibatch)
    axes = [example_axis_of(tensor, count, example_dim) for tensor in tensors]
    if all(axis is None for axis in axes):
        raise ValueError("no tensor of the minibatch counts examples")
    if has_list_of_examples(minibatch, count):
        raise ValueError("the minibatch holds a list of examples")
    holder = _Loss(model, loss)
    values = {f"model.{name}": parameter.detach() for name, parameter in wanted.items()}

    def loss_of_one(replaced: dict[str, Tensor], *entries: Tensor) -> Tensor:
        remaining = iter(zip(entries, axes, strict=True))

        def with_one_example(_: Tensor) -> Tensor:
            entry, axis = next(remaining)
            return entry if axis is None else entry.unsqueeze(axis)

        alone = rebuilt(minibatch, with_one_example)
        value: Tensor = torch.func.functional_call(holder, replaced, (alone,))
        return value.reshape(())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        each = torch.func.vmap(
            torch.func.grad(loss_of_one), in_dims=(None, *axes), randomness="different"
        )
        found = each(values, *tensors)
    return [found[f"model.{name}"].detach() for name in wanted]


class _Loss(nn.Module):
    """The loss as a module, so that ``functional_call`` can replace the model's parameters."""

    def __init__(self, model: nn.Module, loss: Callable[[nn.Module, Any], Tensor]) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, minibatch: Any) -> Tensor:
        """Compute the loss of a minibatch."""
        return self.loss(self.model, minibatch)


def _squared(gradients: Sequence[Tensor]) -> Floats:
    """Square and sum stacked gradients, one row for each parameter."""
    rows = [norms_of_rows(precise(gradient)).cpu().double().numpy() ** 2 for gradient in gradients]
    return np.stack(rows)

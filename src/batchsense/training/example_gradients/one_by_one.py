"""Gradients of examples one by one: where no rule covers a parameter, and to check the rules."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from batchsense.arrays import Floats
from batchsense.blame import described
from batchsense.errors import BatchsenseError, DataError
from batchsense.progress import Progress
from batchsense.training.example_gradients.contributions import norms_of_rows, parts_of, precise
from batchsense.training.workload import (
    Loss,
    Workload,
    differentiated,
    example_axis_of,
    has_list_of_examples,
    leaves,
    loss_gradient,
    rebuilt,
    scalar_loss,
)

#: Relative agreement asked of a parameter's squared norms, by precision. The rules agree to 3e-16
#: and 5e-7 in float64 and float32, so that only an example in the wrong place fails.
_AGREEMENT = {torch.float64: 1e-9, torch.float32: 1e-4}
_AGREEMENT_IN_HALF_PRECISION = 1e-1

#: A parameter's squared norm is compared in units of at least this share of the total: a layer with
#: almost no gradient differs by rounding alone, and matters to no sum.
_SMALLEST_SHARE = 1e-3
#: Relative difference between two losses that counts as rounding, in half precision too.
_SAME_LOSS = 1e-3

#: ``vmap``: all examples of a part at once; ``single``: one backward pass for each example;
#: ``auto``: the first, or the second where the model cannot be vectorised; ``none``: neither.
Fallback: TypeAlias = Literal["auto", "vmap", "single", "none"]


def formed_one_by_one(
    workload: Workload,
    model: nn.Module,
    names: Sequence[str],
    indices: Sequence[int],
    how: Fallback,
    example_dim: int,
    progress: Progress,
) -> tuple[Floats, Floats]:
    """Form the gradient of each example for some parameters, and square it.

    ``names`` are as ``model.named_parameters()`` has them; ``indices`` choose the n examples.

    Shapes: the result (parameters, n); the result (parameters,).

    Raises DataError: the loss of a single example cannot be computed, or ``how`` is "vmap" and
    impossible.
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
            norms = [norms_of_rows(precise(gradient)).cpu().double() for gradient in gradients]
            squared.append(np.stack([one.numpy() ** 2 for one in norms]))
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
    """Stacked gradients, one tensor (examples, *shape) for each parameter."""
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
    try:
        loss = scalar_loss(workload, model, workload.minibatch([index]))
    except BatchsenseError as error:
        raise DataError(f"example {index} alone: {error}") from error
    found = differentiated(loss, list(wanted.values()))
    pairs = zip(found, wanted.values(), strict=True)
    whole = [torch.zeros_like(p) if g is None else g.to_dense() for g, p in pairs]
    return [gradient.detach().unsqueeze(0) for gradient in whole]


def _vectorised(
    loss: Loss,
    model: nn.Module,
    wanted: dict[str, nn.Parameter],
    minibatch: Any,
    count: int,
    example_dim: int,
) -> list[Tensor]:
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

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, minibatch: Any) -> Tensor:
        """Compute the loss of a minibatch."""
        return self.loss(self.model, minibatch)


def chosen_for_check(indices: Sequence[int]) -> list[int]:
    """Choose the first, the middle and the last example.

    >>> chosen_for_check([7, 8, 9, 10, 11]), chosen_for_check([5])
    ([7, 9, 11], [5])
    """
    places = sorted({0, len(indices) // 2, len(indices) - 1})
    return [int(indices[place]) for place in places]


def measured_alone(
    workload: Workload, model: nn.Module, indices: Sequence[int]
) -> tuple[Floats, dict[str, Floats]]:
    """Differentiate the loss of each example alone, as plainly as possible.

    Returns the losses of n examples, and the squared norms of their gradients by parameter.

    Raises DataError: the loss of one example cannot be computed, or differs between two
    evaluations.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    losses = []
    rows: list[list[float]] = []
    for index in indices:
        minibatch = workload.minibatch([index])
        try:
            loss = scalar_loss(workload, model, minibatch)
            again = scalar_loss(workload, model, minibatch)
            gradients = loss_gradient(loss, list(trained.values()))
        except BatchsenseError as error:
            raise DataError(f"example {index} alone: {error}") from error
        if not torch.equal(loss, again) and _differ(loss.item(), again.item()):
            raise DataError(
                f"the loss of example {index} alone is {loss.item():.6g} and then "
                f"{again.item():.6g}: it is random, so per-example norms cannot be checked; make "
                "the loss repeatable, or pass self_check=False if each example draws for itself"
            )
        losses.append(loss.item())
        rows.append([float(g.detach().double().square().sum()) for g in gradients])
    return np.array(losses), dict(zip(trained, np.array(rows).T, strict=True))


def compare(
    alone: tuple[Floats, Mapping[str, Floats]],
    together: tuple[float, Mapping[str, Floats]],
    reduction: str,
    model: nn.Module,
    half: bool,
) -> None:
    """Refuse norms in a minibatch that the same examples alone do not have.

    ``alone`` is from :func:`measured_alone`, ``together`` has the loss of one minibatch and what
    the checked method gave there; ``half`` says whether gradients came in half precision.

    Raises DataError: the losses do not add up, so examples are coupled or normalised together; or
    the norms of a layer differ.
    """
    losses, parts = alone
    _compare_losses(losses, together[0], reduction)
    total = sum(parts.values())
    parameters = dict(model.named_parameters())
    for name, found in together[1].items():
        dtype = torch.float16 if half else parameters[name].dtype
        allowed = _AGREEMENT.get(dtype, _AGREEMENT_IN_HALF_PRECISION)
        expected = parts[name]
        scale = np.maximum(expected, _SMALLEST_SHARE * total)
        wrong = np.abs(found - expected) > allowed * scale
        if wrong.any():
            layer = type(model.get_submodule(name.rpartition(".")[0])).__name__
            at = int(np.argmax(np.abs(found - expected) / np.where(scale > 0, scale, 1.0)))
            raise DataError(
                f"the squared gradient norm of an example is {found[at]:.6g} in a minibatch and "
                f"{expected[at]:.6g} alone: the example meets the others in or after this layer, "
                "or the layer keeps its examples in another dimension (see example_dim)",
                where=f"{name} ({layer})",
            )


def _compare_losses(losses: Floats, joint: float, reduction: str) -> None:
    mean, total = float(losses.mean()), float(losses.sum())
    expected = mean if reduction == "mean" else total
    if not _differ(joint, expected):
        return
    other, value = ("sum", total) if reduction == "mean" else ("mean", mean)
    if not _differ(joint, value):
        raise DataError(
            f"the loss is the {other} of its examples' losses, not their {reduction}; "
            f"pass form=LossForm(reduction={other!r})"
        )
    raise DataError(
        f"the loss of {len(losses)} examples together is {joint:.6g}, and the {reduction} of "
        f"their losses alone is {expected:.6g}: it depends on what else is in the minibatch "
        "(coupled examples, or a normaliser such as ignore_index, class weights or padding), so "
        "no per-example gradient exists; run `batchsense audit`"
    )


def _differ(one: float, other: float) -> bool:
    return abs(one - other) > _SAME_LOSS * (abs(one) + abs(other)) / 2


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Switch dropout off inside the block, and give buffers back as they were."""
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    changed: list[tuple[nn.Module, str, object]] = []
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            changed.append((module, "p", module.p))
        elif isinstance(module, (nn.MultiheadAttention, nn.RNNBase)):
            changed.append((module, "dropout", module.dropout))
    for module, name, _ in changed:
        setattr(module, name, 0.0)
    try:
        yield
    finally:
        for module, name, value in changed:
            setattr(module, name, value)
        with torch.no_grad():
            for buffer, before in buffers:
                if buffer.shape == before.shape and not torch.equal(buffer, before):
                    buffer.copy_(before)

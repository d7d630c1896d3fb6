"""Before norms are believed: three examples alone must give what they give together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from batchsense.arrays import Floats
from batchsense.errors import BatchsenseError, DataError
from batchsense.training.example_gradients.norms import Norms
from batchsense.training.workload.gradients import loss_gradient, scalar_loss
from batchsense.training.workload.workload import Workload

#: Relative agreement asked of a parameter's squared norms, by precision.
_AGREEMENT = {torch.float64: 1e-9, torch.float32: 1e-4}
_AGREEMENT_IN_HALF_PRECISION = 1e-1
#: A parameter's squared norm is compared in units of at least this share of the total.
_SMALLEST_SHARE = 1e-3
_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Alone:
    """Losses and squared norms of a few examples, each computed alone.

    Attributes
    ----------
    losses : array of shape (n,)
        The losses.
    parts : mapping from parameter name to array of shape (n,)
        Squared norms of the gradients.
    """

    losses: Floats
    parts: dict[str, Floats]


def chosen_for_check(indices: Sequence[int]) -> list[int]:
    """Choose the first, the middle and the last example.

    Examples
    --------
    >>> chosen_for_check([7, 8, 9, 10, 11]), chosen_for_check([5])
    ([7, 9, 11], [5])
    """
    places = sorted({0, len(indices) // 2, len(indices) - 1})[:_EXAMPLES]
    return [int(indices[place]) for place in places]


def measured_alone(workload: Workload, model: nn.Module, indices: Sequence[int]) -> Alone:
    """Differentiate the loss of each example alone, as plainly as possible.

    Raises
    ------
    DataError
        The loss of one example cannot be computed, or differs between two evaluations.
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
        if not torch.equal(loss, again) and _differ(loss.item(), again.item(), 1e-3):
            raise DataError(
                f"the loss of example {index} alone is {loss.item():.6g} and then "
                f"{again.item():.6g}: it is random, so per-example norms cannot be checked; make "
                "the loss repeatable, or pass self_check=False if each example draws for itself"
            )
        losses.append(loss.item())
        rows.append([float(g.detach().double().square().sum()) for g in gradients])
    table = np.array(rows).T
    return Alone(np.array(losses), dict(zip(trained, table, strict=True)))


def compare(
    alone: Alone, together: Norms, joint_loss: float, reduction: str, model: nn.Module, half: bool
) -> None:
    """Refuse norms that the examples alone do not have.

    Parameters
    ----------
    alone : Alone
        The examples one by one.
    together : Norms
        The same examples in one minibatch, by the method that is checked.
    joint_loss : float
        The loss of that minibatch.
    reduction : {"mean", "sum"}
        What the loss is said to do.
    model : torch.nn.Module
        For the names of layers.
    half : bool
        Whether gradients came in half precision.

    Raises
    ------
    DataError
        The losses do not add up, so examples are coupled or normalised together; or the norms of a
        layer differ.
    """
    _compare_losses(alone.losses, joint_loss, reduction)
    total = sum(alone.parts.values())
    parameters = dict(model.named_parameters())
    for name, found in together.by_parameter.items():
        allowed = (
            _AGREEMENT_IN_HALF_PRECISION
            if half
            else _AGREEMENT.get(parameters[name].dtype, _AGREEMENT_IN_HALF_PRECISION)
        )
        expected = alone.parts[name]
        scale = np.maximum(expected, _SMALLEST_SHARE * total)
        wrong = np.abs(found - expected) > allowed * scale
        if wrong.any():
            at = int(np.argmax(np.abs(found - expected) / np.where(scale > 0, scale, 1.0)))
            raise DataError(
                f"the squared gradient norm of an example is {found[at]:.6g} in a minibatch and "
                f"{expected[at]:.6g} alone: the example meets the others in or after this layer, "
                "or the layer keeps its examples in another dimension (see example_dim)",
                where=f"{name} ({_layer_type(model, name)})",
            )


def _compare_losses(losses: Floats, joint: float, reduction: str) -> None:
    """Check that the loss of a minibatch is the mean, or the sum, of its examples' losses."""
    mean, total = float(losses.mean()), float(losses.sum())
    expected = mean if reduction == "mean" else total
    if not _differ(joint, expected, 1e-3):
        return
    other, value = ("sum", total) if reduction == "mean" else ("mean", mean)
    if not _differ(joint, value, 1e-3):
        raise DataError(
            f"the loss is the {other} of its examples' losses, not their {reduction}; "
            f"pass reduction={other!r}"
        )
    raise DataError(
        f"the loss of {len(losses)} examples together is {joint:.6g}, and the {reduction} of "
        f"their losses alone is {expected:.6g}: it depends on what else is in the minibatch "
        "(coupled examples, or a normaliser such as ignore_index, class weights or padding), so "
        "no per-example gradient exists; run `batchsense audit`"
    )


def _differ(one: float, other: float, relative: float) -> bool:
    """Whether two losses differ by more than rounding."""
    return abs(one - other) > relative * (abs(one) + abs(other)) / 2


def _layer_type(model: nn.Module, name: str) -> str:
    """Name the type of the module that holds a parameter."""
    return type(model.get_submodule(name.rpartition(".")[0])).__name__


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
                _restore(buffer, before)


def _restore(buffer: Tensor, before: Tensor) -> None:
    """Put a buffer's values back if they changed."""
    if buffer.shape == before.shape and not torch.equal(buffer, before):
        buffer.copy_(before)

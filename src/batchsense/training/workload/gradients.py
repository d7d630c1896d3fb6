"""The loss of a minibatch and its gradient, checked, as one flat vector."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensor

from batchsense.blame import described, place_of
from batchsense.errors import BatchsenseError, DataError, listed
from batchsense.training.workload.minibatches import named_tensors
from batchsense.training.workload.workload import Workload, trainable

#: Labels that losses leave out, torch's own first.
_IGNORED = (-100, -1)
#: Coordinates converted to float64 at a time: 64 rows of them are 128 MiB.
_BLOCK = 1 << 18


def scalar_loss(workload: Workload, model: nn.Module, minibatch: Any) -> Tensor:
    """Evaluate the loss of a minibatch, a finite scalar, and check that it can be trained on.

    Raises DataError: the loss raises, is not a tensor, has several elements, is complex or is not
    finite.
    """
    try:
        value = workload.loss(model, minibatch)
    except BatchsenseError:
        raise
    except Exception as error:
        # Without a line of the user's it is a loss of torch's own, or takes other arguments.
        called = "" if place_of(error) else "; it is called as loss(model, minibatch)"
        raise DataError(f"the loss raised {described(error)}{called}") from error
    if not isinstance(value, Tensor):
        raise DataError(
            f"the loss returned a {type(value).__name__}; return the scalar tensor itself "
            "(without .item() or .detach())"
        )
    if value.numel() != 1:
        raise DataError(
            f"the loss returned a tensor of shape {tuple(value.shape)}; "
            "return one number, the mean over the examples of the minibatch"
        )
    refuse_complex(value)
    # A tensor without data, by which memory is followed, has no value to look at.
    if not isinstance(value, FakeTensor) and not math.isfinite(value.item()):
        raise DataError(f"the loss is {value.item()}; {why_not_finite(minibatch)}")
    return value.reshape(())


def refuse_complex(loss: Tensor) -> None:
    """Refuse a loss that cannot be ordered, and so not minimised."""
    if loss.is_complex():
        raise DataError("the loss is a complex number; return a real one, such as its .abs()")


def why_not_finite(minibatch: Any) -> str:
    """Say what of a minibatch may have made its loss infinite or NaN, and what to do.

    A tensor with nothing that counts comes first: no finite or no true entry, or the ignored label
    everywhere. A mean over nothing is 0/0, in small minibatches more often than in large ones.

    >>> why_not_finite([torch.ones(2), torch.full((2,), math.nan)]).split(",")[0]
    'minibatch[1] has no finite entry in a minibatch that was drawn'
    """
    nothing, odd = [], []
    for name, tensor in named_tensors(minibatch):
        if tensor.is_floating_point():
            finite = torch.isfinite(tensor)
            if not bool(finite.any()):
                nothing.append(f"{name} has no finite entry")
            elif not bool(finite.all()):
                odd.append(name)
        elif tensor.dtype == torch.bool and not bool(tensor.any()):
            nothing.append(f"{name} has no true entry")
        elif any(bool((tensor == ignored).all()) for ignored in _IGNORED):
            nothing.append(f"{name} has no label that counts")
    if nothing:
        return (
            f"{listed(nothing, 3)} in a minibatch that was drawn, and a mean over nothing is 0/0; "
            "guard the division in the loss: sum / count.clamp(min=1)"
        )
    if odd:
        return (
            f"{listed(odd, 3)} holds values that are not finite; mask or leave out those examples"
        )
    return "check the examples for missing values and the learning rate, then try again"


#: Said of a loss whose gradient reaches no parameter.
NOT_OF_THE_MODEL = (
    "the loss does not depend on the model it is given; use the argument in "
    "loss(model, minibatch), not a model from outside"
)
_NO_GRADIENT = (
    "the loss has no gradient; compute it from the model's output without .detach(), "
    "numpy or torch.no_grad()"
)


def backward(loss: Tensor) -> None:
    """Add the gradient of a loss to ``.grad``.

    Raises DataError: the loss has no gradient, or the backward pass fails.
    """
    if not loss.requires_grad:
        raise DataError(_NO_GRADIENT)
    try:
        loss.backward()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise DataError(f"the backward pass raised {described(error)}") from error


def loss_gradient(loss: Tensor, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """Differentiate a loss, one tensor per parameter; zeros where it does not depend on one.

    Raises DataError: the loss has no gradient, or depends on none of the parameters.
    """
    if not loss.requires_grad:
        raise DataError(_NO_GRADIENT)
    try:
        found = differentiated(loss, parameters)
    except RuntimeError as error:
        raise DataError(f"the backward pass raised {described(error)}") from error
    if all(gradient is None for gradient in found):
        raise DataError(NOT_OF_THE_MODEL)
    pairs = zip(found, parameters, strict=True)
    return [torch.zeros_like(p) if g is None else g.to_dense() for g, p in pairs]


def differentiated(loss: Tensor, parameters: Sequence[nn.Parameter]) -> Sequence[Tensor | None]:
    """Differentiate a loss and leave every ``.grad`` as it was; None where it does not depend.

    Reentrant checkpointing works by ``backward()`` alone: then gradients go through ``.grad``.
    """
    leaves, reentrant = _leaves_of(loss)
    if not reentrant:
        return torch.autograd.grad(loss, list(parameters), allow_unused=True)
    everything = [*{id(leaf): leaf for leaf in (*leaves, *parameters)}.values()]
    before = [leaf.grad for leaf in everything]
    for leaf in everything:
        leaf.grad = None
    try:
        loss.backward()  # type: ignore[no-untyped-call]
        return [parameter.grad for parameter in parameters]
    finally:
        for leaf, gradient in zip(everything, before, strict=True):
            leaf.grad = gradient


def _leaves_of(loss: Tensor) -> tuple[list[Tensor], bool]:
    """The leaves that a loss depends on, and whether a reentrant checkpoint lies before them."""
    waiting, seen, leaves, reentrant = [loss.grad_fn], set(), [], False
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        reentrant = reentrant or "CheckpointFunction" in node.name()
        if (leaf := getattr(node, "variable", None)) is not None:
            leaves.append(leaf)
        waiting += [before for before, _ in node.next_functions]
    return leaves, reentrant


def flat_gradient(workload: Workload, model: nn.Module, minibatch: Any) -> Tensor:
    """Return the gradient of a minibatch's mean loss as one vector over all trained parameters.

    On the CPU, in float32, or float64 where a parameter is.

    Raises DataError: as :func:`scalar_loss` and :func:`loss_gradient`; or the gradient is complex
    or not finite.
    """
    return flattened(loss_gradient(scalar_loss(workload, model, minibatch), trainable(model)))


def flattened(parts: Sequence[Tensor]) -> Tensor:
    """Put the gradients of all parameters into one vector, as :func:`flat_gradient` does.

    Raises DataError: a number is complex or not finite.
    """
    if any(part.is_complex() for part in parts):
        raise DataError(
            "the model has complex parameters, whose gradients are no real vectors; keep real and "
            "imaginary parts as parameters of their own (torch.view_as_real)"
        )
    dtype = torch.float64 if any(p.dtype == torch.float64 for p in parts) else torch.float32
    vector = torch.cat([part.detach().reshape(-1).to("cpu", dtype) for part in parts])
    if not bool(torch.isfinite(vector).all()):
        raise DataError("the gradient is not finite although the loss is; check log(0) or 0/0")
    return vector


def gram_matrix(vectors: Sequence[Tensor]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return all inner products of a few long vectors, accumulated in float64.

    ``vectors`` have shape (parameters,) each; the result has shape (vectors, vectors).

    >>> gram_matrix([torch.tensor([1.0, 2.0]), torch.tensor([3.0, 0.0])])
    array([[5., 3.],
           [3., 9.]])
    """
    gram = np.zeros((len(vectors), len(vectors)))
    for start in range(0, vectors[0].numel(), _BLOCK):
        rows = torch.stack([vector[start : start + _BLOCK] for vector in vectors]).double()
        gram += (rows @ rows.T).numpy()
    return gram

"""The derivative of every point's residual by every parameter, in one backward pass for all."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from typing_extensions import override

from batchsense.errors import DataError
from batchsense.training.collocation.conditions import Condition, condition_residual
from batchsense.training.workload import trainable

#: Parameters used outside the network's call (an unknown viscosity) that are differentiated one by
#: one; each costs a second backward pass, so many of them go the slow way.
_SINGLE = 32
#: Points whose rows are made together the slow way: its cost per point grows with it, and fewer
#: leave the vectorised backward pass idle. 8, 16, 32 and 64 points took 140, 100, 85 and 120 ms.
_SLOW_POINTS = 32


class _Copies(nn.Module):
    """A network of which each point has a copy of the parameters; all else is the network's own."""

    def __init__(self, model: nn.Module, copies: dict[str, Tensor]) -> None:
        super().__init__()
        self.__dict__["_of"] = model
        self.__dict__["_copies"] = copies

    @override
    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_of"], name)

    @override
    def forward(self, points: Tensor) -> Any:
        def one(parameters: dict[str, Tensor], point: Tensor) -> Any:
            return functional_call(self._of, parameters, (point.unsqueeze(0),)).squeeze(0)

        return vmap(one)(self._copies, points)


def point_jacobian(condition: Condition, model: nn.Module, points: Tensor) -> tuple[Tensor, Tensor]:
    r"""Give the residual at each point and its derivative by each trained parameter.

    Each point gets its own copy of the parameters, so that one backward pass through the sum of
    the residuals leaves :math:`\partial r_i / \partial \theta` in the copies of point i, whatever
    derivatives the residual takes by its points. 512 points of Burgers' equation and 921 parameters
    take 4.3 times the time of the loss gradient (``vmap(jacrev)``: 8.6 times). Parameters used
    beside the call of the model are differentiated one by one; a model that cannot be copied like
    this, row by row.

    Shapes: (n, q); (n q, parameters), the q rows of a point together.

    >>> line = nn.Linear(1, 1).double()
    >>> at = Condition("at", lambda model, points: model(points), torch.tensor([[2.0], [3.0]]))
    >>> point_jacobian(at, line, at.points.double())[1].tolist()
    [[2.0, 1.0], [3.0, 1.0]]
    """
    try:
        return _by_copies(condition, model, points)
    except (DataError, RuntimeError, _TooManyError) as error:
        # What the residual says of its own accord is true without copies as well.
        if isinstance(error, DataError) and error.__cause__ is None:
            raise
        return _row_by_row(condition, model, points)


class _TooManyError(Exception):
    """More parameters beside the call of the model than are differentiated one by one."""


def _by_copies(condition: Condition, model: nn.Module, points: Tensor) -> tuple[Tensor, Tensor]:
    count, originals = len(points), trainable(model)
    copies = {
        name: one.detach().expand(count, *one.shape).clone().requires_grad_(one.requires_grad)
        for name, one in model.named_parameters()
    }
    residual = condition_residual(condition, _Copies(model, copies), points)
    copied = [one for one in copies.values() if one.requires_grad]
    beside = torch.autograd.grad(
        residual.sum(), originals, retain_graph=True, allow_unused=True, create_graph=True
    )
    used = [slope is not None for slope in beside]
    if sum(one.numel() for one, is_used in zip(originals, used, strict=True) if is_used) > _SINGLE:
        raise _TooManyError
    width, blocks = residual.shape[1], []
    for column in range(width):
        slopes = torch.autograd.grad(
            residual[:, column].sum(), copied, retain_graph=True, materialize_grads=True
        )
        blocks.append(torch.cat([slope.reshape(count, -1) for slope in slopes], dim=1))
    jacobian = blocks[0].unsqueeze(1) if width == 1 else torch.stack(blocks, dim=1)
    places = torch.split(jacobian, [one.numel() for one in originals], dim=2)
    for one, is_used, place in zip(originals, used, places, strict=True):
        if is_used:
            place += _one_by_one(residual, one)
    return residual.detach(), jacobian.reshape(count * width, -1)


def _one_by_one(residual: Tensor, parameter: Tensor) -> Tensor:
    """Differentiate v·∂r/∂θ, which is linear in v, by v: rows of ∂r/∂θ for an entry of θ."""
    probe = torch.zeros_like(residual, requires_grad=True)
    (slope,) = torch.autograd.grad(residual, parameter, probe, create_graph=True)
    found = [torch.autograd.grad(entry, probe, retain_graph=True)[0] for entry in slope.reshape(-1)]
    return torch.stack(found, dim=2)


def _row_by_row(condition: Condition, model: nn.Module, points: Tensor) -> tuple[Tensor, Tensor]:
    residuals, rows = [], []
    for part in torch.split(points, _SLOW_POINTS):
        residual = condition_residual(condition, model, part)
        flat = residual.reshape(-1)
        slopes = torch.autograd.grad(
            flat,
            trainable(model),
            torch.eye(len(flat), dtype=flat.dtype, device=flat.device),
            is_grads_batched=True,
            materialize_grads=True,
        )
        residuals.append(residual.detach())
        rows.append(torch.cat([slope.reshape(len(flat), -1) for slope in slopes], dim=1))
    return torch.cat(residuals), torch.cat(rows)

"""Conditions of a physics-informed network: what shall vanish, where, and how much it counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensor

from batchsense.blame import described
from batchsense.errors import BatchsenseError, DataError, listed
from batchsense.training.workload import coupled_modules, trainable

#: ``residual(model, points)``: a row for each point.
Residual = Callable[[nn.Module, Tensor], Tensor]
#: Points at which a residual is tried: enough to tell a row for each from one number for all.
_TRIED_POINTS = 3


@dataclass(frozen=True)
class Condition:
    """One term of a collocation loss: a residual that shall vanish at the points of a pool.

    Attributes
    ----------
    name : str
        For messages and results.
    residual : callable
        ``residual(model, points)`` gives (n,) or (n, q) numbers for points of shape (n, dimension),
        row i for point i alone. The points require gradients: differentiate by them with
        ``torch.autograd.grad(..., create_graph=True)``.
    points : Tensor
        The pool, of shape (n, dimension); further columns may carry what belongs to a point.
    weight : float
        Factor of the mean square of the residual in the loss.
    redraw : callable, optional
        ``redraw(count, seed)`` gives fresh points.

    Raises
    ------
    DataError
        The points are no finite table of floating-point numbers, or the weight is not positive.

    Examples
    --------
    >>> Condition("walls", lambda model, points: model(points), torch.tensor([[-1.0], [1.0]])).count
    2
    """

    name: str
    residual: Residual
    points: Tensor
    weight: float = 1.0
    redraw: Callable[[int, int], Tensor] | None = None

    def __post_init__(self) -> None:
        points = self.points
        if not isinstance(points, Tensor) or points.ndim != 2 or 0 in points.shape:
            shape = tuple(points.shape) if isinstance(points, Tensor) else type(points).__name__
            raise DataError(f"points must be a tensor (n, dimension), not {shape}", self.name)
        if not points.dtype.is_floating_point:
            raise DataError(f"points are {points.dtype}; give floating-point numbers", self.name)
        if wrong := _not_finite(points):
            message = f"point {wrong[0]} is not finite: {shown_point(points[wrong[0]])}"
            raise DataError(message, self.name)
        if not 0 < self.weight < float("inf"):
            raise DataError(f"the weight is {self.weight!r}; give a positive number", self.name)

    @property
    def count(self) -> int:
        """Points of the pool."""
        return len(self.points)


@dataclass(frozen=True)
class DrawnPoints:
    """The points of one condition in one minibatch.

    ``points`` has shape (b, dimension). ``weights``, of shape (b,), is what each squared residual
    counts in the mean of the condition: 1/b where points are drawn uniformly, 1/(M pi) where they
    come with probability pi out of M.
    """

    points: Tensor
    weights: Tensor


def condition_residual(condition: Condition, model: nn.Module, points: Tensor) -> Tensor:
    """Evaluate the residual at points of shape (b, dimension); give shape (b, q), checked.

    Raises DataError: it fails, has another shape, is not finite (the first such point is named), or
    cannot be differentiated although gradients are enabled.

    >>> walls = Condition("walls", lambda model, points: model(points), torch.ones(2, 1))
    >>> condition_residual(walls, nn.Linear(1, 1), walls.points).shape
    torch.Size([2, 1])
    """
    points = points.detach().requires_grad_(True)
    count, wants_gradient = len(points), torch.is_grad_enabled()
    with torch.enable_grad():
        try:
            found = condition.residual(model, points)
        except BatchsenseError:
            raise
        except Exception as error:
            message = f"the residual failed at {count} points: {described(error)}"
            raise DataError(message, condition.name) from error
    shape = tuple(found.shape) if isinstance(found, Tensor) else (type(found).__name__,)
    if shape[:1] != (count,) or len(shape) > 2 or 0 in shape:
        message = (
            f"the residual has shape {shape} for {count} points; return ({count},) or ({count}, q)"
        )
        raise DataError(message, condition.name)
    found = found.reshape(count, -1)
    if wrong := _not_finite(found):
        message = (
            f"at {shown_point(points[wrong[0]])}, one of {len(wrong)} such points among {count}"
        )
        raise DataError(f"the residual is not finite {message}", condition.name)
    if wants_gradient and not found.requires_grad:
        raise _no_path(condition)
    return found if wants_gradient else found.detach()


def collocation_loss(
    model: nn.Module, conditions: Sequence[Condition], drawn: Mapping[str, DrawnPoints]
) -> Tensor:
    r"""Add up the weighted mean squares of the conditions at drawn points.

    :math:`L = \sum_c \lambda_c \sum_i w_{ci} |r_c(x_{ci})|^2`, a scalar; a sum over points, so that
    gradients and normal equations of parts add up to those of the whole.

    Raises
    ------
    DataError
        As :func:`condition_residual`; or points of a condition are missing.

    Examples
    --------
    >>> one = Condition("one", lambda model, points: 0 * model(points) - 1, torch.ones(1, 1))
    >>> drawn = {"one": DrawnPoints(one.points, torch.ones(1))}
    >>> collocation_loss(nn.Linear(1, 1), [one], drawn).item()
    1.0
    """
    terms = []
    for condition in conditions:
        if condition.name not in drawn:
            raise DataError("no points were drawn for this condition", where=condition.name)
        part = drawn[condition.name]
        squares = condition_residual(condition, model, part.points).square().sum(dim=1)
        terms.append(condition.weight * (part.weights.to(squares) * squares).sum())
    return torch.stack(terms).sum()


def check_conditions(model: nn.Module, conditions: Sequence[Condition]) -> None:
    """Refuse, before any work, conditions that cannot be trained on by minibatches of points.

    Raises DataError: there is no condition, or two have one name; the model has BatchNorm or
    dropout; a residual is refused by :func:`condition_residual`, or does not depend on a trained
    parameter.

    >>> walls = Condition("walls", lambda model, points: points, torch.ones(4, 1))
    >>> check_conditions(nn.Linear(1, 1), [walls])
    Traceback (most recent call last):
    batchsense.errors.DataError: walls: the residual does not depend on a trained parameter...
    """
    check_names(conditions)
    everywhere = listed(condition.name for condition in conditions)
    if mixing := coupled_modules(model):
        message = f"{mixing[0]} mixes the points of a minibatch; use a layer that does not"
        raise DataError(message, where=everywhere)
    for name, module in model.named_modules():
        drops = isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0
        if drops and module.training:
            message = f"{name or 'model'} makes residuals random; remove it or call model.eval()"
            raise DataError(message, where=everywhere)
    for condition in conditions:
        tried = condition_residual(condition, model, condition.points[:_TRIED_POINTS])
        one = condition_residual(condition, model, condition.points[:1])
        if len(tried) == tried.shape[1] > one.shape[1]:
            message = "shapes (n, 1) and (n,) became (n, n) in the residual; give both one shape"
            raise DataError(message, where=condition.name)
        slopes = torch.autograd.grad(tried.sum(), trainable(model), allow_unused=True)
        if all(slope is None for slope in slopes):
            raise _no_path(condition)


def check_names(conditions: Sequence[Condition]) -> None:
    """Refuse no condition, or two of one name."""
    names = [condition.name for condition in conditions]
    if not names:
        raise DataError("there is no condition; give at least one Condition")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"two conditions are named {twice[0]!r}; give each its own name")


def shown_point(point: Tensor) -> str:
    """Write a point for a message."""
    return "(" + ", ".join(f"{value:.6g}" for value in point.tolist()) + ")"


def _not_finite(rows: Tensor) -> list[int]:
    # A tensor without data, by which memory is followed, has no value to look at.
    if isinstance(rows, FakeTensor):
        return []
    return (~torch.isfinite(rows.detach())).any(dim=1).nonzero()[:, 0].tolist()


def _no_path(condition: Condition) -> DataError:
    message = (
        "the residual does not depend on a trained parameter; use the model that is passed in,"
    )
    return DataError(f"{message} without detach(), numpy() or no_grad()", condition.name)

"""Conditions of a physics-informed network: what shall vanish, where, and how much it counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensor

from batchsense.blame import described
from batchsense.errors import BatchsenseError, DataError
from batchsense.training.workload import coupled_modules, trainable

#: ``residual(model, points)``: what shall vanish at each point, of shape (n,) or (n, q).
Residual = Callable[[nn.Module, Tensor], Tensor]
#: Enough rows to tell a residual for each point from one number for all of them.
_TRIED_POINTS = 3


@dataclass(frozen=True)
class Condition:
    """One term of a collocation loss: a residual that shall vanish at the points of a pool.

    Attributes
    ----------
    name : str
        For messages and results.
    residual : callable
        ``residual(model, points)`` gives a tensor of shape (n,) or (n, q) for points of shape (n,
        dimension), row i for point i alone. The points require gradients: differentiate outputs by
        them with ``torch.autograd.grad(..., create_graph=True)``.
    points : Tensor
        The pool, of shape (n, dimension). Columns beyond the coordinates may carry what belongs to
        a point, such as a measured value.
    weight : float
        Factor of the mean square of the residual in the loss.
    redraw : callable, optional
        ``redraw(count, seed)`` gives fresh points of shape (count, dimension), where the geometry
        can draw.

    Raises
    ------
    DataError
        The points are no finite array of shape (n, dimension), or the weight is not positive.

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
        checked_points(self.name, self.points)
        if not (0 < self.weight < float("inf")):
            raise DataError(
                f"the weight is {self.weight!r}; give a positive number", where=self.name
            )

    @property
    def count(self) -> int:
        """Points of the pool."""
        return len(self.points)


@dataclass(frozen=True)
class DrawnPoints:
    """The points of one condition in one minibatch.

    Attributes
    ----------
    points : Tensor
        Of shape (b, dimension).
    weights : Tensor
        Of shape (b,): the weight of each squared residual in the mean of the condition, 1/b where
        points are drawn uniformly and 1/(M pi) where they enter with probability pi out of M.
    """

    points: Tensor
    weights: Tensor


def checked_points(name: str, points: Tensor) -> Tensor:
    """Refuse points that are no finite table with a row for each.

    Raises
    ------
    DataError
        Naming the condition and the first point that is not finite.
    """
    if not isinstance(points, Tensor) or points.ndim != 2 or 0 in points.shape:
        shape = tuple(points.shape) if isinstance(points, Tensor) else type(points).__name__
        raise DataError(f"points must be a tensor of shape (n, dimension), not {shape}", where=name)
    if not points.dtype.is_floating_point:
        raise DataError(f"points are {points.dtype}; give floating-point coordinates", where=name)
    wrong = (~torch.isfinite(points)).any(dim=1).nonzero()
    if len(wrong):
        row = int(wrong[0, 0])
        raise DataError(f"point {row} is not finite: {shown_point(points[row])}", where=name)
    return points


def shown_point(point: Tensor) -> str:
    """Write a point for a message.

    Examples
    --------
    >>> shown_point(torch.tensor([0.5, -1.0]))
    '(0.5, -1)'
    """
    return "(" + ", ".join(f"{value:.6g}" for value in point.tolist()) + ")"


def condition_residual(condition: Condition, model: nn.Module, points: Tensor) -> Tensor:
    """Evaluate the residual of a condition at points, and check what comes out.

    Parameters
    ----------
    condition : Condition
        Whose residual.
    model : torch.nn.Module
        The network.
    points : Tensor
        Of shape (b, dimension); the residual gets a copy that requires gradients.

    Returns
    -------
    Tensor
        Of shape (b, q).

    Raises
    ------
    DataError
        The residual fails, has another shape, is not finite (the first such point is named), or
        cannot be differentiated; the condition is named.

    Examples
    --------
    >>> walls = Condition(
    ...     "walls", lambda model, points: model(points), torch.tensor([[1.0], [2.0]])
    ... )
    >>> condition_residual(walls, nn.Linear(1, 1), walls.points).shape
    torch.Size([2, 1])
    """
    points = points.detach().requires_grad_(True)
    wants_gradient = torch.is_grad_enabled()
    with torch.enable_grad():
        try:
            residual = condition.residual(model, points)
        except BatchsenseError:
            raise
        except Exception as error:
            raise DataError(
                f"the residual failed at {len(points)} points: {described(error)}", condition.name
            ) from error
    residual = _finite_rows(condition, residual, points.detach())
    if wants_gradient and not residual.requires_grad:
        raise _no_path(condition)
    return residual if wants_gradient else residual.detach()


def _finite_rows(condition: Condition, residual: object, points: Tensor) -> Tensor:
    """A row for each point, each finite, else say which is not."""
    count = len(points)
    if not isinstance(residual, Tensor):
        raise DataError(
            f"the residual is of type {type(residual).__name__}, not a tensor", condition.name
        )
    if residual.ndim not in (1, 2) or len(residual) != count or residual.numel() == 0:
        raise DataError(
            f"the residual has shape {tuple(residual.shape)} for {count} points; "
            f"return ({count},) or ({count}, q), a row for each point",
            where=condition.name,
        )
    residual = residual.reshape(count, -1)
    # A tensor without data, by which memory is followed, has no value to look at.
    if isinstance(residual, FakeTensor):
        return residual
    wrong = (~torch.isfinite(residual.detach())).any(dim=1).nonzero()
    if len(wrong):
        raise DataError(
            f"the residual is not finite at {shown_point(points[int(wrong[0, 0])])}; "
            f"{len(wrong)} of {count} points are concerned",
            where=condition.name,
        )
    return residual


def collocation_loss(
    model: nn.Module, conditions: Sequence[Condition], drawn: Mapping[str, DrawnPoints]
) -> Tensor:
    r"""Add up the weighted mean squares of the conditions at drawn points.

    :math:`L = \sum_c \lambda_c \sum_i w_{ci} |r_c(x_{ci})|^2`; a sum over points, so gradients and
    normal equations of parts add up to those of the whole.

    Parameters
    ----------
    model : torch.nn.Module
        The network.
    conditions : sequence of Condition
        The terms.
    drawn : mapping of str to DrawnPoints
        Points and weights of each condition, by name.

    Returns
    -------
    Tensor
        A scalar.

    Raises
    ------
    DataError
        As :func:`condition_residual`; or points of a condition are missing.

    Examples
    --------
    >>> one = Condition("one", lambda model, points: model(points) - 1, torch.tensor([[2.0]]))
    >>> still = nn.Linear(1, 1)
    >>> _ = [nn.init.zeros_(parameter) for parameter in still.parameters()]
    >>> collocation_loss(still, [one], {"one": DrawnPoints(one.points, torch.ones(1))}).item()
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

    Raises
    ------
    DataError
        There is no condition, or two have one name; the model mixes points (BatchNorm) or drops
        units at random (dropout); or a residual is refused by :func:`condition_residual` or does
        not depend on the trained parameters. The condition is named.

    Examples
    --------
    >>> walls = Condition("walls", lambda model, points: points, torch.ones(4, 1))
    >>> check_conditions(nn.Linear(1, 1), [walls])
    Traceback (most recent call last):
    batchsense.errors.DataError: walls: the residual does not depend on a trained parameter...
    """
    names = [condition.name for condition in conditions]
    if not names:
        raise DataError("there is no condition; give at least one Condition")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"two conditions are named {twice[0]!r}; give each its own name")
    if mixing := coupled_modules(model):
        raise DataError(
            f"{mixing[0]} uses the other points of a minibatch, so that a residual is no longer "
            "one of its own point; use a layer without statistics of the minibatch",
            where=names[0],
        )
    dropout = nn.modules.dropout._DropoutNd
    for name, module in model.named_modules():
        if isinstance(module, dropout) and module.training and module.p > 0:
            raise DataError(
                f"{name or 'model'} ({type(module).__name__}) makes the residual random; "
                "remove it or call model.eval()",
                where=names[0],
            )
    for condition in conditions:
        with torch.enable_grad():
            tried = condition_residual(condition, model, condition.points[:_TRIED_POINTS])
            slopes = torch.autograd.grad(tried.sum(), trainable(model), allow_unused=True)
        if all(slope is None for slope in slopes):
            raise _no_path(condition)


def _no_path(condition: Condition) -> DataError:
    return DataError(
        "the residual does not depend on a trained parameter; use the model that is passed in, "
        "without detach(), numpy() or no_grad()",
        where=condition.name,
    )

"""Initial and boundary values that hold exactly, by the form of the network's output."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn
from typing_extensions import override

from batchsense.errors import DataError
from batchsense.training.collocation.conditions import shown_point
from batchsense.training.collocation.minibatches import Box

#: Of points (n, columns): values (n,), or the same number everywhere.
Values: TypeAlias = Callable[[Tensor], Tensor] | float
#: ``transform(points, raw)``: outputs (n, 1) that satisfy the conditions, of raw ones (n, 1).
Transform: TypeAlias = Callable[[Tensor, Tensor], Tensor]

_SIDES = (("left", "right"), ("bottom", "top"))
#: Jumps larger than this, relative to the values there, are contradictions and no rounding; points
#: of an edge at which they are looked for.
_JUMP, _LOOKS = 1e-8, 64


@dataclass(frozen=True, slots=True)
class Disc:
    """A disc; its only side is ``edge``."""

    centre: tuple[float, float] = (0.0, 0.0)
    radius: float = 1.0


class ExactNetwork(nn.Module):
    """A network with one transform for each output, which makes conditions hold exactly."""

    def __init__(self, network: nn.Module, transforms: Sequence[Transform]) -> None:
        super().__init__()
        self.network = network
        self.transforms = tuple(transforms)

    @override
    def forward(self, points: Tensor) -> Tensor:
        raw = self.network(points)
        made = [one(points, raw[:, k : k + 1]) for k, one in enumerate(self.transforms)]
        return torch.cat(made, dim=1)


def exact_conditions(
    geometry: Box | Disc,
    values: Mapping[str, Values] | Values,
    initial: Values | tuple[Values, Values] | None = None,
) -> Transform:
    r"""Give the output transform :math:`u = b(x) + \varphi(x) N(x)` with the right values.

    :math:`\varphi` vanishes on every side that has values (a product of distances;
    :math:`1 - |x - c|^2 / R^2` on a disc), and at t = 0 (factor t, or t²) where initial values are
    given; b takes all given values, blended between sides (Coons 1967). Dirichlet and initial
    values only: keep other conditions as terms of the loss.

    Parameters
    ----------
    geometry : Box or Disc
        An interval or rectangle with sides left and right, bottom and top, or a disc with its
        ``edge``; with ``initial`` time is one more column, from 0.
    values : mapping of str to Values, or Values
        By side, evaluated on that side; sides left out are free. Given without sides, it holds for
        all of them, is evaluated inside too, and is b.
    initial : Values or (Values, Values), optional
        u at t = 0, or u and its time derivative.

    Raises
    ------
    DataError
        A side is unknown, or values contradict each other at a corner: which, and the jump.

    References
    ----------
    Lagaris, Likas and Fotiadis (1998); Sukumar and Srivastava (2022, arXiv 2104.08426).

    Examples
    --------
    >>> rod = exact_conditions(Box((0.0,), (1.0,)), {"left": 0.0, "right": 2.0})
    >>> rod(torch.tensor([[0.0], [0.5], [1.0]]), torch.ones(3, 1)).flatten().tolist()
    [0.0, 2.0, 2.0]
    >>> exact_conditions(Box((0.0,), (1.0,)), {"left": 1.0}, initial=0.0)
    Traceback (most recent call last):
    batchsense.errors.DataError: left: contradicts the initial values at (0, 0): 1 there, 0 here...
    """
    sides = ["edge"]
    if isinstance(geometry, Box):
        sides = [side for pair in _SIDES[: len(geometry.lower)] for side in pair]
    by_side = dict(values) if isinstance(values, Mapping) else dict.fromkeys(sides, values)
    if unknown := [name for name in by_side if name not in sides]:
        raise DataError(f"is no side here; use {', '.join(sides)}", where=unknown[0])
    boundary = functools.partial(_blended, geometry, by_side)
    if not isinstance(values, Mapping):
        boundary = functools.partial(_at, values)
    first, second = initial if isinstance(initial, tuple) else (initial, None)
    _check_agreement(geometry, by_side, first)

    def transform(points: Tensor, raw: Tensor) -> Tensor:
        known, factor = boundary(points), _vanishing(geometry, by_side, points)
        if first is not None:
            time = points[:, -1]
            start = torch.cat([points[:, :-1], torch.zeros_like(points[:, -1:])], dim=1)
            known = known + _at(first, points) - boundary(start)
            factor = factor * (time if second is None else time.square())
            known = known if second is None else known + time * _at(second, points)
        return (known + factor * raw[:, 0]).unsqueeze(1)

    return transform


def _vanishing(geometry: Box | Disc, by_side: Mapping[str, Values], points: Tensor) -> Tensor:
    """0 on every side that has values, 1 in the middle between two."""
    if isinstance(geometry, Disc):
        centre = points.new_tensor(geometry.centre)
        return 1 - (points[:, :2] - centre).square().sum(dim=1) / geometry.radius**2
    factor = torch.ones_like(points[:, 0])
    for axis, (low, high) in enumerate(_SIDES[: len(geometry.lower)]):
        share = _share(geometry, axis, points)
        factor = factor * (4.0 if low in by_side and high in by_side else 1.0)
        factor = factor * share if low in by_side else factor
        factor = factor * (1 - share) if high in by_side else factor
    return factor


def _blended(geometry: Box | Disc, by_side: Mapping[str, Values], points: Tensor) -> Tensor:
    """A function inside that has the given values on the sides."""
    if isinstance(geometry, Disc):
        return _at(by_side.get("edge", 0.0), points)

    def across(axis: int, at: Tensor, inner: Callable[[Tensor, str], Tensor]) -> Tensor:
        """Interpolate along an axis what ``inner`` gives on its sides."""
        share = _share(geometry, axis, at)
        low, high = _SIDES[axis]
        both = low in by_side and high in by_side
        parts = [
            (weight if both else 1.0) * inner(_moved(geometry, at, name), name)
            for name, weight in ((low, 1 - share), (high, share))
            if name in by_side
        ]
        return torch.stack([torch.zeros_like(share), *parts]).sum(dim=0)

    def given(at: Tensor, side: str) -> Tensor:
        return _at(by_side[side], at)

    along = across(0, points, given)
    if len(geometry.lower) == 1:
        return along
    # Coons' patch: both interpolations less the one of the other, which has the corners twice.
    twice = across(1, points, lambda at, side: across(0, at, given))
    return along + across(1, points, given) - twice


def _share(box: Box, axis: int, points: Tensor) -> Tensor:
    return (points[:, axis] - box.lower[axis]) / (box.upper[axis] - box.lower[axis])


def _moved(box: Box, points: Tensor, side: str) -> Tensor:
    axis = 0 if side in _SIDES[0] else 1
    columns = list(points.unbind(dim=1))
    place = (box.lower if side == _SIDES[axis][0] else box.upper)[axis]
    columns[axis] = torch.full_like(columns[axis], place)
    return torch.stack(columns, dim=1)


def _at(value: Values, points: Tensor) -> Tensor:
    return value(points) if callable(value) else torch.full_like(points[:, 0], value)


def _check_agreement(
    geometry: Box | Disc, by_side: Mapping[str, Values], first: Values | None
) -> None:
    shares = torch.linspace(0, 1, _LOOKS, dtype=torch.float64)
    for name, value in by_side.items():
        if isinstance(geometry, Disc):
            angle = 2 * torch.pi * shares
            edge = torch.stack([angle.cos(), angle.sin()], dim=1) * geometry.radius
            edge = edge + torch.tensor(geometry.centre, dtype=torch.float64)
        else:
            low, high = (torch.tensor([*one]).double() for one in (geometry.lower, geometry.upper))
            edge = _moved(geometry, low + shares.unsqueeze(1) * (high - low), name)
            for other in set(_SIDES[1]) & set(by_side) if name in _SIDES[0] else ():
                corner = _moved(geometry, edge[:1], other)
                _refuse_jump(corner, value, by_side[other], name, f"side {other}")
        if first is not None:
            start = torch.cat([edge, torch.zeros_like(edge[:, :1])], dim=1)
            _refuse_jump(start, value, first, name, "the initial values")


def _refuse_jump(points: Tensor, one: Values, two: Values, name: str, other: str) -> None:
    there, here = _at(one, points), _at(two, points)
    jump = (there - here).abs()
    worst = int(jump.argmax())
    if float(jump[worst]) > _JUMP * (1 + float(here.abs().max())):
        raise DataError(
            f"contradicts {other} at {shown_point(points[worst])}: {float(there[worst]):.6g} there,"
            f" {float(here[worst]):.6g} here, a jump of {float(jump[worst]):.3g}; correct one, or "
            "leave the side out and keep its condition as a term of the loss",
            where=name,
        )

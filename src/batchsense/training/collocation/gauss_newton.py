"""Gauss–Newton steps on a collocation loss, with the damping of Nielsen, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from batchsense.errors import DataError
from batchsense.training.collocation.conditions import (
    Condition,
    DrawnPoints,
    check_conditions,
    condition_residual,
    shown_point,
)
from batchsense.training.collocation.normal_equations import (
    Accumulation,
    NormalEquations,
    System,
)
from batchsense.training.running import ALONE, Ranks
from batchsense.training.workload import trainable

#: Parameters up to which H is formed: 5,000 of them make 200 MB.
MOST_DENSE = 5_000
#: Tries of a step before it is given up, and the least damping: below that 1 + damping is 1 for
#: entries of H of the order of 1.
_TRIES, _LEAST_DAMPING = 8, 1e-14
#: Points that tell whether rows stand for themselves, and how far sums may differ by rounding.
_TRIED, _ROUNDING = 5, 1e-8


@dataclass(frozen=True, slots=True)
class GaussNewtonStep:
    """What one step did, on its own points.

    Attributes
    ----------
    loss : float
        Before the step.
    predicted, actual : float
        Decrease of the linearised loss and of the loss; of the last try if none was accepted.
    damping : float
        With which the step was made.
    accepted : bool
        Whether the weights moved.
    """

    loss: float
    predicted: float
    actual: float
    damping: float
    accepted: bool


class GaussNewton:
    r"""Second-order steps on :math:`L = \sum_c \lambda_c \sum_i w_i |r_c(\theta; x_i)|^2`.

    A step is :math:`s = -(H + \mu)^{-1} g` with :math:`H = \sum w J^\top J` and
    :math:`g = \sum w J^\top r` summed over chunks of points, which is exact; memory holds one chunk
    of rows and H. It is accepted if the loss on the same points falls; :math:`\mu` follows the
    ratio of actual and predicted decrease (Nielsen 1999). Up to 5,000 parameters H is dense, or the
    system is solved for the residuals where points are fewer; beyond, by conjugate gradients.

    Parameters
    ----------
    conditions : sequence of Condition
        The terms of the loss.
    model : torch.nn.Module
        In float64; its weights are moved.
    chunk : int
        Points whose rows are held at a time.
    damping : float
        The first :math:`\mu`.
    form : {"auto", "dense", "residuals", "products"}
        How the system is held.
    ranks : Ranks
        Processes among which points are shared; all must be given the same ones.

    Raises
    ------
    DataError
        A parameter or point is not float64, a residual is refused by
        :func:`~batchsense.training.collocation.conditions.check_conditions`, or that of a point
        depends on other points; the condition is named.

    References
    ----------
    Levenberg (1944), Nielsen (1999, IMM-REP-1999-05).

    Examples
    --------
    >>> line = nn.Linear(1, 1).double()
    >>> two = Condition(
    ...     "two", lambda model, x: model(x) - 2 * x, torch.tensor([[1.0], [3.0]]).double()
    ... )
    >>> newton = GaussNewton([two], line, damping=1e-8)
    >>> newton.step().accepted, round(line.weight.item(), 3)
    (True, 2.0)
    """

    def __init__(
        self,
        conditions: Sequence[Condition],
        model: nn.Module,
        *,
        chunk: int = 512,
        damping: float = 1e-2,
        form: Literal["auto", "dense", "residuals", "products"] = "auto",
        ranks: Ranks = ALONE,
    ) -> None:
        if chunk < 1 or not damping > 0:
            raise DataError(f"chunk {chunk} and damping {damping:g} must be positive")
        _check_precision(conditions, model)
        check_conditions(model, conditions)
        for condition in conditions:
            _check_rows(condition, model)
        self.conditions, self.model = tuple(conditions), model
        self.chunk, self.form, self.ranks = chunk, form, ranks
        self.damping, self._growth = damping, 2.0

    def step(self, drawn: Mapping[str, DrawnPoints] | None = None) -> GaussNewtonStep:
        """Move the weights by one step on drawn points, or on all points of the pools.

        Raises
        ------
        DataError
            The residual is not finite at the present weights; the point is named.
        """
        work = self._work(drawn)
        system = self._system(work)
        found = self._tried(work, system)
        for _ in range(_TRIES - 1):
            if found.accepted or not bool(system.gradient.any()):
                break
            found = self._tried(work, system)
        return found

    def normal_equations(self, drawn: Mapping[str, DrawnPoints] | None = None) -> NormalEquations:
        """H and g at the present weights, dense."""
        return self._work(drawn).dense()

    def loss(self, drawn: Mapping[str, DrawnPoints] | None = None) -> float:
        """The loss at the present weights; NaN where a residual is not finite."""
        return self._work(drawn).loss()

    def state_dict(self) -> dict[str, Any]:
        """What later steps depend on beside the weights."""
        return {"damping": self.damping, "growth": self._growth}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.damping, self._growth = float(state["damping"]), float(state["growth"])

    def _work(self, drawn: Mapping[str, DrawnPoints] | None) -> Accumulation:
        if drawn is None:
            drawn = {
                one.name: DrawnPoints(one.points, one.points.new_full((one.count,), 1 / one.count))
                for one in self.conditions
            }
        return Accumulation(self.conditions, self.model, drawn, self.chunk, self.ranks)

    def _system(self, work: Accumulation) -> System:
        form = self.form
        if form == "auto":
            parameters = sum(one.numel() for one in trainable(self.model))
            points = sum(len(part.points) for part in work.drawn.values())
            form = "dense" if parameters <= MOST_DENSE else "products"
            if self.ranks.alone and points < parameters and points <= MOST_DENSE:
                form = "residuals"
        if form == "dense":
            return work.dense()
        if form == "residuals":
            return work.residual_space()
        return work.products_alone()

    def _tried(self, work: Accumulation, system: System) -> GaussNewtonStep:
        """Try a step; take it back and raise the damping if the loss does not fall."""
        damping, step = self.damping, system.step(self.damping)
        predicted, actual = math.nan, math.nan
        if step is not None:
            predicted = system.predicted(step)
            weights = trainable(self.model)
            before = torch.nn.utils.parameters_to_vector(weights).detach().clone()
            _set(self.model, before + step)
            actual = system.loss - work.loss()
            if actual > 0 and predicted > 0:
                shrunk = max(1 / 3, 1 - (2 * actual / predicted - 1) ** 3)
                self.damping, self._growth = max(damping * shrunk, _LEAST_DAMPING), 2.0
                return GaussNewtonStep(system.loss, predicted, actual, damping, True)
            _set(self.model, before)
        self.damping, self._growth = damping * self._growth, 2 * self._growth
        return GaussNewtonStep(system.loss, predicted, actual, damping, False)


def _set(model: nn.Module, vector: Tensor) -> None:
    with torch.no_grad():
        torch.nn.utils.vector_to_parameters(vector, trainable(model))


def _check_precision(conditions: Sequence[Condition], model: nn.Module) -> None:
    told = "and float32 stalls second-order steps; use"
    for name, one in model.named_parameters():
        if one.requires_grad and one.dtype != torch.float64:
            where = conditions[0].name if conditions else None
            raise DataError(f"parameter {name} is {one.dtype}, {told} model.double()", where)
    for condition in conditions:
        kind = condition.points.dtype
        if kind != torch.float64:
            raise DataError(f"points are {kind}, {told} points.double()", condition.name)


def _check_rows(condition: Condition, model: nn.Module) -> None:
    """Refuse a residual that at one point depends on others: rows would not be their own."""
    points = condition.points[:_TRIED]
    whole = condition_residual(condition, model, points).detach()
    alone = torch.cat(
        [condition_residual(condition, model, point).detach() for point in torch.split(points, 1)]
    )
    apart = (whole - alone).abs().amax(dim=1)
    if float(apart.max()) > _ROUNDING * (1 + float(whole.abs().max())):
        raise DataError(
            f"the residual at {shown_point(points[int(apart.argmax())])} depends on the other "
            "points it is evaluated with; make it a function of its own point",
            where=condition.name,
        )

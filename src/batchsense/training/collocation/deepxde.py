"""Problems defined in DeepXDE, unchanged: as conditions, or in minibatches for its own training.

DeepXDE (Lu et al. 2021, SIAM Review 63) is imported when a problem of it comes, and never changed.
Its conditions keep target values under the address of an array, which in minibatches gives the
targets of other points; copies without that cache do not.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from batchsense.errors import DataError, MissingExtraError
from batchsense.training.collocation.conditions import Condition, condition_residual, shown_point
from batchsense.training.collocation.minibatches import Box, CollocationMinibatches, Sampling
from batchsense.training.workload import borrowed_randomness

#: Data whose residual at a point needs other points: integrals and fractional derivatives.
_COUPLED = ("IDE", "FPDE", "TimeFPDE")
#: Conditions on pairs of points, which DeepXDE lists as all first ones, then all second ones.
_PAIRED = ("PeriodicBC", "Interface2DBC")
_BOXES = ("Interval", "Rectangle", "Cuboid", "Hypercube")


def conditions_of(data: Any, loss_weights: Sequence[float] | None = None) -> list[Condition]:
    """Make a condition of the equations, ``pde``, and one of each boundary or initial condition.

    Their loss is the sum of DeepXDE's mean squares over all of its training points, with
    ``loss_weights`` as for ``deepxde.Model.compile``. Residuals take the network of DeepXDE or any
    module like it. Columns of points beyond the coordinates carry the values of a point set, or the
    partner of a point (periodic and interface conditions).

    Raises
    ------
    MissingExtraError
        DeepXDE is not installed.
    DataError
        It is no deepxde.data.PDE or TimePDE, or one that couples points (integrals, fractional
        derivatives); a condition has no training point, or one outside the geometry; DeepXDE runs
        on another backend than torch.
    """
    dde = _imported()
    if not isinstance(data, dde.data.PDE) or _is(data, _COUPLED):
        message = "cannot be cut into points: give deepxde.data.PDE or TimePDE"
        raise DataError(f"{type(data).__name__} {message}")
    equations = len(loss_weights) - len(data.bcs) if loss_weights is not None else 0
    weights = [1.0] * len(data.bcs) if loss_weights is None else loss_weights[equations:]
    found = []
    if data.pde is not None:
        points, inside = torch.as_tensor(data.train_x_all), _inside(data.geom, data.train_x_all)
        if not np.all(inside):
            point = shown_point(points[int(np.argmin(inside))])
            raise DataError(f"{point} lies outside the geometry; remove it from anchors", "pde")
        residual = functools.partial(_equations, dde, data, (loss_weights or [])[:equations])
        redraw = _box(data.geom) or functools.partial(_redrawn, data.geom)
        found.append(Condition("pde", residual, points, redraw=redraw))
    start = 0
    for number, (bc, weight) in enumerate(zip(data.bcs, weights, strict=True), start=1):
        name, end = f"{type(bc).__name__} {number}", start + data.num_bcs[number - 1]
        if start == end:
            raise DataError("no training point lies on it; raise num_boundary or num_initial", name)
        residual = functools.partial(_boundary, dde, _without_cache(bc), data.geom.dim)
        rows = _rows(bc, data.train_x_bc[start:end])
        found.append(Condition(name, residual, rows, float(weight)))
        start = end
    return found


def minibatched(
    data: Any,
    points_per_condition: int | Mapping[str, int],
    *,
    sampling: Sampling = "uniform",
    seed: int = 0,
    num_test: int | None = None,
    net: nn.Module | None = None,
    refresh_every: int = 100,
) -> Any:
    """Copy DeepXDE data so that each training step gets a minibatch of every condition.

    Give the copy to ``deepxde.Model`` in place of the original: optimizers, metrics and callbacks
    such as ``PDEPointResampler`` work as before. ``copy.minibatches`` is the
    :class:`CollocationMinibatches` of the conditions that :func:`conditions_of` names.

    ``num_test`` points of the test loss are needed where the data have none of their own, and
    ``net``, whose residuals are looked at every ``refresh_every`` steps, by ``importance`` and
    ``rad``.

    Raises
    ------
    MissingExtraError, DataError
        As :func:`conditions_of`; or there are no test points, or ``net`` is missing.
    """
    conditions = conditions_of(data)
    if data.num_test is None and num_test is None:
        message = "num_test is None: DeepXDE would test on the points it trains on; give"
        raise DataError(f"{message} minibatched(..., num_test=1000)", conditions[0].name)
    if sampling in ("importance", "rad") and net is None:
        raise DataError(f"{sampling} draws by residuals; give minibatched(..., net=net)")
    whole = copy.copy(data)
    whole.bcs = [_without_cache(bc) for bc in data.bcs]
    whole.num_test = data.num_test if num_test is None else num_test
    whole.train_x_bc = whole.test_x = whole.test_y = whole.test_aux_vars = None
    whole.bc_points()
    whole.test()
    kind = type(type(data).__name__, (_Minibatched, type(data)), {})
    made: Any = object.__new__(kind)
    vars(made).update(vars(data))
    made.whole, made.net, made.refresh_every, made.due = whole, net, refresh_every, True
    made.minibatches = CollocationMinibatches(conditions, points_per_condition, sampling, seed=seed)
    made.train_next_batch()
    return made


class _Minibatched:
    """Put before the class of the data: the same problem, other points at every step."""

    whole: Any
    net: nn.Module | None
    refresh_every: int
    due: bool
    minibatches: CollocationMinibatches

    def train_next_batch(self, batch_size: int | None = None) -> Any:
        if self.net is not None and (self.due or self.minibatches.step % self.refresh_every == 0):
            self.minibatches.refresh(self.net)
        self.due = False
        self.drawn = self.minibatches.draw()
        names = sorted(self.drawn, key=lambda name: name == "pde")  # DeepXDE has the equation last
        self.num_bcs = [len(self.drawn[name].points) for name in names if name != "pde"]
        points = [self.drawn[name].points[:, : self.whole.geom.dim] for name in names]
        self.train_x = torch.cat(points).cpu().numpy()
        self.train_y = self.whole.soln(self.train_x) if self.whole.soln else None
        return self.train_x, self.train_y, None

    def losses_train(
        self, targets: Any, outputs: Any, loss_fn: Any, inputs: Any, model: Any, aux: Any = None
    ) -> list[Tensor]:
        mean_squares = _imported().losses.mean_squared_error
        kinds = loss_fn if isinstance(loss_fn, list | tuple) else [loss_fn]
        if any(kind is not mean_squares for kind in kinds):
            raise DataError("minibatches have weights for mean squares: compile with loss='MSE'")
        losses: list[Tensor] = []
        for condition in self.minibatches.conditions:
            part = self.drawn[condition.name]
            weighed = part.weights @ condition_residual(condition, model.net, part.points).square()
            losses += list(weighed) if condition.name == "pde" else [weighed.sum()]
        return losses

    def losses_test(self, *arguments: Any, **named: Any) -> Any:
        # DeepXDE takes the points of conditions from train_x: those of the test come first in both.
        view = copy.copy(self.whole)
        view.train_x = view.test_x
        return view.losses_test(*arguments, **named)

    def test(self) -> Any:
        return self.whole.test()

    def resample_train_points(self, pde_points: bool = True, bc_points: bool = True) -> None:
        self.whole.resample_train_points(pde_points, bc_points)
        before = self.minibatches
        self.minibatches = CollocationMinibatches(
            conditions_of(self.whole), before.counts, before.sampling, seed=before.seed
        )
        self.minibatches.step, self.due = before.step, True


def _imported() -> Any:
    try:
        import deepxde
    except ModuleNotFoundError as error:
        if error.name != "deepxde":
            raise
        raise MissingExtraError("DeepXDE problems", "collocation") from None
    if deepxde.backend.backend_name != "pytorch":
        raise DataError("DeepXDE does not run on torch; set DDE_BACKEND=pytorch before its import")
    return deepxde


def _without_cache(bc: Any) -> Any:
    """Copy a condition whose functions look at the points they are given."""
    plain = copy.copy(bc)
    for name, value in vars(bc).items():
        if getattr(getattr(value, "__code__", None), "co_name", None) == "wrapper_cache":
            setattr(plain, name, lambda x, a, b, _, f=value.__wrapped__: f(x[a:b]))
    if hasattr(plain, "batch_size"):
        plain.batch_size = None
    return plain


def _rows(bc: Any, points: Any) -> Tensor:
    rows = torch.as_tensor(getattr(bc, "points", points))
    if getattr(bc, "values", torch.ones(1)).numel() > 1:
        return torch.cat([rows, bc.values.detach().to(rows).reshape(len(rows), -1)], dim=1)
    return torch.cat(rows.chunk(2), dim=1) if _is(bc, _PAIRED) else rows


def _boundary(dde: Any, bc: Any, dimension: int, model: nn.Module, rows: Tensor) -> Tensor:
    inputs, beyond = rows[:, :dimension], rows[:, dimension:]
    if _is(bc, _PAIRED):
        inputs = torch.cat([inputs, beyond])
    elif beyond.shape[1]:
        bc = copy.copy(bc)
        bc.values = beyond
    dde.gradients.clear()
    error = bc.error(inputs.detach().cpu().numpy(), inputs, model(inputs), 0, len(inputs))
    dde.gradients.clear()
    return _scaled(error, 1.0)


def _equations(
    dde: Any, data: Any, weights: Sequence[float], model: nn.Module, points: Tensor
) -> Tensor:
    dde.gradients.clear()
    given = [points, model(points)]
    if dde.config.autodiff == "forward":
        given[1] = (given[1], model)
    if dde.utils.get_num_args(data.pde) == 3:
        found = data.auxiliary_var_fn(points.detach().cpu().numpy())
        given.append(torch.as_tensor(found).to(points))
    errors = data.pde(*given)
    errors = errors if isinstance(errors, list | tuple) else [errors]
    dde.gradients.clear()
    weights = weights or [1.0] * len(errors)
    return torch.cat([_scaled(e, w) for e, w in zip(errors, weights, strict=True)], dim=1)


def _scaled(error: Tensor, weight: float) -> Tensor:
    """Rows whose sum of squares is the weight times the mean over columns, as DeepXDE has it."""
    error = error.reshape(len(error), -1)
    return error * math.sqrt(weight / error.shape[1])


def _inside(geometry: Any, points: Any) -> Any:
    if hasattr(geometry, "timedomain"):
        times = _inside(geometry.timedomain, points[:, -1:])
        return _inside(geometry.geometry, points[:, :-1]) & times
    # Rounding puts points of some boundaries outside; they belong to it.
    return geometry.inside(points) | geometry.on_boundary(points)


def _box(geometry: Any) -> Box | None:
    timed = hasattr(geometry, "timedomain")
    parts = [geometry.geometry, geometry.timedomain] if timed else [geometry]
    if type(parts[0]).__name__ not in _BOXES:
        return None
    return Box(*(tuple(np.concatenate([np.ravel(p.bbox[i]) for p in parts])) for i in (0, 1)))


def _redrawn(geometry: Any, count: int, seed: int) -> Tensor:
    with borrowed_randomness(seed):  # DeepXDE draws from numpy's global generator
        return torch.as_tensor(geometry.random_points(count))


def _is(thing: Any, names: tuple[str, ...]) -> bool:
    return any(kind.__name__ in names for kind in type(thing).__mro__)

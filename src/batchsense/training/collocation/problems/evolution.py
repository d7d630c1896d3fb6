"""Problems in one space dimension and time: heat, Burgers, Allen–Cahn, wave, unknown viscosity."""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from scipy.integrate import solve_ivp
from scipy.interpolate import BarycentricInterpolator, CubicSpline
from torch import Tensor, nn
from typing_extensions import override

from batchsense.arrays import Floats
from batchsense.training.collocation.conditions import Condition, Residual
from batchsense.training.collocation.exact_conditions import Transform, exact_conditions
from batchsense.training.collocation.minibatches import Box
from batchsense.training.collocation.problems.problem import (
    POOL,
    CollocationProblem,
    exact_network,
    grid,
    in_box,
    slopes,
)

_EXACT = ("boundary", "initial")


def _equation(residual: Residual, left: float) -> Condition:
    draw = in_box([left, 0], [1, 1])
    return Condition("equation", residual, draw(POOL, 0), redraw=draw)


def heat(diffusivity: float = 0.4) -> CollocationProblem:
    """u_t = a u_xx on the unit interval, u = sin πx at first, 0 at both ends."""

    def residual(model: nn.Module, points: Tensor) -> Tensor:
        first = slopes(model(points)[:, 0], points)
        return first[:, 1] - diffusivity * slopes(first[:, 0], points)[:, 0]

    return CollocationProblem(
        "heat",
        [_equation(residual, 0)],
        exact_network(exact_conditions(Box((0.0,), (1.0,)), 0.0, _sine)),
        lambda p: np.exp(-(np.pi**2) * diffusivity * p[:, 1:]) * np.sin(np.pi * p[:, :1]),
        validation=grid([0, 0], [1, 1]),
        exact=_EXACT,
    )


def _sine(points: Tensor) -> Tensor:
    return torch.sin(torch.pi * points[:, 0])


def burgers_reference(x: Floats, t: Floats, viscosity: float) -> Floats:
    """Burgers' equation from −sin πx by the transform of Cole and Hopf (Basdevant et al. 1986).

    100 nodes of Gauss–Hermite agree with the public grid for ν = .01/π to 3e-12.
    """
    nodes, weights = np.polynomial.hermite.hermgauss(100)
    y = np.asarray(x)[..., None] - np.sqrt(4 * viscosity * np.asarray(t))[..., None] * nodes
    power = -np.cos(np.pi * y) / (2 * np.pi * viscosity)
    factor = weights * np.exp(power - power.max(axis=-1, keepdims=True))
    found: Floats = -(factor * np.sin(np.pi * y)).sum(-1) / factor.sum(-1)
    return found


_COLE_HOPF = "Cole–Hopf transform, Gauss–Hermite quadrature"


def _burgers(model: nn.Module, points: Tensor, viscosity: Tensor | float) -> Tensor:
    u: Tensor = model(points)[:, 0]
    first = slopes(u, points)
    return first[:, 1] + u * first[:, 0] - viscosity * slopes(first[:, 0], points)[:, 0]


def _burgers_form() -> Transform:
    return exact_conditions(Box((-1.0,), (1.0,)), 0.0, lambda p: -_sine(p))


def burgers(viscosity: float = 0.01 / math.pi) -> CollocationProblem:
    """u_t + u u_x = ν u_xx on (−1, 1), u = −sin πx at first, 0 at both ends."""
    return CollocationProblem(
        "burgers",
        [_equation(lambda model, points: _burgers(model, points, viscosity), -1)],
        exact_network(_burgers_form()),
        lambda p: burgers_reference(p[:, :1], p[:, 1:], viscosity),
        _COLE_HOPF,
        grid([-1, 0], [1, 1]),
        _EXACT,
    )


class _WithViscosity(nn.Module):
    """A network and an unknown viscosity, as its logarithm, which keeps it positive."""

    def __init__(self, network: nn.Module, guess: float) -> None:
        super().__init__()
        self.network = network
        self.log_viscosity = nn.Parameter(torch.tensor(math.log(guess), dtype=torch.float64))

    @override
    def forward(self, points: Tensor) -> Tensor:
        found: Tensor = self.network(points)
        return found


def _viscosity(model: nn.Module) -> Tensor:
    found: Tensor = model.log_viscosity.exp()  # type: ignore[operator]
    return found


def viscosity(true: float = 0.05, guess: float = 0.5, noise: float = 0.01) -> CollocationProblem:
    """Find the viscosity of Burgers' equation from 200 noisy values of u, guessed ten times wrong.

    The network knows boundary and initial values exactly.
    """
    places = in_box([-1, 0], [1, 1])(200, 1)
    x, t = places.numpy().T
    scatter = np.random.default_rng(2).normal(0, noise, len(x))
    measured = torch.from_numpy(burgers_reference(x, t, true) + scatter)
    network = exact_network(_burgers_form())
    return CollocationProblem(
        "viscosity",
        [
            _equation(lambda model, p: _burgers(model, p, _viscosity(model)), -1),
            Condition(
                "data",
                lambda model, p: model(p[:, :2])[:, 0] - p[:, 2],
                torch.column_stack([places, measured]),
            ),
        ],
        lambda seed: _WithViscosity(network(seed), guess),
        lambda p: burgers_reference(p[:, :1], p[:, 1:], true),
        _COLE_HOPF,
        grid([-1, 0], [1, 1]),
        _EXACT,
        {"viscosity": (_viscosity, true)},
    )


def allen_cahn(diffusivity: float = 0.001, rate: float = 5.0) -> CollocationProblem:
    """u_t = d u_xx + 5(u − u³) on (−1, 1), u = x² cos πx at first, −1 at both ends."""

    def residual(model: nn.Module, points: Tensor) -> Tensor:
        u: Tensor = model(points)[:, 0]
        first = slopes(u, points)
        spread = diffusivity * slopes(first[:, 0], points)[:, 0]
        return first[:, 1] - spread - rate * (u - u**3)

    def start(points: Tensor) -> Tensor:
        return points[:, 0].square() * torch.cos(torch.pi * points[:, 0])

    return CollocationProblem(
        "allen-cahn",
        [_equation(residual, -1)],
        exact_network(exact_conditions(Box((-1.0,), (1.0,)), -1.0, start)),
        lambda p: allen_cahn_reference(p[:, 0], p[:, 1], diffusivity, rate)[:, None],
        "Chebyshev collocation and BDF (scipy)",
        grid([-1, 0], [1, 1]),
        _EXACT,
    )


def allen_cahn_reference(x: Floats, t: Floats, diffusivity: float, rate: float) -> Floats:
    """Allen–Cahn from x² cos πx: the polynomial through Chebyshev points, a spline in time."""
    times, values, nodes = _allen_cahn(diffusivity, rate)
    found, at = np.empty(len(x)), CubicSpline(times, values, axis=1)
    for time in np.unique(t):
        there = t == time
        found[there] = BarycentricInterpolator(nodes, at(time))(x[there])
    return found


@functools.cache
def _allen_cahn(diffusivity: float, rate: float, count: int = 320) -> tuple[Floats, Floats, Floats]:
    """Values at Chebyshev points and times; 320 and 512 points agree to 4e-7 relative."""
    nodes = np.cos(np.pi * np.arange(count + 1) / count)
    # Differentiation matrix (Trefethen 2000, program 6).
    c = (-1.0) ** np.arange(count + 1)
    c[[0, -1]] *= 2
    first = np.outer(c, 1 / c) / (nodes[:, None] - nodes + np.eye(count + 1))
    first -= np.diag(first.sum(axis=1))
    second = diffusivity * (first @ first)[1:-1]

    def change(_: float, inner: Floats) -> Floats:
        whole = np.concatenate([[-1.0], inner, [-1.0]])
        changed: Floats = second @ whole + rate * (inner - inner**3)
        return changed

    times = np.linspace(0, 1, 201)
    found = solve_ivp(
        change,
        (0, 1),
        (nodes**2 * np.cos(np.pi * nodes))[1:-1],
        "BDF",
        times,
        jac=lambda _, inner: second[:, 1:-1] + np.diag(rate * (1 - 3 * inner**2)),
        rtol=1e-8,
        atol=1e-10,
    )
    ends = np.full((1, len(times)), -1.0)
    return times, np.concatenate([ends, found.y, ends]), nodes


def wave(speed: float = 1.0) -> CollocationProblem:
    """u_tt = c² u_xx on the unit interval, two standing waves, at rest at first."""

    def residual(model: nn.Module, points: Tensor) -> Tensor:
        first = slopes(model(points)[:, 0], points)
        by_time = slopes(first[:, 1], points)[:, 1]
        return by_time - speed**2 * slopes(first[:, 0], points)[:, 0]

    def start(points: Tensor) -> Tensor:
        return _sine(points) + torch.sin(3 * torch.pi * points[:, 0]) / 2

    def reference(p: Floats) -> Floats:
        x, t = np.pi * p[:, :1], np.pi * speed * p[:, 1:]
        found: Floats = np.sin(x) * np.cos(t) + np.sin(3 * x) * np.cos(3 * t) / 2
        return found

    return CollocationProblem(
        "wave",
        [_equation(residual, 0)],
        exact_network(exact_conditions(Box((0.0,), (1.0,)), 0.0, (start, 0.0))),
        reference,
        validation=grid([0, 0], [1, 1]),
        exact=_EXACT,
    )

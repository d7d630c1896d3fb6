"""Problems at rest in the plane: Poisson on a disc and an L, Helmholtz, Kovasznay's flow."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from batchsense.arrays import Floats
from batchsense.training.collocation.conditions import Condition
from batchsense.training.collocation.exact_conditions import Disc, exact_conditions
from batchsense.training.collocation.minibatches import Box
from batchsense.training.collocation.problems.problem import (
    POOL,
    CollocationProblem,
    exact_network,
    grid,
    in_box,
    slopes,
    tanh_network,
)


def _laplacian(u: Tensor, points: Tensor) -> Tensor:
    first = slopes(u, points)
    return slopes(first[:, 0], points)[:, 0] + slopes(first[:, 1], points)[:, 1]


def _in_disc(count: int, seed: int) -> Tensor:
    shares = np.random.default_rng(seed).random((count, 2))
    radius, angle = np.sqrt(shares[:, 0]), 2 * np.pi * shares[:, 1]
    return torch.from_numpy(np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1))


def poisson_disc() -> CollocationProblem:
    """−Δu = f on the unit disc, u = 0 on its edge; u = (1 + x/2) sin π(1 − r²)."""

    def residual(model: nn.Module, points: Tensor) -> Tensor:
        x, square = points[:, 0], points.square().sum(dim=1)
        p = torch.pi * (1 - square)
        wanted = (1 + x / 2) * (
            -4 * torch.pi**2 * square * torch.sin(p) - 4 * torch.pi * torch.cos(p)
        ) - 2 * torch.pi * x * torch.cos(p)
        return _laplacian(model(points)[:, 0], points) - wanted

    def reference(p: Floats) -> Floats:
        square = np.square(p).sum(axis=1, keepdims=True)
        found: Floats = (1 + p[:, :1] / 2) * np.sin(np.pi * (1 - square))
        return found

    return CollocationProblem(
        "poisson-disc",
        [Condition("equation", residual, _in_disc(POOL, 0), redraw=_in_disc)],
        exact_network(exact_conditions(Disc(), 0.0)),
        reference,
        validation=_in_disc(4096, 10**6).numpy(),
        exact=("edge",),
    )


def _in_l(count: int, seed: int) -> Tensor:
    """The square from −1 to 1 without its lower right quarter: three squares of equal area."""
    random = np.random.default_rng(seed)
    corner = np.array([[-1.0, -1.0], [-1.0, 0.0], [0.0, 0.0]])[random.integers(0, 3, count)]
    return torch.from_numpy(corner + random.random((count, 2)))


def _around_l(count: int, seed: int) -> Tensor:
    corners = np.array([[0, 0], [1, 0], [1, 1], [-1, 1], [-1, -1], [0, -1], [0, 0]], dtype=float)
    walk = np.concatenate([[0], np.abs(np.diff(corners, axis=0)).sum(axis=1).cumsum()])
    at = np.random.default_rng(seed).random(count) * walk[-1]
    return torch.from_numpy(np.stack([np.interp(at, walk, one) for one in corners.T], axis=1))


def _singular(p: Floats) -> Floats:
    radius = np.hypot(p[:, 0], p[:, 1])
    angle = np.mod(np.arctan2(p[:, 1], p[:, 0]), 2 * np.pi)
    return radius ** (2 / 3) * np.sin(2 * angle / 3)


def poisson_l() -> CollocationProblem:
    """Δu = 0 on an L, u = r^(2/3) sin(2θ/3) on its edge: singular at the corner that looks inward.

    No form of the output is known that holds on this edge without a singularity of its own, so
    the edge is a term of the loss.
    """

    def edge(model: nn.Module, points: Tensor) -> Tensor:
        u: Tensor = model(points)[:, 0]
        return u - torch.from_numpy(_singular(points.detach().numpy()))

    return CollocationProblem(
        "poisson-l",
        [
            Condition(
                "equation",
                lambda model, p: _laplacian(model(p)[:, 0], p),
                _in_l(POOL, 0),
                redraw=_in_l,
            ),
            # Errors on the edge spread inside with factor 1, so they weigh more than the equation.
            Condition("edge", edge, _around_l(POOL // 4, 1), weight=100.0, redraw=_around_l),
        ],
        tanh_network,
        lambda p: _singular(p)[:, None],
        validation=_in_l(4096, 10**6).numpy(),
    )


def helmholtz(waves: int = 2) -> CollocationProblem:
    """−Δu − k²u = f on the unit square, u = sin kx sin ky, k = 2π times the number of waves."""
    k = 2 * math.pi * waves

    def residual(model: nn.Module, points: Tensor) -> Tensor:
        u: Tensor = model(points)[:, 0]
        # Over k², so that the equation is of the order of u.
        return (-_laplacian(u, points) / k**2) - u - torch.sin(k * points).prod(dim=1)

    draw = in_box([0, 0], [1, 1])
    return CollocationProblem(
        "helmholtz",
        [Condition("equation", residual, draw(POOL, 0), redraw=draw)],
        exact_network(exact_conditions(Box((0.0, 0.0), (1.0, 1.0)), 0.0)),
        lambda p: np.sin(k * p[:, :1]) * np.sin(k * p[:, 1:]),
        validation=grid([0, 0], [1, 1]),
        exact=("boundary",),
    )


def kovasznay(reynolds: float = 20.0) -> CollocationProblem:
    """Steady flow behind a grid (Kovasznay 1948): u, v on all sides, the pressure on the right."""
    decay = reynolds / 2 - math.sqrt(reynolds**2 / 4 + 4 * math.pi**2)

    def u(p: Tensor) -> Tensor:
        return 1 - torch.exp(decay * p[:, 0]) * torch.cos(2 * torch.pi * p[:, 1])

    def v(p: Tensor) -> Tensor:
        wave = torch.exp(decay * p[:, 0]) * torch.sin(2 * torch.pi * p[:, 1])
        return decay / (2 * torch.pi) * wave

    def pressure(p: Tensor) -> Tensor:
        return (1 - torch.exp(2 * decay * p[:, 0])) / 2

    def residual(model: nn.Module, points: Tensor) -> Tensor:
        out = model(points)
        by_u, by_v, by_p = (slopes(out[:, k], points) for k in range(3))
        du, dv = (
            slopes(one[:, 0], points)[:, 0] + slopes(one[:, 1], points)[:, 1]
            for one in (by_u, by_v)
        )
        along = [
            out[:, 0] * one[:, 0] + out[:, 1] * one[:, 1] + by_p[:, axis] - second / reynolds
            for axis, (one, second) in enumerate(((by_u, du), (by_v, dv)))
        ]
        return torch.stack([*along, by_u[:, 0] + by_v[:, 1]], dim=1)

    low, high = (-0.5, -0.5), (1.0, 1.5)
    draw = in_box(low, high)
    box = Box(low, high)
    # Side by side, not one function for all: that would give the answer away inside.
    sides = ("left", "right", "bottom", "top")
    transforms = [exact_conditions(box, dict.fromkeys(sides, one)) for one in (u, v)] + [
        exact_conditions(box, {"right": pressure})
    ]
    return CollocationProblem(
        "kovasznay",
        [Condition("equations", residual, draw(POOL, 0), redraw=draw)],
        exact_network(*transforms),
        lambda p: torch.stack([one(torch.from_numpy(p)) for one in (u, v, pressure)], 1).numpy(),
        validation=grid(low, high),
        exact=("velocity on all sides", "pressure on the right"),
    )

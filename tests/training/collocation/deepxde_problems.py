"""Ten problems in DeepXDE's own words, after the public descriptions of its examples.

Each function returns data and network as a user of DeepXDE defines them; nothing in here knows of
batchsense. Numbers of points are smaller than in the examples.
"""

from __future__ import annotations

from typing import Any

import deepxde as dde
import numpy as np
import torch

Problem = tuple[Any, torch.nn.Module]


def network(inputs: int, outputs: int, width: int = 12) -> Any:
    """A tanh network with two hidden layers."""
    return dde.nn.FNN([inputs, width, width, outputs], "tanh", "Glorot uniform")


def poisson_dirichlet() -> Problem:
    """-u'' = pi^2 sin(pi x), u(-1) = u(1) = 0."""

    def pde(x: Any, y: Any) -> Any:
        return -dde.grad.hessian(y, x) - np.pi**2 * torch.sin(np.pi * x)

    geometry = dde.geometry.Interval(-1, 1)
    walls = dde.icbc.DirichletBC(geometry, lambda x: np.sin(np.pi * x), lambda _, on: on)
    data = dde.data.PDE(
        geometry, pde, walls, 40, 2, solution=lambda x: np.sin(np.pi * x), num_test=100
    )
    return data, network(1, 1)


def poisson_neumann() -> Problem:
    """Of u'' = 2, u(-1) = 0, u'(1) = 4."""
    geometry = dde.geometry.Interval(-1, 1)
    left = dde.icbc.DirichletBC(
        geometry, lambda x: (x + 1) ** 2, lambda x, on: on and dde.utils.isclose(x[0], -1)
    )
    right = dde.icbc.NeumannBC(
        geometry, lambda x: 2 * (x + 1), lambda x, on: on and dde.utils.isclose(x[0], 1)
    )
    data = dde.data.PDE(geometry, lambda x, y: dde.grad.hessian(y, x) - 2, [left, right], 30, 2)
    return data, network(1, 1)


def poisson_robin() -> Problem:
    """Of u'' = 2, u(-1) = 0, u'(1) = u(1)."""
    geometry = dde.geometry.Interval(-1, 1)
    left = dde.icbc.DirichletBC(
        geometry, lambda x: (x + 1) ** 2, lambda x, on: on and dde.utils.isclose(x[0], -1)
    )
    right = dde.icbc.RobinBC(
        geometry, lambda x, y: y, lambda x, on: on and dde.utils.isclose(x[0], 1)
    )
    data = dde.data.PDE(
        geometry, lambda x, y: dde.grad.hessian(y, x) - 2, [left, right], 30, 2, num_test=50
    )
    return data, network(1, 1)


def poisson_periodic() -> Problem:
    """-u'' = pi^2 sin(pi x), u(-1) = 0 and u(1) = u(-1), on a square whose sides meet."""

    def pde(x: Any, y: Any) -> Any:
        second = dde.grad.hessian(y, x, i=0, j=0) + dde.grad.hessian(y, x, i=1, j=1)
        return second + torch.sin(np.pi * x[:, 0:1])

    geometry = dde.geometry.Rectangle([-1, -1], [1, 1])
    meet = dde.icbc.PeriodicBC(geometry, 0, lambda x, on: on and dde.utils.isclose(x[0], -1))
    slope = dde.icbc.PeriodicBC(
        geometry, 0, lambda x, on: on and dde.utils.isclose(x[0], -1), derivative_order=1
    )
    ends = dde.icbc.DirichletBC(
        geometry,
        lambda x: np.sin(np.pi * x[:, 0:1]),
        lambda x, on: on and dde.utils.isclose(abs(x[1]), 1),
    )
    data = dde.data.PDE(geometry, pde, [meet, slope, ends], 64, 40, num_test=100)
    return data, network(2, 1)


def poisson_l_shape() -> Problem:
    """-u_xx - u_yy = 1 on an L, u = 0 on its boundary."""

    def pde(x: Any, y: Any) -> Any:
        return -dde.grad.hessian(y, x, i=0, j=0) - dde.grad.hessian(y, x, i=1, j=1) - 1

    geometry = dde.geometry.Polygon([[0, 0], [1, 0], [1, -1], [-1, -1], [-1, 1], [0, 1]])
    walls = dde.icbc.DirichletBC(geometry, lambda x: 0, lambda _, on: on)
    data = dde.data.PDE(geometry, pde, walls, num_domain=80, num_boundary=30, num_test=60)
    return data, network(2, 1)


def burgers() -> Problem:
    """u_t + u u_x = 0.01/pi u_xx, u(-1) = u(1) = 0, u = -sin(pi x) at the start."""

    def pde(x: Any, y: Any) -> Any:
        first, time = dde.grad.jacobian(y, x, i=0, j=0), dde.grad.jacobian(y, x, i=0, j=1)
        return time + y * first - 0.01 / np.pi * dde.grad.hessian(y, x, i=0, j=0)

    space = dde.geometry.Interval(-1, 1)
    geometry = dde.geometry.GeometryXTime(space, dde.geometry.TimeDomain(0, 0.99))
    walls = dde.icbc.DirichletBC(geometry, lambda x: 0, lambda _, on: on)
    start = dde.icbc.IC(
        geometry, lambda x: -np.sin(np.pi * x[:, 0:1]), lambda _, on_initial: on_initial
    )
    data = dde.data.TimePDE(
        geometry, pde, [walls, start], num_domain=120, num_boundary=20, num_initial=30
    )
    return data, network(2, 1)


def allen_cahn() -> Problem:
    """u_t = 0.001 u_xx + 5(u - u^3), its start and walls in the ansatz."""

    def pde(x: Any, y: Any) -> Any:
        second = dde.grad.hessian(y, x, i=0, j=0)
        return dde.grad.jacobian(y, x, i=0, j=1) - 0.001 * second - 5 * (y - y**3)

    def ansatz(x: Any, y: Any) -> Any:
        place, time = x[:, 0:1], x[:, 1:2]
        return place**2 * torch.cos(np.pi * place) + time * (1 - place**2) * y

    space = dde.geometry.Interval(-1, 1)
    geometry = dde.geometry.GeometryXTime(space, dde.geometry.TimeDomain(0, 1))
    data = dde.data.TimePDE(geometry, pde, [], num_domain=150, num_boundary=10, num_initial=10)
    net = network(2, 1)
    net.apply_output_transform(ansatz)
    return data, net


def kovasznay() -> Problem:
    """Steady Navier-Stokes at Re = 20: three outputs, three equations, velocities at the walls."""
    reynolds = 20
    rate = 1 / (2 * 1 / reynolds) - np.sqrt(1 / (4 * (1 / reynolds) ** 2) + 4 * np.pi**2)

    def pde(x: Any, u: Any) -> Any:
        du = [[dde.grad.jacobian(u, x, i=i, j=j) for j in range(2)] for i in range(3)]
        lap = [
            dde.grad.hessian(u, x, component=k, i=0, j=0)
            + dde.grad.hessian(u, x, component=k, i=1, j=1)
            for k in range(2)
        ]
        moved = [u[:, 0:1] * du[k][0] + u[:, 1:2] * du[k][1] for k in range(2)]
        momenta = [moved[k] + du[2][k] - lap[k] / reynolds for k in range(2)]
        return [*momenta, du[0][0] + du[1][1]]

    def along(x: Any) -> Any:
        return 1 - np.exp(rate * x[:, 0:1]) * np.cos(2 * np.pi * x[:, 1:2])

    def across(x: Any) -> Any:
        wave = np.sin(2 * np.pi * x[:, 1:2])
        return rate / (2 * np.pi) * np.exp(rate * x[:, 0:1]) * wave

    geometry = dde.geometry.Rectangle([-0.5, -0.5], [1, 1.5])
    walls = [
        dde.icbc.DirichletBC(geometry, along, lambda _, on: on, component=0),
        dde.icbc.DirichletBC(geometry, across, lambda _, on: on, component=1),
    ]
    data = dde.data.PDE(geometry, pde, walls, num_domain=60, num_boundary=24, num_test=50)
    return data, network(2, 3)


def laplace_disk() -> Problem:
    """Laplace's equation on a disc in polar coordinates, with an operator as second condition."""

    def pde(x: Any, y: Any) -> Any:
        slope = dde.grad.jacobian(y, x, i=0, j=0)
        radial, angular = dde.grad.hessian(y, x, i=0, j=0), dde.grad.hessian(y, x, i=1, j=1)
        return x[:, 0:1] * slope + x[:, 0:1] ** 2 * radial + angular

    geometry = dde.geometry.Rectangle([0, 0], [1, 2 * np.pi])
    rim = dde.icbc.DirichletBC(
        geometry, lambda x: np.cos(x[:, 1:2]), lambda x, on: on and dde.utils.isclose(x[0], 1)
    )
    centre = dde.icbc.OperatorBC(
        geometry,
        lambda x, y, X: dde.grad.jacobian(y, x, i=0, j=1) * (1 + X[:, 0:1].sum() * 0),
        lambda x, on: on and dde.utils.isclose(x[0], 0),
    )
    data = dde.data.PDE(geometry, pde, [rim, centre], num_domain=60, num_boundary=40)
    return data, network(2, 1)


def diffusion_with_measurements() -> Problem:
    """u_t = u_xx - exp(-t)(1 - pi^2) sin(pi x), start, walls and ten measured values."""

    def pde(x: Any, y: Any) -> Any:
        source = torch.exp(-x[:, 1:]) * (1 - np.pi**2) * torch.sin(np.pi * x[:, 0:1])
        return dde.grad.jacobian(y, x, i=0, j=1) - dde.grad.hessian(y, x, i=0, j=0) + source

    def exact(x: Any) -> Any:
        return np.sin(np.pi * x[:, 0:1]) * np.exp(-x[:, 1:])

    space = dde.geometry.Interval(-1, 1)
    geometry = dde.geometry.GeometryXTime(space, dde.geometry.TimeDomain(0, 1))
    measured = np.stack([np.linspace(-1, 1, 10), np.full(10, 1.0)], axis=1)
    conditions = [
        dde.icbc.DirichletBC(geometry, exact, lambda _, on: on),
        dde.icbc.IC(geometry, exact, lambda _, on_initial: on_initial),
        dde.icbc.PointSetBC(measured, exact(measured)),
    ]
    data = dde.data.TimePDE(
        geometry, pde, conditions, 40, 20, 10, anchors=measured, solution=exact, num_test=100
    )
    return data, network(2, 1)


PROBLEMS = (
    poisson_dirichlet, poisson_neumann, poisson_robin, poisson_periodic, poisson_l_shape, burgers,
    allen_cahn, kovasznay, laplace_disk, diffusion_with_measurements,
)  # fmt: skip

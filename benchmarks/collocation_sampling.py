"""Importance sampling against uniform minibatches of collocation points, at equal points a step.

Burgers and Allen-Cahn with initial and boundary values in the ansatz, so that the equation is the
only condition; tanh networks 2-20-20-20-1, Adam with a cosine schedule, 64 points a step out of a
pool of 10,000 of its own for each run; residuals are looked at every 100 steps. Five runs of each
way of drawing, every one with seeds of its own; all runs of a problem are stepped together, which
changes nothing but the time. The interval of a ratio of typical errors is Welch's, of logarithms.
``noise`` is the variance of minibatch gradients at the trained weights, drawn in each way. About
four minutes of one core.

    python benchmarks/collocation_sampling.py [-o benchmarks/results/collocation_sampling.json]
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from common.record import options, write
from scipy.integrate import solve_ivp
from scipy.stats import ttest_ind
from torch import Tensor, nn

from batchsense.arrays import Floats
from batchsense.training.collocation import Box, CollocationMinibatches, Condition, DrawnPoints

POOL, POINTS, STEPS, REFRESH, SEEDS, DRAWS = 10_000, 64, 6_000, 100, 5, 100
LEARNING_RATE, VISCOSITY = 5e-3, 0.01 / math.pi
WAYS = ("uniform", "importance", "rad")
SIZES = ((2, 20), (20, 20), (20, 20), (20, 1))


def slope(values: Tensor, points: Tensor) -> Tensor:
    """Derivatives of values by all coordinates of their own points."""
    return torch.autograd.grad(values.sum(), points, create_graph=True)[0]


class Networks(nn.Module):
    """Many networks side by side, put into a form that has the initial and boundary values."""

    def __init__(self, form: Callable[[Tensor, Tensor], Tensor], seeds: list[int]) -> None:
        super().__init__()
        self.form = form
        weights = []
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed)
            weights.append(
                [torch.randn(a, b, generator=generator) * (2 / (a + b)) ** 0.5 for a, b in SIZES]
            )
        self.weights = nn.ParameterList(
            [torch.stack(layer) for layer in zip(*weights, strict=True)]
        )
        self.shifts = nn.ParameterList([torch.zeros(len(seeds), 1, b) for _, b in SIZES])

    def forward(self, points: Tensor, which: slice = slice(None)) -> Tensor:
        """Map points of shape (networks, points, 2) to values of shape (networks, points, 1)."""
        y = points
        for place, (weight, shift) in enumerate(zip(self.weights, self.shifts, strict=True)):
            y = torch.baddbmm(shift[which], y, weight[which])
            y = torch.tanh(y) if place < len(SIZES) - 1 else y
        return self.form(points, y)


class One(nn.Module):
    """One of the networks, for points of shape (points, 2)."""

    def __init__(self, networks: Networks, place: int) -> None:
        super().__init__()
        self.networks, self.which = networks, slice(place, place + 1)

    def forward(self, points: Tensor) -> Tensor:
        """Values at points (x, t)."""
        return self.networks(points[None], self.which)[0]


def burgers_form(points: Tensor, y: Tensor) -> Tensor:
    """-sin(pi x) at the start, 0 at the walls."""
    x, t = points[..., :1], points[..., 1:]
    return -torch.sin(math.pi * x) + t * (1 - x**2) * y


def allen_cahn_form(points: Tensor, y: Tensor) -> Tensor:
    """x^2 cos(pi x) at the start, -1 at the walls."""
    x, t = points[..., :1], points[..., 1:]
    return x**2 * torch.cos(math.pi * x) + t * (1 - x**2) * y


def burgers_residual(model: nn.Module, points: Tensor) -> Tensor:
    """u_t + u u_x - 0.01/pi u_xx."""
    u = model(points)
    first = slope(u, points)
    return first[..., 1:] + u * first[..., :1] - VISCOSITY * slope(first[..., :1], points)[..., :1]


def allen_cahn_residual(model: nn.Module, points: Tensor) -> Tensor:
    """u_t - 0.001 u_xx - 5(u - u^3)."""
    u = model(points)
    first = slope(u, points)
    return first[..., 1:] - 0.001 * slope(first[..., :1], points)[..., :1] - 5 * (u - u**3)


def burgers_reference(x: Floats, t: Floats) -> Floats:
    """Cole and Hopf's solution by Gauss-Hermite quadrature (Basdevant et al. 1986)."""
    nodes, weights = np.polynomial.hermite.hermgauss(100)
    y = x[:, None] - np.sqrt(4 * VISCOSITY * t)[:, None] * nodes
    exponent = -np.cos(np.pi * y) / (2 * np.pi * VISCOSITY)
    mass = weights * np.exp(exponent - exponent.max(axis=1, keepdims=True))
    return np.asarray(-(mass * np.sin(np.pi * y)).sum(axis=1) / mass.sum(axis=1))


def allen_cahn_reference(x: Floats, t: Floats) -> Floats:
    """Second differences on 801 places, times by BDF to 1e-8."""
    places = np.linspace(-1, 1, 801)
    width = places[1] - places[0]

    def change(_: float, u: Floats) -> Floats:
        rate = np.zeros_like(u)
        rate[1:-1] = 0.001 * (u[2:] - 2 * u[1:-1] + u[:-2]) / width**2
        rate[1:-1] += 5 * (u[1:-1] - u[1:-1] ** 3)
        return rate

    bands, times = np.eye(801) + np.eye(801, k=1) + np.eye(801, k=-1), np.unique(t)
    found = solve_ivp(
        change, (0, 1), places**2 * np.cos(np.pi * places), "BDF", times,
        rtol=1e-8, atol=1e-10, jac_sparsity=bands,
    )  # fmt: skip
    rows = dict(zip(times, found.y.T, strict=True))
    return np.array([np.interp(a, places, rows[b]) for a, b in zip(x, t, strict=True)])


PROBLEMS = {
    "burgers": (burgers_form, burgers_residual, burgers_reference),
    "allen_cahn": (allen_cahn_form, allen_cahn_residual, allen_cahn_reference),
}


def losses(networks: Networks, residual: Any, drawn: list[DrawnPoints]) -> Tensor:
    """The loss of each network at its own points."""
    points = torch.stack([one.points for one in drawn]).requires_grad_(True)
    weights = torch.stack([one.weights for one in drawn])
    return (weights * residual(networks, points)[..., 0].square()).sum(dim=1)


def noises(
    networks: Networks, residual: Any, sequences: list[CollocationMinibatches]
) -> list[float]:
    """Variance of the minibatch gradient of each network, summed over its parameters."""
    total, squares = None, None
    for _ in range(DRAWS):
        drawn = [next(iter(sequence.draw().values())) for sequence in sequences]
        found = losses(networks, residual, drawn).sum()
        parts = torch.autograd.grad(found, list(networks.parameters()))
        rows = torch.cat([part.reshape(len(sequences), -1) for part in parts], dim=1)
        total = rows if total is None else total + rows
        squares = rows**2 if squares is None else squares + rows**2
    assert total is not None
    assert squares is not None
    return [float(v) for v in ((squares - total**2 / DRAWS) / (DRAWS - 1)).sum(dim=1)]


def trained(problem: str, first_seed: int) -> list[dict[str, Any]]:
    """Train all networks of a problem; give their errors and noise."""
    form, residual, reference = PROBLEMS[problem]
    x, t = (axis.ravel() for axis in np.meshgrid(np.linspace(-1, 1, 201), np.linspace(0, 1, 51)))
    grid, truth = torch.tensor(np.stack([x, t], axis=1)), torch.tensor(reference(x, t))
    ways = [way for way in WAYS for _ in range(SEEDS)]
    seeds = [first_seed + place for place in range(len(ways))]
    networks = Networks(form, seeds)
    ones = [One(networks, place) for place in range(len(ways))]
    pools = [[Condition(problem, residual, Box((-1.0, 0.0), (1.0, 1.0))(POOL, s))] for s in seeds]

    def sequences(how: list[str], shift: int) -> list[CollocationMinibatches]:
        made = [
            CollocationMinibatches(pool, POINTS, way, seed=seed + shift)  # type: ignore[arg-type]
            for pool, way, seed in zip(pools, how, seeds, strict=True)
        ]
        for sequence, one, way in zip(made, ones, how, strict=True):
            if way != "uniform":
                sequence.refresh(one)
        return made

    draws = sequences(ways, 0)
    optimizer = torch.optim.Adam(networks.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    spent = dict.fromkeys(WAYS, 0.0)
    for step in range(STEPS):
        drawn = []
        for sequence, one, way in zip(draws, ones, ways, strict=True):
            began = time.process_time()
            if way != "uniform" and step and step % REFRESH == 0:
                sequence.refresh(one)
            drawn += sequence.draw().values()
            spent[way] += time.process_time() - began
        loss = losses(networks, residual, drawn).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 500 == 499:
            with torch.no_grad():
                values = networks(grid.expand(len(ways), -1, -1))[..., 0]
            errors = ((values - truth).norm(dim=1) / truth.norm()).tolist()
            said = ", ".join(f"{error:.3g}" for error in errors)
            print(f"{problem}: {step + 1} of {STEPS}: {said}", file=sys.stderr, flush=True)
    noise = {
        way: noises(networks, residual, sequences([way] * len(ways), 1000)) for way in WAYS[:2]
    }
    return [
        {
            "way": way, "seed": seed, "relative_l2": error,
            "noise": {other: noise[other][place] for other in noise},
            "milliseconds_of_drawing": 1e3 * spent[way] / STEPS / SEEDS,
        }
        for place, (way, seed, error) in enumerate(zip(ways, seeds, errors, strict=True))
    ]  # fmt: skip


def compared(runs: list[dict[str, Any]], way: str) -> dict[str, Any]:
    """Ratio of typical errors to those of uniform draws, with a 95 % interval."""
    ours, theirs = (
        np.log([run["relative_l2"] for run in runs if run["way"] == name])
        for name in (way, "uniform")
    )
    interval = ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    return {
        "error_ratio": math.exp(ours.mean() - theirs.mean()),
        "interval": [math.exp(interval.low), math.exp(interval.high)],
    }


def main() -> None:
    parser = options(__doc__ or "", "collocation_sampling")
    parser.add_argument("--only", choices=PROBLEMS, help="keep what the output has of the other")
    chosen = parser.parse_args()
    began, cpu, spent, problems = time.time(), time.process_time(), 0.0, {}
    if chosen.only and chosen.output.exists():
        before = json.loads(chosen.output.read_text())
        spent, problems = before["cpu_seconds"], before["problems"]
    torch.set_default_dtype(torch.float64)
    for number, problem in enumerate(PROBLEMS):
        if chosen.only not in (None, problem):
            continue
        runs = trained(problem, chosen.seed + 100 * number)
        ratios = {
            way: [r["noise"]["importance"] / r["noise"]["uniform"] for r in runs if r["way"] == way]
            for way in WAYS
        }
        problems[problem] = {
            **{way: compared(runs, way) for way in WAYS[1:]},
            "noise_ratio": {way: float(np.median(found)) for way, found in ratios.items()},
            "runs": runs,
        }
        print(problem, problems[problem]["importance"], file=sys.stderr, flush=True)
    write(
        chosen.output, chosen.seed, began, spent + time.process_time() - cpu,
        points=POINTS, pool=POOL, steps=STEPS, refresh=REFRESH, problems=problems,
    )  # fmt: skip


if __name__ == "__main__":
    main()

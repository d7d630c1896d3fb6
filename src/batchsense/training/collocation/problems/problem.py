"""A problem to be solved by collocation: conditions, a network, and what is known of the answer."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from batchsense.arrays import Floats
from batchsense.training.collocation.conditions import Condition
from batchsense.training.collocation.exact_conditions import ExactNetwork, Transform
from batchsense.training.collocation.jobs import parts_of_problem
from batchsense.training.collocation.minibatches import Box

#: Points of a pool, drawn once; steps draw fresh ones.
POOL = 4096


@dataclass(frozen=True)
class CollocationProblem:
    """What is solved, and how the answer is judged.

    Attributes
    ----------
    name : str
        For people.
    conditions : sequence of Condition
        With pools of points, and ``redraw`` where fresh ones can be drawn.
    network : callable
        ``network(seed)`` makes the model, in float64.
    reference : callable, optional
        Points (n, dimension) to the true outputs (n, q).
    reference_kind : str, optional
        Where it comes from, such as ``"closed form"``.
    validation : array, optional
        Points (n, dimension) at which the answer is judged.
    exact : tuple of str
        Conditions that hold by the form of the network.
    unknowns : mapping of str to (callable, float)
        Constants that are found as well: how each is read from the model, and its true value.
    """

    name: str
    conditions: Sequence[Condition]
    network: Callable[[int], nn.Module]
    reference: Callable[[Floats], Floats] | None = None
    reference_kind: str | None = "closed form"
    validation: Floats | None = None
    exact: tuple[str, ...] = ()
    unknowns: Mapping[str, tuple[Callable[[nn.Module], Tensor], float]] = field(
        default_factory=dict
    )

    @classmethod
    def of(cls, made: object) -> CollocationProblem:
        """Make one, without a reference, of what :func:`as_workload` takes.

        Raises
        ------
        DataError
            It is no such problem.
        """
        conditions, model = parts_of_problem(made, 0)
        return cls(type(made).__name__, conditions, lambda seed: copy.deepcopy(model))


def tanh_network(seed: int, outputs: int = 1) -> nn.Sequential:
    """Three hidden layers of 20 tanh units for points of a plane, Glorot's weights, in float64.

    >>> sum(one.numel() for one in tanh_network(0).parameters())
    921
    """
    sizes = [2, 20, 20, 20, outputs]
    layers: list[nn.Module] = []
    generator = torch.Generator().manual_seed(seed)
    for before, after in itertools.pairwise(sizes):
        layer = nn.Linear(before, after, dtype=torch.float64)
        nn.init.xavier_normal_(layer.weight, generator=generator)
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def exact_network(*transforms: Transform) -> Callable[[int], nn.Module]:
    """Make networks whose outputs have these forms."""
    return lambda seed: ExactNetwork(tanh_network(seed, len(transforms)), transforms)


def in_box(low: Sequence[float], high: Sequence[float]) -> Callable[[int, int], Tensor]:
    """Draw points evenly from a box, in float64: ``draw(count, seed)``."""
    box = Box(tuple(low), tuple(high))
    return lambda count, seed: box(count, seed).double()


def grid(low: Sequence[float], high: Sequence[float]) -> Floats:
    """64 by 64 places of a rectangle, its edges included, as points of shape (4096, 2)."""
    axes = [np.linspace(a, b, 64) for a, b in zip(low, high, strict=True)]
    return np.stack([one.ravel() for one in np.meshgrid(*axes, indexing="ij")], axis=1)


def slopes(output: Tensor, points: Tensor) -> Tensor:
    """Derivatives of an output (n,) by the coordinates of its own point, of shape (n, dimension).

    >>> at = torch.tensor([[1.0], [3.0]], requires_grad=True)
    >>> slopes(at[:, 0] ** 2, at).tolist()
    [[2.0], [6.0]]
    """
    (found,) = torch.autograd.grad(output.sum(), points, create_graph=True)
    return found

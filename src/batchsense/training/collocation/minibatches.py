"""Minibatches of collocation points: so many of every condition at every step, weighted exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from scipy.stats import qmc
from torch import Tensor, nn

from batchsense.arrays import Floats, Integers
from batchsense.errors import DataError
from batchsense.training.collocation.conditions import (
    Condition,
    DrawnPoints,
    check_names,
    condition_residual,
)
from batchsense.training.collocation.inclusion import inclusion_probabilities, systematic_draw

Sampling = Literal["uniform", "sobol", "latin_hypercube", "importance", "rad"]
#: Points whose residuals are evaluated at once: second derivatives of a small network at so many
#: points take about 20 MB.
_CHUNK = 4096


@dataclass(frozen=True)
class Box:
    """Draws fresh points from a box, the ``redraw`` of a condition; (-1, 0) to (-1, 2) is a wall.

    Examples
    --------
    >>> Box((-1.0, 0.0), (1.0, 2.0))(3, seed=0).shape
    torch.Size([3, 2])
    """

    lower: tuple[float, ...]
    upper: tuple[float, ...]

    def __call__(self, count: int, seed: int) -> Tensor:
        """Draw independent points, uniformly."""
        return self.draw(count, np.random.default_rng(seed), "uniform")

    def draw(self, count: int, rng: np.random.Generator, how: Sampling) -> Tensor:
        """Draw points, each uniform in the box; together spread by Sobol or Latin hypercube."""
        lower, upper = np.asarray(self.lower), np.asarray(self.upper)
        if how == "sobol":
            power = max(1, int(count - 1).bit_length())
            unit = qmc.Sobol(len(lower), rng=rng).random_base2(power)[:count]
        elif how == "latin_hypercube":
            unit = qmc.LatinHypercube(len(lower), rng=rng).random(count)
        else:
            unit = rng.random((count, len(lower)))
        return torch.as_tensor(lower + unit * (upper - lower), dtype=torch.get_default_dtype())


class CollocationMinibatches:
    r"""An endless, seeded sequence of minibatches with constant counts of each condition.

    An epoch has :math:`n = \max_c \lceil N_c / B_c \rceil` minibatches, so n·B_c places for the
    N_c points of a condition, filled pass after pass in random order. A point that comes up m times
    counts :math:`n / (N_c m)` each time. So each minibatch gradient is unbiased, and their mean
    over an epoch is the gradient of all points, whether or not counts divide.

    Parameters
    ----------
    points_per_condition : int or mapping of str to int
        Points of each minibatch. A single number is lowered to the points of small conditions.
    sampling : {"uniform", "sobol", "latin_hypercube", "importance", "rad"}
        ``uniform``: as above. ``sobol``, ``latin_hypercube``: fresh points at every step where
        ``redraw`` is a :class:`Box`, else ``uniform``; ``how`` says which. ``importance``: points
        come with a probability that grows with the residual that :meth:`refresh` saw, and count
        accordingly less: unbiased. ``rad``: the same draws without these weights (residual-based
        adaptive distribution, Wu et al. 2023, arXiv 2207.10289, :math:`k = 1,
        c = \alpha / (1 - \alpha)`): *biased*, it minimises another loss.
    mixing : float
        Share :math:`\alpha` of the probabilities that is the same for all points.
    pool : int
        Residuals are looked at in no more points of a condition than this, chosen at random.

    Raises
    ------
    DataError
        Conditions are missing or double; a count is below 1 or above the points; there is no Box.

    Examples
    --------
    >>> inside = Condition("u' = 0", lambda model, points: model(points), torch.rand(10, 1))
    >>> minibatches = CollocationMinibatches([inside], 4)
    >>> minibatches.steps_per_epoch, minibatches.draw()["u' = 0"].points.shape
    (3, torch.Size([4, 1]))
    """

    def __init__(
        self,
        conditions: Sequence[Condition],
        points_per_condition: int | Mapping[str, int],
        sampling: Sampling = "uniform",
        mixing: float = 0.1,
        pool: int = 65536,
        seed: int = 0,
    ) -> None:
        check_names(conditions)
        if sampling not in get_args(Sampling):
            raise DataError(f"no sampling {sampling!r}; give one of {get_args(Sampling)}")
        inclusion_probabilities([1.0], 1, mixing)
        self.conditions = tuple(conditions)
        self.sampling, self.mixing, self.pool, self.seed = sampling, mixing, pool, seed
        fresh = sampling in ("sobol", "latin_hypercube")
        self.how: dict[str, Sampling] = {
            c.name: "uniform" if fresh and not isinstance(c.redraw, Box) else sampling
            for c in conditions
        }
        if sampling not in self.how.values():
            raise DataError(f"{sampling} points need a condition with redraw=Box(lower, upper)")
        most = {c.name: c.count for c in conditions}
        if sampling in ("importance", "rad"):
            most = {name: min(count, pool) for name, count in most.items()}
        self.counts = _counts(points_per_condition, most)
        self.step = self._looks = 0
        # For each condition the points that were looked at, and their inclusion probabilities.
        self._looked: dict[str, tuple[Integers, Floats]] = {}
        self._places: dict[str, tuple[int, Integers, Floats]] = {}

    @property
    def steps_per_epoch(self) -> int:
        """Minibatches in which every point of every condition comes up."""
        return max(-(-c.count // self.counts[c.name]) for c in self.conditions)

    def draw(self, rank: int = 0, ranks: int = 1) -> dict[str, DrawnPoints]:
        """Draw the next minibatch, or the part of one process in it.

        Weights are those of the whole: losses and gradients of processes *add up*. Where they are
        averaged, as by DistributedDataParallel, multiply by ``ranks``.

        Refuses fewer points than processes, and conditions that were never looked at.
        """
        drawn = {}
        for number, condition in enumerate(self.conditions):
            points, weights = self._draw(number, condition)
            if (count := len(points)) < ranks:
                raise DataError(f"{count} points cannot be shared by {ranks} ranks", condition.name)
            part = slice(count * rank // ranks, count * (rank + 1) // ranks)
            drawn[condition.name] = DrawnPoints(points[part], weights[part])
        self.step += 1
        return drawn

    def refresh(self, model: nn.Module) -> None:
        """Look at residuals, by which ``importance`` and ``rad`` draw from now on.

        Processes must see the same: refresh in one and hand on its :meth:`state_dict`, unless all
        compute the same to the bit. Refuses what :func:`condition_residual` refuses.
        """
        for number, condition in enumerate(self.conditions):
            members = np.arange(condition.count)
            if condition.count > self.pool:
                rng = np.random.default_rng((self.seed, number, 1, self._looks))
                members = np.sort(rng.choice(condition.count, self.pool, replace=False))
            sizes = []
            with torch.no_grad():
                for part in np.array_split(members, -(-len(members) // _CHUNK)):
                    rows = condition.points[torch.as_tensor(part)]
                    found = condition_residual(condition, model, rows)
                    sizes.append(found.double().norm(dim=1).cpu().numpy())
            count = self.counts[condition.name]
            chances = inclusion_probabilities(np.concatenate(sizes), count, self.mixing)
            self._looked[condition.name] = members, chances
        self._looks += 1

    def state_dict(self) -> dict[str, Any]:
        """Where the sequence is and what draws depend on; ``torch.load`` reads it safely."""
        seen = {name: tuple(map(torch.as_tensor, both)) for name, both in self._looked.items()}
        return {**self._identity(), "step": self.step, "looks": self._looks, "looked": seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a sequence with the same settings was; others are refused and named."""
        for name, own in self._identity().items():
            if state.get(name) != own:
                raise DataError(f"the state has {name} {state.get(name)!r}, not {own!r}")
        self.step, self._looks, self._places = int(state["step"]), int(state["looks"]), {}
        self._looked = {name: (a.numpy(), b.numpy()) for name, (a, b) in state["looked"].items()}

    def _identity(self) -> dict[str, Any]:
        return {
            "sampling": self.sampling, "mixing": self.mixing, "pool": self.pool, "seed": self.seed,
            "counts": dict(self.counts), "points": {c.name: c.count for c in self.conditions},
        }  # fmt: skip

    def _draw(self, number: int, condition: Condition) -> tuple[Tensor, Tensor]:
        name, count, pool = condition.name, self.counts[condition.name], condition.points
        rng, how = np.random.default_rng((self.seed, number, 2, self.step)), self.how[name]
        if how == "uniform":
            chosen, weights = self._in_turn(number, condition)
        elif how in ("importance", "rad"):
            if name not in self._looked:
                raise DataError(f"{how} draws by residuals: call refresh(model) first", name)
            members, chances = self._looked[name]
            hit = rng.permutation(systematic_draw(chances, rng))
            chosen, weights = members[hit], 1 / (len(members) * chances[hit])
        else:
            fresh = condition.redraw.draw(count, rng, how)  # type: ignore[union-attr]
            return fresh.to(pool), torch.full((count,), 1 / count).to(pool)
        if how == "rad":
            weights = np.full(count, 1 / count)
        return pool[torch.as_tensor(chosen)], torch.as_tensor(weights).to(pool)

    def _in_turn(self, number: int, condition: Condition) -> tuple[Integers, Floats]:
        epoch, step = divmod(self.step, self.steps_per_epoch)
        count = self.counts[condition.name]
        if self._places.get(condition.name, (-1,))[0] != epoch:
            rng = np.random.default_rng((self.seed, number, 3, epoch))
            order, weights = balanced_places(condition.count, self.steps_per_epoch * count, rng)
            self._places[condition.name] = epoch, order, weights * self.steps_per_epoch
        _, order, weights = self._places[condition.name]
        part = slice(step * count, (step + 1) * count)
        return order[part], weights[part]


def balanced_places(count: int, places: int, rng: np.random.Generator) -> tuple[Integers, Floats]:
    """Fill places with points, pass after pass; weigh them so that all points count 1/count.

    >>> order, weights = balanced_places(4, 6, np.random.default_rng(0))
    >>> np.bincount(order).tolist(), np.bincount(order, weights).tolist()
    ([1, 1, 2, 2], [0.25, 0.25, 0.25, 0.25])
    """
    passes = [rng.permutation(count) for _ in range(-(-places // count))]
    order = np.concatenate(passes)[:places]
    if places % count:
        # Points of a last pass that is cut off count less: at a fixed place they bias its steps.
        order = np.roll(order, rng.integers(places))
    return order, 1 / (count * np.bincount(order, minlength=count)[order])


def _counts(wanted: int | Mapping[str, int], most: Mapping[str, int]) -> dict[str, int]:
    if not isinstance(wanted, Mapping):
        wanted = {name: min(wanted, limit) for name, limit in most.items()}
    if set(wanted) != set(most):
        raise DataError(f"points_per_condition names {[*wanted]}, the conditions are {[*most]}")
    for name, limit in most.items():
        if not 1 <= wanted[name] <= limit:
            raise DataError(f"{wanted[name]} points a minibatch; give 1 to {limit}", where=name)
    return {name: int(wanted[name]) for name in most}

"""Which points a step has, and how many: by the noise of a gradient, and the gains of steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from batchsense.training.collocation.conditions import Condition, DrawnPoints
from batchsense.training.collocation.point_jacobians import point_jacobian
from batchsense.training.gradient_noise.estimators import moments_of_examples

#: Beyond 8,192 points a step of 921 parameters takes half a second, and another doubling of
#: points would halve a noise that was no longer seen on the built-in problems.
MOST = 8192
#: Steps between two plans, and the part of the loss on other points that must be left after them
#: for a count to stay. Ten or twenty steps doubled too early on Burgers' equation, where one
#: window in three brings nothing.
WINDOW, _LEFT = 30, 0.8
#: Steps with one count before the other has its turn, and turns: with fewer of either, counts that
#: cost a third more were chosen on waves of other speeds.
TURN, TURNS = 10, 4


def step_cost(rows: int, parameters: int) -> float:
    """Milliseconds of a step, roughly: only how they grow matters, and times would not repeat.

    64, 128, 256 and 512 points of the wave equation and 921 parameters took 14, 16, 24 and 56 ms
    on one core: calls, rows of the Jacobian, and the products of rows.

    >>> [round(step_cost(points, 921)) for points in (64, 128, 256, 512)]
    [14, 17, 25, 54]
    """
    return 12 + rows * parameters * (2.2e-5 + 1.3e-7 * min(rows, parameters))


@dataclass
class PointPlan:
    """The planned number of points of a second-order step, drawn anew for each.

    A step on N points lowers the loss on them by more than on others; the difference falls as 1/N.
    Few points make cheap steps whose errors average out over steps, until they hide the gain: then
    the loss on other points falls no longer, and N is doubled. Before that N and 2N points take
    turns, and the count whose steps lowered the log of the loss on other points more for their cost
    is kept.

    >>> plan = PointPlan(128)
    >>> for _ in range(WINDOW):
    ...     plan.saw(1.0, 0.9)
    >>> plan.ready, plan.planned(1.0, 0.9)[0]
    (True, 256)
    >>> turns = PointPlan(128, lambda points: points**0.5)
    >>> for after in (0.9, 0.7, 0.9):
    ...     print(turns.planned(1.0, after)[0])
    256
    128
    256
    >>> print(turns.planned(1.0, 0.7)[1])
    256 points a step lowered the log of the loss 2.4 times as much for their cost as 128
    """

    points: int  #: N at present.
    #: Of a step, by its points; without it no turns are taken.
    cost: Callable[[int], float] | None = None
    _gains: list[float] = field(default_factory=list)
    _lowest: float = math.inf
    _paid: list[float] = field(default_factory=list)

    def saw(self, before: float, after: float) -> None:
        """Note a step: the loss on its points before and after; the same twice if it failed."""
        self._gains.append(math.log(before / after))

    @property
    def _in_turns(self) -> bool:
        return self.cost is not None and len(self._paid) < TURNS

    @property
    def ready(self) -> bool:
        """Whether enough steps were seen."""
        return len(self._gains) >= (TURN if self._in_turns else WINDOW)

    def planned(self, before: float, after: float) -> tuple[int, str]:
        """Set the next N by the loss on other points; return it, with the reason of a change."""
        own, lowest = sum(self._gains), min(self._lowest, before)
        self._gains, self._lowest = [], min(lowest, after)
        if self._in_turns:
            return self._after_turn(math.log(before / after))
        if after <= _LEFT * lowest or self.points >= MOST:
            return self.points, ""
        share = math.log(before / after) / own if own > 0 else 0.0
        told = (
            f"other points showed {share:.0%} of what {WINDOW} steps gained on their "
            if share >= 0.005
            else f"other points showed no gain of note after {WINDOW} steps on "
        )
        told += f"{self.points:,}"
        self.points = min(2 * self.points, MOST)
        return self.points, told

    def _after_turn(self, gain: float) -> tuple[int, str]:
        assert self.cost is not None
        self._paid.append(gain / self.cost(self.points))
        few = self.points // 2 if len(self._paid) % 2 == 0 else self.points
        self.points = few if len(self._paid) % 2 == 0 else 2 * few
        if len(self._paid) < TURNS:
            return self.points, f"in turn with {3 * few - self.points:,}, to see which pays"
        one, two = sum(self._paid[::2]), sum(self._paid[1::2])
        more, less = (2 * few, few) if two > one else (few, 2 * few)
        self.points, least = more, min(one, two)
        if least <= 0:
            return more, f"steps on {less:,} points did not lower the loss on others"
        times = max(one, two) / least
        return more, (
            f"{more:,} points a step lowered the log of the loss {times:.1f} times as much for "
            f"their cost as {less:,}"
        )

    def state_dict(self) -> dict[str, Any]:
        """What later plans depend on."""
        return {
            "points": self.points,
            "gains": self._gains,
            "lowest": self._lowest,
            "paid": self._paid,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.points, self._lowest = int(state["points"]), float(state["lowest"])
        self._gains, self._paid = list(state["gains"]), list(state["paid"])


def draw_points(
    conditions: Sequence[Condition], counts: Mapping[str, int], seed: int
) -> dict[str, DrawnPoints]:
    """Fresh points of each condition, evenly weighted; of its pool where it cannot draw."""
    drawn = {}
    for place, condition in enumerate(conditions):
        count = counts[condition.name]
        own = int(np.random.SeedSequence([seed, place]).generate_state(1)[0])
        if condition.redraw is not None:
            points = condition.redraw(count, own)
        elif count >= condition.count:
            points = condition.points
        else:
            rows = np.random.default_rng(own).permutation(condition.count)[:count]
            points = condition.points[torch.from_numpy(rows)]
        drawn[condition.name] = DrawnPoints(
            points, points.new_full((len(points),), 1 / len(points))
        )
    return drawn


def counts_of(conditions: Sequence[Condition], points: int) -> dict[str, int]:
    """Points of each condition: the largest pool gets ``points``, others by size of their pool.

    A pool that cannot be drawn from anew is used up to its size.
    """
    most = max(condition.count for condition in conditions)
    return {
        one.name: max(2, math.ceil(points * one.count / most))
        if one.redraw is not None
        else min(points, one.count)
        for one in conditions
    }


def noise_scale(
    conditions: Sequence[Condition],
    model: nn.Module,
    points: Mapping[str, Tensor],
    shares: Mapping[str, float],
) -> float:
    r"""The noise scale of the loss gradient, in points of the whole minibatch.

    :math:`\sum_c \lambda_c^2 \operatorname{tr} \Sigma_c / \beta_c` over :math:`|\nabla L|^2`, with
    the shares :math:`\beta_c` of conditions in a minibatch, from two points of each or more,
    independent of each other; infinity where the gradient cannot be told from 0. Source:
    McCandlish et al. (2018), arXiv:1812.06162.
    """
    noise, bias, mean = 0.0, 0.0, torch.zeros(())
    for condition in conditions:
        some = points[condition.name]
        residual, rows = point_jacobian(condition, model, some)
        each = (residual.unsqueeze(2) * rows.view(*residual.shape, -1)).sum(dim=1)
        each *= 2 * condition.weight
        average = each.mean(dim=0)
        found = moments_of_examples(
            float(each.square().sum(dim=1).mean()), float(average @ average), len(some)
        )
        noise += found.trace_covariance / shares[condition.name]
        bias += found.trace_covariance / len(some)
        mean = mean + average
    square = float(mean @ mean) - bias
    return noise / square if square > 0 else math.inf

"""A bowl with real minibatch noise: linear regression, where every formula can be held to a run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchsense.arrays import Floats
from batchsense.errors import UnresolvedError
from batchsense.training.simulate.draws import MinibatchDraws
from batchsense.training.temperature.setting import SgdSetting


@dataclass(frozen=True, slots=True)
class RegressionBowl:
    """The loss mean ½(x·w − y)² of these examples."""

    features: Floats  #: x; shape (examples, weights).
    targets: Floats  #: y; shape (examples,).

    @property
    def minimum(self) -> Floats:
        """The best weights, shape (weights,)."""
        return np.asarray(np.linalg.lstsq(self.features, self.targets, rcond=None)[0])

    @property
    def hessian(self) -> Floats:
        """H, shape (weights, weights)."""
        return np.asarray(self.features.T @ self.features / len(self.features))

    @property
    def covariance(self) -> Floats:
        """C, of one example's gradient at the minimum; shape (weights, weights)."""
        residual = self.features @ self.minimum - self.targets
        slopes = self.features * residual[:, None]
        return np.asarray(slopes.T @ slopes / len(slopes))


@dataclass(frozen=True, slots=True)
class MeasuredHeat:
    """Mean excess loss of replicas of a run after it settled."""

    #: Over replicas and steps, and its standard error between replicas; units of the loss.
    mean: float
    error: float
    #: Steps that were averaged, and runs side by side.
    steps: int
    replicas: int


def simulate_bowl(
    bowl: RegressionBowl,
    setting: SgdSetting,
    *,
    settle: int,
    steps: int,
    replicas: int,
    seed: int,
) -> MeasuredHeat:
    """Run descent on a regression with real minibatches and measure its excess loss.

    ``settle`` steps are left out, then ``steps`` averaged (whole epochs where sampling goes by
    epoch); the standard error comes from the spread of the replicas. The setting's ``examples`` are
    the rows of the bowl.

    Raises UnresolvedError: the run did not stay finite.
    """
    rng = np.random.default_rng(seed)
    draws = MinibatchDraws(setting, replicas, rng)
    weights = np.tile(bowl.minimum, (replicas, 1))
    buffer = np.zeros_like(weights)
    hessian, minimum = bowl.hessian, bowl.minimum
    total = np.zeros(replicas)
    for step in range(settle + steps):
        rows = draws.rows(setting.batch_size)
        x = bowl.features[rows]
        residual = np.einsum("rbd,rd->rb", x, weights) - bowl.targets[rows]
        gradient = np.einsum("rbd,rb->rd", x, residual) / setting.batch_size
        buffer = setting.momentum * buffer + gradient
        weights = weights - setting.learning_rate * buffer
        if step >= settle:
            away = weights - minimum
            total += np.einsum("rd,de,re->r", away, hessian, away) / 2
    means = total / steps
    if not np.isfinite(means).all():
        raise UnresolvedError(
            "the weights ran away", "a smaller learning rate or a larger batch size"
        )
    error = float(means.std(ddof=1) / np.sqrt(replicas))
    return MeasuredHeat(float(means.mean()), error, steps, replicas)

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
    """The loss mean ½(x·w − y)² of these examples.

    Attributes
    ----------
    features : array of shape (examples, weights)
        x.
    targets : array of shape (examples,)
        y.
    """

    features: Floats
    targets: Floats

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
    """Mean excess loss of replicas of a run after it settled.

    Attributes
    ----------
    mean, error : float
        Over replicas and steps, and its standard error between replicas; units of the loss.
    steps, replicas : int
        Steps that were averaged, and runs side by side.
    """

    mean: float
    error: float
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

    Parameters
    ----------
    bowl : RegressionBowl
        The regression.
    setting : SgdSetting
        With ``examples`` equal to the rows of the bowl.
    settle, steps : int
        Steps left out, then steps averaged (whole epochs where sampling goes by epoch).
    replicas : int
        Independent runs; the standard error comes from their spread.
    seed : int
        Of all draws.

    Raises
    ------
    UnresolvedError
        The run did not stay finite.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> bowl = RegressionBowl(rng.normal(size=(64, 2)), rng.normal(size=64))
    >>> setting = SgdSetting(0.1, 8, examples=64)
    >>> found = simulate_bowl(bowl, setting, settle=200, steps=200, replicas=32, seed=1)
    >>> 0.004 < found.mean < 0.012
    True
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

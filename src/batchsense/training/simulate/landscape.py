"""A loss of known shape, tilted a little by each example, so that minibatches make noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchsense.arrays import Floats
from batchsense.errors import DataError


@dataclass(frozen=True, slots=True)
class DoubleWell:
    """One weight in :math:`U(w) = h(w^2 - 1)^2`: wells at ±1, a barrier of height h between them.

    >>> DoubleWell(0.5).loss(np.array([[0.0], [1.0]]))
    array([0.5, 0. ])
    """

    barrier: float  #: h, in units of the loss.

    @property
    def curvature_minimum(self) -> float:
        """U'' in a well."""
        return 8 * self.barrier

    @property
    def curvature_barrier(self) -> float:
        """Size of U'' on top."""
        return 4 * self.barrier

    def loss(self, weights: Floats) -> Floats:
        """Give U; weights have shape (replicas, 1), the result (replicas,)."""
        return np.asarray(self.barrier * ((weights**2 - 1) ** 2)[..., 0])

    def gradient(self, weights: Floats) -> Floats:
        """Give U', in the shape of the weights."""
        return np.asarray(4 * self.barrier * weights * (weights**2 - 1))


def example_tilts(examples: int, weights: int, variance: float, seed: int) -> Floats:
    """Give each example its slope: normal, mean zero and the wanted variance in every direction.

    The loss of example i is U(w) + tilt_i·w, so that U is their mean and the noise is the same
    everywhere. Shape (examples, weights).

    Raises DataError: not more examples than weights: they have no such covariance.

    >>> tilts = example_tilts(100, 2, 4.0, seed=0)
    >>> np.round(tilts.T @ tilts / 100, 12) + 0.0
    array([[4., 0.],
           [0., 4.]])
    """
    if examples <= weights:
        raise DataError(f"{examples} examples cannot tilt {weights} weights independently")
    drawn = np.random.default_rng(seed).normal(size=(examples, weights))
    drawn -= drawn.mean(axis=0)
    factor = np.linalg.cholesky(np.linalg.inv(drawn.T @ drawn / examples))
    return np.asarray(drawn @ factor * np.sqrt(variance))

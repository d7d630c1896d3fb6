"""Which layers the noise comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Floats
from batchsense.training.gradient_noise.fieller import fieller_ratio
from batchsense.training.gradient_noise.report import is_resolved
from batchsense.variation.interval import Interval


@dataclass(frozen=True, slots=True)
class LayerNoise:
    """The part of one layer in the noise, and its own noise scale.

    Attributes
    ----------
    name : str
        The module that holds the parameters; ``""`` for the model itself.
    parameters : int
        Trained numbers in it.
    noise_share : Interval
        Its part of τ = tr Σ; the shares of all layers add up to 1.
    noise_scale : Interval
        τ/γ of the layer alone, in examples. The layers' scales do not average to the whole's.
    """

    name: str
    parameters: int
    noise_share: Interval
    noise_scale: Interval

    @property
    def resolved(self) -> bool:
        """Whether the ends of the noise scale are within a factor of four."""
        return is_resolved(self.noise_scale)


@dataclass(frozen=True, slots=True)
class Layers:
    """Which parameters belong together.

    Attributes
    ----------
    names : tuple of str
        One for each layer, in the order of the model.
    sizes : tuple of int
        Trained numbers of each layer.
    of_parameter : tuple of int
        The layer of each parameter.
    numbers : tuple of int
        Trained numbers of each parameter.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    of_parameter: tuple[int, ...]
    numbers: tuple[int, ...]

    @classmethod
    def of(cls, names: Sequence[str], numbers: Sequence[int]) -> Layers:
        """Group parameters by the module in their name.

        Parameters
        ----------
        names : sequence of str
            As ``named_parameters`` gives them.
        numbers : sequence of int
            Trained numbers in each.

        Returns
        -------
        Layers
            The layers in order of appearance.

        Examples
        --------
        >>> Layers.of(["0.weight", "0.bias", "2.weight"], [8, 2, 4])
        Layers(names=('0', '2'), sizes=(10, 4), of_parameter=(0, 0, 1), numbers=(8, 2, 4))
        """
        layers: dict[str, int] = {}
        chosen = tuple(layers.setdefault(n.rpartition(".")[0], len(layers)) for n in names)
        sizes = np.bincount(chosen, weights=numbers, minlength=len(layers))
        return cls(tuple(layers), tuple(int(size) for size in sizes), chosen, tuple(numbers))

    def sums(self, values: Floats) -> Floats:
        """Add up values of shape (..., parameters) to shape (..., layers)."""
        total = np.zeros((*values.shape[:-1], len(self.names)))
        for index, layer in enumerate(self.of_parameter):
            total[..., layer] += values[..., index]
        return total


def noise_of_layers(
    groups: npt.ArrayLike,
    layers: Layers,
    *,
    estimates: npt.ArrayLike | None = None,
    shrink: tuple[float, float] = (1.0, 1.0),
    level: float = 0.95,
) -> tuple[LayerNoise, ...]:
    """Give each layer's share of the noise and its noise scale, with Fieller's intervals.

    Parameters
    ----------
    groups : array of shape (groups, layers, 2)
        τ̂ and γ̂ of each layer in independent groups (steps, blocks of steps, or jackknife
        pseudo-values); at least 8.
    layers : Layers
        Their names and sizes.
    estimates : array of shape (layers, 2), optional
        τ̂ and γ̂; the means of the groups by default.
    shrink : tuple of two floats
        By what the variances of τ̂ and γ̂ are smaller than the groups say, because examples were
        drawn without replacement.
    level : float
        Confidence level.

    Returns
    -------
    tuple of LayerNoise
        In the order of the model.

    Examples
    --------
    Two layers; the first has nine tenths of the noise:

    >>> rng = np.random.default_rng(0)
    >>> noise = np.array([9.0, 1.0]) + 0.1 * rng.standard_normal((16, 2))
    >>> groups = np.stack([noise, np.ones((16, 2))], axis=2)
    >>> first, second = noise_of_layers(groups, Layers.of(["0.weight", "1.weight"], [4, 4]))
    >>> round(first.noise_share.estimate, 2), 0.9 in first.noise_share
    (0.9, True)
    """
    values = np.asarray(groups, dtype=np.float64)
    count = len(values)
    means = values.mean(axis=0) if estimates is None else np.asarray(estimates, dtype=np.float64)
    total, whole = float(means[:, 0].sum()), values[:, :, 0].sum(axis=1)
    factors = np.sqrt(np.asarray(shrink))
    found = []
    for k, name in enumerate(layers.names):
        tau, gamma = float(means[k, 0]), float(means[k, 1])
        own = np.cov(values[:, k].T) / count * np.outer(factors, factors)
        scale = fieller_ratio(tau, gamma, own, count - 1, level)
        joint = np.cov(np.stack([values[:, k, 0], whole])) / count * shrink[0]
        share = fieller_ratio(tau, total, joint, count - 1, level).interval
        found.append(
            LayerNoise(
                name=name,
                parameters=layers.sizes[k],
                noise_share=Interval(share.estimate, share.low, min(share.high, 1.0), level),
                noise_scale=scale.interval,
            )
        )
    return tuple(found)

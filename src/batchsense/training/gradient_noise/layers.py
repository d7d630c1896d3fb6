"""Which layers the noise comes from, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Floats
from batchsense.training.gradient_noise.estimators import (
    NoiseMoments,
    moments_of_layers,
    pseudo_values,
)
from batchsense.training.gradient_noise.report import (
    NoiseReport,
    fieller_ratio,
    is_resolved,
    noise_report,
)
from batchsense.variation.interval import Interval
from batchsense.variation.moments import Moments


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
    """Which parameters belong together."""

    names: tuple[str, ...]  #: One for each layer, in the order of the model.
    sizes: tuple[int, ...]  #: Trained numbers of each layer.
    of_parameter: tuple[int, ...]  #: The layer of each parameter.
    numbers: tuple[int, ...]  #: Trained numbers of each parameter.

    @classmethod
    def of(cls, names: Sequence[str], numbers: Sequence[int]) -> Layers:
        """Group parameters, by name and number of trained numbers, by the module in their name.

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
    """Return each layer's share of the noise and its noise scale, with Fieller's intervals.

    Shapes: ``groups`` (groups, layers, 2); ``estimates`` (layers, 2).
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


def noise_of_micro_batches(
    grams: Floats,
    sizes: npt.NDArray[np.int64],
    layers: Layers,
    population: int | None,
    *,
    example_squares: Floats | None = None,
    level: float = 0.95,
) -> tuple[NoiseReport, tuple[LayerNoise, ...]]:
    """Report the noise of the whole gradient and of each layer, from K disjoint micro-batches.

    Arguments are as for :func:`~.moments_of_layers`.
    """
    used = int(sizes.sum())
    left = 1.0 if population is None else max(0.0, 1 - used / population)
    # The random split into micro-batches adds an error to τ̂ that a larger share of all examples
    # does not reduce; single examples are split in one way only.
    whole = example_squares is not None and not np.isnan(example_squares).any()
    shrink = (left if whole else 1.0, left)
    values = pseudo_values(grams, sizes, example_squares)
    estimates = moments_of_layers(grams, sizes, example_squares, population)
    covariance = Moments.of(values.sum(axis=1), cross=True).covariance() / len(sizes)
    noise = noise_report(
        NoiseMoments(*estimates.sum(axis=0).tolist()),
        covariance * np.array([[shrink[0], left], [left, left]]),
        degrees=len(sizes) - 1,
        examples_used=used,
        population=population,
        level=level,
    )
    return noise, noise_of_layers(values, layers, estimates=estimates, shrink=shrink, level=level)

"""Which layers the noise comes from, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Floats
from batchsense.errors import UnresolvedError
from batchsense.training.gradient_noise.report import fieller_ratio, is_resolved
from batchsense.variation.components import variance_component
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
        """Group parameters, by name and number of trained numbers, by the module in their name.

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


def moments_of_layers(
    grams: npt.ArrayLike,
    sizes: npt.ArrayLike,
    example_squares: npt.ArrayLike | None = None,
    population: int | None = None,
) -> Floats:
    r"""Estimate τ and γ of each layer from the mean gradients of K micro-batches.

    With ḡ the mean over all n examples, :math:`\hat γ = |\bar g|^2 - \hat τ/n`, and τ̂ from the
    spread of the means, :math:`\sum n_k|g_k - \bar g|^2/(K-1)`, or, where the mean square Q of
    single gradients is known, :math:`n(Q - |\bar g|^2)/(n-1)`. Both add up over layers.

    Shapes: ``grams`` (layers, K, K); ``sizes`` (K,); ``example_squares`` (layers, K); the result
    (layers, 2).

    Examples
    --------
    Two examples, with gradients 1 and 3, that are all there are: variance 1, squared mean 4.

    >>> gram = [[[1.0, 3.0], [3.0, 9.0]]]
    >>> moments_of_layers(gram, [1, 1], [[1.0, 9.0]], population=2)
    array([[1., 4.]])
    """
    products, counts, squares = _arrays(grams, sizes, example_squares)
    total = counts.sum()
    means = np.einsum("lij,i,j->l", products, counts, counts) / total**2
    tau = _tau(
        means, total, len(counts), _spread(products, counts).sum(axis=1), squares.sum(axis=1)
    )
    gamma = variance_component(total * means, 1, tau, total)
    if population is None:
        return np.stack([tau, gamma], axis=1)
    return np.stack([tau * (population - 1) / population, gamma + tau / population], axis=1)


def pseudo_values(
    grams: npt.ArrayLike, sizes: npt.ArrayLike, example_squares: npt.ArrayLike | None = None
) -> Floats:
    r"""Return K values of (τ̂, γ̂) of each layer whose covariance over K is that of the estimates.

    :math:`K\hat θ - (K-1)\hat θ_{-k}`, with θ̂₋ₖ the estimate without micro-batch k. It errs on the
    safe side where noise dominates.

    Arguments are as for :func:`moments_of_layers`, of at least three micro-batches (else an
    UnresolvedError). The result has shape (K, layers, 2).

    References
    ----------
    Efron and Stein (1981), "The jackknife estimate of variance", Ann. Stat. 9.

    Examples
    --------
    >>> pseudo_values(np.eye(3)[None], [4, 4, 4]).shape
    (3, 1, 2)
    """
    products, counts, squares = _arrays(grams, sizes, example_squares)
    groups = len(counts)
    if groups < 3:
        raise UnresolvedError("an interval needs three or more micro-batches", "more micro-batches")
    rest = counts.sum() - counts
    whole = moments_of_layers(grams, sizes, example_squares)
    own = np.einsum("lkk->lk", products)
    mean = np.einsum("lij,i,j->l", products, counts, counts)[:, None]
    crossed = np.einsum("lkj,j->lk", products, counts)
    means = (mean - 2 * counts * crossed + counts**2 * own) / rest**2
    spread, singles = _spread(products, counts), squares.sum(axis=1)[:, None] - squares
    left = spread.sum(axis=1)[:, None] - spread
    tau = _tau(means, rest, groups - 1, left, singles)
    without = np.stack([tau, variance_component(rest * means, 1, tau, rest)], axis=2)
    values = groups * whole[:, None, :] - (groups - 1) * without
    return np.asarray(np.swapaxes(values, 0, 1))


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


def _tau(means: Floats, total: Floats, groups: int, spread: Floats, singles: Floats) -> Floats:
    """τ̂ from single gradients where they are known, else from the spread of the means."""
    if groups < 2 and np.isnan(singles).any():
        raise UnresolvedError(
            "one micro-batch says nothing about differences",
            "two or more micro-batches, or the norms of single examples",
        )
    of_means = (spread - total * means) / max(groups - 1, 1)
    of_singles = (singles - total * means) / (total - 1)
    return np.where(np.isnan(singles), of_means, of_singles)


def _spread(products: Floats, counts: Floats) -> Floats:
    return np.asarray(np.einsum("lkk,k->lk", products, counts))


def _arrays(
    grams: npt.ArrayLike, sizes: npt.ArrayLike, example_squares: npt.ArrayLike | None
) -> tuple[Floats, Floats, Floats]:
    products = np.asarray(grams, dtype=np.float64)
    counts = np.asarray(sizes, dtype=np.float64)
    if products.ndim != 3 or products.shape[1:] != (len(counts), len(counts)):
        raise ValueError(f"grams have shape {products.shape} for {len(counts)} micro-batches")
    squares = np.full(products.shape[:2], np.nan)
    if example_squares is not None:
        squares = np.asarray(example_squares, dtype=np.float64)
    if squares.shape != products.shape[:2]:
        raise ValueError(f"example_squares have shape {squares.shape}, not {products.shape[:2]}")
    return products, counts, squares

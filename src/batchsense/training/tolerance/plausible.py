"""The spreads that a pilot leaves plausible: its observations weighted anew, one of them extra.

A pilot cannot show what it did not draw. Its own resamples never hold more of a rare observation
than was seen; so each gets, beside random weights of what was drawn, a weight for one more
observation as far out as the farthest and in its direction.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from batchsense.arrays import Floats

#: An observation this many times as far out as the average one (squared) marks a heavy tail: of
#: 256 normal values the largest is 9 times, and in one pilot of 800 more than 20 times.
HEAVY_TAIL = 20.0
#: Where nothing that far out was drawn, the extra observation is up to so many times as far out
#: (squared) as the farthest: a kind of example that is one in a hundred is missed by 8 % of pilots
#: of 256. Where the tail was seen, its own weight is caution enough.
_MOST_STRETCH = 2.0


class KnownSpread(NamedTuple):
    """What is estimated of a pilot's spread, as far as the plausible ones are made with it.

    Attributes
    ----------
    square_ratio, cube_ratio : float
        tr Σ²/τ² and tr Σ³/τ³: how the second goes with the first.
    left : float
        Standard error that is left, over that of independent draws: √(1 − n/N).
    """

    square_ratio: float
    cube_ratio: float
    left: float


def plausible_spreads(
    products: Floats, known: KnownSpread, resamples: int, rng: np.random.Generator
) -> Floats:
    r"""Draw spreads (τ and the five ratios of its shape) that fit the observations drawn.

    Each is that of the n observations and one more, a copy of the farthest, with weights from the
    flat Dirichlet distribution. The quantile of the variances among them is Gaffke's bound with the
    farthest distance for the largest possible: right for every distribution that reaches no
    further, as far as is known. tr Σ³ is not drawn but goes with tr Σ², in the power of the
    estimates.

    Parameters
    ----------
    products : array of shape (n, n)
        Inner products of the observations.
    known : KnownSpread
        From the same observations.
    resamples : int
        How many.
    rng : numpy.random.Generator
        Source of the weights.

    Returns
    -------
    array of shape (resamples, 6)
        τ, then the ratios in the order of
        :attr:`~batchsense.training.tolerance.pilot_noise.PilotNoise.shape`.

    References
    ----------
    Gaffke (2005), "Three test statistics for a nonparametric one-sided hypothesis on the mean of a
    nonnegative variable", Math. Methods Statist. 14; Learned-Miller and Thomas (2020), "A new
    confidence interval for the mean of a bounded random variable", arXiv:1905.06208.

    Examples
    --------
    >>> rows = np.random.default_rng(0).normal(size=(256, 4))
    >>> known = KnownSpread(1 / 4, 1 / 16, left=1.0)
    >>> drawn = plausible_spreads(rows @ rows.T, known, 500, np.random.default_rng(1))
    >>> np.quantile(drawn[:, 0], [0.05, 0.95]).round(1)
    array([3.5, 4.1])
    """
    centred = products - products.mean(axis=0) - products.mean(axis=1)[:, None] + products.mean()
    far = int(np.diag(centred).argmax())
    stretch = _stretch(float(centred[far, far] / np.diag(centred).mean()))
    drawn = np.append(np.arange(len(centred)), far)
    centred = centred[np.ix_(drawn, drawn)]
    centred[-1] *= math.sqrt(stretch)
    centred[:, -1] *= math.sqrt(stretch)
    even = np.append(np.full(len(products), 1 / len(products)), 0.0)
    weights = rng.dirichlet(np.ones(len(drawn)), size=resamples)
    weights = even + known.left * (weights - even)
    own = np.diag(centred).copy()
    off = centred - np.diag(own)

    def over_pairs(table: Floats) -> Floats:
        return np.asarray(np.einsum("ri,ri->r", weights @ table, weights) / pairs)

    pairs = 1 - (weights**2).sum(axis=1)  # as likely are two different observations
    lengths, squares, cubes = (weights @ own**power for power in (1, 2, 3))
    trace = (lengths - np.einsum("ri,ri->r", weights @ centred, weights)) / pairs
    pair_squares = over_pairs(off**2)
    square = np.clip(pair_squares / trace**2, 1 / len(products), 1.0)
    along = over_pairs(own[:, None] * off**2) - lengths * pair_squares
    mixed = 4 * over_pairs(off**3) + 12 * along + 6 * over_pairs(own[:, None] * off * own)
    third = cubes - 3 * lengths * squares + 2 * lengths**3
    ratios = (square, squares / lengths**2 - 1, square ** _power(known), mixed / trace**3)
    return np.column_stack([trace, *ratios, third / lengths**3])


def _stretch(outlier_ratio: float) -> float:
    """How much further out the extra observation is, squared."""
    return min(max(HEAVY_TAIL / outlier_ratio, 1.0), _MOST_STRETCH)


def _power(known: KnownSpread) -> float:
    """Give the a of tr Σ³/τ³ = (tr Σ²/τ²)^a: 2 for equal directions, 1.5 for one that has all."""
    if not 0 < known.square_ratio < 1:
        return 2.0
    return float(np.clip(math.log(known.cube_ratio) / math.log(known.square_ratio), 1.5, 2.0))

"""Quantiles of negative binomial distributions, and counts mapped from one to another."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from batchsense.arrays import Floats, Places
from batchsense.experiments.correction.combat_seq.negative_binomial import SMALLEST_DISPERSION

#: Counts this far in the upper tail stay as they are: their quantile is not known well enough. The
#: value is that of Zhang et al. (2020), whose counts ours are compared with.
UPPER_TAIL = 1e-4
#: A probability is reached when it is reached but for rounding: well above the last places of the
#: incomplete beta function, far below any step of a distribution.
_ROUNDING = 1e-12
#: Cells are mapped in blocks of so many: a dozen arrays of 0.4 MB stay in the cache.
_BLOCK = 50_000


def probability_below(counts: ArrayLike, means: ArrayLike, dispersion: ArrayLike) -> Floats:
    r"""The probability of a count at most as large: the distribution function.

    .. math:: P(Y \le y) = I_{r/(r+\mu)}(r, y + 1), \qquad r = 1/\varphi.

    y, μ and φ broadcast; φ = 0 is the Poisson distribution. 0 for negative y.
    """
    y, mu, phi = np.broadcast_arrays(
        np.asarray(counts, dtype=np.float64), np.asarray(means), np.asarray(dispersion)
    )
    upper = np.maximum(y, 0.0) + 1
    below = np.empty(y.shape)
    plain = phi <= SMALLEST_DISPERSION
    r = 1 / phi[~plain]
    below[~plain] = special.betainc(r, upper[~plain], r / (r + mu[~plain]))
    below[plain] = special.gammaincc(upper[plain], mu[plain])
    return np.where(y < 0, 0.0, below)


def quantile(probability: ArrayLike, means: ArrayLike, dispersion: ArrayLike) -> Floats:
    """The smallest count whose distribution function reaches a probability.

    Probabilities in [0, 1), μ and φ broadcast; the result holds whole numbers.
    """
    p, mu, phi = np.broadcast_arrays(
        np.asarray(probability, dtype=np.float64), np.asarray(means), np.asarray(dispersion)
    )
    found = np.empty(p.size)
    cells = [np.ascontiguousarray(part, dtype=np.float64).ravel() for part in (p, mu, phi)]
    for first in range(0, p.size, _BLOCK):
        part = slice(first, first + _BLOCK)
        found[part] = _search(*(cell[part] for cell in cells))
    return found.reshape(p.shape)


def map_counts(
    counts: ArrayLike,
    means: ArrayLike,
    dispersion: ArrayLike,
    new_means: ArrayLike,
    new_dispersion: ArrayLike,
) -> Floats:
    r"""Move counts from one negative binomial distribution to another, quantile by quantile.

    .. math:: y^* = 1 + F^{-1}_{\mu^*,\varphi^*}\bigl(F_{\mu,\varphi}(y - 1)\bigr).

    Counts of 0 and 1 stay, so zeros neither come nor go; so do counts whose quantile is above
    1 - 10⁻⁴.

    Means and dispersions broadcast to the counts; all counts are whole numbers.

    Source: Zhang, Parmigiani and Johnson (2020), NAR Genomics and Bioinformatics 2, lqaa078.
    """
    y = np.asarray(counts, dtype=np.float64)
    mapped = y.copy()
    moving = y > 1
    parts = [np.broadcast_to(a, y.shape)[moving] for a in (means, dispersion)]
    below = probability_below(y[moving] - 1, *parts)
    known = below < 1 - UPPER_TAIL
    moving[moving] = known
    new = [np.broadcast_to(a, y.shape)[moving] for a in (new_means, new_dispersion)]
    mapped[moving] = 1 + quantile(below[known], *new)
    return mapped


def _search(p: Floats, mu: Floats, phi: Floats) -> Floats:
    wanted = p * (1 - _ROUNDING)
    spread = mu * (1 + phi * mu)
    # A gamma distribution of the same mean and variance is near enough to begin with.
    with np.errstate(divide="ignore", invalid="ignore"):
        guess = special.gammaincinv(mu**2 / spread, np.minimum(p, 1 - 1e-15)) * spread / mu
    k = np.floor(np.nan_to_num(np.maximum(guess - 0.5, 0.0), posinf=0.0)) + 0.0
    low, high = np.full(len(p), -1.0), np.full(len(p), np.inf)
    open_: Places = np.arange(len(p))
    for turn in range(2000):
        at = k[open_]
        reached = probability_below(at, mu[open_], phi[open_])
        before = probability_below(at - 1, mu[open_], phi[open_])
        aim = wanted[open_]
        enough, too_much = reached >= aim, before >= aim
        high[open_] = np.where(enough, np.minimum(high[open_], at), high[open_])
        high[open_] = np.where(too_much, np.minimum(high[open_], at - 1), high[open_])
        low[open_] = np.where(enough, low[open_], np.maximum(low[open_], at))
        low[open_] = np.where(too_much, low[open_], np.maximum(low[open_], at - 1))
        still = high[open_] - low[open_] > 1
        if not still.any():
            break
        slope = np.maximum(reached - before, 1e-300)[still]
        step = (aim - reached)[still] / slope
        open_ = open_[still]
        k[open_] = _next(k[open_], step, low[open_], high[open_], bisect=turn % 6 == 5)
    return np.asarray(np.maximum(high, 0.0))


def _next(k: Floats, step: Floats, low: Floats, high: Floats, bisect: bool) -> Floats:
    """Go a Newton step, or to the middle of the bracket where that leads out of it."""
    farthest = np.maximum(k, 1.0) * 4
    there = k + np.where(step > 0, np.ceil(np.minimum(step, farthest)), np.floor(step))
    with np.errstate(invalid="ignore"):
        middle = np.where(np.isfinite(high), np.floor((low + high) / 2), 2 * np.maximum(k, 1.0))
    inside = (there > low) & (there < high) & (not bisect)
    return np.where(inside, there, np.maximum(middle, low + 1))

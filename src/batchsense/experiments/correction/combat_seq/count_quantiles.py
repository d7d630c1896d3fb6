"""Quantiles of negative binomial distributions, and counts mapped from one to another."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from batchsense.arrays import Floats
from batchsense.experiments.correction.combat_seq.negative_binomial import SMALLEST_DISPERSION

#: Counts this far in the upper tail stay as they are: their quantile is not known well enough. The
#: value is that of Zhang et al. (2020), whose counts ours are compared with.
UPPER_TAIL = 1e-4
#: A probability is reached when it is reached but for rounding: well above the last places of the
#: incomplete beta function, far below any step of a distribution.
_ROUNDING = 1e-12


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
    from scipy import stats

    p, mu, phi = np.broadcast_arrays(
        np.asarray(probability, dtype=np.float64), np.asarray(means), np.asarray(dispersion)
    )
    wanted = p * (1 - _ROUNDING)
    found = np.empty(p.shape)
    plain = phi <= SMALLEST_DISPERSION
    r = 1 / phi[~plain]
    found[~plain] = stats.nbinom.ppf(wanted[~plain], r, r / (r + mu[~plain]))
    found[plain] = stats.poisson.ppf(wanted[plain], mu[plain])
    return np.maximum(found, 0.0)  # scipy gives -1 for a probability of 0


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

"""How deep libraries are beside each other: trimmed means of log ratios (TMM)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from batchsense.arrays import Flags, Floats

#: Trimmed off each end of the log ratios and of the sizes; Robinson and Oshlack's defaults.
_RATIO_TRIM, _SIZE_TRIM = 0.3, 0.05
#: Log ratios below this are rounding: the two libraries are the same up to their depth.
_SAME = 1e-6


def tmm_factors(counts: ArrayLike, sizes: ArrayLike | None = None) -> Floats:
    r"""Factors for library sizes, so that a few strong features do not weaken all others.

    Of a library and a reference, over features counted in both,

    .. math:: M = \log_2\frac{y/N}{y_r/N_r}, \quad \log_2 f = \frac{\sum M/v}{\sum 1/v}, \quad
              v = \frac{N-y}{Ny} + \frac{N_r-y_r}{N_ry_r},

    where the sums leave out 30 % of the features at each end of M, and 5 % at each end of
    A, the mean of log2 y/N and log2 y_r/N_r. The
    reference is the library whose upper quartile of y/N is nearest to the mean of all; the factors
    are scaled so that their product is 1.

    Counts y have shape (specimens, features), library sizes N (their sums by default) and the
    factors shape (specimens,).

    References
    ----------
    Robinson and Oshlack 2010, Genome Biol. 11, R25; edgeR's manual, ``calcNormFactors``.

    Examples
    --------
    One feature takes nine tenths of the second library; the others are as in the first one.

    >>> counts = np.full((2, 10), 100.0)
    >>> counts[1, 0] = 9 * 900
    >>> (counts.sum(axis=1) * tmm_factors(counts)).round(9)
    array([3000., 3000.])
    """
    values = np.asarray(counts, dtype=np.float64)
    depth = values.sum(axis=1) if sizes is None else np.asarray(sizes, dtype=np.float64)
    values = values[:, values.any(axis=0)]
    if values.shape[1] == 0:
        return np.ones(len(depth))
    quartiles = np.quantile(values / depth[:, None], 0.75, axis=1)
    reference = int(np.argmin(np.abs(quartiles - quartiles.mean())))
    logs = np.array(
        [
            _log_factor(row, values[reference], size, depth[reference])
            for row, size in zip(values, depth, strict=True)
        ]
    )
    return np.asarray(np.exp2(logs - logs.mean()))


def _log_factor(counts: Floats, reference: Floats, size: float, reference_size: float) -> float:
    both = (counts > 0) & (reference > 0)
    counts, reference = counts[both], reference[both]
    here, there = counts / size, reference / reference_size
    # Features tie where both counts are alike; the logarithm of the ratio keeps them tied, and the
    # difference of two logarithms would part them by rounding.
    ratios, sizes = np.log2(here / there), (np.log2(here) + np.log2(there)) / 2.0
    if not len(ratios) or np.abs(ratios).max() < _SAME:
        return 0.0
    used = _inside(ratios, _RATIO_TRIM) & _inside(sizes, _SIZE_TRIM)
    variances = (size - counts) / size / counts
    variances += (reference_size - reference) / reference_size / reference
    weights = 1.0 / variances[used]
    return float((ratios[used] * weights).sum() / weights.sum()) if used.any() else 0.0


def _inside(values: Floats, trim: float) -> Flags:
    """Mark all but the given part at each end, equal values by their mean rank."""
    cut = int(len(values) * trim)
    ends = np.partition(values, (cut, len(values) - 1 - cut))[[cut, len(values) - 1 - cut]]
    inside = (values > ends[0]) & (values < ends[1])
    for end in ends:
        equal = values == end
        rank = np.count_nonzero(values < end) + (np.count_nonzero(equal) + 1) / 2
        if cut + 1 <= rank <= len(values) - cut:
            inside |= equal
    return np.asarray(inside)

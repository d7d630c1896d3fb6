"""How likely each null hypothesis is true, from the p-values of many tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from batchsense.arrays import Floats
from batchsense.errors import DataError

#: p-values above this are taken to be those of true null hypotheses, as in Storey, Akey and
#: Kruglyak (2005): real effects are rare there, and a fifth of the nulls is enough to count.
MOSTLY_NULL = 0.8
#: p-values are kept this far from 0 and 1 before they become normal quantiles: at most 5.6.
_EDGE = 1e-8
#: Silverman's bandwidth times this, as Storey, Akey and Kruglyak (2005) smooth.
_WIDER = 1.5
#: Places at which the density is computed. A grid of our own: weights differ from R's in the third
#: digit, the spanned space by up to 0.2 degrees. Other sizes were not compared.
_GRID = 2048


def null_share(p_values: ArrayLike) -> float:
    """Estimate the share of true null hypotheses: #{p ≥ 0.8} / (0.2·m), at most 1.

    Source: Storey (2002), J. R. Stat. Soc. B 64, 479.
    """
    p = _checked(p_values)
    return min(1.0, float((p >= MOSTLY_NULL).mean()) / (1 - MOSTLY_NULL))


def local_fdr(p_values: ArrayLike) -> Floats:
    r"""Estimate the posterior probability of each null hypothesis.

    With :math:`x = \Phi^{-1}(p)`, normal for true nulls, :math:`\pi_0\varphi(x)/\hat f(x)`, where
    :math:`\hat f` is a Gaussian kernel estimate of the density of all x (bandwidth 1.5 times
    Silverman's rule). At most 1, and made not to fall as p grows.

    There should be hundreds of p-values at least, or the density is not known.

    Source: Efron, Tibshirani, Storey and Tusher (2001), J. Am. Stat. Assoc. 96, 1151; Storey, Akey
    and Kruglyak (2005), PLoS Biology 3, e267.
    """
    p = _checked(p_values)
    x = special.ndtri(np.clip(p, _EDGE, 1 - _EDGE))
    density = _kernel_density(x)
    # Heaped p-values of 1 are denser than the null hypothesis has them; they are no evidence.
    found = null_share(p) * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi) / density
    found[p == 1.0] = 1.0
    order = np.argsort(p, kind="stable")
    rising = np.maximum.accumulate(np.minimum(found[order], 1.0))
    result = np.empty_like(p)
    result[order] = rising
    return result


def _checked(p_values: ArrayLike) -> Floats:
    p = np.asarray(p_values, dtype=np.float64)
    if p.size == 0 or not ((p >= 0) & (p <= 1)).all():
        raise DataError("p-values must be between 0 and 1, and there must be some")
    return p


def _kernel_density(x: Floats) -> Floats:
    quartiles = np.quantile(x, [0.25, 0.75])
    spread = min(float(x.std(ddof=1)), float(quartiles[1] - quartiles[0]) / 1.34)
    # Points that differ by rounding only have no spread to take a width from.
    width = _WIDER * 0.9 * (spread if spread > 1e-9 else 1.0) * len(x) ** -0.2
    low, high = x.min() - 4 * width, x.max() + 4 * width
    grid = np.linspace(low, high, _GRID)
    step = grid[1] - grid[0]
    # Each point is shared between its two neighbours on the grid.
    place = (x - low) / step
    left = np.minimum(place.astype(np.int64), _GRID - 2)
    share = place - left
    weights = np.bincount(left, weights=1 - share, minlength=_GRID)
    weights += np.bincount(left + 1, weights=share, minlength=_GRID)
    reach = int(np.ceil(5 * width / step))
    kernel = np.exp(-((np.arange(-reach, reach + 1) * step / width) ** 2) / 2)
    smooth = np.convolve(weights, kernel)[reach : reach + _GRID]
    smooth /= len(x) * width * np.sqrt(2 * np.pi)
    return np.maximum(np.interp(x, grid, smooth), np.finfo(float).tiny)

"""The smallest effect that a design can be expected to find."""

from __future__ import annotations

import math

from scipy import special

#: Usual conventions: two-sided level and power.
LEVEL, POWER = 0.05, 0.8


def detectable_effect(
    variance: float, df_residual: int, level: float = LEVEL, power: float = POWER
) -> float:
    r"""Give the effect, in residual standard deviations, that a t test finds with this power.

    With v the variance of the estimated contrast for residual variance 1, the t statistic has a
    noncentral distribution with noncentrality :math:`\delta/\sqrt v`; the answer is the
    :math:`\delta` for which it exceeds the two-sided critical value with probability ``power``.

    Parameters
    ----------
    variance : float
        c(FᵀF)⁻cᵀ, from :meth:`~batchsense.variation.DesignFactor.contrast_variance`.
    df_residual : int
        Residual degrees of freedom.
    level, power : float
        Two-sided level and power.

    Returns
    -------
    float
        In residual standard deviations; infinite without residual degrees of freedom.

    References
    ----------
    Cohen (1988), Statistical Power Analysis, chapter 2.

    Examples
    --------
    Two groups of 64: the textbook's half standard deviation.

    >>> round(detectable_effect(2 / 64, 126), 3)
    0.499
    """
    if df_residual < 1 or not math.isfinite(variance):
        return math.inf
    from scipy.optimize import brentq

    critical = float(special.stdtrit(df_residual, 1 - level / 2))

    def missing(noncentrality: float) -> float:
        below = special.nctdtr(df_residual, noncentrality, critical)
        # Far from zero the other tail underflows to NaN.
        other = special.nctdtr(df_residual, noncentrality, -critical)
        return float(below - (0.0 if math.isnan(other) else other)) - (1 - power)

    high = 2 * (critical + 3.0)
    while missing(high) > 0:
        high *= 2
    return float(brentq(missing, 0.0, high, xtol=1e-10)) * math.sqrt(variance)

"""What a layout leaves to find: what the batches cost each factor, and its smallest effect."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import special

from batchsense.experiments.design import Design
from batchsense.experiments.entanglement import Entanglement
from batchsense.experiments.tables.columns import Factor
from batchsense.variation.linear import factor

#: Two-sided level and power: the conventions of Cohen (1988), which readers expect.
LEVEL, POWER = 0.05, 0.8

ASSUMPTIONS = (
    f"Detectable effects: difference that a two-sided t test of one feature at level {LEVEL:g} "
    f"finds with {100 * POWER:g} % power, in standard deviations of a specimen around its fitted "
    "value; for a categorical factor between the two levels that are hardest to compare, for a "
    "numeric one per standard deviation of the column. Assumed: all balanced factors and the "
    "batches in the model, additive effects, independent normal errors of equal variance. Many "
    "features tested at once need larger effects."
)


@dataclass(frozen=True, slots=True)
class FactorWorth:
    """One balanced factor in a layout.

    Attributes
    ----------
    entanglement : Entanglement
        Its R² with the batches, VIF and effective n, as ``diagnose`` will give them.
    position_r2 : float or None
        Its R² with batches and plate positions together; None without plates.
    contrast : str
        What the detectable effect is about, such as ``"arm: a against b"``.
    detectable : float or None
        Smallest effect found with 80 % power, in residual standard deviations; None where nothing
        is left to judge it by.
    detectable_unbatched : float or None
        The same if there were no batches: the difference is their price.
    """

    entanglement: Entanglement
    position_r2: float | None
    contrast: str
    detectable: float | None
    detectable_unbatched: float | None


def detectable_effects(design: Design, kept: Factor) -> tuple[str, float | None, float | None]:
    """The hardest contrast of a factor with its detectable effect, batches in and out."""
    wanted, names = design.wanted()
    terms = design.batch_terms()
    full, alone = factor(np.hstack([wanted, terms])), factor(wanted)
    name, weights = _hardest(kept, names, full.unscaled_covariance)
    padded = np.concatenate([weights, np.zeros(terms.shape[1])])
    found: list[float | None] = []
    for fitted, contrast in ((full, padded), (alone, weights)):
        effect = math.inf
        if fitted.estimable(contrast):
            effect = detectable_effect(fitted.contrast_variance(contrast), fitted.df_residual)
        found.append(effect if math.isfinite(effect) else None)
    return name, found[0], found[1]


def detectable_effect(
    variance: float, df_residual: int, level: float = LEVEL, power: float = POWER
) -> float:
    r"""The effect, in residual standard deviations, that a t test finds with this power.

    With v the variance of the estimated contrast for residual variance 1, the t statistic has a
    noncentral distribution with noncentrality :math:`\delta/\sqrt v`; the answer is the
    :math:`\delta` for which it exceeds the two-sided critical value with probability ``power``.
    Infinite without residual degrees of freedom.

    Source: Cohen (1988), Statistical Power Analysis, chapter 2.
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


def _hardest(
    kept: Factor, names: tuple[str, ...], covariance: np.ndarray
) -> tuple[str, np.ndarray]:
    """Choose the contrast with the largest variance; an undefined one is larger than all."""
    if kept.values is not None:
        weights = np.zeros(len(names))
        weights[names.index(kept.name)] = float(kept.values.std(ddof=1))
        return f"{kept.name}: one standard deviation", weights
    own = covariance[: len(names), : len(names)]
    # The first level is the constant and has no column of its own.
    columns = [None, *(names.index(f"{kept.name}[{level}]") for level in kept.levels[1:])]
    found = []
    for i, j in combinations(range(len(kept.levels)), 2):
        weights = np.zeros(len(names))
        for place, value in ((columns[i], -1.0), (columns[j], 1.0)):
            if place is not None:
                weights[place] = value
        variance = float(weights @ own @ weights)
        title = f"{kept.name}: {kept.levels[i]} against {kept.levels[j]}"
        found.append((math.inf if math.isnan(variance) else variance, title, weights))
    _, title, weights = max(found, key=lambda one: one[0])
    return title, weights

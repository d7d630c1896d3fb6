"""What a layout leaves to find: what the batches cost each factor, and its smallest effect."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from batchsense.experiments.design import Design
from batchsense.experiments.entanglement import Entanglement
from batchsense.experiments.layout.worth import LEVEL, POWER, detectable_effect
from batchsense.experiments.tables.columns import Factor
from batchsense.variation.linear import factor

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
    """Give the hardest contrast of a factor with its detectable effect, batches in and out.

    Parameters
    ----------
    design : Design
        Batches and all balanced factors.
    kept : Factor
        The factor.

    Returns
    -------
    contrast : str
        What is compared.
    with_batches, without : float or None
        Effects in residual standard deviations; None if undefined.

    Examples
    --------
    >>> from batchsense.experiments.design import read_design
    >>> from batchsense.experiments.tables import Table
    >>> arm, month = ["a", "b"] * 64, ["May"] * 64 + ["July"] * 64
    >>> table = Table.from_arrays([[0.0]] * 128, {"arm": arm, "month": month})
    >>> design = read_design(table, "month", ["arm"])
    >>> name, effect, unbatched = detectable_effects(design, design.kept[0])
    >>> name, round(effect, 3)
    ('arm: a against b', 0.499)
    """
    wanted, names = design.wanted()
    full = factor(np.hstack([wanted, design.batch_terms()]))
    alone = factor(wanted)
    name, weights = _hardest(kept, names, full.unscaled_covariance)
    padded = np.concatenate([weights, np.zeros(design.batch_terms().shape[1])])
    found: list[float | None] = []
    for fitted, contrast in ((full, padded), (alone, weights)):
        if not fitted.estimable(contrast):
            found.append(None)
            continue
        effect = detectable_effect(fitted.contrast_variance(contrast), fitted.df_residual)
        found.append(effect if math.isfinite(effect) else None)
    return name, found[0], found[1]


def _hardest(
    kept: Factor, names: tuple[str, ...], covariance: np.ndarray
) -> tuple[str, np.ndarray]:
    """Choose the contrast of a factor with the largest variance."""
    if kept.values is not None:
        weights = np.zeros(len(names))
        weights[names.index(kept.name)] = float(kept.values.std(ddof=1))
        return f"{kept.name}: one standard deviation", weights
    columns = [None, *(names.index(f"{kept.name}[{level}]") for level in kept.levels[1:])]
    worst, chosen, title = -1.0, np.zeros(len(names)), ""
    for i, j in combinations(range(len(kept.levels)), 2):
        weights = np.zeros(len(names))
        for place, value in ((columns[i], -1.0), (columns[j], 1.0)):
            if place is not None:
                weights[place] = value
        size = len(names)
        variance = float(weights @ covariance[:size, :size] @ weights)
        if math.isnan(variance) or variance > worst:
            worst, chosen = variance, weights
            title = f"{kept.name}: {kept.levels[i]} against {kept.levels[j]}"
            if math.isnan(variance):
                break
    return title, chosen

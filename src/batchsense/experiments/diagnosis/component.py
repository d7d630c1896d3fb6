"""The variance component of the batches: how far apart they lie, in the unit of the data."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from batchsense.arrays import Floats, Places
from batchsense.experiments.diagnosis.products import Products, products_of
from batchsense.experiments.projections import basis_beside, without
from batchsense.variation.components import variance_component
from batchsense.variation.interval import Interval
from batchsense.variation.linear import factor

#: Bootstrap draws are worked through in groups of about so many values, 32 MB.
_GROUP_VALUES = 4_000_000


@dataclass(frozen=True, slots=True, eq=False)
class BatchComponent:
    """How far the batches lie apart, beyond what noise alone would show."""

    #: Mean over the features of the unbiased variance component, in squared units of the
    #: observations; negative where the batches differ less than noise makes them differ.
    component: Interval
    within: float  #: Mean over the features of the residual variance, in the same unit
    by_feature: Floats  #: (features,): the component of each feature, negative ones included
    within_by_feature: Floats  #: (features,): the residual variance of each feature

    @property
    def relative_sd(self) -> float:
        """Standard deviation of the batches in units of the residual one; 0 where negative."""
        if self.within <= 0:
            return math.inf if self.component.estimate > 0 else 0.0
        return math.sqrt(max(self.component.estimate, 0.0) / self.within)

    @property
    def negative(self) -> int:
        """Number of features whose component is negative."""
        return int((self.by_feature < 0).sum())


def batch_component(
    observations: Floats | Products,
    indicators: Floats,
    wanted: Floats,
    rng: np.random.Generator,
    draws: int = 200,
    level: float = 0.95,
) -> BatchComponent | None:
    r"""Estimate the variance component of the batches, the kept factors fixed.

    With the batch indicators B, the wanted terms X, :math:`M = I - P_X`, r the columns of MB that
    are independent, and s² the residual variance of the full model,

    .. math:: \hat\sigma_b^2 = \frac{SS(B|X) - r s^2}{\mathrm{tr}(B^T M B)},

    which is unbiased for unbalanced designs and may be negative. The interval is for the batches at
    hand, not for new ones, of which two or three tell next to nothing. It resamples the residuals
    of whole specimens, so that features keep varying together, stretched by :math:`1/\sqrt{1 - h}`
    (h the leverage) and added to the fit, and turns the spread around the truth of the resampled
    world round (the basic bootstrap). In simulation with 12 to 60 specimens it covered 99 % at
    nominal 95 % with 30 features or more, and 88 % with a single one.

    None if nothing of the batches is left, or no residual degree of freedom.

    Source: Henderson (1953), method 3; Searle, Casella and McCulloch (1992), section 5.5; Davison
    and Hinkley (1997), section 6.3.
    """
    kept = factor(wanted).basis
    basis = basis_beside(indicators, kept)
    r, d = basis.shape[1], len(wanted) - kept.shape[1] - basis.shape[1]
    if r == 0 or d < 1:
        return None
    products = products_of(observations)
    trace = float((without(indicators, kept) ** 2).sum())
    full = np.hstack([kept, basis])
    left = products.leaving(full)
    by_specimen, added, by_feature = products.parts(basis, left)
    square = products.unit**2
    within = by_feature / d * square
    components = variance_component(added * square, r, within, trace)
    room = 1.0 - (full**2).sum(axis=1)
    # A specimen that the model fits exactly has no residual to lend; others are stretched.
    lenders = np.flatnonzero(room > 1e-9)
    stretch = 1.0 / np.sqrt(np.where(room > 1e-9, room, 1.0))
    lent = by_specimen * stretch**2, without(products.spread(basis), full) * stretch[:, None]
    drawn = left.drawn(basis, rng, draws)
    if drawn is None:
        group = max(1, _GROUP_VALUES // full.size)
        counts = [min(group, draws - done) for done in range(0, draws, group)]
        chosen = (lenders[rng.integers(len(lenders), size=(count, len(full)))] for count in counts)
        spread = _spread(left, full, stretch, lent, chosen, r / d)
    else:
        spread = _drawn_spread(drawn - r * left.squares / (len(full) - 1), lent, d, rng)
    spread *= square / trace / len(within)
    estimate = float(components.mean())
    low, high = np.quantile(spread, [(1 - level) / 2, (1 + level) / 2])
    interval = Interval(estimate, estimate - float(high), estimate - float(low), level)
    return BatchComponent(interval, float(within.mean()), components, within)


def _drawn_spread(
    above: Floats, lent: tuple[Floats, Floats], d: int, rng: np.random.Generator
) -> Floats:
    """The same for many specimens: by the central limit theorem, without going through draws."""
    (sizes, cross), draws = lent, len(above)
    specimens, r = cross.shape
    mixed = np.sqrt((cross**2).sum() / specimens) * rng.normal(size=draws)
    noise = np.sqrt(specimens) * sizes.std() * rng.normal(size=draws)
    return np.asarray(above * (specimens - 1) / d + 2 * mixed - r / d * noise)


def _spread(
    left: Products,
    full: Floats,
    stretch: Floats,
    lent: tuple[Floats, Floats],
    chosen: Iterable[Places],
    chance: float,
) -> Floats:
    """SS(B|X) - r·s² of each draw, less its truth in the resampled world, summed over features.

    ``lent`` has the squared lengths of the stretched residuals, shape (specimens,), and their
    products with the effects of the batches, shape (specimens, r).
    """
    (sizes, cross), (specimens, width) = lent, full.shape
    r = cross.shape[1]
    found = []
    for own in chosen:
        # How much of each residual every direction of the model picks up, for each draw.
        weights = np.empty((specimens, len(own), width))
        for draw, column in np.ndindex(len(own), width):
            weights[:, draw, column] = np.bincount(own[draw], full[:, column], specimens)
        mixed = np.einsum("idj,ij->d", weights[:, :, -r:], cross)
        weights *= stretch[:, None, None]
        picked = left.squares_along(weights.reshape(specimens, -1)).reshape(-1, width)
        noise = sizes[own].sum(axis=1) - picked.sum(axis=1)
        found.append(picked[:, -r:].sum(axis=1) + 2 * mixed - chance * noise)
    return np.concatenate(found)

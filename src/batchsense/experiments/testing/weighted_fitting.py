"""Fit features whose observations have weights of their own, and read off contrasts."""

from __future__ import annotations

import numpy as np

from batchsense.arrays import Floats
from batchsense.experiments.testing.fitting import ContrastFits
from batchsense.progress import Progress, silent
from batchsense.variation.linear import DesignFactor

#: Features are fitted together in stacks of about this many numbers: 16 MB, so that a stack and its
#: factors stay far below any memory, and calls to LAPACK are few.
_STACK_VALUES = 2_000_000


def fit_weighted_contrasts(
    values: Floats,
    weights: Floats,
    design: DesignFactor,
    contrasts: Floats,
    groups: tuple[tuple[int, ...], ...] = (),
    progress: Progress = silent,
) -> ContrastFits:
    r"""Fit each feature by weighted least squares.

    With the basis Q of the design and D the roots of the weights of a feature, DQ = Q'R; a contrast
    that is w on the effects Qᵀy is wR⁻¹ on Q'ᵀDy, and its variance is |wR⁻¹|². Positive weights
    leave estimable what the design makes so, and every contrast is exact: limma's ``contrasts.fit``
    takes the correlations of the coefficients from the fit without weights.

    Parameters
    ----------
    values, weights : array of shape (specimens, features)
        Complete, and the weights positive.
    design : DesignFactor
        The model.
    contrasts : array of shape (contrasts, terms)
        Estimable.
    groups : tuple of tuple of int
        Places of contrasts that are tested together, which are independent.
    progress : Progress
        Told of the features.
    """
    count, features = values.shape
    found = ContrastFits(
        np.empty((len(contrasts), features)),
        np.empty((len(contrasts), features)),
        np.empty((len(groups), features)),
        np.full(features, float(design.df_residual)),
        np.empty(features),
    )
    asked = contrasts @ design.solution
    # The contrasts do not see the constant; centring spares them a large offset.
    centred = values - values.mean(axis=0) if design.has_constant else values
    width = max(1, _STACK_VALUES // (count * design.rank))
    for start in range(0, features, width):
        part = slice(start, min(start + width, features))
        roots = np.sqrt(weights[:, part]).T
        basis, upper = np.linalg.qr(roots[:, :, None] * design.basis)
        scaled = roots * centred[:, part].T
        effects = np.einsum("fnr,fn->fr", basis, scaled)
        residuals = scaled - np.einsum("fnr,fr->fn", basis, effects)
        sides = np.broadcast_to(asked.T, (len(scaled), *asked.T.shape))
        turned = np.linalg.solve(upper.transpose(0, 2, 1), sides)
        found.estimates[:, part] = np.einsum("frc,fr->cf", turned, effects)
        found.unscaled[:, part] = (turned**2).sum(axis=1).T
        found.residual_squares[part] = (residuals**2).sum(axis=1)
        for place, group in enumerate(groups):
            own = np.linalg.qr(turned[:, :, list(group)])[0]
            squares = np.einsum("frc,fr->fc", own, effects) ** 2
            found.joint[place, part] = squares.sum(axis=1) / len(group)
        progress("fitting features with precision weights", part.stop, features)
    return found


def spread_over(fits: ContrastFits, kept: np.ndarray) -> ContrastFits:
    """The same fits among all features; those that were not kept have no answer."""

    def wide(narrow: Floats, empty: float) -> Floats:
        everywhere = np.full((*narrow.shape[:-1], len(kept)), empty)
        everywhere[..., kept] = narrow
        return everywhere

    return ContrastFits(
        *(wide(one, np.nan) for one in (fits.estimates, fits.unscaled, fits.joint)),
        *(wide(one, 0.0) for one in (fits.df, fits.residual_squares)),
    )

"""Fit features whose observations have weights of their own, and read off contrasts."""

from __future__ import annotations

import numpy as np

from batchsense.arrays import Flags, Floats
from batchsense.experiments.testing.fitting import ContrastFits
from batchsense.progress import Progress
from batchsense.variation.linear import DesignFactor

#: Features are fitted together in stacks of about this many numbers: 16 MB, so that a stack and its
#: factors stay far below any memory, and calls to LAPACK are few.
_STACK_VALUES = 2_000_000


def fit_weighted_contrasts(
    values: Floats,
    kept: Flags,
    weights: Floats,
    design: DesignFactor,
    contrasts: Floats,
    groups: tuple[tuple[int, ...], ...],
    progress: Progress,
) -> ContrastFits:
    r"""Fit each kept feature by weighted least squares; the others get no answer.

    With the basis Q of the design and D the roots of the weights of a feature, DQ = Q'R; a contrast
    that is w on the effects Qᵀy is wR⁻¹ on Q'ᵀDy, and its variance is |wR⁻¹|², exactly.

    ``values`` has shape (specimens, features) and is complete where ``kept``; the positive
    ``weights`` have shape (specimens, kept features). Contrasts have shape (contrasts, terms) and
    are estimable; those of a group are tested together and independent.
    """
    asked = contrasts @ design.solution
    found = ContrastFits.empty(len(contrasts), len(groups), len(kept))
    found.df[kept] = float(design.df_residual)
    places = np.flatnonzero(kept)
    width = max(1, _STACK_VALUES // (len(values) * design.rank))
    for start in range(0, len(places), width):
        part = places[start : start + width]
        # The contrasts do not see the constant; centring spares them a large offset.
        centred = values[:, part] - values[:, part].mean(axis=0)
        roots = np.sqrt(weights[:, start : start + width]).T
        basis, upper = np.linalg.qr(roots[:, :, None] * design.basis)
        scaled = roots * centred.T
        effects = np.einsum("fnr,fn->fr", basis, scaled)
        residuals = scaled - np.einsum("fnr,fr->fn", basis, effects)
        sides = np.broadcast_to(asked.T, (len(part), *asked.T.shape))
        turned = np.linalg.solve(upper.transpose(0, 2, 1), sides)
        found.estimates[:, part] = np.einsum("frc,fr->cf", turned, effects)
        found.unscaled[:, part] = (turned**2).sum(axis=1).T
        found.residual_squares[part] = (residuals**2).sum(axis=1)
        for place, group in enumerate(groups):
            own = np.linalg.qr(turned[:, :, list(group)])[0]
            squares = np.einsum("frc,fr->fc", own, effects) ** 2
            found.joint[place, part] = squares.sum(axis=1) / len(group)
        progress("fitting features with precision weights", start + len(part), len(places))
    return found

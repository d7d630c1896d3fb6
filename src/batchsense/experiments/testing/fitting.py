"""Fit every feature to one design and read off contrasts, missing values feature by feature."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from batchsense.arrays import Flags, Floats, Places
from batchsense.progress import Progress, silent
from batchsense.variation.linear import DesignFactor, factor

#: Features with missing values are fitted together in stacks of about this many numbers: 16 MB, so
#: that a stack stays far below any memory, and calls to LAPACK are few.
_STACK_VALUES = 2_000_000
#: Features are fitted by normal equations where these lose few digits: where the observed rows hold
#: more than this part of every direction of the design, and this part of the squares is left.
_HELD, _LEFT = 1e-3, 1e-6
#: A residual sum of squares below this part of n·max(y)² is rounding: an error of 16 units in the
#: last place of the largest value in every specimen; no real noise is as small.
_ROUNDING = (16 * np.finfo(float).eps) ** 2


@dataclass(frozen=True, slots=True, eq=False)
class ContrastFits:
    """Least-squares answers of all features to some contrasts."""

    #: (contrasts, features): in units of the observations; NaN where the observed specimens do not
    #: tell.
    estimates: Floats
    #: (contrasts, features): variance of the estimate in units of the residual variance.
    unscaled: Floats
    #: (groups, features): sum of squares of each group of contrasts over its number: F times the
    #: residual variance.
    joint: Floats
    df: Floats  #: (features,): residual degrees of freedom of each feature
    residual_squares: Floats = field(repr=False)  #: (features,): residual sum of squares
    #: (contrasts, features): degrees of freedom of each contrast and group, where they differ from
    #: ``df``.
    own_df: Floats | None = field(default=None, repr=False)
    joint_df: Floats | None = field(default=None, repr=False)

    @classmethod
    def empty(cls, contrasts: int, groups: int, features: int) -> ContrastFits:
        """Answers that are still to be entered."""
        return cls(
            np.full((contrasts, features), np.nan),
            np.full((contrasts, features), np.nan),
            np.full((groups, features), np.nan),
            np.zeros(features),
            np.zeros(features),
        )


def rounded_off(squares: Floats, values: Floats) -> Floats:
    """Residual sums of squares, (features,), zero where rounding alone would make them."""
    largest = np.fmax(np.fmax.reduce(values, axis=0), -np.fmin.reduce(values, axis=0))
    largest[np.isnan(largest)] = 0.0
    return np.where(squares <= len(values) * _ROUNDING * largest**2, 0.0, squares)


def means(values: Floats) -> tuple[Floats, Flags]:
    """The mean of the observed values of each feature, and whether they vary, each (features,)."""
    observed = ~np.isnan(values)
    counts = observed.sum(axis=0)
    sums = values.sum(axis=0, where=observed)
    highest = values.max(axis=0, where=observed, initial=-np.inf)
    lowest = values.min(axis=0, where=observed, initial=np.inf)
    mean = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return mean, np.asarray((counts > 1) & (highest > lowest))


def fit_contrasts(
    values: Floats,
    design: DesignFactor,
    columns: Floats,
    contrasts: Floats,
    groups: tuple[tuple[int, ...], ...] = (),
    progress: Progress = silent,
) -> ContrastFits:
    """Fit each feature on its observed specimens.

    With the basis Q of the design and S (design·S = Q), a contrast c has weights w = cS on the
    effects γ = Qᵀy, and variance |w|². Where values are missing, the rows Q_o of Q are left: with
    N = Q_oᵀQ_o the estimate is wN⁻¹Q_oᵀy, and its variance wN⁻¹wᵀ.

    ``values`` of shape (specimens, features) is NaN where missing; ``columns`` is the design
    itself, whose span holds the constant. Contrasts have shape (contrasts, terms), are estimable
    and zero on the constant; those of a group are tested together and independent.
    """
    found = ContrastFits.empty(len(contrasts), len(groups), values.shape[1])
    complete = ~np.isnan(values).any(axis=0)
    if complete.any():
        whole = values if complete.all() else values[:, complete]
        _fit(found, np.flatnonzero(complete), whole, design, contrasts, groups)
    weights = contrasts @ design.solution
    rest = np.flatnonzero(~complete)
    size = max(1, _STACK_VALUES // values.shape[0])
    for start in range(0, len(rest), size):
        part = rest[start : start + size]
        for feature in _stack(found, part, values[:, part], design, weights, groups):
            rows = np.flatnonzero(~np.isnan(values[:, feature]))
            if len(rows) > 1:
                own = values[rows, feature][:, None]
                _fit(found, np.array([feature]), own, factor(columns[rows]), contrasts, groups)
        progress("fitting features with missing values", start + len(part), len(rest))
    found.residual_squares[:] = rounded_off(found.residual_squares, values)
    return found


def _fit(
    found: ContrastFits,
    features: Places,
    values: Floats,
    design: DesignFactor,
    contrasts: Floats,
    groups: tuple[tuple[int, ...], ...],
) -> None:
    """Answer for features that are observed in all rows of a design; it may not tell everything."""
    fitted = design.fit(values)
    weights = contrasts @ design.solution
    told = np.array([design.estimable(contrast) for contrast in contrasts], dtype=bool)
    cells = np.ix_(told, features)
    found.estimates[cells] = weights[told] @ fitted.effects
    found.unscaled[cells] = (weights[told] ** 2).sum(axis=1)[:, None]
    found.df[features] = design.df_residual
    found.residual_squares[features] = fitted.residual_sum_of_squares
    for place, group in enumerate(groups):
        if told[list(group)].all():
            basis = np.linalg.qr(weights[list(group)].T)[0]
            found.joint[place, features] = ((basis.T @ fitted.effects) ** 2).sum(axis=0) / len(
                group
            )


def _stack(
    found: ContrastFits,
    features: Places,
    values: Floats,
    design: DesignFactor,
    weights: Floats,
    groups: tuple[tuple[int, ...], ...],
) -> Places:
    """Answer for features whose observed specimens tell everything well; give the others."""
    missing = np.isnan(values)
    counts = len(values) - missing.sum(axis=0)
    filled = np.where(missing, 0.0, values)
    # The contrasts do not see the constant; centring spares them a large offset.
    filled -= filled.sum(axis=0) / np.maximum(counts, 1)
    filled[missing] = 0.0
    rank, basis = design.rank, design.basis
    pairs = (basis[:, :, None] * basis[:, None, :]).reshape(len(basis), -1)
    taken = (missing.T.astype(np.float64) @ pairs).reshape(-1, rank, rank)
    normal = np.eye(rank) - taken
    held = (taken**2).sum(axis=(1, 2)) < 0.8  # so that no eigenvalue of N is below 0.1
    held[~held] = np.linalg.eigvalsh(normal[~held])[:, 0] > _HELD
    sides = np.empty((int(held.sum()), rank, 1 + len(weights)))
    sides[:, :, 0], sides[:, :, 1:] = (filled.T @ basis)[held], weights.T
    solved = np.linalg.solve(normal[held], sides)
    squares = np.einsum("nf,nf->f", filled, filled)[held]
    left = squares - np.einsum("fr,fr->f", sides[:, :, 0], solved[:, :, 0])
    good = (left > _LEFT * squares) & (counts[held] > rank)
    places, told = features[held][good], weights @ solved[good]
    estimates, covariances = told[:, :, 0], told[:, :, 1:]
    found.estimates[:, places] = estimates.T
    found.unscaled[:, places] = np.einsum("fcc->cf", covariances)
    found.df[places] = counts[held][good] - rank
    found.residual_squares[places] = left[good]
    for place, group in enumerate(groups):
        own = estimates[:, group, None]
        pulled = np.linalg.solve(covariances[:, group][:, :, group], own)
        found.joint[place, places] = (own * pulled).sum(axis=(1, 2)) / len(group)
    return np.setdiff1d(features, places)

"""Shift and scale of one batch, from what was estimated to what is applied."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchsense.arrays import Flags, Floats
from batchsense.errors import DataError
from batchsense.experiments.correction.combat.priors import (
    Stopping,
    nonparametric_posterior,
    parametric_posterior,
    prior_of,
    shrunken_shifts,
)

#: γ*, δ* and the number of iterations.
Posterior = tuple[Floats, Floats, int]

#: A prior needs this many features.
FEWEST_FEATURES = 3


@dataclass(frozen=True, slots=True, eq=False)
class Estimates:
    """What the data say of the features of a batch, before shrinking.

    Attributes
    ----------
    shifts, scales : arrays of shape (features,)
        γ̂ in standard deviations of the feature, and δ̂; NaN where there is none.
    squares : array of shape (features,)
        Residual sum of squares in units of the feature's variance.
    counts : array of shape (features,)
        Observed specimens.
    """

    shifts: Floats
    scales: Floats
    squares: Floats
    counts: Floats

    def only(self, features: Flags) -> Estimates:
        """Give those of some features of one batch."""
        if features.all():
            return self
        parts = (self.shifts, self.scales, self.squares, self.counts)
        return Estimates(*(part[features] for part in parts))


def estimates_of(
    levels: Floats, squares: Floats, counts: Floats, grand: Floats, sd: Floats, mean_only: bool
) -> Estimates:
    """Standardise what a batch adds and how it scatters.

    Parameters
    ----------
    levels, squares, counts : arrays of shape (features,)
        Level, residual sum of squares and observed specimens of the batch.
    grand, sd : array of shape (features,)
        Level and standard deviation of the feature.
    mean_only : bool
        Whether every scale is one.

    Returns
    -------
    Estimates
        NaN where a batch has no observation, or too few for a scale.

    Examples
    --------
    >>> two = np.array([2.0])
    >>> found = estimates_of(np.array([1.0]), two, two, np.array([2.0]), np.ones(1), False)
    >>> found.shifts.tolist(), found.scales.tolist()
    ([-1.0], [2.0])
    """
    shifts = np.where(counts > 0, (levels - grand) / sd, np.nan)
    standard = squares / sd**2
    if mean_only:
        return Estimates(shifts, np.where(counts > 0, 1.0, np.nan), standard, counts)
    scales = np.where(counts > 1, standard / np.maximum(counts - 1.0, 1.0), np.nan)
    return Estimates(shifts, scales, standard, counts)


def posterior_of(
    found: Estimates,
    usable: Flags,
    parametric: bool,
    mean_only: bool,
    stopping: Stopping,
    threads: int | None = None,
) -> Posterior:
    """Shrink one batch towards what its features have in common.

    Parameters
    ----------
    found : Estimates
        Of the batch.
    usable : array of bool, shape (features,)
        Features that are corrected at all.
    parametric, mean_only : bool
        The kind of prior, and whether scales are left alone.
    stopping : {"sva", "converged"}
        When the iteration ends.
    threads : int, optional
        Threads of the non-parametric option.

    Returns
    -------
    shifts, scales : arrays of shape (features,)
        γ* and δ*; 0 and 1 for features that are not corrected. A feature with a single observation
        is shifted by the prior of the others, and does not count in it.
    steps : int
        Iterations.

    Raises
    ------
    DataError
        Too few features to learn from.
    """
    new_shifts, new_scales, steps = np.zeros(len(usable)), np.ones(len(usable)), 0
    known = usable & (found.counts > (0 if mean_only else 1))
    if known.sum() < FEWEST_FEATURES:
        raise DataError(
            f"a batch has {int(known.sum())} features with enough observations, and at least "
            f"{FEWEST_FEATURES} are needed to learn what they have in common; use the linear method"
        )
    own = found.only(known)
    prior = prior_of(own.shifts, own.scales)
    if not parametric:
        shifts, scales = nonparametric_posterior(
            own.shifts, own.scales, own.squares, own.counts, threads
        )
        new_shifts[known], new_scales[known] = shifts, scales
    elif mean_only:
        new_shifts[known] = shrunken_shifts(own.shifts, prior)
    else:
        new_shifts[known], new_scales[known], steps = parametric_posterior(
            own.shifts, own.squares, own.counts, prior, stopping
        )
    alone = usable & (found.counts == 1) & ~known
    new_shifts[alone] = shrunken_shifts(found.shifts[alone], prior)
    return new_shifts, new_scales, steps

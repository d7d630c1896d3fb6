"""Empirical Bayes: what all features together say about the shift and the scale of one batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from batchsense.arrays import Flags, Floats
from batchsense.errors import DataError, UnresolvedError
from batchsense.experiments.correction.two_passes.pass_runner import compiled_for, run_pieces

Stopping = Literal["sva", "converged"]

#: Relative change at which R's sva stops.
_SVA = 1e-4
#: Relative change that counts as none: some rounding above the 16 digits of double precision.
_CONVERGED = 1e-12
#: Steps after which an iteration is given up, where sva would go on for ever. The planted example
#: (``plant(seed=1)``) takes 4 at 1e-4 and 9 at 1e-12.
_MOST_STEPS = 10_000
#: A residual variance below this part of the feature's own is what rounding left of none: sums of
#: squares of thousands of values keep about 13 of the 16 digits of double precision.
ROUNDING = 1e-13
#: Pairs of features that are weighed at a time: 8 MB for each of numpy's intermediate arrays.
_PAIRS = 1_000_000


@dataclass(frozen=True, slots=True)
class Shrinking:
    """How batches are shrunken."""

    #: Normal and inverse gamma priors; else the features themselves are the prior. None: no prior,
    #: each feature's own estimates stand.
    parametric: bool | None = True
    mean_only: bool = False  #: Adjust means, not scales
    #: When the iteration of the parametric priors ends; see :func:`parametric_posterior`.
    stopping: Stopping = "sva"
    threads: int | None = None  #: Threads of the non-parametric option; None: one per processor


@dataclass(frozen=True, slots=True)
class Prior:
    """Prior of one batch: normal for the shift, inverse gamma for the scale."""

    #: γ̄ and t², in standard deviations of a feature.
    shift_mean: float
    shift_variance: float
    #: m and v of the ratio of variances δ.
    scale_mean: float
    scale_variance: float

    @property
    def shape(self) -> float:
        """Shape of the inverse gamma, a = (2v + m²) / v; infinite where all features agree."""
        m, v = self.scale_mean, self.scale_variance
        return (2 * v + m**2) / v if v > 0 else np.inf

    @property
    def rate(self) -> float:
        """Rate of the inverse gamma, b = (mv + m³) / v."""
        m, v = self.scale_mean, self.scale_variance
        return (m * v + m**3) / v if v > 0 else np.inf


def prior_of(shifts: Floats, scales: Floats) -> Prior:
    """Estimate the prior by moments over the features (variances with n - 1)."""
    return Prior(
        float(shifts.mean()),
        float(shifts.var(ddof=1)),
        float(scales.mean()),
        float(scales.var(ddof=1)),
    )


def shrunken_shifts(shifts: Floats, prior: Prior) -> Floats:
    """Posterior mean of the shift where scales are not adjusted: (t²γ̂ + γ̄) / (t² + 1).

    As in sva the number of specimens does not enter.
    """
    t2 = prior.shift_variance
    return (t2 * shifts + prior.shift_mean) / (t2 + 1.0)


def parametric_posterior(
    shifts: Floats, squares: Floats, counts: Floats, prior: Prior, stopping: Stopping = "sva"
) -> tuple[Floats, Floats, int]:
    r"""Posterior shift and scale under the parametric prior, by iteration.

    .. math:: \gamma' = \frac{t^2 N \hat\gamma + \delta\bar\gamma}{t^2 N + \delta}, \qquad
              \delta' = \frac{\tfrac12 [SS + N(\hat\gamma - \gamma')^2] + b}{N/2 + a - 1}

    Shapes: ``shifts`` (features,); ``squares`` (features,); ``counts`` (features,); ``shifts``,
    ``scales`` (features,).

    Source: Johnson, Li and Rabinovic (2007).
    """
    spread = prior.shift_variance * counts
    pulled = spread * shifts
    shape, rate = prior.shape, prior.rate
    fixed = not np.isfinite(shape)
    divisor = 0.5 * counts + shape - 1.0
    gamma = shifts
    delta = squares / np.maximum(counts - 1.0, 1.0)
    for step in range(1, _MOST_STEPS + 1):
        weight = spread + delta
        sure = weight > 0  # else all features shift alike, and this one lies on the fit
        new_gamma = np.where(
            sure, (pulled + delta * prior.shift_mean) / np.where(sure, weight, 1.0), shifts
        )
        if fixed:
            new_delta = np.full_like(delta, prior.scale_mean)
        else:
            new_delta = (0.5 * (squares + counts * (shifts - new_gamma) ** 2) + rate) / divisor
        if _at_rest(gamma, new_gamma, delta, new_delta, stopping):
            return new_gamma, new_delta, step
        gamma, delta = new_gamma, new_delta
    raise UnresolvedError(
        "the shrunken batch effects did not settle", needed="the non-parametric or mean-only option"
    )


def _at_rest(
    gamma: Floats, new_gamma: Floats, delta: Floats, new_delta: Floats, stopping: Stopping
) -> bool:
    moved = np.abs(new_gamma - gamma)
    scaled = np.abs(new_delta - delta)
    if stopping == "converged":
        limit = _CONVERGED
        gamma = np.maximum(np.abs(gamma), 1.0)
    else:
        limit = _SVA
    # γ is signed on purpose, and 0 / 0 is no change.
    return bool((moved <= limit * gamma)[gamma >= 0].all() and (scaled <= limit * delta).all())


def nonparametric_posterior(
    shifts: Floats,
    scales: Floats,
    squares: Floats,
    counts: Floats,
    threads: int | None = None,
) -> tuple[Floats, Floats]:
    r"""Posterior shift and scale as means over the other features, weighted by likelihood.

    .. math:: \log L_{ij} = -\tfrac{N_i}{2}\log(2\pi\hat\delta_j)
              - \frac{SS_i + N_i(\hat\gamma_i - \hat\gamma_j)^2}{2\hat\delta_j}, \qquad
              \gamma^*_i = \frac{\sum_{j \ne i} L_{ij}\hat\gamma_j}{\sum_{j \ne i} L_{ij}}

    and δ* likewise. Only N, SS, γ̂ and δ̂ of each feature enter, not its observations, so the work
    grows with the square of the features alone.

    Shapes: ``shifts``, ``scales`` (features,); ``squares``, ``counts`` (features,); ``shifts``,
    ``scales`` (features,).

    Source: Johnson, Li and Rabinovic (2007).
    """
    features = len(shifts)
    new_shifts, new_scales = np.empty(features), np.empty(features)
    kernels = compiled_for(features**2)
    lends = scales > ROUNDING
    safe = np.where(lends, scales, 1.0)
    logs = np.where(lends, 0.5 * np.log(safe), np.inf)
    halves = np.where(lends, 0.5 / safe, 0.0)

    def work(low: int, high: int) -> None:
        if kernels is not None:
            kernels.weigh(
                shifts, scales, logs, halves, squares, counts, new_shifts, new_scales, low, high
            )
            return
        part = slice(low, high)
        n = counts[part, None]
        likelihood = -n * logs - halves * (
            squares[part, None] + n * (shifts[part, None] - shifts) ** 2
        )
        likelihood[np.arange(high - low), np.arange(low, high)] = -np.inf
        weights = np.exp(likelihood - likelihood.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        new_shifts[part], new_scales[part] = weights @ shifts, weights @ scales

    run_pieces(work, features, max(1, _PAIRS // features), threads)
    return new_shifts, new_scales


#: γ*, δ* and the number of iterations.
Posterior = tuple[Floats, Floats, int]

#: A prior needs this many features: two variances with n - 1 from two would have one degree of
#: freedom each.
FEWEST_FEATURES = 3


@dataclass(frozen=True, slots=True, eq=False)
class Estimates:
    """What the data say of the features of a batch, before shrinking."""

    #: (features,): γ̂ in standard deviations of the feature, and δ̂; NaN where there is none.
    shifts: Floats
    scales: Floats
    squares: Floats  #: (features,): residual sum of squares in units of the feature's variance
    counts: Floats  #: (features,): observed specimens

    def only(self, features: Flags) -> Estimates:
        """Those of some features of one batch."""
        if features.all():
            return self
        parts = (self.shifts, self.scales, self.squares, self.counts)
        return Estimates(*(part[features] for part in parts))


def estimates_of(
    levels: Floats, squares: Floats, counts: Floats, grand: Floats, sd: Floats, mean_only: bool
) -> Estimates:
    """Standardise what a batch adds and how it scatters.

    All arrays have shape (features,): level, residual sum of squares and observed specimens of the
    batch, then level and standard deviation of the feature. NaN where a batch has no observation,
    or too few for a scale.
    """
    shifts = np.where(counts > 0, (levels - grand) / sd, np.nan)
    standard = squares / sd**2
    if mean_only:
        return Estimates(shifts, np.where(counts > 0, 1.0, np.nan), standard, counts)
    scales = np.where(counts > 1, standard / np.maximum(counts - 1.0, 1.0), np.nan)
    return Estimates(shifts, scales, standard, counts)


def posterior_of(found: Estimates, usable: Flags, how: Shrinking) -> Posterior:
    """Shrink one batch towards what its features have in common.

    γ* and δ* are 0 and 1 for features that are not usable. A feature with a single observation is
    shifted by the prior of the others, and does not count in it. Without a prior shifts and scales
    stay as they were estimated; what does not vary in the batch beyond the model is not scaled.
    """
    new_shifts, new_scales, steps = np.zeros(len(usable)), np.ones(len(usable)), 0
    known = usable & (found.counts > (0 if how.mean_only else 1))
    if how.parametric is None:
        seen = usable & (found.counts > 0)
        new_shifts[seen] = found.shifts[seen]
        scaled = known & (found.scales > ROUNDING)
        new_scales[scaled] = found.scales[scaled]
        return new_shifts, new_scales, steps
    if known.sum() < FEWEST_FEATURES:
        raise DataError(
            f"{int(known.sum())} features have enough observations there, and at least "
            f"{FEWEST_FEATURES} are needed to learn what they have in common; use the linear method"
        )
    own = found.only(known)
    lending, needed = int((own.scales > ROUNDING).sum()), 1 if how.parametric else 2
    if lending < needed:
        raise DataError(
            f"{lending} of {len(own.scales)} features vary there beyond what batches and kept "
            "factors explain, so how far the batch stretches cannot be learned; adjust means only, "
            "or use the linear method"
        )
    prior = prior_of(own.shifts, own.scales)
    if not how.parametric:
        new_shifts[known], new_scales[known] = nonparametric_posterior(
            own.shifts, own.scales, own.squares, own.counts, how.threads
        )
    elif how.mean_only:
        new_shifts[known] = shrunken_shifts(own.shifts, prior)
    else:
        new_shifts[known], new_scales[known], steps = parametric_posterior(
            own.shifts, own.squares, own.counts, prior, how.stopping
        )
    alone = usable & (found.counts == 1) & ~known
    new_shifts[alone] = shrunken_shifts(found.shifts[alone], prior)
    return new_shifts, new_scales, steps

"""The noise scale with its interval, which may be unbounded, and whether it is enough to act on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Floats
from batchsense.errors import UnresolvedError, listed
from batchsense.notes import Note
from batchsense.training.gradient_noise.estimators import NoiseMoments
from batchsense.variation.interval import Interval, student_quantile
from batchsense.variation.moments import Moments

#: Independent groups below which an interval is not trusted: with fewer, the covariance itself is
#: hardly known. Eight is a rule of thumb, not a result.
LEAST_GROUPS = 8

#: An interval whose ends differ by more than this factor is not resolved. A critical batch size
#: wrong by four makes the fastest training at most 12.5 % longer, one wrong by two 3 %.
RESOLVED_RATIO = 4.0

#: Largest over mean squared norm of single gradients above which intervals are too optimistic: with
#: lognormal sizes of examples they covered 88 to 97 % where 95 % is meant.
HEAVY_TAIL = 20.0

#: How the interval of a non-negative ratio can end:
#: ``bounded`` on both sides; ``upper`` bound only (low is 0); ``lower`` bound only (high is
#: infinite); ``none``: the data say nothing; ``negative``: they say that the ratio is below 0,
#: which chance can do.
Branch = Literal["bounded", "upper", "lower", "none", "negative"]


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio of two means and what the data say about it."""

    #: The estimate (infinite where the denominator is not positive) and its ends.
    interval: Interval
    branch: Branch  #: Which ends the data set: see :data:`Branch`.


@dataclass(frozen=True, slots=True)
class NoiseReport:
    """Gradient noise at one set of weights.

    Attributes
    ----------
    noise_scale : Interval
        B_simple = τ/γ, in examples: the batch size at which the noise of the mean gradient is as
        long as the gradient itself. The estimate is infinite where γ̂ ≤ 0.
    trace_covariance : Interval
        τ = tr Σ, in units of gradient squared.
    squared_gradient_norm : Interval
        γ = :math:`|G|^2`; the estimate is unbiased and may be negative.
    branch : str
        Which ends of the noise scale the data set; see
        :data:`batchsense.training.gradient_noise.report.Branch`.
    examples_used : int
        Gradients that were averaged.
    examples_needed : int
        About how many more would resolve the noise scale; 0 when it is resolved.
    needed_at_least : bool
        Whether ``examples_needed`` is only a lower bound.
    """

    noise_scale: Interval
    trace_covariance: Interval
    squared_gradient_norm: Interval
    branch: Branch
    examples_used: int
    examples_needed: int
    needed_at_least: bool

    @property
    def resolved(self) -> bool:
        """Whether the ends of the noise scale are within a factor of four."""
        return is_resolved(self.noise_scale)

    @property
    def needed(self) -> str:
        """What would resolve the noise scale, in words."""
        amount = "at least" if self.needed_at_least else "about"
        return f"{amount} {self.examples_needed:,} more examples"


def noise_report(
    moments: NoiseMoments,
    covariance: npt.ArrayLike,
    degrees: float,
    examples_used: int,
    population: int | None = None,
    level: float = 0.95,
) -> NoiseReport:
    r"""Turn estimates and their covariance, of that many degrees of freedom, into a report.

    Examples still needed: with t the Student quantile and s the standard error of γ̂, halving
    γ̂'s relative error to one half takes :math:`n[(t s / 0.5\hat γ)^2 - 1]` more; where γ̂ ≤ ts,
    γ̂ + ts takes its place and the number is a lower bound. No more can be asked for than the
    ``population`` has, if no example was drawn twice.

    >>> report = noise_report(NoiseMoments(50.0, 1.0), np.diag([9.0, 0.04]), 31, 1024)
    >>> report.noise_scale.estimate, report.resolved, report.examples_needed
    (50.0, True, 0)
    """
    v = np.asarray(covariance, dtype=np.float64)
    tau, gamma = moments.trace_covariance, moments.squared_gradient_norm
    ratio = fieller_ratio(tau, gamma, v, degrees, level)
    t = student_quantile(degrees, level)
    tau_error, gamma_error = (t * math.sqrt(v[k, k]) for k in (0, 1))
    needed, at_least = 0, False
    if not is_resolved(ratio.interval):
        needed, at_least = _examples_needed(gamma, gamma_error, examples_used, population)
    return NoiseReport(
        noise_scale=ratio.interval,
        trace_covariance=Interval(tau, max(tau - tau_error, 0.0), tau + tau_error, level),
        squared_gradient_norm=Interval(gamma, gamma - gamma_error, gamma + gamma_error, level),
        branch=ratio.branch,
        examples_used=examples_used,
        examples_needed=needed,
        needed_at_least=at_least,
    )


def pool_moments(
    trace_covariance: npt.ArrayLike, squared_gradient_norm: npt.ArrayLike
) -> tuple[NoiseMoments, Floats]:
    """Average independent estimates (groups,), with the covariance of their means.

    A ratio of means, never a mean of ratios: one γ̂ may be near zero or negative. The covariance,
    of τ̂ and γ̂, has groups − 1 degrees of freedom.

    Raises UnresolvedError: fewer than eight groups.

    >>> moments, covariance = pool_moments([1.0, 3.0] * 4, [1.0, 2.0] * 4)
    >>> moments
    NoiseMoments(trace_covariance=2.0, squared_gradient_norm=1.5)
    """
    pairs = Moments.of(np.stack([trace_covariance, squared_gradient_norm], axis=1), cross=True)
    groups = pairs.count
    if groups < LEAST_GROUPS:
        raise UnresolvedError(
            f"{groups} groups are too few for an interval", f"{LEAST_GROUPS} groups"
        )
    tau, gamma = pairs.mean.tolist()
    return NoiseMoments(tau, gamma), pairs.covariance() / groups


def fieller_ratio(
    numerator: float,
    denominator: float,
    covariance: npt.ArrayLike,
    degrees: float,
    level: float = 0.95,
) -> Ratio:
    """Return the interval of a non-negative ratio ρ = E[numerator] / E[denominator].

    The interval is the set of ρ for which T − ρΓ is not significantly different from zero,

    .. math:: (T - ρΓ)^2 ≤ t^2 (v_{ττ} - 2ρ v_{τγ} + ρ^2 v_{γγ}),

    cut to ρ ≥ 0, with v the covariance of the two means. It may be unbounded: that is what the
    data say, and not an error. Source: Fieller (1954), J. R. Stat. Soc. B 16.

    >>> fieller_ratio(10.0, 2.0, [[0.01, 0.0], [0.0, 0.01]], degrees=30).interval.ratio < 1.3
    True
    >>> fieller_ratio(10.0, 0.1, [[0.01, 0.0], [0.0, 0.01]], degrees=30).branch
    'lower'
    """
    v = np.asarray(covariance, dtype=np.float64)
    if not (np.isfinite(v).all() and math.isfinite(numerator) and math.isfinite(denominator)):
        raise ValueError("numerator, denominator and covariance must be finite")
    if degrees < 1:
        raise ValueError(f"degrees must be at least 1, not {degrees}")
    t = student_quantile(degrees, level)
    a = float(denominator**2 - t**2 * v[1, 1])
    b = float(numerator * denominator - t**2 * v[0, 1])
    c = float(numerator**2 - t**2 * v[0, 0])
    low, high, branch = _branch(a, b, c, denominator)
    estimate = numerator / denominator if denominator > 0 else math.inf
    return Ratio(Interval(estimate, low, high, level), branch)


def is_resolved(interval: Interval) -> bool:
    """Whether an interval is narrow enough to act on: bounded, its ends within a factor.

    >>> is_resolved(Interval(10, 6, 20)), is_resolved(Interval(10, 6, float("inf")))
    (True, False)
    """
    return interval.bounded and interval.ratio <= RESOLVED_RATIO


def notes_on_tail(largest_over_mean: float) -> list[Note]:
    """Say so if a few examples dominate: their largest squared gradient is far above the mean."""
    if largest_over_mean <= HEAVY_TAIL:
        return []
    return [
        Note(
            "heavy_tailed",
            f"The largest squared gradient of one example is {largest_over_mean:.0f} times their "
            "mean: a few examples dominate, and intervals are too narrow by a little (88 to 97 % "
            "coverage where 95 % is meant).",
        )
    ]


def notes_on_coupling(names: Sequence[str]) -> list[Note]:
    """Say so if modules, of these names, mix the examples of a minibatch."""
    if not names:
        return []
    verb = "mixes" if len(names) == 1 else "mix"
    return [
        Note(
            "coupled_examples",
            f"{listed(names, 3)} {verb} the examples of a minibatch, so there is no gradient of "
            "one example and the noise depends on how minibatches are split: low confidence.",
        )
    ]


#: Relative error of a difference of two products that are equal but for the rounding of their
#: factors: some eight roundings, each of half a unit in the last place.
_ROUND_OFF = 8 * float(np.finfo(np.float64).eps)


def _branch(a: float, b: float, c: float, denominator: float) -> tuple[float, float, Branch]:
    discriminant = b * b - a * c
    if abs(discriminant) <= _ROUND_OFF * (b * b + abs(a * c)):
        discriminant = 0.0  # where nothing is uncertain both ends are the ratio itself
    if a > 0 and denominator < 0:
        return 0.0, math.inf, "negative"
    if discriminant < 0 or (a <= 0 and c <= 0):
        return 0.0, math.inf, "none"
    # The stable form: subtracting nearly equal numbers would lose the small root.
    q = b + math.copysign(math.sqrt(discriminant), b)
    roots = sorted([q / a if a != 0 else math.inf, c / q if q != 0 else 0.0])
    if a > 0 and roots[1] < 0:
        return 0.0, math.inf, "negative"
    if a > 0:
        return (roots[0], roots[1], "bounded") if roots[0] > 0 else (0.0, roots[1], "upper")
    positive = [root for root in roots if root > 0]
    return min(positive), math.inf, "lower"


def _examples_needed(
    gamma: float, error: float, used: int, population: int | None
) -> tuple[int, bool]:
    """Estimate how many more examples bring the error of γ̂ down to half of γ̂."""
    at_least = gamma <= error
    reference = gamma + error if at_least else gamma
    more = math.ceil(used * max((error / (0.5 * reference)) ** 2 - 1, 0.0)) if reference > 0 else 0
    more = max(more, used)
    if population is not None and population - used < more:
        return max(population - used, 0), False
    return more, at_least

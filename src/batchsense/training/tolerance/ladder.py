"""The ladder of guarantees: from a pilot to batch sizes, each with what it takes for granted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from batchsense.errors import DataError, UnresolvedError
from batchsense.training.tolerance.calibrated import calibrated_need
from batchsense.training.tolerance.moments import ErrorMoments
from batchsense.training.tolerance.pilot_noise import PilotNoise
from batchsense.variation.sample_size import (
    chebyshev_need,
    mean_square_need,
    pinelis_need,
    without_replacement,
)

#: The promises, from the weakest to the strongest evidence.
Guarantee = Literal["mean_square", "calibrated", "chebyshev", "bounded", "verified"]

#: A calibrated number is given where the pilot knows it to this factor at its level. Where it does
#: not, a few observations hold most of the variance, and pilots without the worst of them have
#: both an estimate and an error that are too small (docs/decisions/0010 has the counts).
_SETTLED = 1.5
#: So many are likely to show what one observation in a thousand adds to the variance.
_FEW = 1000

_NO_BOUND = (
    "nothing bounds the gradient of an example that was not seen; without a bound no batch size "
    "holds for every distribution (Bahadur and Savage 1956)"
)


@dataclass(frozen=True, slots=True)
class ToleranceRung:
    """A guarantee and the least batch size that keeps it.

    Attributes
    ----------
    guarantee : str
        ``mean_square``, ``calibrated``, ``chebyshev``, ``bounded`` or ``verified``.
    batch_size : int or None
        Examples; None where this guarantee cannot be given.
    assumes : str
        What has to be believed; or, without a batch size, why there is none.
    unlimited : float or None
        The number under independent drawing, before rounding.
    needed : str or None
        What would make the guarantee possible, where it is not.
    """

    guarantee: Guarantee
    batch_size: int | None
    assumes: str
    unlimited: float | None = None
    needed: str | None = None

    def require(self) -> int:
        """Give the batch size, or raise with what is missing.

        Raises
        ------
        UnresolvedError
            There is none.

        Examples
        --------
        >>> ToleranceRung("mean_square", 64, "holds on average").require()
        64
        """
        if self.batch_size is None:
            raise UnresolvedError(f"no {self.guarantee} batch size: {self.assumes}", self.needed)
        return self.batch_size


def tolerance_ladder(
    noise: PilotNoise,
    *,
    epsilon: float | None = None,
    relative: float | None = None,
    confidence: float = 0.95,
    population: int | None = None,
    radius: float | None = None,
    diameter: float | None = None,
) -> tuple[ToleranceRung, ...]:
    r"""Give the least batch sizes for :math:`P(|g_B - G| > ε) ≤ δ`, by four guarantees.

    With τ the variance of one example's gradient, τ_U its upper and γ_L the lower bound of
    :math:`|G|^2`, under independent drawing

    - ``mean_square``: :math:`n_0 = τ/ε^2`, the error is ε on average;
    - ``calibrated``: :math:`n_0 = τ/ε^2\; q_{1-δ}`, the quantile of the shifted χ² with the first
      three moments that the squared error has at this batch size
      (:func:`~batchsense.training.tolerance.calibrated.calibrated_need`), times the factor by
      which the pilot may have it too small; refused where that is more than 1.5;
    - ``chebyshev``: :math:`n_0 = τ_U/(δε^2)`, any distribution of that variance;
    - ``bounded``: :math:`n_0 = 2\ln(2/δ)(τ/ε^2 + R/(3ε))`, no example further than R from the mean,
      for any number of draws (Pinelis).

    A relative tolerance means :math:`ε = θ|G|`, with γ̂ in the first rung and γ_L in the others.
    From a finite set, drawn without replacement, :math:`n_0 N/(N - 1 + n_0)` examples are enough.
    Promises want a pilot of 256 examples or more. ``radius`` is R where it is the whole population;
    ``diameter`` the largest possible distance between two examples' gradients, 2C where each is
    clipped to the norm C: then the variance is bounded for any distribution too (Maurer and
    Pontil), from a pilot of independent draws.

    Sources: Byrd et al. (2012), Math. Program. 134; Pinelis (1994), Ann. Probab. 22; Maurer and
    Pontil (2009), COLT; Bahadur and Savage (1956), Ann. Math. Stat. 27.

    Raises DataError: a tolerance, confidence or bound is out of its range.

    >>> import numpy as np
    >>> from batchsense.training.tolerance.pilot_noise import pilot_noise
    >>> scores = np.random.default_rng(0).normal(100, 15, size=400)
    >>> for rung in tolerance_ladder(pilot_noise(np.outer(scores, scores)), epsilon=3.0):
    ...     print(rung.guarantee, rung.batch_size)
    mean_square 25
    calibrated 113
    chebyshev 563
    bounded None
    """
    _check(noise, epsilon, relative, confidence, radius, diameter)
    delta = 1 - confidence
    average, sure = (
        epsilon if epsilon is not None else _relative(relative, squared)
        for squared in (noise.squared_mean, noise.squared_mean_bound)
    )
    lost = _lost(noise)
    rungs = [
        _rung(
            "mean_square",
            None if average is None else mean_square_need(noise.trace, average),
            "holds on average; a single minibatch may miss",
            lost,
            population,
        )
    ]
    source = _source(noise, population)
    rungs += [
        _calibrated(noise, sure, delta, source, population),
        _rung(
            "chebyshev",
            None if sure is None else chebyshev_need(noise.trace_bound, sure, delta),
            f"any distribution of this variance; {source}",
            lost,
            population,
        ),
        _bounded(noise, sure, delta, population, radius, diameter),
    ]
    return tuple(rungs)


def _rung(
    guarantee: Guarantee,
    need: float | None,
    assumes: str,
    refusal: tuple[str, str],
    population: int | None,
) -> ToleranceRung:
    if need is None:
        return ToleranceRung(guarantee, None, refusal[0], needed=refusal[1])
    if population is None:
        return ToleranceRung(guarantee, max(1, math.ceil(need - 1e-9)), assumes, need)
    return ToleranceRung(guarantee, without_replacement(need, population), assumes, need)


def calibrated_bound(noise: PilotNoise, epsilon: float, delta: float) -> tuple[float, float]:
    """Give the calibrated number at its upper bound, and how far that lies above the estimate."""

    def need(moments: ErrorMoments) -> float:
        return calibrated_need(moments.trace, epsilon, delta, *moments.shape)

    factor = noise.factor(need)
    return factor * need(noise.moments), factor


def _calibrated(
    noise: PilotNoise, epsilon: float | None, delta: float, source: str, population: int | None
) -> ToleranceRung:
    need, factor = (None, 1.0) if epsilon is None else calibrated_bound(noise, epsilon, delta)
    refusal = _lost(noise)
    if factor > _SETTLED:
        # The log of the factor falls as one over the root of the observations.
        times = (math.log(factor) / math.log(_SETTLED)) ** 2
        need, refusal = (
            None,
            (
                f"{noise.observations:,} examples leave the number open by a factor of "
                f"{factor:.1f}"
                + (", because a few hold much of the variance" if noise.heavy_tailed else ""),
                f"about {math.ceil(noise.observations * (times - 1)):,} more examples in the pilot "
                "and the time for them",
            ),
        )
    assumes = f"the squared error is spread like a χ² of the same three moments; {source}"
    return _rung("calibrated", need, assumes, refusal, population)


def _bounded(
    noise: PilotNoise,
    epsilon: float | None,
    delta: float,
    population: int | None,
    radius: float | None,
    diameter: float | None,
) -> ToleranceRung:
    complete = noise.observations == population
    if epsilon is None:
        why, needed = _lost(noise)
        return ToleranceRung("bounded", None, why, needed=needed)
    if complete and radius is not None:
        trace, reach = noise.trace, radius
        assumes = f"nothing but these examples and weights: none is further than {reach:.3g} out"
    elif diameter is not None:
        trace, reach = _variance_within(noise, diameter), diameter
        assumes = (
            f"no two examples' gradients are further apart than {reach:.3g}, as clipping ensures; "
            f"the pilot was drawn independently ({noise.level:.0%} bound of its variance)"
        )
    else:
        needed = "clipped gradients, or a pilot of the whole data set"
        return ToleranceRung("bounded", None, _NO_BOUND, needed=needed)
    need = pinelis_need(trace, epsilon, delta, reach)
    size = max(1, math.ceil(need - 1e-9))
    # The correction for a finite set is proved for variances, not for this tail: only a cap.
    return ToleranceRung("bounded", min(size, population or size), assumes, need)


def _variance_within(noise: PilotNoise, diameter: float) -> float:
    """Bound τ for any distribution in a set of this diameter: Maurer and Pontil's theorem 10."""
    slack = math.sqrt(2 * math.log(1 / (1 - noise.level)) / (noise.observations - 1))
    bound = (math.sqrt(max(noise.trace, 0.0)) + diameter * slack) ** 2
    return min(bound, diameter**2 / 2)


def _relative(theta: float | None, squared: float) -> float | None:
    return None if theta is None or squared <= 0 else theta * math.sqrt(squared)


def _source(noise: PilotNoise, population: int | None) -> str:
    if noise.observations == population:
        return f"variance known from all {population:,} examples"
    text = f"variance at its {noise.level:.0%} bound from {noise.observations:,} examples"
    if noise.heavy_tailed:
        text += (
            f", which is weak: one of them holds {noise.outlier_ratio:.0f} times the average, "
            "and worse ones may not have been drawn"
        )
    elif noise.observations < _FEW:
        text += ", among which rare ones that hold much of the variance may be missing"
    return text


def _lost(noise: PilotNoise) -> tuple[str, str]:
    gap = noise.squared_mean - noise.squared_mean_bound
    reference = noise.squared_mean if noise.squared_mean > 0 else noise.squared_mean + gap
    amount = "about" if noise.squared_mean > 0 else "at least"
    times = max((gap / (0.5 * reference)) ** 2, 2.0) if reference > 0 else 4.0
    return (
        "the mean gradient is not told from zero, so a tolerance relative to it has no size",
        f"{amount} {math.ceil(noise.observations * (times - 1)):,} more examples in the pilot, or "
        "an absolute tolerance",
    )


def _check(
    noise: PilotNoise,
    epsilon: float | None,
    relative: float | None,
    confidence: float,
    radius: float | None,
    diameter: float | None,
) -> None:
    if (epsilon is None) == (relative is None):
        raise DataError("give either an absolute tolerance (epsilon) or a relative one")
    named = {
        "epsilon": epsilon,
        "the relative tolerance": relative,
        "radius": radius,
        "diameter": diameter,
    }
    for name, value in named.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise DataError(f"{name} is {value}; it must be positive and finite")
    if not 0 < confidence < 1:
        raise DataError(f"the confidence must lie between 0 and 1, not {confidence}")
    if diameter is not None and noise.trace > diameter**2 / 2 * (1 + 1e-9):
        raise DataError(
            f"the pilot's variance {noise.trace:.3g} is more than a set of diameter {diameter:.3g} "
            "allows; clip the pilot as the training does"
        )

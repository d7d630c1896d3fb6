"""State the bias of splitting a loss, or withhold it where the design cannot tell."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from batchsense.arrays import Floats
from batchsense.training.separability.kind.evidence import Evidence
from batchsense.training.separability.kind.mean_length import mean_length
from batchsense.training.separability.report import Bias
from batchsense.variation.interval import Interval

# How rarely a partition may be taken for one that stands out by itself where gaps are Gaussian in
# one direction, the least favourable case; so that seldom is a bias withheld without need.
_ODD = 1e-3


def withheld_bias(evidence: Evidence) -> str | None:
    """Why partitions do not show a bias; None if they do.

    Parts of one example leave one partition; and one partition that holds most of the squared
    deviations, as where a denominator comes near zero, leaves the mean to chance.
    """
    if evidence.one_partition and evidence.screening.exact:
        return (
            "there is one partition into micro-batches of one example, so how much of that is "
            "bias and how much noise is not known"
        )
    squared = np.square(evidence.gaps).sum(axis=1)
    count, share = len(squared), float(squared.max() / max(squared.sum(), 1e-300))
    if share < 1:
        beyond = share / (1 - share) * (count - 1)
        if count * float(special.fdtrc(1, count - 1, beyond)) >= _ODD:
            return None
    return (
        f"one of {count} partitions holds {share:.0%} of the squared deviations, as where a "
        "denominator comes near zero, so their mean is not known"
    )


def powerless(bias: Bias, alpha: float) -> str | None:
    """Say if partitions are so few that no bias, however large, can be detected."""
    least = 1 + math.ceil(math.log2(1 / alpha))  # the sign-flip test gives 2^(1 − P) at least
    if bias.detected or bias.partitions >= least:
        return None
    return f"{bias.partitions} partitions cannot show a bias at level {alpha:g}; give {least}."


def plausible(computed: Bias | None, evidence: Evidence) -> Bias | None:
    """A computed bias, unless it is larger than any deviation that was measured."""
    if computed is None:
        return None
    largest = float(np.linalg.norm(evidence.gaps, axis=1).max()) / evidence.size
    return computed if abs(computed.size.estimate) <= largest else None


def bias_of(evidence: Evidence, alpha: float) -> Bias:
    """Estimate the mean deviation relative to |G| and test whether it is zero."""
    return bias_from_gaps(evidence.gaps / evidence.size, evidence, alpha)


def bias_from_gaps(gaps: Floats, evidence: Evidence, alpha: float, draws: int = 1) -> Bias:
    """Test whether the mean of independent gaps is zero.

    Each row of ``gaps``, an array of shape (repetitions, numbers), is the mean of
    (mean_k g_k − G) / |G| over ``draws`` partitions.
    """
    found = mean_length(gaps @ gaps.T, level=1 - alpha, seed=evidence.screening.seed)
    length = abs(found.length.estimate) * evidence.size
    rounding = evidence.screening.tolerance  # gaps that are all alike are known to this
    size = Interval(
        found.length.estimate,
        max(0.0, found.length.low - rounding),
        found.length.high + rounding,
        found.length.level,
    )
    alike = float(np.linalg.norm(gaps - gaps[0], axis=1).max()) <= rounding
    equal = alike and found.length.estimate > rounding
    return Bias(
        size=size,
        detected=equal or found.p_value_sign_flip < alpha,
        p_value=found.p_value,
        p_value_sign_flip=found.p_value_sign_flip,
        over_noise=length / evidence.noise if evidence.noise else 0.0,
        partitions=found.repetitions * draws,
    )

"""The bias of a ratio, without the noise of a few partitions.

For L(S) = Σ_{i∈S} l_i / w(S) every measured part gives w(S) g(S) = Σ_{i∈S} u_i with the same
u_i = ∇l_i. A dozen partitions determine all u_i, and with them the gradient over *any* part: the
bias can be averaged over thousands of partitions that nobody has to measure.
"""

from __future__ import annotations

import math

import numpy as np

from batchsense.arrays import Floats
from batchsense.training.separability.kind.evidence import Evidence
from batchsense.training.separability.kind.normalisers import weighed
from batchsense.training.separability.kind.screening import Screening
from batchsense.training.separability.report import Bias, FoundNormaliser
from batchsense.variation.gram import mean_length

_REPETITIONS = 24
_DRAWS = 500


def ratio_bias(
    evidence: Evidence,
    screening: Screening,
    normaliser: FoundNormaliser | None,
    alpha: float,
    seed: int,
) -> Bias | None:
    """Average the bias of a ratio over 12,000 computed partitions.

    Returns
    -------
    Bias or None
        None where the terms of the examples cannot be recovered: another kind of loss, a
        denominator that is no sum, random numbers, or too few partitions.
    """
    if normaliser is None or normaliser.weight is None or not normaliser.additive:
        return None
    if screening.stochastic or screening.order_matters:
        return None
    weights = np.array([weighed(normaliser.weight, part) for part in evidence.minibatches])
    recovered = _terms(evidence, weights, math.sqrt(screening.tolerance))
    if recovered is None:
        return None
    slopes, masses = recovered
    K = evidence.members.shape[1]
    spawned = np.random.SeedSequence([seed, 71]).spawn(_REPETITIONS)
    gaps = (
        np.array([_mean_gap(slopes, masses, K, np.random.default_rng(own)) for own in spawned])
        / evidence.size
    )
    found = mean_length(gaps @ gaps.T, level=1 - alpha, seed=seed)
    length = found.length.estimate * evidence.size
    return Bias(
        size=found.length,
        detected=found.p_value_sign_flip < alpha,
        p_value=found.p_value,
        p_value_sign_flip=found.p_value_sign_flip,
        over_noise=abs(length) / evidence.noise if evidence.noise else 0.0,
        partitions=_REPETITIONS * _DRAWS,
    )


def _terms(evidence: Evidence, weights: Floats, loose: float) -> tuple[Floats, Floats] | None:
    """Solve for the gradient and the weight of every example; None if they do not fit."""
    partitions, K, m = evidence.members.shape
    present = np.zeros((partitions, K, K * m))
    np.put_along_axis(present, evidence.members, 1.0, axis=2)
    design = present.reshape(partitions * K, K * m)
    if evidence.parts.size == 0 or partitions * (K - 1) + 1 < K * m:
        return None
    divisor = np.where(weights == 0, 1.0, weights)
    known = np.column_stack(
        [evidence.parts.reshape(partitions * K, -1) * divisor[:, None], weights]
    )
    solved, _, rank, _ = np.linalg.lstsq(design, known, rcond=1e-10)
    missed = float(np.abs(design @ solved - known).max())
    if rank < K * m or missed > loose * float(np.abs(known).max()):
        return None
    return solved[:, :-1], solved[:, -1]


def _mean_gap(slopes: Floats, masses: Floats, K: int, generator: np.random.Generator) -> Floats:
    """Average mean_k g_k − G over random partitions."""
    count = len(masses)
    order = np.array([generator.permutation(count) for _ in range(_DRAWS)])
    parts = masses[order].reshape(_DRAWS, K, count // K).sum(axis=2)
    share = 1 / (K * np.where(parts == 0, 1.0, parts))
    mean_share = np.zeros(count)
    np.add.at(mean_share, order.reshape(-1), np.repeat(share.reshape(-1), count // K))
    gap: Floats = (mean_share / _DRAWS - 1 / masses.sum()) @ slopes
    return gap

"""What a ratio divides by, from the coefficients of its parts, and the bias that follows.

For L(S) = Σ_{i∈S} l_i / w(S) every measured part gives w(S) g(S) = Σ_{i∈S} u_i with the same
u_i = ∇l_i. A dozen partitions determine all u_i, and with them the gradient over *any* part: the
bias can be averaged over thousands of partitions that nobody has to measure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from batchsense.arrays import Floats, Places
from batchsense.training.separability.kind.bias import bias_from_gaps
from batchsense.training.separability.kind.decision import unless_fixed, weights_move
from batchsense.training.separability.kind.evidence import (
    Evidence,
    Joined,
    joined_partitions,
    presence,
)
from batchsense.training.separability.kind.normalisers import (
    Normaliser,
    class_counts,
    class_weight_sum,
    example_count,
    weighed,
    weights_of,
)
from batchsense.training.separability.kind.structure import (
    LEAST_SINGULAR_VALUE,
    Structure,
    additive_weights,
)
from batchsense.training.separability.report import Bias, FoundNormaliser
from batchsense.variation.linear import factor

# Class weights written out in a name, which is to fit into a line.
_SHOWN = 6
# Equations beyond the unknowns: with none to spare, some weights fit any coefficients.
_SPARE = 4
# Counts and sums of float64 weights add up to about 1e-15; a padded size misses by a row or more.
_SAME_SUM = 1e-9
# A law of the number of examples has two candidates; either misses the other by far more.
_SAME_LAW = 1e-6
# The test of a bias takes rows that are independent; 24 is the number of partitions that an audit
# measures, so the same test has the same rows here, each the mean of 500 computed partitions.
_REPETITIONS = 24
_DRAWS = 500


def named_ratio(
    structure: Structure, evidence: Evidence
) -> tuple[Structure, FoundNormaliser | None]:
    """Name what a ratio divides by; a ratio whose weights move with the parameters is none.

    A candidate that fits; else weights per class; else weights per example. The structure comes
    back as it is, or as a composite.
    """
    name = structure.normaliser
    if structure.kind != "ratio":
        return structure, None
    if name is not None and name in evidence.candidates:
        return structure, _candidate(structure, evidence)
    if name is not None:
        return structure, _power(name, evidence)
    screening, micro_batch = evidence.screening, evidence.micro_batch
    count = screening.probe.count
    wanted = math.ceil(count / (count // micro_batch - 1)) + _SPARE
    joined = joined_partitions(screening.reseeded(screening.mixed(45)), micro_batch, wanted)
    loose = math.sqrt(screening.tolerance)
    if found := _power_of_count(joined, evidence) or _per_class(joined, loose):
        return structure, found
    weights = weights_per_example(joined.coefficients, joined.members, loose)
    if weights is None:
        composite = Structure("composite", residual=structure.residual)
        several = screening.probe.parameters < 2 * (count // micro_batch)  # joined at many points
        if not several and unless_fixed(screening, composite, micro_batch).kind == "composite":
            return composite, None
        unknown = "unknown: it is not a sum over the examples"
        return structure, FoundNormaliser(unknown, None, additive=False)
    if weights_move(screening, weights, micro_batch):
        return Structure("composite", residual=structure.residual), None
    counted = np.abs(weights) > loose * float(np.abs(weights).max())
    if np.count_nonzero(counted) < 2:  # a softmax that chose one example is locally such a ratio
        return Structure("undecided", residual=structure.residual), None
    typical = float(np.median(np.abs(weights[counted])))
    return structure, FoundNormaliser(
        f"weight per example ({weights.min() / typical:.3g} to {weights.max() / typical:.3g} "
        "times the median) that no count in the minibatch gives",
        None,
    )


def ratio_bias(evidence: Evidence, normaliser: FoundNormaliser | None, alpha: float) -> Bias | None:
    """Average the bias of a ratio over 12,000 computed partitions.

    None where the terms of the examples cannot be recovered: another kind of loss, a denominator
    that is no sum or can pass through zero, random numbers, or too few partitions.
    """
    screening = evidence.screening
    if normaliser is None or normaliser.weight is None or not normaliser.additive:
        return None
    if screening.stochastic or screening.order_matters:
        return None
    weights = np.array([weighed(normaliser.weight, part) for part in evidence.minibatches])
    recovered = _terms(evidence, weights, math.sqrt(screening.tolerance))
    if recovered is None:
        return None
    slopes, masses = recovered
    if masses.min() < 0:
        return None
    K = evidence.members.shape[1]
    spawned = np.random.SeedSequence([screening.seed, 71]).spawn(_REPETITIONS)
    gaps = [_mean_gap(slopes, masses, K, np.random.default_rng(own)) for own in spawned]
    return bias_from_gaps(np.array(gaps) / evidence.size, evidence, alpha, draws=_DRAWS)


def example_counter(whole: Any, parts: Sequence[Any], sizes: Sequence[int]) -> FoundNormaliser:
    """Describe the normaliser of a mean; it has a function if a minibatch tells its size."""
    return FoundNormaliser("examples", example_count(whole, parts, sizes))


def weights_per_example(coefficients: Floats, members: Places, loose: float) -> Floats | None:
    """Explain coefficients (partitions, parts) by one weight per example; None if none do."""
    return additive_weights(coefficients, presence(members), loose)


def _candidate(structure: Structure, evidence: Evidence) -> FoundNormaliser:
    """Describe a candidate that fits, perhaps with something added to it."""
    name, e = str(structure.normaliser), structure.offset
    normaliser = evidence.candidates[name]
    if e:
        return FoundNormaliser(f"{name} + {e:.3g}", lambda b: normaliser(b) + e, additive=False)
    additive = _is_additive(normaliser, evidence)
    return FoundNormaliser(name, normaliser, additive, structure.also)


def _power(name: str, evidence: Evidence) -> FoundNormaliser:
    """Describe w = |S|^p or |S| + e, whichever micro-batches of twice the size confirm."""
    screening, m = evidence.screening, evidence.micro_batch
    n, parts = screening.probe.count, evidence.members.shape[1]
    ratio = float(np.mean([split.coefficients.mean() for split in evidence.splits]))
    double = joined_partitions(screening.reseeded(screening.mixed(46)), 2 * m, 2)
    whole = n - n % (2 * m)
    count = example_count(
        screening.whole.minibatch, evidence.minibatches[:parts], [n, *[m] * parts]
    )
    if count is None or ratio <= 0:
        return FoundNormaliser(name, None, additive=False)
    power = math.log(ratio) / math.log(m / n)
    if np.allclose(double.coefficients, (2 * m / whole) ** power, rtol=_SAME_LAW):
        return FoundNormaliser(f"examples^{power:.4g}", lambda b: count(b) ** power, additive=False)
    e = (ratio * n - m) / (1 - ratio)
    if np.allclose(double.coefficients, (2 * m + e) / (whole + e), rtol=_SAME_LAW):
        return FoundNormaliser(f"examples {e:+.4g}", lambda b: count(b) + e, additive=False)
    return FoundNormaliser(name, None, additive=False)


def _power_of_count(joined: Joined, evidence: Evidence) -> FoundNormaliser | None:
    """Explain the coefficients by a power of some count, as in a division by its root."""
    whole = evidence.screening.whole.minibatch
    for name, (w, total) in weights_of(evidence.candidates, whole, joined.minibatches).items():
        share = w.reshape(joined.coefficients.shape) / total
        if share.min() <= 0 or np.ptp(share) == 0 or joined.coefficients.min() <= 0:
            continue
        one = np.log(share).reshape(-1)
        power = float(one @ np.log(joined.coefficients).reshape(-1) / (one @ one))
        if np.allclose(share**power, joined.coefficients, rtol=_SAME_LAW):
            return _raised(name, evidence.candidates[name], power)
    return None


def _raised(name: str, count: Normaliser, power: float) -> FoundNormaliser:
    return FoundNormaliser(f"({name})^{power:.4g}", lambda b: count(b) ** power, additive=False)


def _is_additive(normaliser: Normaliser, evidence: Evidence) -> bool:
    """Whether the weights of the parts add up to that of the whole, in every partition."""
    weights = np.array([weighed(normaliser, part) for part in evidence.minibatches])
    totals = weights.reshape(len(evidence.splits), -1).sum(axis=1)
    whole = weighed(normaliser, evidence.screening.whole.minibatch)
    return bool(np.allclose(totals, whole, rtol=_SAME_SUM))


def _per_class(joined: Joined, loose: float) -> FoundNormaliser | None:
    """Explain the coefficients by one weight per class of some integer tensor."""
    coefficients = joined.coefficients
    for name, (values, counts) in class_counts(joined.minibatches).items():
        weights = additive_weights(
            coefficients, counts.reshape(*coefficients.shape, len(values)), loose
        )
        if weights is None:
            continue
        weights = np.where(np.abs(weights) < loose * np.abs(weights).max(), 0.0, weights)
        unit = float(np.abs(weights[weights != 0]).min())
        relative: Mapping[int, float] = {
            value: float(w / unit) for value, w in zip(values, weights, strict=True)
        }
        shown = ", ".join(f"{value}: {w:.4g}" for value, w in list(relative.items())[:_SHOWN])
        more = ", …" if len(relative) > _SHOWN else ""
        return FoundNormaliser(
            f"class weights of {name} {{{shown}{more}}}",
            class_weight_sum(name, relative),
            class_weights=relative,
        )
    return None


def _terms(evidence: Evidence, weights: Floats, loose: float) -> tuple[Floats, Floats] | None:
    """Solve for the gradient and the weight of every example; None if they do not fit."""
    partitions, K, m = evidence.members.shape
    if evidence.parts.size == 0 or partitions * (K - 1) + 1 < K * m:
        return None
    design = evidence.presence.reshape(partitions * K, K * m)
    divisor = np.where(weights == 0, 1.0, weights)
    known = np.column_stack(
        [evidence.parts.reshape(partitions * K, -1) * divisor[:, None], weights]
    )
    factored = factor(design, tolerance=LEAST_SINGULAR_VALUE)
    if factored.rank < K * m:
        return None
    solved = factored.fit(known).coefficients
    missed = float(np.abs(design @ solved - known).max())
    if missed > loose * float(np.abs(known).max()):
        return None
    masses = solved[:, -1]
    # An example that does not count has the mass 0; solving leaves rounding, to be divided by.
    return solved[:, :-1], np.where(np.abs(masses) < loose * np.abs(masses).max(), 0.0, masses)


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

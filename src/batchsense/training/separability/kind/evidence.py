"""Measure many random partitions, and read kind and bias from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from batchsense.arrays import Floats, Places
from batchsense.progress import Progress, silent
from batchsense.training.separability.kind.normalisers import Normaliser, weights_of
from batchsense.training.separability.kind.screening import (
    Screening,
    measured_parts,
    mixed,
    partition,
)
from batchsense.training.separability.kind.structure import (
    Split,
    Structure,
    kind_of,
    pure_scale,
    split_of,
)
from batchsense.training.separability.probe.isolated_model import Randomness
from batchsense.training.separability.probe.probe import GradientProbe
from batchsense.training.separability.report import Bias
from batchsense.variation.gram import mean_length

#: Candidates kept for the statistical choice, which holds one vector each per partition.
_MOST_JUDGED = 48
#: Numbers of micro-batch gradients that are kept (8 bytes each).
_MOST_KEPT = 20_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What P random partitions showed.

    Attributes
    ----------
    splits : tuple of Split
        One per partition.
    gaps : array of shape (partitions, numbers)
        mean_k g_k − G.
    sum_gaps : array of shape (partitions, numbers)
        G − Σ g_k.
    parts : array of shape (partitions, parts, numbers)
        g_k; empty where that would be too large to keep.
    wholes : array of shape (partitions, numbers)
        G: the same in all rows unless random numbers or the order of the examples enter.
    candidate_gaps : mapping of str to array of shape (partitions, numbers)
        G − Σ (w_k / W) g_k, kept only where statistics must choose.
    noise : float
        Root mean square of |g_k − mean_k g_k|.
    scale : float
        Mean over partitions of the multiple of G nearest to mean_k g_k.
    minibatches : tuple
        The collated parts, in order of partitions.
    members : array of shape (partitions, parts, micro_batch)
        Which examples were in which part.
    """

    splits: tuple[Split, ...]
    gaps: Floats
    sum_gaps: Floats
    parts: Floats
    wholes: Floats
    candidate_gaps: Mapping[str, Floats]
    noise: float
    scale: float
    minibatches: tuple[Any, ...]
    members: Places

    @property
    def size(self) -> float:
        """|G|, with the noise of a stochastic G taken off."""
        if np.ptp(self.wholes, axis=0).any():
            gram = mean_length(self.wholes @ self.wholes.T, flips=1).length
            return max(gram.estimate, gram.low, 1e-300)
        return float(np.linalg.norm(self.wholes[0]))

    @property
    def deviation(self) -> float:
        """Root mean square of |mean_k g_k − G| / |G|."""
        return float(np.sqrt(np.square(self.gaps).sum(axis=1).mean())) / self.size


def gather(
    probe: GradientProbe,
    screening: Screening,
    micro_batch: int,
    partitions: int,
    candidates: Mapping[str, Normaliser],
    seed: int,
    randomness: Randomness | None = None,
    progress: Progress = silent,
) -> Evidence:
    """Measure G and the g_k of many random partitions.

    Parameters
    ----------
    probe : GradientProbe
        The workload.
    screening : Screening
        How its random numbers are to be treated.
    micro_batch : int
        Examples per part.
    partitions : int
        How many partitions.
    candidates : mapping
        Normalisers to test on each.
    seed : int
        Seed of the partitions and of the loss's random numbers.
    randomness : str, optional
        Another treatment of random numbers than the screening's.
    progress : Progress
        Told after each partition.

    Returns
    -------
    Evidence
        One row per partition.
    """
    randomness = screening.randomness if randomness is None else randomness
    redraw = screening.stochastic or screening.order_matters
    judged = list(candidates)[:_MOST_JUDGED] if randomness == "free" and redraw else []
    splits, gaps, sum_gaps, wholes, noises, scales = [], [], [], [], [], []
    minibatches: list[Any] = []
    members = []
    kept = []
    chosen: dict[str, list[Floats]] = {name: [] for name in judged}
    whole = screening.whole
    for p in range(partitions):
        progress("auditing partitions", p, partitions)
        own, generator = mixed(seed, 11, p), np.random.default_rng([seed, 12, p])
        if redraw or randomness == "silent":
            order = (
                generator.permutation(probe.count)
                if screening.order_matters
                else np.arange(probe.count)
            )
            whole = probe.gradient(order, own, randomness)
        places = partition(probe.count, micro_batch, generator)
        tied = own if redraw else seed
        parts = measured_parts(probe, places, tied, randomness)
        weights = weights_of(candidates, whole.minibatch, [part.minibatch for part in parts])
        g = np.array([part.gradient for part in parts])
        splits.append(split_of(whole.gradient, g, weights, probe.parameters))
        gaps.append(g.mean(axis=0) - whole.gradient)
        sum_gaps.append(whole.gradient - g.sum(axis=0))
        if partitions * g.size <= _MOST_KEPT:
            kept.append(g)
        wholes.append(whole.gradient)
        noises.append(np.square(g - g.mean(axis=0)).sum(axis=1).mean())
        scales.append(pure_scale(g.mean(axis=0), whole.gradient)[0])
        minibatches += [part.minibatch for part in parts]
        members.append(places)
        for name in judged:
            if name in weights:
                w, total = weights[name]
                chosen[name].append(whole.gradient - (w / total) @ g)
    progress("auditing partitions", partitions, partitions)
    return Evidence(
        splits=tuple(splits),
        gaps=np.array(gaps),
        sum_gaps=np.array(sum_gaps),
        parts=np.array(kept if len(kept) == partitions else []),
        wholes=np.array(wholes),
        candidate_gaps={n: np.array(v) for n, v in chosen.items() if len(v) == partitions},
        noise=math.sqrt(float(np.mean(noises))),
        scale=float(np.mean(scales)),
        minibatches=tuple(minibatches),
        members=np.array(members),
    )


def bias_of(evidence: Evidence, alpha: float, seed: int) -> Bias:
    """Estimate the mean deviation relative to |G| and test whether it is zero."""
    size = evidence.size
    scaled = evidence.gaps / size
    found = mean_length(scaled @ scaled.T, level=1 - alpha, seed=seed)
    return Bias(
        size=found.length,
        detected=found.p_value_sign_flip < alpha,
        p_value=found.p_value,
        p_value_sign_flip=found.p_value_sign_flip,
        over_noise=abs(found.length.estimate) * size / evidence.noise if evidence.noise else 0.0,
        partitions=found.repetitions,
    )


def judged_kind(evidence: Evidence, alpha: float) -> Structure:
    """Choose the kind by statistics, where random numbers hide the equalities.

    Mean if no bias is detected; else the sum or candidate normaliser under which no bias is
    detected and least is left; else interacting.
    """

    def left(gaps: Floats) -> tuple[float, float]:
        length = mean_length(gaps @ gaps.T, level=1 - alpha)
        return length.p_value_sign_flip, length.length.high

    p_value, unexplained = left(evidence.gaps)
    if p_value >= alpha:
        return Structure("mean")
    options = {"": evidence.sum_gaps, **evidence.candidate_gaps}
    judged = {name: left(gaps) for name, gaps in options.items()}
    fitting = {
        name: high for name, (p, high) in judged.items() if p >= alpha and high < unexplained
    }
    if not fitting:
        return Structure("interacting")
    best = min(fitting, key=lambda name: fitting[name])
    return Structure("sum") if best == "" else Structure("ratio", best)


def exact_kind(evidence: Evidence, tolerance: float) -> Structure:
    """Decide the kind by equalities; a sum with a term free of examples is a composite."""
    found = kind_of(evidence.splits, tolerance)
    if found.kind != "interacting":
        return found
    centre = evidence.sum_gaps.mean(axis=0)
    spread = float(np.abs(evidence.sum_gaps - centre).max(initial=0.0))
    if len(evidence.splits) > 1 and spread < tolerance * float(np.linalg.norm(centre)):
        return Structure("composite", EXAMPLE_FREE_TERM, residual=found.residual)
    return found


#: What a sum plus a regulariser is called: its parts add up, the regulariser K times.
EXAMPLE_FREE_TERM = "a sum, and a term that does not depend on the examples"

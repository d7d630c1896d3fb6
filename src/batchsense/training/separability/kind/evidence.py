"""Measure many random partitions, and read kind and bias from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from batchsense.arrays import Floats, Places
from batchsense.progress import Progress, silent
from batchsense.training.separability.kind.mean_length import mean_length
from batchsense.training.separability.kind.normalisers import (
    Normaliser,
    candidate_normalisers,
    tensors_held_by,
    weights_of,
)
from batchsense.training.separability.kind.structure import Split, Structure, kind_of, split_of
from batchsense.training.separability.probe.screening import Screening, partition
from batchsense.training.separability.report import EXAMPLE_FREE_TERM, Bias, Kind

#: Candidates kept for the statistical choice, which holds one vector each per partition: with 24
#: partitions of the longest gradients 1.2 GB. The most plausible come first.
_MOST_JUDGED = 48
#: Numbers of micro-batch gradients that are kept (8 bytes each, so 160 MB).
_MOST_KEPT = 20_000_000
# How far parameters are moved, relative to their own spread. Far enough that gradients at the moved
# points are independent, near enough that a loss stays finite there; not tuned.
_SHIFT = 0.3
# Joined gradients cost a full gradient and its parts at each point. A model of one parameter with
# 8 parts needs 18 points; more parts of so small a model stay undetermined.
_MOST_POINTS = 24
# A composite passes for a ratio in one partition by chance; six are what the bias test asks too.
_PARTITIONS = 6
# Weights that agree to this at two parameter vectors are the same: rounding, amplified by solving
# for them, is far smaller, and what moves them (a loss, 1 + l_i) moves them by more.
_SAME_WEIGHT = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What P random partitions into K parts showed.

    Attributes
    ----------
    splits : tuple of Split
        One per partition.
    gaps, sum_gaps : arrays of shape (partitions, numbers)
        mean_k g_k − G, and G − Σ g_k.
    parts : array of shape (partitions, parts, numbers)
        g_k; empty where that would be too large to keep.
    wholes : array of shape (partitions, numbers)
        G: the same in all rows unless random numbers or the order of the examples enter.
    candidate_gaps : mapping of str to array of shape (partitions, numbers)
        G − Σ (w_k / W) g_k, kept only where statistics must choose.
    noise : float
        Root mean square of |g_k − mean_k g_k|.
    minibatches : tuple
        The collated parts, in order of partitions.
    members : array of shape (partitions, parts, micro_batch)
        Which examples were in which part.
    """

    screening: Screening
    candidates: Mapping[str, Normaliser]
    splits: tuple[Split, ...]
    gaps: Floats
    sum_gaps: Floats
    parts: Floats
    wholes: Floats
    candidate_gaps: Mapping[str, Floats]
    noise: float
    minibatches: tuple[Any, ...]
    members: Places

    @property
    def micro_batch(self) -> int:
        """Examples per part."""
        return int(self.members.shape[2])

    @property
    def scale(self) -> float:
        """Mean over partitions of the multiple of G nearest to mean_k g_k."""
        return float(np.mean([split.scale for split in self.splits]))

    @property
    def size(self) -> float:
        """|G|, with the noise of a stochastic G taken off."""
        if np.ptp(self.wholes, axis=0).any():
            gram = mean_length(self.wholes @ self.wholes.T, flips=1).length
            return max(gram.estimate, gram.low, 1e-300)  # noise alone: never divide by zero
        return float(np.linalg.norm(self.wholes[0]))

    @property
    def deviation(self) -> float:
        """Root mean square of |mean_k g_k − G| / |G|."""
        return float(np.sqrt(np.square(self.gaps).sum(axis=1).mean())) / self.size


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """Partitions measured at one or several parameter vectors, gradients joined end to end."""

    splits: tuple[Split, ...]
    minibatches: tuple[Any, ...]
    members: Places

    @property
    def coefficients(self) -> Floats:
        """What combines the parts, of shape (partitions, parts)."""
        return np.array([split.coefficients for split in self.splits])


def candidates_of(
    screening: Screening, given: Mapping[str, Normaliser] | None = None
) -> dict[str, Normaliser]:
    """List what a screened loss may divide by, what the user gives first."""
    held = tensors_held_by(screening.probe.workload.loss)
    return candidate_normalisers(screening.whole.minibatch, given, held)


def gather(
    screening: Screening,
    micro_batch: int,
    partitions: int,
    candidates: Mapping[str, Normaliser],
    progress: Progress = silent,
) -> Evidence:
    """Measure G and the g_k of many random partitions, and test what a ratio may divide by.

    The screening's seed is that of the partitions and of the loss's random numbers.
    """
    probe, randomness, seed = screening.probe, screening.randomness, screening.seed
    redraw = screening.stochastic or screening.order_matters
    judged = list(candidates)[:_MOST_JUDGED] if randomness == "free" and redraw else []
    splits, gaps, sum_gaps, wholes, noises = [], [], [], [], []
    minibatches: list[Any] = []
    members, kept = [], []
    chosen: dict[str, list[Floats]] = {name: [] for name in judged}
    whole = screening.whole
    for p in range(partitions):
        progress("auditing partitions", p, partitions)
        own, generator = screening.mixed(11, p), np.random.default_rng([seed, 12, p])
        if redraw or randomness == "silent":
            order = np.arange(probe.count)
            if screening.order_matters:
                order = generator.permutation(probe.count)
            whole = probe.gradient(order, own, randomness)
        places = partition(probe.count, micro_batch, generator)
        parts = screening.measured_parts(places, own if redraw else seed)
        weights = weights_of(candidates, whole.minibatch, parts.minibatches)
        g = parts.gradients
        splits.append(split_of(whole.gradient, g, weights, probe.parameters))
        gaps.append(g.mean(axis=0) - whole.gradient)
        sum_gaps.append(whole.gradient - g.sum(axis=0))
        if partitions * g.size <= _MOST_KEPT:
            kept.append(g)
        wholes.append(whole.gradient)
        noises.append(np.square(g - g.mean(axis=0)).sum(axis=1).mean())
        minibatches += parts.minibatches
        members.append(places)
        for name in judged:
            if name in weights:
                w, total = weights[name]
                chosen[name].append(whole.gradient - (w / total) @ g)
    progress("auditing partitions", partitions, partitions)
    return Evidence(
        screening=screening,
        candidates=candidates,
        splits=tuple(splits),
        gaps=np.array(gaps),
        sum_gaps=np.array(sum_gaps),
        parts=np.array(kept if len(kept) == partitions else []),
        wholes=np.array(wholes),
        candidate_gaps={n: np.array(v) for n, v in chosen.items() if len(v) == partitions},
        noise=math.sqrt(float(np.mean(noises))),
        minibatches=tuple(minibatches),
        members=np.array(members),
    )


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
    return Bias(
        size=found.length,
        detected=found.p_value_sign_flip < alpha,
        p_value=found.p_value,
        p_value_sign_flip=found.p_value_sign_flip,
        over_noise=length / evidence.noise if evidence.noise else 0.0,
        partitions=found.repetitions * draws,
    )


def decided_kind(evidence: Evidence, alpha: float) -> tuple[Structure, tuple[str, ...]]:
    """Decide the kind by equalities where they hold, else by statistics; say what limits that."""
    screening = evidence.screening
    if not screening.exact:
        why = screening.probe.isolated.broken_tie or "they depend on the order of the examples"
        note = (
            f"The random numbers of the loss could not be tied to its examples ({why}), so its "
            "kind was judged by statistics."
        )
        return judged_kind(evidence, alpha), (note,)
    if screening.order_matters:
        return Structure("interacting"), ()
    structure = exact_kind(evidence)
    if not structure.determined:
        structure = settled_kind(screening, evidence.micro_batch)
    if not structure.determined:
        note = (
            f"With a gradient of {screening.probe.parameters} numbers a ratio or a function of an "
            "average cannot be told from an interaction of the examples."
        )
        return structure, (note,)
    return structure, ()


def silent_kind(screening: Screening, micro_batch: int) -> Kind | None:
    """The kind with dropout switched off; None if other random numbers remain."""
    probe = screening.probe
    everyone = np.arange(probe.count)
    one, other = (
        probe.gradient(everyone, screening.mixed(51, k), "silent").gradient for k in (0, 1)
    )
    if np.linalg.norm(one - other) > screening.tolerance * np.linalg.norm(one):
        return None
    candidates = candidates_of(screening)
    silenced = screening.silenced().reseeded(screening.mixed(52))
    return exact_kind(gather(silenced, micro_batch, 2, candidates)).kind


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


def exact_kind(evidence: Evidence) -> Structure:
    """Decide the kind by equalities; a sum with a term free of examples is a composite."""
    tolerance = evidence.screening.tolerance
    found = kind_of(evidence.splits, tolerance)
    if found.kind != "interacting":
        return found
    centre = evidence.sum_gaps.mean(axis=0)
    spread = float(np.abs(evidence.sum_gaps - centre).max(initial=0.0))
    if len(evidence.splits) > 1 and spread < tolerance * float(np.linalg.norm(centre)):
        return Structure("composite", EXAMPLE_FREE_TERM, residual=found.residual)
    return found


def settled_kind(screening: Screening, micro_batch: int) -> Structure:
    """Decide between ratio, composite and interacting with more numbers per part.

    With fewer than 2K parameters, K gradients reach the whole one by chance. Gradients at several
    shifted parameter vectors, joined end to end, are long enough, and the coefficients of a ratio
    are the same at all of them. A composite's are not: it is sought in partitions into two parts.
    ``determined`` is False if even two parts are too many for the parameters.
    """
    joined = joined_partitions(screening.reseeded(screening.mixed(42)), micro_batch, _PARTITIONS)
    many = kind_of(joined.splits, screening.tolerance)
    if many.kind != "interacting":
        return many
    half = screening.probe.count // 2
    halves = _measured(screening.reseeded(screening.mixed(43)), [None], half, _PARTITIONS)
    if not all(split.determined for split in halves.splits):
        return Structure("interacting", determined=many.determined)
    found = kind_of(halves.splits, screening.tolerance)
    kind: Kind = "composite" if found.kind in ("composite", "ratio") else "interacting"
    return Structure(kind, residual=found.residual)


def joined_partitions(screening: Screening, micro_batch: int, partitions: int) -> Joined:
    """Measure partitions at as many parameter vectors as make the gradients long enough."""
    parts = screening.probe.count // micro_batch
    points = min(_MOST_POINTS, max(1, math.ceil((2 * parts + 2) / screening.probe.parameters)))
    shifts = [None, *(screening.mixed(41, k) for k in range(1, points))]
    return _measured(screening, shifts, micro_batch, partitions)


def weights_move(screening: Screening, weights: Floats, micro_batch: int) -> bool:
    """Whether weights per example, found at one parameter vector, fail at another.

    A ratio divides by something free of the parameters. log(1 + mean) has weights per example
    too, 1 + l_i, but they move with the parameters: it is a composite.
    """
    probe = screening.probe
    if probe.parameters < 2 * (probe.count // micro_batch):
        return False  # the weights were found at several parameter vectors at once
    elsewhere = _measured(screening, [screening.mixed(44)], micro_batch, 3)
    expected = weights[elsewhere.members].sum(axis=2)
    return not np.allclose(elsewhere.coefficients, expected, rtol=_SAME_WEIGHT)


def _measured(
    screening: Screening, shifts: Sequence[int | None], size: int, partitions: int
) -> Joined:
    """Measure partitions into equal parts at all shifts of the parameters (None: as they are)."""
    probe = screening.probe
    probes = [probe if shift is None else probe.shifted(_SHIFT, shift) for shift in shifts]
    splits, minibatches, members = [], [], []
    everyone = np.arange(probe.count - probe.count % size)
    for p in range(partitions):
        own = screening.mixed(p)
        places = partition(len(everyone), size, np.random.default_rng(own))
        wholes, parts = [], []
        for moved in probes:
            wholes.append(moved.gradient(everyone, own, screening.randomness).gradient)
            measured = screening.measured_parts(places, own, moved)
            parts.append(measured.gradients)
        minibatches += measured.minibatches
        members.append(places)
        numbers = len(probes) * probe.parameters
        splits.append(split_of(np.concatenate(wholes), np.concatenate(parts, axis=1), {}, numbers))
    return Joined(tuple(splits), tuple(minibatches), np.array(members))

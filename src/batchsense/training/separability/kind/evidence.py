"""Measure many random partitions of a minibatch, at one or several parameter vectors."""

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
from batchsense.training.separability.kind.structure import Split, split_of
from batchsense.training.separability.probe.screening import Screening, partition

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


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What P random partitions into K parts showed."""

    screening: Screening
    candidates: Mapping[str, Normaliser]
    splits: tuple[Split, ...]  #: One per partition.
    #: mean_k g_k − G, and G − Σ g_k; shape (partitions, numbers).
    gaps: Floats
    sum_gaps: Floats
    #: g_k; empty where that would be too large to keep; shape (partitions, parts, numbers).
    parts: Floats
    #: G: the same in all rows unless random numbers or the order of the examples enter; shape
    #: (partitions, numbers).
    wholes: Floats
    #: G − Σ (w_k / W) g_k, kept only where statistics must choose; shape (partitions, numbers).
    candidate_gaps: Mapping[str, Floats]
    noise: float  #: Root mean square of |g_k − mean_k g_k|.
    minibatches: tuple[Any, ...]  #: The collated parts, in order of partitions.
    members: Places  #: Which examples were in which part; shape (partitions, parts, micro_batch).

    @property
    def micro_batch(self) -> int:
        """Examples per part."""
        return int(self.members.shape[2])

    @property
    def presence(self) -> Floats:
        """Which examples were in which part, of shape (partitions, parts, examples)."""
        return presence(self.members)

    @property
    def one_partition(self) -> bool:
        """Whether all partitions are the same: there is one into parts of one example."""
        return self.micro_batch == 1

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


def presence(members: Places) -> Floats:
    """Which examples were in which part, as an array of shape (partitions, parts, examples)."""
    present = np.zeros((*members.shape[:2], int(members.max()) + 1))
    np.put_along_axis(present, members, 1.0, axis=2)
    return present


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


def joined_partitions(screening: Screening, micro_batch: int, partitions: int) -> Joined:
    """Measure partitions at as many parameter vectors as make the gradients long enough."""
    parts = screening.probe.count // micro_batch
    points = min(_MOST_POINTS, max(1, math.ceil((2 * parts + 2) / screening.probe.parameters)))
    shifts = [None, *(screening.mixed(41, k) for k in range(1, points))]
    return measured_at(screening, shifts, micro_batch, partitions)


def measured_at(
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

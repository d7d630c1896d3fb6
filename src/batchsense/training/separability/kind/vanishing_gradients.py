"""Decide the kind of a loss whose gradient is too short for its parts to be independent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from batchsense.arrays import Floats, Places
from batchsense.training.separability.kind.screening import (
    Screening,
    measured_parts,
    mixed,
    partition,
)
from batchsense.training.separability.kind.structure import (
    Kind,
    Split,
    Structure,
    kind_of,
    split_of,
)
from batchsense.training.separability.probe.probe import GradientProbe

_SHIFT = 0.3
_SAME_WEIGHT = 1e-3
_MOST_POINTS = 24
_PARTITIONS = 6


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """Partitions measured at one or several parameter vectors, gradients joined end to end.

    Attributes
    ----------
    splits : tuple of Split
        One per partition.
    minibatches : tuple
        The collated parts.
    members : array of shape (partitions, parts, micro_batch)
        Which examples were in which part.
    """

    splits: tuple[Split, ...]
    minibatches: tuple[Any, ...]
    members: Places

    @property
    def coefficients(self) -> Floats:
        """What combines the parts, of shape (partitions, parts)."""
        return np.array([split.coefficients for split in self.splits])


def settled_kind(
    probe: GradientProbe, screening: Screening, micro_batch: int, seed: int
) -> Structure:
    """Decide between ratio, composite and interacting with more numbers per part.

    With fewer than 2K parameters, K gradients reach the whole one by chance. Gradients at several
    shifted parameter vectors, joined end to end, are long enough, and the coefficients of a ratio
    are the same at all of them. A composite's are not: it is sought in partitions into two parts.
    ``determined`` is False if even two parts are too many for the parameters.
    """
    joined = joined_partitions(probe, screening, micro_batch, _PARTITIONS, mixed(seed, 42))
    many = kind_of(joined.splits, screening.tolerance)
    if many.kind != "interacting":
        return many
    halves = _measured([probe], screening, probe.count // 2, _PARTITIONS, mixed(seed, 43))
    if not all(split.determined for split in halves.splits):
        return Structure("interacting", determined=many.determined)
    found = kind_of(halves.splits, screening.tolerance)
    kind: Kind = "composite" if found.kind in ("composite", "ratio") else "interacting"
    return Structure(kind, residual=found.residual)


def joined_partitions(
    probe: GradientProbe, screening: Screening, micro_batch: int, partitions: int, seed: int
) -> Joined:
    """Measure partitions at as many parameter vectors as make the gradients long enough."""
    parts = probe.count // micro_batch
    points = min(_MOST_POINTS, max(1, math.ceil((2 * parts + 2) / probe.parameters)))
    probes = [probe, *(probe.shifted(_SHIFT, mixed(seed, 41, k)) for k in range(1, points))]
    return _measured(probes, screening, micro_batch, partitions, seed)


def weights_move(
    probe: GradientProbe, screening: Screening, weights: Floats, micro_batch: int, seed: int
) -> bool:
    """Whether weights per example, found at one parameter vector, fail at another.

    A ratio divides by something free of the parameters. log(1 + mean) has weights per example
    too, 1 + l_i, but they move with the parameters: it is a composite.
    """
    if probe.parameters < 2 * (probe.count // micro_batch):
        return False  # the weights were found at several parameter vectors at once
    elsewhere = _measured([probe.shifted(_SHIFT, mixed(seed, 44))], screening, micro_batch, 3, seed)
    expected = weights[elsewhere.members].sum(axis=2)
    return not np.allclose(elsewhere.coefficients, expected, rtol=_SAME_WEIGHT)


def _measured(
    probes: list[GradientProbe], screening: Screening, size: int, partitions: int, seed: int
) -> Joined:
    """Measure partitions into equal parts at all parameter vectors and join the gradients."""
    splits, minibatches, members = [], [], []
    everyone = np.arange(probes[0].count - probes[0].count % size)
    for p in range(partitions):
        own = mixed(seed, p)
        places = partition(len(everyone), size, np.random.default_rng(own))
        wholes, parts = [], []
        for probe in probes:
            wholes.append(probe.gradient(everyone, own, screening.randomness).gradient)
            measured = measured_parts(probe, places, own, screening.randomness)
            parts.append(np.array([part.gradient for part in measured]))
        minibatches += [part.minibatch for part in measured]
        members.append(places)
        numbers = sum(probe.parameters for probe in probes)
        splits.append(split_of(np.concatenate(wholes), np.concatenate(parts, axis=1), {}, numbers))
    return Joined(tuple(splits), tuple(minibatches), np.array(members))

"""Find out what a ratio divides by, from the coefficients of its parts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from batchsense.arrays import Floats, Places
from batchsense.errors import DataError
from batchsense.training.separability.kind.evidence import Evidence
from batchsense.training.separability.kind.normalisers import Normaliser, class_counts, weighed
from batchsense.training.separability.kind.screening import Screening, mixed
from batchsense.training.separability.kind.structure import Structure, additive_weights
from batchsense.training.separability.kind.vanishing_gradients import (
    Joined,
    joined_partitions,
    weights_move,
)
from batchsense.training.separability.preparation import Opened
from batchsense.training.separability.report import FoundNormaliser
from batchsense.training.workload.minibatches import count_examples, named_tensors

_SHOWN = 6
_SPARE = 4
_SAME_LAW = 1e-6


def named_ratio(
    structure: Structure,
    first: Opened,
    evidence: Evidence,
    candidates: Mapping[str, Normaliser],
    micro_batch: int,
    seed: int,
) -> tuple[Structure, FoundNormaliser | None]:
    """Name what a ratio divides by; a ratio whose weights move with the parameters is none.

    Parameters
    ----------
    structure : Structure
        Of any kind; only a ratio is looked into.
    first : Opened
        The probe and its screening.
    evidence : Evidence
        The partitions.
    candidates : mapping
        What was tried.
    micro_batch : int
        Examples per part.
    seed : int
        Seed of further partitions.

    Returns
    -------
    structure : Structure
        The same, or a composite.
    normaliser : FoundNormaliser or None
        A candidate that fits; else weights per class; else weights per example.
    """
    name = structure.normaliser
    if structure.kind != "ratio":
        return structure, None
    if name is not None and name in candidates:
        return structure, _candidate(structure, candidates, evidence, first.screening)
    if name is not None:
        return structure, _power(name, first, evidence, micro_batch, seed)
    probe, screening = first.probe, first.screening
    parts = probe.count // micro_batch
    wanted = math.ceil(probe.count / (parts - 1)) + _SPARE
    joined = joined_partitions(probe, screening, micro_batch, wanted, mixed(seed, 45))
    loose = math.sqrt(screening.tolerance)
    if found := _per_class(joined, loose):
        return structure, found
    weights = weights_per_example(joined.coefficients, joined.members, loose)
    if weights is None:
        unknown = "unknown: it is not a sum over the examples"
        return structure, FoundNormaliser(unknown, None, additive=False)
    if weights_move(probe, screening, weights, micro_batch, seed):
        return Structure("composite", residual=structure.residual), None
    typical = float(np.median(np.abs(weights)))
    return structure, FoundNormaliser(
        f"weight per example ({weights.min() / typical:.3g} to {weights.max() / typical:.3g} "
        "times the median) that no count in the minibatch gives",
        None,
    )


def _candidate(
    structure: Structure,
    candidates: Mapping[str, Normaliser],
    evidence: Evidence,
    screening: Screening,
) -> FoundNormaliser:
    """Describe a candidate that fits, perhaps with something added to it."""
    name, e = str(structure.normaliser), structure.offset
    normaliser = candidates[name]
    if e:
        return FoundNormaliser(f"{name} + {e:.3g}", lambda b: normaliser(b) + e, additive=False)
    additive = _is_additive(normaliser, evidence, screening.whole.minibatch)
    return FoundNormaliser(name, normaliser, additive, structure.also)


def _power(
    name: str, first: Opened, evidence: Evidence, micro_batch: int, seed: int
) -> FoundNormaliser:
    """Describe w = |S|^p or |S| + e, whichever micro-batches of twice the size confirm."""
    probe, screening = first.probe, first.screening
    ratio = float(np.mean([split.coefficients.mean() for split in evidence.splits]))
    m, n = micro_batch, probe.count
    double = joined_partitions(probe, screening, 2 * m, 2, mixed(seed, 46))
    whole = n - n % (2 * m)
    counter = example_counter(
        screening.whole.minibatch,
        [part.minibatch for part in first.parts],
        [n, *map(len, first.places)],
    )
    if counter.weight is None or ratio <= 0:
        return FoundNormaliser(name, None, additive=False)
    count = counter.weight
    power = math.log(ratio) / math.log(m / n)
    if np.allclose(double.coefficients, (2 * m / whole) ** power, rtol=_SAME_LAW):
        return FoundNormaliser(f"examples^{power:.4g}", lambda b: count(b) ** power, additive=False)
    e = (ratio * n - m) / (1 - ratio)
    if np.allclose(double.coefficients, (2 * m + e) / (whole + e), rtol=_SAME_LAW):
        return FoundNormaliser(f"examples {e:+.4g}", lambda b: count(b) + e, additive=False)
    return FoundNormaliser(name, None, additive=False)


def _is_additive(normaliser: Normaliser, evidence: Evidence, whole: Any) -> bool:
    """Whether the weights of the parts add up to that of the whole, in every partition."""
    weights = np.array([weighed(normaliser, part) for part in evidence.minibatches])
    totals = weights.reshape(len(evidence.splits), -1).sum(axis=1)
    return bool(np.allclose(totals, weighed(normaliser, whole), rtol=1e-9))


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
        relative = {value: float(w / unit) for value, w in zip(values, weights, strict=True)}
        shown = ", ".join(f"{value}: {w:.4g}" for value, w in list(relative.items())[:_SHOWN])
        more = ", …" if len(relative) > _SHOWN else ""
        return FoundNormaliser(
            f"class weights of {name} {{{shown}{more}}}",
            _weights_of_classes(name, relative),
            class_weights=relative,
        )
    return None


def example_counter(whole: Any, parts: Sequence[Any], sizes: Sequence[int]) -> FoundNormaliser:
    """Describe the normaliser of a mean; it has a function if a minibatch tells its size.

    Parameters
    ----------
    whole : object
        The collated minibatch of all examples.
    parts : sequence
        The collated parts.
    sizes : sequence of int
        How many examples the whole and the parts have.
    """
    try:
        told = [count_examples(minibatch) for minibatch in (whole, *parts)]
    except DataError:
        told = []
    if told != list(sizes):
        return FoundNormaliser("examples", None)
    return FoundNormaliser("examples", lambda minibatch: float(count_examples(minibatch)))


def weights_per_example(coefficients: Floats, members: Places, loose: float) -> Floats | None:
    """Explain the coefficients by one weight per example; None if none explain them all.

    Parameters
    ----------
    coefficients : array of shape (partitions, parts)
        What combines the parts.
    members : array of shape (partitions, parts, micro_batch)
        Which examples were in which part.
    loose : float
        Relative precision of the coefficients.
    """
    count = int(members.max()) + 1
    present = np.zeros((*members.shape[:2], count))
    np.put_along_axis(present, members, 1.0, axis=2)
    return additive_weights(coefficients, present, loose)


def _weights_of_classes(name: str, relative: Mapping[int, float]) -> Normaliser:
    """Give the function that sums the discovered class weights of a minibatch."""

    def weight(minibatch: Any) -> float:
        classes = dict(named_tensors(minibatch))[name]
        return float(sum(w * float((classes == value).sum()) for value, w in relative.items()))

    return weight

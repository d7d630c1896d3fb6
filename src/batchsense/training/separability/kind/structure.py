"""What kind of thing a loss is, read from the gradients of a whole and of its parts.

Numbers only: G is the gradient over n examples, g_1 … g_K those over the parts of a partition.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchsense.arrays import Floats
from batchsense.training.separability.report import Kind

# A guard in a denominator is one number: the offsets that partitions give agree to this.
_SAME_OFFSET = 1e-3
#: Singular values below this, relative to the largest, are rounding: unit columns in float64 leave
#: about 1e-15, and gradients this nearly parallel determine no coefficients.
LEAST_SINGULAR_VALUE = 1e-10


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """One partition, as far as the kind needs it."""

    #: |G − Σ (n_k/n) g_k| / |G| and |G − Σ g_k| / |G|.
    mean_gap: float
    sum_gap: float
    scale: float  #: The multiple of G that is nearest to Σ (n_k/n) g_k.
    gaps: Mapping[str, float]  #: For every candidate normaliser w: |G − Σ (w_k / W) g_k| / |G|.
    #: For every candidate whose w_k differ: the e that fits G = Σ (w_k + e) / (W + e) g_k best, and
    #: the gap that it leaves. A guard such as ``+ 1e-8`` is such an e.
    offsets: Mapping[str, tuple[float, float]]
    #: The least-squares c in G ≈ Σ c_k g_k; NaN where the gradients do not determine them; shape
    #: (parts,).
    coefficients: Floats
    residual: float  #: |G − Σ c_k g_k| / |G|.
    determined: bool  #: Whether the g_k are independent and long enough for c to mean anything.


@dataclass(frozen=True, slots=True, eq=False)
class Structure:
    """The kind of a loss."""

    kind: Kind  #: mean, sum, ratio, composite, interacting or undecided.
    #: The candidate that a ratio divides by, or a description of what was discovered.
    normaliser: str | None = None
    offset: float = 0.0  #: What is added to that candidate.
    also: tuple[str, ...] = ()  #: Other candidates that fit as well on these examples.
    #: The largest least-squares residual; None where it was not needed or not determined.
    residual: float | None = None
    #: False if "interacting" only means that the gradients are too short to tell.
    determined: bool = True


def split_of(
    whole: NDArray[Any],
    parts: NDArray[Any],
    weights: Mapping[str, tuple[Floats, float]],
    parameters: int,
    sizes: Sequence[int] | None = None,
) -> Split:
    """Compare the gradients of the parts of one partition with that of the whole.

    Shapes: ``whole``, ``parts`` (numbers,). Parts of unequal ``sizes`` are averaged by size.
    """
    size = float(np.linalg.norm(whole))
    coefficients, residual, independent = _least_squares(whole, parts)
    average = np.average(parts, axis=0, weights=sizes)
    return Split(
        mean_gap=float(np.linalg.norm(whole - average)) / size,
        sum_gap=float(np.linalg.norm(whole - parts.sum(axis=0))) / size,
        scale=float(average @ whole) / float(whole @ whole),
        gaps={
            name: float(np.linalg.norm(whole - (w / total) @ parts)) / size
            for name, (w, total) in weights.items()
        },
        offsets={
            name: _offset(whole, parts, w, total)
            for name, (w, total) in weights.items()
            if np.ptp(w) > 0
        },
        coefficients=coefficients,
        residual=residual / size,
        determined=independent and parameters >= 2 * len(parts),
    )


def kind_of(splits: Sequence[Split], tolerance: float) -> Structure:
    """Decide the kind from one or more partitions.

    Rules, first match wins; "zero" means below ``tolerance``: the mean gap is zero – mean; the sum
    gap – sum; the gap of a candidate, perhaps with an offset – ratio, and the candidate is the
    normaliser; the least-squares residual is zero and the coefficients of each partition sum to 1
    or depend only on its sizes – ratio with a normaliser to be discovered; the residual is zero –
    composite; else interacting.
    """
    if max(split.mean_gap for split in splits) < tolerance:
        return Structure("mean")
    if max(split.sum_gap for split in splits) < tolerance:
        return Structure("sum")
    fitting = [
        name
        for name in splits[0].gaps
        if max(split.gaps.get(name, math.inf) for split in splits) < tolerance
    ]
    if fitting:
        return Structure("ratio", fitting[0], also=tuple(fitting[1:]))
    if guarded := _guarded(splits, tolerance):
        return Structure("ratio", *guarded)
    residual = max(split.residual for split in splits)
    if not all(split.determined for split in splits):
        return Structure("interacting", determined=residual > tolerance, residual=residual)
    if residual >= tolerance:
        return Structure("interacting", residual=residual)
    coefficients = np.array([split.coefficients for split in splits])
    loose = math.sqrt(tolerance)
    if np.ptp(coefficients) < loose * float(np.abs(coefficients).mean()):
        return Structure("ratio", "a function of the number of examples alone", residual=residual)
    if np.abs(coefficients.sum(axis=1) - 1).max() < loose:
        return Structure("ratio", None, residual=residual)
    return Structure("composite", residual=residual)


def additive_weights(
    coefficients: NDArray[Any], features: NDArray[Any], tolerance: float
) -> Floats | None:
    """Explain the coefficients of all partitions by weights of what the parts contain.

    Shapes: ``coefficients`` (partitions, parts); ``features`` (partitions, parts, features); the
    result (features,).
    """
    design = np.asarray(features, dtype=float).reshape(-1, np.shape(features)[-1])
    response = np.asarray(coefficients, dtype=float).reshape(-1)
    partitions, parts = np.shape(coefficients)
    if partitions * (parts - 1) + 1 <= design.shape[1]:  # each partition sums to 1
        return None
    weights, *_ = np.linalg.lstsq(design, response, rcond=None)
    missed = float(np.abs(design @ weights - response).max())
    return weights if missed < tolerance * float(np.abs(response).mean()) else None


def _offset(whole: Floats, parts: Floats, w: Floats, total: float) -> tuple[float, float]:
    """Fit e in (W + e) G = Σ (w_k + e) g_k; the gap that is left comes second."""
    slope = whole - parts.sum(axis=0)
    squared = float(slope @ slope)
    e = float(slope @ (w @ parts - total * whole)) / squared if squared > 0 else 0.0
    if total + e == 0:
        return e, math.inf
    gap = whole - ((w + e) / (total + e)) @ parts
    return e, float(np.linalg.norm(gap)) / float(np.linalg.norm(whole))


def _guarded(splits: Sequence[Split], tolerance: float) -> tuple[str, float] | None:
    for name in splits[0].offsets:
        found = [split.offsets[name] for split in splits if name in split.offsets]
        if max(gap for _, gap in found) < tolerance:
            offsets = np.array([e for e, _ in found])
            if np.ptp(offsets) <= _SAME_OFFSET * abs(float(offsets.mean())):
                return name, float(np.median(offsets))
    return None


def _least_squares(whole: Floats, parts: Floats) -> tuple[Floats, float, bool]:
    """Fit G by the g_k; a part without a gradient gets the coefficient 0."""
    sizes = np.linalg.norm(parts, axis=1)
    present = sizes > 0
    coefficients = np.zeros(len(parts))
    if not present.any():
        return coefficients, float(np.linalg.norm(whole)), False
    columns = (parts[present] / sizes[present, None]).T
    fitted, _, rank, _ = np.linalg.lstsq(columns, whole, rcond=LEAST_SINGULAR_VALUE)
    independent = bool(rank == np.count_nonzero(present))
    coefficients[present] = fitted / sizes[present] if independent else np.nan
    return coefficients, float(np.linalg.norm(whole - columns @ fitted)), independent

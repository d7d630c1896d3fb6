"""Neighbour mixing as users of single cells know it: LISI and kBET beside their chance levels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from scipy import special

from batchsense.arrays import Floats, Integers, Places
from batchsense.experiments.design import Design
from batchsense.experiments.diagnosis.clustering import (
    MOST_LOOKED_UP,
    drawn,
    exchange,
    judged_labels,
    within,
)
from batchsense.experiments.diagnosis.neighbourhoods.neighbours import nearest
from batchsense.experiments.sheets.nuisances import parts_of
from batchsense.progress import Progress, silent

Measure = Literal["iLISI", "cLISI", "kBET"]

#: As many neighbours as the entropy of the weights stands for (Korsunsky 2019).
PERPLEXITY = 30
#: Tolerance and steps of the search for the width, those of t-SNE, so that numbers equal theirs.
_TOLERANCE, _STEPS = 1e-5, 50
#: Size of a neighbourhood of kBET: a quarter of the mean batch within these (Luecken 2022).
_LEAST_TESTED, _MOST_TESTED = 10, 70
#: Level at which kBET rejects a neighbourhood.
ALPHA = 0.05
#: With fewer specimens a neighbourhood is the table.
_FEWEST = 12


@dataclass(frozen=True, slots=True)
class Mixing:
    """How mixed the labels of a factor are among the neighbours of a specimen."""

    name: str  #: The batch column or a kept factor
    #: LISI: median effective number of labels in a neighbourhood, of the batches (iLISI) or of what
    #: is kept (cLISI). kBET: share of neighbourhoods whose batches differ from those of all.
    measure: Measure
    value: float  #: What the specimens show
    #: Mean and 95 % interval over labels permuted within the other factors, and how often these are
    #: mixed as little: (1 + hits) / (1 + permutations). None where they cannot be permuted.
    by_chance: float | None
    low: float | None
    high: float | None
    p_value: float | None
    #: Perplexity of LISI; specimens of a neighbourhood of kBET, itself among them.
    neighbours: float
    reason: str | None  #: Why there is no chance level


def lisi(
    points: Floats, codes: Integers, perplexity: float = PERPLEXITY, neighbours: int | None = None
) -> Floats:
    r"""Local inverse Simpson's index of each point: how many labels its neighbourhood holds.

    With weights :math:`p_j \propto e^{-\beta d_j}` over the nearest others, β such that their
    entropy is log(perplexity), :math:`1 / \sum_l (\sum_{j \in l} p_j)^2`. ``points`` has shape
    (specimens, axes), ``codes`` (specimens,); distances are not squared, as in the published
    programs. These look at 3·perplexity neighbours (harmonypy, and here unless told otherwise) or
    one fewer (scib-metrics).

    Source: Korsunsky et al. (2019), Nat. Methods 16, 1289; van der Maaten and Hinton (2008), J.
    Mach. Learn. Res. 9, 2579 (the search for β).
    """
    count = int(3 * perplexity) if neighbours is None else neighbours
    distances, found = nearest(points, np.arange(len(points)), count)
    return _inverse_simpson(codes[found], neighbour_weights(distances, perplexity))


def kbet(points: Floats, codes: Integers, neighbours: int) -> Floats:
    """p-value of the χ² test of each neighbourhood, itself included, against all labels.

    Source: Büttner et al. (2019), Nat. Methods 16, 43.
    """
    everyone = np.arange(len(points))
    _, found = nearest(points, everyone, neighbours - 1)
    return _chi_square(codes[np.column_stack([everyone, found])], np.bincount(codes))


def neighbour_weights(distances: Floats, perplexity: float) -> Floats:
    """Weights of neighbours at these distances whose entropy is log(perplexity), by bisection."""
    beyond = distances - distances.min(axis=1, keepdims=True)  # the same weights, none underflows
    beta = np.ones(len(distances))
    low, high = np.full(len(beta), -np.inf), np.full(len(beta), np.inf)
    for step in range(_STEPS + 1):
        raw = np.exp(-beyond * beta[:, None])
        total = raw.sum(axis=1)
        entropy = np.log(total) + beta * (beyond * raw).sum(axis=1) / total
        excess = entropy - np.log(perplexity)
        searching = np.abs(excess) >= _TOLERANCE
        if step == _STEPS or not searching.any():
            break
        wide = excess > 0
        low = np.where(searching & wide, beta, low)
        high = np.where(searching & ~wide, beta, high)
        up = np.where(np.isinf(high), 2 * beta, (beta + high) / 2)
        down = np.where(np.isinf(low), beta / 2, (beta + low) / 2)
        beta = np.where(searching, np.where(wide, up, down), beta)
    return np.asarray(raw / total[:, None])


def mixings(
    coordinates: Floats,
    design: Design,
    rng: np.random.Generator,
    permutations: int = 200,
    progress: Progress = silent,
) -> tuple[Mixing, ...]:
    """Mixing of batch columns with labels (iLISI, kBET) and of what is kept of such (cLISI).

    Coordinates have shape (specimens, axes). Labels are permuted within the other factors, as in
    :func:`~batchsense.experiments.diagnosis.clusterings`: with what is kept unevenly spread over
    the batches, even batches that do nothing are not mixed evenly, and the chance level says how
    far. Of many specimens the neighbours of 2,000 are looked at. With fewer than 91 the perplexity
    is a third of the others; with fewer than 12, or without labels, there is no answer.
    """
    points, labels = judged_labels(coordinates, design)
    if len(points) < _FEWEST or not labels:
        return ()
    batches = {one.name for one in parts_of(design.batches)}
    perplexity = min(PERPLEXITY, (len(points) - 1) // 3)
    looked_up = drawn(len(points), MOST_LOOKED_UP, rng)
    sizes = [
        int(np.clip(len(points) // len(one.levels) // 4, _LEAST_TESTED, _MOST_TESTED))
        for one in labels
    ]
    count = 3 * perplexity
    distances, found = nearest(points, looked_up, max(count, max(sizes) - 1))
    weights = neighbour_weights(distances[:, :count], perplexity)

    def median_lisi(codes: Integers) -> float:
        return float(np.median(_inverse_simpson(codes[found[:, :count]], weights)))

    def rejected(codes: Integers, size: int) -> float:
        tested = np.column_stack([looked_up, found[:, : size - 1]])
        return float((_chi_square(codes[tested], np.bincount(codes)) < ALPHA).mean())

    result = []
    for place, (label, size) in enumerate(zip(labels, sizes, strict=True)):
        strata, reason = exchange(label, [one for one in labels if one is not label])
        orders = list(within(strata, rng, 0 if reason else permutations))
        kinds: list[tuple[Measure, Callable[[Integers], float], int, int]] = [
            ("iLISI" if label.name in batches else "cLISI", median_lisi, perplexity, -1)
        ]
        if label.name in batches:
            kinds.append(("kBET", partial(rejected, size=size), size, 1))
        for measure, statistic, neighbours, side in kinds:
            chance = _chance(statistic, label.codes, orders, side)
            result.append(Mixing(label.name, measure, *chance, neighbours, reason))
        progress("comparing neighbours", place + 1, len(labels))
    return tuple(result)


def _chance(
    statistic: Callable[[Integers], float], codes: Integers, orders: Sequence[Places], side: int
) -> tuple[float, float | None, float | None, float | None, float | None]:
    """The value, then mean, interval and p-value of permuted labels."""
    value = statistic(codes)
    if not orders:
        return value, None, None, None, None
    null = np.array([statistic(codes[order]) for order in orders])
    low, high = np.quantile(null, [0.025, 0.975])
    # Equal arrangements must count as hits despite round-off.
    hits = (side * (null - value) >= -1e-9 * abs(value)).sum()
    p = (1 + int(hits)) / (1 + len(null))
    return value, float(null.mean()), float(low), float(high), float(p)


def _inverse_simpson(codes: Integers, weights: Floats) -> Floats:
    points, levels = len(codes), int(codes.max()) + 1
    cells = codes + levels * np.arange(points)[:, None]
    sums = np.bincount(cells.ravel(), weights.ravel(), minlength=points * levels)
    return np.asarray(1.0 / (sums.reshape(points, levels) ** 2).sum(axis=1))


def _chi_square(codes: Integers, totals: Integers) -> Floats:
    points, size = codes.shape
    levels = len(totals)
    cells = codes + levels * np.arange(points)[:, None]
    counts = np.bincount(cells.ravel(), minlength=points * levels).reshape(points, levels)
    expected = size * totals / totals.sum()
    statistic = ((counts - expected) ** 2 / expected).sum(axis=1)
    return np.asarray(special.chdtrc(levels - 1, statistic))

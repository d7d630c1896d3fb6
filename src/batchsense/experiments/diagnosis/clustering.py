"""How near specimens of one label lie to one another: labels permuted within the other factors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from batchsense.arrays import Floats, Integers, Places
from batchsense.experiments.design import Design
from batchsense.experiments.diagnosis.neighbourhoods.neighbours import nearest
from batchsense.experiments.projections import basis_beside
from batchsense.experiments.sheets.nuisances import parts_of
from batchsense.experiments.tables.columns import Factor
from batchsense.progress import Progress, silent
from batchsense.variation.linear import factor

#: With more specimens than this, silhouettes are computed for so many drawn ones: every permutation
#: goes through all their distances. The standard error of the mean is at most 1/√400 = 0.05.
MOST_COMPARED = 400
#: With more specimens than this, neighbours among all are looked up for so many drawn ones, which
#: tells their share to a standard error of 1 %.
MOST_LOOKED_UP = 2000
#: So many nearest neighbours are looked at. Chosen, not tuned: a batch of six can fill them.
NEIGHBOURS = 5
#: With fewer different arrangements of the labels no p-value could fall below 0.05.
FEWEST_ARRANGEMENTS = 20


@dataclass(frozen=True, slots=True)
class Clustering:
    """How specimens lie by one label."""

    name: str  #: The batch column or a kept factor
    #: Mean silhouette, -1 to 1: positive where specimens lie nearer to their own label than to the
    #: nearest other one. None where fewer than two labels have specimens to compare.
    silhouette: float | None
    #: Part of the nearest neighbours that have the specimen's own label, and its value for labels
    #: laid out at random, Σn_b(n_b - 1)/(n(n - 1)).
    neighbours: float
    neighbours_by_chance: float
    #: Distance R²: share of the squared distances that lies between labels, alone and beyond the
    #: other factors.
    alone: float
    partial: float
    #: Mean of ``partial`` over the permutations: what as many labels explain by chance. Compare
    #: labels by what they explain beyond that. None where nothing can be permuted.
    partial_by_chance: float | None
    #: (1 + permutations with at least this value) / (1 + permutations), labels permuted within the
    #: other factors; None where that cannot be done.
    p_silhouette: float | None
    p_neighbours: float | None
    p_distance: float | None
    arrangements: float  #: Number of different ways to permute, infinite where beyond counting
    reason: str | None  #: Why the p-values are None


def clusterings(
    coordinates: Floats,
    design: Design,
    rng: np.random.Generator,
    permutations: int = 200,
    progress: Progress = silent,
) -> tuple[Clustering, ...]:
    """Measure how specimens lie by batch, then by each categorical kept factor.

    Labels are permuted among the specimens that agree in all other categorical factors, so a batch
    that happens to hold more of a treatment is not taken for a cluster of its own. Numeric kept
    factors are taken out of the coordinates beforehand. Where the labels cannot move (all specimens
    of a level in one batch), or in fewer than 20 ways, nothing can be told and the reason says so.

    Coordinates have shape (specimens, axes); distances between these points are judged. Of many
    specimens the generator draws 400 for silhouettes and 2,000 whose neighbours are looked up.

    Source: Anderson (2001), Austral Ecology 26, 32 (distance R²); Rousseeuw (1987), J. Comput.
    Appl. Math. 20, 53 (silhouette); Büttner et al. (2019), Nat. Methods 16, 43 (neighbours).
    """
    points, labels = judged_labels(coordinates, design)
    looked_up = drawn(len(points), MOST_LOOKED_UP, rng)
    near = looked_up, nearest(points, looked_up, NEIGHBOURS)[1]
    chosen = drawn(len(points), MOST_COMPARED, rng)
    distances = _distances(points[chosen])
    found = []
    for place, label in enumerate(labels):
        others = [one for one in labels if one is not label]
        judged = _Judged(points, label, others, near, chosen, distances)
        found.append(judged.clustering(rng, permutations))
        progress("comparing distances", place + 1, len(labels))
    return tuple(found)


class _Judged:
    """The three statistics of one label, for its real and its permuted codes."""

    def __init__(
        self,
        points: Floats,
        label: Factor,
        others: Sequence[Factor],
        near: tuple[Places, Places],
        chosen: Places,
        distances: Floats,
    ) -> None:
        self.label, self.near, self.chosen, self.distances = label, near, chosen, distances
        self.strata = _strata(others, len(points))
        constant = np.ones((len(points), 1))
        given = factor(np.hstack([constant, *(one.design()[0] for one in others)])).basis
        columns = label.design()[0]
        self.basis = basis_beside(columns, given)
        self.centred = points - points.mean(axis=0)
        self.total = float((self.centred**2).sum())
        alone = factor(np.hstack([constant, columns])).basis[:, 1:]
        self.alone = float(((alone.T @ self.centred) ** 2).sum()) / self.total

    def distance(self, order: Places) -> float:
        # The other factors are the same for every permutation within them, so the columns of the
        # label given the others are those of the data, moved.
        return float(((self.basis[order].T @ self.centred) ** 2).sum()) / self.total

    def neighbours(self, order: Places) -> float:
        codes = self.label.codes[order]
        looked_up, found = self.near
        return float((codes[found] == codes[looked_up, None]).mean())

    def silhouette(self, order: Places) -> float | None:
        codes = self.label.codes[order][self.chosen]
        present, codes = np.unique(codes, return_inverse=True)
        counts = np.bincount(codes)
        if len(present) < 2 or len(present) == len(codes):
            return None
        rows = np.arange(len(codes))
        sums = self.distances @ np.eye(len(present))[codes]
        own = sums[rows, codes] / np.maximum(counts[codes] - 1, 1)
        means = sums / counts
        means[rows, codes] = np.inf
        other = means.min(axis=1)
        largest = np.maximum(own, other)
        values = np.divide(other - own, largest, out=np.zeros(len(codes)), where=largest > 0)
        return float(np.where(counts[codes] > 1, values, 0.0).mean())

    def clustering(self, rng: np.random.Generator, permutations: int) -> Clustering:
        still = np.arange(len(self.centred))
        observed = [self.distance(still), self.neighbours(still), self.silhouette(still)]
        ways = _arrangements(self.label.codes, self.strata)
        reason = None
        if self.basis.shape[1] == 0 or ways < 2:
            reason = (
                f"no label of {self.label.name} can change places with another one without "
                "changing the other factors as well"
            )
        elif ways < FEWEST_ARRANGEMENTS:
            reason = f"the labels of {self.label.name} can be permuted in {ways:.0f} ways only"
        p_values: list[float | None] = [None, None, None]
        by_chance = None
        if reason is None:
            statistics = (self.distance, self.neighbours, self.silhouette)
            hits, sum_ = np.zeros(3), 0.0
            for order in within(self.strata, rng, permutations):
                for k, statistic in enumerate(statistics):
                    value, real = statistic(order), observed[k]
                    sum_ += value if k == 0 and value is not None else 0.0
                    # Equal statistics of equal arrangements must count as hits despite round-off.
                    hits[k] += value is None or real is None or value >= real - 1e-9 * abs(real)
            p_values = [float(p) for p in (1 + hits) / (1 + permutations)]
            by_chance = sum_ / permutations
            if observed[2] is None:
                p_values[2] = None
        counts, n = self.label.counts, len(still)
        return Clustering(
            name=self.label.name,
            silhouette=observed[2],
            neighbours=float(observed[1] or 0.0),
            neighbours_by_chance=float((counts * (counts - 1)).sum()) / (n * (n - 1)),
            alone=self.alone,
            partial=float(observed[0] or 0.0),
            partial_by_chance=by_chance,
            p_silhouette=p_values[2],
            p_neighbours=p_values[1],
            p_distance=p_values[0],
            arrangements=ways,
            reason=reason,
        )


def exchange(label: Factor, others: Sequence[Factor]) -> tuple[Integers, str | None]:
    """Within which strata the labels may be permuted; and why they cannot, where that is so."""
    strata = _strata(others, len(label.codes))
    ways = _arrangements(label.codes, strata)
    if ways >= FEWEST_ARRANGEMENTS:
        return strata, None
    return strata, f"the labels of {label.name} can be permuted in {ways:.0f} ways only"


def _strata(others: Sequence[Factor], specimens: int) -> Integers:
    codes = np.zeros(specimens, dtype=np.int64)
    for one in others:
        _, codes = np.unique(codes * len(one.levels) + one.codes, return_inverse=True)
    return codes.astype(np.int64)


def within(strata: Integers, rng: np.random.Generator, orders: int) -> Iterator[Places]:
    """Orders of all places that move each only within its stratum."""
    places = np.argsort(strata, kind="stable")
    for _ in range(orders):
        order = np.empty(len(strata), dtype=np.intp)
        order[places] = np.argsort(strata + rng.random(len(strata)))  # one key is sorted soonest
        yield order


def _arrangements(codes: Integers, strata: Integers) -> float:
    logarithm = 0.0
    for stratum in range(int(strata.max()) + 1):
        counts = np.bincount(codes[strata == stratum])
        logarithm += math.lgamma(int(counts.sum()) + 1)
        logarithm -= sum(math.lgamma(int(c) + 1) for c in counts)
    return float(round(math.exp(logarithm))) if logarithm < 34 else math.inf


def judged_labels(coordinates: Floats, design: Design) -> tuple[Floats, list[Factor]]:
    """The points without what numbers explain, and the factors that have labels, batches first."""
    factors = (*parts_of(design.batches), *design.kept)
    labels = [one for one in factors if one.values is None]
    numeric = [one.values for one in factors if one.values is not None]
    if not numeric:
        return coordinates, labels
    model = factor(np.column_stack([np.ones(len(coordinates)), *numeric]))
    return model.residuals(coordinates), labels


def drawn(specimens: int, most: int, rng: np.random.Generator) -> Places:
    """All places, or so many at random."""
    if specimens <= most:
        return np.arange(specimens)
    return np.sort(rng.choice(specimens, most, replace=False))


def _distances(points: Floats) -> Floats:
    squares = (points**2).sum(axis=1)
    between = squares[:, None] + squares - 2 * points @ points.T
    np.fill_diagonal(between, 0.0)
    return np.asarray(np.sqrt(between.clip(min=0.0)))

"""Do specimens cluster by batch or by what is wanted? Principal components, and distances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import special

from batchsense.arrays import Floats
from batchsense.experiments.design import Design
from batchsense.experiments.diagnosis.clustering import Clustering, clusterings
from batchsense.experiments.diagnosis.neighbourhoods.mixing import Mixing, mixings
from batchsense.experiments.diagnosis.products import Products, products_of
from batchsense.experiments.sheets.nuisances import parts_of
from batchsense.experiments.statistics.multiplicity import holm
from batchsense.experiments.tables.columns import Factor
from batchsense.progress import Progress, silent
from batchsense.variation.linear import factor

ClustersBy = Literal["batch", "kept", "both", "neither", "cannot_tell"]

#: Components are taken until they hold this part of the variance, but from 2 to 10 of them. Chosen,
#: not measured: more of them miss less variance and make Holm's correction harder to pass.
_HELD, _FEWEST, _MOST = 0.9, 2, 10
#: A label forms clusters where permuted ones reach its distances less often than the usual 5 %.
_SEEN_P = 0.05


@dataclass(frozen=True, slots=True)
class ComponentScore:
    """One factor and one principal component."""

    component: int  #: Number of the component, from 1
    name: str  #: The factor
    alone: float  #: R² of the component on the factor alone
    #: Partial R²: what the factor explains of what the other factors leave; None where they leave
    #: nothing of it.
    partial: float | None
    #: F statistic of the factor given the others, and its p-value.
    f: float | None
    p_value: float | None
    df: tuple[int, int]  #: Degrees of freedom of F
    #: The p-value corrected for the number of components and factors (Holm 1979).
    holm: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What the first principal components and the distances between specimens go with."""

    explained: Floats  #: (components,): part of the total variance along each component
    coordinates: Floats  #: (specimens, components): the specimens, in units of the observations
    components: tuple[ComponentScore, ...]  #: Component by component, the batches first
    #: For each factor the mean of R² alone over the components, weighted by their variance.
    overall: dict[str, float]
    clusterings: tuple[Clustering, ...]  #: The batches and each categorical kept factor
    #: ``"batch"``, ``"kept"``, ``"both"``, ``"neither"``, or ``"cannot_tell"`` where no permutation
    #: can separate the two.
    clusters_by: ClustersBy
    sentence: str  #: The same in words, with the numbers
    #: iLISI and kBET of the batches, cLISI of each categorical kept factor.
    mixing: tuple[Mixing, ...] = ()


def score(
    observations: Floats | Products,
    design: Design,
    rng: np.random.Generator,
    permutations: int = 200,
    progress: Progress = silent,
) -> Scores | None:
    """Relate the main directions of variation, and the distances in them, to the factors.

    Each of the first principal components (those that hold 90 % of the variance, 2 to 10 of them)
    is regressed on the batches and the kept factors. In the space of these components specimens of
    one batch may lie near one another; whether nearer than chance is judged by permuting the batch
    labels *within* the levels of what is kept, and the reverse: see
    :func:`~batchsense.experiments.diagnosis.clustering.clusterings`.

    Observations are finite, of shape (specimens, features), or their products. None where they
    vary along fewer than two directions.

    Source: Leek et al. (2010), Nat. Rev. Genet. 11, 733; Holm (1979), Scand. J. Stat. 6, 65.
    """
    main = _principal(products_of(observations))
    if main is None:
        return None
    coordinates, explained = main
    batches = parts_of(design.batches)
    factors = (*batches, *design.kept)
    components = _components(coordinates, factors)
    weights = explained / explained.sum()
    overall = {
        one.name: float(
            sum(weights[s.component - 1] * s.alone for s in components if s.name == one.name)
        )
        for one in factors
    }
    found = clusterings(coordinates, design, rng, permutations, progress)
    labelled = sum(one.values is None for one in batches)
    clusters_by, sentence = _judged(found[:labelled], found[labelled:])
    mixing = mixings(coordinates, design, rng, permutations, progress)
    return Scores(explained, coordinates, components, overall, found, clusters_by, sentence, mixing)


def _principal(products: Products) -> tuple[Floats, Floats] | None:
    sizes, coordinates = products.leading(_MOST)
    real = int((sizes > 1e-12 * max(sizes[0], 1e-300)).sum()) if sizes[0] > 0 else 0
    if real < _FEWEST:
        return None
    parts = sizes / products.squares
    enough = int(np.searchsorted(np.cumsum(parts), _HELD) + 1)
    count = min(max(enough, _FEWEST), _MOST, real)
    coordinates = coordinates[:, :count] * products.unit
    # The sign of a component is arbitrary; fix it, so that results repeat.
    largest = np.abs(coordinates).argmax(axis=0)
    coordinates = coordinates * np.sign(coordinates[largest, np.arange(count)])
    return coordinates, parts[:count]


def _components(coordinates: Floats, factors: Sequence[Factor]) -> tuple[ComponentScore, ...]:
    constant = np.ones((len(coordinates), 1))
    columns = [one.design()[0] for one in factors]
    full = factor(np.hstack([constant, *columns]))
    totals = ((coordinates - coordinates.mean(axis=0)) ** 2).sum(axis=0)
    left = full.fit(coordinates).residual_sum_of_squares
    raw: list[ComponentScore] = []
    for place, one in enumerate(factors):
        others = factor(np.hstack([constant, *columns[:place], *columns[place + 1 :]]))
        before = others.fit(coordinates).residual_sum_of_squares
        alone = factor(np.hstack([constant, columns[place]])).fit(coordinates)
        df = (full.rank - others.rank, full.df_residual)
        for j, total in enumerate(totals.tolist()):
            added, rest = max(float(before[j] - left[j]), 0.0), float(left[j])
            r2 = min(max(1.0 - float(alone.residual_sum_of_squares[j]) / total, 0.0), 1.0)
            partial = added / (added + rest) if df[0] and added + rest > 1e-12 * total else None
            testable = partial is not None and df[1] > 0 and rest > 1e-12 * total
            f = (added / df[0]) / (rest / df[1]) if testable else None
            p = None if f is None else float(special.fdtrc(*df, f))
            raw.append(ComponentScore(j + 1, one.name, r2, partial, f, p, df, None))
    corrected = iter(holm([one.p_value for one in raw if one.p_value is not None]).tolist())
    scored = [one if one.p_value is None else replace(one, holm=next(corrected)) for one in raw]
    return tuple(sorted(scored, key=lambda s: s.component))


def _judged(batches: Sequence[Clustering], kept: Sequence[Clustering]) -> tuple[ClustersBy, str]:
    # The permutation test of the distances decides.
    judged = [one for one in batches if one.p_distance is not None]
    if not judged:
        names = " or ".join(one.name for one in batches) or "the batches"
        reason = batches[0].reason if batches else "they are numbers"
        return "cannot_tell", f"Whether specimens cluster by {names} cannot be told: {reason}."
    by_batch = [one for one in judged if (one.p_distance or 0.0) < _SEEN_P]
    first = [one.name for one in by_batch or judged]
    seen = [one for one in kept if one.p_distance is not None and one.p_distance < _SEEN_P]
    unknown = [one.name for one in (*batches, *kept) if one.p_distance is None]
    unseen = [one.name for one in judged if by_batch and one not in by_batch]
    unseen += [one.name for one in kept if one.p_distance is not None and one not in seen]
    others = f", not visibly by {_joined(unseen, 'or')}" if unseen else ""
    if by_batch and seen:
        # Which of them by more is not said: the table has each beside what chance gives it.
        clusters_by: ClustersBy = "both"
        names = _joined([*first, *(one.name for one in seen)], "and")
        text = f"Specimens cluster by {names}{others}"
    elif by_batch:
        clusters_by = "batch"
        text = f"Specimens cluster by {_joined(first, 'and')}{others}"
    elif seen:
        clusters_by = "kept"
        names = _joined([one.name for one in seen], "and")
        text = f"Specimens cluster by {names}, not visibly by {_joined([*first, *unseen], 'or')}"
    else:
        clusters_by = "neither"
        text = f"Specimens do not visibly cluster by {_joined([*first, *unseen], 'or')}"
    doubt = f"; for {', '.join(unknown)} it cannot be told" if unknown else ""
    return clusters_by, f"{text} (judged by distances{doubt})."


def _joined(names: Sequence[str], word: str) -> str:
    """``a, b and c``."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} {word} {names[-1]}"

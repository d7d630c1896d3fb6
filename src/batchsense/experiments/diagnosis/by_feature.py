"""Shares of variance feature by feature: a table for those who want to look at each."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from scipy import special

from batchsense.arrays import Flags, Floats
from batchsense.errors import UnresolvedError
from batchsense.experiments.beyond_memory.by_feature import ByFeature
from batchsense.experiments.beyond_memory.stored_table import StoredTable
from batchsense.experiments.design import Design
from batchsense.experiments.projections import basis_beside, without
from batchsense.experiments.sheets.nuisances import Nuisances
from batchsense.experiments.statistics.tail_areas import noncentrality
from batchsense.experiments.tables.table import Table
from batchsense.variation.components import beyond_chance, variance_component
from batchsense.variation.linear import factor


@dataclass(frozen=True, slots=True, eq=False)
class TermByFeature:
    """One term's share of the variance of each feature; NaN for features without shares."""

    name: str  #: The term, such as ``"month"`` or ``"month × drug"``
    #: (features,): the share it adds to the other terms, what chance explains subtracted (not below
    #: 0), with the ends of its interval.
    share: Floats
    low: Floats
    high: Floats
    raw: Floats  #: (features,): its share of the sum of squares, chance included
    alone: Floats | None  #: (features,): R² of the term without any other; None for an interaction
    p_value: Floats  #: (features,): of the F test of the term given the others
    columns: int  #: Independent columns that the others leave


@dataclass(frozen=True, slots=True, eq=False)
class FeatureShares:
    """Shares of the variance of every feature.

    ``shared + residual_raw`` and the terms' ``raw`` add up to 1 for each feature.
    """

    features: tuple[str, ...]  #: All features of the table
    #: The batches, the kept factors, and the interaction where there is one.
    terms: tuple[TermByFeature, ...]
    #: (features,): what batches and kept factors explain together beyond what each adds to the
    #: others: variation that cannot be given to one of them. May be negative.
    shared: Floats
    #: (features,): what no term explains, chance added back, with its interval; and as sum of
    #: squares.
    residual: Floats
    residual_low: Floats
    residual_high: Floats
    residual_raw: Floats
    #: (features,): variance component of the batches in squared units of the feature; may be
    #: negative. NaN for several batch columns.
    component: Floats
    reasons: tuple[str, ...]  #: Why a feature has no shares; empty where it has
    level: float  #: Confidence level


def shares_by_feature(table: Table, design: Design, level: float = 0.95) -> FeatureShares:
    """Share out the variance of each feature between batches, kept factors and the rest.

    The numbers are those of
    :func:`~batchsense.experiments.diagnosis.shares.share_of_variance` for each feature alone.

    Features with missing values, and constant ones, get a reason.
    """
    if isinstance(table, StoredTable):
        return _of_stored(table, design, level)
    usable, reasons = _usable(table.values)
    values = table.values[:, usable]
    values = values - values.mean(axis=0)
    scale = np.sqrt((values**2).sum(axis=0))
    values /= scale

    def spread(numbers: Floats) -> Floats:
        everywhere = np.full(len(usable), np.nan)
        everywhere[usable] = numbers
        return everywhere

    constant = np.ones((len(values), 1))
    batches, wanted = design.batches.indicators(), design.wanted()[0]
    parts = [(design.batches.name, batches, wanted)]
    for kept in design.kept:
        others = np.hstack([design.wanted(leaving_out=kept.name)[0], batches])
        parts.append((kept.name, kept.design()[0], others))
    additive = np.hstack([wanted, batches])
    main = _split(values, additive, constant)
    if main.df < 1:
        raise UnresolvedError(
            "no degree of freedom is left to judge noise by",
            needed="at least one more specimen in a batch and condition that exist already",
        )
    full, crossed = main, design.interaction()
    splits: list[tuple[str, Floats | None, _Split]] = [
        (name, columns, _split(values, columns, others)) for name, columns, others in parts
    ]
    if crossed is not None:
        added = _split(values, crossed[1], additive)
        if added.df >= 1 and added.columns:
            splits.append((crossed[0], None, added))
            full = _split(values, np.hstack([additive, crossed[1]]), constant)
    terms = []
    for name, columns, split in splits:
        alone = None if columns is None else spread(_split(values, columns, constant).added)
        share, low, high = map(spread, _shares(split, level))
        p_value = spread(_p_values(split))
        terms.append(
            TermByFeature(
                name, share, low, high, spread(split.added), alone, p_value, split.columns
            )
        )
    unique = sum(split.added for _, columns, split in splits if columns is not None)
    explained, least, most = _shares(full, level)
    return FeatureShares(
        features=table.features,
        terms=tuple(terms),
        shared=spread(main.added - unique),
        residual=spread(1.0 - explained),
        residual_low=spread(1.0 - most),
        residual_high=spread(1.0 - least),
        residual_raw=spread(full.left),
        component=spread(
            np.full(len(scale), np.nan)
            if isinstance(design.batches, Nuisances)
            else _components(splits[0][2], batches, wanted) * scale**2
        ),
        reasons=reasons,
        level=level,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Split:
    """Sums of squares of features of total 1: added by a term, and left by the whole model."""

    added: Floats
    left: Floats
    columns: int
    df: int


def _split(values: Floats, term: Floats, others: Floats) -> _Split:
    given = factor(others).basis
    remaining, basis = without(values, given), basis_beside(term, given)
    added = ((basis.T @ remaining) ** 2).sum(axis=0)
    left = (without(remaining, basis) ** 2).sum(axis=0)
    return _Split(added, left, basis.shape[1], len(values) - given.shape[1] - basis.shape[1])


def _shares(split: _Split, level: float) -> tuple[Floats, Floats, Floats]:
    r, d = split.columns, split.df
    if r == 0:
        nothing = np.full(len(split.added), np.nan)
        return nothing, nothing, nothing
    noise = split.left / d
    estimate = np.maximum(0.0, beyond_chance(split.added, r, noise))
    exact = split.left <= 1e-20
    safe = np.where(exact, 1.0, noise)
    statistic = split.added / (r * safe)
    explained = 1.0 - split.added - split.left

    def end(probability: float, observed: Floats) -> Floats:
        squares = noncentrality(probability, observed, r, d) * safe
        return np.asarray(squares / (explained + squares + (r + d) * safe))

    tail = (1 - level) / 2
    low = np.minimum(end(1 - tail, statistic), estimate)
    # A statistic below 1 is an accident of the noise; it must not make the bound confident.
    high = np.maximum(end(tail, np.maximum(statistic, 1.0)), estimate)
    return estimate, np.where(exact, estimate, low), np.where(exact, estimate, high)


def _p_values(split: _Split) -> Floats:
    if split.columns == 0:
        return np.full(len(split.added), np.nan)
    with np.errstate(divide="ignore"):
        statistic = (split.added / split.columns) / (split.left / split.df)
    return np.asarray(special.fdtrc(split.columns, split.df, statistic))


def _components(split: _Split, indicators: Floats, wanted: Floats) -> Floats:
    """Henderson's variance component of the batches for each feature; NaN without columns."""
    if split.columns == 0:
        return np.full(len(split.added), np.nan)
    trace = float((factor(wanted).residuals(indicators) ** 2).sum())
    return variance_component(split.added, split.columns, split.left / split.df, trace)


#: What a table on disk is asked of every feature, by name, beside the shares of its terms.
_OWN = ("shared", "residual", "residual_low", "residual_high", "residual_raw", "component")
_OF_TERM = ("share", "low", "high", "raw", "p_value")
_REASONS = ("", "missing values", "constant")


@dataclass(frozen=True, slots=True, eq=False)
class _Ask:
    """The shares of some features: reasons, own numbers, those of each term, and ``alone``."""

    sheet: Table
    design: Design
    level: float

    def __call__(self, values: Floats, low: int) -> tuple[dict[str, Floats], dict[str, Floats]]:
        names = tuple(map(str, range(values.shape[1])))
        table = replace(self.sheet, values=values, features=names)
        found = shares_by_feature(table, self.design, self.level)
        rows = [np.array([_REASONS.index(one) for one in found.reasons], dtype=np.float64)]
        rows += [getattr(found, name) for name in _OWN]
        for term in found.terms:
            rows += [getattr(term, name) for name in _OF_TERM]
            rows.append(np.zeros(len(names)) if term.alone is None else term.alone)
        return {}, {"shares": np.stack(rows)}


def _of_stored(table: StoredTable, design: Design, level: float) -> FeatureShares:
    own = {field.name: getattr(table, field.name) for field in fields(Table)}
    ask = _Ask(replace(Table(**own), features=("0",)), design, level)
    few = np.random.default_rng(0).normal(size=(design.specimens, 1))
    like = shares_by_feature(replace(ask.sheet, values=few), design, level)  # its names and columns
    width = 1 + len(_OWN) + len(like.terms) * (len(_OF_TERM) + 1)
    inputs = ByFeature(table.location, ask, 16 * width * len(table.features))
    rows = iter(table.passes.run(inputs, "sharing out the variance of features").sums["shares"])
    reasons = tuple(_REASONS[int(code)] for code in next(rows))
    numbers = {name: next(rows) for name in _OWN}
    terms = []
    for term in like.terms:
        told = {name: next(rows) for name in _OF_TERM}
        alone = next(rows)
        terms.append(replace(term, **told, alone=None if term.alone is None else alone))
    return FeatureShares(table.features, tuple(terms), **numbers, reasons=reasons, level=level)


def _usable(values: Floats) -> tuple[Flags, tuple[str, ...]]:
    missing = np.asarray(np.isnan(values).any(axis=0))
    constant = np.zeros(len(missing), dtype=bool)
    constant[~missing] = np.ptp(values[:, ~missing], axis=0) == 0
    words = np.where(missing, "missing values", np.where(constant, "constant", ""))
    return ~missing & ~constant, tuple(words.tolist())

"""One correlation within blocks for all features, and least squares that knows of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from batchsense.arrays import Floats, Integers
from batchsense.errors import UnresolvedError
from batchsense.experiments.testing.blocks.ratios import best_ratios
from batchsense.experiments.testing.blocks.sums import AtRatio, block_sums
from batchsense.experiments.testing.fitting import ContrastFits
from batchsense.experiments.testing.weights.precision_weights import Fit
from batchsense.progress import Progress, silent
from batchsense.variation.linear import DesignFactor

#: As Smyth et al. (2005): correlations beyond 0.99, or within 0.01 of the least that blocks can
#: have, count as that, and 15 % of the features at each end do not count.
_HIGHEST, _MARGIN, _TRIMMED = 0.99, 0.01, 0.15
#: Rows beyond the terms, and blocks fewer than rows, that make a feature say anything.
_FEWEST_ROWS, _FEWEST_PAIRS = 3, 2


@dataclass(frozen=True, slots=True, eq=False)
class Consensus:
    """The correlation that features agree on."""

    correlation: float  #: tanh of the trimmed mean of Fisher's z
    #: (features,): that of every feature; NaN where it does not tell.
    each: Floats = field(repr=False)


def consensus_correlation(
    values: Floats,
    design: DesignFactor,
    codes: Integers,
    weights: Floats | None = None,
    progress: Progress = silent,
) -> Consensus:
    r"""Estimate the correlation of two rows of one block, the same for all features.

    For each feature the restricted likelihood of var y = σ²((1-ρ)I + ρZZᵀ) (divided by the roots of
    the weights) is maximised over ρ, which may be negative; the answer is tanh of the mean of
    atanh ρ without the 15 % at each end.

    Shapes: ``values`` and ``weights`` (specimens, features), NaN where missing; ``codes``
    (specimens,).

    Source: Smyth, Michaud and Scott 2005, Bioinformatics 21, 2067.
    """
    each = np.full(values.shape[1], np.nan)
    low = 1.0 / (1.0 - np.bincount(codes).max()) + _MARGIN
    done = 0
    for sums in block_sums(values, design.basis, codes, weights):
        ratios = best_ratios(sums, low, _HIGHEST)
        rank = sums.observed - sums.df
        tells = (sums.observed >= rank + _FEWEST_ROWS) & (sums.filled > 1)
        tells &= sums.filled <= sums.observed - _FEWEST_PAIRS
        each[sums.places] = np.where(tells, ratios / (1.0 + ratios), np.nan)
        done += len(sums.places)
        progress("estimating the correlation within blocks", done, values.shape[1])
    known = np.sort(each[~np.isnan(each)])
    if not len(known):
        raise UnresolvedError(
            "no feature varies and is observed often enough to tell how rows of a block agree",
            needed="blocks of which several rows are observed",
        )
    out = int(_TRIMMED * len(known))
    middle = np.arctanh(known[out : len(known) - out])
    return Consensus(float(np.tanh(middle.mean())), each)


def correlated_fit(
    values: Floats,
    design: DesignFactor,
    codes: Integers,
    correlation: float,
    weights: Floats | None = None,
) -> Fit:
    """Fit complete features by generalised least squares with a correlation within blocks."""
    effects, left = np.zeros((design.rank, values.shape[1])), np.zeros(values.shape[1])
    for sums in block_sums(values, design.basis, codes, weights):
        solved = sums.at(np.full(len(sums.places), correlation / (1.0 - correlation)))
        effects[:, sums.places] = (sums.effects + solved.shifts).T
        left[sums.places] = solved.left / (1.0 - correlation)
    return Fit(np.asarray(design.basis @ effects, dtype=np.float64), left, design.df_residual)


def fit_correlated(
    values: Floats,
    design: DesignFactor,
    contrasts: Floats,
    groups: tuple[tuple[int, ...], ...],
    codes: Integers,
    correlation: float,
    weights: Floats | None = None,
) -> ContrastFits:
    """Fit contrasts by generalised least squares; the variance is that of one row.

    Shapes as in :func:`~batchsense.experiments.testing.fitting.fit_contrasts`.
    """
    found = ContrastFits.empty(len(contrasts), len(groups), values.shape[1])
    asked = contrasts @ design.solution
    for sums in block_sums(values, design.basis, codes, weights):
        solved = sums.at(np.full(len(sums.places), correlation / (1.0 - correlation)))
        read_contrasts(found, solved, asked, groups)
    # γ is in units of the variance within a block, which is 1 - ρ of that of a row.
    within = 1.0 - correlation
    found.residual_squares[:] /= within
    found.joint[:] /= within
    found.unscaled[:] *= within
    return found


def read_contrasts(
    found: ContrastFits, solved: AtRatio, asked: Floats, groups: Iterable[tuple[int, ...]]
) -> Floats:
    """Enter the contrasts of a stack, in units of the variance within; gives (XᵀV⁻¹X)⁻¹cᵀ.

    Shapes: ``asked`` (contrasts, rank), on the effects; the result (features, rank, contrasts).
    """
    sums = solved.sums
    turned = solved.inverse @ asked.T
    estimates = (sums.effects + solved.shifts) @ asked.T
    covariances = asked @ turned
    unseen = np.einsum("cr,frs,cs->fc", asked, sums.lost, asked)
    told = np.broadcast_to(unseen <= 1e-8 * (asked**2).sum(axis=1), estimates.shape)
    told = told & (sums.df > 0)[:, None]
    cells = (slice(None), sums.places)
    found.estimates[cells] = np.where(told, estimates, np.nan).T
    found.unscaled[cells] = np.where(told, np.einsum("fcc->fc", covariances), np.nan).T
    found.df[sums.places] = sums.df
    found.residual_squares[sums.places] = solved.left
    for place, group in enumerate(groups):
        members = list(group)
        own = estimates[:, members, None]
        pulled = np.linalg.solve(covariances[:, members][:, :, members], own)
        joint = (own * pulled).sum(axis=(1, 2)) / len(group)
        found.joint[place, sums.places] = np.where(told[:, members].all(axis=1), joint, np.nan)
    return np.asarray(turned, dtype=np.float64)

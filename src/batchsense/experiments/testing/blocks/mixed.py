"""Each feature with a variance of its own between blocks, and what its degrees of freedom are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from batchsense.arrays import Floats, Integers
from batchsense.experiments.testing.blocks.consensus import read_contrasts
from batchsense.experiments.testing.blocks.ratios import best_ratios
from batchsense.experiments.testing.blocks.sums import AtRatio, Curvature, block_sums
from batchsense.experiments.testing.fitting import ContrastFits
from batchsense.progress import Progress, silent
from batchsense.variation.linear import DesignFactor

#: Above this the variance within is nothing beside that between: a billionth.
_HIGHEST = 1.0 - 1e-9
#: Degrees of freedom that differ by less are the same, so that their mean is simply they.
_SAME = 1e-8


def fit_mixed(
    values: Floats,
    design: DesignFactor,
    contrasts: Floats,
    groups: tuple[tuple[int, ...], ...],
    codes: Integers,
    weights: Floats | None = None,
    progress: Progress = silent,
) -> tuple[ContrastFits, Floats]:
    r"""Fit y = Xβ + Zu + e to each feature by restricted likelihood, with Satterthwaite's df.

    With the variances θ = (σ², σ_b²) of rows and blocks, H the Hessian of -2 log L at them, and
    v(θ) the variance of an estimated contrast,

    .. math:: \nu = \frac{v^2}{\nabla v^T H^{-1} \nabla v}.

    A variance between blocks below zero counts as zero; then ν is that of least squares. F of a
    group has the degrees of freedom whose F has the mean of the squared t of independent
    contrasts of the group (Fai and Cornelius).

    Shapes as in :func:`~batchsense.experiments.testing.fitting.fit_contrasts`; precision
    ``weights`` (specimens, features) divide σ², and leave σ_b² as it is. Beside the fits the
    correlation of two rows of a block and mean weight, (features,).

    Source: Satterthwaite 1946, Biometrics 2, 110; Giesbrecht and Burns 1985, Biometrics 41, 477;
    Fai and Cornelius 1996, J. Stat. Comput. Simul. 54, 363.
    """
    features = values.shape[1]
    found = ContrastFits.empty(len(contrasts), len(groups), features)
    own, each = np.full((len(contrasts), features), np.nan), np.full(features, np.nan)
    joint = np.full((len(groups), features), np.nan)
    asked = contrasts @ design.solution
    done = 0
    for sums in block_sums(values, design.basis, codes, weights, scaled=True):
        unit = sums.sizes.sum(axis=1) / sums.observed
        ratios = best_ratios(sums, 0.0, _HIGHEST, unit)
        each[sums.places] = ratios * unit / (1.0 + ratios * unit)
        solved = sums.at(np.nan_to_num(ratios))
        turned = read_contrasts(found, solved, asked, groups)
        curvature = solved.curvature()
        spread = turned.transpose(2, 0, 1)
        own[:, sums.places] = _freedom(solved, curvature, spread, asked[:, None])
        for place, group in enumerate(groups):
            members = list(group)
            covariance = asked[members] @ turned[:, :, members]
            _, axes = np.linalg.eigh((covariance + covariance.transpose(0, 2, 1)) / 2)
            along = np.einsum("frc,fck->kfr", turned[:, :, members], axes)
            turns = np.einsum("cr,fck->kfr", asked[members], axes)
            joint[place, sums.places] = _joined(_freedom(solved, curvature, along, turns))
        done += len(sums.places)
        progress("fitting the variance between blocks", done, features)
    return replace(found, own_df=own, joint_df=joint), each


def _freedom(solved: AtRatio, curvature: Curvature, turned: Floats, asked: Floats) -> Floats:
    """Satterthwaite's degrees of freedom, (contrasts, features).

    ``turned`` are (XᵀV⁻¹X)⁻¹ times ``asked``, both (contrasts, features or 1, rank).
    """
    ratio, df = solved.ratios, solved.sums.df
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = solved.left / df
        trace, twice = curvature.trace, curvature.trace_twice
        square, square_twice = curvature.square / scale, curvature.square_twice / scale
        left = df - 2.0 * ratio * trace + ratio**2 * twice
        # The Hessian in units of the variance within; what is said of rows follows from that of
        # blocks, as rows and blocks together make up V.
        rows = -left + 2.0 * (df - 2.0 * ratio * square + ratio**2 * square_twice)
        both = -(trace - ratio * twice) + 2.0 * (square - ratio * square_twice)
        blocks = -twice + 2.0 * square_twice
        variance = (asked * turned).sum(axis=2)
        by_blocks = np.einsum("cfr,frs,cfs->cf", turned, curvature.pairs, turned)
        by_rows = variance - ratio * by_blocks
        bent = rows * by_blocks**2 - 2.0 * both * by_rows * by_blocks + blocks * by_rows**2
        found = variance**2 * (rows * blocks - both**2) / bent
    return np.where((ratio > 0) & (found > 0), found, np.where(df > 0, df, np.nan))


def _joined(each: Floats) -> Floats:
    """Degrees of freedom of F; ``each`` of shape (contrasts, features)."""
    count = len(each)
    with np.errstate(divide="ignore", invalid="ignore"):
        total = (each / (each - 2.0)).sum(axis=0)
        found = 2.0 * total / (total - count)
    alike = np.ptp(each, axis=0) < _SAME
    found = np.where(alike, each.mean(axis=0), found)
    return np.where((each <= 2.0).any(axis=0) & ~alike, 2.0, found)

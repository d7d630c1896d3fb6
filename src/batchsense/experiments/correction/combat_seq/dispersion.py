"""Dispersions of counts by adjusted profile likelihood: one for all features, one for each."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from batchsense.arrays import Flags, Floats
from batchsense.experiments.correction.combat_seq.negative_binomial import (
    fit_log_linear,
    log_likelihood,
)
from batchsense.progress import Progress, silent

#: The common dispersion is sought up to here, as in McCarthy et al. (2012); a standard deviation of
#: twice the mean.
LARGEST_COMMON = 4.0
#: Features with fewer counts in all do not take part, and get the common dispersion; with this
#: value the numbers equal edgeR's.
FEWEST_COUNTS = 5
#: The grid of each feature: log2 of the dispersion over the common one; with these
#: eleven points the numbers equal edgeR's.
GRID = np.linspace(-6.0, 6.0, 11)
#: Information below this (in counts) is that of a cell without counts, whose fitted mean is zero at
#: every dispersion: it says nothing about the dispersion, so it must not change with it.
_NO_INFORMATION = 1e-6


def adjusted_profile_likelihood(
    counts: ArrayLike,
    design: ArrayLike,
    offsets: ArrayLike,
    dispersion: ArrayLike,
    start: Floats | None = None,
) -> tuple[Floats, Floats]:
    r"""The Cox–Reid adjusted profile log-likelihood of a dispersion, feature by feature.

    .. math:: \ell(\varphi; y, \hat\beta_\varphi) - \tfrac12 \log\det X^T W X, \qquad
              W_i = \mu_i / (1 + \varphi\mu_i).

    The second part makes up for the coefficients being fitted: without it dispersions come out too
    small by about (observations - terms) / observations.

    Counts have shape (observations, features), the design, of full column rank, (observations,
    terms), offsets (the known part of the log mean) that of the counts or (observations,); φ is one
    number or one for each feature. Returns the likelihoods, shape (features,), and the fitted
    coefficients, shape (terms, features), from which the fit at the next dispersion may ``start``.

    Source: Cox and Reid (1987); McCarthy, Chen and Smyth (2012), Nucleic Acids Research 40, 4288.
    """
    y, X = np.asarray(counts, dtype=np.float64), np.asarray(design, dtype=np.float64)
    fitted = fit_log_linear(y, X, offsets, dispersion, start)
    weights = fitted.means / (1 + np.asarray(dispersion) * fitted.means)
    # Another basis of the same terms adds a constant; in this one eigenvalues are counts.
    basis = np.linalg.qr(X)[0] * np.sqrt(len(X))
    squares = (basis[:, :, None] * basis[:, None, :]).reshape(len(X), -1)
    information = (weights.T @ squares).reshape(y.shape[1], X.shape[1], X.shape[1])
    return log_likelihood(y, fitted.means, dispersion) - _half_log_det(information), (
        fitted.coefficients
    )


def common_dispersion(counts: ArrayLike, design: ArrayLike, offsets: ArrayLike) -> float:
    r"""Find the one dispersion that suits all features best.

    The sum of the adjusted profile likelihoods is maximised over :math:`\varphi^{1/4}`, up to 4.
    Features with fewer than five counts in all are left out.

    Source: McCarthy, Chen and Smyth (2012), Nucleic Acids Research 40, 4288.
    """
    from scipy.optimize import minimize_scalar

    y = np.asarray(counts, dtype=np.float64)
    used = y.sum(axis=0) >= FEWEST_COUNTS
    if not used.any():
        return 0.0
    y, o = y[:, used], _of_features(offsets, used)
    start: Floats | None = None

    def loss(root: float) -> float:
        nonlocal start
        likelihood, start = adjusted_profile_likelihood(y, design, o, root**4, start)
        return -float(likelihood.sum())

    bounds = (0.0, LARGEST_COMMON**0.25)
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-5})
    return float(found.x**4)


def feature_dispersions(
    counts: ArrayLike,
    design: ArrayLike,
    offsets: ArrayLike,
    common: float,
    progress: Progress = silent,
) -> Floats:
    """Find the dispersion of each feature from its own counts.

    The adjusted profile likelihood is evaluated at eleven dispersions between 1/64 and 64 times the
    common one; a cubic spline through them is maximised. No information is shared between features
    except the range. Features with fewer than five counts get the common dispersion.

    Shapes: the result (features,).

    Source: McCarthy, Chen and Smyth (2012), Nucleic Acids Research 40, 4288.
    """
    y = np.asarray(counts, dtype=np.float64)
    used = y.sum(axis=0) >= FEWEST_COUNTS
    found = np.full(y.shape[1], common)
    if not used.any() or common <= 0:
        return found
    y, o = y[:, used], _of_features(offsets, used)
    likelihoods = np.empty((len(GRID), y.shape[1]))
    start: Floats | None = None
    for point, place in enumerate(GRID):
        likelihoods[point], start = adjusted_profile_likelihood(
            y, design, o, common * 2.0**place, start
        )
        progress("dispersions of the features", point + 1, len(GRID))
    found[used] = common * 2.0 ** spline_maxima(GRID, likelihoods)
    return found


def spline_maxima(places: Floats, values: Floats) -> Floats:
    """Find where cubic splines have their maximum, near the largest given value.

    The third derivative of the first and last piece is that of the cubic through the first and last
    four points (Forsythe, Malcolm and Moler 1977).

    The points have increasing places, at least four; ``values`` has shape (points, curves). Returns
    the places of the maxima, shape (curves,), inside the range of the points.
    """
    h = np.diff(places)
    slopes = np.diff(values, axis=0) / h[:, None]
    bend = _second_derivatives(places, values, slopes, h)
    top = values.argmax(axis=0)
    curves = np.arange(values.shape[1])
    best, where = values[top, curves], places[top].copy()
    for left in (top - 1, top):
        inside = (left >= 0) & (left < len(h))
        piece = np.clip(left, 0, len(h) - 1)
        width, low, high = h[piece], bend[piece, curves], bend[piece + 1, curves]
        # y = y0 + b t + low t²/2 + c t³/6 on a piece
        b = slopes[piece, curves] - width * (2 * low + high) / 6
        c = (high - low) / width
        for t in _stationary(b, low, c):
            y = values[piece, curves] + t * (b + t * (low / 2 + t * c / 6))
            better = inside & (t >= 0) & (t <= width) & (y > best)
            best = np.where(better, y, best)
            where = np.where(better, places[piece] + t, where)
    return np.asarray(where)


def _second_derivatives(places: Floats, values: Floats, slopes: Floats, h: Floats) -> Floats:
    n = len(places)
    system = np.zeros((n, n))
    right = np.zeros(values.shape)
    for i in range(1, n - 1):
        system[i, i - 1 : i + 2] = h[i - 1], 2 * (h[i - 1] + h[i]), h[i]
    right[1:-1] = 6 * np.diff(slopes, axis=0)
    second = np.diff(slopes, axis=0) / (places[2:] - places[:-2])[:, None]
    third = 6 * np.diff(second, axis=0) / (places[3:] - places[:-3])[:, None]
    system[0, :2], right[0] = (-1 / h[0], 1 / h[0]), third[0]
    system[-1, -2:], right[-1] = (-1 / h[-1], 1 / h[-1]), third[-1]
    return np.asarray(np.linalg.solve(system, right))


def _stationary(b: Floats, low: Floats, c: Floats) -> tuple[Floats, Floats]:
    """The roots of b + low·t + c·t²/2, -1 where there is none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.sqrt(low**2 - 2 * b * c)
        q = -(low + np.copysign(root, low))
        roots = np.array([2 * b / q, q / c])
    roots[~np.isfinite(roots)] = -1.0
    return roots[0], roots[1]


def _of_features(offsets: ArrayLike, used: Flags) -> Floats:
    o = np.asarray(offsets, dtype=np.float64)
    return o if o.ndim == 1 else np.asarray(o[:, used])


def _half_log_det(information: Floats) -> Floats:
    """Half the log determinant, in which cells without counts take no part."""
    values = np.linalg.eigvalsh(information)
    return np.asarray(np.log(np.maximum(values, _NO_INFORMATION)).sum(axis=1) / 2)

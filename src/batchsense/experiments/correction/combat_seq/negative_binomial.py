"""Log-linear models of counts: negative binomial, one design, a fit for every feature.

A count y with mean μ and dispersion φ has variance μ + φμ²; φ = 0 is the Poisson distribution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from batchsense.arrays import Floats
from batchsense.errors import DataError

#: Below this dispersion the Poisson distribution is used: the difference is beyond rounding.
SMALLEST_DISPERSION = 1e-10
#: Features are fitted in blocks of about so many values: half a megabyte an array, for the cache.
_BLOCK = 60_000
#: Only a stop for the unforeseen: Newton's method on a concave function ends by itself.
_MOST_STEPS = 200
#: Half the squared Newton step, in units of the log-likelihood, at which a fit is finished. The
#: step is still made, so what remains is about its square.
_FINISHED = 1e-9
#: No linear predictor moves by more than this in one step: a factor of 150 in the mean, beyond
#: which the quadratic that Newton trusts says nothing.
_LARGEST_STEP = 5.0
#: Fitted means below e to this power are zero for every purpose.
_LOWEST = -40.0


@dataclass(frozen=True, slots=True, eq=False)
class LogLinearFit:
    """Maximum likelihood fits of log-linear models, one for each feature."""

    #: (terms, features): on the natural log scale. Where every count of some cell of the design is
    #: zero a coefficient has no finite estimate; it then is a large negative number at which the
    #: means are zero.
    coefficients: Floats
    means: Floats  #: (observations, features): fitted means, in counts


def fit_log_linear(
    counts: ArrayLike,
    design: ArrayLike,
    offsets: ArrayLike,
    dispersion: ArrayLike,
    start: Floats | None = None,
) -> LogLinearFit:
    r"""Fit negative binomial models with log link to every feature.

    .. math:: \log \mu_{ij} = o_{ij} + x_i^T \beta_j, \qquad
              \operatorname{var} y_{ij} = \mu_{ij} + \varphi_{ij} \mu_{ij}^2,

    by Newton's method on the log-likelihood, which is concave in β for a given dispersion, with
    step halving.

    Counts of shape (observations, features) are not negative, but need not be whole; the design, of
    shape (observations, terms), has full column rank; offsets (the known part of the log mean, such
    as log library sizes) have the shape of the counts or (observations,); φ is one number, one for
    each feature, or one for each count. The fit may ``start`` from coefficients of shape (terms,
    features).

    Source: McCarthy, Chen and Smyth (2012), Nucleic Acids Research 40, 4288.
    """
    y, X = np.asarray(counts, dtype=np.float64), np.asarray(design, dtype=np.float64)
    if y.ndim != 2 or X.ndim != 2 or len(X) != len(y):
        raise DataError(f"counts of shape {y.shape} and a design of shape {X.shape} do not fit")
    if not np.isfinite(y).all() or (y < 0).any():
        raise DataError("counts must be finite and not negative")
    if X.shape[1] > len(X):
        raise DataError(f"{X.shape[1]} terms cannot be fitted to {len(X)} observations")
    # An orthogonal basis of the same terms: their scale and correlation then do no harm.
    basis, triangle = np.linalg.qr(X)
    basis, triangle = basis * np.sqrt(len(X)), triangle / np.sqrt(len(X))
    diagonal = np.abs(np.diag(triangle))
    if diagonal.min(initial=np.inf) <= 1e-10 * diagonal.max(initial=0.0):
        raise DataError("terms of the design say the same; leave one of them out")
    o = _like(offsets, y)
    phi = np.broadcast_to(np.asarray(dispersion, dtype=np.float64), y.shape)
    coefficients = np.empty((X.shape[1], y.shape[1]))
    means = np.empty(y.shape)
    size = max(1, _BLOCK // len(y))
    for first in range(0, y.shape[1], size):
        part = slice(first, first + size)
        own, known, scatter = (np.ascontiguousarray(a[:, part].T) for a in (y, o, phi))
        began = None if start is None else (triangle @ start[:, part]).T
        beta, mu = _fit_block(own, known, scatter, basis, began)
        coefficients[:, part], means[:, part] = beta.T, mu.T
    return LogLinearFit(np.linalg.solve(triangle, coefficients), means)


def log_likelihood(counts: ArrayLike, means: ArrayLike, dispersion: ArrayLike) -> Floats:
    r"""The log-likelihood of each feature.

    .. math:: \sum_i \log\Gamma(y_i + r) - \log\Gamma(r) - \log y_i! + y_i \log(\varphi\mu_i)
              - (y_i + r) \log(1 + \varphi\mu_i), \qquad r = 1/\varphi.

    y and μ have shape (observations, features), and φ broadcasts to it; φ = 0 is the Poisson
    distribution. The result has shape (features,).
    """
    y, mu = np.asarray(counts, dtype=np.float64), np.asarray(means, dtype=np.float64)
    phi = np.broadcast_to(np.asarray(dispersion, dtype=np.float64), y.shape)
    r = 1 / np.maximum(phi, SMALLEST_DISPERSION)
    ordinary = (
        special.gammaln(y + r)
        - special.gammaln(r)
        + special.xlogy(y, mu / r)
        - (y + r) * np.log1p(mu / r)
    )
    poisson = special.xlogy(y, mu) - mu
    terms = np.where(phi > SMALLEST_DISPERSION, ordinary, poisson) - special.gammaln(y + 1)
    return np.asarray(terms.sum(axis=0))


def _like(offsets: ArrayLike, y: Floats) -> Floats:
    o = np.asarray(offsets, dtype=np.float64)
    return np.broadcast_to(o[:, None] if o.ndim == 1 else o, y.shape)


def _fit_block(
    y: Floats, o: Floats, phi: Floats, X: Floats, start: Floats | None
) -> tuple[Floats, Floats]:
    beta: Floats
    if start is None:
        first = np.linalg.lstsq(X, (np.log(y + 0.5) - o).T, rcond=None)[0]
        beta = np.ascontiguousarray(first.T, dtype=np.float64)
    else:
        beta = start.copy()
    eta = np.maximum(beta @ X.T + o, _LOWEST)
    value = _kernel(y, eta, phi)
    squares = (X[:, :, None] * X[:, None, :]).reshape(len(X), -1)
    open_ = np.arange(len(y))
    for _ in range(_MOST_STEPS):
        step, decrement = _newton(y[open_], eta[open_], phi[open_], X, squares)
        move = step @ X.T
        far = np.abs(move).max(axis=1)
        scale = np.minimum(1.0, _LARGEST_STEP / np.maximum(far, 1e-300))
        waiting = np.arange(len(open_))
        for _halving in range(30):
            rows = open_[waiting]
            trial = beta[rows] + scale[waiting, None] * step[waiting]
            trial_eta = np.maximum(trial @ X.T + o[rows], _LOWEST)
            trial_value = _kernel(y[rows], trial_eta, phi[rows])
            better = trial_value >= value[rows] - 1e-12 * (1 + np.abs(value[rows]))
            accepted = rows[better]
            beta[accepted], eta[accepted] = trial[better], trial_eta[better]
            value[accepted] = trial_value[better]
            waiting = waiting[~better]
            if not len(waiting):
                break
            scale[waiting] /= 2
        stuck = np.zeros(len(open_), dtype=bool)
        stuck[waiting] = True
        open_ = open_[(decrement > _FINISHED) & ~stuck]
        if not len(open_):
            break
    return beta, np.exp(eta)


def _newton(
    y: Floats, eta: Floats, phi: Floats, X: Floats, squares: Floats
) -> tuple[Floats, Floats]:
    """Newton's step and half its squared length in the metric of the curvature."""
    mu = np.exp(eta)
    share = 1 / (1 + phi * mu)
    gradient = ((y - mu) * share) @ X
    curvature = ((mu * (1 + phi * y) * share**2) @ squares).reshape(len(y), X.shape[1], -1)
    diagonal = np.einsum("gpp->gp", curvature)
    # A cell without counts has no curvature left in the end; the rest must stay solvable.
    diagonal += 1e-12 * diagonal.max(axis=1, keepdims=True) + 1e-30
    step: Floats = np.linalg.solve(curvature, gradient[:, :, None])[:, :, 0].astype(np.float64)
    return step, np.asarray((step * gradient).sum(axis=1) / 2)


def _kernel(y: Floats, eta: Floats, phi: Floats) -> Floats:
    """What depends on the mean in the log-likelihood of each row."""
    mu = np.exp(eta)
    scaled = phi * mu
    with np.errstate(divide="ignore", invalid="ignore"):
        ordinary = (y + 1 / phi) * np.log1p(scaled)
    spread = np.where(phi > SMALLEST_DISPERSION, ordinary, mu)
    return np.asarray((y * eta - spread).sum(axis=1))

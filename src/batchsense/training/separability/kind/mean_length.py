"""The length of a mean vector, estimated from inner products alone.

P independent repetitions of a vector d (long: a gradient) are known through their Gram matrix
A_pq = d_p·d_q, which is small. Is E d zero; how long is it; how long can it be at most?
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from batchsense.arrays import Floats
from batchsense.errors import DataError
from batchsense.variation.directions import square_trace_of_residuals
from batchsense.variation.interval import Interval

#: Fewer repetitions than this leave nothing for the split halves.
LEAST_REPETITIONS = 6


@dataclass(frozen=True, slots=True)
class MeanLength:
    """What P repetitions say about the length of their common mean."""

    #: ‖E d‖, in the unit of d. The estimate is the *signed* root of the unbiased estimate of ‖E
    #: d‖²: a negative value is a sign of noise, not of a negative length.
    length: Interval
    p_value: float  #: Split-half test of E d = 0.
    #: Sign-flip test of the same: more power, but exact only if d is symmetric about its mean.
    p_value_sign_flip: float
    spread: float  #: √(tr Cov d): the length of the noise of one repetition.
    repetitions: int  #: P.


def mean_length(
    gram: NDArray[Any], *, level: float = 0.99, flips: int = 1999, seed: int = 0
) -> MeanLength:
    r"""Estimate and test the length of the mean of P vectors from their Gram matrix.

    .. math:: U = \frac{\sum_{pq} A_{pq} - \operatorname{tr} A}{P (P - 1)}, \qquad E\,U = \|E\,d\|^2

    Shapes: ``gram`` (repetitions, repetitions).

    Source: Bai and Saranadasa (1996) and Chen and Qin (2010), for the statistic and its variance.

    Raises DataError: the matrix is not square, not finite, not symmetric, or has fewer than six
    rows.
    """
    A = _checked(gram)
    squared = squared_mean(A)
    p_value, low = split_half_test(A, level)
    high = math.sqrt(squared_mean_bound(A, level))
    estimate = math.copysign(math.sqrt(abs(squared)), squared)
    return MeanLength(
        length=Interval(estimate, low, max(low, high), level),
        p_value=p_value,
        p_value_sign_flip=sign_flip_test(A, flips, seed),
        spread=math.sqrt(max(0.0, _covariance_traces(A)[0])),
        repetitions=len(A),
    )


def squared_mean(gram: NDArray[Any]) -> float:
    """Estimate ‖E d‖² without bias: the mean of the inner products of *different* repetitions.

    May be negative when ‖E d‖ is small beside the noise.
    """
    A = np.asarray(gram, dtype=float)
    P = len(A)
    return float((A.sum() - np.trace(A)) / (P * (P - 1)))


def squared_mean_bound(gram: NDArray[Any], level: float = 0.99) -> float:
    r"""Bound ‖E d‖² from above.

    With U the unbiased estimate (at least 0), the bound solves

    .. math:: b^2 = U + z \sqrt{\frac{2 \tau}{P (P - 1)} + \frac{4 \lambda b^2}{P}}

    where τ estimates tr Cov² and λ is the largest eigenvalue of Cov: the worst direction for b,
    so the bound is conservative.

    >>> steps = np.random.default_rng(0).normal(size=(24, 50))
    >>> round(squared_mean_bound(steps @ steps.T), 1)  # the truth is 0
    5.6
    """
    A = np.asarray(gram, dtype=float)
    P = len(A)
    z = float(special.ndtri(level))
    _, tau, largest = _covariance_traces(A)
    noise, slope = 2 * tau / (P * (P - 1)), 4 * largest / P
    U = max(0.0, squared_mean(A))
    inside = z**2 * slope**2 + 4 * slope * U + 4 * noise
    return U + (z**2 * slope + z * math.sqrt(inside)) / 2


def split_half_test(gram: NDArray[Any], level: float = 0.99) -> tuple[float, float]:
    """Test E d = 0: learn the direction u of the mean on one half, test it on the other.

    The projections u·d of the second half are independent numbers with mean u·E d ≤ ‖E d‖, which
    is positive only if E d is not zero. A one-sided t-test judges them and a one-sided t-interval
    bounds ‖E d‖ from below; then the halves swap, and each gets half of the error allowed.

    Shapes: ``gram`` (repetitions, repetitions).
    """
    A = np.asarray(gram, dtype=float)
    halves = np.array_split(np.arange(len(A)), 2)
    p_value, low = 1.0, 0.0
    for train, test in [halves, halves[::-1]]:
        norm = math.sqrt(max(0.0, float(A[np.ix_(train, train)].mean())))
        if norm == 0.0:
            continue
        p, bound = _one_sided_t(A[np.ix_(train, test)].mean(axis=0) / norm, (1 + level) / 2)
        p_value, low = min(p_value, 2 * p), max(low, bound)
    return p_value, low


def sign_flip_test(gram: NDArray[Any], flips: int = 1999, seed: int = 0) -> float:
    """Test E d = 0 by random signs: p = (1 + #{flipped statistic ≥ observed}) / (1 + flips).

    Exact where d and −d are equally likely under the hypothesis.
    """
    A = np.asarray(gram, dtype=float)
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(flips, len(A)))
    flipped = np.einsum("fp,pq,fq->f", signs, A, signs, optimize=True)
    tie = 1e-12 * float(np.abs(A).sum())
    return float((1 + np.count_nonzero(flipped >= A.sum() - tie)) / (1 + flips))


def _one_sided_t(values: Floats, level: float) -> tuple[float, float]:
    """P-value of mean > 0 and lower bound of the mean, for independent numbers."""
    mean = float(values.mean())
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    if error == 0.0:
        return (0.0 if mean > 0 else 1.0), mean
    degrees = len(values) - 1
    p_value = float(special.stdtr(degrees, -mean / error))
    return p_value, mean - float(special.stdtrit(degrees, level)) * error


def _covariance_traces(A: Floats) -> tuple[float, float, float]:
    """Estimate tr Cov, tr Cov² and the largest eigenvalue of Cov."""
    P = len(A)
    M = A - A.mean(axis=0) - A.mean(axis=1)[:, None] + A.mean()
    t1 = float(np.trace(M)) / (P - 1)
    t2 = float(np.square(M).sum()) / (P - 1) ** 2
    tau = square_trace_of_residuals(t2, t1, P - 1)
    return t1, max(0.0, tau), max(0.0, float(np.linalg.eigvalsh(M)[-1]) / (P - 1))


def _checked(gram: NDArray[Any]) -> Floats:
    """Refuse what is not a Gram matrix of enough repetitions."""
    A = np.asarray(gram, dtype=float)
    if A.ndim != 2 or A.shape[0] != A.shape[1]:
        raise DataError(f"a Gram matrix is square; this has shape {A.shape}", where="gram")
    if len(A) < LEAST_REPETITIONS:
        raise DataError(
            f"{len(A)} repetitions cannot show a bias; give at least {LEAST_REPETITIONS}",
            where="gram",
        )
    if not np.isfinite(A).all():
        raise DataError("the inner products are not all finite", where="gram")
    if not np.allclose(A, A.T, rtol=1e-9, atol=1e-9 * float(np.abs(A).max())):
        raise DataError("a Gram matrix is symmetric; this is not", where="gram")
    return A

"""How lopsided the squared error of a mean is, from the inner products of a pilot."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class ThirdMoments(NamedTuple):
    """The parts of the third cumulant of the squared error of a mean, each over τ³.

    Attributes
    ----------
    cube_ratio : float
        tr Σ³, what is left for a mean of very many.
    mixed_ratio : float
        What is divided by n.
    sixth_ratio : float
        The third cumulant of |e|², which is divided by n².
    """

    cube_ratio: float
    mixed_ratio: float
    sixth_ratio: float


def third_moments(
    gram: ArrayLike, square_ratio: float, observations_per_row: int = 1
) -> ThirdMoments:
    r"""Estimate the third cumulant of :math:`n|\bar e|^2/τ` as a function of n.

    With e the deviations, which are independent,

    .. math:: κ_3(n) = 8\left(1 - \tfrac1n\right)\left(1 - \tfrac2n\right)
        \frac{\operatorname{tr}Σ^3}{τ^3} + \left(1 - \tfrac1n\right)\frac{m}{n} + \frac{s}{n^2},

    :math:`m = (4E(e_1 \cdot e_2)^3 + 12\operatorname{Cov}(|e|^2, e'Σe) + 6|E|e|^2e|^2)/τ^3` and
    :math:`s = κ_3(|e|^2)/τ^3`. The last two are what heavy tails add while n is small.

    Parameters
    ----------
    gram : array of shape (rows, rows)
        Inner products of at least four rows, drawn at random.
    square_ratio : float
        tr Σ²/τ², which bounds tr Σ³/τ³ on both sides.
    observations_per_row : int
        How many observations each row is the mean of.

    Returns
    -------
    ThirdMoments
        For single observations, whatever a row holds; tr Σ³ lies within its bounds.

    References
    ----------
    McCullagh (1987), "Tensor Methods in Statistics", chapter 3, for cumulants of quadratic forms.

    Examples
    --------
    Eight independent normal features: tr Σ³/τ³ is 8/8³, and κ₃(|e|²)/τ³ eight times that.

    >>> rows = np.random.default_rng(0).normal(size=(2000, 8))
    >>> found = third_moments(rows @ rows.T, square_ratio=1 / 8)
    >>> round(found.cube_ratio, 3), round(found.sixth_ratio, 2)
    (0.016, 0.13)
    """
    products = np.asarray(gram, dtype=np.float64)
    n, per_row = len(products), observations_per_row
    centred = products - products.mean(axis=0) - products.mean(axis=1)[:, None] + products.mean()
    own = np.diag(centred) * n / (n - 1)
    off = centred - np.diag(np.diag(centred))
    trace, pairs = float(own.mean()), n * (n - 1)
    if trace <= 0:
        return ThirdMoments(0.0, 0.0, 0.0)
    squares = (off**2).sum(axis=1) / (n - 1)
    cube = float(np.einsum("ij,ij->", off @ off, off)) / (pairs * (n - 2)) / trace**3
    cube = float(np.clip(cube, square_ratio**2, square_ratio**1.5))
    mixed = (
        4 * float((off**3).sum()) / pairs
        + 12 * float(np.cov(own, squares)[0, 1])
        + 6 * float(own @ off @ own) / pairs
    ) / trace**3
    sixth = float(((own - trace) ** 3).mean()) / trace**3
    if per_row > 1:  # what the rows' own averaging adds is in the first term already
        mixed = per_row * max(mixed - 24 * cube * (1 - 1 / per_row), 0.0)
        sixth = per_row**2 * max(sixth - 8 * cube * (1 - 1 / per_row**2), 0.0)
    return ThirdMoments(cube, mixed, sixth)

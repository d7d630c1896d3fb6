"""Counts, means and centred squares that can be gathered in pieces and merged in any order.

``a + b`` describes the observations of both: the same object serves the micro-batches of a training
step, the records of two workers, and the kept terms of specimens in several months.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from batchsense.arrays import Floats
from batchsense.errors import DataError, UnresolvedError
from batchsense.variation.matrices import finite_matrix

Weight = TypeVar("Weight", float, Floats)


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """First and second moments of some observations.

    Attributes
    ----------
    count : int
        Observations with a positive weight.
    weight : float
        Sum of their weights; equals ``count`` without weights.
    mean : ndarray of shape (features,)
        Weighted mean, in the unit of the observations; zeros while ``count`` is 0.
    remainder : ndarray of shape (features,)
        What float64 leaves out of ``mean``: the mean is ``mean + remainder`` to about 32 digits.
        It keeps merges exact when the features carry a large common offset.
    centred_sum_of_squares : ndarray of shape (features,)
        Σ w (x - mean)², in squared units.
    cross_products : ndarray of shape (features, features) or None
        Σ w (x - mean)(x - mean)ᵀ, if asked for.

    References
    ----------
    Chan, Golub and LeVeque 1983, Am. Stat. 37, 242.

    Examples
    --------
    >>> may = Moments.of([[1.0], [2.0]])
    >>> july = Moments.of([[3.0], [6.0]])
    >>> both = may + july
    >>> print(both.count, both.mean, both.centred_sum_of_squares, both.variance())
    4 [3.] [14.] [4.66666667]

    An offset of a hundred million costs nothing:

    >>> shifted = Moments.of([[1e8 + 1], [1e8 + 2]]) + Moments.of([[1e8 + 3], [1e8 + 6]])
    >>> print(shifted.centred_sum_of_squares)
    [14.]
    """

    count: int
    weight: float
    mean: Floats
    remainder: Floats = field(repr=False)
    centred_sum_of_squares: Floats
    cross_products: Floats | None = field(default=None, repr=False)

    @classmethod
    def empty(cls, features: int, *, cross: bool = False) -> Moments:
        """Moments of no observations: the neutral element of merging."""
        zeros = np.zeros(features)
        products = np.zeros((features, features)) if cross else None
        return cls(0, 0.0, zeros, zeros, zeros, products)

    @classmethod
    def of(
        cls, observations: ArrayLike, weights: ArrayLike | None = None, *, cross: bool = False
    ) -> Moments:
        """Gather the moments of observations in two passes around a provisional mean.

        Parameters
        ----------
        observations : array of shape (observations, features) or (observations,)
            Numbers of any real type; summed in float64. May have no rows.
        weights : array of shape (observations,), optional
            Not negative. They count as repetitions: weight 2 is the same as the row twice.
        cross : bool
            Whether to gather cross products, features² numbers.

        Raises
        ------
        DataError
            If a value is NaN or infinite (the first row and feature are named; fill or drop
            missing values first), or a weight is negative.
        """
        values = finite_matrix(observations, "observations", vector=True, empty=True)
        if len(values) == 0:
            return cls.empty(values.shape[1], cross=cross)
        if weights is None:
            return cls._weighted(values, np.ones(len(values)), cross)
        importance = finite_weights(weights, len(values))
        used = importance > 0
        if not used.any():
            return cls.empty(values.shape[1], cross=cross)
        if used.all():
            return cls._weighted(values, importance, cross)
        return cls._weighted(values[used], importance[used], cross)

    @classmethod
    def _weighted(cls, values: Floats, weights: Floats, cross: bool) -> Moments:
        """Centre twice: differences of neighbouring floats are exact, so no digits are lost."""
        if max(values.max(initial=0.0), -values.min(initial=0.0)) > 1e150:
            raise DataError(
                "observations beyond 1e150 have squares that do not fit into a float64; express"
                " them in another unit"
            )
        total = float(weights.sum())
        provisional = values[0] + weights @ (values - values[0]) / total
        deviations = values - provisional
        shift = weights @ deviations / total
        mean, remainder = _two_sum(provisional, shift)
        deviations -= shift
        weighted = weights[:, None] * deviations
        squares = np.einsum("ij,ij->j", weighted, deviations)
        products = None
        if cross:
            products = weighted.T @ deviations
            products = (products + products.T) / 2.0
            products[np.diag_indices_from(products)] = squares
        return cls(len(values), total, mean, remainder, squares, products)

    def update(self, observations: ArrayLike, weights: ArrayLike | None = None) -> Moments:
        """Give the moments with more observations added; see :meth:`of`."""
        return self.merge(Moments.of(observations, weights, cross=self.cross_products is not None))

    def merge(self, other: Moments) -> Moments:
        """Give the moments of both sets of observations together.

        With W = W₁ + W₂ and d = mean₂ - mean₁: mean = mean₁ + d·W₂/W, and the centred squares add
        up to S₁ + S₂ + d²·W₁W₂/W.

        Raises
        ------
        DataError
            If the numbers of features differ, or only one of the two has cross products.
        """
        if self.mean.shape != other.mean.shape:
            raise DataError(
                f"moments of {len(self.mean)} features cannot be merged with moments of"
                f" {len(other.mean)} features"
            )
        if (self.cross_products is None) != (other.cross_products is None):
            raise DataError("only one of the two moments has cross products; gather both alike")
        if self.count == 0 or other.count == 0:
            return other if self.count == 0 else self
        weight, share, factor = merged_weights(self.weight, other.weight)
        apart = (other.mean - self.mean) + (other.remainder - self.remainder)
        mean, remainder = _two_sum(self.mean, self.remainder + apart * share)
        squares = self.centred_sum_of_squares + other.centred_sum_of_squares + factor * apart**2
        products = None
        if self.cross_products is not None and other.cross_products is not None:
            products = self.cross_products + other.cross_products
            products = products + factor * np.outer(apart, apart)
        return Moments(self.count + other.count, weight, mean, remainder, squares, products)

    def __add__(self, other: Moments) -> Moments:
        """Merge."""
        if not isinstance(other, Moments):
            return NotImplemented
        return self.merge(other)

    def variance(self, ddof: float = 1.0) -> Floats:
        """Centred squares over (weight - ddof), shape (features,).

        Raises
        ------
        UnresolvedError
            If the weight does not exceed ``ddof``.
        """
        return self.centred_sum_of_squares / self._divisor(ddof)

    def covariance(self, ddof: float = 1.0) -> Floats:
        """Cross products over (weight - ddof), shape (features, features).

        Raises
        ------
        DataError
            If the moments were gathered without ``cross=True``.
        UnresolvedError
            If the weight does not exceed ``ddof``.
        """
        if self.cross_products is None:
            raise DataError("the moments hold no cross products; gather them with cross=True")
        return self.cross_products / self._divisor(ddof)

    def _divisor(self, ddof: float) -> float:
        """Weight less ddof, if that is positive."""
        if self.weight <= ddof:
            raise UnresolvedError(
                f"a total weight of {self.weight:g} leaves no degree of freedom (ddof {ddof:g})",
                needed=f"observations of a total weight above {ddof:g}",
            )
        return self.weight - ddof


def merged_weights(first: Weight, second: Weight) -> tuple[Weight, Weight, Weight]:
    """The three weights of Chan's formula for two sets of observations.

    Where one of them is empty its mean says nothing: the share is then 0 or 1 and the factor 0.

    Parameters
    ----------
    first, second : float or array
        W₁ and W₂, not negative: observations, or sums of their weights.

    Returns
    -------
    total, share, factor : float or array
        W₁ + W₂; W₂/(W₁ + W₂), the part of the way from the first mean to the merged one; and
        W₁W₂/(W₁ + W₂), the weight of the squared distance between the means. Zeros where both are
        empty.

    References
    ----------
    Chan, Golub and LeVeque 1983, Am. Stat. 37, 242.

    Examples
    --------
    >>> merged_weights(1.0, 3.0)
    (4.0, 0.75, 0.75)
    >>> merged_weights(np.array([0.0, 2.0]), np.array([0.0, 0.0]))[1:]
    (array([0., 0.]), array([0., 0.]))
    """
    total = first + second
    if isinstance(total, np.ndarray):
        share = np.divide(second, total, out=np.zeros_like(total), where=total > 0)
    else:
        share = second / total if total > 0 else 0.0
    return total, share, first * share


def finite_weights(weights: ArrayLike, count: int) -> Floats:
    """Give ``count`` weights that are finite and not negative, or say which one is not."""
    column = finite_matrix(weights, "weights", vector=True)
    if column.shape != (count, 1):
        raise DataError(f"weights of shape {np.shape(weights)} for {count} observations")
    importance = column[:, 0]
    if (importance < 0).any():
        row = int(np.argmax(importance < 0))
        raise DataError(f"weight {row} is {importance[row]}; weights must not be negative")
    return importance


def _two_sum(large: Floats, small: Floats) -> tuple[Floats, Floats]:
    """Sum and its rounding error (Knuth 1969): sum + error = large + small exactly."""
    total = large + small
    virtual = total - large
    return total, (large - (total - virtual)) + (small - virtual)

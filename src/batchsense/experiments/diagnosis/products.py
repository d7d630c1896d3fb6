"""What all terms of a model share: observations centred once, one matrix of inner products."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchsense.arrays import Floats
from batchsense.experiments.projections import without

#: Where a model leaves less of the squares than this, differences of inner products would lose more
#: than three of their sixteen digits: then what is left is formed value by value.
CANCELS = 1e-3
#: Blocks hold about so many values, 8 MB: they stay in the cache, and copies stay small.
BLOCK_VALUES = 1_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Products:
    r"""Centred observations less what a model spans, :math:`L = Y - QQ^TY`, without forming L.

    Every sum of squares of a linear model over all features is :math:`\|A^TL\|^2` for some columns
    A: products of all observations are formed once, and each term takes its part of them off.
    """

    #: (specimens, features): Y, in units of ``unit``, a power of two that keeps fourth powers in
    #: the range of numbers.
    observations: Floats
    unit: float
    #: (specimens, specimens): LLᵀ, or LᵀL where there are fewer features than specimens.
    gram: Floats
    squares: float  #: The sum of squares of L
    #: (specimens, columns): Q, orthonormal, and QᵀY.
    basis: Floats
    fitted: Floats

    @property
    def features(self) -> int:
        """How many features there are."""
        return len(self.observations.T)

    @property
    def wide(self) -> bool:
        """Whether ``gram`` is of specimens."""
        return len(self.gram) == len(self.observations)

    def leaving(self, basis: Floats) -> Products:
        """What an orthonormal basis leaves of all observations."""
        fitted = basis.T @ self.observations
        squares = self.squares - float((fitted**2).sum())
        if squares < CANCELS * self.squares:
            return _formed(without(self.observations, basis), self.unit)
        if self.wide:
            image = basis @ (basis.T @ self.gram)
            gram = self.gram - image - image.T + (image @ basis) @ basis.T
        else:
            gram = self.gram - fitted.T @ fitted
        return Products(self.observations, self.unit, gram, squares, basis, fitted)

    def along(self, columns: Floats) -> Floats:
        """AᵀL, shape (columns, features)."""
        return np.asarray(columns.T @ self.observations - (columns.T @ self.basis) @ self.fitted)

    def image(self, weights: Floats) -> Floats:
        """LW for weights of shape (features, columns)."""
        return without(self.observations @ weights, self.basis)

    def spread(self, columns: Floats) -> Floats:
        """LLᵀA, shape (specimens, columns)."""
        return self.gram @ columns if self.wide else self.image(self.along(columns).T)

    def square_trace(self) -> float:
        """The trace of (LᵀL)²."""
        return float((self.gram**2).sum())

    def leading(self, most: int) -> tuple[Floats, Floats]:
        """The largest eigenvalues of LLᵀ, at most so many, and the specimens along them."""
        from scipy.linalg import eigh

        size = len(self.gram)
        sizes, vectors = eigh(self.gram, subset_by_index=[max(0, size - most), size - 1])
        sizes, vectors = sizes[::-1].clip(min=0.0), vectors[:, ::-1]
        return sizes, vectors * np.sqrt(sizes) if self.wide else self.observations @ vectors

    def sum_along(self, columns: Floats) -> float:
        """The squares of AᵀL, for orthonormal columns in the span of a model."""
        return float(self.squares_along(columns).sum())

    def parts(self, basis: Floats, left: Products) -> tuple[Floats, Floats, Floats]:
        """Squares of what is left by specimen; those along a basis, and left, by feature."""
        by_specimen, by_feature = left.sizes()
        return by_specimen, (self.along(basis) ** 2).sum(axis=0), by_feature

    def squares_along(self, columns: Floats) -> Floats:
        """The squared length of AᵀL for each column of A, shape (columns,)."""
        if self.wide:
            return np.asarray(np.einsum("ij,ij->j", columns, self.gram @ columns))
        return np.asarray((self.along(columns) ** 2).sum(axis=1))

    def drawn(self, columns: Floats, rng: np.random.Generator, draws: int) -> Floats | None:
        """Squares of L along permuted columns, where they are drawn and not gone through."""
        return None

    def sizes(self) -> tuple[Floats, Floats]:
        """The sums of squares of L by specimen and by feature."""
        specimens, features = self.observations.shape
        by_specimen, by_feature = np.zeros(specimens), np.empty(features)
        width = max(1, BLOCK_VALUES // specimens)
        for start in range(0, features, width):
            block = slice(start, start + width)
            left = self.observations[:, block] - self.basis @ self.fitted[:, block]
            by_specimen += np.einsum("ij,ij->i", left, left)
            by_feature[block] = np.einsum("ij,ij->j", left, left)
        return by_specimen, by_feature


def products_of(observations: Floats | Products) -> Products:
    """Centre finite observations of shape (specimens, features) and multiply them once."""
    if isinstance(observations, Products):
        return observations
    centred = observations - observations.mean(axis=0)
    unit = float(np.ldexp(1.0, int(np.frexp(max(centred.max(), -centred.min()))[1])))
    centred /= unit
    return _formed(centred, unit)


def _formed(values: Floats, unit: float) -> Products:
    specimens, features = values.shape
    gram = values @ values.T if specimens <= features else values.T @ values
    nothing = np.empty((specimens, 0)), np.empty((0, features))
    return Products(values, unit, gram, float(np.vdot(values, values)), *nothing)

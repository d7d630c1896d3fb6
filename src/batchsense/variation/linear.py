"""Factor a design once, answer for 20,000 responses: least squares that knows what it cannot say.

The design F is split by a rank-revealing QR into an orthonormal basis Q of its column space and a
map S with F S = Q. Everything follows: fitted values Q Qᵀy, one solution b = S Qᵀy, a contrast
c b = (cS)(Qᵀy) with variance σ²|cS|². Only contrasts that the design can estimate are answered;
the others are refused with the names of the entangled columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from batchsense.arrays import Floats
from batchsense.errors import ConfoundedError, DataError, UnresolvedError, listed
from batchsense.variation.aliasing import NEGLIGIBLE, Relation, relation
from batchsense.variation.factoring import factorise
from batchsense.variation.matrices import finite_matrix

Contrast = ArrayLike | str | Mapping[str, float]

#: Responses are projected in blocks of about this many values, which stay near the processor.
_BLOCK_VALUES = 1_000_000
#: Weights of a contrast (on columns of norm 1) below this share of the largest are rounding.
_ABSENT = 1e-13


@dataclass(frozen=True, slots=True, eq=False)
class DesignFactor:
    """A factored design: made once by :func:`factor`, serves any number of responses.

    Attributes
    ----------
    names : tuple of str
        The columns.
    rank : int
        Rank of the design.
    df_residual : int
        Observations minus rank.
    relations : tuple of Relation
        A sparse basis of the null space: one equation for each rank that is missing. The *later*
        column of the design stands on the left ("is aliased to earlier ones"), so put conditions
        after batches to read ``drug[yes] = month[July]``.
    aliased : tuple of str
        All columns that take part in some relation; exactly those whose coefficients are not
        estimable.
    basis : ndarray of shape (observations, rank)
        Orthonormal basis Q of the column space; its first column is constant if the constant
        belongs to the column space.
    solution : ndarray of shape (columns, rank)
        S with design·S = basis.
    has_constant : bool
        Whether the constant belongs to the column space.
    null_vectors : ndarray of shape (relations, columns)
        The relations as vectors on the original columns.
    """

    names: tuple[str, ...]
    rank: int
    df_residual: int
    relations: tuple[Relation, ...]
    aliased: tuple[str, ...]
    basis: Floats = field(repr=False)
    solution: Floats = field(repr=False)
    has_constant: bool = field(repr=False)
    null_vectors: Floats = field(repr=False)
    _scales: Floats = field(repr=False)

    @property
    def observations(self) -> int:
        """Number of rows of the design."""
        return int(self.basis.shape[0])

    @property
    def leverages(self) -> Floats:
        """Diagonal of the hat matrix, shape (observations,): how far each row fits itself."""
        return np.asarray((self.basis**2).sum(axis=1))

    @property
    def unscaled_covariance(self) -> Floats:
        """(FᵀF)⁻, shape (columns, columns), in units of the residual variance.

        Rows and columns of coefficients that are not estimable are NaN.
        """
        covariance = self.solution @ self.solution.T
        lost = [self.names.index(name) for name in self.aliased]
        covariance[lost, :] = np.nan
        covariance[:, lost] = np.nan
        return np.asarray(covariance)

    def estimable(self, contrast: Contrast) -> bool:
        """Tell whether the design determines ``contrast``·coefficients.

        It does iff every relation holds for it as well (the contrast is orthogonal to the null
        space; Searle 1971, section 5.4), up to 1e-8 of the terms that should cancel.
        """
        return not self._violated(self._vector(contrast))

    def contrast_variance(self, contrast: Contrast) -> float:
        """c(FᵀF)⁻cᵀ: the variance of an estimated contrast in units of the residual variance.

        Raises
        ------
        ConfoundedError
            If the contrast is not estimable.
        """
        weights = self._weights(contrast)
        return float(weights @ weights)

    def fit(self, responses: ArrayLike) -> LinearFit:
        """Fit all responses by least squares.

        Parameters
        ----------
        responses : array of shape (observations, responses) or (observations,)
            Finite numbers; one response may be given as a vector.

        Raises
        ------
        DataError
            If the rows differ in number from those of the design, or a value is not finite.
        """
        values = self._responses(responses)
        effects = np.empty((self.rank, values.shape[1]))
        squares = np.empty(values.shape[1])
        width = max(1, _BLOCK_VALUES // self.observations)
        for start in range(0, values.shape[1], width):
            block = slice(start, start + width)
            effects[:, block], residuals = self._project(values[:, block])
            squares[block] = np.einsum("ij,ij->j", residuals, residuals)
        return LinearFit(self, effects, squares)

    def residuals(self, responses: ArrayLike) -> Floats:
        """Give what the design leaves of the responses, shape (observations, responses)."""
        return self._project(self._responses(responses))[1]

    def _responses(self, responses: ArrayLike) -> Floats:
        """Check that there is one finite row for each of the design."""
        values = finite_matrix(responses, "responses", vector=True)
        if values.shape[0] != self.observations:
            raise DataError(
                f"the design has {self.observations} rows and the responses {values.shape[0]};"
                " give one row per observation"
            )
        return values

    def _project(self, values: Floats) -> tuple[Floats, Floats]:
        """Split a block into effects Qᵀy and residuals; centre first, against large offsets."""
        if not self.has_constant:
            effects = self.basis.T @ values
            return effects, values - self.basis @ effects
        origin = values[0]
        means = origin + (values - origin).mean(axis=0)
        centred = values - means
        slopes = self.basis[:, 1:].T @ centred
        constant = means * np.sqrt(self.observations) * np.sign(self.basis[0, 0])
        return np.vstack([constant, slopes]), centred - self.basis[:, 1:] @ slopes

    def _vector(self, contrast: Contrast) -> Floats:
        """Turn a name, a mapping or an array into a vector over the columns."""
        if isinstance(contrast, str):
            contrast = {contrast: 1.0}
        if isinstance(contrast, Mapping):
            unknown = [name for name in contrast if name not in self.names]
            if unknown:
                raise DataError(
                    f"the contrast names {listed(unknown)}; the design has {listed(self.names)}"
                )
            return np.array([float(contrast.get(name, 0.0)) for name in self.names])
        vector = np.asarray(contrast, dtype=np.float64)
        if vector.shape != (len(self.names),) or not np.isfinite(vector).all():
            raise DataError(
                f"the contrast has shape {vector.shape}; give {len(self.names)} finite numbers,"
                f" one for each of {listed(self.names)}"
            )
        return vector

    def _violated(self, vector: Floats) -> list[Relation]:
        """List the relations that make a contrast undetermined."""
        scaled = np.abs(vector / self._scales)
        asked = np.where(scaled > _ABSENT * scaled.max(initial=0.0), vector, 0.0)
        sums = np.abs(self.null_vectors @ asked)
        sizes = np.abs(self.null_vectors) @ np.abs(asked)
        bad = sums > NEGLIGIBLE * sizes
        return [r for r, forbids in zip(self.relations, bad, strict=True) if forbids]

    def _weights(self, contrast: Contrast) -> Floats:
        """cS, the weights of the effects in a contrast; refuse what is not estimable."""
        vector = self._vector(contrast)
        violated = self._violated(vector)
        if violated:
            equations = [str(r) for r in violated]
            asked = [n for n, c in zip(self.names, vector, strict=True) if c != 0]
            raise ConfoundedError(
                f"the contrast of {listed(asked)} is not estimable, because "
                f"{listed(equations)} in every row; add observations that break this relation"
                " or drop one of its terms",
                equations,
            )
        return np.asarray(vector @ self.solution)


@dataclass(frozen=True, slots=True, eq=False)
class LinearFit:
    """Least-squares fits of many responses to one design.

    Attributes
    ----------
    factor : DesignFactor
        The design.
    effects : ndarray of shape (rank, responses)
        Qᵀy.
    residual_sum_of_squares : ndarray of shape (responses,)
        In squared units of the response.
    """

    factor: DesignFactor
    effects: Floats = field(repr=False)
    residual_sum_of_squares: Floats = field(repr=False)

    @property
    def df(self) -> int:
        """Residual degrees of freedom."""
        return self.factor.df_residual

    @property
    def coefficients(self) -> Floats:
        """Shape (columns, responses); NaN for coefficients that are not estimable, only there.

        Estimable coefficients equal those of the pseudo-inverse (those of every solution).
        """
        values = self.factor.solution @ self.effects
        values[[self.factor.names.index(name) for name in self.factor.aliased]] = np.nan
        return np.asarray(values)

    @property
    def residual_variance(self) -> Floats:
        """Residual sum of squares over its degrees of freedom, shape (responses,).

        Raises
        ------
        UnresolvedError
            If no degrees of freedom are left.
        """
        if self.df < 1:
            raise UnresolvedError(
                f"{self.factor.observations} observations for {self.factor.rank} independent"
                " columns leave no degrees of freedom for the residual variance",
                needed="at least 1 more observation",
            )
        return self.residual_sum_of_squares / self.df

    @property
    def fitted(self) -> Floats:
        """Fitted values, shape (observations, responses)."""
        return np.asarray(self.factor.basis @ self.effects)

    def contrast(self, contrast: Contrast) -> tuple[Floats, Floats]:
        """Estimate ``contrast``·coefficients for every response.

        Parameters
        ----------
        contrast : str, mapping or array of shape (columns,)
            A column name, weights by column name, or one weight per column.

        Returns
        -------
        estimate, standard_error : ndarray of shape (responses,)
            In units of the response per unit of the columns; the standard errors have
            :attr:`df` degrees of freedom.

        Raises
        ------
        ConfoundedError
            If the contrast is not estimable; ``aliased`` holds the relations that forbid it.
        UnresolvedError
            If no degrees of freedom are left for the standard error.
        """
        weights = self.factor._weights(contrast)
        variance = self.residual_variance * float(weights @ weights)
        return np.asarray(weights @ self.effects), np.sqrt(variance)


def factor(
    design: ArrayLike, names: Sequence[str] | None = None, *, tolerance: float = 1e-10
) -> DesignFactor:
    """Factor a design matrix and find what it cannot tell apart.

    Columns are scaled to norm 1 and, where the constant lies in their span, centred first, so
    that neither units nor offsets (a date, say) decide about the rank. The rank is the number of
    diagonal entries of a column-pivoted QR above ``tolerance`` times the largest.

    Parameters
    ----------
    design : array of shape (observations, columns)
        Finite numbers. No intercept is added.
    names : sequence of str, optional
        One per column, distinct; ``column[0]``, ``column[1]``, ... by default. The order matters
        for the relations: the later column is expressed by earlier ones.
    tolerance : float
        Relative tolerance of the rank. Coefficients of a relation below ten times this (or 1e-8),
        on columns of norm 1, are taken for rounding.

    Raises
    ------
    DataError
        If the design is empty, holds a value that is not finite, or the names do not fit.

    References
    ----------
    Golub and Van Loan 2013, Matrix Computations, section 5.4; Searle 1971, Linear Models,
    section 5.4.

    Examples
    --------
    Everybody who got the drug was treated in July; only the second site is told apart.

    >>> design = [[1, 0, 0, 0], [1, 0, 0, 1], [1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1]]
    >>> months = factor(design, ["Intercept", "month[July]", "drug[yes]", "site[B]"])
    >>> print(months.rank, months.df_residual, *months.relations)
    3 2 drug[yes] = month[July]
    >>> months.estimable("site[B]"), months.estimable("drug[yes]")
    (True, False)
    >>> months.estimable({"drug[yes]": 1.0, "month[July]": 1.0})
    True
    >>> estimate, standard_error = months.fit([1.0, 3.0, 4.0, 6.0, 6.0]).contrast("site[B]")
    >>> print(estimate.round(12))
    [2.]
    """
    matrix = finite_matrix(design, "design rows", vector=True)
    observations, columns = matrix.shape
    if columns == 0:
        raise DataError("the design has no columns; give at least an intercept")
    labels = column_names(names, columns, "column")
    factors = factorise(matrix, tolerance)
    null = factors.null / factors.scales
    if len(null):
        last = columns - 1 - np.argmax(null[:, ::-1] != 0, axis=1)
        null = null / null[np.arange(len(null)), last][:, None]
        null = null[np.argsort(last)] + 0.0
    involved = (null != 0).any(axis=0)
    rank = factors.basis.shape[1]
    return DesignFactor(
        names=labels,
        rank=rank,
        df_residual=observations - rank,
        relations=tuple(relation(vector, labels) for vector in null),
        aliased=tuple(n for n, part in zip(labels, involved, strict=True) if part),
        basis=factors.basis,
        solution=factors.solution,
        has_constant=factors.has_constant,
        null_vectors=null,
        _scales=factors.scales,
    )


def residual_sum_of_squares(design: ArrayLike, responses: ArrayLike) -> Floats:
    """Sum of squares that a design leaves unexplained, shape (responses,).

    Examples
    --------
    >>> residual_sum_of_squares([[1.0], [1.0], [1.0]], [1.0, 2.0, 3.0])
    array([2.])
    """
    return factor(design).fit(responses).residual_sum_of_squares


def column_names(names: Sequence[str] | None, columns: int, prefix: str) -> tuple[str, ...]:
    """Check the names of the columns, or make some."""
    labels = tuple(f"{prefix}[{j}]" for j in range(columns)) if names is None else tuple(names)
    if len(labels) != columns:
        raise DataError(
            f"{len(labels)} names for {columns} {prefix} columns; give one name per column"
        )
    if len(set(labels)) != columns:
        repeated = sorted({name for name in labels if labels.count(name) > 1})
        raise DataError(f"column names occur twice: {listed(repeated)}; make them distinct")
    return labels

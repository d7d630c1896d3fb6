"""What the likelihood of blocks needs of the data: sums over each block, for all features at once.

Rows are scaled by the roots of their weights (0 where a value is missing), so that
V = I + γ·ZZᵀ with one column z of Z for each block. Blocks do not overlap, so V⁻¹ is known in
closed form, and nothing of the size of V is ever made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from batchsense.arrays import Flags, Floats, Integers, Places
from batchsense.experiments.testing.fitting import rounded_off

#: Features are taken together in stacks of about this many numbers: 16 MB, so that a stack and its
#: factors stay far below any memory, and calls to LAPACK are few.
_STACK_VALUES = 2_000_000
#: A direction of the design of which the observed rows hold less than this is not told by them.
_HELD = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class BlockSums:
    """Sums over blocks of some features; a first axis of 1 where features share them."""

    places: Places  #: (features,): which features of the table
    sizes: Floats = field(repr=False)  #: (features or 1, blocks): zᵀz of each block
    #: (features or 1, blocks, rank): s = zᵀX for an orthonormal basis X of the design.
    basis: Floats = field(repr=False)
    pairs: Floats = field(repr=False)  #: (features or 1, blocks, rank²): ssᵀ
    #: (features or 1, rank, rank): xᵀX, made invertible where ``lost``.
    normal: Floats = field(repr=False)
    #: (features or 1, rank, rank): projection onto the directions that the observed rows do not
    #: hold.
    lost: Floats = field(repr=False)
    #: (features, rank): least-squares effects, which everything below has been freed of.
    effects: Floats = field(repr=False)
    responses: Floats = field(repr=False)  #: (features, blocks): zᵀy
    #: (features,): yᵀy, and observed rows minus the rank that they hold.
    squares: Floats = field(repr=False)
    df: Floats = field(repr=False)
    #: (features,): observed rows, and blocks that have any.
    observed: Floats = field(repr=False)
    filled: Floats = field(repr=False)

    def at(self, ratios: Floats) -> AtRatio:
        """Solve for the effects where the blocks vary γ times as much as rows within them."""
        damping = 1.0 / (1.0 + ratios[:, None] * self.sizes)
        pairs, sides, squares = self.weighted((ratios[:, None] * damping)[:, None])
        normal = self.normal - pairs[:, 0]
        inverse = np.linalg.inv(normal)
        shifts = -np.einsum("frs,fs->fr", inverse, sides[:, 0])
        left = self.squares - squares[:, 0] + (sides[:, 0] * shifts).sum(axis=1)
        left = np.maximum(left, 0.0)
        return AtRatio(self, ratios, damping, normal, np.asarray(inverse), shifts, left)

    def weighted(self, weights: Floats) -> tuple[Floats, Floats, Floats]:
        """Σ w ssᵀ, Σ w (zᵀy) s and Σ w (zᵀy)² over the blocks; weights (features, some, blocks)."""
        features, some, blocks = weights.shape
        responses = weights * self.responses[:, None]
        pairs, sides = self.pairs, self.basis
        if len(pairs) < features:  # shared: one large product instead of many small ones
            weights, flat = weights.reshape(-1, blocks), responses.reshape(-1, blocks)
            pairs, sides = weights @ pairs[0], flat @ sides[0]
        else:
            pairs, sides = weights @ pairs, responses @ sides
        rank = self.basis.shape[2]
        squares = (responses @ self.responses[:, :, None])[:, :, 0]
        return (
            pairs.reshape(features, some, rank, rank),
            sides.reshape(features, some, rank),
            squares,
        )

    def some(self, which: Integers) -> BlockSums:
        """The sums of some of the features."""
        return BlockSums(
            **{
                name: part if len(part := getattr(self, name)) < len(self.places) else part[which]
                for name in self.__slots__
            }
        )


@dataclass(frozen=True, slots=True, eq=False)
class AtRatio:
    """Generalised least squares of every feature at a ratio γ of its own."""

    sums: BlockSums  #: The data
    ratios: Floats  #: (features,): γ, variance between blocks over variance within
    damping: Floats  #: (features, blocks): 1/(1 + γ·sizes)
    #: (features, rank, rank): xᵀV⁻¹X and its inverse.
    normal: Floats
    inverse: Floats
    shifts: Floats  #: (features, rank): what the effects differ from those of least squares
    #: (features,): yᵀPy with P = V⁻¹ - V⁻¹X(XᵀV⁻¹X)⁻¹XᵀV⁻¹: the residual sum of squares.
    left: Floats

    @property
    def deviance(self) -> Floats:
        """-2 log of the restricted likelihood, its scale profiled out, but for a constant."""
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = self.sums.df * np.log(self.left)
        return np.asarray(
            scale - np.log(self.damping).sum(axis=1) + np.linalg.slogdet(self.normal)[1]
        )

    def curvature(self) -> Curvature:
        """Derivatives by the variance between blocks, with t = zᵀV⁻¹X and u = zᵀPy of a block."""
        own, shifts = self.damping * self.sums.sizes, self.shifts
        once = self.damping**2
        pairs, sides, squares = self.sums.weighted(np.stack([once, own * once], axis=1))
        bent = np.einsum("fkrs,fs->fkr", pairs, shifts)
        # Σ u² and Σ (zᵀV⁻¹z) u²; Σ u t.
        pulled = squares - 2.0 * (sides @ shifts[:, :, None])[:, :, 0]
        pulled += (bent @ shifts[:, :, None])[:, :, 0]
        between = sides[:, 0] - bent[:, 0]
        turned = self.inverse @ pairs[:, 0]
        leverage = np.einsum("frs,fkrs->fk", self.inverse, pairs)
        return Curvature(
            trace=own.sum(axis=1) - leverage[:, 0],
            trace_twice=(own**2).sum(axis=1)
            - 2.0 * leverage[:, 1]
            + np.einsum("frs,fsr->f", turned, turned),
            square=pulled[:, 0],
            square_twice=pulled[:, 1] - np.einsum("fr,frs,fs->f", between, self.inverse, between),
            pairs=pairs[:, 0],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Curvature:
    """tr(PB), tr(PBPB), yᵀPBPy and yᵀPBPBPy with B = ZZᵀ, each (features,), and XᵀV⁻¹BV⁻¹X."""

    trace: Floats
    trace_twice: Floats
    square: Floats
    square_twice: Floats
    pairs: Floats = field(repr=False)


def block_sums(
    values: Floats,
    basis: Floats,
    codes: Integers,
    weights: Floats | None = None,
    scaled: bool = False,
) -> Iterator[BlockSums]:
    """Sum a table over blocks, stack by stack: first the features without missing values.

    Shapes: ``values`` (specimens, features), NaN where missing; ``basis`` (specimens, rank),
    orthonormal; ``codes`` (specimens,); positive ``weights`` as ``values``. ``scaled``: blocks
    shift the values, whatever their weights; else rows of a block are correlated, and weights only
    scale their variances (as ``duplicateCorrelation`` of limma takes them).
    """
    order = np.argsort(codes, kind="stable")
    values, basis = values[order], basis[order]
    weights = None if weights is None else weights[order]
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    missing = np.isnan(values)
    counts = missing.sum(axis=0)
    rank = basis.shape[1]
    each = len(values) * rank, len(starts) * rank**2
    if weights is None and not counts.any():
        each = len(values), len(starts)
    width = max(1, _STACK_VALUES // max(each))
    for chosen, some in ((counts == 0, False), ((counts > 0) & (counts < len(values)), True)):
        places = np.flatnonzero(chosen)
        for start in range(0, len(places), width):
            part = places[start : start + width]
            seen = ~missing[:, part] if some else None
            own = None if weights is None else weights[:, part]
            yield _summed(part, values[:, part], basis, starts, seen, own, scaled)


def _summed(
    places: Places,
    values: Floats,
    basis: Floats,
    starts: Integers,
    seen: Flags | None,
    weights: Floats | None,
    scaled: bool,
) -> BlockSums:
    specimens, features = values.shape
    rank = basis.shape[1]
    if seen is None and weights is None:
        effects = (basis.T @ values).T
        residuals = (values - basis @ effects.T).T
        weighed, columns = np.ones((1, specimens)), basis[None]
        normal, lost = np.eye(rank)[None], np.zeros((1, rank, rank))
    else:
        weight = (np.ones_like(values) if weights is None else weights).T
        if seen is not None:
            weight, values = weight * seen.T, np.where(seen, values, 0.0)
        pairs = (basis[:, :, None] * basis[:, None, :]).reshape(specimens, -1)
        normal = (weight @ pairs).reshape(features, rank, rank)
        held, directions = np.linalg.eigh(normal)
        directions = directions * (held < _HELD * held[:, -1:])[:, None, :]
        lost = directions @ directions.transpose(0, 2, 1)
        normal = normal + lost
        effects, residuals = np.zeros((features, rank)), values.T
        for _ in range(2):  # the second time frees them of the rounding of large offsets
            sides = (weight * residuals) @ basis
            more = np.linalg.solve(normal, sides[:, :, None])[:, :, 0]
            effects, residuals = effects + more, residuals - more @ basis.T
        weighed = np.sqrt(weight)
        columns, residuals = weighed[:, :, None] * basis, weighed * residuals
    marks = weighed if scaled else (weighed > 0).astype(np.float64)
    observed = (weighed > 0).sum(axis=1)
    filled = np.add.reduceat(weighed > 0, starts, axis=1, dtype=np.int64) > 0
    rank_held = rank - np.trace(lost, axis1=1, axis2=2).round()
    squares = rounded_off((residuals**2).sum(axis=1), values)
    sums = np.add.reduceat(marks[:, :, None] * columns, starts, axis=1)
    return BlockSums(
        places=places,
        sizes=np.add.reduceat(marks**2, starts, axis=1),
        basis=sums,
        pairs=(sums[:, :, :, None] * sums[:, :, None]).reshape(*sums.shape[:2], -1),
        normal=normal,
        lost=lost,
        effects=effects,
        responses=np.add.reduceat(marks * residuals, starts, axis=1),
        squares=squares,
        df=np.broadcast_to(observed - rank_held, features),
        observed=np.broadcast_to(observed, features),
        filled=np.broadcast_to(filled.sum(axis=1), features),
    )

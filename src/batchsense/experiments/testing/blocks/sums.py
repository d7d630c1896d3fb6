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
    """Sums over blocks of some features; a first axis of 1 where features share them.

    Attributes
    ----------
    places : array of shape (features,)
        Which features of the table.
    sizes : array of shape (features or 1, blocks)
        zᵀz of each block.
    basis : array of shape (features or 1, blocks, rank)
        zᵀX for an orthonormal basis X of the design.
    normal : array of shape (features or 1, rank, rank)
        XᵀX, made invertible where ``lost``.
    lost : array of shape (features or 1, rank, rank)
        Projection onto the directions that the observed rows do not hold.
    effects : array of shape (features, rank)
        Least-squares effects, which everything below has been freed of.
    responses : array of shape (features, blocks)
        zᵀy.
    squares, df : array of shape (features,)
        yᵀy, and observed rows minus the rank that they hold.
    observed, filled : array of shape (features,)
        Observed rows, and blocks that have any.
    """

    places: Places
    sizes: Floats = field(repr=False)
    basis: Floats = field(repr=False)
    normal: Floats = field(repr=False)
    lost: Floats = field(repr=False)
    effects: Floats = field(repr=False)
    responses: Floats = field(repr=False)
    squares: Floats = field(repr=False)
    df: Floats = field(repr=False)
    observed: Floats = field(repr=False)
    filled: Floats = field(repr=False)

    def at(self, ratios: Floats) -> AtRatio:
        """Solve for the effects where the blocks vary γ times as much as rows within them."""
        damping = 1.0 / (1.0 + ratios[:, None] * self.sizes)
        pulls = ratios[:, None] * damping
        normal = self.normal - self.basis.transpose(0, 2, 1) @ (pulls[:, :, None] * self.basis)
        sides = -np.einsum("fb,fbr->fr", pulls * self.responses, self._spread(self.basis))
        solved = np.linalg.solve(normal, sides[:, :, None])[:, :, 0]
        left = self.squares - (pulls * self.responses**2).sum(axis=1)
        left = np.maximum(left - (sides * solved).sum(axis=1), 0.0)
        return AtRatio(self, ratios, damping, normal, solved, left)

    def _spread(self, shared: Floats) -> Floats:
        return np.broadcast_to(shared, (len(self.places), *shared.shape[1:]))


@dataclass(frozen=True, slots=True, eq=False)
class AtRatio:
    """Generalised least squares of every feature at a ratio γ of its own.

    Attributes
    ----------
    sums : BlockSums
        The data.
    ratios : array of shape (features,)
        γ, variance between blocks over variance within.
    damping : array of shape (features, blocks)
        1/(1 + γ·sizes).
    normal : array of shape (features, rank, rank)
        XᵀV⁻¹X.
    shifts : array of shape (features, rank)
        What the effects differ from those of least squares.
    left : array of shape (features,)
        yᵀPy with P = V⁻¹ - V⁻¹X(XᵀV⁻¹X)⁻¹XᵀV⁻¹: the residual sum of squares.
    """

    sums: BlockSums
    ratios: Floats
    damping: Floats
    normal: Floats
    shifts: Floats
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
        """Derivatives by the variance between blocks."""
        sums = self.sums
        rows = self.damping[:, :, None] * sums.basis
        own = self.damping * sums.sizes
        turned = np.linalg.solve(self.normal, rows.transpose(0, 2, 1)).transpose(0, 2, 1)
        leverage = (turned * rows).sum(axis=2)
        pulled = sums.responses - np.einsum("fbr,fr->fb", sums._spread(sums.basis), self.shifts)
        pulled *= self.damping
        crossed = turned.transpose(0, 2, 1) @ rows
        between = np.einsum("fb,fbr->fr", pulled, rows)
        back = np.einsum("fb,fbr->fr", pulled, turned)
        return Curvature(
            trace=(own - leverage).sum(axis=1),
            trace_twice=(own**2 - 2.0 * own * leverage).sum(axis=1)
            + np.einsum("frs,fsr->f", crossed, crossed),
            square=(pulled**2).sum(axis=1),
            square_twice=(own * pulled**2).sum(axis=1) - (between * back).sum(axis=1),
            rows=rows,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Curvature:
    """tr(PB), tr(PBPB), yᵀPBPy and yᵀPBPBPy with B = ZZᵀ, each (features,), and ZᵀV⁻¹X."""

    trace: Floats
    trace_twice: Floats
    square: Floats
    square_twice: Floats
    rows: Floats = field(repr=False)


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
    width = max(1, _STACK_VALUES // (len(values) * basis.shape[1]))
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
    return BlockSums(
        places=places,
        sizes=np.add.reduceat(marks**2, starts, axis=1),
        basis=np.add.reduceat(marks[:, :, None] * columns, starts, axis=1),
        normal=normal,
        lost=lost,
        effects=effects,
        responses=np.add.reduceat(marks * residuals, starts, axis=1),
        squares=squares,
        df=np.broadcast_to(observed - rank_held, features),
        observed=np.broadcast_to(observed, features),
        filled=np.broadcast_to(filled.sum(axis=1), features),
    )

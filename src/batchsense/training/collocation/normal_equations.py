"""Normal equations of a Gauss–Newton step, summed over chunks of points, and their damped solution.

Three forms of one linearised loss |b + A s|², A and b with the roots of all weights: dense, where
parameters are few; in the space of residuals, where these are fewer; and products alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from batchsense.errors import DataError
from batchsense.training.collocation.conditions import Condition, DrawnPoints, condition_residual
from batchsense.training.collocation.point_jacobians import point_jacobian
from batchsense.training.running import ALONE, Ranks
from batchsense.training.workload import trainable

#: Relative size of the residual at which conjugate gradients stop, and steps at most: a damped step
#: is tried against the loss anyway.
_CG_TOLERANCE, _CG_STEPS = 1e-6, 200


class System(Protocol):
    """What a step needs: loss and gradient Aᵀb at no step, the step, its predicted decrease."""

    @property
    def loss(self) -> float:
        """|b|²."""

    @property
    def gradient(self) -> Tensor:
        """G = Aᵀb, of shape (parameters,): half the gradient of the loss."""

    def step(self, damping: float) -> Tensor | None:
        """The s with (AᵀA + μ) s = −g; None where rounding forbids it."""

    def predicted(self, step: Tensor) -> float:
        """|b|² − |b + As|²."""


@dataclass(frozen=True)
class NormalEquations:
    r"""The sums :math:`H = \sum w J^\top J` and :math:`g = \sum w J^\top r`, dense."""

    matrix: Tensor  #: H, of shape (parameters, parameters).
    gradient: Tensor  #: g, of shape (parameters,); half the gradient of the loss.
    loss: float  #: The sum of w r².

    def step(self, damping: float) -> Tensor | None:
        """Solve by Cholesky."""
        found = _solved(self.matrix, damping, self.gradient)
        return None if found is None else -found

    def predicted(self, step: Tensor) -> float:
        """−2gᵀs − sᵀHs."""
        return float(-2 * self.gradient @ step - step @ (self.matrix @ step))


@dataclass(frozen=True)
class ResidualSpace:
    r"""The rows: :math:`s = -A^\top (A A^\top + \mu)^{-1} b` (Woodbury)."""

    rows: Tensor  #: A, of shape (residuals, parameters).
    residual: Tensor  #: b.
    gram: Tensor  #: A Aᵀ.

    @property
    def loss(self) -> float:
        """|b|²."""
        return float(self.residual @ self.residual)

    @property
    def gradient(self) -> Tensor:
        """Aᵀb."""
        return self.rows.T @ self.residual

    def step(self, damping: float) -> Tensor | None:
        """Solve by Cholesky for the residuals."""
        dual = _solved(self.gram, damping, self.residual)
        return None if dual is None else -(self.rows.T @ dual)

    def predicted(self, step: Tensor) -> float:
        """|b|² − |b + As|²."""
        after = self.residual + self.rows @ step
        return self.loss - float(after @ after)


@dataclass(frozen=True)
class ProductsAlone:
    """Products with H, each a pass over the points; no Jacobian is kept."""

    work: Accumulation
    gradient: Tensor
    loss: float

    def step(self, damping: float) -> Tensor | None:
        """Conjugate gradients (Hestenes and Stiefel 1952) on H + μ."""
        step, left = torch.zeros_like(self.gradient), -self.gradient
        along, square = left.clone(), float(left @ left)
        enough = square * _CG_TOLERANCE**2
        for _ in range(_CG_STEPS):
            if square <= enough:
                break
            product = self.work.product(along) + damping * along
            rate = square / float(along @ product)
            step += rate * along
            left -= rate * product
            before, square = square, float(left @ left)
            along = left + square / before * along
        return step if bool(torch.isfinite(step).all()) else None

    def predicted(self, step: Tensor) -> float:
        """−2gᵀs − sᵀHs."""
        return float(-2 * self.gradient @ step - step @ self.work.product(step))


@dataclass(frozen=True)
class Accumulation:
    """Sums over all conditions and points at the present weights, a chunk at a time.

    ``drawn`` is the same on every process; each takes its part of the points.
    """

    conditions: Sequence[Condition]
    model: nn.Module
    drawn: Mapping[str, DrawnPoints]
    chunk: int
    ranks: Ranks = ALONE

    def _chunks(self) -> Iterator[tuple[Condition, Tensor, Tensor]]:
        own = slice(self.ranks.rank, None, self.ranks.world_size)
        for condition in self.conditions:
            part = self.drawn[condition.name]
            points = torch.split(part.points[own], self.chunk)
            for some, weights in zip(
                points, torch.split(part.weights[own], self.chunk), strict=True
            ):
                yield condition, some, (condition.weight * weights).to(some)

    def weighted_rows(self) -> Iterator[tuple[Tensor, Tensor]]:
        """A and b of each chunk: Jacobian and residuals times the roots of the weights."""
        for condition, points, weights in self._chunks():
            residual, jacobian = point_jacobian(condition, self.model, points)
            roots = weights.sqrt().repeat_interleave(residual.shape[1])
            yield jacobian.mul_(roots.unsqueeze(1)), residual.reshape(-1) * roots

    def loss(self) -> float:
        """The sum of w r² over all points; NaN where a residual is not finite."""
        total = 0.0
        try:
            with torch.no_grad():
                for condition, points, weights in self._chunks():
                    residual = condition_residual(condition, self.model, points)
                    total += float(weights @ residual.square().sum(dim=1))
        except DataError:
            total = float("nan")
        return float(self.ranks.summed([total])[0])

    def dense(self) -> NormalEquations:
        """H, g and the loss."""
        count = sum(one.numel() for one in trainable(self.model))
        like = trainable(self.model)[0].detach()
        matrix, gradient = like.new_zeros(count, count), like.new_zeros(count)
        loss = like.new_zeros(1)
        for rows, residual in self.weighted_rows():
            matrix.addmm_(rows.T, rows)
            gradient.addmv_(rows.T, residual)
            loss += residual @ residual
        matrix, gradient, loss = self._over_ranks(matrix, gradient, loss)
        return NormalEquations(matrix, gradient, float(loss))

    def residual_space(self) -> ResidualSpace:
        """All rows; for few points on one process."""
        parts = list(self.weighted_rows())
        rows = torch.cat([part[0] for part in parts])
        return ResidualSpace(rows, torch.cat([part[1] for part in parts]), rows @ rows.T)

    def products_alone(self) -> ProductsAlone:
        """G and the loss, for conjugate gradients."""
        total = torch.zeros_like(_vector(trainable(self.model)))
        loss = total.new_zeros(())
        for condition, points, weights in self._chunks():
            residual = condition_residual(condition, self.model, points)
            total += self._pulled(residual, weights.unsqueeze(1) * residual.detach())
            loss += weights @ residual.detach().square().sum(dim=1)
        gradient, loss = self._over_ranks(total, loss)
        return ProductsAlone(self, gradient, float(loss))

    def product(self, direction: Tensor) -> Tensor:
        """H v: J v by differentiating Jᵀp, which is linear in p, by p; then back."""
        total, weights_of = torch.zeros_like(direction), trainable(self.model)
        parts = torch.split(direction, [one.numel() for one in weights_of])
        for condition, points, weights in self._chunks():
            residual = condition_residual(condition, self.model, points)
            probe = torch.zeros_like(residual, requires_grad=True)
            slopes = torch.autograd.grad(
                residual, weights_of, probe, create_graph=True, materialize_grads=True
            )
            products = [(s.reshape(-1) @ v) for s, v in zip(slopes, parts, strict=True)]
            (pushed,) = torch.autograd.grad(torch.stack(products).sum(), probe, retain_graph=True)
            total += self._pulled(residual, weights.unsqueeze(1) * pushed)
        return self._over_ranks(total)[0]

    def _pulled(self, residual: Tensor, by: Tensor) -> Tensor:
        return _vector(
            torch.autograd.grad(residual, trainable(self.model), by, materialize_grads=True)
        )

    def _over_ranks(self, *parts: Tensor) -> list[Tensor]:
        return [
            part if self.ranks.alone else torch.from_numpy(self.ranks.summed(part.cpu())).to(part)
            for part in parts
        ]


def _vector(parts: Iterable[Tensor]) -> Tensor:
    return torch.cat([part.detach().reshape(-1) for part in parts])


def _solved(matrix: Tensor, damping: float, right: Tensor) -> Tensor | None:
    shifted = matrix.clone()
    shifted.diagonal().add_(damping)
    factor, failed = torch.linalg.cholesky_ex(shifted)
    return None if int(failed) else torch.cholesky_solve(right.unsqueeze(1), factor).squeeze(1)

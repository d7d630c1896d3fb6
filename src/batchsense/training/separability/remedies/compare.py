"""Compare a gradient that was put together with the one it should be, and name the factor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from batchsense.errors import DataError
from batchsense.training.separability.kind.structure import pure_scale

#: Gradients by parameter name, or all of them in the same order.
Gradients: TypeAlias = Mapping[str, Tensor] | Sequence[Tensor] | Tensor


@dataclass(frozen=True, slots=True)
class GradientComparison:
    """How a candidate gradient differs from the reference.

    Attributes
    ----------
    deviation : float
        ‖candidate − reference‖ / ‖reference‖.
    scale : float
        s, the multiple of the reference that is nearest to the candidate.
    rest : float
        ‖candidate − s·reference‖ / ‖reference‖: what no factor explains.
    factor : str or None
        The name of s, such as ``"1/accumulation"``, if it is one of the known factors.
    equal : bool
        Whether the deviation is within the tolerance.
    by_parameter : mapping
        For every parameter whose gradient deviates: its own scale (NaN where the reference is
        zero).
    """

    deviation: float
    scale: float
    rest: float
    factor: str | None
    equal: bool
    by_parameter: Mapping[str, float]

    @property
    def only_a_factor(self) -> bool:
        """Whether the whole difference is one factor."""
        return not self.equal and self.rest <= 0.01 * self.deviation


def compare_gradients(
    reference: Gradients,
    candidate: Gradients,
    factors: Mapping[str, float] | None = None,
    tolerance: float = 1e-6,
) -> GradientComparison:
    """Say whether two gradients agree and, if not, whether they differ by a known factor.

    Parameters
    ----------
    reference : mapping, sequence or tensor
        The gradient over the whole minibatch.
    candidate : mapping, sequence or tensor
        What a training step produced from micro-batches or ranks.
    factors : mapping of str to float, optional
        Numbers that may have been multiplied or divided by too often, for example
        ``{"accumulation": 8, "world": 2}``; their inverses, products and quotients are tried.
    tolerance : float
        Deviation that counts as equal.

    Returns
    -------
    GradientComparison
        Deviation, scale and the name of the scale.

    Raises
    ------
    DataError
        The two do not have the same parameters, or the reference is zero.

    Examples
    --------
    >>> full = torch.tensor([3.0, 4.0])
    >>> compare_gradients(full, 8 * full, {"accumulation": 8, "world": 2}).factor
    'accumulation'
    >>> compare_gradients(full, full / 16, {"accumulation": 8, "world": 2}).factor
    '1/(accumulation·world)'
    """
    wanted, found = _by_name(reference), _by_name(candidate)
    if wanted.keys() != found.keys():
        odd = sorted(wanted.keys() ^ found.keys())
        raise DataError(f"the gradients have different parameters: {', '.join(odd[:5])}")
    for name, gradient in wanted.items():
        if gradient.shape != found[name].shape:
            raise DataError(
                f"{gradient.shape} numbers in the reference, {found[name].shape} in the candidate",
                where=name,
            )
    full = np.concatenate([*wanted.values()])
    put_together = np.concatenate([found[name] for name in wanted])
    size = float(np.linalg.norm(full))
    if size == 0.0 or not (np.isfinite(full).all() and np.isfinite(put_together).all()):
        raise DataError("the reference gradient is zero, or a gradient is not finite")
    deviation = float(np.linalg.norm(put_together - full)) / size
    scale, rest = pure_scale(put_together, full)
    equal = deviation <= tolerance
    off = {
        name: pure_scale(found[name], gradient)[0] if gradient.any() else math.nan
        for name, gradient in wanted.items()
        if not equal and np.linalg.norm(found[name] - gradient) > tolerance * size
    }
    factor = None if equal else named_factor(scale, factors or {})
    return GradientComparison(deviation, scale, rest, factor, equal, off)


def named_factor(scale: float, factors: Mapping[str, float], tolerance: float = 1e-3) -> str | None:
    """Name a number as a product or quotient of known factors.

    Examples
    --------
    >>> named_factor(0.125, {"K": 8, "world": 2})
    '1/K'
    >>> named_factor(4.0, {"K": 8, "world": 2})
    'K/world'
    """
    real = {name: value for name, value in factors.items() if value != 1}
    for powers in sorted(_powers(len(real)), key=lambda p: (sum(map(abs, p)), [-k for k in p])):
        value = math.prod(v**p for v, p in zip(real.values(), powers, strict=True))
        if any(powers) and abs(scale / value - 1) < tolerance:
            over = [name for name, p in zip(real, powers, strict=True) if p > 0]
            under = [name for name, p in zip(real, powers, strict=True) if p < 0]
            top = "·".join(over) or "1"
            if not under:
                return top
            return f"{top}/{under[0]}" if len(under) == 1 else f"{top}/({'·'.join(under)})"
    return None


def _powers(count: int) -> list[tuple[int, ...]]:
    """List all exponents −1, 0, 1 of some factors."""
    found: list[tuple[int, ...]] = [()]
    for _ in range(count):
        found = [(*powers, k) for powers in found for k in (1, 0, -1)]
    return found


def _by_name(gradients: Gradients) -> dict[str, NDArray[Any]]:
    """Flatten gradients to float64 arrays by name."""
    if isinstance(gradients, Mapping):
        named = dict(gradients)
    elif isinstance(gradients, Tensor):
        named = {"gradient": gradients}
    else:
        named = {f"parameter {k}": gradient for k, gradient in enumerate(gradients)}
    return {
        name: torch.as_tensor(gradient).detach().cpu().double().reshape(-1).numpy()
        for name, gradient in named.items()
    }

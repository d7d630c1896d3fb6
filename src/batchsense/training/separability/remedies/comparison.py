"""Compare a gradient that was put together with the one it should be, and name the factor.

Given gradients; that of processes whose gradients are averaged; that of an accumulation loop.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from batchsense.errors import DataError, listed
from batchsense.training.separability.kind.structure import LEAST_SINGULAR_VALUE
from batchsense.training.separability.preparation import chosen_examples
from batchsense.training.separability.probe.probe import GradientProbe, mixed
from batchsense.training.workload import Workload

#: ``step(model, micro_batches)``: runs backward on all micro-batches, leaving ``.grad``.
Step: TypeAlias = Callable[[nn.Module, Sequence[Any]], Any]
#: Gradients by parameter name, or all of them in the same order.
Gradients: TypeAlias = Mapping[str, Tensor] | Sequence[Tensor] | Tensor

# An error is called a factor if the factor explains all of it but for this share.
_UNEXPLAINED = 0.01
# Solving for weights that are zero leaves about 1e-15; a loop that clips shrinks them, to 1e-6.
_NOTHING = 1e-10
# Known factors are whole numbers, a thousandth apart only beyond a thousand processes or parts.
_ALIKE = 1e-3


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
    cause: str | None
        What else is found of an accumulation loop: ``"only the last micro-batch is left"``.
    """

    deviation: float
    scale: float
    rest: float
    factor: str | None
    equal: bool
    by_parameter: Mapping[str, float]
    cause: str | None = None

    @property
    def only_a_factor(self) -> bool:
        """Whether the whole difference is one factor."""
        return not self.equal and self.rest <= _UNEXPLAINED * self.deviation


def compare_gradients(
    reference: Gradients,
    candidate: Gradients,
    factors: Mapping[str, float] | None = None,
    tolerance: float = 1e-6,
) -> GradientComparison:
    """Say whether two gradients agree and, if not, whether they differ by a known factor.

    Known are the ``factors`` that may have been multiplied or divided by too often, for example
    ``{"accumulation": 8, "world": 2}``, their inverses, products and quotients.

    Raises DataError: the two do not have the same parameters, or the reference is zero.

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


def predict_ddp(
    workload: Workload,
    shards: Sequence[Sequence[int]],
    *,
    precision: str = "float64",
    seed: int = 0,
) -> GradientComparison:
    """Predict, in one process, what DistributedDataParallel makes of a loss.

    Each rank takes the gradient over its shard of examples, with random numbers of its own, and DDP
    averages them; the full gradient is over all shards together. The scale is named if it is the
    number of ranks or its inverse.
    """
    if len(shards) < 2 or any(len(shard) == 0 for shard in shards):
        raise DataError("give at least two shards, none of them empty", where="shards")
    everyone = [int(index) for shard in shards for index in shard]
    probe = GradientProbe(workload, everyone, precision, seed)
    whole = probe.by_parameter(range(len(everyone)), mixed(seed, 20))
    ends = np.cumsum([0, *map(len, shards)])
    ranks = [
        probe.by_parameter(range(a, b), mixed(seed, 21, r))
        for r, (a, b) in enumerate(itertools.pairwise(ends))
    ]
    averaged = {name: sum(rank[name] for rank in ranks) / len(ranks) for name in whole}
    return compare_gradients(whole, averaged, {"world": len(shards)}, tolerance=1e-9)  # type: ignore[arg-type]


def audit_step(
    workload: Workload,
    step: Step,
    micro_batch: int = 8,
    *,
    batch_size: int = 64,
    world_size: int = 1,
    tolerance: float = 1e-6,
    seed: int = 0,
) -> GradientComparison:
    """Compare what an accumulation loop leaves in ``.grad`` with the gradient of the whole.

    Run in float64 on a private copy. Known errors are named: a loss divided by the number of
    micro-batches once too often is the factor ``"1/accumulation"``, a gradient multiplied by the
    number of processes ``"world"``.

    Parameters
    ----------
    workload : Workload
        The loss over a whole minibatch is the truth here.
    step : callable
        ``step(model, micro_batches)`` calls ``backward()`` for every collated micro-batch as the
        training loop does, and no optimizer.
    micro_batch : int
        Examples per micro-batch.
    batch_size : int
        Examples in all.
    world_size : int
        How many processes the loop believes in.
    tolerance : float
        Relative deviation that counts as equal.
    seed : int
        Seed of the choice of examples and of random numbers; a loss with random numbers differs
        by its noise.

    Returns
    -------
    GradientComparison
        Deviation, scale, the name of the scale, the scale of each parameter that is off, and the
        cause where micro-batches are missing or count unequally.

    Raises
    ------
    DataError
        The step fails or leaves no gradient.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> def loss(model, x):
    ...     return model(x).square().mean()
    >>> workload = Workload(
    ...     nn.Linear(3, 1), loss, torch.randn(64, 3, generator=generator), torch.optim.SGD
    ... )
    >>> def forgetful(model, micro_batches):
    ...     for part in micro_batches:
    ...         loss(model, part).backward()
    >>> audit_step(workload, forgetful).factor
    'accumulation'
    """
    probe = GradientProbe(
        workload, chosen_examples(workload, batch_size, micro_batch, seed), "float64", seed
    )
    whole = probe.by_parameter(range(probe.count), mixed(seed, 61))
    parts = [range(k, k + micro_batch) for k in range(0, probe.count, micro_batch)]
    found = probe.left_by(step, parts, mixed(seed, 61))
    if all(gradient.numel() == 0 for gradient in found.values()):
        raise DataError(
            "it leaves no gradient in the model that it is given; call backward() and do not "
            "zero the gradients at the end",
            where="step",
        )
    candidate = {
        name: gradient if gradient.numel() else torch.zeros_like(whole[name])
        for name, gradient in found.items()
    }
    factors = {"accumulation": len(parts), "world": world_size}
    compared = compare_gradients(whole, candidate, factors, tolerance)
    if compared.equal or (compared.only_a_factor and compared.factor is not None):
        return compared
    alone = [_by_name(probe.by_parameter(part, mixed(seed, 61))) for part in parts]
    columns = np.array([np.concatenate([*gradients.values()]) for gradients in alone])
    left = np.concatenate([_by_name(candidate)[name] for name in alone[0]])
    return dataclasses.replace(compared, cause=_cause(columns, left, tolerance))


def _cause(parts: NDArray[Any], left: NDArray[Any], tolerance: float) -> str | None:
    """Tell how the gradients of the micro-batches (rows) make up what is left; None if not."""
    sizes = np.linalg.norm(parts, axis=1)
    if not left.any() or (sizes == 0).any():
        return None
    units = parts / sizes[:, None]
    fitted, _, rank, _ = np.linalg.lstsq(units.T, left, rcond=LEAST_SINGULAR_VALUE)
    missed = float(np.linalg.norm(left - fitted @ units))
    if rank < len(parts) or len(left) < 2 * len(parts) or missed > tolerance * np.linalg.norm(left):
        return None
    weights = fitted / sizes
    counted = np.flatnonzero(np.abs(weights) > _NOTHING * np.abs(weights).max())
    count = len(parts)
    if len(counted) == 1:
        place = {0: "first", count - 1: "last"}.get(int(counted[0]), f"{counted[0] + 1}th")
        return f"only the {place} micro-batch is left"
    if len(counted) < count:
        missing = [str(k + 1) for k in range(count) if k not in counted]
        return f"of {count} micro-batches these are missing: {listed(missing)}"
    shares = weights * count
    if np.ptp(shares) <= _UNEXPLAINED * np.abs(shares).max():
        return None
    return (
        f"the {count} micro-batches count unequally: {shares.min():.2g} to {shares.max():.2g} "
        "times their share"
    )


def named_factor(scale: float, factors: Mapping[str, float]) -> str | None:
    """Name a number as a product or quotient of known factors, to a thousandth.

    >>> named_factor(0.125, {"K": 8, "world": 2})
    '1/K'
    >>> named_factor(4.0, {"K": 8, "world": 2})
    'K/world'
    """
    real = {name: value for name, value in factors.items() if value != 1}
    choices = itertools.product((1, 0, -1), repeat=len(real))
    for powers in sorted(choices, key=lambda p: (sum(map(abs, p)), [-k for k in p])):
        value = math.prod(v**p for v, p in zip(real.values(), powers, strict=True))
        if any(powers) and abs(scale / value - 1) < _ALIKE:
            over = [name for name, p in zip(real, powers, strict=True) if p > 0]
            under = [name for name, p in zip(real, powers, strict=True) if p < 0]
            top = "·".join(over) or "1"
            if not under:
                return top
            return f"{top}/{under[0]}" if len(under) == 1 else f"{top}/({'·'.join(under)})"
    return None


def pure_scale(candidate: NDArray[Any], reference: NDArray[Any]) -> tuple[float, float]:
    """Split a candidate into s·reference and a rest: s and |rest| / |reference|.

    s = ⟨candidate, reference⟩ / |reference|²; a rest of zero means that the error is only a factor.

    >>> pure_scale(np.array([6.0, 8.0]), np.array([3.0, 4.0]))
    (2.0, 0.0)
    """
    squared = float(reference @ reference)
    scale = float(candidate @ reference) / squared
    return scale, float(np.linalg.norm(candidate - scale * reference)) / math.sqrt(squared)


def _by_name(gradients: Gradients) -> dict[str, NDArray[Any]]:
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

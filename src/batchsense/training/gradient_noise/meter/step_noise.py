"""From the squared gradients of one step, over all passes and processes, to noise and signal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import distributed

from batchsense.arrays import Floats
from batchsense.errors import DataError, UnresolvedError
from batchsense.training.gradient_noise.estimators import noise_of_two_sizes
from batchsense.training.gradient_noise.meter.backward_watch import PROBED, StepSquares

NOT_FINITE = "a gradient was not finite"
#: Largest distance of a gradient from the sum of its parts, relative to the parts: communication in
#: half precision may cost this much; a missing pass costs more unless there are fifty.
_SUM_TOLERANCE = 2e-2


@dataclass(frozen=True, slots=True, eq=False)
class StepSums:
    """Sums over the passes of a step, which add up over processes too; P parameters."""

    parts: float  #: K, backward passes.
    examples: float  #: n, their examples.
    #: Σ w and Σ w²/n, for the weights w with which mean gradients entered the total.
    weight: float
    weight_square: float
    processes: float  #: How many processes are in the sums.
    problems: float  #: How many of them could not measure.
    part_squares: Floats  #: Σ n |g|² over the passes, g the mean gradient of a pass; shape (P,).
    #: Σ |gᵢ|² over the examples; NaN for a parameter where they are unknown; shape (P,).
    example_squares: Floats
    #: First numbers of Σ w g, and of Σ |w g|; shape (P, 4).
    probes: Floats
    probe_scales: Floats

    def vector(self) -> Floats:
        """Write everything as one vector."""
        counts = [self.parts, self.examples, self.weight, self.weight_square]
        counts += [self.processes, self.problems]
        arrays = (self.part_squares, self.example_squares, self.probes, self.probe_scales)
        return np.concatenate([np.array(counts), *(array.ravel() for array in arrays)])

    @classmethod
    def of_vector(cls, vector: Floats) -> StepSums:
        """Read what :meth:`vector` wrote."""
        parts, examples, weight, weight_square, processes, problems = vector[:6].tolist()
        rest = vector[6:]
        parameters = len(rest) // (2 + 2 * PROBED)
        squares = rest[: 2 * parameters].reshape(2, parameters)
        probes = rest[2 * parameters :].reshape(2, parameters, PROBED)
        return cls(parts, examples, weight, weight_square, processes, problems, *squares, *probes)


def sums_of_step(
    found: StepSquares,
    reduction: Literal["mean", "sum"],
    example_squares: Floats | None,
    problem: bool,
) -> StepSums:
    """Add up the passes of one process.

    ``example_squares`` are Σ |gᵢ|² of each parameter, if they are seen. Where the step has a
    problem everything else is zero, so that sums over processes stay finite.
    """
    parameters = len(found.total)
    empty = np.zeros((parameters, PROBED))
    if problem:
        zeros = np.zeros(parameters)
        return StepSums(0.0, 0.0, 0.0, 0.0, 1.0, 1.0, zeros, zeros, empty, empty)
    sizes = found.sizes.astype(np.float64)
    weights = found.scales * (sizes if reduction == "sum" else 1.0)
    probed = len(found.probes) > 0
    return StepSums(
        parts=float(len(sizes)),
        examples=float(sizes.sum()),
        weight=float(weights.sum()),
        weight_square=float((weights**2 / sizes).sum()),
        processes=1.0,
        problems=0.0,
        part_squares=(sizes / weights**2) @ found.squares,
        example_squares=np.full(parameters, math.nan)
        if example_squares is None
        else example_squares,
        probes=found.probes.sum(axis=0) if probed else empty,
        probe_scales=np.abs(found.probes).sum(axis=0) if probed else empty,
    )


def summed_over_processes(
    sums: StepSums, group: distributed.ProcessGroup, on: torch.device
) -> StepSums:
    """Add up the sums of all processes: the one communication of a measured step."""
    vector = torch.from_numpy(sums.vector()).to(on)
    distributed.all_reduce(vector, group=group)
    return StepSums.of_vector(vector.cpu().numpy())


def noise_of_step(
    sums: StepSums,
    found: StepSquares,
    *,
    single_examples: bool,
    population: int | None,
) -> tuple[Floats, Floats, float]:
    r"""Return τ̂ and γ̂ of each parameter at one step.

    The gradients that the optimizer sees are :math:`\sum w_k g_k / R` after averaging over R
    processes; divided by :math:`\sum w_k / R` they are a mean gradient whose noise is that of
    :math:`(\sum w_k)^2 / \sum w_k^2/n_k` examples. Where single examples were seen their squares
    are the small end of :func:`noise_of_two_sizes`, elsewhere those of the passes.

    ``sums`` are over all processes, ``found`` of this one: what is averaged is the same everywhere.

    Shapes: the result (P,).

    Raises UnresolvedError: there was one part only and a parameter without norms of single
    examples.
    Raises DataError: another process failed, a number is not finite, or the parts do not make the
    total.
    """
    if sums.problems:
        raise DataError("another process could not measure the step")
    _check_sum(sums, found)
    total = found.total * (sums.processes / sums.weight) ** 2
    size = sums.weight**2 / sums.weight_square
    seen = ~np.isnan(sums.example_squares)
    if not np.isfinite(total).all():
        raise DataError(NOT_FINITE)
    tau, gamma = np.zeros_like(total), np.zeros_like(total)
    if single_examples and seen.any():
        small = sums.example_squares[seen] / sums.examples
        if not np.isfinite(small).all():
            raise DataError(NOT_FINITE)
        tau[seen], gamma[seen] = noise_of_two_sizes(small, 1.0, total[seen], size, population)
    rest = ~seen if single_examples else np.ones_like(seen)
    if rest.any():
        if sums.parts < 2:
            raise UnresolvedError(
                "each step had one backward pass in one process, which says nothing about "
                "differences",
                'mode="per_example", or gradients accumulated over two or more passes',
            )
        small = sums.part_squares[rest] / sums.examples
        if not np.isfinite(small).all():
            raise DataError(NOT_FINITE)
        each = sums.examples / sums.parts
        tau[rest], gamma[rest] = noise_of_two_sizes(small, each, total[rest], size, population)
    return tau, gamma, size


def _check_sum(sums: StepSums, found: StepSquares) -> None:
    if not len(found.probes):
        return
    expected = sums.probes / sums.processes
    scale = np.maximum(sums.probe_scales / sums.processes, 1e-30)
    # One number may round badly where its neighbours are large, so the parameter sets the scale.
    scale = np.broadcast_to(scale.max(axis=1, keepdims=True), scale.shape)
    missing = np.abs(found.probed_total - expected) / scale
    if np.isfinite(expected).all() and float(missing.max(initial=0.0)) > _SUM_TOLERANCE:
        raise DataError(
            "the gradients that the optimizer saw are not the sum of those of the backward passes; "
            "if they are averaged over processes, give the meter the DistributedDataParallel module"
        )

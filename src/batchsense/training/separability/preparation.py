"""Open a workload for an audit: choose examples, screen it, measure one partition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from batchsense.arrays import Places
from batchsense.errors import DataError
from batchsense.training.separability.kind.screening import (
    Screening,
    measured_parts,
    partition,
    refuse_zero,
    rescreened,
    screen,
)
from batchsense.training.separability.kind.structure import Split, split_of
from batchsense.training.separability.probe.probe import GradientProbe, Measured
from batchsense.training.workload import Loss, Workload, admitted
from batchsense.training.workload.minibatches import count_examples, take_examples


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A probe on chosen examples, and what its first partition showed.

    Attributes
    ----------
    probe : GradientProbe
        The workload's private copy on these examples.
    screening : Screening
        Floors and the treatment of random numbers.
    places : list of arrays of int
        The parts of the partition.
    parts : list of Measured
        Their gradients.
    split : Split
        What they show.
    taken : tuple of int
        Indices of the examples in the workload.
    notes : tuple of str
        What limits the answer.
    """

    probe: GradientProbe
    screening: Screening
    places: list[Places]
    parts: list[Measured]
    split: Split
    taken: tuple[int, ...]
    notes: tuple[str, ...]

    @property
    def separable(self) -> bool:
        """Whether the average of the parts is the whole, to rounding."""
        return self.exact and (
            self.split.mean_gap < self.screening.tolerance and not self.screening.order_matters
        )

    @property
    def exact(self) -> bool:
        """Whether equalities can be expected, random numbers included."""
        return self.screening.randomness == "tied" or not self.screening.stochastic


def opened(
    workload: Workload, taken: Sequence[int], micro_batch: int, precision: str, seed: int
) -> Opened:
    """Screen a workload on some of its examples and measure one partition.

    Raises
    ------
    DataError
        The workload cannot be audited.
    UnresolvedError
        The gradient vanishes at these parameters.
    """
    probe, screening, notes = _screened(workload, taken, precision, seed)
    places = partition(probe.count, micro_batch, np.random.default_rng([seed, 10]))
    parts = measured_parts(probe, places, seed, screening.randomness)
    if screening.randomness == "tied" and probe.isolated.broken_tie is not None:
        screening = rescreened(probe, seed)
        parts = measured_parts(probe, places, seed, screening.randomness)
    gradients = np.array([part.gradient for part in parts])
    typical = float(np.sqrt(np.square(gradients).sum(axis=1).mean()))
    refuse_zero(screening.whole.gradient, typical)
    split = split_of(screening.whole.gradient, gradients, {}, probe.parameters)
    if probe.sketched:
        notes = (
            *notes,
            f"Gradients of {probe.parameters:,} numbers were compared through a random sketch: "
            "zero stays zero, lengths are good to about 1 %.",
        )
    return Opened(probe, screening, places, parts, split, tuple(map(int, taken)), notes)


def chosen_examples(workload: Workload, batch_size: int, micro_batch: int, seed: int) -> list[int]:
    """Choose examples at random, a multiple of ``micro_batch`` and at least four times as many.

    Raises
    ------
    DataError
        There are too few examples.
    """
    if micro_batch < 1:
        raise DataError(f"a micro-batch has at least one example, not {micro_batch}", "micro_batch")
    available = admitted(workload)
    count = min(batch_size, available)
    count -= count % micro_batch
    if count < 4 * micro_batch or count < 4:
        raise DataError(
            f"{min(batch_size, available)} of the {available} examples make fewer than four "
            f"micro-batches of {micro_batch}; give more examples or a smaller micro-batch",
            where="examples",
        )
    order = np.random.default_rng([seed, 9]).permutation(available)
    return [int(k) for k in order[:count]]


def as_workload(workload: Workload | Loss, model: nn.Module | None, minibatch: Any) -> Workload:
    """Give a workload; make one of a loss function, a model and a collated minibatch.

    Raises
    ------
    DataError
        The arguments are neither the one nor the other.
    """
    if isinstance(workload, Workload):
        if model is not None or minibatch is not None:
            raise DataError("a Workload has its own model and examples; leave them out", "audit")
        return workload
    if not callable(workload) or model is None or minibatch is None:
        raise DataError(
            "give a Workload, or a function loss(model, minibatch) with a model and a collated "
            f"minibatch; got {type(workload).__name__}",
            where="audit",
        )
    count = count_examples(minibatch)
    return Workload(
        model=model,
        loss=workload,
        examples=range(count),
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.0),
        collate=lambda places: take_examples(minibatch, [int(place) for place in places], count),
    )


def _screened(
    workload: Workload, taken: Sequence[int], precision: str, seed: int
) -> tuple[GradientProbe, Screening, tuple[str, ...]]:
    """Screen in the wanted precision, or in float32 where float64 has no kernel."""
    probe = GradientProbe(workload, taken, precision, seed)
    try:
        return probe, screen(probe, seed), ()
    except DataError as error:
        if precision != "float64" or not _lacks_float64(error):
            raise
        probe = GradientProbe(workload, taken, "float32", seed)
        screening = screen(probe, seed)
        note = (
            f"Computed in float32, because float64 failed ({error}): deviations below "
            f"{screening.tolerance:.1g}·|G| count as zero."
        )
        return probe, screening, (note,)


def _lacks_float64(error: DataError) -> bool:
    """Whether an error is about the number type."""
    text = str(error).lower()
    return any(word in text for word in ("float64", "double", "dtype", "not implemented for"))

"""Open a workload for an audit: choose examples, screen it, measure one partition.

One partition decides whether a loss is a mean of independent terms; the quick audit stops there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn

from batchsense.arrays import Floats, Places
from batchsense.errors import DataError
from batchsense.training.separability.kind.structure import Split, kind_of, split_of
from batchsense.training.separability.probe.probe import GradientProbe
from batchsense.training.separability.probe.screening import (
    Parts,
    Screening,
    partition,
    refuse_zero,
    rescreened,
    screen,
)
from batchsense.training.separability.report import Kind, Source, Verdict
from batchsense.training.workload import Loss, Workload, admitted, count_examples, take_examples

# What torch says where it cannot compute in float64.
_NO_SUCH_KERNEL = ("float64", "double", "dtype", "not implemented for")
#: What can be audited: a workload, or a loss function beside a model and a minibatch.
Auditable: TypeAlias = Workload | Loss


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A screened workload, its first partition with what that shows, and what limits the answer.

    ``taken`` are the indices of the examples in the workload; ``uneven`` tells whether the last
    part was measured in two halves, without which one partition does not decide.
    """

    screening: Screening
    parts: Parts
    split: Split
    taken: tuple[int, ...]
    notes: tuple[str, ...]
    uneven: bool

    @property
    def separable(self) -> bool:
        """Whether the average of the parts, two of them smaller, is the whole, to rounding."""
        return self.uneven and self.equal and self.screening.exact

    @property
    def equal(self) -> bool:
        """Whether the average of the measured parts is the whole, to rounding."""
        screening = self.screening
        return self.split.mean_gap < screening.tolerance and not screening.order_matters

    @property
    def kind(self) -> Kind:
        """What one partition shows; "interacting" stands for all that needs more of them."""
        if self.screening.order_matters:
            return "interacting"
        return kind_of([self.split], self.screening.tolerance).kind

    @property
    def cost(self) -> float:
        """Gradients over all examples that were taken so far, also since then."""
        return self.screening.probe.examples_used / self.screening.probe.count


@dataclass(frozen=True, slots=True)
class QuickAudit:
    """Whether averaged micro-batch gradients are the gradient of the whole, on one partition."""

    #: ``"yes"``: it is, to rounding. ``"no"``: it is not; whether that is a bias or only noise, a
    #: full :func:`audit` tells. ``"unresolved"``: random numbers hide it.
    verdict: Verdict
    #: What one partition shows: ``"interacting"`` stands for every kind that needs more of them.
    kind: Kind | None
    deviation: float  #: ‖mean_k g_k − G‖ / ‖G‖.
    tolerance: float  #: What counted as zero.
    stochastic: bool  #: Whether the loss draws random numbers.
    message: str  #: One or two sentences for the user: what was found and what to do.
    cost: float  #: Gradients over all examples that it took.


def quick_audit(
    workload: Workload, *, seed: int = 0, batch_size: int = 64, micro_batch: int = 8
) -> QuickAudit:
    """Ask of a workload whether its loss is a mean of independent terms.

    Costs three gradients over ``batch_size`` examples in float64 (up to a dozen for a loss whose
    random numbers resist). The workload is left as it is, random generators included. Data sets
    smaller than four micro-batches are cut into smaller ones.

    Raises DataError: fewer than four examples, or a loss that fails, has no gradient, keeps state
    between calls or is not reproducible.
    Raises UnresolvedError: the gradient vanishes at these parameters.
    """
    size = max(1, min(micro_batch, admitted(workload) // 4))
    taken = chosen_examples(workload, batch_size, size, seed)
    first = opened(workload, taken, size, "float64", seed)
    deviation = first.split.mean_gap
    verdict: Verdict = "no"
    kind: Kind | None = first.kind
    if first.separable:
        verdict, kind = "yes", "mean"
        message = f"The loss is a mean of independent terms (deviation {deviation:.1e})."
    elif not first.screening.exact:
        verdict, kind = "unresolved", None
        message = (
            "The loss draws random numbers that hide whether its parts average to the whole; "
            "'batchsense audit' decides by statistics."
        )
    elif kind == "sum":
        message = (
            "The loss is a sum over its examples, not a mean: its gradient grows with the batch "
            "size. Divide it by their number."
        )
    else:
        message = (
            "The loss is not a mean of independent terms: the average gradient of micro-batches "
            f"of {size} differs by {deviation:.2g}·|G| from that of the whole. 'batchsense audit' "
            "tells why, whether it is a bias, and how to repair it."
        )
    screening = first.screening
    return QuickAudit(
        verdict, kind, deviation, screening.tolerance, screening.stochastic, message, first.cost
    )


def opened(
    workload: Workload, taken: Sequence[int], micro_batch: int, precision: str, seed: int
) -> Opened:
    """Screen a workload on some of its examples and measure one partition."""
    screening, notes = _screened(workload, taken, precision, seed)
    probe = screening.probe
    places = partition(probe.count, micro_batch, np.random.default_rng([seed, 10]))
    parts, split, uneven = _first_partition(screening, places)
    if screening.randomness == "tied" and probe.isolated.broken_tie is not None:
        screening = rescreened(probe, seed)
        parts, split, uneven = _first_partition(screening, places)
    if probe.sketched:
        notes = (
            *notes,
            f"Gradients of {probe.parameters:,} numbers were compared through a random sketch: "
            "zero stays zero, lengths are good to about 1 %.",
        )
    return Opened(screening, parts, split, tuple(map(int, taken)), notes, uneven)


def terms_of(
    workload: Workload, terms: Mapping[str, Loss], first: Opened, micro_batch: int, precision: str
) -> tuple[Source, ...]:
    """Name the terms of a loss that are no means of independent terms, with their kind."""
    found = []
    seed = first.screening.seed
    for number, (name, term) in enumerate(terms.items()):
        alone = dataclasses.replace(workload, loss=term)
        screening = screen(
            GradientProbe(alone, first.taken, precision, seed), first.screening.mixed(31, number)
        )
        generator = np.random.default_rng([seed, 32, number])
        places = partition(screening.probe.count, micro_batch, generator)
        _, split, _ = _first_partition(screening, places)
        kind = kind_of([split], screening.tolerance).kind
        if kind != "mean":
            found.append(Source(name, "term", f"{kind}; alone it deviates by {split.mean_gap:.2g}"))
    return tuple(found)


def chosen_examples(workload: Workload, batch_size: int, micro_batch: int, seed: int) -> list[int]:
    """Choose examples at random, a multiple of ``micro_batch`` and at least four times as many."""
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


def as_workload(workload: Auditable, model: nn.Module | None, minibatch: Any) -> Workload:
    """Take a workload, or make one of a loss function, a model and a collated minibatch."""
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


def _first_partition(screening: Screening, places: list[Places]) -> tuple[Parts, Split, bool]:
    """Measure a partition whose last part is cut into halves: the shortest and the longest.

    Equal parts alone can agree by chance, as where each has the same count of labels, or all are
    padded to one length. Where halves fail, the last part is measured whole; the flag tells which.
    """
    probe, whole = screening.probe, screening.whole.gradient
    size, short = len(places[-1]), len(places[-1]) // 2
    if short > 0:
        places = _ends_last(places, probe.lengths)
        try:
            halves = [places[-1][:short], places[-1][short:]]
            cut = screening.measured_parts([*places[:-1], *halves], screening.seed)
        except DataError:
            short = 0
    if short == 0:
        parts = screening.measured_parts(places, screening.seed)
        _refuse_vanishing(whole, parts.gradients)
        return parts, split_of(whole, parts.gradients, {}, probe.parameters), size == 1
    _refuse_vanishing(whole, cut.gradients)
    split = split_of(whole, cut.gradients, {}, probe.parameters, [*map(len, cut.places)])
    last = np.average(cut.gradients[-2:], axis=0, weights=[short, size - short])
    gradients = np.array([*cut.gradients[:-2], last])
    minibatches = [*cut.minibatches[:-2], probe.minibatch_of(places[-1])]
    return Parts(places, gradients, minibatches), split, True


def _ends_last(places: list[Places], lengths: Places) -> list[Places]:
    """Let the last part of a partition hold the shortest, then the longest examples."""
    if np.ptp(lengths) == 0:
        return places
    everyone, size = np.concatenate(places), len(places[-1])
    order = everyone[np.argsort(lengths[everyone], kind="stable")]
    ends = np.concatenate([order[: size // 2], order[len(order) - (size - size // 2) :]])
    others = everyone[~np.isin(everyone, ends)]
    return [*others.reshape(len(places) - 1, size), ends]


def _refuse_vanishing(whole: Floats, parts: Floats) -> None:
    refuse_zero(whole, float(np.sqrt(np.square(parts).sum(axis=1).mean())))


def _screened(
    workload: Workload, taken: Sequence[int], precision: str, seed: int
) -> tuple[Screening, tuple[str, ...]]:
    """Screen in the wanted precision, or in float32 where float64 has no kernel."""
    probe = GradientProbe(workload, taken, precision, seed)
    try:
        return screen(probe, seed), ()
    except DataError as error:
        told = str(error).lower()
        if precision != "float64" or not any(word in told for word in _NO_SUCH_KERNEL):
            raise
        screening = screen(GradientProbe(workload, taken, "float32", seed), seed)
        note = (
            f"Computed in float32, because float64 failed ({error}): deviations below "
            f"{screening.tolerance:.1g}·|G| count as zero."
        )
        return screening, (note,)

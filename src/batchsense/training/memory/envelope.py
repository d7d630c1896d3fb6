"""Peak memory of a training step as a function of the batch size, and the largest that fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from batchsense.arrays import Floats, Integers
from batchsense.errors import UnresolvedError
from batchsense.training.memory.allocations import PURPOSES, AllocationTrace, live_totals
from batchsense.training.memory.example_sizes import DifferingExamples

#: Bytes by which an allocation may miss its line: kernels round workspaces to pages of 4096.
_ROUNDING_BYTES = 8192
#: Stands for "memory does not grow".
LARGEST = 1 << 40
#: The moment before the step, from which on the minibatch is there.
MINIBATCH = "the minibatch"
#: The last moment on the CPU: the loop still holds the minibatch of the step before.
LOADING = "loading the next minibatch"


@dataclass(frozen=True, slots=True, eq=False)
class MemoryEnvelope:
    """Peak memory of a training step at every batch size.

    At moment t of a step A_t + S_t·B + Q_t·B² bytes are alive, so the peak is the maximum over
    t: convex, and not a line through two small measurements.

    Attributes
    ----------
    constant, slope, curvature : arrays of shape (moments,)
        A in bytes, with the model's own weights; S in bytes per example; Q, zero unless something
        of size B × B is stored.
    operations : tuple of str
        What was allocated at each moment.
    probe_sizes : tuple of int
        The batch sizes that were traced.
    checked_batch_size : int or None
        A larger size at which the envelope was compared with a real step.
    checked_error : float or None
        Relative difference there: (measured − predicted) / predicted.
    differing_examples : DifferingExamples or None
        That examples differ in size, and of which the largest was used.
    parts : mapping of str to array of shape (3, moments)
        A, S and Q of weights, gradients, optimizer, activations, workspace and data.
    blocks : array of shape (3, moments), optional
        A, S and Q of the block allocated at each moment, without what is alive beside it.
    freed_before : array of shape (moments,), optional
        The moment before which that block is freed.
    largest_gradient : int
        Bytes of the gradient of the largest parameter.
    lower_bound : tuple of str
        Modules whose kernels take memory that was not seen, because no step was run; then the
        envelope is a lower bound.
    """

    constant: Floats
    slope: Floats
    curvature: Floats
    operations: tuple[str, ...]
    probe_sizes: tuple[int, ...]
    checked_batch_size: int | None = None
    checked_error: float | None = None
    differing_examples: DifferingExamples | None = None
    parts: Mapping[str, Floats] = field(default_factory=dict)
    blocks: Floats | None = None
    freed_before: Integers | None = None
    largest_gradient: int = 0
    lower_bound: tuple[str, ...] = ()

    def peak_bytes(self, batch_size: int) -> int:
        """Return the most bytes alive at once in a step of ``batch_size`` examples."""
        return int(np.ceil(self._live(batch_size).max()))

    def peak_operation(self, batch_size: int) -> str:
        """Name the operation that allocates at the peak."""
        return self.operations[int(self._live(batch_size).argmax())]

    def bytes_per_example(self, batch_size: int) -> float:
        """Return the bytes that one more example costs at the peak."""
        moment = int(self._live(batch_size).argmax())
        return float(self.slope[moment] + 2 * self.curvature[moment] * batch_size)

    def breakdown(self, batch_size: int) -> dict[str, int]:
        """Say what the bytes at the peak are for; they add up to it, but for rounding."""
        moment = int(self._live(batch_size).argmax())
        powers = np.array([1.0, batch_size, float(batch_size) ** 2])
        return {
            purpose: round(float(powers @ part[:, moment])) for purpose, part in self.parts.items()
        }

    def accumulating(self) -> MemoryEnvelope:
        """The envelope of one micro-batch of several whose gradients are added up.

        From the second micro-batch on every gradient is there all the time, and each new one
        beside it until it is added.
        """
        kept = self.parts["gradients"]
        everything = float(kept[0].max()) + self.largest_gradient
        return replace(
            self,
            constant=self.constant - kept[0] + everything,
            checked_batch_size=None,
            checked_error=None,
        )

    def minibatch_bytes(self, batch_size: int) -> int:
        """Return the bytes of a collated minibatch."""
        powers = np.array([1.0, batch_size, float(batch_size) ** 2])
        return round(float(powers @ self.parts["data"][:, self.operations.index(MINIBATCH)]))

    def without_loading(self) -> MemoryEnvelope:
        """The envelope of a loop that never holds two minibatches: each is deleted, or stays."""
        if self.operations[-1] != LOADING:
            return self
        return replace(
            self,
            constant=self.constant[:-1],
            slope=self.slope[:-1],
            curvature=self.curvature[:-1],
            operations=self.operations[:-1],
            parts={purpose: part[:, :-1] for purpose, part in self.parts.items()},
            blocks=None if self.blocks is None else self.blocks[:, :-1],
            freed_before=None if self.freed_before is None else self.freed_before[:-1],
        )

    def max_batch_size(self, budget_bytes: float) -> int:
        """Return the largest batch size whose peak fits; 0 if none does.

        The bytes are for weights, gradients, optimizer state, minibatch and activations together;
        2⁴⁰ examples stand for "memory does not grow".
        """
        return largest_that_fits(self.peak_bytes, budget_bytes)

    def kept_bytes(self, batch_size: int, returned: int, factor: float) -> int:
        """Return the bytes resident where blocks below ``returned`` bytes are kept when freed.

        All blocks of at least that size, at their peak, and ``factor`` times the peak of the
        smaller ones. Without blocks, ``factor`` times the whole.
        """
        if self.blocks is None or self.freed_before is None:
            return int(np.ceil(factor * self.peak_bytes(batch_size)))
        sizes = np.array([1.0, batch_size, float(batch_size) ** 2]) @ self.blocks
        large = sizes >= returned
        large[0] = True  # the model, allocated long before and never freed
        peaks = [
            live_totals(np.where(of, sizes, 0.0), self.freed_before).max() for of in (large, ~large)
        ]
        return int(np.ceil(max(peaks[0] + factor * peaks[1], self.peak_bytes(batch_size))))

    def _live(self, batch_size: int) -> Floats:
        return self.constant + self.slope * batch_size + self.curvature * float(batch_size) ** 2


def largest_that_fits(bytes_of: Callable[[int], int], budget_bytes: float) -> int:
    """Find the largest size whose bytes fit, where bytes grow with the size; 0 if none does.

    >>> largest_that_fits(lambda size: 100 + 8 * size, 1000)
    112
    """
    low, high = 0, 1
    while high < LARGEST and bytes_of(high) <= budget_bytes:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if bytes_of(middle) <= budget_bytes:
            low = middle
        else:
            high = middle
    return low


def envelope_of_traces(traces: Sequence[AllocationTrace], sizes: Sequence[int]) -> MemoryEnvelope:
    """Join the traces of four equally spaced batch sizes into an envelope.

    The envelope is not checked at a larger size.

    Raises UnresolvedError: the traces do not match, or an allocation is no polynomial of degree
    two.
    """
    counts = [len(trace.sizes) for trace in traces]
    if len(set(counts)) > 1:
        raise UnresolvedError(
            "the allocation pattern changes with the batch size "
            f"({counts[0]} and {counts[-1]} allocations at {sizes[0]} and {sizes[-1]} examples): "
            "kernels are chosen by size, or the code depends on the data",
            "batch sizes nearer to the one you want",
        )
    table = np.stack([trace.sizes for trace in traces]).astype(np.float64)
    freed = np.max([trace.freed_before for trace in traces], axis=0)
    coefficients = _polynomials(table, np.asarray(sizes, dtype=np.float64))
    last = traces[-1]
    constant, slope, curvature = (live_totals(part, freed) for part in coefficients)
    of = np.array(last.purposes)
    return MemoryEnvelope(
        constant,
        slope,
        curvature,
        last.operations,
        tuple(sizes),
        parts={
            purpose: np.stack(
                [live_totals(np.where(of == purpose, one, 0.0), freed) for one in coefficients]
            )
            for purpose in PURPOSES
        },
        blocks=coefficients,
        freed_before=freed,
        largest_gradient=int(last.sizes[of == "gradients"].max(initial=0)),
    )


def _polynomials(table: Floats, sizes: Floats) -> Floats:
    """Return each allocation's coefficients (constant, slope, curvature): shape (3, allocations).

    An exact line, else an exact square, else a line that rounding to pages explains.
    """
    step = sizes[1] - sizes[0]
    bent, uneven = np.diff(table, 2, axis=0).any(axis=0), np.diff(table, 3, axis=0).any(axis=0)
    curvature = np.where(bent & ~uneven, (table[2] - 2 * table[1] + table[0]) / (2 * step**2), 0.0)
    slope = np.where(
        uneven,
        (table[-1] - table[0]) / (sizes[-1] - sizes[0]),
        (table[1] - table[0]) / step - curvature * (sizes[0] + sizes[1]),
    )
    constant = table[0] - slope * sizes[0] - curvature * sizes[0] ** 2
    predicted = constant + np.outer(sizes, slope) + np.outer(sizes**2, curvature)
    wrong = (np.abs(table - predicted).max(axis=0) > _ROUNDING_BYTES) | (curvature < 0)
    if wrong.any():
        raise UnresolvedError(
            f"{int(wrong.sum())} allocations grow neither linearly nor as a square of the batch "
            "size, so no larger size can be predicted",
            "a measurement at the batch size you want",
        )
    constant += np.maximum((table - predicted).max(axis=0), 0.0)  # rounding: the safe side
    return np.stack([constant, slope, curvature])

"""The first look at a workload: can it be audited, and is its loss exactly separable.

Three gradients decide a clean case: over all examples; over all in another order, with other
random numbers and without putting buffers back; and over the parts of one partition.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from batchsense.arrays import Floats, Places
from batchsense.errors import DataError, UnresolvedError, listed
from batchsense.training.separability.probe.probe import GradientProbe, Measured, mixed

#: By precision: the change that rounding alone may cause, and the least tolerance. Measured for
#: correct losses under permutation: 6e-16 in float64, 1.6e-7 in float32, 1.9e-3 in bfloat16. More
#: than the first is a dependence on the order of the examples; see docs/decisions/0008.
ROUNDING = {"float64": (1e-9, 1e-9), "float32": (1e-4, 1e-6), "bfloat16": (0.03, 0.03)}
# A partition adds up in another order than the one or three that set the floor, so its rounding may
# be larger; with eight times as much no clean loss of the zoo (tests) is called anything else.
_MARGIN = 8.0
# A whole smaller than its parts by this has lost half of the digits of float64 to cancellation.
_VANISHING = 1e-8


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """The parts of a partition: whose places, their gradients g_k as rows, and collated."""

    places: list[Places]
    gradients: Floats
    minibatches: list[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Screening:
    """A probe, the seed of its measurements, and what is known before the first partition."""

    probe: GradientProbe
    seed: int
    whole: Measured  #: The gradient over all examples.
    floor: float  #: Relative change of the gradient by rounding: other order, same examples.
    tolerance: float  #: What counts as zero, relative to the gradient.
    #: ``"tied"`` if the loss draws random numbers and reproduces with them tied to the examples;
    #: else ``"free"``: there are none, or only statistics can judge it. ``"silent"`` in a copy that
    #: switches dropout off.
    randomness: Literal["free", "tied", "silent"]
    stochastic: bool  #: Whether random numbers are drawn.
    #: Whether the order of the examples changes the gradient by more than rounding.
    order_matters: bool = False

    @property
    def exact(self) -> bool:
        """Whether equalities can be expected, random numbers included."""
        return self.randomness == "tied" or not self.stochastic

    def silenced(self) -> Screening:
        """The same with dropout switched off."""
        return dataclasses.replace(self, randomness="silent")

    def reseeded(self, seed: int) -> Screening:
        """The same with another seed for further measurements."""
        return dataclasses.replace(self, seed=seed)

    def mixed(self, *keys: int) -> int:
        """An independent seed for each combination of keys."""
        return mixed(self.seed, *keys)

    def measured_parts(
        self, places: Sequence[Places], seed: int, probe: GradientProbe | None = None
    ) -> Parts:
        """Measure the gradient of every part; random numbers that are not tied differ between them.

        ``probe`` is another one, at other parameters. A part that fails where the whole did not is
        refused by its number and size.
        """
        probe = self.probe if probe is None else probe
        found = []
        for place, part in enumerate(places):
            own = mixed(seed, 1, place)
            try:
                if self.randomness == "tied":
                    found.append(probe.gradient(part, seed, "tied", elsewhere=own))
                else:
                    found.append(probe.gradient(part, own, self.randomness))
            except DataError as error:
                raise DataError(
                    f"the loss works on {probe.count} examples but not on micro-batch "
                    f"{place + 1}, with {len(part)} of them: {error}. If it averages over "
                    "something that a micro-batch may lack (counted labels, positives: 0/0), "
                    "enlarge the micro-batch or guard the division",
                    where="micro-batch",
                ) from error
        gradients = np.array([part.gradient for part in found])
        return Parts(list(places), gradients, [part.minibatch for part in found])

    def noise_matters(self) -> bool:
        """Whether other random numbers give another gradient."""
        everyone = np.arange(self.probe.count)
        other = self.probe.gradient(everyone, self.mixed(4), self.randomness)
        return _change(other, self.whole) > ROUNDING[self.probe.precision][0]

    def refuse_drift(self) -> None:
        """Refuse a loss whose gradient is no longer what it was at the start."""
        if self.order_matters:
            return
        again = self.probe.gradient(np.arange(self.probe.count), self.seed, self.randomness)
        if (drift := _change(again, self.whole)) > ROUNDING[self.probe.precision][0]:
            raise DataError(_NOT_REPRODUCIBLE.format(drift), where="loss")


def screen(probe: GradientProbe, seed: int) -> Screening:
    """Measure the whole gradient twice, in different company of chance, and explain any change.

    Raises DataError: the loss cannot be run, keeps state between calls, or is not reproducible.
    Raises UnresolvedError: the gradient is zero at these parameters.
    """
    ceiling, least = ROUNDING[probe.precision]
    try:
        first, floor = _tied_twice(probe, seed)
        if floor > ceiling and probe.isolated.cuts_multiples:
            probe.isolated.stacked = True
            first, floor = _tied_twice(probe, seed)
    except DataError:
        # Fails with the user's error, if it is theirs.
        probe.gradient(np.arange(probe.count), seed, "free")
        return rescreened(probe, seed)
    if floor > ceiling or probe.isolated.broken_tie is not None:
        return rescreened(probe, seed)
    stochastic = probe.isolated.draws_noise
    tolerance = max(least, _MARGIN * floor)
    randomness: Literal["tied", "free"] = "tied" if stochastic else "free"
    return Screening(probe, seed, first, floor, tolerance, randomness, stochastic)


def rescreened(probe: GradientProbe, seed: int) -> Screening:
    """Find out why two gradients differ, without tied noise; refuse what is not the loss's."""
    ceiling, least = ROUNDING[probe.precision]
    everyone = np.arange(probe.count)
    order = np.random.default_rng([seed, 5]).permutation(everyone)
    first = probe.gradient(everyone, seed, "free")
    refuse_zero(first.gradient, 0.0)
    floor = _change(probe.gradient(everyone, seed, "free"), first)
    if floor > ceiling:
        raise DataError(_NOT_REPRODUCIBLE.format(floor), where="loss")
    left_behind = probe.isolated.state.changed()
    if (carried := _change(probe.gradient(everyone, seed, "free", restore=False), first)) > ceiling:
        what = listed(left_behind) if left_behind else "the parameters"
        raise DataError(
            f"each call changes {what}, and the next call's gradient by {carried:.2g}: "
            "micro-batches are not interchangeable while this state moves. Freeze it for the "
            "audit (and in training, update it once per minibatch)",
            where="model",
        )
    found = Screening(probe, seed, first, floor, max(least, _MARGIN * floor), "free", True)
    if _change(probe.gradient(everyone, mixed(seed, 2), "free"), first) <= ceiling:
        return dataclasses.replace(found, stochastic=False, order_matters=True)
    silent = probe.gradient(everyone, seed, "silent")
    order_matters = (
        _change(probe.gradient(everyone, mixed(seed, 3), "silent"), silent) <= ceiling
        and _change(probe.gradient(order, seed, "silent"), silent) > ceiling
    )
    return dataclasses.replace(found, order_matters=order_matters)


def partition(count: int, size: int, generator: np.random.Generator) -> list[Places]:
    """Cut shuffled places into parts of ``size``; the last one may be smaller.

    >>> [len(part) for part in partition(10, 4, np.random.default_rng(0))]
    [4, 4, 2]
    """
    shuffled = generator.permutation(count)
    return [shuffled[start : start + size] for start in range(0, count, size)]


def refuse_zero(gradient: Floats, of_parts: float) -> None:
    """Refuse to divide by a whole gradient that vanishes beside those of its parts."""
    size = float(np.linalg.norm(gradient))
    if size <= _VANISHING * of_parts or size == 0.0:
        raise UnresolvedError(
            "the gradient vanishes at these parameters, so nothing can be compared with it",
            needed="other parameters: perturb them, re-initialise, or stop training earlier",
        )


_NOT_REPRODUCIBLE = (
    "the same examples with the same random numbers gave gradients that differ by {:.2g}. "
    "Something outside parameters and buffers changes from call to call: a counter, cache or "
    "queue in a Python attribute, a random generator of its own, or a kernel that is not "
    "deterministic. Freeze it for the audit"
)


def _tied_twice(probe: GradientProbe, seed: int) -> tuple[Measured, float]:
    """Measure the whole gradient, and how far order, other seeds and left-over state move it."""
    everyone = np.arange(probe.count)
    orders = [np.random.default_rng([seed, k]).permutation(everyone) for k in range(3)]
    first = probe.gradient(everyone, seed, "tied")
    refuse_zero(first.gradient, 0.0)
    others = [probe.gradient(orders[0], seed, "tied", restore=False, elsewhere=seed + 1)]
    if probe.precision != "float64":
        others += [probe.gradient(order, seed, "tied") for order in orders[1:]]
    return first, max(_change(other, first) for other in others)


def _change(other: Measured, first: Measured) -> float:
    gap = np.linalg.norm(other.gradient - first.gradient)
    return float(gap / np.linalg.norm(first.gradient))

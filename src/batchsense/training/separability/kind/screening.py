"""The first look at a workload: can it be audited, and is its loss exactly separable.

Three gradients decide a clean case: over all examples; over all in another order, with other
random numbers and without putting buffers back; and over the parts of one partition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from batchsense.arrays import Floats, Places
from batchsense.errors import DataError, UnresolvedError, listed
from batchsense.training.separability.probe.isolated_model import Randomness
from batchsense.training.separability.probe.probe import GradientProbe, Measured

#: By precision: the change that rounding alone may cause, and the least tolerance.
ROUNDING = {"float64": (1e-9, 1e-9), "float32": (1e-4, 1e-6), "bfloat16": (0.03, 0.03)}
_MARGIN = 8.0
_VANISHING = 1e-8


@dataclass(frozen=True, slots=True, eq=False)
class Screening:
    """What is known before the first partition.

    Attributes
    ----------
    whole : Measured
        The gradient over all examples.
    floor : float
        Relative change of the gradient by rounding: other order, same examples.
    tolerance : float
        What counts as zero, relative to the gradient.
    randomness : str
        ``"tied"`` if the loss draws random numbers and reproduces with them tied to the examples;
        else ``"free"``: there are none, or only statistics can judge it.
    stochastic : bool
        Whether random numbers are drawn.
    order_matters : bool
        Whether the order of the examples changes the gradient by more than rounding.
    """

    whole: Measured
    floor: float
    tolerance: float
    randomness: Randomness
    stochastic: bool
    order_matters: bool = False


def screen(probe: GradientProbe, seed: int) -> Screening:
    """Measure the whole gradient twice, in different company of chance, and explain any change.

    Raises
    ------
    DataError
        The loss cannot be run, keeps state between calls, or is not reproducible.
    UnresolvedError
        The gradient is zero at these parameters.
    """
    ceiling, least = ROUNDING[probe.precision]
    everyone = np.arange(probe.count)
    try:
        first, floor = _tied_twice(probe, seed)
        if floor > ceiling and probe.isolated.cuts_multiples:
            probe.isolated.stacked = True
            first, floor = _tied_twice(probe, seed)
    except DataError:
        probe.gradient(everyone, seed, "free")  # fails with the user's error, if it is theirs
        return rescreened(probe, seed)
    if floor > ceiling or probe.isolated.broken_tie is not None:
        return rescreened(probe, seed)
    stochastic = probe.isolated.draws_noise
    tolerance = max(least, _MARGIN * floor)
    return Screening(first, floor, tolerance, "tied" if stochastic else "free", stochastic)


def partition(count: int, size: int, generator: np.random.Generator) -> list[Places]:
    """Cut shuffled places into parts of ``size``; the last one may be smaller.

    Examples
    --------
    >>> [len(part) for part in partition(10, 4, np.random.default_rng(0))]
    [4, 4, 2]
    """
    shuffled = generator.permutation(count)
    return [shuffled[start : start + size] for start in range(0, count, size)]


def measured_parts(
    probe: GradientProbe, parts: Sequence[Places], seed: int, randomness: Randomness
) -> list[Measured]:
    """Measure the gradient of every part; random numbers that are not tied differ between them.

    Raises
    ------
    DataError
        A part fails where the whole did not; says which and how large it is.
    """
    found = []
    for place, part in enumerate(parts):
        own = mixed(seed, 1, place)
        try:
            if randomness == "tied":
                found.append(probe.gradient(part, seed, "tied", elsewhere=own))
            else:
                found.append(probe.gradient(part, own, randomness))
        except DataError as error:
            raise DataError(
                f"the loss works on {probe.count} examples but not on micro-batch {place + 1}, "
                f"with {len(part)} of them: {error}. If it averages over something that a "
                "micro-batch may lack (counted labels, positives: 0/0), enlarge the micro-batch "
                "or guard the division",
                where="micro-batch",
            ) from error
    return found


def refuse_zero(gradient: Floats, of_parts: float) -> None:
    """Refuse to divide by a whole gradient that vanishes beside those of its parts.

    Raises
    ------
    UnresolvedError
        The gradient is zero.
    """
    size = float(np.linalg.norm(gradient))
    if size <= _VANISHING * of_parts or size == 0.0:
        raise UnresolvedError(
            "the gradient vanishes at these parameters, so nothing can be compared with it",
            needed="other parameters: perturb them, re-initialise, or stop training earlier",
        )


def mixed(seed: int, *keys: int) -> int:
    """Make an independent seed from a seed and keys."""
    return int(np.random.SeedSequence([seed, *keys]).generate_state(1)[0])


def noise_matters(probe: GradientProbe, screening: Screening, seed: int) -> bool:
    """Whether other random numbers give another gradient."""
    everyone = np.arange(probe.count)
    other = probe.gradient(everyone, mixed(seed, 4), screening.randomness)
    return _change(other, screening.whole) > ROUNDING[probe.precision][0]


def refuse_drift(probe: GradientProbe, screening: Screening, seed: int) -> None:
    """Refuse a loss whose gradient is no longer what it was at the start.

    Raises
    ------
    DataError
        The same call now gives another gradient.
    """
    if screening.order_matters:
        return
    again = probe.gradient(np.arange(probe.count), seed, screening.randomness)
    if (drift := _change(again, screening.whole)) > ROUNDING[probe.precision][0]:
        raise DataError(_NOT_REPRODUCIBLE.format(drift), where="loss")


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
    """Relative change of a gradient."""
    gap = np.linalg.norm(other.gradient - first.gradient)
    return float(gap / np.linalg.norm(first.gradient))


def rescreened(probe: GradientProbe, seed: int) -> Screening:
    """Find out why two whole gradients differ, without tied noise.

    Raises
    ------
    DataError
        It is no property of the loss: state between calls, or a result that does not reproduce.
    """
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
    tolerance = max(least, _MARGIN * floor)
    if _change(probe.gradient(everyone, mixed(seed, 2), "free"), first) <= ceiling:
        return Screening(first, floor, tolerance, "free", False, order_matters=True)
    silent = probe.gradient(everyone, seed, "silent")
    order_matters = (
        _change(probe.gradient(everyone, mixed(seed, 3), "silent"), silent) <= ceiling
        and _change(probe.gradient(order, seed, "silent"), silent) > ceiling
    )
    return Screening(first, floor, tolerance, "free", True, order_matters)

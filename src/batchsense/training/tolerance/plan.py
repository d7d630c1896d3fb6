"""The whole ladder for a training job, its last rung tried on fresh minibatches and counted."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from batchsense import clock
from batchsense.errors import DataError
from batchsense.progress import Progress, silent
from batchsense.training.tolerance.ladder import (
    ToleranceRung,
    calibrated_bound,
    tolerance_ladder,
)
from batchsense.training.tolerance.pilot import GradientPilot, GradientSource, measure_pilot
from batchsense.training.workload import Workload, borrowed_randomness
from batchsense.variation.proportion import draws_to_certify, miss_rate
from batchsense.variation.sample_size import without_replacement

#: Misses that a certificate still allows: with none allowed, good sizes would often fail.
ALLOWED_MISSES = 2
#: The sizes tried would miss in δ/5, δ/25 and δ/125 by the calibrated rung.
_CAUTION = (5, 25, 125)
#: A reference of this many times the batch size adds 5 % to the error of a minibatch.
_REFERENCE_TIMES = 10
_INFLATION = 1.05


@dataclass(frozen=True, slots=True)
class Certificate:
    """What fresh minibatches said."""

    batch_size: int | None  #: The certified size; None where every size tried missed too often.
    #: Of the last size tried.
    misses: int
    draws: int
    bound: float  #: Upper bound of its miss rate, at ``level``.
    level: float  #: Confidence level of the whole procedure, all attempts together.
    attempts: int  #: Sizes tried.


def plan_tolerance(
    workload: Workload,
    relative_tolerance: float,
    confidence: float = 0.95,
    *,
    seconds: float = 15.0,
    at_once: int = 128,
    seed: int = 0,
    progress: Progress = silent,
) -> tuple[ToleranceRung, ...]:
    """Return the least batch sizes for a precision of the gradient, by every guarantee there is.

    A pilot, its ladder of guarantees, then the calibrated size is tried, with some margin, on fresh
    minibatches drawn without replacement (:func:`certify_tolerance`). All holds for the weights
    that the model has now.

    Parameters
    ----------
    workload : Workload
        The training job; it is not changed.
    relative_tolerance : float
        θ: allowed error as a part of the length of the full gradient.
    confidence : float
        How often it must hold.
    seconds : float
        About the most that measuring every example of a small data set may take, and again the most
        for fresh minibatches; what takes longer is left out, with a reason.
    at_once : int
        Most examples that go through the model at once (memory).
    seed : int
        Seed of every draw.
    progress : Progress
        Told what is being measured.

    Returns
    -------
    tuple of ToleranceRung
        ``mean_square``, ``calibrated``, ``chebyshev``, ``bounded``, ``verified``; a rung without a
        batch size says why.

    Raises
    ------
    DataError
        As :func:`measure_pilot`; or a number is out of its range.
    UnresolvedError
        Fewer than eight examples.

    Examples
    --------
    >>> from batchsense.training import load_target
    >>> rungs = plan_tolerance(load_target("digits"), 1.0, seconds=1e6)
    >>> sizes = {rung.guarantee: rung.batch_size for rung in rungs}
    >>> sizes["mean_square"] < sizes["calibrated"] < sizes["verified"] < sizes["chebyshev"]
    True
    """
    pilot = measure_pilot(
        workload, whole_seconds=seconds, at_once=at_once, seed=seed, progress=progress
    )
    ladder = tolerance_ladder(
        pilot.noise,
        relative=relative_tolerance,
        confidence=confidence,
        population=pilot.population,
        radius=pilot.radius,
    )
    with borrowed_randomness(seed):
        tries = _FreshMinibatches(workload, pilot, relative_tolerance, at_once, seed)
        verified = _verified(tries, 1 - confidence, seconds, progress)
    return (*ladder, verified)


def certify_tolerance(
    misses: Callable[[int], bool],
    sizes: Sequence[int],
    delta: float,
    *,
    level: float = 0.95,
    progress: Progress = silent,
) -> Certificate:
    r"""Certify that a batch size misses with probability at most δ, whatever the distribution.

    ``misses(batch_size)`` draws a fresh minibatch and tells whether it misses. Size k = 1, 2, … is
    tried on as many as certify δ at two misses and level :math:`1 - (1 - \mathrm{level})/2^k`; the
    sum of these errors is at most 1 − level. Gives the first size that passed, or the last that
    failed. Source: Clopper and Pearson (1934), Biometrika 26.

    Raises DataError: no size is given, or δ is not between 0 and 1.
    """
    if not sizes:
        raise DataError("there is no batch size to verify")
    certificate = None
    for attempt, size in enumerate(sizes, start=1):
        own_level = 1 - (1 - level) / 2**attempt
        draws = draws_to_certify(delta, ALLOWED_MISSES, own_level)
        missed = done = 0
        while done < draws and missed <= ALLOWED_MISSES:
            missed += bool(misses(size))
            done += 1
            progress(f"verifying {size:,} examples", done, draws)
        bound = miss_rate(missed, done, own_level).high
        passed = missed <= ALLOWED_MISSES
        certificate = Certificate(
            size if passed else None, missed, done, bound, level, attempts=attempt
        )
        if passed:
            break
    assert certificate is not None
    return certificate


class _FreshMinibatches:
    def __init__(
        self, workload: Workload, pilot: GradientPilot, theta: float, at_once: int, seed: int
    ) -> None:
        self.pilot = pilot
        bound = pilot.noise.squared_mean_bound
        self.epsilon = theta * math.sqrt(bound) if bound > 0 else None
        self._source = GradientSource(workload, at_once)
        self._rng = np.random.default_rng([seed, 2])
        self._mean = pilot.mean

    def misses(self, batch_size: int) -> bool:
        assert self.epsilon is not None
        if batch_size >= self.pilot.population:
            return False
        rows = self._rng.choice(self.pilot.population, size=batch_size, replace=False)
        allowed = self.epsilon if self.pilot.whole else _INFLATION * self.epsilon
        return self._source.squared_distance(rows, self._mean) > allowed**2

    def enlarge_mean(self, examples: int) -> None:
        examples = min(examples, self.pilot.population)
        if examples > self.pilot.mean_examples:
            rows = self._rng.choice(self.pilot.population, size=examples, replace=False)
            self._mean = self._source.mean(rows)
            self.pilot = replace(self.pilot, mean=self._mean, mean_examples=examples)

    def seconds_each(self, batch_size: int) -> float:
        self.misses(batch_size)
        began = clock.now()
        self.misses(batch_size)
        return clock.now() - began


def _verified(
    tries: _FreshMinibatches, delta: float, seconds: float, progress: Progress
) -> ToleranceRung:
    noise, population = tries.pilot.noise, tries.pilot.population
    if tries.epsilon is None:
        lost = tolerance_ladder(noise, relative=1.0)[1]
        return ToleranceRung("verified", None, lost.assumes, needed=lost.needed)
    needs = [calibrated_bound(noise, tries.epsilon, delta / part)[0] for part in _CAUTION]
    sizes = [without_replacement(need, population) for need in needs]
    draws = draws_to_certify(delta, ALLOWED_MISSES, 1 - (1 - noise.level) / 2)
    if sizes[0] < population:
        each = tries.seconds_each(sizes[0]) if seconds > 0 else math.inf
        if draws * each > seconds:
            time_text = f"{draws * each:.0f} seconds" if seconds > 0 else "some time"
            return ToleranceRung(
                "verified",
                None,
                f"not tried: it takes {draws} fresh minibatches of {sizes[0]:,} examples",
                needed=f"about {time_text} for fresh minibatches",
            )
        tries.enlarge_mean(_REFERENCE_TIMES * sizes[0])
    found = certify_tolerance(tries.misses, sizes, delta, level=noise.level, progress=progress)
    return _rung_of(found, tries.pilot, needs)


def _rung_of(found: Certificate, pilot: GradientPilot, needs: list[float]) -> ToleranceRung:
    told = f"{found.misses} of {found.draws} fresh minibatches missed"
    if found.batch_size is None:
        return ToleranceRung(
            "verified", None, f"{told} at the largest size tried", needed="a larger tolerance"
        )
    assumes = f"{told}, so at most {found.bound:.2g} of all do ({found.level:.0%}); same weights"
    if not pilot.whole:
        assumes += (
            f"; judged against the mean of {pilot.mean_examples:,} examples, so with a tolerance "
            f"{_INFLATION - 1:.0%} wider"
        )
    return ToleranceRung("verified", found.batch_size, assumes, needs[found.attempts - 1])

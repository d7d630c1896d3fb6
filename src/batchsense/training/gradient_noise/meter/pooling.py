"""From the measured steps of a run to a report: pooled noise, its layers, and the path."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Floats
from batchsense.errors import UnresolvedError
from batchsense.notes import Note
from batchsense.training.gradient_noise.layers import LayerNoise, Layers, noise_of_layers
from batchsense.training.gradient_noise.meter.records import StepNoise, columns
from batchsense.training.gradient_noise.path import (
    BLOCKS,
    LEAST_STEPS,
    PathNoise,
    PathRecords,
    block_means,
    critical_batch_size_of_path,
    notes_on_path,
)
from batchsense.training.gradient_noise.report import (
    LEAST_GROUPS,
    NoiseReport,
    noise_report,
    notes_on_tail,
    pool_moments,
)
from batchsense.variation.interval import Interval


@dataclass(frozen=True, slots=True)
class MeterReport:
    """What a :class:`GradientNoiseMeter` has found so far.

    Attributes
    ----------
    noise : NoiseReport
        Noise scale, noise and signal, pooled over the last measured steps.
    critical_batch_size : Interval or None
        B_crit in examples, integrated over all measured steps of the run; None before 16 of them.
    layers : tuple of LayerNoise
        Each layer's share of the noise and its own noise scale; empty before 8 measured steps.
    single_examples : bool
        Whether gradients of single examples were seen, or those of micro-batches.
    steps : int
        Optimizer steps of the run.
    measured : int
        How many of them were measured.
    pooled : int
        How many of these are behind ``noise``.
    cautions : tuple of Note
        What to keep in mind, each with a stable code.
    """

    noise: NoiseReport
    critical_batch_size: Interval | None
    layers: tuple[LayerNoise, ...]
    single_examples: bool
    steps: int
    measured: int
    pooled: int
    cautions: tuple[Note, ...]

    @property
    def noise_scale(self) -> Interval:
        """B_simple = τ/γ in examples, over the last measured steps."""
        return self.noise.noise_scale

    @property
    def resolved(self) -> bool:
        """Whether the ends of the noise scale are within a factor of four."""
        return self.noise.resolved

    @property
    def examples_used(self) -> int:
        """Gradients behind the noise scale."""
        return self.noise.examples_used

    @property
    def examples_needed(self) -> int:
        """About how many more would resolve it; 0 when it is."""
        return self.noise.examples_needed

    def __str__(self) -> str:
        """Say the result in a few lines."""
        lines = [
            f"noise scale: {_in_words(self.noise_scale)}, pooled over {self.pooled} of "
            f"{self.measured} measured steps ({self.examples_used:,} examples)"
        ]
        if not self.resolved:
            lines.append(f"  not resolved; needed: {self.noise.needed}")
        if self.critical_batch_size is not None:
            lines.append(f"critical batch size of the run: {_in_words(self.critical_batch_size)}")
        lines += [f"note: {caution.message}" for caution in self.cautions]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class RunSoFar:
    """What is known of a metered run beside its measured steps."""

    steps: int  #: Optimizer steps of the run.
    single_examples: bool  #: Whether gradients of single examples were seen.
    family: str  #: Kind of optimizer.
    #: Steps that were left out, by reason.
    unmeasured: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()  #: What is known already.


def report_of_steps(
    rows: Sequence[StepNoise],
    layers: Layers,
    run: RunSoFar,
    *,
    pooled: int,
    level: float = 0.95,
) -> MeterReport:
    """Pool the last steps and integrate over all.

    Groups are means of consecutive steps, at most 16 of them, so that what neighbouring steps have
    in common, and a drift of the weights, widen the interval.

    ``rows`` are the measured steps of a run, ascending; the last ``pooled`` of them are averaged.
    Intervals are unbounded before 8 measured steps.

    Raises UnresolvedError: no step was measured; says why.
    """
    if not rows:
        raise UnresolvedError("no step was measured" + _reasons(run))
    last = rows[-pooled:]
    tau, gamma, _ = columns(last)
    used = sum(row.examples for row in last)
    groups = min(BLOCKS, len(last))
    found: tuple[LayerNoise, ...] = ()
    if groups < LEAST_GROUPS:
        noise = _without_interval(tau, gamma, used, groups, level)
    else:
        moments, covariance = pool_moments(block_means(tau, groups), block_means(gamma, groups))
        degrees = degrees_of_groups(tau, gamma, groups)
        noise = noise_report(moments, covariance, degrees, used, level=level)
        found = _layers(last, groups, layers, level)
    path = _path(rows, level)
    return MeterReport(
        noise=noise,
        critical_batch_size=None if path is None else path.critical_batch_size,
        layers=found,
        single_examples=run.single_examples,
        steps=run.steps,
        measured=len(rows),
        pooled=len(last),
        cautions=(
            *run.notes,
            *([] if path is None else notes_on_path(path, run.family)),
            *notes_on_tail(max(row.tail for row in last)),
            *_notes_on_unmeasured(run),
        ),
    )


def _notes_on_unmeasured(run: RunSoFar) -> list[Note]:
    return [
        Note("steps_left_out", f"{count:,} {'step' if count == 1 else 'steps'}: {reason}.")
        for reason, count in run.unmeasured.items()
    ]


def degrees_of_groups(
    trace_covariance: npt.ArrayLike, squared_gradient_norm: npt.ArrayLike, groups: int
) -> float:
    r"""Return the degrees of freedom of the variance over groups of steps, from the steps' tails.

    The variance over B groups has relative variance :math:`κ/B + 2/(B-1)` with κ the excess
    kurtosis of a group; Satterthwaite's degrees of freedom are two over that. A group of m steps
    has κ = G₂/m, where G₂, the unbiased excess kurtosis of single steps, is taken of τ̂ − ρ̂γ̂ and
    of γ̂, whichever is larger, and never below zero. With light tails the result is B − 1. Late in
    a training, when a few examples hold most of the noise, Student's t with B − 1 covers 88 to
    92 % where 95 % is meant; with these degrees 92 to 98 %.

    τ̂ and γ̂ have shape (steps,); there are at least 2 groups, and 1 to ``groups`` − 1 degrees.

    Source: Satterthwaite (1946), Biometrics Bulletin 2; O'Neill (2014), "Some useful moment results
    in sampling problems", The American Statistician 68.

    >>> rng = np.random.default_rng(0)
    >>> degrees_of_groups(rng.uniform(size=64), rng.uniform(size=64), 16)
    15.0
    >>> spiked = np.where(np.arange(64) == 7, 50.0, rng.uniform(size=64))
    >>> round(degrees_of_groups(spiked, rng.uniform(size=64), 16), 1)
    1.8
    """
    tau, gamma = np.asarray(trace_covariance), np.asarray(squared_gradient_norm)
    excess = _excess_kurtosis(gamma)
    if gamma.mean() > 0:
        excess = max(excess, _excess_kurtosis(tau - tau.mean() / gamma.mean() * gamma))
    of_groups = max(excess, 0.0) * groups / len(tau)
    degrees = 2.0 / (of_groups / groups + 2.0 / (groups - 1))
    return min(max(degrees, 1.0), groups - 1.0)


def _excess_kurtosis(values: Floats) -> float:
    n = len(values)
    deviations = values - values.mean()
    square = float((deviations**2).mean())
    if n < 4 or square <= 0:
        return 0.0
    plain = float((deviations**4).mean()) / square**2 - 3.0
    return (n - 1) / ((n - 2) * (n - 3)) * ((n + 1) * plain + 6.0)


def _without_interval(
    tau: Floats, gamma: Floats, used: int, groups: int, level: float
) -> NoiseReport:
    t, g = float(tau.mean()), float(gamma.mean())
    return NoiseReport(
        noise_scale=Interval(t / g if g > 0 else math.inf, 0.0, math.inf, level),
        trace_covariance=Interval(t, 0.0, math.inf, level),
        squared_gradient_norm=Interval(g, -math.inf, math.inf, level),
        branch="none",
        examples_used=used,
        examples_needed=math.ceil(used / groups) * (LEAST_GROUPS - groups),
        needed_at_least=True,
    )


def _layers(
    rows: Sequence[StepNoise], groups: int, layers: Layers, level: float
) -> tuple[LayerNoise, ...]:
    # Only where every pooled step has kept its layers, and they are the same.
    shape = (len(layers.names), 2)
    kept = [row.layers for row in rows if row.layers is not None and row.layers.shape == shape]
    if len(kept) < len(rows):
        return ()
    return noise_of_layers(block_means(np.stack(kept), groups), layers, level=level)


def _path(rows: Sequence[StepNoise], level: float) -> PathNoise | None:
    if len(rows) < LEAST_STEPS:
        return None
    tau, gamma, batch_size = columns(rows)
    records = PathRecords(batch_size, tau, gamma, np.full(len(rows), math.nan))
    try:
        return critical_batch_size_of_path(records, level)
    except UnresolvedError:
        return None


def _reasons(run: RunSoFar) -> str:
    if run.unmeasured:
        return ": " + "; ".join(run.unmeasured)
    if run.steps == 0:
        return (
            ": no optimizer step was seen; give the meter the optimizer whose step() the loop "
            "calls, and run the loop inside the meter's block"
        )
    return f" in {run.steps} steps"


def _in_words(interval: Interval) -> str:
    level = f"{100 * interval.level:.3g} % interval"
    estimate = f"{interval.estimate:,.3g} examples" if math.isfinite(interval.estimate) else "none"
    high = f"{interval.high:,.3g}" if math.isfinite(interval.high) else "∞"
    return f"{estimate} ({level} {interval.low:,.3g} to {high})"

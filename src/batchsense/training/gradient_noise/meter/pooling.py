"""From the measured steps of a run to a report: pooled noise, its layers, and the path."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from batchsense.arrays import Floats
from batchsense.errors import UnresolvedError
from batchsense.notes import Note
from batchsense.training.gradient_noise.cautions import cautions_of_path, heavy_tail, left_out
from batchsense.training.gradient_noise.layers import LayerNoise, Layers, noise_of_layers
from batchsense.training.gradient_noise.meter.degrees import degrees_of_groups
from batchsense.training.gradient_noise.meter.records import StepNoise, columns
from batchsense.training.gradient_noise.path import (
    BLOCKS,
    PathNoise,
    PathRecords,
    critical_batch_size_of_path,
)
from batchsense.training.gradient_noise.report import (
    LEAST_GROUPS,
    NoiseReport,
    noise_report,
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


def report_of_steps(
    rows: Sequence[StepNoise],
    *,
    pooled: int,
    layers: Layers,
    single_examples: bool,
    steps: int,
    unmeasured: Mapping[str, int],
    family: str,
    cautions: Sequence[Note] = (),
    level: float = 0.95,
) -> MeterReport:
    """Pool the last steps and integrate over all.

    Groups are means of consecutive steps, at most 16 of them, so that what neighbouring steps have
    in common, and a drift of the weights, widen the interval.

    Parameters
    ----------
    rows : sequence of StepNoise
        Measured steps, ascending.
    pooled : int
        Over how many of the last to pool.
    layers : Layers
        Names and sizes of layers.
    single_examples : bool
        Whether gradients of single examples were seen.
    steps : int
        Optimizer steps of the run.
    unmeasured : mapping from str to int
        Steps that were left out, by reason.
    family : {"sgd", "adam", "other"}
        Kind of optimizer.
    cautions : sequence of Note
        What is known already.
    level : float
        Confidence level.

    Returns
    -------
    MeterReport
        The report; its intervals are unbounded before 8 measured steps.

    Raises
    ------
    UnresolvedError
        No step was measured; says why.
    """
    if not rows:
        raise UnresolvedError("no step was measured" + _reasons(unmeasured, steps))
    last = rows[-pooled:]
    tau, gamma, _ = columns(last)
    used = sum(row.examples for row in last)
    groups = min(BLOCKS, len(last))
    found: tuple[LayerNoise, ...] = ()
    if groups < LEAST_GROUPS:
        noise = _without_interval(tau, gamma, used, groups, level)
    else:
        moments, covariance = pool_moments(_block_means(tau, groups), _block_means(gamma, groups))
        degrees = degrees_of_groups(tau, gamma, groups)
        noise = noise_report(moments, covariance, degrees, used, level=level)
        found = _layers(last, groups, layers, level)
    path = _path(rows, level)
    return MeterReport(
        noise=noise,
        critical_batch_size=None if path is None else path.critical_batch_size,
        layers=found,
        single_examples=single_examples,
        steps=steps,
        measured=len(rows),
        pooled=len(last),
        cautions=(
            *cautions,
            *cautions_of_path(path, family),
            *heavy_tail(max(row.tail for row in last)),
            *left_out(unmeasured),
        ),
    )


def _block_means(values: Floats, blocks: int) -> Floats:
    """Average consecutive blocks of nearly equal length along the first axis."""
    return np.stack([part.mean(axis=0) for part in np.array_split(values, blocks)])


def _without_interval(
    tau: Floats, gamma: Floats, used: int, groups: int, level: float
) -> NoiseReport:
    """Report means whose error cannot be told yet."""
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
    """Give the noise of each layer where every pooled step has kept them."""
    shape = (len(layers.names), 2)
    kept = [row.layers for row in rows if row.layers is not None and row.layers.shape == shape]
    if len(kept) < len(rows):
        return ()
    return noise_of_layers(_block_means(np.stack(kept), groups), layers, level=level)


def _path(rows: Sequence[StepNoise], level: float) -> PathNoise | None:
    """Integrate the critical batch size over all measured steps."""
    if len(rows) < 2 * LEAST_GROUPS:
        return None
    tau, gamma, batch_size = columns(rows)
    records = PathRecords(batch_size, tau, gamma, np.full(len(rows), math.nan))
    try:
        return critical_batch_size_of_path(records, level)
    except UnresolvedError:
        return None


def _reasons(unmeasured: Mapping[str, int], steps: int) -> str:
    """Say why nothing was measured."""
    if unmeasured:
        return ": " + "; ".join(unmeasured)
    if steps == 0:
        return (
            ": no optimizer step was seen; give the meter the optimizer whose step() the loop "
            "calls, and run the loop inside the meter's block"
        )
    return f" in {steps} steps"


def _in_words(interval: Interval) -> str:
    """Write an estimate and its interval."""
    level = f"{100 * interval.level:.3g} % interval"
    estimate = f"{interval.estimate:,.3g} examples" if math.isfinite(interval.estimate) else "none"
    high = f"{interval.high:,.3g}" if math.isfinite(interval.high) else "∞"
    return f"{estimate} ({level} {interval.low:,.3g} to {high})"

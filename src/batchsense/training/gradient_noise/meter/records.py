"""What a meter has seen so far: one row for each measured step, and how two such books merge."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from batchsense.arrays import Floats
from batchsense.errors import DataError
from batchsense.variation.moments import Moments

_NUMBERS = ("step", "examples", "batch_size", "trace_covariance", "squared_gradient_norm", "tail")


@dataclass(frozen=True, slots=True, eq=False)
class StepNoise:
    """Noise and signal at one step."""

    step: int  #: Which optimizer step, counted from 0.
    examples: int  #: Examples behind the estimates.
    #: Size at which the step's mean gradient is as noisy as this one's: the number of examples, or
    #: less where parts were weighted unlike their sizes.
    batch_size: float
    #: τ̂ and γ̂, unbiased.
    trace_covariance: float
    squared_gradient_norm: float
    tail: float  #: Largest |gᵢ|² over their mean; 0 where single examples were not seen.
    #: τ̂ and γ̂ of each layer; kept for recent steps only; shape (layers, 2).
    layers: Floats | None


class StepBook:
    """Steps in order, at most one row each; layers are kept for the last ``recent`` rows."""

    def __init__(self, recent: int) -> None:
        self.recent = recent
        self._rows: dict[int, StepNoise] = {}
        self._last: list[int] = []

    @property
    def rows(self) -> list[StepNoise]:
        """The steps, ascending."""
        return [self._rows[step] for step in sorted(self._rows)]

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: StepNoise) -> None:
        """Add a step, or put it together with what is known of the same step."""
        known = self._rows.get(row.step)
        if known is not None:
            row = _together(known, row)
        elif not self._last or row.step > self._last[-1]:
            self._last.append(row.step)
            if len(self._last) > self.recent:
                self._forget_layers(self._last.pop(0))
        self._rows[row.step] = row

    def merge(self, other: StepBook) -> None:
        """Add the steps of another worker, or of another part of the same run.

        A step that both hold was measured at the same weights by two workers: the means of their
        estimates, weighted by examples.

        Raises DataError: both hold the very same measurement, which would then count twice.
        """
        both = self._rows.keys() & other._rows.keys()
        same = [step for step in both if _same(self._rows[step], other._rows[step])]
        if same:
            raise DataError(
                f"both hold the same measurement of step {min(same)}; what processes of one "
                "DistributedDataParallel training measure is merged already, keep that of one"
            )
        for row in other.rows:
            known = self._rows.get(row.step)
            self._rows[row.step] = row if known is None else _together(known, row)
        self._trim()

    def state(self) -> dict[str, Any]:
        """Give everything as tensors and numbers."""
        rows = self.rows
        columns = {
            name: torch.tensor([getattr(row, name) for row in rows], dtype=torch.float64)
            for name in _NUMBERS
        }
        layers = {row.step: torch.tensor(row.layers) for row in rows if row.layers is not None}
        return {**columns, "layers": layers}

    @classmethod
    def of_state(cls, state: Mapping[str, Any], recent: int, width: int) -> StepBook:
        """Restore from :meth:`state`; ``width`` is the number of layers."""
        book = cls(recent)
        layers = state["layers"]
        for values in zip(*(state[name].tolist() for name in _NUMBERS), strict=True):
            step, examples, batch_size, tau, gamma, tail = values
            own = layers.get(int(step))
            row_layers = None
            if own is not None:
                row_layers = np.asarray(own.numpy(), dtype=np.float64).reshape(width, 2)
            book._rows[int(step)] = StepNoise(
                int(step), int(examples), batch_size, tau, gamma, tail, row_layers
            )
        book._trim()
        return book

    def _trim(self) -> None:
        """Keep the layers of the last rows only."""
        steps = sorted(self._rows)
        self._last = steps[-self.recent :]
        for step in steps[: -self.recent]:
            self._forget_layers(step)

    def _forget_layers(self, step: int) -> None:
        """Drop the layers of a row."""
        if self._rows[step].layers is not None:
            self._rows[step] = replace(self._rows[step], layers=None)


def columns(rows: Iterable[StepNoise]) -> tuple[Floats, Floats, Floats]:
    """Give τ̂, γ̂ and batch sizes, each of shape (rows,)."""
    table = np.array(
        [(r.trace_covariance, r.squared_gradient_norm, r.batch_size) for r in rows],
        dtype=np.float64,
    ).reshape(-1, 3)
    return table[:, 0], table[:, 1], table[:, 2]


def _together(one: StepNoise, two: StepNoise) -> StepNoise:
    """Join two workers' estimates at the same weights."""
    with_layers = one.layers is not None and two.layers is not None
    both = _weighed(one, with_layers).merge(_weighed(two, with_layers))
    tau, gamma, *rest = both.mean.tolist()
    return StepNoise(
        step=one.step,
        examples=one.examples + two.examples,
        batch_size=one.batch_size + two.batch_size,
        trace_covariance=tau,
        squared_gradient_norm=gamma,
        tail=max(one.tail, two.tail),
        layers=np.array(rest).reshape(-1, 2) if with_layers else None,
    )


def _weighed(row: StepNoise, with_layers: bool) -> Moments:
    """Give τ̂, γ̂ and those of the layers, with the weight of their examples."""
    layers = row.layers.ravel() if with_layers and row.layers is not None else ()
    estimates = [row.trace_covariance, row.squared_gradient_norm, *layers]
    return Moments.of([estimates], [row.examples])


def _same(one: StepNoise, two: StepNoise) -> bool:
    """Whether two rows are one measurement."""
    return (
        one.trace_covariance == two.trace_covariance
        and one.squared_gradient_norm == two.squared_gradient_norm
        and one.trace_covariance != 0
    )

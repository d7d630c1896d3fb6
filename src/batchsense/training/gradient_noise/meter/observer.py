"""Measures one optimizer step: puts hooks in place, lets the user's loop run, and reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from batchsense.arrays import Floats
from batchsense.errors import DataError, UnresolvedError
from batchsense.training.example_gradients import PerExampleNorms
from batchsense.training.example_gradients.squares import example_squares
from batchsense.training.gradient_noise.meter.backward_watch import (
    ZEROED,
    BackwardWatch,
    StepSquares,
)
from batchsense.training.gradient_noise.meter.metered import (
    Metered,
    metered_parameters,
    trained_parameters,
)
from batchsense.training.gradient_noise.meter.records import StepNoise
from batchsense.training.gradient_noise.meter.step_noise import (
    NOT_FINITE,
    noise_of_step,
    summed_over_processes,
    sums_of_step,
)

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


#: The first measured steps, at which gradients are compared with the sum of their parts.
_CHECKED_STEPS = 3


class StepObserver:
    """Hooks that are there during a measured step only, and what they find.

    Parameters
    ----------
    model : torch.nn.Module
        What the loop calls.
    optimizer : torch.optim.Optimizer
        Whose parameters are measured.
    single_examples : bool
        Whether to see the gradients of single examples.
    reduction, loss_scale, example_dim, population, leave_out
        As for :class:`~batchsense.training.gradient_noise.GradientNoiseMeter`.

    Raises
    ------
    DataError
        The optimizer trains nothing of the model, or ``leave_out`` is wrong.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        single_examples: bool,
        reduction: Literal["mean", "sum"],
        loss_scale: float | Callable[[], float],
        example_dim: int,
        population: int | None,
        leave_out: Sequence[str],
    ) -> None:
        self._model = model
        self.inner = model.module if isinstance(model, DistributedDataParallel) else model
        self._alone = self.inner is model
        self._optimizer = optimizer
        self.single_examples = single_examples
        self._reduction, self._loss_scale = reduction, loss_scale
        self._example_dim, self._population = example_dim, population
        self._leave_out = tuple(leave_out)
        self._to_check = _CHECKED_STEPS
        # Where all single examples are seen, what the passes add need not be squared too.
        self._needs_parts = not single_examples or not self._alone
        self._recorder: PerExampleNorms | None = None
        self.metered, self._watch = self._chosen()

    @property
    def armed(self) -> bool:
        """Whether the hooks are in place."""
        return self._watch.attached

    def arm(self) -> bool:
        """Put the hooks in place before a step.

        Returns
        -------
        bool
            Whether the optimizer trains other parameters than before.

        Raises
        ------
        DataError
            Single examples cannot be seen any more.
        """
        ids = {id(parameter) for parameter in trained_parameters(self._optimizer)}
        changed = ids != self.metered.trained
        if changed:
            self._recorder = None
            self.metered, self._watch = self._chosen()
        if self.single_examples:
            self._recorder = self._recorder or PerExampleNorms(
                self.inner,
                reduction=self._reduction,
                example_dim=self._example_dim,
                loss_scale=self._loss_scale,
            )
            self._recorder.__enter__()
        self._watch.attach(self._needs_parts or self._to_check > 0, self._to_check > 0)
        return changed

    def disarm(self) -> None:
        """Remove the hooks."""
        self._watch.detach()
        if self._recorder is not None:
            self._recorder.__exit__(None, None, None)
            self._recorder.reset()

    @contextmanager
    def watching(self, examples: int) -> Iterator[None]:
        """Take the number of examples of a loss from the user."""
        with self._watch.watching(examples):
            if self._recorder is not None and self.armed:
                with self._recorder.watching(examples):
                    yield
            else:
                yield

    def read(self, step: int) -> tuple[StepNoise | None, dict[str, int]]:
        """Read the hooks after a step and remove them.

        Parameters
        ----------
        step : int
            Which step it was.

        Returns
        -------
        StepNoise or None
            Noise and signal; None if the step cannot be used.
        dict
            Why this step, or attempts at it that were given up, were not measured, and how often.
        """
        self._watch.detach()
        self._to_check = max(0, self._to_check - 1)
        found = self._watch.collect()
        reasons = {ZEROED: found.zeroed, NOT_FINITE: found.overflowed}
        row: StepNoise | None = None
        try:
            row = self._noise(step, found)
        except (DataError, UnresolvedError) as error:
            reasons[str(error)] = reasons.get(str(error), 0) + 1
        self.disarm()
        return row, {reason: count for reason, count in reasons.items() if count}

    def _chosen(self) -> tuple[Metered, BackwardWatch]:
        """Find what the optimizer trains, and make what watches it."""
        metered = metered_parameters(self.inner, self._optimizer, self._leave_out)
        watch = BackwardWatch(
            self._model,
            metered.parameters,
            example_dim=self._example_dim,
            loss_scale=self._loss_scale,
            averaged=not self._alone,
        )
        return metered, watch

    def _noise(self, step: int, found: StepSquares) -> StepNoise:
        """Turn what was seen into noise and signal, together with all other processes."""
        problem: DataError | None = None
        squares, tail = None, 0.0
        try:
            squares, tail = self._example_squares(found)
        except DataError as error:
            problem = error
        # Every process sends its sums, also one that cannot measure: the others wait for them.
        sums = sums_of_step(found, self._reduction, squares, problem is not None)
        if isinstance(self._model, DistributedDataParallel):
            group: ProcessGroup = self._model.process_group
            sums = summed_over_processes(sums, group, self.metered.parameters[0].device)
            tail = 0.0  # the largest of all processes would need a message of its own
        if problem is not None:
            raise problem
        tau, gamma, size = noise_of_step(
            sums, found, single_examples=self.single_examples, population=self._population
        )
        layers = self.metered.layers.sums(np.stack([tau, gamma])).T
        whole = layers.sum(axis=0)
        return StepNoise(
            step=step,
            examples=int(sums.examples),
            batch_size=size,
            trace_covariance=float(whole[0]),
            squared_gradient_norm=float(whole[1]),
            tail=tail,
            layers=layers,
        )

    def _example_squares(self, found: StepSquares) -> tuple[Floats | None, float]:
        """Give Σ |gᵢ|² of each parameter and the largest over the mean |gᵢ|², if they are seen."""
        if found.problems:
            raise DataError(found.problems[0])
        if not (found.scales > 0).all():
            raise DataError(f"loss_scale was {found.scales.min()}")
        if self._recorder is None:
            return None, 0.0
        norms = self._recorder.result()
        if norms.refused:
            # What is refused at one odd step must not be lost for good: begin anew.
            self._recorder.__exit__(None, None, None)
            self._recorder = None
            self._needs_parts = True
        return example_squares(norms, found.sizes.tolist(), self.metered.names, self._alone)

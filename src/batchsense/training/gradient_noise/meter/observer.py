"""Measures one optimizer step: puts hooks in place, lets the user's loop run, and reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from batchsense.arrays import Floats
from batchsense.errors import DataError, UnresolvedError, listed
from batchsense.notes import Note
from batchsense.training.example_gradients import LossForm, PerExampleNorms
from batchsense.training.gradient_noise.layers import Layers
from batchsense.training.gradient_noise.meter.backward_watch import (
    ZEROED,
    BackwardWatch,
    StepSquares,
)
from batchsense.training.gradient_noise.meter.records import StepNoise
from batchsense.training.gradient_noise.meter.step_noise import (
    NOT_FINITE,
    noise_of_step,
    summed_over_processes,
    sums_of_step,
)

#: The first measured steps, at which gradients are compared with the sum of their parts: what makes
#: them differ (averaging, clipping in a hook) is there from the first step on.
_CHECKED_STEPS = 3
#: Reasons that are counted without a warning: mixed precision and skipped steps are ordinary.
UNREMARKABLE = frozenset({NOT_FINITE, ZEROED})


@dataclass(frozen=True, slots=True, eq=False)
class Metered:
    """The parameters that an optimizer trains, in the order of the model.

    ``names`` and ``parameters`` are the P measured ones, which ``layers`` groups; ``trained`` are
    the identities of everything that the optimizer trains, also of those ``left_out`` by the user.
    """

    names: tuple[str, ...]
    parameters: tuple[nn.Parameter, ...]
    layers: Layers
    trained: frozenset[int]
    left_out: tuple[str, ...]
    left_out_share: float

    def notes(self) -> list[Note]:
        """Say which parameters the user left out."""
        if not self.left_out:
            return []
        return [
            Note(
                "parameters_left_out",
                f"Not measured, on request: {listed(self.left_out, 3)}, "
                f"{self.left_out_share:.1%} of the trained numbers.",
            )
        ]


class StepObserver:
    """Hooks that are there during a measured step only, and what they find.

    Parameters are those of :class:`~batchsense.training.gradient_noise.GradientNoiseMeter`;
    ``single_examples`` says whether to see the gradients of single ones.

    Raises DataError: the optimizer trains nothing of the model, or ``leave_out`` is wrong.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        single_examples: bool,
        form: LossForm,
        population: int | None,
        leave_out: Sequence[str],
    ) -> None:
        self._model = model
        self.inner = unwrapped(model)
        self._alone = self.inner is model
        self._optimizer = optimizer
        self.single_examples = single_examples
        self._form, self._population = form, population
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
        """Put the hooks in place before a step; whether other parameters are trained than before.

        Raises DataError: single examples cannot be seen any more.
        """
        ids = {id(parameter) for parameter in _trained(self._optimizer)}
        changed = ids != self.metered.trained
        if changed:
            self._recorder = None
            self.metered, self._watch = self._chosen()
        if self.single_examples:
            self._recorder = self._recorder or PerExampleNorms(self.inner, form=self._form)
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

        Returns noise and signal, None if the step cannot be used; and why this step, or attempts at
        it that were given up, were not measured, with how often.
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
        metered = metered_parameters(self.inner, self._optimizer, self._leave_out)
        watch = BackwardWatch(
            self._model,
            metered.parameters,
            form=self._form,
            averaged=not self._alone,
        )
        return metered, watch

    def _noise(self, step: int, found: StepSquares) -> StepNoise:
        problem: DataError | None = None
        squares, tail = None, 0.0
        try:
            squares, tail = self._example_squares(found)
        except DataError as error:
            problem = error
        # Every process sends its sums, also one that cannot measure: the others wait for them.
        sums = sums_of_step(found, self._form.reduction, squares, problem is not None)
        if isinstance(self._model, DistributedDataParallel):
            sums = summed_over_processes(
                sums, self._model.process_group, self.metered.parameters[0].device
            )
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
        sizes = found.sizes.tolist()
        if norms.sizes[-len(sizes) :] != tuple(sizes):
            raise DataError("the norms of single examples belong to other backward passes")
        values = norms.parts[:, -sum(sizes) :].sum(axis=0)
        if not np.isfinite(values).all():
            raise DataError(NOT_FINITE)
        names = self.metered.names
        squares = norms.sums(names, last=sum(sizes))
        missing = [name for name, square in zip(names, squares, strict=True) if np.isnan(square)]
        if missing and self._alone and len(sizes) < 2:
            # A single pass cannot make up for parameters whose single gradients are unknown.
            reasons = [f"{name} ({norms.refused.get(name, 'not seen')})" for name in missing]
            raise DataError(
                f"no gradient of single examples of {listed(reasons, 3)}; accumulate gradients "
                "over two or more passes, or name these parameters in leave_out"
            )
        mean = float(values.mean())
        return squares, float(values.max()) / mean if mean > 0 else 0.0


def metered_parameters(
    model: nn.Module, optimizer: torch.optim.Optimizer, leave_out: Sequence[str] = ()
) -> Metered:
    """Find what an optimizer trains and name it as the model does.

    Raises DataError: the optimizer trains nothing of the model, or ``leave_out`` is wrong or leaves
    nothing.

    >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    >>> metered_parameters(model, torch.optim.SGD(model[1].parameters(), lr=0.1)).names
    ('1.weight', '1.bias')
    """
    names = {id(p): name for name, p in model.named_parameters()}
    wrong = sorted(set(leave_out) - set(names.values()))
    if wrong:
        raise DataError(f"leave_out names no parameter of the model: {listed(wrong)}")
    found = _trained(optimizer)
    if not any(id(p) in names for p in found):
        raise DataError(
            "the optimizer holds no trained parameter of the model; give the model whose "
            "parameters it was made from, and its innermost torch.optim.Optimizer"
        )
    named = [(names.get(id(p), f"optimizer.{place}"), p) for place, p in enumerate(found)]
    order = {name: place for place, name in enumerate(names.values())}
    named.sort(key=lambda pair: order.get(pair[0], len(order)))
    kept = [(name, p) for name, p in named if name not in leave_out]
    if not kept:
        raise DataError("leave_out leaves no parameter to measure")
    numbers = sum(p.numel() for _, p in kept)
    return Metered(
        names=tuple(name for name, _ in kept),
        parameters=tuple(p for _, p in kept),
        layers=Layers.of([name for name, _ in kept], [p.numel() for _, p in kept]),
        trained=frozenset(id(p) for _, p in named),
        left_out=tuple(leave_out),
        left_out_share=1 - numbers / sum(p.numel() for _, p in named),
    )


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside a ``DistributedDataParallel`` one, or itself."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def _trained(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]


def check_meterable(model: object, optimizer: object) -> None:
    """Refuse what a meter cannot follow.

    Raises DataError: no torch model or optimizer, LBFGS, parameters sharded over processes, or a
    wrapper that scales or splits gradients out of sight.

    >>> check_meterable(nn.Linear(1, 1), "SGD")
    Traceback (most recent call last):
    batchsense.errors.DataError: the optimizer is a str, not a torch.optim.Optimizer
    """
    if not isinstance(model, nn.Module):
        raise DataError(f"the model is a {type(model).__name__}, not a torch.nn.Module")
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise DataError(
            f"the optimizer is a {type(optimizer).__name__}, not a torch.optim.Optimizer"
        )
    if isinstance(optimizer, torch.optim.LBFGS):
        raise DataError("LBFGS takes many gradients a step; its noise cannot be metered")
    sharded = any(type(p).__name__ == "DTensor" for p in model.parameters())
    if sharded or any("FullySharded" in type(module).__name__ for module in model.modules()):
        raise DataError(
            "the parameters are sharded over processes (FSDP), where no process sees a whole "
            "gradient; meter an unsharded run"
        )
    if any(kind.__name__ == "DeepSpeedEngine" for kind in type(model).__mro__):
        raise DataError(
            "DeepSpeed scales the loss and divides gradients out of sight, so that they would be "
            "metered in unknown units; meter a run without it"
        )
    if isinstance(model, nn.DataParallel) and len(model.device_ids) > 1:
        raise DataError(
            "DataParallel calls copies of the model, whose gradients are not seen; run one process "
            "for each device (torchrun), which DistributedDataParallel and the meter follow"
        )

"""Watches the backward passes of one optimizer step: what each one added, and what they sum to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import Variable

from batchsense.arrays import Floats, Integers
from batchsense.errors import DataError
from batchsense.training.example_gradients import LossForm, examples_of_call

#: Numbers of each parameter's gradient that are summed up to check what .grad holds: a pass that is
#: missing or counted twice changes them all, so a few are enough.
PROBED = 4
#: Gradients are squared together, for speed, once they have so many numbers: half a MiB of float32,
#: one call for many small parameters, and little memory held beside the large ones.
_HELD_NUMBERS = 1 << 17

ZEROED = "gradients were zeroed without an optimizer step"
STALE = "gradients were not zero before a step; call optimizer.zero_grad() after every step"
CHANGED = "gradients were changed between two backward passes of one step"
IN_PARTS = (
    "a gradient came in parts; call backward() once for each forward pass, on the sum of the losses"
)
BROKEN_OFF = "a backward pass broke off"
GONE = "no gradient was left after the backward pass"
IRREGULAR = "the step had fewer backward passes than the ones before; the next ones are measured"
UNKNOWN = (
    "the model was not called with a tensor, so the number of examples is unknown; compute the "
    "loss inside `with meter.watching(examples=n):`"
)
SEVERAL_FORWARDS = (
    "the model was called several times before one backward pass, so the number of examples is "
    "unknown; compute the loss inside `with meter.watching(examples=n):`"
)


@dataclass(frozen=True, slots=True, eq=False)
class StepSquares:
    """Squared gradients of one optimizer step, for P parameters and K backward passes."""

    sizes: Integers  #: Examples of each pass; 0 where unknown; shape (K,).
    scales: Floats  #: What each loss was multiplied with; shape (K,).
    #: Squared norm of what each pass added to the gradients; NaN if not asked for; shape (K, P).
    squares: Floats
    total: Floats  #: Squared norm of what the gradients held after the last pass; shape (P,).
    #: The first numbers of what each pass added; empty if not asked for; shape (K, P, 4).
    probes: Floats
    probed_total: Floats  #: The same numbers of the gradients after the last pass; shape (P, 4).
    problems: tuple[str, ...]  #: Why the step cannot be used.
    #: How often gradients were zeroed before the step, finite and not.
    zeroed: int
    overflowed: int


@dataclass(slots=True, eq=False)
class _Pass:
    """A backward pass under way or done; norms are scalars on the device."""

    examples: int
    scale: float
    before: Tensor | float | None
    seen: set[int] = field(default_factory=set)
    norms: dict[int, Tensor] = field(default_factory=dict)
    total: dict[int, Tensor] | None = None
    probes: dict[int, Tensor] = field(default_factory=dict)
    probed_total: dict[int, Tensor] = field(default_factory=dict)


class BackwardWatch:
    """Hooks on a model and its parameters that are there for one step at a time.

    The parameter hooks see what a pass adds, before it is accumulated and, with DDP, before it is
    averaged over processes. Nothing is changed; nothing waits for the device until ``collect``.

    The forward passes of ``model`` tell the number of examples, and the gradients of ``parameters``
    are squared; ``averaged`` says that they are averaged over processes at the end of a pass.
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: Sequence[nn.Parameter],
        *,
        form: LossForm,
        averaged: bool,
    ) -> None:
        self._model = model
        self._parameters = list(parameters)
        self._form = form
        self._averaged = averaged
        self._device = self._parameters[0].device
        # Of several devices or precisions; gradients in half precision are widened anyway.
        self._mixed = len({(p.device, p.dtype) for p in self._parameters}) > 1
        self._handles: list[Any] = []
        self._watching = 0
        self._parts, self._probing = True, False
        self._regular, self._expected = True, 0
        self._forget()

    @property
    def attached(self) -> bool:
        """Whether the hooks are there."""
        return bool(self._handles)

    def attach(self, parts: bool = True, probing: bool = False) -> None:
        """Begin to watch a step.

        With ``parts`` what each pass adds is squared, not only the total; with ``probing`` the
        first numbers of every gradient are noted too.
        """
        self._forget()
        self._parts, self._probing = parts, probing
        for index, parameter in enumerate(self._parameters):
            hook = partial(self._arrive, index)
            self._handles.append(parameter.register_hook(hook))  # type: ignore[no-untyped-call]
        self._handles.append(
            self._model.register_forward_pre_hook(
                self._before_forward, prepend=True, with_kwargs=True
            )
        )

    def detach(self) -> None:
        """Remove every hook."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @contextmanager
    def watching(self, examples: int) -> Iterator[None]:
        """Take the number of examples of the loss in this block from the user."""
        if examples < 1:
            raise DataError(f"a loss is about one example or more, not {examples}")
        self._note_forward(examples)
        self._watching += 1
        try:
            yield
        finally:
            self._watching -= 1

    def collect(self) -> StepSquares:
        """Return what the passes of this step have added up to."""
        kept: list[_Pass] = []
        zeroed = overflowed = 0
        for one in self._passes:
            held = None if one.before is None else float(one.before)
            if held == 0.0:
                if kept:
                    finite = np.isfinite(self._squares([x.total or x.norms for x in kept])).all()
                    zeroed, overflowed = zeroed + bool(finite), overflowed + (not finite)
                kept = []
            elif held is not None:
                self._problem(CHANGED if kept else STALE)
            kept.append(one)
        if self._current is not None:
            self._problem(BROKEN_OFF)
        elif not kept or kept[-1].total == {}:
            self._problem(GONE)
        elif kept[-1].total is None:
            self._regular = False
            self._problem(IRREGULAR)
        self._expected = len(kept) if self._regular else 0
        total = kept[-1].total if kept else None
        squares = self._squares([*(one.norms for one in kept), total or {}])
        if not self._parts:
            squares[:-1] = np.nan
        probing = kept if self._probing else []
        return StepSquares(
            sizes=np.array([one.examples for one in kept], dtype=np.int64),
            scales=np.array([one.scale for one in kept]),
            squares=squares[:-1],
            total=squares[-1],
            probes=np.array([self._probes(one.probes) for one in probing]),
            probed_total=self._probes(kept[-1].probed_total) if probing else np.zeros((0, PROBED)),
            problems=tuple(self._problems),
            zeroed=zeroed,
            overflowed=overflowed,
        )

    def _forget(self) -> None:
        self._passes: list[_Pass] = []
        self._held: dict[int, Tensor] = {}
        self._held_numbers = 0
        self._current: _Pass | None = None
        self._forwards: list[int] = []
        self._problems: dict[str, None] = {}
        self._fingerprint: list[tuple[int, int]] | None = None

    def _problem(self, what: str) -> None:
        self._problems[what] = None

    def _before_forward(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        if self._watching or not torch.is_grad_enabled():
            return
        examples = examples_of_call(args, kwargs, self._form.example_dim)
        if examples is None:
            raise DataError(UNKNOWN)
        self._note_forward(examples)

    def _note_forward(self, examples: int) -> None:
        if self._current is not None:
            # An error ended the last backward pass, and its end was never called.
            self._problem(BROKEN_OFF)
            self._current = None
            self._held.clear()
        self._forwards.append(examples)

    def _arrive(self, index: int, gradient: Tensor) -> None:
        current = self._current
        if current is None:
            current = self._begin()
        if index in current.seen:
            self._problem(IN_PARTS)
            return
        current.seen.add(index)
        if not self._parts:
            return
        self._held[index] = gradient = gradient.detach()
        self._held_numbers += gradient.numel()
        if self._held_numbers > _HELD_NUMBERS:
            self._square_held(current)
        if self._probing and gradient.layout == torch.strided:
            current.probes[index] = _first_numbers(gradient)

    def _begin(self) -> _Pass:
        """Begin a pass, or go on with the last one if no forward pass came between."""
        if not self._forwards and self._passes:
            self._current = self._passes.pop()
        else:
            scale = self._form.loss_scale
            self._current = _Pass(
                examples=self._examples(),
                scale=float(scale() if callable(scale) else scale),
                before=self._content(),
            )
        # A private name of torch, but the one that its own data-parallel wrappers rely on.
        Variable._execution_engine.queue_callback(self._end)
        return self._current

    def _examples(self) -> int:
        if len(self._forwards) == 1:
            return self._forwards[0]
        self._problem(SEVERAL_FORWARDS if self._forwards else UNKNOWN)
        return 0

    def _content(self) -> Tensor | float | None:
        """Square what the gradients hold before a pass; None if nobody touched them since."""
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        if not gradients:
            return 0.0
        if self._fingerprint is not None and self._fingerprint == self._marks():
            return None
        norms = [norm.to(self._device).float() for norm in _norms(gradients)]
        return torch.stack(norms).square().sum()

    def _marks(self) -> list[tuple[int, int]]:
        # Tells one state of the gradients from another without reading them.
        gradients = (p.grad for p in self._parameters)
        return [(0, 0) if g is None else (id(g), g._version) for g in gradients]

    def _square_held(self, current: _Pass) -> None:
        with torch.no_grad():
            norms = _norms(list(self._held.values()))
        # A pass may end more than once: re-entrant checkpointing ends it part by part.
        current.norms.update(zip(self._held, norms, strict=True))
        self._held.clear()
        self._held_numbers = 0

    def _end(self) -> None:
        # Called by autograd when the pass is over.
        current = self._current
        if current is None:
            return
        if self._held:
            self._square_held(current)
        if self._averaged:
            # The wrapper's own callback, which averages, was queued during this pass: come after.
            Variable._execution_engine.queue_callback(self._end_after_averaging)
        else:
            self._end_after_averaging()

    def _end_after_averaging(self) -> None:
        current, self._current = self._current, None
        if current is None:
            return
        self._forwards.clear()
        self._passes.append(current)
        self._fingerprint = self._marks()
        if len(self._passes) < self._expected:
            return
        held = {i: p.grad for i, p in enumerate(self._parameters) if p.grad is not None}
        with torch.no_grad():
            current.total = dict(zip(held, _norms(list(held.values())), strict=True))
            if self._probing:
                dense = {i: g for i, g in held.items() if g.layout == torch.strided}
                current.probed_total = {i: _first_numbers(g) for i, g in dense.items()}

    def _squares(self, norms: Sequence[Mapping[int, Tensor]]) -> Floats:
        squares = np.zeros((len(norms), len(self._parameters)))
        rows = [row for row, values in enumerate(norms) for _ in values]
        if rows:
            scalars = [value for values in norms for value in values.values()]
            if self._mixed:
                scalars = [value.to(self._device).double() for value in scalars]
            # All in one piece: each transfer waits for the device.
            found = torch.stack(scalars).cpu().numpy().astype(np.float64)
            squares[rows, [index for values in norms for index in values]] = found * found
        return squares

    def _probes(self, values: Mapping[int, Tensor]) -> Floats:
        table = np.zeros((len(self._parameters), PROBED))
        for index, value in values.items():
            table[index, : len(value)] = value.cpu().numpy()
        return table


def _norms(gradients: Sequence[Tensor]) -> list[Tensor]:
    if not gradients:
        return []
    whole = [g if g.layout == torch.strided else g.coalesce().values() for g in gradients]
    # Squares of half precision overflow and vanish.
    wide = [g.float() if g.dtype in (torch.float16, torch.bfloat16) else g for g in whole]
    return list(torch._foreach_norm(wide))


def _first_numbers(gradient: Tensor) -> Tensor:
    return gradient.reshape(-1)[:PROBED].float().clone()

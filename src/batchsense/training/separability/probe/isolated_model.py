"""Run a user's model without a trace: own copy, own precision, own random numbers.

Everything that the audit runs goes through here, so that the model, its buffers, its gradients
and all random number generators are afterwards as they were.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from batchsense.errors import BatchsenseError, DataError
from batchsense.training.separability.probe.modes import (
    InFloat64,
    WithoutDropout,
    silence_dropout,
)
from batchsense.training.separability.probe.tied_noise import Cut, TiedNoise
from batchsense.training.workload import borrowed_randomness, cloned, described, identical, rebuilt

#: How random numbers are treated: as they come, tied to the examples, or dropout switched off.
Randomness: TypeAlias = Literal["free", "tied", "silent"]


class IsolatedModel:
    """A copy of a model, in the wanted precision, run many times from the same state.

    ``stacked`` says how noise is tied where a minibatch is a multiple of its examples (see
    :class:`~batchsense.training.separability.probe.tied_noise.TiedNoise`), ``broken_tie`` why it
    could not be, once that was tried in vain, and ``shortened_tie`` whether noise of a part was cut
    off because it was padded to less than the whole.

    Raises DataError: the model cannot be copied.
    """

    def __init__(self, model: nn.Module, precision: str) -> None:
        if any(isinstance(p, nn.parameter.UninitializedParameter) for p in model.parameters()):
            raise DataError(
                "it has parameters without a size yet (lazy modules); run one minibatch through it "
                "first",
                where="model",
            )
        self.precision = precision
        self.dtype = dtype_of(precision)
        self.model = cast(_copied(unwrapped(model)), self.dtype)
        self.state = ModelState(self.model)
        self.stacked = False
        self.broken_tie: str | None = None
        self.shortened_tie = False
        self._layout: list[Cut] | None = None
        self._silent: tuple[nn.Module, ModelState] | None = None

    @property
    def draws_noise(self) -> bool:
        """Whether the last whole pass with tied noise drew random numbers."""
        return bool(self._layout)

    @property
    def cuts_multiples(self) -> bool:
        """Whether noise was drawn for several rows per example, whose order is a guess."""
        return any(cut.layout in ("groups", "stacked") for cut in self._layout or [])

    def copied(self) -> IsolatedModel:
        """Another isolated copy of the same model in its state at the start."""
        self.state.restore()
        return IsolatedModel(self.model, self.precision)

    def ready(self, randomness: Randomness, restore: bool = True) -> nn.Module:
        """The model, or its copy without dropout, in the state at the start."""
        if randomness != "silent":
            if restore:
                self.state.restore()
            return self.model
        if self._silent is None:
            self.state.restore()
            silent = _copied(self.model)
            silence_dropout(silent)
            self._silent = silent, ModelState(silent)
        elif restore:
            self._silent[1].restore()
        return self._silent[0]

    def collated(self, collate: Callable[[list[Any]], Any], examples: Sequence[Any]) -> Any:
        """Collate copies of examples (a collate may write into them) in the model's precision."""
        return self.in_precision(collate([cloned(example) for example in examples]))

    def in_precision(self, minibatch: Any) -> Any:
        """Copy a minibatch with its floating tensors in the model's precision."""
        return rebuilt(
            minibatch,
            lambda t: t.to(self.dtype) if t.is_floating_point() and t.dtype != self.dtype else t,
        )

    @contextlib.contextmanager
    def conditions(
        self,
        members: Sequence[int],
        whole: bool,
        seed: int,
        randomness: Randomness,
        elsewhere: int | None = None,
    ) -> Iterator[None]:
        """Enter the precision, the seed and the treatment of random numbers.

        ``members`` are the examples of the minibatch, for tied noise; if they are not the
        ``whole``, noise is cut as it was there. ``elsewhere`` seeds all that is not tied.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(borrowed_randomness(seed if elsewhere is None else elsewhere))
            stack.enter_context(torch.enable_grad())
            stack.enter_context(default_dtype(self.dtype))
            if self.precision == "float64":
                stack.enter_context(InFloat64())
            if randomness == "silent":
                stack.enter_context(WithoutDropout())
            if randomness == "tied":
                noise = TiedNoise(seed, members, None if whole else self._layout, self.stacked)
                stack.callback(self._note_tie, noise, whole)
                stack.enter_context(noise)
            yield

    def _note_tie(self, noise: TiedNoise, whole: bool) -> None:
        """Remember how noise was cut, or that it could not be tied."""
        self.broken_tie = self.broken_tie or noise.broken
        self.shortened_tie = self.shortened_tie or noise.shortened
        if whole:
            self._layout = noise.layout


def _copied(model: nn.Module) -> nn.Module:
    try:
        copied = copy.deepcopy(model)
    except Exception as error:
        raise DataError(
            f"it cannot be copied ({described(error)}), and an audit of the model itself would "
            "change it",
            where="model",
        ) from error
    copied.zero_grad(set_to_none=True)
    return copied


#: The precisions in which a loss can be audited; float64 unless something has no such kernel.
PRECISIONS = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16}
_COMPLEX = {torch.float64: torch.complex128, torch.float32: torch.complex64}


def unwrapped(model: nn.Module) -> nn.Module:
    """Take a model out of its DistributedDataParallel, DataParallel or compiled wrapper."""
    while True:
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model


def cast(model: nn.Module, wanted: torch.dtype) -> nn.Module:
    """Turn the floating parameters and buffers of a model into another precision, in place."""

    def change(tensor: Tensor) -> Tensor:
        if tensor.is_complex():
            return tensor.to(_COMPLEX.get(wanted, tensor.dtype))
        return tensor.to(wanted) if tensor.is_floating_point() else tensor

    model._apply(change)  # type: ignore[no-untyped-call]
    return model


def dtype_of(precision: str) -> torch.dtype:
    """Look up the dtype of a precision; refuse what is not one of :data:`PRECISIONS`."""
    if precision not in PRECISIONS:
        raise DataError(f"{precision!r} is not one of {', '.join(PRECISIONS)}", where="precision")
    return PRECISIONS[precision]


@contextlib.contextmanager
def blamed_on(where: str, what: str = "it fails") -> Iterator[None]:
    """Turn an error of the user's code into a DataError that says where it arose."""
    try:
        yield
    except BatchsenseError:
        raise
    except Exception as error:
        raise DataError(f"{what}: {described(error)}", where) from error


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Let new floating tensors have this dtype inside the block."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class ModelState:
    """The parameters and *all* buffers of a model, also those that ``state_dict`` leaves out."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._training = [(module, module.training) for module in model.modules()]
        self._parameters = [(p, p.detach().clone()) for p in model.parameters()]
        self._buffers = [
            (module, f"{path}.{name}" if path else name, name, tensor, tensor.clone())
            for path, module in model.named_modules()
            for name, tensor in module._buffers.items()
            if tensor is not None
        ]

    def restore(self) -> None:
        """Put everything back as it was."""
        with torch.no_grad():
            for parameter, value in self._parameters:
                parameter.copy_(value)
            for module, _, name, tensor, value in self._buffers:
                tensor.copy_(value)
                module._buffers[name] = tensor
        for module, training in self._training:
            module.training = training

    def changed(self) -> list[str]:
        """Name the buffers that differ from the stored ones."""
        return [
            path
            for module, path, name, _, value in self._buffers
            if not identical(module._buffers.get(name), value)
        ]

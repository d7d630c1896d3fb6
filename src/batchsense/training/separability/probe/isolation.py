"""Run a user's model without a trace: own copy, own precision, own random numbers.

Everything that the audit runs goes through here, so that the model, its buffers, its gradients
and all random number generators are afterwards as they were.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from batchsense.errors import DataError

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


def cast(model: nn.Module, precision: str) -> nn.Module:
    """Turn the floating parameters and buffers of a model into another precision, in place."""
    wanted = dtype_of(precision)

    def change(tensor: Tensor) -> Tensor:
        if tensor.is_complex():
            return tensor.to(_COMPLEX.get(wanted, tensor.dtype))
        return tensor.to(wanted) if tensor.is_floating_point() else tensor

    model._apply(change)  # type: ignore[no-untyped-call]
    return model


def dtype_of(precision: str) -> torch.dtype:
    """Give the dtype of a precision by name.

    Raises
    ------
    DataError
        The name is not one of :data:`PRECISIONS`.
    """
    if precision not in PRECISIONS:
        raise DataError(f"{precision!r} is not one of {', '.join(PRECISIONS)}", where="precision")
    return PRECISIONS[precision]


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed Python's, numpy's and torch's generators inside the block and put them back after."""
    before = (
        random.getstate(),
        np.random.get_state(),  # noqa: NPY002 (the user's code may use the global generator)
        torch.get_rng_state(),
        _cuda_states(),
    )
    try:
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        seed_torch(seed)
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        torch.set_rng_state(before[2])
        if before[3]:
            torch.cuda.set_rng_state_all(before[3])


def seed_torch(seed: int) -> None:
    """Seed torch's generators of the CPU and of the devices in use.

    ``torch.manual_seed`` does the same, but formats a traceback for every device not in use.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)


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
            if not _same(module._buffers.get(name), value)
        ]

    def parameters_changed(self) -> bool:
        """Whether a parameter differs from the stored one."""
        return any(not torch.equal(p, value) for p, value in self._parameters)


def _same(tensor: Any, value: Tensor) -> bool:
    """Whether a buffer still holds these values."""
    return isinstance(tensor, Tensor) and tensor.shape == value.shape and torch.equal(tensor, value)


def _cuda_states() -> list[Tensor]:
    """Remember the generators of all GPUs in use."""
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return torch.cuda.get_rng_state_all() if in_use else []

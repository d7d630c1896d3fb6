"""Convolutions: linear layers on the patches that the kernel sees."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from batchsense.training.example_gradients.contributions import (
    Contribution,
    Explicit,
    OuterProducts,
    parts_of,
)
from batchsense.training.example_gradients.recording import (
    Call,
    Kept,
    OutputGradient,
    Recording,
    Rule,
    Use,
)

#: Numbers of patches and products made at a time on a CPU: 1 MiB in float32 stays in the cache of a
#: core. Norms of four layers took half the time that they took with 64 MiB at a time.
IN_CACHE = 1 << 18


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a kernel moves over its input, one entry for each spatial dimension."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int

    def windows(self, values: Tensor) -> Tensor:
        """What the kernel sees, a view of shape (n, groups, channels, *kernel, *places)."""
        around = [width for pair in reversed(self.padding) for width in pair]
        if any(around):
            values = functional.pad(values, around)
        examples, channels = values.shape[:2]
        dims = len(self.kernel)
        settings = zip(self.kernel, self.stride, self.dilation, strict=True)
        for d, (kernel, stride, dilation) in enumerate(settings):
            values = values.unfold(2 + d, dilation * (kernel - 1) + 1, stride)[..., ::dilation]
        order = (0, 1, *range(2 + dims, 2 + 2 * dims), *range(2, 2 + dims))
        seen = values.permute(order)
        return seen.view(examples, self.groups, channels // self.groups, *seen.shape[2:])


@dataclass(frozen=True, slots=True)
class Patches:
    """The gradient of a kernel: outer products of output gradients and patches, copied when needed.

    ``windows`` are patches of the input, as a view of it, and ``gradient``, of shape (n, groups,
    kernels, places), is that with respect to the output.
    """

    windows: Tensor
    gradient: Tensor

    def __len__(self) -> int:
        return len(self.windows)

    def norms(self) -> Tensor:
        """Return the norms, some examples at a time."""
        parts = [self._products(part).norms() for part in self._parts()]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def dense(self, shape: torch.Size, part: slice) -> Tensor:
        """Form the gradients of the part."""
        return self._products(part).dense(shape, slice(None))

    def projected(self, left: Tensor, right: Tensor) -> Tensor:
        """Return leftᵀ (Σᵢ gᵢ) right."""
        onto = [self._products(part).projected(left, right) for part in self._parts()]
        return torch.stack(onto).sum()

    def _parts(self) -> list[slice]:
        _, groups, rows, places = self.gradient.shape
        columns = self.windows[0, 0].numel() // max(1, places)
        most = IN_CACHE if self.windows.device.type == "cpu" else None
        return parts_of(len(self), groups * columns * (places + rows), most)

    def _products(self, part: slice) -> OuterProducts:
        left, windows = self.gradient[part], self.windows[part]
        # One copy of windows that overlap; ``unfold`` took two to three times as long.
        right = windows.reshape(*left.shape[:2], -1, left.shape[3])
        return OuterProducts(left.mT, right.mT)


def convolution(recording: Recording, call: Call) -> Tensor:
    """Record ``convNd(input, weight, bias, stride, padding, dilation, groups)``."""
    names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    values, weight, bias, stride, padding, dilation, groups = call.arguments(
        *names, stride=1, padding=0, dilation=1, groups=1
    )
    output: Tensor = call.run()
    w, b = recording.find(weight), recording.find(bias)
    if not output.requires_grad or (w is None and b is None):
        return output
    if values.dim() != weight.dim() or not recording.leads(values):
        recording.misplaced((w, b), values)
        return output
    if not recording.is_whole((w, b), (weight, bias)):
        recording.refuse((w, b), "a view of it is used by a convolution")
        return output
    uses = []
    if w is not None:
        kernel = tuple(weight.shape[2:])
        steps = _each(dilation, len(kernel))
        margins = _margins(padding, kernel, steps)
        geometry = Geometry(kernel, _each(stride, len(kernel)), margins, steps, groups)
        kept = Kept(values)

        def patches(gradient: OutputGradient) -> Contribution:
            windows = geometry.windows(kept().to(gradient.values.dtype))
            output = gradient.values
            rows, places = output.shape[1] // groups, math.prod(output.shape[2:])
            return Patches(windows, output.reshape(len(output), groups, rows, places))

        uses.append(Use(w, patches))
    if b is not None:
        uses.append(Use(b, _over_space))
    recording.expect(output, uses)
    return output


def _over_space(gradient: OutputGradient) -> Contribution:
    return Explicit(gradient.values.flatten(2).sum(2))


def _each(value: Any, dims: int) -> tuple[int, ...]:
    settings = (value,) if isinstance(value, int) else tuple(value)
    return settings * dims if len(settings) == 1 else settings


def _margins(
    padding: Any, kernel: Sequence[int], dilation: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    """The zeros (before, after) in each dimension; the odd one of 'same' goes after."""
    if padding == "valid":
        return ((0, 0),) * len(kernel)
    if padding == "same":
        totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    return tuple((width, width) for width in _each(padding, len(kernel)))


RULES: dict[object, Rule] = {
    torch.conv1d: convolution,
    torch.conv2d: convolution,
    torch.conv3d: convolution,
}

"""Where in a tensor the examples are, if it holds any: known shapes and origins, never sizes alone.

A table of 64 positions and a minibatch of 64 examples have the same shape. What comes from
parameters, buffers and ``arange`` alone holds no examples, until it is expanded over them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

_ORIGINS = frozenset({torch.arange, torch.linspace})

_SPREADING = frozenset(
    {
        torch.Tensor.expand,
        torch.Tensor.expand_as,
        torch.Tensor.repeat,
        torch.broadcast_to,
        torch.Tensor.broadcast_to,
        torch.tile,
        torch.Tensor.tile,
        torch.Tensor.repeat_interleave,
        torch.repeat_interleave,
    }
)


class Layout(NamedTuple):
    """The dimensions before the features: which one counts examples.

    ``leading`` are the sizes of all dimensions but the features', after flattened ones are told
    apart; ``axis`` is the one that counts examples.
    """

    leading: tuple[int, ...]
    axis: int

    def by_example(self, values: Tensor, features: int = 1) -> Tensor:
        """Rearrange to shape (n, places, *features); the last ``features`` dimensions are kept."""
        if len(self.leading) == 1:
            return values.unsqueeze(1)
        kept = values.shape[values.dim() - features :]
        if self.axis == 0:
            return values.reshape(self.leading[0], math.prod(self.leading[1:]), *kept)
        moved = values.reshape(*self.leading, *kept).movedim(self.axis, 0)
        return moved.reshape(self.leading[self.axis], -1, *kept)


def layout_of(values: Tensor, features: int, examples: int, example_dim: int) -> Layout | None:
    """Find the examples in a layer's input.

    ``values`` have shape (*leading, *features), where ``features`` counts the last dimensions that
    belong to one place. ``example_dim`` is 1 where the model puts positions first; a tensor with
    one leading dimension has nothing but examples there. None if the dimension found has not the
    size ``examples``. A view that flattens (n, T, F) to (n·T, F) is understood through the tensor
    that it is a view of.
    """
    if values.dim() == features + 1 and values.shape[0] == examples:
        return Layout((examples,), 0)
    leading = tuple(values.shape[: values.dim() - features])
    axis = example_axis(leading, examples, example_dim)
    if axis is not None:
        return Layout(leading, axis)
    base = values._base
    if len(leading) != 1 or base is None or not _same_memory(values, base):
        return None
    if base.shape[-features:] == values.shape[-features:]:
        leading = tuple(base.shape[:-features])
        axis = example_axis(leading, examples, example_dim)
        return None if axis is None else Layout(leading, axis)
    if example_dim == 0 and base.shape[0] == examples and values.shape[0] % examples == 0:
        return Layout((examples, values.shape[0] // examples), 0)
    return None


def example_axis(leading: tuple[int, ...], examples: int, example_dim: int) -> int | None:
    """Return the dimension that counts examples, if its size allows that."""
    axis = example_dim if len(leading) > example_dim else 0
    return axis if axis < len(leading) and leading[axis] == examples else None


def _same_memory(values: Tensor, base: Tensor) -> bool:
    return (
        values.numel() == base.numel()
        and base.dim() > 0
        and values.is_contiguous()
        and base.is_contiguous()
    )


class Constants:
    """Follows operations from lasting tensors; remembers which results depend on no example."""

    def __init__(self, lasting: Iterable[Tensor]) -> None:
        self._lasting = {id(value): value for value in lasting}
        self._passing: dict[int, Tensor] = {}

    def __contains__(self, value: Tensor) -> bool:
        """Whether a tensor depends on no example."""
        return id(value) in self._passing or id(value) in self._lasting

    def forget(self) -> None:
        """Begin a new forward pass; identities of old tensors may be used again."""
        self._passing.clear()

    def follow(
        self,
        function: Any,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        result: Any,
        examples: int,
    ) -> None:
        """Take note of what an operation made of its arguments."""
        if function in _ORIGINS:
            self._keep(result)
            return
        tensors = list(_tensors((*args, *kwargs.values())))
        constant = bool(tensors) and all(value in self for value in tensors)
        if constant and not (function in _SPREADING and examples in result.shape[:2]):
            self._keep(result)
        elif isinstance(result, Tensor):
            self._passing.pop(id(result), None)

    def _keep(self, result: Any) -> None:
        for value in _tensors((result,)):
            self._passing[id(value)] = value


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)

"""Tensors that are the same for all examples, told apart from those that hold examples by origin.

A table of 64 positions and a minibatch of 64 examples have the same shape. What comes from
parameters, buffers and ``arange`` alone holds no examples, until it is expanded over them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

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


class Constants:
    """Follows operations and remembers which results depend on no example.

    Parameters
    ----------
    lasting : iterable of Tensor
        Parameters and buffers.
    """

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
        if constant and not (function in _SPREADING and _holds(result, examples)):
            self._keep(result)
        elif isinstance(result, Tensor):
            self._passing.pop(id(result), None)

    def _keep(self, result: Any) -> None:
        """Remember a result, or each of several."""
        for value in _tensors((result,)):
            self._passing[id(value)] = value


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """Walk through tensors, also those in lists and tuples."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


def _holds(result: Any, examples: int) -> bool:
    """Whether an expanded tensor may have got a dimension for the examples."""
    return isinstance(result, Tensor) and examples in result.shape[:2]

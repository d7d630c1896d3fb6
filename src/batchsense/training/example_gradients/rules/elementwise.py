"""Parameters that are added to, or multiplied with, every example: scales, positions, tokens.

Such a parameter is spread over the examples by broadcasting, where its gradients are summed before
anyone sees them. The rule spreads it by an explicit ``expand`` instead, which computes the same,
and catches the gradient of what was spread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from batchsense.training.example_gradients.contribution import Contribution
from batchsense.training.example_gradients.example_axis import example_axis
from batchsense.training.example_gradients.recording import (
    Builder,
    OutputGradient,
    Recording,
    Use,
    view_of,
)
from batchsense.training.example_gradients.rules.explicit import Explicit
from batchsense.training.example_gradients.rules.lookups import Lookups


def elementwise(
    recording: Recording,
    function: Callable[..., Tensor],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Tensor:
    """Record an operation that treats its arguments element by element after broadcasting."""
    sources = [_source(recording, value) for value in args]
    if not any(sources) or not torch.is_grad_enabled() or _all_constant(recording, args):
        return function(*args, **kwargs)
    shapes = [value.shape for value in args if isinstance(value, Tensor)]
    shape = torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]
    spread = [
        value if source is None else _spread(recording, value, source, value.expand(shape))
        for value, source in zip(args, sources, strict=True)
    ]
    return function(*spread, **kwargs)


def spreading(
    recording: Recording,
    function: Callable[..., Tensor],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Tensor:
    """Record an ``expand`` or ``repeat`` that gives every example its own copy."""
    output = function(*args, **kwargs)
    source = _source(recording, args[0]) if output.requires_grad else None
    if source is not None:
        grown = sum(a != b for a, b in zip(_aligned(args[0], output), output.shape, strict=True))
        if grown <= 1 or output._base is not None:
            _spread(recording, args[0], source, output)
    return output


#: A parameter's index, and the tokens if it is a table of rows that were looked up.
_Source = tuple[int, Tensor | None]


def _source(recording: Recording, value: Any) -> _Source | None:
    """Tell which parameter a value is, or is a view of, or holds looked-up rows of."""
    if not isinstance(value, Tensor) or not value.requires_grad:
        return None
    index = recording.find(value)
    if index is not None:
        return index, None
    entry = recording.table_of(value)
    return None if entry is None else (entry[1], entry[2])


def _spread(recording: Recording, value: Tensor, source: _Source, spread: Tensor) -> Tensor:
    """Catch the gradient of ``spread``, or give ``value`` back if no example gets a copy."""
    shape = tuple(spread.shape)
    axis = example_axis(shape[:-1] or shape, recording.examples, recording.example_dim)
    before = _aligned(value, spread)
    if axis is None or before[axis] != 1:
        return value
    index, tokens = source
    summed = tuple(d for d, size in enumerate(before) if d != axis and size == 1 and shape[d] != 1)

    def own(gradient: Tensor) -> Tensor:
        gradient = gradient.movedim(axis, 0)
        moved = tuple(d + 1 if d < axis else d for d in summed)
        if moved:
            gradient = gradient.sum(moved, keepdim=True)
        return gradient.reshape(len(gradient), *value_shape)

    value_shape = value.shape
    build: Builder
    if tokens is None:
        try:
            view = view_of(value, recording.parameters[index])
        except ValueError:
            return value

        def build(output: OutputGradient) -> Contribution:
            return Explicit(own(output.values), view)

    else:

        def build(output: OutputGradient) -> Contribution:
            rows = own(output.values)
            flat = rows.reshape(len(rows), tokens.numel(), -1)
            return Lookups(tokens.reshape(1, -1).expand(len(rows), -1), flat)

    recording.expect(spread, [Use(index, build)])
    return spread


def _all_constant(recording: Recording, values: Sequence[Any]) -> bool:
    """Whether no argument holds examples."""
    return all(value in recording.constants for value in values if isinstance(value, Tensor))


def _aligned(value: Tensor, spread: Tensor) -> tuple[int, ...]:
    """Give the shape of a value with ones in front, as broadcasting sees it."""
    return (1,) * (spread.dim() - value.dim()) + tuple(value.shape)


_ELEMENTWISE = ("add", "sub", "mul", "div", "true_divide")
RULES: dict[Any, Callable[..., Tensor]] = {
    torch.where: elementwise,
    torch.Tensor.expand: spreading,
    torch.Tensor.expand_as: spreading,
    torch.broadcast_to: spreading,
    torch.Tensor.broadcast_to: spreading,
    torch.Tensor.repeat: spreading,
    **{getattr(torch, name): elementwise for name in _ELEMENTWISE},
    **{getattr(torch.Tensor, name): elementwise for name in _ELEMENTWISE},
    **{getattr(torch.Tensor, f"{name}_"): elementwise for name in _ELEMENTWISE},
}

"""Parameters that every example gets a copy of: rows looked up, scales, positions, tokens.

Broadcasting sums the gradients of the copies before anyone sees them. The rule spreads such a
parameter by an explicit ``expand`` instead, which computes the same, and catches the gradient of
what was spread. Rows looked up for each example come apart by themselves.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from batchsense.training.example_gradients.contributions import Contribution, Explicit, Lookups
from batchsense.training.example_gradients.recording import (
    Builder,
    Call,
    Kept,
    OutputGradient,
    Recording,
    Rule,
    Use,
    view_of,
)


def embedding(recording: Recording, call: Call) -> Tensor:
    """Record ``embedding(input, weight, padding_idx, ...)``.

    Rows looked up once for all examples, such as those of positions, are recorded when they are
    added to or multiplied with something that has examples.
    """
    output: Tensor = call.run()
    names = ("input", "weight", "padding_idx", "max_norm", "norm_type", "scale_grad_by_freq")
    tokens, weight, padding, _, _, by_frequency = call.arguments(*names)
    index = recording.find(weight)
    if index is None or not output.requires_grad:
        return output
    if by_frequency:
        recording.coupled.add("an embedding with scale_grad_by_freq")
    if weight is not recording.parameters[index]:
        recording.refuse((index,), "looked up through a view")
        return output
    layout = recording.layout(tokens, 0)
    if layout is None:
        if padding is None:
            recording.remember_table(output, index, tokens)
        else:
            recording.misplaced((index,), tokens)
        return output
    padding = None if padding is None else padding % len(weight)
    kept = Kept(tokens)

    def build(output: OutputGradient) -> Contribution:
        looked_up = layout.by_example(kept(), 0)
        right = layout.by_example(output.values)
        if padding is not None:
            right = right.masked_fill((looked_up == padding).unsqueeze(2), 0)
        return Lookups(looked_up, right)

    recording.expect(output, [Use(index, build)])
    return output


def elementwise(recording: Recording, call: Call) -> Any:
    """Record an operation that treats its arguments element by element after broadcasting."""
    sources = [_source(recording, value) for value in call.args]
    tensors = [value for value in call.args if isinstance(value, Tensor)]
    constant = all(value in recording.constants for value in tensors)
    if not any(sources) or not torch.is_grad_enabled() or constant:
        return call.run()
    shapes = [value.shape for value in tensors]
    shape = torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]
    spread = [
        value if source is None else _spread(recording, value, source, value.expand(shape))
        for value, source in zip(call.args, sources, strict=True)
    ]
    return call.function(*spread, **call.kwargs)


def spreading(recording: Recording, call: Call) -> Tensor:
    """Record an ``expand`` or ``repeat`` that gives every example its own copy."""
    output: Tensor = call.run()
    value = call.args[0]
    source = _source(recording, value) if output.requires_grad else None
    if source is not None:
        grown = sum(a != b for a, b in zip(_aligned(value, output), output.shape, strict=True))
        if grown <= 1 or output._base is not None:
            _spread(recording, value, source, output)
    return output


#: A parameter's index, and the tokens if it is a table of rows that were looked up.
_Source = tuple[int, Tensor | None]


def _source(recording: Recording, value: Any) -> _Source | None:
    if not isinstance(value, Tensor) or not value.requires_grad:
        return None
    index = recording.find(value)
    if index is not None:
        return index, None
    entry = recording.table_of(value)
    return None if entry is None else (entry[1], entry[2])


def _spread(recording: Recording, value: Tensor, source: _Source, spread: Tensor) -> Tensor:
    """Catch the gradient of ``spread``, or return ``value`` if no example gets a copy."""
    shape = tuple(spread.shape)
    axis = recording.axis(shape)
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


def _aligned(value: Tensor, spread: Tensor) -> tuple[int, ...]:
    return (1,) * (spread.dim() - value.dim()) + tuple(value.shape)


_ELEMENTWISE = ("add", "sub", "mul", "div", "true_divide")

RULES: dict[object, Rule] = {
    functional.embedding: embedding,
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

"""Linear layers: ``linear``, ``matmul`` and ``addmm`` with a trained matrix, and their biases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from batchsense.training.example_gradients.arguments import named
from batchsense.training.example_gradients.contribution import Contribution
from batchsense.training.example_gradients.example_axis import Layout
from batchsense.training.example_gradients.recording import (
    Builder,
    Kept,
    OutputGradient,
    Recording,
    Use,
    view_of,
)
from batchsense.training.example_gradients.rules.explicit import Explicit
from batchsense.training.example_gradients.rules.outer_products import OuterProducts
from batchsense.training.example_gradients.rules.rank_one import RankOne


def linear(
    recording: Recording,
    function: Callable[..., Tensor],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Tensor:
    """Record ``linear(input, weight, bias)``."""
    values, weight, bias = named(("input", "weight", "bias"), args, kwargs)
    output = function(*args, **kwargs)
    record_linear(recording, output, values, weight, bias, None)
    return output


def matmul(
    recording: Recording,
    function: Callable[..., Tensor],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Tensor:
    """Record ``input @ weight`` and ``weight @ input``."""
    output = function(*args, **kwargs)
    first, second = _operands(args, kwargs)
    on_right, on_left = recording.find(second), recording.find(first)
    if output.requires_grad and (on_right is not None or on_left is not None):
        if on_left is None and second.dim() == 2:
            record_linear(recording, output, first, second.mT, None, None)
        elif on_right is None and on_left is not None:
            _record_from_left(recording, output, first, second, on_left)
        else:
            recording.refuse((on_left, on_right), "multiplied with something that is no matrix")
    return output


def addmm(
    recording: Recording,
    function: Callable[..., Tensor],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Tensor:
    """Record ``addmm(bias, input, weight)``."""
    output = function(*args, **kwargs)
    bias, values, weight = named(("input", "mat1", "mat2"), args, kwargs)
    scaled = kwargs.get("beta", 1) != 1 or kwargs.get("alpha", 1) != 1
    parameters = [recording.find(value) for value in (bias, values, weight)]
    if parameters[1] is not None or scaled or (bias.dim() != 1 and parameters[0] is not None):
        recording.refuse(parameters, "used by addmm in a form that no rule covers")
    else:
        record_linear(recording, output, values, weight.mT, bias, None)
    return output


def record_linear(
    recording: Recording,
    output: Tensor,
    values: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    layout: Layout | None,
) -> None:
    """Record that ``output`` is values·weightᵀ + bias; ``layout`` where it is known already."""
    if not output.requires_grad:
        return
    w = recording.find(weight)
    b = None if bias is None else recording.find(bias)
    if w is None and b is None:
        return
    layout = layout or recording.layout(values, 1)
    if layout is None:
        recording.misplaced((w, b), values)
        return
    if weight.dim() != 2:
        recording.refuse((w, b), "a vector used as the matrix of a linear layer")
        return
    if len(layout.leading) == 1 and recording.is_whole((w, b), (weight, bias)):
        recording.expect(output, _one_place_uses(w, b, values))
        return
    uses = []
    if w is not None:
        build = _weight_builder(weight, recording.parameters[w], Kept(values), layout)
        if build is None:
            recording.refuse((w,), "multiplied through a view that is no range of its rows")
        else:
            uses.append(Use(w, build))
    if b is not None and bias is not None:
        try:
            uses.append(Use(b, _bias_builder(bias, recording.parameters[b], layout)))
        except ValueError:
            recording.refuse((b,), "added through a view that repeats its elements")
    recording.expect(output, uses)


def _one_place_uses(w: int | None, b: int | None, values: Tensor) -> list[Use]:
    """Make the uses of a matrix and a bias on an input of shape (n, columns)."""
    uses = []
    if w is not None:
        uses.append(Use(w, partial(_rank_one, Kept(values))))
    if b is not None:
        uses.append(Use(b, _as_bias))
    return uses


def _rank_one(kept: Kept, output: OutputGradient) -> Contribution:
    """Build the contribution of a matrix."""
    return RankOne(output.values, kept().to(output.values.dtype), output.norms())


def _as_bias(output: OutputGradient) -> Contribution:
    """Build the contribution of a bias."""
    return Explicit(output.values, None, output.norms())


def _weight_builder(
    weight: Tensor, parameter: Tensor, kept: Kept, layout: Layout
) -> Builder | None:
    """Make the builder for a matrix, of all its rows, a range of them, or transposed."""
    place = _place_of(weight, parameter)
    if place is None:
        return None
    first_row, transposed = place

    def build(output: OutputGradient) -> Contribution:
        left = output.values
        right = kept().to(left.dtype)
        left = layout.by_example(left).unsqueeze(1)
        right = layout.by_example(right).unsqueeze(1)
        if transposed:
            return OuterProducts(right, left, first_row)
        return OuterProducts(left, right, first_row)

    return build


def _place_of(weight: Tensor, parameter: Tensor) -> tuple[int, bool] | None:
    """Give the first row of a parameter that a view shows, and whether it shows it transposed."""
    if weight is parameter:
        return 0, False
    if parameter.dim() != 2 or not parameter.is_contiguous() or weight.dim() != 2:
        return None
    width = parameter.shape[1]
    offset = int(weight.storage_offset() - parameter.storage_offset())
    plain = weight.shape[1] == width and weight.stride() == (width, 1)
    transposed = weight.shape[0] == width and weight.stride() == (1, width)
    if offset % width or not (plain or transposed):
        return None
    return offset // width, not plain


def _bias_builder(bias: Tensor, parameter: Tensor, layout: Layout) -> Builder:
    """Make the builder for a bias or a range of one."""
    view = view_of(bias, parameter)

    def build(output: OutputGradient) -> Contribution:
        return Explicit(layout.by_example(output.values).sum(1), view)

    return build


def _record_from_left(
    recording: Recording, output: Tensor, weight: Tensor, values: Tensor, index: int
) -> None:
    """Record ``weight @ values`` for values of shape (n, ..., columns, k)."""
    layout = recording.layout(values, 2) if values.dim() > 2 else None
    kept = Kept(values)
    if layout is None or weight is not recording.parameters[index] or weight.dim() != 2:
        recording.misplaced((index,), values)
        return

    def build(output: OutputGradient) -> Contribution:
        left = layout.by_example(output.values, 2).mT.flatten(1, 2)
        right = layout.by_example(kept().to(left.dtype), 2).mT.flatten(1, 2)
        return OuterProducts(left.unsqueeze(1), right.unsqueeze(1))

    recording.expect(output, [Use(index, build)])


def _operands(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Give both factors, whatever the second is called."""
    both = [*args, *(kwargs[name] for name in ("input", "other", "mat2") if name in kwargs)]
    return both[0], both[1]


RULES = {
    functional.linear: linear,
    torch.matmul: matmul,
    torch.mm: matmul,
    torch.Tensor.matmul: matmul,
    torch.Tensor.mm: matmul,
    torch.addmm: addmm,
    torch.Tensor.addmm: addmm,
}

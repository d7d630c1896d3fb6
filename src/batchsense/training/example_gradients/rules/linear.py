"""Linear layers: a trained matrix that multiplies, and its bias; also those inside attention."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from batchsense.training.example_gradients.contributions import (
    Contribution,
    Explicit,
    OuterProducts,
    RankOne,
)
from batchsense.training.example_gradients.example_axis import Layout
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

#: Held while ``functional.linear`` is replaced, which all threads see.
_ONE_AT_A_TIME = threading.RLock()


def linear(recording: Recording, call: Call) -> Tensor:
    """Record ``linear(input, weight, bias)``."""
    values, weight, bias = call.arguments("input", "weight", "bias")
    output: Tensor = call.run()
    record_linear(recording, output, values, weight, bias, None)
    return output


def matmul(recording: Recording, call: Call) -> Tensor:
    """Record ``input @ weight`` and ``weight @ input``."""
    output: Tensor = call.run()
    # The second factor is called differently by matmul and mm.
    both = [*call.args, *(call.kwargs[k] for k in ("input", "other", "mat2") if k in call.kwargs)]
    first, second = both[:2]
    on_right, on_left = recording.find(second), recording.find(first)
    if output.requires_grad and (on_right is not None or on_left is not None):
        if on_left is None and second.dim() == 2:
            record_linear(recording, output, first, second.mT, None, None)
        elif on_right is None and on_left is not None:
            _record_from_left(recording, output, first, second, on_left)
        else:
            recording.refuse((on_left, on_right), "multiplied with something that is no matrix")
    return output


def addmm(recording: Recording, call: Call) -> Tensor:
    """Record ``addmm(bias, input, weight)``."""
    output: Tensor = call.run()
    bias, values, weight = call.arguments("input", "mat1", "mat2")
    scaled = call.kwargs.get("beta", 1) != 1 or call.kwargs.get("alpha", 1) != 1
    parameters = [recording.find(value) for value in (bias, values, weight)]
    if parameters[1] is not None or scaled or (bias.dim() != 1 and parameters[0] is not None):
        recording.refuse(parameters, "used by addmm in a form that no rule covers")
    else:
        record_linear(recording, output, values, weight.mT, bias, None)
    return output


def attention(recording: Recording, call: Call) -> Any:
    """Record the projections inside ``multi_head_attention_forward``.

    It puts positions first, (T, n, E), whatever ``batch_first`` says, and projects the outcome as
    (T·n, E).
    """
    query = call.args[0] if call.args else call.kwargs["query"]
    if query.dim() != 3 or query.shape[1] != recording.examples:
        parameters = [recording.find(value) for value in (*call.args, *call.kwargs.values())]
        recording.misplaced(parameters, query)
        return call.run()
    with _watched_linear(recording, query.shape[1]):
        return call.run()


@contextmanager
def _watched_linear(recording: Recording, examples: int) -> Iterator[None]:
    """Record what this thread does with ``linear`` inside the block, then put it back.

    The function refers to ``linear`` by its global name, so there is no other place to look.
    """
    thread = threading.get_ident()

    def watched(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        output = plain(input, weight, bias)
        if threading.get_ident() == thread:
            places = input.numel() // (examples * input.shape[-1])
            record_linear(recording, output, input, weight, bias, Layout((places, examples), 1))
        return output

    with _ONE_AT_A_TIME:
        plain = functional.linear
        functional.linear = watched
        try:
            yield
        finally:
            functional.linear = plain


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
        uses = [] if w is None else [Use(w, partial(_rank_one, Kept(values)))]
        recording.expect(output, uses if b is None else [*uses, Use(b, _as_bias)])
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


def _rank_one(kept: Kept, output: OutputGradient) -> Contribution:
    return RankOne(output.values, kept().to(output.values.dtype), output.norms())


def _as_bias(output: OutputGradient) -> Contribution:
    return Explicit(output.values, None, output.norms())


def _weight_builder(
    weight: Tensor, parameter: Tensor, kept: Kept, layout: Layout
) -> Builder | None:
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
    """The first row of a parameter that a view shows, and whether it shows it transposed."""
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
    view = view_of(bias, parameter)

    def build(output: OutputGradient) -> Contribution:
        return Explicit(layout.by_example(output.values).sum(1), view)

    return build


def _record_from_left(
    recording: Recording, output: Tensor, weight: Tensor, values: Tensor, index: int
) -> None:
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


RULES: dict[object, Rule] = {
    functional.multi_head_attention_forward: attention,
    functional.linear: linear,
    torch.matmul: matmul,
    torch.mm: matmul,
    torch.Tensor.matmul: matmul,
    torch.Tensor.mm: matmul,
    torch.addmm: addmm,
    torch.Tensor.addmm: addmm,
}

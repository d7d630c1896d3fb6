"""Multi-head attention, whose projections torch computes inside one function, without modules."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.nn import functional

from batchsense.training.example_gradients.arguments import named
from batchsense.training.example_gradients.example_axis import Layout
from batchsense.training.example_gradients.recording import Recording
from batchsense.training.example_gradients.rules.linear import record_linear

_ONE_AT_A_TIME = threading.RLock()


def attention(
    recording: Recording,
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Any:
    """Record the projections inside ``multi_head_attention_forward``.

    It puts positions first, (T, n, E), whatever ``batch_first`` says, and projects the outcome as
    (T·n, E).
    """
    (query,) = named(("query",), args, kwargs)
    if query.dim() != 3 or query.shape[1] != recording.examples:
        parameters = [recording.find(value) for value in (*args, *kwargs.values())]
        recording.misplaced(parameters, query)
        return function(*args, **kwargs)
    with _watched_linear(recording, query.shape[1]):
        return function(*args, **kwargs)


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


RULES = {functional.multi_head_attention_forward: attention}

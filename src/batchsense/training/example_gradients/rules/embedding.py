"""Embeddings: tables of which an example uses the rows of its tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional

from batchsense.training.example_gradients.arguments import named
from batchsense.training.example_gradients.contribution import Contribution
from batchsense.training.example_gradients.recording import Kept, OutputGradient, Recording, Use
from batchsense.training.example_gradients.rules.lookups import Lookups


def embedding(
    recording: Recording,
    function: Callable[..., Tensor],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Tensor:
    """Record ``embedding(input, weight, padding_idx, ...)``.

    Rows looked up once for all examples, such as those of positions, are recorded when they are
    added to or multiplied with something that has examples.
    """
    output = function(*args, **kwargs)
    names = ("input", "weight", "padding_idx", "max_norm", "norm_type", "scale_grad_by_freq")
    tokens, weight, padding, _, _, by_frequency = named(names, args, kwargs)
    index = recording.find(weight)
    if index is None or not output.requires_grad:
        return output
    if by_frequency:
        recording.receiver.coupled("an embedding with scale_grad_by_freq")
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


RULES = {functional.embedding: embedding}

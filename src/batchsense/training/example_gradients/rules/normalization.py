"""Scales and shifts of normalised values: layer, RMS, group, instance and frozen batch norm."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from batchsense.training.example_gradients.contributions import Contribution, Explicit, precise
from batchsense.training.example_gradients.recording import (
    Call,
    Kept,
    OutputGradient,
    Recording,
    Rule,
    Use,
)

_Normalise = Callable[[Tensor], Tensor]
_STATISTICS = ("input", "running_mean", "running_var", "weight", "bias")


def layer_norm(recording: Recording, call: Call) -> Tensor:
    """Record ``layer_norm(input, normalized_shape, weight, bias, eps)``."""
    values, shape, weight, bias, eps = call.arguments(
        "input", "normalized_shape", "weight", "bias", "eps", eps=1e-5
    )

    def normalise(wide: Tensor) -> Tensor:
        return functional.layer_norm(wide, shape, eps=eps)

    return _recorded(recording, call.run(), values, (weight, bias), normalise, len(shape))


def rms_norm(recording: Recording, call: Call) -> Tensor:
    """Record ``rms_norm(input, normalized_shape, weight, eps)``."""
    values, shape, weight, eps = call.arguments("input", "normalized_shape", "weight", "eps")
    eps = torch.finfo(values.dtype).eps if eps is None else eps

    def normalise(wide: Tensor) -> Tensor:
        return functional.rms_norm(wide, shape, eps=eps)

    return _recorded(recording, call.run(), values, (weight, None), normalise, len(shape))


def group_norm(recording: Recording, call: Call) -> Tensor:
    """Record ``group_norm(input, num_groups, weight, bias, eps)``."""
    values, groups, weight, bias, eps = call.arguments(
        "input", "num_groups", "weight", "bias", "eps", eps=1e-5
    )

    def normalise(wide: Tensor) -> Tensor:
        return functional.group_norm(wide, groups, eps=eps)

    return _recorded(recording, call.run(), values, (weight, bias), normalise)


def instance_norm(recording: Recording, call: Call) -> Tensor:
    """Record ``instance_norm(input, mean, var, weight, bias, use_input_stats, momentum, eps)``."""
    values, mean, variance, weight, bias, own, _, eps = call.arguments(
        *_STATISTICS, "use_input_stats", "momentum", "eps", use_input_stats=True, eps=1e-5
    )

    def normalise(wide: Tensor) -> Tensor:
        if own:
            return functional.instance_norm(wide, eps=eps)
        return _standardised(wide, mean, variance, eps)

    return _recorded(recording, call.run(), values, (weight, bias), normalise)


def batch_norm(recording: Recording, call: Call) -> Tensor:
    """Record ``batch_norm`` with running statistics; with those of the minibatch it couples."""
    values, mean, variance, weight, bias, training, _, eps = call.arguments(
        *_STATISTICS, "training", "momentum", "eps", training=False, eps=1e-5
    )
    output: Tensor = call.run()
    if training:
        if output.requires_grad:
            recording.coupled.add("batch_norm with the statistics of the minibatch")
        return output

    def normalise(wide: Tensor) -> Tensor:
        return _standardised(wide, mean, variance, eps)

    return _recorded(recording, output, values, (weight, bias), normalise)


def _recorded(
    recording: Recording,
    output: Tensor,
    values: Tensor,
    scale_and_shift: tuple[Tensor | None, Tensor | None],
    normalise: _Normalise,
    features: int | None = None,
) -> Tensor:
    # Scale and shift have the shape of the last ``features`` dimensions, or of the channels.
    indices = [recording.find(parameter) for parameter in scale_and_shift]
    if not output.requires_grad or indices == [None, None]:
        return output
    if not recording.is_whole(indices, scale_and_shift):
        recording.refuse(indices, "a view of it scales or shifts normalised values")
        return output
    over_places: Callable[[Tensor], Tensor] | None = None
    if features is None:
        over_places = _over_places if recording.leads(values) else None
    elif (layout := recording.layout(values, features)) is not None:

        def over_places(gradient: Tensor) -> Tensor:
            return layout.by_example(gradient, features).sum(1)

    if over_places is None:
        recording.misplaced(indices, values)
        return output
    kept, summed = Kept(values), over_places

    def scale(gradient: OutputGradient) -> Contribution:
        return Explicit(summed(normalise(kept()).mul_(gradient.values)))

    def shift(gradient: OutputGradient) -> Contribution:
        return Explicit(summed(gradient.values))

    builders = zip(indices, (scale, shift), strict=True)
    recording.expect(output, [Use(i, build) for i, build in builders if i is not None])
    return output


def _over_places(values: Tensor) -> Tensor:
    return values.flatten(2).sum(2) if values.dim() > 2 else values


def _standardised(values: Tensor, mean: Tensor, variance: Tensor, eps: float) -> Tensor:
    shape = (1, -1) + (1,) * (values.dim() - 2)
    deviation = (precise(variance) + eps).sqrt()
    return (values - precise(mean).view(shape)) / deviation.view(shape)


RULES: dict[object, Rule] = {
    functional.layer_norm: layer_norm,
    functional.rms_norm: rms_norm,
    functional.group_norm: group_norm,
    functional.instance_norm: instance_norm,
    functional.batch_norm: batch_norm,
}

"""Scales and shifts of normalised values: layer, RMS, group, instance and frozen batch norm."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from batchsense.training.example_gradients.arguments import named
from batchsense.training.example_gradients.contribution import Contribution, precise
from batchsense.training.example_gradients.recording import (
    Builder,
    Kept,
    OutputGradient,
    Recording,
    Use,
)
from batchsense.training.example_gradients.rules.explicit import Explicit

_Normalise = Callable[[Tensor], Tensor]
_STATISTICS = ("input", "running_mean", "running_var", "weight", "bias")


def layer_norm(
    recording: Recording,
    function: Callable[..., Tensor],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Tensor:
    """Record ``layer_norm(input, normalized_shape, weight, bias, eps)``."""
    names = ("input", "normalized_shape", "weight", "bias", "eps")
    values, shape, weight, bias, eps = named(names, args, kwargs, eps=1e-5)
    output = function(*args, **kwargs)

    def normalise(wide: Tensor) -> Tensor:
        return functional.layer_norm(wide, shape, eps=eps)

    _record_trailing(recording, output, values, len(shape), weight, bias, normalise)
    return output


def rms_norm(
    recording: Recording,
    function: Callable[..., Tensor],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Tensor:
    """Record ``rms_norm(input, normalized_shape, weight, eps)``."""
    names = ("input", "normalized_shape", "weight", "eps")
    values, shape, weight, eps = named(names, args, kwargs)
    output = function(*args, **kwargs)
    eps = torch.finfo(values.dtype).eps if eps is None else eps

    def normalise(wide: Tensor) -> Tensor:
        return functional.rms_norm(wide, shape, eps=eps)

    _record_trailing(recording, output, values, len(shape), weight, None, normalise)
    return output


def group_norm(
    recording: Recording,
    function: Callable[..., Tensor],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Tensor:
    """Record ``group_norm(input, num_groups, weight, bias, eps)``."""
    names = ("input", "num_groups", "weight", "bias", "eps")
    values, groups, weight, bias, eps = named(names, args, kwargs, eps=1e-5)
    output = function(*args, **kwargs)

    def normalise(wide: Tensor) -> Tensor:
        return functional.group_norm(wide, groups, eps=eps)

    _record_channels(recording, output, values, weight, bias, normalise)
    return output


def instance_norm(
    recording: Recording,
    function: Callable[..., Tensor],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Tensor:
    """Record ``instance_norm(input, mean, var, weight, bias, use_input_stats, momentum, eps)``."""
    names = (*_STATISTICS, "use_input_stats", "momentum", "eps")
    values, mean, variance, weight, bias, own, _, eps = named(
        names, args, kwargs, use_input_stats=True, eps=1e-5
    )
    output = function(*args, **kwargs)

    def normalise(wide: Tensor) -> Tensor:
        if own:
            return functional.instance_norm(wide, eps=eps)
        return _standardised(wide, mean, variance, eps)

    _record_channels(recording, output, values, weight, bias, normalise)
    return output


def batch_norm(
    recording: Recording,
    function: Callable[..., Tensor],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Tensor:
    """Record ``batch_norm`` with running statistics; with those of the minibatch it couples."""
    names = (*_STATISTICS, "training", "momentum", "eps")
    values, mean, variance, weight, bias, training, _, eps = named(
        names, args, kwargs, training=False, eps=1e-5
    )
    output = function(*args, **kwargs)
    if training:
        if output.requires_grad:
            recording.receiver.coupled("batch_norm with the statistics of the minibatch")
        return output

    def normalise(wide: Tensor) -> Tensor:
        return _standardised(wide, mean, variance, eps)

    _record_channels(recording, output, values, weight, bias, normalise)
    return output


def _record_trailing(
    recording: Recording,
    output: Tensor,
    values: Tensor,
    features: int,
    weight: Tensor | None,
    bias: Tensor | None,
    normalise: _Normalise,
) -> None:
    """Record scales and shifts that have the shape of the last ``features`` dimensions."""
    indices = _whole(recording, output, weight, bias)
    if indices is None:
        return
    layout = recording.layout(values, features)
    if layout is None:
        recording.misplaced(indices, values)
        return
    kept = Kept(values)

    def scale(gradient: OutputGradient) -> Contribution:
        product = normalise(kept()).mul_(gradient.values)
        return Explicit(layout.by_example(product, features).sum(1))

    def shift(gradient: OutputGradient) -> Contribution:
        return Explicit(layout.by_example(gradient.values, features).sum(1))

    _expect(recording, output, indices, scale, shift)


def _record_channels(
    recording: Recording,
    output: Tensor,
    values: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    normalise: _Normalise,
) -> None:
    """Record scales and shifts of the channels, dimension 1."""
    indices = _whole(recording, output, weight, bias)
    if indices is None:
        return
    if not recording.leads(values):
        recording.misplaced(indices, values)
        return
    kept = Kept(values)

    def scale(gradient: OutputGradient) -> Contribution:
        product = normalise(kept()).mul_(gradient.values)
        return Explicit(_over_places(product))

    def shift(gradient: OutputGradient) -> Contribution:
        return Explicit(_over_places(gradient.values))

    _expect(recording, output, indices, scale, shift)


def _whole(
    recording: Recording, output: Tensor, weight: Tensor | None, bias: Tensor | None
) -> tuple[int | None, int | None] | None:
    """Find scale and shift; None if neither is trained here."""
    if not output.requires_grad:
        return None
    indices = recording.find(weight), recording.find(bias)
    if indices == (None, None):
        return None
    if not recording.is_whole(indices, (weight, bias)):
        recording.refuse(indices, "a view of it scales or shifts normalised values")
        return None
    return indices


def _expect(
    recording: Recording,
    output: Tensor,
    indices: tuple[int | None, int | None],
    scale: Builder,
    shift: Builder,
) -> None:
    """Wait for the gradient of whichever of the two is trained."""
    builders = zip(indices, (scale, shift), strict=True)
    recording.expect(output, [Use(i, build) for i, build in builders if i is not None])


def _over_places(values: Tensor) -> Tensor:
    """Sum over all dimensions but examples and channels."""
    return values.flatten(2).sum(2) if values.dim() > 2 else values


def _standardised(values: Tensor, mean: Tensor, variance: Tensor, eps: float) -> Tensor:
    """Normalise by given statistics of the channels."""
    shape = (1, -1) + (1,) * (values.dim() - 2)
    deviation = (precise(variance) + eps).sqrt()
    return (values - precise(mean).view(shape)) / deviation.view(shape)


RULES = {
    functional.layer_norm: layer_norm,
    functional.rms_norm: rms_norm,
    functional.group_norm: group_norm,
    functional.instance_norm: instance_norm,
    functional.batch_norm: batch_norm,
}

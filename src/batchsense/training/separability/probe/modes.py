"""What is done to a run of a user's model: float64 throughout, dropout silent.

A gradient in float32 carries rounding of about 1e-7, in bfloat16 of about 1e-3: as large as the
effects an audit looks for. Casting the model is not enough: a class-weight tensor in the loss's
closure is float32, and many models call ``x.float()`` inside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_LOWER = (torch.float32, torch.float16, torch.bfloat16)
_CASTS = {Tensor.float, Tensor.half, Tensor.bfloat16}
_DROPOUTS = {
    functional.dropout,
    functional.dropout1d,
    functional.dropout2d,
    functional.dropout3d,
    functional.alpha_dropout,
    functional.feature_alpha_dropout,
    torch.dropout,
    torch.alpha_dropout,
    torch.feature_dropout,
}
_RANDOM_SLOPES = {functional.rrelu, torch.rrelu}


class AroundCalls(TorchFunctionMode):
    """Stand around every call of a torch function inside the block."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        return self.called(func, args, dict(kwargs or {}))

    def called(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call the function."""
        return func(*args, **kwargs)


class InFloat64(AroundCalls):
    """Raise the tensors and dtypes given to torch functions to float64."""

    def called(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call the function on raised arguments."""
        if func in _CASTS:
            return args[0].double()
        if _writes_in_place(func, kwargs):
            return func(*args, **kwargs)
        return func(
            *(_raised(argument) for argument in args),
            **{name: _raised(argument) for name, argument in kwargs.items()},
        )


class WithoutDropout(AroundCalls):
    """Let the functional forms of dropout pass their input through, and fix random slopes.

    >>> with WithoutDropout():
    ...     functional.dropout(torch.ones(3), 0.9)
    tensor([1., 1., 1.])
    """

    def called(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call the function without what draws."""
        if func in _RANDOM_SLOPES:
            given = kwargs["input"] if "input" in kwargs else args[0]
            return functional.leaky_relu(given, 11 / 48)  # the mean of its usual range
        if func in _DROPOUTS:
            return kwargs["input"] if "input" in kwargs else args[0]
        if func is functional.scaled_dot_product_attention:
            if len(args) > 4:
                args = (*args[:4], 0.0, *args[5:])
            elif "dropout_p" in kwargs:
                kwargs["dropout_p"] = 0.0
        return func(*args, **kwargs)


def silence_dropout(model: torch.nn.Module) -> None:
    """Set every dropout probability inside a model to zero, in place."""
    for module in model.modules():
        if isinstance(module, torch.nn.modules.dropout._DropoutNd):
            module.p = 0.0
        elif isinstance(module, torch.nn.MultiheadAttention | torch.nn.RNNBase):
            module.dropout = 0.0


def _writes_in_place(func: Callable[..., Any], kwargs: dict[str, Any]) -> bool:
    name = getattr(func, "__name__", "")
    return (
        "out" in kwargs
        or (name.endswith("_") and not name.endswith("__"))
        or name in {"__setitem__", "__set__"}
        or bool(kwargs.get("inplace", False))
    )


def _raised(argument: Any) -> Any:
    """Raise a tensor or dtype, also inside a list or tuple of arguments."""
    if isinstance(argument, Tensor):
        return argument.double() if argument.dtype in _LOWER else argument
    if isinstance(argument, torch.dtype):
        return torch.float64 if argument in _LOWER else argument
    if type(argument) in (list, tuple) and any(isinstance(a, Tensor) for a in argument):
        return type(argument)(_raised(part) for part in argument)
    return argument

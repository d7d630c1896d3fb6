"""What is done to a run of a user's model: float64 throughout, dropout silent, randomness tied.

A gradient in float32 carries rounding of about 1e-7, in bfloat16 of about 1e-3: as large as the
effects an audit looks for. Casting the model is not enough: a class-weight tensor in the loss's
closure is float32, and many models call ``x.float()`` inside.

With dropout, two gradients differ because their random numbers differ, and a separable loss looks
noisy. If each example always meets the same random numbers, in whatever company, then a separable
loss is exactly separable again, with its randomness: no statistics needed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from batchsense.training.workload import seed_torch

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
    """Raise the tensors and dtypes given to torch functions to float64.

    Examples
    --------
    >>> with InFloat64():
    ...     product = torch.ones(2).float() * torch.ones(2, dtype=torch.bfloat16)
    >>> product.dtype
    torch.float64
    """

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

    Examples
    --------
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


# Random functions of torch, by what tells the shape of what they draw.
_IN_PLACE = {
    "bernoulli_", "normal_", "uniform_", "exponential_", "random_", "geometric_", "cauchy_",
    "log_normal_",
}  # fmt: skip
_OF_TENSOR = {
    "bernoulli", "normal", "rand_like", "randn_like", "randint_like", "multinomial", "poisson",
    "_standard_gamma", "_sample_dirichlet", "native_dropout",
}  # fmt: skip
_OF_SHAPE = {"rand", "randn", "randint"}
_UNTIED = {
    "randperm",
    "rrelu_with_noise",
    "rrelu_with_noise_functional",
    "rrelu_with_noise_",
    "binomial",
}


class TiedNoise(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Draw each example's part of every random tensor from a generator of its own.

    A random tensor of a forward pass over B examples is cut along the axis that holds the examples
    (size B or a multiple of it); a piece is drawn with a seed made of the state of torch's
    generator and the example. A tensor without such an axis is noise shared by the minibatch.
    After each tensor the generator is set to a state that follows from the one before it, whatever
    was drawn; checkpointing, which puts it back, so meets the same numbers again.

    Parameters
    ----------
    seed, examples
        The realisation, and which examples the minibatch holds, in its order.
    layout : list of str, optional
        How an earlier pass over more examples was cut, which this pass must repeat. Afterwards the
        attribute of the same name says how this pass was.
    stacked : bool
        Whether an axis that is a multiple of B holds several minibatches one after the other, as
        after ``torch.cat`` of two views, rather than a group of rows for each example.

    Attributes
    ----------
    broken : str or None
        Why the noise could not be tied.
    """

    def __init__(
        self,
        seed: int,
        examples: Sequence[int],
        layout: list[str] | None = None,
        stacked: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.layout: list[str] = []
        self.broken: str | None = None
        self._seed = seed
        self._examples = list(examples)
        self._expected = layout
        self._multiple = "stacked" if stacked else "groups"
        self._place_of: dict[int, int] = {}
        self._key = 0

    def __enter__(self) -> TiedNoise:
        """Seed torch and begin to draw."""
        seed_torch(self._seed % 2**63)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Draw random tensors piece by piece; let everything else through."""
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if name in _IN_PLACE:
            return self._in_place(func, args, kwargs)
        if name in _OF_TENSOR and any(isinstance(a, Tensor) for a in args):
            return self._of_tensor(func, args, kwargs)
        if name in _OF_SHAPE:
            return self._of_shape(func, args, kwargs)
        if name in _UNTIED:
            self.broken = f"{name} mixes the examples or cannot be drawn example by example"
        return func(*args, **kwargs)

    def _in_place(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        target = args[0]
        layout = self._next_layout(target.shape)
        for key in self._keys(layout):
            others = [self._matching(a, target, layout, key) for a in args[1:]]
            func(self._piece(target, layout, key), *others, **kwargs)
        return target

    def _of_tensor(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        model = next(a for a in args if isinstance(a, Tensor))
        layout = self._next_layout(model.shape)
        return self._joined(
            [
                func(*(self._matching(a, model, layout, key) for a in args), **kwargs)
                for key in self._keys(layout)
            ],
            layout,
        )

    def _of_shape(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        place = next(k for k, a in enumerate(args) if isinstance(a, list | tuple | torch.Size))
        piece = list(args[place])
        layout = self._next_layout(piece)
        if layout != "shared":
            piece[_axis(layout)] //= len(self._examples)
        return self._joined(
            [func(*args[:place], piece, *args[place + 1 :], **kwargs) for _ in self._keys(layout)],
            layout,
        )

    def _keys(self, layout: str) -> Iterator[int]:
        start = self._key
        owners = [0] if layout == "shared" else [2 + example for example in self._examples]
        for key, owner in enumerate(owners):
            seed_torch(_digest(start, owner))
            yield key
        seed_torch(_digest(start, 1))

    def _next_layout(self, shape: Sequence[int]) -> str:
        state = torch.default_generator.get_state().numpy().tobytes()
        self._key = int.from_bytes(hashlib.blake2b(state, digest_size=7).digest(), "big")
        count = len(self._examples)
        if torch._C._current_graph_task_id() != -1:
            return self._layout_again(shape, count)
        layout = _layout(shape, count, self._multiple)
        if self._expected is not None:
            at = len(self.layout)
            wanted = self._expected[at] if at < len(self._expected) else "missing"
            if _fits(wanted, shape, count):
                layout = wanted
            else:
                self.broken = "the random tensors of a part do not match those of the whole"
        self._place_of[self._key] = len(self.layout)
        self.layout.append(layout)
        return layout

    def _layout_again(self, shape: Sequence[int], count: int) -> str:
        place = self._place_of.get(self._key)
        if place is not None and _fits(self.layout[place], shape, count):
            return self.layout[place]
        self.broken = "the backward pass draws other random numbers than the forward pass"
        return "shared"

    def _piece(self, tensor: Tensor, layout: str, key: int) -> Tensor:
        count = len(self._examples)
        if layout == "shared":
            return tensor
        if layout == "stacked":
            return tensor[key::count]
        return torch.tensor_split(tensor, count, dim=_axis(layout))[key]

    def _matching(self, argument: Any, model: Tensor, layout: str, key: int) -> Any:
        """Cut a tensor argument of the same shape like its model; pass others whole."""
        if isinstance(argument, Tensor) and argument.shape == model.shape:
            return self._piece(argument, layout, key)
        return argument

    def _joined(self, pieces: list[Any], layout: str) -> Any:
        if layout == "shared":
            return pieces[0]
        if isinstance(pieces[0], tuple):
            return tuple(self._joined(list(column), layout) for column in zip(*pieces, strict=True))
        if layout == "stacked":
            return torch.stack(pieces, dim=1).flatten(0, 1)
        return torch.cat(pieces, dim=_axis(layout))


def _layout(shape: Sequence[int], count: int, multiple: str) -> str:
    if len(shape) > 0 and shape[0] == count:
        return "axis 0"
    if len(shape) > 1 and shape[1] == count:
        return "axis 1"
    if len(shape) > 0 and shape[0] % count == 0 and shape[0] > 0:
        return multiple
    return "shared"


def _digest(start: int, owner: int) -> int:
    text = f"{start}/{owner}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "big")


def _axis(layout: str) -> int:
    return 1 if layout == "axis 1" else 0


def _fits(layout: str, shape: Sequence[int], count: int) -> bool:
    if layout == "shared":
        return True
    if layout == "missing" or _axis(layout) >= len(shape):
        return False
    size = shape[_axis(layout)]
    return size == count if layout.startswith("axis") else size % count == 0

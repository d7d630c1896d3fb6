"""Tie the random numbers of a training step to its examples.

With dropout, two gradients differ because their random numbers differ, and a separable loss looks
noisy. If each example always meets the same random numbers, in whatever company, then a separable
loss is exactly separable again, with its randomness: no statistics needed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from batchsense.training.separability.probe.isolation import seed_torch

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
    seed : int
        The realisation.
    examples : sequence of int
        Which examples the minibatch holds, in its order.
    layout : list, optional
        The cuts found in an earlier pass over more examples, which this pass must repeat.
    stacked : bool
        Whether an axis that is a multiple of B holds several minibatches one after the other, as
        after ``torch.cat`` of two views, rather than a group of rows for each example.

    Attributes
    ----------
    layout : list of str
        How each random tensor was cut.
    broken : str or None
        Why the noise could not be tied: its shape did not fit, a random function is unknown, or
        other random numbers were drawn in the backward pass than in the forward pass.
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
        """Fill a tensor."""
        target = args[0]
        layout = self._next_layout(target.shape)
        for key in self._keys(layout):
            others = [self._matching(a, target, layout, key) for a in args[1:]]
            func(self._piece(target, layout, key), *others, **kwargs)
        return target

    def _of_tensor(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Draw a tensor like another one."""
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
        """Draw a tensor of a given shape."""
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
        """Go through the pieces of a random tensor, each with torch seeded for it."""
        start = self._key
        owners = [0] if layout == "shared" else [2 + example for example in self._examples]
        for key, owner in enumerate(owners):
            seed_torch(_digest(start, owner))
            yield key
        seed_torch(_digest(start, 1))

    def _next_layout(self, shape: Sequence[int]) -> str:
        """Decide how the next random tensor is cut, as the whole was if that is known."""
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
        """Recognise a random tensor that checkpointing draws again in the backward pass."""
        place = self._place_of.get(self._key)
        if place is not None and _fits(self.layout[place], shape, count):
            return self.layout[place]
        self.broken = "the backward pass draws other random numbers than the forward pass"
        return "shared"

    def _piece(self, tensor: Tensor, layout: str, key: int) -> Tensor:
        """Give the view of a tensor that belongs to one example."""
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
        """Put the pieces together again."""
        if layout == "shared":
            return pieces[0]
        if isinstance(pieces[0], tuple):
            return tuple(self._joined(list(column), layout) for column in zip(*pieces, strict=True))
        if layout == "stacked":
            return torch.stack(pieces, dim=1).flatten(0, 1)
        return torch.cat(pieces, dim=_axis(layout))


def _layout(shape: Sequence[int], count: int, multiple: str) -> str:
    """Name the axis that holds the examples."""
    if len(shape) > 0 and shape[0] == count:
        return "axis 0"
    if len(shape) > 1 and shape[1] == count:
        return "axis 1"
    if len(shape) > 0 and shape[0] % count == 0 and shape[0] > 0:
        return multiple
    return "shared"


def _digest(start: int, owner: int) -> int:
    """Make a seed of a generator's state and whom a piece belongs to."""
    text = f"{start}/{owner}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "big")


def _axis(layout: str) -> int:
    """Give the axis that a layout cuts."""
    return 1 if layout == "axis 1" else 0


def _fits(layout: str, shape: Sequence[int], count: int) -> bool:
    """Whether a tensor of a part can be cut as that of the whole was."""
    if layout == "shared":
        return True
    if layout == "missing" or _axis(layout) >= len(shape):
        return False
    size = shape[_axis(layout)]
    return size == count if layout.startswith("axis") else size % count == 0

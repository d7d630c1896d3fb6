"""Tie the random numbers of a loss to its examples.

With dropout, two gradients differ because their random numbers differ, and a separable loss looks
noisy. If each example always meets the same random numbers, in whatever company, then a separable
loss is exactly separable again, with its randomness: no statistics needed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from batchsense.training.workload import seed_torch

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


class Cut(NamedTuple):
    """How one random tensor was cut among the examples.

    ``layout`` is ``"axis 0"``, ``"axis 1"``, ``"groups"`` (several rows for each example),
    ``"stacked"`` (several minibatches one after the other) or ``"shared"``; ``piece`` the shape of
    what one example got, or of the whole that is shared.
    """

    layout: str
    piece: tuple[int, ...]


class TiedNoise(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Draw each example's part of every random tensor from a generator of its own.

    A random tensor of a forward pass over B examples is cut along the axis that holds the examples
    (size B or a multiple of it); a piece is drawn with a seed made of the state of torch's
    generator and the example. A tensor without such an axis is noise shared by the minibatch.
    After each tensor the generator is set to a state that follows from the one before it, whatever
    was drawn; checkpointing, which puts it back, so meets the same numbers again. Where a part is
    padded to less than the whole was, pieces are drawn as long as there and cut off at the end.

    ``seed`` is the realisation, ``examples`` what the minibatch holds, in its order. A ``layout``
    tells how an earlier pass over more examples was cut, which this pass must repeat. ``stacked``
    says that an axis that is a multiple of B holds several minibatches one after the other, as
    after ``torch.cat`` of two views, rather than a group of rows for each example.
    """

    def __init__(
        self,
        seed: int,
        examples: Sequence[int],
        layout: list[Cut] | None = None,
        stacked: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.layout: list[Cut] = []  #: How this pass was cut.
        self.broken: str | None = None  #: Why the noise could not be tied.
        #: Whether a piece was cut off: with padding in front it may be another place's noise.
        self.shortened = False
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

    def __exit__(self, *error: Any) -> None:
        """Stop drawing; as many random tensors must have been drawn as in the pass repeated."""
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        if self._expected is not None and len(self.layout) != len(self._expected):
            self.broken = self.broken or _OTHER_TENSORS

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
        cut = self._next_cut(target.shape)
        for key in self._keys(cut):
            piece = self._piece(target, cut, key)
            full = piece if piece.shape == cut.piece else piece.new_empty(cut.piece)
            others = [_lengthened(self._matching(a, target, cut, key), cut) for a in args[1:]]
            func(full, *others, **kwargs)
            if full is not piece:
                piece.copy_(_shortened(full, piece.shape))
        return target

    def _of_tensor(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        model = next(a for a in args if isinstance(a, Tensor))
        cut = self._next_cut(model.shape)
        drawn = []
        for key in self._keys(cut):
            shape = self._piece(model, cut, key).shape
            pieces = [_lengthened(self._matching(a, model, cut, key), cut) for a in args]
            drawn.append(_shortened(func(*pieces, **kwargs), shape))
        return self._joined(drawn, cut)

    def _of_shape(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        place = next(k for k, a in enumerate(args) if isinstance(a, list | tuple | torch.Size))
        wanted = list(args[place])
        cut = self._next_cut(wanted)
        if cut.layout != "shared":
            wanted[_axis(cut)] //= len(self._examples)
        given = (*args[:place], list(cut.piece), *args[place + 1 :])
        drawn = [_shortened(func(*given, **kwargs), wanted) for _ in self._keys(cut)]
        return self._joined(drawn, cut)

    def _keys(self, cut: Cut) -> Iterator[int]:
        start = self._key
        owners = [0] if cut.layout == "shared" else [2 + example for example in self._examples]
        for key, owner in enumerate(owners):
            seed_torch(_digest(start, owner))
            yield key
        seed_torch(_digest(start, 1))

    def _next_cut(self, shape: Sequence[int]) -> Cut:
        state = torch.default_generator.get_state().numpy().tobytes()
        self._key = int.from_bytes(hashlib.blake2b(state, digest_size=7).digest(), "big")
        count = len(self._examples)
        if torch._C._current_graph_task_id() != -1:
            return self._cut_again(shape, count)
        cut = _cut(_layout(shape, count, self._multiple), shape, count)
        if self._expected is not None:
            at = len(self.layout)
            wanted = self._expected[at] if at < len(self._expected) else None
            if wanted is not None and _fits(wanted, shape, count):
                self.shortened = (
                    self.shortened or wanted.piece != _cut(wanted.layout, shape, count).piece
                )
                cut = wanted
            else:
                self.broken = self.broken or _OTHER_TENSORS
        self._place_of[self._key] = len(self.layout)
        self.layout.append(cut)
        return cut

    def _cut_again(self, shape: Sequence[int], count: int) -> Cut:
        place = self._place_of.get(self._key)
        if place is not None and _fits(self.layout[place], shape, count):
            return self.layout[place]
        self.broken = "the backward pass draws other random numbers than the forward pass"
        return _cut("shared", shape, count)

    def _piece(self, tensor: Tensor, cut: Cut, key: int) -> Tensor:
        count = len(self._examples)
        if cut.layout == "shared":
            return tensor
        if cut.layout == "stacked":
            return tensor[key::count]
        return torch.tensor_split(tensor, count, dim=_axis(cut))[key]

    def _matching(self, argument: Any, model: Tensor, cut: Cut, key: int) -> Any:
        """Cut a tensor argument of the same shape like its model; pass others whole."""
        if isinstance(argument, Tensor) and argument.shape == model.shape:
            return self._piece(argument, cut, key)
        return argument

    def _joined(self, pieces: list[Any], cut: Cut) -> Any:
        if cut.layout == "shared":
            return pieces[0]
        if isinstance(pieces[0], tuple):
            return tuple(self._joined(list(column), cut) for column in zip(*pieces, strict=True))
        if cut.layout == "stacked":
            return torch.stack(pieces, dim=1).flatten(0, 1)
        return torch.cat(pieces, dim=_axis(cut))


_OTHER_TENSORS = "the random tensors of a part do not match those of the whole"


def _layout(shape: Sequence[int], count: int, multiple: str) -> str:
    if len(shape) > 0 and shape[0] == count:
        return "axis 0"
    if len(shape) > 1 and shape[1] == count:
        return "axis 1"
    if len(shape) > 0 and shape[0] % count == 0 and shape[0] > 0:
        return multiple
    return "shared"


def _cut(layout: str, shape: Sequence[int], count: int) -> Cut:
    """Tell the shape of one example's piece of a tensor."""
    piece = list(shape)
    if layout != "shared":
        piece[1 if layout == "axis 1" else 0] //= count
    return Cut(layout, tuple(piece))


def _digest(start: int, owner: int) -> int:
    text = f"{start}/{owner}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "big")


def _axis(cut: Cut) -> int:
    return 1 if cut.layout == "axis 1" else 0


def _fits(cut: Cut, shape: Sequence[int], count: int) -> bool:
    """Whether a tensor can be cut like that, into pieces of that shape or shorter ones."""
    if len(shape) != len(cut.piece):
        return False
    if cut.layout == "shared":
        return tuple(shape) == cut.piece
    size = shape[_axis(cut)]
    if not (size == count if cut.layout.startswith("axis") else size % count == 0):
        return False
    own = _cut(cut.layout, shape, count).piece
    return all(a <= b for a, b in zip(own, cut.piece, strict=True))


def _shortened(drawn: Any, shape: Sequence[int]) -> Any:
    """Keep the beginning of what was drawn, along every axis."""
    if isinstance(drawn, tuple):
        return tuple(_shortened(part, shape) for part in drawn)
    return drawn[tuple(slice(0, size) for size in shape)]


def _lengthened(argument: Any, cut: Cut) -> Any:
    """Pad a piece to the length that it had in the whole; pass anything else as it is."""
    if not isinstance(argument, Tensor) or argument.ndim != len(cut.piece):
        return argument
    more = [b - a for a, b in zip(argument.shape, cut.piece, strict=True)]
    if not any(more) or min(more) < 0:
        return argument
    return functional.pad(argument, [side for m in reversed(more) for side in (0, m)])

"""Observe a run: what every module or operation takes and gives, and how far that moves.

Other examples are replaced between two runs; what an example gives by itself stands still.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks

from batchsense.arrays import Flags, Floats
from batchsense.training.separability.probe.modes import AroundCalls
from batchsense.training.workload import cloned, leaves, named_tensors, place_now, rebuilt

#: By precision: the movement that always counts as none, and the most that rounding may cause.
#: Outputs round once where gradients sum: masked attention moved by 9e-17 in float64, and a leak of
#: 1e-3 in one pair of 64 was found.
ROUNDING_MOVEMENT = {"float64": (1e-9, 1e-9), "float32": (2e-6, 2e-5), "bfloat16": (0.03, 0.1)}
#: The scope of code that runs outside every module of the model.
OUTSIDE = "loss"
# What users write for what torch calls otherwise; and what asks for no values.
_SPOKEN = {"__getitem__": "indexing", "__rsub__": "sub", "rsub": "sub", "truediv": "div"}
_QUERIES = {"__get__", "size", "dim", "numel", "__len__", "is_floating_point", "stride", "type"}


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """One call of a module or operation.

    ``name`` is the path of the module in the model (its class for modules from outside) or the
    operation, ``kind`` its class or ``"operation"``; ``scope`` is the module in whose forward it
    ran, ``where`` the line of the user's code; the tensors are detached copies.
    """

    name: str
    scope: str
    kind: str
    where: str | None
    inputs: list[Tensor]
    outputs: list[Tensor]


class Recorder(AroundCalls):
    """Record the calls made inside the block, in the order in which they end.

    Modules get their paths in the model as names. With a ``scope`` the operations are recorded that
    run directly in this module's forward (or :data:`OUTSIDE`) rather than modules; with
    ``shapes_only`` those of every scope, without their data: tensors become ``meta``.
    """

    def __init__(
        self, model: nn.Module, scope: str | None = None, shapes_only: bool = False
    ) -> None:
        super().__init__()
        self.records: list[Record] = []
        self._paths = {id(module): path for path, module in model.named_modules()}
        self._class = type(model).__name__
        self._scope = scope
        self._shapes_only = shapes_only
        self._stack: list[str] = []

    def called(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call the function and keep what it takes and gives, if it runs in the scope."""
        name = getattr(func, "__name__", str(func))
        wanted = self._shapes_only or (self._scope is not None and self._scope == self._here())
        if not wanted or name in _QUERIES:
            return func(*args, **kwargs)
        before = self._kept([args, kwargs])
        result = func(*args, **kwargs)
        after = self._kept(result)
        if after:
            self.records.append(
                Record(
                    _SPOKEN.get(name, name), self._here(), "operation", place_now(), before, after
                )
            )
        return result

    def name_of(self, module: nn.Module) -> str:
        """The path of a module in the model, or its class if it is from outside."""
        path = self._paths.get(id(module))
        return type(module).__name__ if path is None else path or self._class

    def _here(self) -> str:
        return self._stack[-1] if self._stack else OUTSIDE

    def _kept(self, tree: Any) -> list[Tensor]:
        """Copy the tensors of a tree, or only their shapes."""
        with torch._C.DisableTorchFunction():
            if self._shapes_only:
                return [
                    torch.empty_like(t, device="meta", requires_grad=t.requires_grad)
                    for t in leaves(tree)
                ]
            return [t.detach().clone() for t in leaves(tree)]

    @contextlib.contextmanager
    def watching(self) -> Iterator[Recorder]:
        """Hook every module, of the model or not, and every operation inside the block."""
        handles = [
            hooks.register_module_forward_pre_hook(self._entered),
            hooks.register_module_forward_hook(self._left, with_kwargs=True),
        ]
        try:
            with self:
                yield self
        finally:
            for handle in handles:
                handle.remove()

    def _entered(self, module: nn.Module, args: Any) -> None:
        self._stack.append(self.name_of(module))

    def _left(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        name = self._stack.pop() if self._stack else self.name_of(module)
        if self._scope is None and not self._shapes_only:
            self.records.append(
                Record(
                    name,
                    self._here(),
                    type(module).__name__,
                    place_now(),
                    self._kept([args, kwargs]),
                    self._kept(output),
                )
            )


def substitution_sets(count: int) -> Iterator[Flags]:
    """List 2⌈log₂ count⌉ sets of examples that tell every ordered pair apart.

    For each bit of the example's number: those that have it, and those that do not. For any two
    different examples i and j, some set holds j and not i.

    >>> [[int(k) for k in chosen.nonzero()[0]] for chosen in substitution_sets(3)]
    [[1], [0, 2], [2], [0, 1]]
    """
    numbers = np.arange(count)
    for bit in range(max(1, math.ceil(math.log2(count)))):
        having = (numbers >> bit) & 1 == 1
        yield having
        yield ~having


def lengthened(examples: Sequence[Any], donors: Sequence[Any]) -> list[Any] | None:
    """Make donors longer than every example, by repeating them; None if no length varies."""
    shapes: dict[str, set[int]] = {}
    for example in [*examples, *donors]:
        for name, tensor in named_tensors(example):
            if tensor.ndim > 0:
                shapes.setdefault(name, set()).add(tensor.shape[0])
    varying = {name: max(sizes) for name, sizes in shapes.items() if len(sizes) > 1}
    if not varying:
        return None

    def longer(example: Any) -> Any:
        wanted = {id(t): 2 * varying[n] for n, t in named_tensors(example) if n in varying}

        def repeated(tensor: Tensor) -> Tensor:
            size = wanted.get(id(tensor))
            if size is None or tensor.shape[0] == 0:
                return tensor
            times = -(-size // tensor.shape[0])
            return tensor.repeat(times, *([1] * (tensor.ndim - 1)))[:size]

        return rebuilt(example, repeated)

    return [longer(cloned(donor)) for donor in donors]


def by_example(tensor: Tensor, count: int) -> dict[str, Tensor]:
    """Bring the examples to the front, in every layout in which a tensor can hold them.

    >>> {name: tuple(view.shape) for name, view in by_example(torch.zeros(6, 5), 3).items()}
    {'groups': (3, 2, 5), 'stacked': (3, 2, 5)}
    """
    views = {}
    if tensor.ndim > 0 and tensor.shape[0] == count:
        views["axis 0"] = tensor
    elif tensor.ndim > 0 and tensor.shape[0] > 0 and tensor.shape[0] % count == 0:
        each = tensor.shape[0] // count
        views["groups"] = tensor.reshape(count, each, *tensor.shape[1:])
        views["stacked"] = tensor.reshape(each, count, *tensor.shape[1:]).transpose(0, 1)
    if tensor.ndim > 1 and tensor.shape[1] == count:
        views["axis 1"] = tensor.transpose(0, 1)
    return views


def movement(before: Tensor, after: Tensor, count: int) -> dict[str, Floats]:
    """Measure how far each example's part of an output moved, in every possible layout.

    Where sizes differ (longer padding), the common beginning is compared, or the common end where
    all beginnings move. The largest absolute change of each example is divided by the root mean
    square of ``before``; a change from or to NaN or infinity is infinite. Empty if the tensor does
    not hold examples.
    """
    if before.ndim != after.ndim or before.numel() == 0:
        return {}
    others = by_example(after, count)
    return {
        layout: _moved(view, others[layout], count)
        for layout, view in by_example(before, count).items()
        if layout in others
    }


def _moved(one: Tensor, other: Tensor, count: int) -> Floats:
    """Compare the common beginning, or the common end where all moved: padding is in front."""
    finite = _plain(one)[torch.isfinite(_plain(one))]
    scale = (float(finite.square().mean().sqrt()) if len(finite) else 1.0) or 1.0
    sizes = [min(a, b) for a, b in zip(one.shape, other.shape, strict=True)]
    beginning = tuple(slice(0, size) for size in sizes)
    moved = _largest(one[beginning], other[beginning], count)
    if one.shape != other.shape and moved.min(initial=math.inf) > 0:  # everything was shifted
        moved = np.minimum(moved, _largest(_end(one, sizes), _end(other, sizes), count))
    return moved / scale


def _largest(one: Tensor, other: Tensor, count: int) -> Floats:
    """The largest change of each example; infinite from or to what is not finite."""
    one, other = _plain(one), _plain(other)
    same = (one == other) | (torch.isnan(one) & torch.isnan(other))
    change = torch.where(same, 0.0, (other - one).abs())
    change = torch.nan_to_num(change, nan=math.inf, posinf=math.inf).reshape(count, -1)
    largest = change.amax(dim=1) if change.shape[1] else torch.zeros(count, dtype=change.dtype)
    return largest.cpu().numpy().astype(np.float64)


def _end(tensor: Tensor, sizes: Sequence[int]) -> Tensor:
    return tensor[tuple(slice(a - b, a) for a, b in zip(tensor.shape, sizes, strict=True))]


def _plain(tensor: Tensor) -> Tensor:
    real = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
    return real.double()

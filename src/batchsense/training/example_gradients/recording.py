"""What the rules are told during a forward pass, and what they leave behind for the backward."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from batchsense.training.example_gradients.contributions import (
    HALF_PRECISION,
    Contribution,
    View,
    precise,
)
from batchsense.training.example_gradients.example_axis import (
    Constants,
    Layout,
    example_axis,
    layout_of,
)


class OutputGradient:
    """The gradient of the loss with respect to what came out of an operation.

    Its ``values`` are at least in float32; ``in_half_precision`` says whether they came otherwise.
    """

    __slots__ = ("_norms", "examples", "in_half_precision", "values")

    def __init__(self, values: Tensor, examples: int) -> None:
        self.in_half_precision = values.dtype in HALF_PRECISION
        self.values = values.float() if self.in_half_precision else values
        self.examples = examples
        self._norms: Tensor | None = None

    def norms(self) -> Tensor:
        """Return the norm of each example's gradient, for an output of shape (n, features)."""
        if self._norms is None:
            self._norms = torch.linalg.vector_norm(self.values, dim=1)
        return self._norms


#: Makes a contribution of the gradient with respect to an operation's output.
Builder: TypeAlias = Callable[[OutputGradient], Contribution]


class Use(NamedTuple):
    """One use of one parameter, waiting for the gradient of what came out of it."""

    parameter: int
    build: Builder


class Recording:
    """Finds parameters among the arguments of operations, and examples in their shapes.

    ``arrived`` is given the uses of an output when its gradient is there.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        example_dim: int,
        arrived: Callable[[Sequence[Use], OutputGradient], None],
        constants: Iterable[Tensor],
    ) -> None:
        # Of the forward pass under way. Below 2 nothing is recorded: there is no pass, or the
        # minibatch's gradient is the example's.
        self.examples = 0
        self.refused: dict[int, str] = {}  #: Parameters whose uses are not understood, and why.
        self.coupled: set[str] = set()  #: Operations that mix the examples.
        self.arrived = arrived
        self.constants = Constants([*parameters, *constants])
        self._example_dim = example_dim
        self.parameters = parameters
        self._index = {id(parameter): i for i, parameter in enumerate(parameters)}
        self._tables: dict[int, tuple[Tensor, int, Tensor]] = {}

    def begin(self, examples: int) -> None:
        """Start a forward pass, and let go of the tensors of the last."""
        self.examples = examples
        self._tables.clear()
        self.constants.forget()

    def find(self, value: Any) -> int | None:
        """Return the index of a trained parameter, or of the one that a tensor is a view of."""
        index = self._index.get(id(value))
        if index is None and isinstance(value, Tensor) and value._base is not None:
            index = self._index.get(id(value._base))
        return index

    def is_whole(self, indices: Sequence[int | None], values: Sequence[Tensor | None]) -> bool:
        """Whether the values are parameters themselves, not views of them."""
        pairs = zip(indices, values, strict=True)
        return all(index is None or value is self.parameters[index] for index, value in pairs)

    def layout(self, values: Tensor, features: int) -> Layout | None:
        """Find the examples in an operation's input."""
        if values in self.constants:
            return None
        return layout_of(values, features, self.examples, self._example_dim)

    def axis(self, shape: tuple[int, ...]) -> int | None:
        """Return the dimension of a spread parameter that counts examples."""
        return example_axis(shape[:-1] or shape, self.examples, self._example_dim)

    def leads(self, values: Tensor) -> bool:
        """Whether dimension 0 counts examples, as convolutions and channel norms have it."""
        return values.shape[0] == self.examples and values not in self.constants

    def expect(self, output: Tensor, uses: Sequence[Use]) -> None:
        """Wait for the gradient with respect to ``output``.

        The hook belongs to the graph, so what it holds is freed with the graph.
        """
        hook = _Arrival(self, uses)
        output.register_hook(hook)  # type: ignore[no-untyped-call]

    def refuse(self, indices: Sequence[int | None], reason: str) -> None:
        """Take note that parameters are used in a way that no rule covers."""
        for index in indices:
            if index is not None:
                self.refused.setdefault(index, reason)

    def misplaced(self, indices: Sequence[int | None], values: Tensor) -> None:
        """Refuse because the examples are not where they should be in ``values``."""
        self.refuse(
            indices,
            f"used on a tensor of shape {tuple(values.shape)}, which is the same for all examples"
            if values in self.constants
            else f"used on a tensor of shape {tuple(values.shape)}, in which dimension "
            f"{self._example_dim} does not count the {self.examples} examples",
        )

    def remember_table(self, found: Tensor, index: int, tokens: Tensor) -> None:
        """Keep rows that were looked up once for all examples, such as those of positions."""
        self._tables[id(found)] = (found, index, tokens)

    def table_of(self, value: Tensor) -> tuple[Tensor, int, Tensor] | None:
        """Return what was remembered about a tensor, or the one it is a reshaped view of."""
        entry = self._tables.get(id(value))
        if entry is not None or value._base is None:
            return entry
        entry = self._tables.get(id(value._base))
        whole = entry is not None and value.numel() == entry[0].numel() and value.is_contiguous()
        return entry if whole else None


class Call(NamedTuple):
    """A torch function and its arguments, before it is called.

    >>> call = Call(max, (1, 2), {"bias": 3})
    >>> call.arguments("input", "weight", "bias")
    [1, 2, 3]
    >>> call.arguments("input", "weight", "groups", groups=1)
    [1, 2, 1]
    """

    function: Callable[..., Any]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]

    def run(self) -> Any:
        """Call the function."""
        return self.function(*self.args, **self.kwargs)

    def arguments(self, *names: str, **defaults: Any) -> list[Any]:
        """Return the arguments by name; None, or its default, for one left out."""
        if len(self.args) == len(names):
            return list(self.args)
        given = {**defaults, **self.kwargs, **dict(zip(names, self.args, strict=False))}
        return [given.get(name) for name in names]


#: Runs a call and records what it does with parameters.
Rule: TypeAlias = Callable[[Recording, Call], Any]

_NO_KEYWORDS: dict[str, Any] = {}


class Watch(TorchFunctionMode):
    """Sees every torch function that is called inside it and hands the known ones to their rules.

    Functions are watched, not modules, so that a table used again as the output layer, a scale
    that multiplies or a projection inside attention is seen wherever it is written.
    """

    def __init__(self, recording: Recording, rules: Mapping[Any, Rule]) -> None:
        super().__init__()
        self._recording = recording
        self._rules = rules

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or _NO_KEYWORDS
        recording = self._recording
        if recording.examples < 2:
            return func(*args, **kwargs)
        rule = self._rules.get(func)
        if rule is None:
            result = func(*args, **kwargs)
        else:
            result = rule(recording, Call(func, args, kwargs))
        if not args or not isinstance(args[0], Tensor) or args[0] in recording.constants:
            recording.constants.follow(func, args, kwargs, result, recording.examples)
        return result


class _Arrival:
    __slots__ = ("examples", "parameters", "recording", "uses")

    def __init__(self, recording: Recording, uses: Sequence[Use]) -> None:
        self.recording = recording
        self.uses = uses
        self.examples = recording.examples
        self.parameters: list[int] = []

    def __call__(self, gradient: Tensor) -> None:
        # A second gradient means that the first was not all of it.
        reason = "one forward pass was differentiated more than once"
        self.recording.refuse(self.parameters, reason)
        uses, self.uses = self.uses, ()
        gradient = gradient.detach() if gradient.requires_grad else gradient
        self.parameters = [use.parameter for use in uses]
        self.recording.arrived(uses, OutputGradient(gradient, self.examples))


class Kept:
    """An input kept for the backward pass, which notices if it was changed in the meantime."""

    __slots__ = ("_values", "_version")

    def __init__(self, values: Tensor) -> None:
        self._values = values.detach()
        self._version = values._version

    def __call__(self) -> Tensor:
        """Return the values, at least in float32."""
        if self._values._version != self._version:
            raise ChangedInPlaceError
        return precise(self._values)


class ChangedInPlaceError(Exception):
    """A layer's input was overwritten before the backward pass."""


def view_of(value: Tensor, parameter: Tensor) -> View | None:
    """Describe a view of a parameter; None for the parameter itself.

    Raises ValueError: the view repeats elements, or the parameter is not contiguous.
    """
    if value is parameter:
        return None
    repeats = any(
        step == 0 and size > 1 for step, size in zip(value.stride(), value.shape, strict=True)
    )
    if repeats or not parameter.is_contiguous() or value.dtype != parameter.dtype:
        raise ValueError("not a plain view")
    offset = int(value.storage_offset() - parameter.storage_offset())
    return View(value.shape, value.stride(), offset)

"""What a loss may divide by: every count that can be read off a minibatch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from batchsense.arrays import Floats
from batchsense.errors import DataError, listed
from batchsense.training.workload import count_examples, described, named_tensors

#: Gives the weight of a minibatch: how much it counts in the normaliser.
Normaliser: TypeAlias = Callable[[Any], float]

#: A label with more values than this is not tried class by class: every class is one candidate
#: more for each part, and one unknown more where class weights are discovered.
MOST_CLASSES = 64
#: Marks a candidate that the user gave.
GIVEN = " (given)"
# torch's own ignore_index, and what padding and background usually carry.
_USUALLY_IGNORED = (-100, -1, 0)
# Modules hold functions that hold fields; deeper lie caches and loggers, not class weights.
_DEEPEST = 4


def candidate_normalisers(
    minibatch: Any,
    given: Mapping[str, Normaliser] | None = None,
    class_weights: Mapping[str, Tensor] | None = None,
) -> dict[str, Normaliser]:
    """List everything countable in a minibatch, most plausible first, by a readable name.

    Of every tensor: its integer entries other than an ignored value (−100, −1, 0, the largest),
    also without the first or last column as in next-token prediction; its non-zero entries; its
    sum; its rows; all its entries, padding included; the entries equal to one class; and, for
    integers, the sum of any class-weight tensor found in the loss. Before all that, what is given.
    """
    found: dict[str, Normaliser] = {f"{name}{GIVEN}": f for name, f in (given or {}).items()}
    counts = [
        (label.format(name), _of_tensor(name, count))
        for name, tensor in named_tensors(minibatch)
        if tensor.ndim > 0
        for label, count in _counts(tensor, class_weights or {})
    ]
    for cut in (False, True):
        found.update((label, count) for label, count in counts if ("[:, " in label) == cut)
    return found


def weights_of(
    candidates: Mapping[str, Normaliser], whole: Any, parts: Iterable[Any]
) -> dict[str, tuple[Floats, float]]:
    """Weigh the parts and the whole by every candidate that is not zero for the whole.

    Candidates of our own that give no finite number are left out.

    A part in which there is nothing to count has the weight 1: losses that count guard their
    division that way, and for those that do not the part has no gradient.
    """
    kept = list(parts)
    found = {}
    for name, normaliser in candidates.items():
        try:
            total = weighed(normaliser, whole, name)
            weights = [weighed(normaliser, part, name) or 1.0 for part in kept]
        except DataError:
            if name.endswith(GIVEN):
                raise
            continue
        if total != 0:
            found[name] = np.array(weights), total
    return found


def weighed(normaliser: Normaliser, minibatch: Any, name: str = "normaliser") -> float:
    """Apply a normaliser and check that it gives a finite number."""
    try:
        weight = float(normaliser(minibatch))
    except Exception as error:
        raise DataError(f"it fails: {described(error)}", where=name) from error
    if not math.isfinite(weight):
        raise DataError(f"it gives {weight:g} for a minibatch", where=name)
    return weight


def class_counts(minibatches: Iterable[Any]) -> dict[str, tuple[list[int], Floats]]:
    """Count the classes of every integer tensor in each of several minibatches.

    By tensor name: the values, at most :data:`MOST_CLASSES`, and an array (minibatches, classes).
    """
    rows = [dict(named_tensors(minibatch)) for minibatch in minibatches]
    counted = {}
    for name, first in rows[0].items():
        tensors = [row.get(name) for row in rows]
        if first.is_floating_point() or first.is_complex() or any(t is None for t in tensors):
            continue
        flat = [t.reshape(-1).cpu().numpy().astype(np.int64) for t in tensors if t is not None]
        values = np.unique(np.concatenate(flat))
        if 1 < len(values) <= MOST_CLASSES:
            counts = np.array([(part[:, None] == values).sum(axis=0) for part in flat])
            counted[name] = ([int(value) for value in values], counts.astype(float))
    return counted


def example_count(whole: Any, parts: Sequence[Any], sizes: Sequence[int]) -> Normaliser | None:
    """The number of examples as a function of a minibatch; None if a minibatch does not tell it.

    ``sizes`` are the numbers of examples that the whole and its parts really have.
    """
    try:
        told = [count_examples(minibatch) for minibatch in (whole, *parts)]
    except DataError:
        return None
    return (lambda minibatch: float(count_examples(minibatch))) if told == list(sizes) else None


def class_weight_sum(name: str, weights: Mapping[int, float]) -> Normaliser:
    """Sum the weights of the classes that a tensor of the minibatch holds.

    Raises DataError: a class that was not among the examples whose weights were found.
    """

    def total(labels: Tensor) -> float:
        unknown = sorted(set(torch.unique(labels).tolist()) - set(weights))
        if unknown:
            raise DataError(
                f"class {listed(unknown)} was not among the examples that were audited, which told "
                f"the weights of {listed(sorted(weights))}; audit more examples (a larger batch "
                "size), or take the weights from the loss itself",
                where=name,
            )
        return float(sum(w * float((labels == value).sum()) for value, w in weights.items()))

    return _of_tensor(name, total)


def tensors_held_by(loss: Any) -> dict[str, Tensor]:
    """Find the vectors that a loss function holds: in its closure, defaults, fields or globals.

    >>> weight = torch.tensor([1.0, 3.0])
    >>> list(tensors_held_by(lambda model, minibatch: weight.sum()))
    ['weight']
    """
    found: dict[str, Tensor] = {}
    seen: set[int] = set()

    def visit(name: str, thing: Any, depth: int) -> None:
        if id(thing) in seen or depth > _DEEPEST:
            return
        seen.add(id(thing))
        if isinstance(thing, Tensor):
            if thing.ndim == 1 and len(thing) > 1 and thing.is_floating_point():
                found[name] = thing.detach()
        elif isinstance(thing, torch.nn.Module):
            for key, tensor in [*thing.named_buffers(), *thing.named_parameters()]:
                visit(f"{name}.{key}", tensor, depth + 1)
        elif callable(thing):
            for key, part in _held(thing):
                visit(key, part, depth + 1)
        elif hasattr(thing, "__dict__") and not isinstance(thing, type):
            for key, part in vars(thing).items():
                visit(f"{name}.{key}", part, depth + 1)

    visit("loss", loss, 0)
    return found


def _held(function: Any) -> Iterable[tuple[str, Any]]:
    inner = getattr(function, "func", None) or getattr(function, "__func__", None)
    if inner is not None:
        yield "func", inner
        yield from getattr(function, "keywords", {}).items()
    owner = getattr(function, "__self__", None)
    if owner is not None:
        yield type(owner).__name__, owner
    code = getattr(function, "__code__", None)
    if code is None:
        yield from getattr(function, "__dict__", {}).items()
        return
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # a cell that is not filled yet
            continue
    defaults = function.__defaults__ or ()
    arguments = code.co_varnames[: code.co_argcount]
    yield from zip(arguments[len(arguments) - len(defaults) :], defaults, strict=True)
    yield from (function.__kwdefaults__ or {}).items()
    for name in code.co_names:
        thing = function.__globals__.get(name)
        if isinstance(thing, Tensor | torch.nn.Module):
            yield name, thing


def _counts(
    tensor: Tensor, class_weights: Mapping[str, Tensor]
) -> Iterable[tuple[str, Callable[[Tensor], float]]]:
    """Name the counts of one tensor; ``{}`` stands for its name."""
    if tensor.is_complex():
        return
    yield "rows of {}", lambda t: float(t.shape[0])
    yield "entries of {}, padding included", lambda t: float(t.numel())
    if tensor.ndim > 1:
        yield "entries of {}[:, 1:], padding included", lambda t: float(t[:, 1:].numel())
    if not tensor.is_floating_point():
        yield from _integer_counts(tensor, class_weights)
        return
    yield "non-zero entries of {}", _count(lambda t: t != 0)
    yield "sum of {}", lambda t: float(t.double().sum())
    yield "finite entries of {}", _count(torch.isfinite)
    yield "sum of squares of {}", lambda t: float(t.double().square().sum())


def _integer_counts(
    tensor: Tensor, class_weights: Mapping[str, Tensor]
) -> Iterable[tuple[str, Callable[[Tensor], float]]]:
    """Name the counts of an integer or boolean tensor."""
    if tensor.dtype == torch.bool:
        yield "true entries of {}", _count(lambda t: t)
        yield "false entries of {}", _count(lambda t: ~t)
        return
    values = torch.unique(tensor)
    low, high = int(values[0]), int(values[-1])
    for ignored in dict.fromkeys([*_USUALLY_IGNORED, low, high]):
        if not bool((values == ignored).any()):
            continue
        yield f"{{}} != {ignored}", _count(lambda t, v=ignored: t != v)
        if tensor.ndim > 1:
            yield f"{{}}[:, 1:] != {ignored}", _count(lambda t, v=ignored: t[:, 1:] != v)
            yield f"{{}}[:, :-1] != {ignored}", _count(lambda t, v=ignored: t[:, :-1] != v)
    yield "sum of {}", lambda t: float(t.double().sum())
    for name, weight in class_weights.items():
        if low >= 0 and high < len(weight):
            yield f"{name}[{{}}]", _summed(weight)
        elif low == -100 and high < len(weight):
            yield f"{name}[{{}}], without -100", _summed(weight)
    if len(values) <= MOST_CLASSES:
        for value in values.tolist():
            yield f"{{}} == {value}", _count(lambda t, v=value: t == v)


def _count(test: Callable[..., Tensor]) -> Callable[[Tensor], float]:
    return lambda tensor: float(test(tensor).sum())


def _summed(weight: Tensor) -> Callable[[Tensor], float]:

    def total(tensor: Tensor) -> float:
        classes = tensor.reshape(-1)
        known = classes[(classes >= 0) & (classes < len(weight))].cpu().long()
        return float(weight.cpu().double()[known].sum())

    return total


def _of_tensor(name: str, count: Callable[[Tensor], float]) -> Normaliser:

    def normaliser(minibatch: Any) -> float:
        return count(dict(named_tensors(minibatch))[name])

    return normaliser

"""Find the first module or operation in which the examples of a minibatch meet.

Some examples are replaced by strangers, with everything else alike; outputs that belong to the
others must not move. The first thing whose inputs stand still while its outputs move is the place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from batchsense.arrays import Flags
from batchsense.errors import BatchsenseError, DataError
from batchsense.training.separability.leakage.observation import (
    OUTSIDE,
    ROUNDING_MOVEMENT,
    Record,
    Recorder,
    lengthened,
    movement,
    substitution_sets,
)
from batchsense.training.separability.probe.isolated_model import IsolatedModel, blamed_on
from batchsense.training.separability.probe.screening import Screening
from batchsense.training.separability.report import BROADCAST, Source
from batchsense.training.workload import described, leaves

#: Runs the user's function on a model and a minibatch.
Function = Callable[[nn.Module, Any], Any]

# Each pass that replaces examples is run a dozen times, so few are enough; 61 is prime, and so
# seldom a factor of a size of the model.
_MOST_TRACED = 61
# Places named: the first is what matters, the others tell that it is not the only one.
_MOST_SOURCES = 4
# Operations that combine tensors entry by entry, also inside torch's losses, and so broadcast.
_ELEMENTWISE = {
    "add", "sub", "rsub", "mul", "div", "true_divide", "pow", "where", "maximum", "minimum",
    "eq", "lt", "gt", "le", "ge", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "kl_div",
    "poisson_nll_loss", "gaussian_nll_loss",
}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """What runs a function on chosen examples in the same circumstances, without dropout."""

    isolated: IsolatedModel
    function: Function
    collate: Callable[[list[Any]], Any]
    seed: int = 0

    def outputs(self, examples: Sequence[Any]) -> list[Tensor]:
        """All tensors that the function returns in one pass."""
        model = self.isolated.ready("silent")
        with self.isolated.conditions([], True, self.seed, "silent"), blamed_on("outputs"):
            result = self.function(model, self.isolated.collated(self.collate, examples))
        return [tensor.detach() for tensor in leaves(result)]

    def run(
        self, examples: Sequence[Any], scope: str | None = None, shapes_only: bool = False
    ) -> tuple[list[Record], bytes]:
        """Run the function once; record modules, or the operations of one scope.

        The records, and where torch's generator ended: elsewhere, if other numbers were drawn.
        """
        model = self.isolated.ready("silent")
        with self.isolated.conditions([], True, self.seed, "silent"):
            minibatch = self.isolated.collated(self.collate, examples)
            with Recorder(model, scope, shapes_only).watching() as recorder:
                self.function(model, minibatch)
            state = torch.default_generator.get_state().numpy().tobytes()
        return recorder.records, state


def stage_for(
    outputs: nn.Module | Callable[..., Any],
    model: nn.Module | None,
    collate: Callable[[list[Any]], Any] | None,
    precision: str = "float64",
    seed: int = 0,
) -> Stage:
    """Make a stage for a module, or for a function ``outputs(model, minibatch)``."""
    join = default_collate if collate is None else collate
    if model is not None:
        return Stage(IsolatedModel(model, precision), outputs, join, seed)
    if isinstance(outputs, nn.Module):
        return Stage(IsolatedModel(outputs, precision), lambda m, b: m(b), join, seed)
    raise DataError(
        "give a torch module, or a function outputs(model, minibatch) together with model=",
        where="outputs",
    )


@dataclass(frozen=True, slots=True, eq=False)
class Leak:
    """The first place where examples meet.

    ``record`` is None if it is code between the recorded modules; ``scope`` is the module (or
    :data:`OUTSIDE`) whose own code mixes the examples; ``strength`` is the largest movement of one
    that was not replaced, in the pass that replaced those ``chosen``.
    """

    record: Record | None
    scope: str
    strength: float
    chosen: Flags


class Moved:
    """The movement of several tensors over several passes.

    A tensor may hold the examples in more than one layout; it stands still if the examples that
    were not replaced stand still in one of them.
    """

    def __init__(self) -> None:
        self._found: dict[int, dict[str, float]] = {}
        self._telling: dict[tuple[int, str], Flags] = {}

    def add(self, before: list[Tensor], after: list[Tensor], count: int, chosen: Flags) -> None:
        """Note how far those that were not replaced moved in one pass."""
        for place, (one, other) in enumerate(zip(before, after, strict=False)):
            layouts = self._found.setdefault(place, {})
            for layout, moved in movement(one, other, count).items():
                here = float(moved[~chosen].max(initial=0.0))
                if here >= layouts.get(layout, 0.0):
                    layouts[layout] = here
                    self._telling[place, layout] = chosen

    @property
    def largest(self) -> float:
        """The largest movement of a tensor, each taken in its stillest layout."""
        return max((min(v.values()) for v in self._found.values() if v), default=0.0)

    @property
    def most_telling(self) -> Flags:
        """The replaced examples of the pass that showed the largest movement."""
        still = {k: min(v, key=lambda name: v[name]) for k, v in self._found.items() if v}
        place = max(still, key=lambda k: self._found[k][still[k]])
        return self._telling[place, still[place]]


def first_leak(
    stage: Stage,
    examples: Sequence[Any],
    donors: Sequence[Any],
    tolerance: float,
    scope: str | None = None,
    sets: Sequence[Flags] | None = None,
) -> Leak | None:
    """Find the first recorded module (or operation of ``scope``) where examples meet.

    ``donors`` are strangers that replace examples, in the passes of ``sets`` (by default all pairs
    are told apart); movement up to ``tolerance`` counts as none.
    """
    count = len(examples)
    base, drawn = stage.run(examples, scope)
    outputs = [Moved() for _ in base]
    inputs = [Moved() for _ in base]
    for chosen in list(substitution_sets(count)) if sets is None else sets:
        records, drawn_now = stage.run(replaced(examples, donors, chosen), scope)
        if drawn_now != drawn:
            continue  # how many numbers are drawn depends on the data: noise moves, not examples
        for place, (before, after) in enumerate(zip(base, records, strict=False)):
            if before.name != after.name or before.scope != after.scope:
                break
            outputs[place].add(before.outputs, after.outputs, count, chosen)
            inputs[place].add(before.inputs, after.inputs, count, chosen)
    moving = [place for place, given in enumerate(outputs) if given.largest > tolerance]
    if not moving:
        return None
    place = moving[0]
    given, record = outputs[place], base[place]
    if scope is not None:
        return Leak(record, record.scope, given.largest, given.most_telling)
    if inputs[place].largest <= tolerance:
        return Leak(record, record.name, given.largest, given.most_telling)
    while (parent := _caller(base, place)) is not None and inputs[parent].largest > tolerance:
        place = parent
    return Leak(None, base[place].scope, given.largest, given.most_telling)


def leaking_sources(
    stage: Stage,
    examples: Sequence[Any],
    donors: Sequence[Any],
    tolerance: float,
    most: int = _MOST_SOURCES,
) -> tuple[Source, ...]:
    """Name the places where examples meet, first to last.

    After each module that stops leaking in evaluation mode, all modules of its class are put in
    that mode and the search goes on behind it.
    """
    sources: list[Source] = []
    for _ in range(most):
        leak = first_leak(stage, examples, donors, tolerance)
        if leak is None:
            leak = first_leak(stage, examples, donors, tolerance, OUTSIDE)
        if leak is None or any(leak.scope == source.name for source in sources):
            break
        model = stage.isolated.ready("silent")
        paths = dict(model.named_modules())
        # A model whose own forward leaks is recorded by its class.
        module = paths.get(leak.scope, model if leak.scope == type(model).__name__ else None)
        ours = module is None or not type(module).__module__.startswith("torch.")
        where = leak.record.where if leak.record is not None else None
        if leak.record is None or ours:
            inner = first_leak(stage, examples, donors, tolerance, leak.scope, [leak.chosen])
            where = inner.record.where if inner is not None and inner.record else where
        alike = []  # leaves that may behave differently in training
        if module is not None and not any(True for _ in module.children()):
            alike = [other for other in model.modules() if type(other) is type(module)]
        sources.append(_source(leak, module, alike, where))
        if module is None or not alike or not any(other.training for other in alike):
            break
        other = stage.isolated.copied()
        for part in other.model.modules():
            if type(part) is type(module):
                part.eval()
        evaluated = IsolatedModel(other.model, other.precision)
        stage = dataclasses.replace(stage, isolated=evaluated)
    return tuple(sources)


def located_sources(screening: Screening) -> tuple[tuple[Source, ...], tuple[str, ...]]:
    """Search where the examples of an audited minibatch meet; say what could not be searched."""
    found: tuple[Source, ...] = ()
    notes: tuple[str, ...] = ()
    if screening.order_matters:
        found = (Source("loss", "loss", "the order of the examples changes the gradient"),)
    try:
        found += _searched(screening)
    except BatchsenseError as error:
        notes = (f"The source was not searched: {error}.",)
    return found or (Source("loss", "loss", "not located"),), notes


def averaging_sources(stage: Stage, examples: Sequence[Any]) -> tuple[str, ...]:
    """Name the lines that reduce over the examples: ``"mean at model.py:12, in router"``."""
    count = len(examples)
    records, _ = stage.run(examples, shapes_only=True)
    lines = []
    for record in records:
        entering = any(_holds(t, count) and t.requires_grad for t in record.inputs)
        if entering and record.outputs and not any(_holds(t, count) for t in record.outputs):
            place = f" at {record.where}" if record.where else ""
            inside = "" if record.scope == OUTSIDE else f", in {record.scope}"
            lines.append(f"{record.name}{place}{inside}")
    return tuple(lines)


def replaced(examples: Sequence[Any], donors: Sequence[Any], chosen: Flags) -> list[Any]:
    """Put strangers in the places of the chosen examples."""
    return [donors[k % len(donors)] if chosen[k] else example for k, example in enumerate(examples)]


def _searched(screening: Screening) -> tuple[Source, ...]:
    """Search modules, then the loss's own code, then the averages it takes."""
    probe = screening.probe
    strangers = probe.strangers(screening.seed)
    examples = [probe.workload.examples[k] for k in range(probe.count)]
    if len(strangers) < len(examples) // 2:
        half = len(examples) // 2
        examples, strangers = examples[:half], [*strangers, *examples[half:]]
    examples = examples[: _telling_count(probe.isolated.model, len(examples))]

    def collate(chosen: list[Any]) -> Any:
        workload = dataclasses.replace(probe.workload, examples=chosen)
        return workload.minibatch(range(len(chosen)))

    stage = Stage(probe.isolated, probe.workload.loss, collate, screening.seed)
    tolerance = ROUNDING_MOVEMENT[probe.precision][1]
    sources = leaking_sources(stage, examples, strangers, tolerance)
    replacing = "others were replaced"
    if not sources and (longer := lengthened(examples, strangers)) is not None:
        try:
            sources = leaking_sources(stage, examples, longer, tolerance)
            replacing = "others were replaced, by longer ones too"
        except Exception as error:  # a model may bear no longer ones: no fault of the loss
            replacing = f"others of these lengths were replaced (longer ones: {described(error)})"
    shapes = broadcasts(stage, examples, probe.count)
    if sources or shapes:
        known = {source.where for source in shapes}
        return (*shapes, *(source for source in sources if source.where not in known))
    lines = list(dict.fromkeys(averaging_sources(stage, examples)))
    where = f": {'; '.join(lines[:_MOST_SOURCES])}" if lines else ""
    what = f"no recorded output of an example moved when {replacing}"
    return (
        Source("loss", "loss", f"{what}; the examples meet where they are put together{where}"),
    )


def broadcasts(stage: Stage, examples: Sequence[Any], shown: int) -> tuple[Source, ...]:
    """Name the operations whose shapes let every example meet every other, unasked.

    As (n, 1) with (n,), which gives (n, n): one input lacks an axis that the other has. ``shown``
    is the number of examples to name them with, for which fewer were run.
    """
    count = len(examples)
    records, _ = stage.run(examples, shapes_only=True)
    found: dict[str | None, Source] = {}
    for record in records:
        shapes = [tuple(tensor.shape) for tensor in record.inputs if tensor.ndim > 0]
        if (
            record.name.strip("_") not in _ELEMENTWISE
            or len({len(shape) for shape in shapes}) < 2
            or record.where in found
        ):
            continue
        try:
            together = np.broadcast_shapes(*shapes)
        except ValueError:
            continue
        if together.count(count) > max(shape.count(count) for shape in shapes):
            told = [str(tuple(shown if k == count else k for k in s)) for s in (*shapes, together)]
            detail = (
                f"in {record.name} the shapes {' and '.join(told[:-1])} {BROADCAST} {told[-1]}: "
                "every example meets every other"
            )
            found[record.where] = Source("loss", "loss", detail, record.where)
    return tuple(found.values())[:_MOST_SOURCES]


def _telling_count(model: nn.Module, most: int) -> int:
    sizes = {size for p in model.parameters() if p.requires_grad for size in p.shape}
    most = min(most, _MOST_TRACED)
    for count in range(most, max(2, most // 2), -1):
        if not any(size % count == 0 for size in sizes if size):
            return count
    return most


def _caller(records: list[Record], place: int) -> int | None:
    scope = records[place].scope
    return next((k for k in range(place + 1, len(records)) if records[k].name == scope), None)


def _holds(tensor: Tensor, count: int) -> bool:
    return count in tensor.shape or (
        tensor.ndim > 0 and tensor.shape[0] > count and tensor.shape[0] % count == 0
    )


def _source(
    leak: Leak, module: nn.Module | None, alike: list[nn.Module], where: str | None
) -> Source:
    moved = (
        f"moves outputs of examples by {leak.strength:.2g} times their size when only others are "
        "replaced"
    )
    if module is None:
        outside = leak.record is not None and leak.scope != OUTSIDE
        name = leak.scope if outside else "loss"
        what = f"{leak.record.name} " if leak.record is not None and not outside else ""
        return Source(name, "loss", f"{what}{moved}", where, leak.strength)
    more = f" (and {len(alike) - 1} more of its class)" if len(alike) > 1 else ""
    return Source(
        leak.scope, "module", f"{type(module).__name__} {moved}{more}", where, leak.strength
    )

"""Which examples of a minibatch influence the outputs of which others, and where they meet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from batchsense.arrays import Flags, Floats
from batchsense.errors import BatchsenseError, DataError, listed
from batchsense.training.separability.leakage.observation import (
    ROUNDING_MOVEMENT,
    by_example,
    lengthened,
    movement,
    substitution_sets,
)
from batchsense.training.separability.leakage.tracing import (
    Stage,
    leaking_sources,
    replaced,
    stage_for,
)
from batchsense.training.separability.report import Source
from batchsense.training.workload import leaves, rebuilt

# Passes differ in more than the repetition and the one new order that set the floor; see
# batchsense.training.separability.probe.screening.
_MARGIN = 8.0


@dataclass(frozen=True, slots=True, eq=False)
class LeakageReport:
    """Whether every example's outputs depend on that example alone.

    Attributes
    ----------
    leaks : bool
        Whether an example's outputs moved when only others were replaced.
    pairs : tuple of (int, int, float)
        (source, target, strength): replacing example ``source`` moved the outputs of ``target``
        by ``strength`` relative to the size of the outputs; strongest first.
    strength : float
        The largest movement in any pass.
    length_stress : float or None
        The largest movement when longer examples came into the minibatch; None if the examples
        all have one length, or longer ones could not be collated.
    gradient : bool or None
        Whether the gradient too passes from one example's inputs to another's outputs; False for
        detached statistics, None if the inputs are no floating numbers or nothing leaks.
    sources : tuple of Source
        The modules where examples meet.
    tolerance : float
        What counted as no movement.
    passes : int
        How many forward passes were made.
    precision : str
        In which they were computed.
    notes : tuple of str
        What could not be tested.
    """

    leaks: bool
    pairs: tuple[tuple[int, int, float], ...]
    strength: float
    length_stress: float | None
    gradient: bool | None
    sources: tuple[Source, ...]
    tolerance: float
    passes: int
    precision: str
    notes: tuple[str, ...]

    @property
    def conclusion(self) -> str:
        """One or two sentences: what was found, and how far the test reaches."""
        if not self.leaks:
            return (
                f"No influence between examples found: replacing others moved no output by more "
                f"than {self.tolerance:.0e} of its size ({self.passes} passes, {self.precision})."
            )
        where = f" in {self.sources[0].name}" if self.sources else ""
        shown = listed([f"{j} → {i} ({s:.2g})" for j, i, s in self.pairs], 3)
        detached = "; the gradient does not pass, only the values" if self.gradient is False else ""
        what = f": {shown}" if self.pairs else " only when longer examples came in"
        return f"Examples influence each other's outputs{where}{what}{detached}."


def leakage(
    outputs: nn.Module | Callable[..., Any],
    examples: Sequence[Any],
    donors: Sequence[Any],
    collate: Callable[[list[Any]], Any] | None = None,
    *,
    model: nn.Module | None = None,
    precision: str = "float64",
    seed: int = 0,
) -> LeakageReport:
    """Test by substitution whether each example's outputs depend on that example alone.

    For every bit of the examples' numbers, those that have it are replaced by strangers, then
    those that have it not: 2⌈log₂ n⌉ passes in which every ordered pair is once separated. Outputs
    of examples that stayed must not move. Two more passes bring in longer examples (a forgotten
    padding mask shows only then). What moved is traced to pairs by replacing single examples, and
    to the first module whose inputs stand still while its outputs move. Substitution also sees
    what gradients miss: detached statistics, sorting, integer inputs.

    Parameters
    ----------
    outputs : torch.nn.Module or callable
        A module called with the minibatch, or ``outputs(model, minibatch)`` where ``model`` is
        given. Returns outputs per example: embeddings, logits, or losses without reduction.
    examples : sequence
        The minibatch, at least two examples; 64 are usual.
    donors : sequence
        Strangers that replace them, not among ``examples``; as many are best.
    collate : callable, optional
        Makes a minibatch of a list of examples; ``torch``'s ``default_collate`` by default.
    model : torch.nn.Module, optional
        The model for the second form of ``outputs``.
    precision : str
        ``"float64"``, ``"float32"`` or ``"bfloat16"``; a coarser one sees only stronger leaks.
    seed : int
        Seed of all random numbers; dropout is switched off.

    Returns
    -------
    LeakageReport
        Pairs, strengths and the place.

    Raises
    ------
    DataError
        Too few examples or donors, outputs without an axis of examples, or a failing function.

    Examples
    --------
    >>> x = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))
    >>> leakage(nn.Linear(3, 2), x[:8], x[8:]).leaks
    False
    >>> found = leakage(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), x[:8], x[8:])
    >>> found.leaks, found.sources[0].name, found.gradient
    (True, '1', True)
    """
    kept, strangers = [*examples], [*donors]
    if len(kept) < 2 or not strangers:
        raise DataError("give at least two examples and one donor", where="examples")
    search = _Search(stage_for(outputs, model, collate, precision, seed), kept, strangers)
    search.measure_floor()
    search.substitute()
    search.stress_lengths()
    search.resolve_pairs()
    return search.report()


class _Search:
    """The state of one leakage test."""

    def __init__(self, stage: Stage, examples: list[Any], donors: list[Any]) -> None:
        self._stage, self._examples, self._donors = stage, examples, donors
        self._count = len(examples)
        self._passes = 0
        self._notes: list[str] = []
        self._tolerance, self._ceiling = ROUNDING_MOVEMENT[stage.isolated.precision]
        self._moved: list[tuple[Flags, Floats]] = []
        self._stress: float | None = None
        self._influence = np.zeros((self._count, self._count))
        self._base = self._run(examples)
        self._layouts = self._find_layouts()

    def measure_floor(self) -> None:
        """Set the tolerance by what a repetition and another order of the examples do."""
        order = np.random.default_rng(0).permutation(self._count)
        again = float(self._compare(self._run(self._examples)).max())
        if again > self._ceiling:
            raise DataError(
                f"two runs on the same examples differ by {again:.2g}: a state or a random "
                "generator outside torch's moves on; freeze it",
                where="outputs",
            )
        floors = [again]
        permuted = self._run([self._examples[k] for k in order])
        for before, after, layout in zip(self._base, permuted, self._layouts, strict=True):
            if layout is not None:
                view = by_example(before, self._count)[layout][order]
                other = by_example(after, self._count)[layout]
                floors.append(float(movement(view, other, self._count)["axis 0"].max()))
        # A larger change is a dependence on the order, not rounding.
        rounding = max(floor for floor in floors if floor <= self._ceiling)
        self._tolerance = max(self._tolerance, _MARGIN * rounding)

    def substitute(self) -> None:
        """Replace half of the examples in all the ways that separate every pair."""
        for chosen in substitution_sets(self._count):
            after = self._run(replaced(self._examples, self._donors, chosen))
            self._moved.append((chosen, np.where(chosen, 0.0, self._compare(after))))

    def stress_lengths(self) -> None:
        """Replace half of the examples by longer ones than any."""
        longer = lengthened(self._examples, self._donors)
        if longer is None:
            return
        for parity in (0, 1):
            chosen = np.arange(self._count) % 2 == parity
            try:
                after = self._run(replaced(self._examples, longer, chosen))
            except BatchsenseError as error:
                self._notes.append(f"Longer examples could not be tested: {error}.")
                return
            moved = float(self._compare(after)[~chosen].max(initial=0.0))
            self._stress = max(self._stress or 0.0, moved)

    def resolve_pairs(self) -> None:
        """Replace single examples to learn who moved whom."""
        suspects: set[int] = set()
        for target in range(self._count):
            told = [(c, m[target] > self._tolerance) for c, m in self._moved if not c[target]]
            if any(moved for _, moved in told):
                innocent = np.zeros(self._count, dtype=bool)
                for chosen, moved in told:
                    if not moved:
                        innocent |= chosen
                innocent[target] = True
                suspects |= {int(k) for k in np.flatnonzero(~innocent)}
        for source in sorted(suspects):
            chosen = np.arange(self._count) == source
            moved = self._compare(self._run(replaced(self._examples, self._donors, chosen)))
            moved[source] = 0.0
            self._influence[source] = np.where(moved > self._tolerance, moved, 0.0)

    def report(self) -> LeakageReport:
        """Put the findings together."""
        strength = max(float(moved.max()) for _, moved in self._moved)
        leaks = max(strength, self._stress or 0.0) > self._tolerance
        sources = self._places(strength) if leaks else ()
        order = np.argwhere(self._influence > 0)
        pairs = sorted(
            ((int(j), int(i), float(self._influence[j, i])) for j, i in order),
            key=lambda pair: -pair[2],
        )
        return LeakageReport(
            leaks=leaks,
            pairs=tuple(pairs),
            strength=strength,
            length_stress=self._stress,
            gradient=self._gradient_passes() if strength > self._tolerance else None,
            sources=sources,
            tolerance=self._tolerance,
            passes=self._passes,
            precision=self._stage.isolated.precision,
            notes=tuple(self._notes),
        )

    def _places(self, strength: float) -> tuple[Source, ...]:
        """Name the modules where examples meet; longer strangers if only those show it."""
        donors = self._donors
        if strength <= self._tolerance:
            donors = lengthened(self._examples, self._donors) or donors
        return leaking_sources(self._stage, self._examples, donors, self._tolerance)

    def _run(self, examples: list[Any]) -> list[Tensor]:
        self._passes += 1
        return self._stage.outputs(examples)

    def _find_layouts(self) -> list[str | None]:
        """Decide in which layout each output holds the examples: that which an order permutes."""
        order = np.roll(np.arange(self._count), 1)
        rolled = self._run([self._examples[k] for k in order])
        found: list[str | None] = []
        for before, after in zip(self._base, rolled, strict=True):
            views, others = by_example(before, self._count), by_example(after, self._count)
            fits = {
                layout: float(movement(view[order], others[layout], self._count)["axis 0"].max())
                for layout, view in views.items()
                if layout in others
            }
            found.append(min(fits, key=lambda layout: fits[layout]) if fits else None)
        if all(layout is None for layout in found):
            raise DataError(
                f"no output has an axis of {self._count} examples; return outputs per example, "
                "without reduction",
                where="outputs",
            )
        return found

    def _compare(self, after: list[Tensor]) -> Floats:
        largest = np.zeros(self._count)
        for before, other, layout in zip(self._base, after, self._layouts, strict=True):
            if layout is not None:
                moved = movement(before, other, self._count).get(layout)
                if moved is not None:
                    largest = np.maximum(largest, moved)
        return largest

    def _gradient_passes(self) -> bool | None:
        chosen, moved = max(self._moved, key=lambda pair: float(pair[1].max()))
        targets = np.flatnonzero(moved > self._tolerance)
        isolated = self._stage.isolated
        model = isolated.ready("silent")
        with isolated.conditions([], True, self._stage.seed, "silent"):
            minibatch = rebuilt(
                isolated.collated(self._stage.collate, self._examples),
                lambda t: t.detach().requires_grad_(t.is_floating_point()),
            )
            inputs = [
                t
                for t in leaves(minibatch)
                if t.requires_grad and t.ndim > 0 and t.shape[0] == self._count
            ]
            result = self._stage.function(model, minibatch)
            total = torch.zeros((), dtype=isolated.dtype)
            for tensor, layout in zip(leaves(result), self._layouts, strict=True):
                if layout is not None and tensor.requires_grad:
                    view = by_example(tensor, self._count)[layout][targets]
                    weights = torch.linspace(1, 2, view.numel()).reshape(view.shape).to(view)
                    total = total + (view * weights).sum()
            if not inputs or not total.requires_grad:
                return None if not inputs else False
            slopes = torch.autograd.grad(total, inputs, allow_unused=True)
        rows = torch.as_tensor(np.flatnonzero(chosen))
        return any(g is not None and bool((g[rows] != 0).any()) for g in slopes)

"""The features that surrogates are learned from: in memory, or on disk and asked in passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from batchsense.arrays import Flags, Floats, Places
from batchsense.errors import UnresolvedError
from batchsense.experiments.beyond_memory.by_feature import ByFeature
from batchsense.experiments.beyond_memory.stored_table import StoredTable
from batchsense.experiments.diagnosis.usable import Looks
from batchsense.experiments.projections import without
from batchsense.experiments.value_kinds import tallies

#: ``ask(values, places)``: what some features, of shape (specimens, features), at their places
#: among all, contribute to sums of any shape, or tell each for itself along the last axis.
AskSome = Callable[[Floats, Places], Floats]


class Observed(Protocol):
    """Complete features that vary."""

    @property
    def shape(self) -> tuple[int, int]:
        """Specimens and features."""

    def products(self, asks: Sequence[AskSome], task: str) -> list[Floats]:
        """Sums over features, of shape (specimens, specimens), one for each question."""

    def told(self, ask: AskSome, task: str) -> Floats:
        """What each feature tells."""


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """Features in memory, of shape (specimens, features)."""

    values: Floats

    @property
    def shape(self) -> tuple[int, int]:
        """Specimens and features."""
        return len(self.values), len(self.values.T)

    def products(self, asks: Sequence[AskSome], task: str) -> list[Floats]:
        """Ask all features at once."""
        places = np.arange(self.shape[1])
        return [ask(self.values, places) for ask in asks]

    def told(self, ask: AskSome, task: str) -> Floats:
        """Ask all features at once."""
        return ask(self.values, np.arange(self.shape[1]))


def observed(values: Floats | Observed) -> Observed:
    """Take an array as features in memory."""
    return Loaded(values) if isinstance(values, np.ndarray) else values


@dataclass(frozen=True, slots=True, eq=False)
class Residuals:
    """The inner products of specimens in what a basis leaves."""

    basis: Floats

    def __call__(self, values: Floats, places: Places) -> Floats:
        """Of some features."""
        left = without(values, self.basis)
        return np.asarray(left @ left.T)


@dataclass(frozen=True, slots=True, eq=False)
class Weighted:
    """The inner products of specimens in centred features, each with a weight."""

    weights: Floats

    def __call__(self, values: Floats, places: Places) -> Floats:
        """Of some features."""
        scaled = (values - values.mean(axis=0)) * self.weights[places]
        return np.asarray(scaled @ scaled.T)


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    tally: Flags
    basis: Floats

    def __call__(self, values: Floats, low: int) -> tuple[dict[str, Floats], dict[str, Floats]]:
        looks = Looks.of(values, self.tally[low : low + values.shape[1]])
        used = values[:, looks.varies]
        centred = used - used.mean(axis=0)
        told = np.stack([looks.complete, looks.used, looks.varies, looks.variance])
        sums = {
            "left": Residuals(self.basis)(used, np.arange(0)),
            "squares": np.array(np.vdot(centred, centred)),
        }
        return sums, {"told": told.astype(np.float64)}


@dataclass(frozen=True, slots=True, eq=False)
class _Chosen:
    """Questions to the features that are used, told their places among these."""

    mask: Flags
    asks: tuple[AskSome, ...]
    sums: bool

    def __call__(self, values: Floats, low: int) -> tuple[dict[str, Floats], dict[str, Floats]]:
        own = self.mask[low : low + values.shape[1]]
        places = int(self.mask[:low].sum()) + np.arange(int(own.sum()))
        found = [ask(values[:, own], places) for ask in self.asks]
        if self.sums:
            return {f"sum{k}": one for k, one in enumerate(found)}, {}
        spread = np.zeros((len(found[0]), len(own)))
        spread[:, own] = found[0]
        return {}, {"told": spread}


@dataclass(slots=True, eq=False)
class Stored:
    """Features on disk; the first pass looks at all, and multiplies what a basis leaves of them."""

    table: StoredTable
    basis: Floats
    looks: Looks = field(init=False)
    left: Floats = field(init=False)
    squares: float = field(init=False)

    def __post_init__(self) -> None:
        """Go through the matrix once."""
        ask = _Look(tallies(self.table.features), self.basis)
        found = self._run(ask, 1, "multiplying specimens")
        told = found["told"]
        self.looks = Looks(told[0] > 0, told[1] > 0, told[2] > 0, told[3])
        self.left, self.squares = found["left"], float(found["squares"])

    @property
    def shape(self) -> tuple[int, int]:
        """Specimens and features."""
        return len(self.basis), int(self.looks.varies.sum())

    def products(self, asks: Sequence[AskSome], task: str) -> list[Floats]:
        """Ask in one pass, or in as many as memory makes of it; what is known is not asked."""
        first = asks[0]
        if isinstance(first, Residuals) and np.array_equal(first.basis, self.basis):
            return [self.left]
        most = len(asks)
        while most > 1 and not self.table.fits(self._pass(None, most)):
            most = -(-most // 2)
        found: list[Floats] = []
        for start in range(0, len(asks), most):
            part = tuple(asks[start : start + most])
            sums = self._run(_Chosen(self.looks.varies, part, sums=True), len(part), task)
            found += [sums[f"sum{k}"] for k in range(len(part))]
        return found

    def told(self, ask: AskSome, task: str) -> Floats:
        """Ask in one pass."""
        found = self._run(_Chosen(self.looks.varies, (ask,), sums=False), 0, task)
        return found["told"][:, self.looks.varies]

    def _pass(self, ask: object, matrices: int) -> ByFeature:
        # Beside the sums their next part, and the eigenvectors of one.
        held = 8 * (2 * matrices + 3) * len(self.basis) ** 2
        return ByFeature(self.table.location, ask, held)  # type: ignore[arg-type]

    def _run(self, ask: object, matrices: int, task: str) -> dict[str, Floats]:
        inputs = self._pass(ask, matrices)
        if not self.table.fits(inputs) and matrices == 1:
            raise UnresolvedError(
                f"{len(self.basis):,} specimens times themselves do not fit in the memory that is "
                "allowed, and surrogates are directions among them",
                needed=f"about {(inputs.held >> 20) + 500:,} MiB (--memory)",
            )
        sums: dict[str, Floats] = self.table.passes.run(inputs, task).sums
        return sums

"""Numbers in the sheet that may be categories: asked about where the answer depends on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from batchsense.errors import ConfoundedError, listed
from batchsense.experiments.entanglement import batch_columns, entanglements
from batchsense.experiments.sheets.nuisances import Nuisances, NumericBatches
from batchsense.experiments.statistics.confounding import connected_components
from batchsense.experiments.tables.columns import Factor
from batchsense.variation.linear import factor

if TYPE_CHECKING:
    from batchsense.experiments.design import Design

#: Specimens times squared columns up to which a reading is analysed in full, about a second. Beyond
#: it only the graph of levels and batches is looked at, which misses what several columns hide
#: together.
_MOST_WORK = 2e8

#: Columns of length 1 with no smaller eigenvalue of their products than this are independent, by
#: six digits more than the analysis asks for.
_APART = 1e-6


@dataclass(frozen=True, slots=True)
class _Answer:
    """Which kept columns cannot be told, under one reading, and by which relations."""

    lost: frozenset[str]
    says: str
    relations: tuple[str, ...] = ()


def refuse_doubtful(design: Design) -> None:
    """Ask for the kind of numbers that are not confounded as they were read, and else would be."""
    if all(kept.otherwise is None for kept in design.kept):
        return
    work = max(_work(one) for one in (design, *_other_readings(design)))
    answer = _told if work <= _MOST_WORK else _linked
    first = answer(design)
    for reading in _other_readings(design):
        second = answer(reading)
        if second.lost - first.lost:  # what is refused as it was read stays refused
            raise _asked(design, reading, first, second)


def _other_readings(design: Design) -> Iterator[Design]:
    """Each doubtful column the other way; then all as categories, all as numbers."""
    doubtful = [place for place, kept in enumerate(design.kept) if kept.otherwise is not None]
    for place in doubtful:
        yield _with(design, {place})
    if len(doubtful) > 1:
        for kind in ("categorical", "numeric"):
            if changed := {place for place in doubtful if design.kept[place].kind != kind}:
                yield _with(design, changed)


def _with(design: Design, changed: set[int]) -> Design:
    kept = tuple(
        one.otherwise if place in changed and one.otherwise is not None else one
        for place, one in enumerate(design.kept)
    )
    return replace(design, kept=kept)


def _work(design: Design) -> float:
    columns = sum(max(1, len(one.levels)) for one in (design.batches, *design.kept))
    return float(design.specimens) * columns**2


def _told(design: Design) -> _Answer:
    """Analyse a design in full, unless a look at products of its columns tells that all is well."""
    if _plainly_apart(design):
        return _answer([], design.batches.name, ())
    if same := factor(*design.wanted()).relations:
        relations = tuple(map(str, same))
        says = f"columns to be kept say the same ({listed(relations)})"
        return _Answer(frozenset({"all of them"}), says, relations)
    batch = design.batches.name
    found = entanglements(design) if batch else ()
    lost = [one for one in found if not one.confounding.estimable]
    relations = tuple(dict.fromkeys(r for one in lost for r in one.confounding.aliased))
    return _answer([one.name for one in lost], batch, relations)


def _plainly_apart(design: Design) -> bool:
    """Whether no column lies anywhere near the span of the others and a constant."""
    columns = np.hstack([batch_columns(design)[0], *(one.design()[0] for one in design.kept)])
    columns = columns - columns.mean(axis=0)
    columns /= np.maximum(np.linalg.norm(columns, axis=0), 1e-300)
    return bool(np.linalg.eigvalsh(columns.T @ columns)[0] > _APART)


def _linked(design: Design) -> _Answer:
    """Look only whether specimens link all levels of a factor through shared batches."""
    batches = design.batches
    lost = [
        kept.name
        for kept in design.kept
        if kept.kind == "categorical"
        and not isinstance(batches, NumericBatches | Nuisances)
        and len(connected_components(kept.codes, batches.codes)) > 1
    ]
    return _answer(lost, batches.name, ())


def _answer(lost: list[str], batch: str, relations: tuple[str, ...]) -> _Answer:
    if not lost:
        beside = f" from {batch}" if batch else " apart"
        return _Answer(frozenset(), f"all that is to be kept can be told{beside}")
    because = f" ({listed(relations)})" if relations else ""
    says = f"{listed(lost)} cannot be told from {batch}{because}"
    return _Answer(frozenset(lost), says, relations)


def _asked(design: Design, reading: Design, first: _Answer, second: _Answer) -> ConfoundedError:
    changed = [
        (one, other)
        for one, other in zip(design.kept, reading.kept, strict=True)
        if one is not other
    ]
    says = " ".join(
        f"Read as {listed(_as(one) for one in factors)}: {answer.says}."
        for factors, answer in (
            ([one for one, _ in changed], first),
            ([other for _, other in changed], second),
        )
    )
    return doubt([one for one, _ in changed], says, [*first.relations, *second.relations])


def doubt(factors: Sequence[Factor], says: str, relations: Sequence[str]) -> ConfoundedError:
    """The question that is put to the user: what the readings say, and how to declare one."""
    one, *others = factors
    count = max(len(one.levels), len(one.otherwise.levels) if one.otherwise else 0)
    named = f"Column {one.name!r} holds {count} distinct numbers"
    if others:
        named = f"Columns {listed(repr(each.name) for each in factors)} hold numbers"
    return ConfoundedError(
        f"{named}, and what can be told depends on what they are. {says} Say which it is: "
        f"--categorical {one.name} or --numeric {one.name} (categorical or numeric in Python). "
        "Nothing was calculated.",
        relations,
    )


def _as(factor: Factor) -> str:
    return "a number" if factor.kind == "numeric" else "categories"

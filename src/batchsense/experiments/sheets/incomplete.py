"""Specimens without a label that is needed: left out if asked for, and compared with the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import comb

import numpy as np

from batchsense.arrays import Flags, Floats
from batchsense.errors import DataError, listed
from batchsense.experiments.statistics.multiplicity import holm
from batchsense.experiments.tables.columns import refuse_missing
from batchsense.experiments.tables.table import Column, Table
from batchsense.experiments.tables.text import is_number
from batchsense.experiments.value_kinds import tallies
from batchsense.notes import Note

#: Random divisions that a difference is compared with; the smallest p is 1 in 2,000.
_DIVISIONS = 1999
#: Random divisions are drawn together in blocks of about this many numbers: 16 MB.
_BLOCK = 2_000_000
#: Leading components that are compared: beyond three, Holm takes more power than they add.
_COMPONENTS = 3
#: Text with more labels says too little of each.
_MOST_LABELS = 12
#: With more of both, components are passed over: their matrix would take 128 MB and a minute.
_MOST_SIDE = 4000
_SEEN_P = 0.05


@dataclass(frozen=True, slots=True)
class LeftOutComparison:
    """How specimens that are left out lie among the others, in one respect."""

    name: str  #: A column of the sheet, or ``"component 1"``
    says: str  #: Both groups: median or most frequent label
    #: Share of random divisions of the specimens that differ as much; corrected for the number of
    #: comparisons.
    p_value: float
    holm: float


def leave_out_incomplete(
    table: Table, columns: Sequence[str], seed: int = 0
) -> tuple[Table, tuple[LeftOutComparison, ...]]:
    """Leave out the specimens that lack a label in one of some columns, and say how they differ.

    Compared are the other columns of the sheet and the leading principal components, by the
    difference of mean ranks (numbers) or of frequencies (labels, χ²), among 1,999 random divisions
    of the specimens. The table has a note ``incomplete_left_out`` with their ids.
    """
    needed = [name for name in dict.fromkeys(columns) if name in table.sheet]
    lacking = {name: [one is None for one in table.sheet[name]] for name in needed}
    gaps = [name for name in needed if any(lacking[name])]
    if not gaps:
        return table, ()
    out = np.asarray(np.array([lacking[name] for name in gaps]).any(axis=0))
    if out.all():
        raise DataError(
            f"no specimen has a label in all of {listed(gaps)}", where=table.source.sheet
        )
    lost = []
    for name in needed:
        labels = table.sheet[name]
        before = {one for one in labels if one is not None}
        left = {one for one, gone in zip(labels, out, strict=True) if one is not None and not gone}
        if len(left) == 1 < len(before):
            raise DataError(
                f"without the {out.sum()} of {len(out)} specimens that have no label of "
                f"{' or '.join(gaps)}, column {name!r} holds {left.pop()!r} only",
                where=table.source.sheet,
            )
        if not all(map(is_number, before)):
            lost += [f"{name} {level}" for level in sorted(before - left)]
    found = _compared(table, out, gaps, seed)
    names = tuple(table.specimens[i] for i in np.flatnonzero(out).tolist())
    message = (
        f"{len(names)} of {len(out)} specimens {'was' if len(names) == 1 else 'were'} left out, "
        f"without a label of {' or '.join(gaps)}: {listed(names)}. "
        f"{f'No other has {listed(lost)}. ' if lost else ''}"
        f"{_sentence(found, len(out), len(names))}"
    )
    kept = np.flatnonzero(~out)
    aside = table.aside and replace(table.aside, values=table.aside.values[kept])
    complete = replace(
        table,
        values=table.values[kept],
        specimens=tuple(table.specimens[i] for i in kept.tolist()),
        sheet={name: tuple(one[i] for i in kept.tolist()) for name, one in table.sheet.items()},
        notes=(*table.notes, Note("incomplete_left_out", message, names)),
        aside=aside,
    )
    return complete, found


def refuse_incomplete(table: Table, columns: Sequence[str], instead: str | None) -> None:
    """Refuse specimens that lack a label, and say how they can be left out, if they can."""
    more = f"; {instead} leaves them out and says whether they differ" if instead else ""
    for name in columns:
        if name in table.sheet:
            refuse_missing(table, name, more)


def _sentence(found: Sequence[LeftOutComparison], specimens: int, out: int) -> str:
    they, differ = ("it", "differs") if out == 1 else ("they", "differ")
    if not found or len(found) / comb(specimens, min(out, specimens - out)) > _SEEN_P:
        return f"Too few to tell whether {they} {differ}."
    seen = [one for one in found if one.holm <= _SEEN_P]
    number = f"{len(found)} comparison{'s' * (len(found) > 1)}"
    if not seen:
        least = min(one.holm for one in found)
        names = listed(one.name for one in found)
        return (
            f"No difference from the others was seen in {number} ({names}; smallest p "
            f"{least:.2g} after Holm); small ones would not be."
        )
    each = listed(f"{one.name} ({one.says}; p {one.holm:.2g})" for one in seen)
    return (
        f"{they.capitalize()} {differ} from the others in {each}, of {number} (p after Holm): what "
        "follows holds for the others."
    )


def _compared(
    table: Table, out: Flags, gaps: Sequence[str], seed: int
) -> tuple[LeftOutComparison, ...]:
    from scipy.stats import rankdata  # takes as long to load as all else together

    rng = np.random.default_rng(seed)
    tested: list[tuple[str, str, float]] = []
    for name, entries in table.sheet.items():
        if name in gaps or name == table.source.id_column:
            continue
        known = np.array([one is not None for one in entries])
        columns = _as_columns([one for one in entries if one is not None])
        if columns is not None and (out & known).any() and (~out & known).any():
            labels = [one for one in entries if one is not None]
            says = _says(labels, out[known])
            tested.append((name, says, _p_value(columns, out[known], rng)))
    for place, scores in enumerate(_components(table).T):
        says = _says([f"{score:.3g}" for score in scores], out)
        ranks = rankdata(scores)[:, None]
        tested.append((f"component {place + 1}", says, _p_value(ranks, out, rng)))
    p_values = holm([p_value for _, _, p_value in tested]).tolist()
    return tuple(LeftOutComparison(*one, p) for one, p in zip(tested, p_values, strict=True))


def _as_columns(entries: Column | list[str]) -> Floats | None:
    """Ranks of numbers, or indicators of labels weighted as in χ²; None if they say nothing."""
    labels = [str(one) for one in entries]
    levels = sorted(set(labels))
    if len(levels) < 2:
        return None
    if all(map(is_number, levels)) and len(levels) > 2:
        from scipy.stats import rankdata

        return np.asarray(rankdata([float(one) for one in labels])[:, None])
    if len(levels) > min(_MOST_LABELS, len(labels) // 2):
        return None
    indicators = np.array(labels)[:, None] == np.array(levels)
    return np.asarray(indicators / np.sqrt(indicators.mean(axis=0)))


def _says(labels: Sequence[str | None], out: Flags) -> str:
    words = []
    for chosen in (out, ~out):
        own = [str(one) for one, is_in in zip(labels, chosen.tolist(), strict=True) if is_in]
        if all(map(is_number, own)) and len(set(map(str, labels))) > 2:
            words.append(f"median {np.median([float(one) for one in own]):.3g}")
        else:
            most = max(sorted(set(own)), key=own.count)
            words.append(f"{most} in {own.count(most) / len(own):.0%}")
    return " beside ".join(words)


def _p_value(columns: Floats, out: Flags, rng: np.random.Generator) -> float:
    """How often a random division differs as much: sum of squares of differences of means."""
    centred = columns - columns.mean(axis=0)
    observed = float(((out @ centred) ** 2).sum())
    hits, size = 0, max(1, _BLOCK // len(out))
    for low in range(0, _DIVISIONS, size):
        count = min(size, _DIVISIONS - low)
        divided = rng.permuted(np.broadcast_to(out, (count, len(out))), axis=1)
        sums = ((divided.astype(np.float64) @ centred) ** 2).sum(axis=1)
        hits += int((sums >= observed * (1 - 1e-9)).sum())
    return (1 + hits) / (1 + _DIVISIONS)


def _components(table: Table) -> Floats:
    """Scores of the leading components, shape (specimens, up to 3); of counts those of logs."""
    chosen = ~np.isnan(table.values).any(axis=0) & ~tallies(table.features)
    values = table.values[:, chosen]
    nothing = np.empty((len(values), 0))
    if values.shape[1] < _COMPONENTS or min(values.shape) > _MOST_SIDE:
        return nothing
    if table.values_read().kind == "counts":
        values = np.log2((values + 0.5) / (values.sum(axis=1, keepdims=True) + 1.0) * 1e6)
    centred = values - values.mean(axis=0)
    wide = centred.shape[1] > len(centred)
    sizes, vectors = np.linalg.eigh(centred @ centred.T if wide else centred.T @ centred)
    real = np.flatnonzero(sizes > 1e-10 * max(float(sizes[-1]), 1e-300))[::-1][:_COMPONENTS]
    if not len(real):
        return nothing
    return np.asarray(vectors[:, real] if wide else centred @ vectors[:, real])

"""Draw one input, ask about it, and judge the ending."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from batchsense.errors import BatchsenseError
from batchsense.experiments import read
from hostile import files, jobs, tables, words
from hostile.judge import Ending, faults, lost_values, state

#: A share of tables is asked about again in another order, under other names, in another unit.
TURNED = 0.25
#: Numbers of an answer may differ by rounding alone.
CLOSE = 1e-6


@dataclass(frozen=True)
class Tried:
    """One input and what came of it.

    Attributes
    ----------
    words : list of str
        What was asked.
    command : str
        The command.
    code : int
        Its exit code.
    faults : list of str
        What does not hold; empty where all does.
    turned : bool
        Whether it was asked again in another order.
    said : str
        All that was printed.
    """

    words: list[str]
    command: str
    code: int
    faults: list[str]
    turned: bool = False
    said: str = ""


def ask_about_a_table(
    seed: Sequence[int], folder: Path, way: Callable[[Sequence[str]], Ending]
) -> Tried:
    """Draw a table and words about it from a seed, and judge what comes of them."""
    rng = np.random.default_rng([*seed, 0])
    command = str(rng.choice(words.COMMANDS))
    drawn = tables.draw(rng, wide=command == "surrogates" and rng.random() < 0.8)
    *made, whole = files.write(folder, drawn, rng)
    asked, outputs = words.draw(rng, command, drawn, made)
    before = state(folder)
    ending = way(asked)
    found = faults(asked, ending, before, folder, outputs)
    if command == "correct" and ending.code == 0 and outputs["-o"].exists():
        found += _lost(asked, made, outputs["-o"])
    answered = ending.code in (0, 1) and not found and whole
    turned = answered and rng.random() < TURNED and _can_be_turned(drawn, made)
    if turned:
        found += _turned(rng, drawn, made, asked, ending, way)
    said = f"{ending.out[:3000]}\n{ending.err[-3000:]}\n{ending.warned}"
    return Tried(asked, asked[0], ending.code, found, bool(turned), said)


def ask_about_a_job(
    seed: Sequence[int], folder: Path, way: Callable[[Sequence[str]], Ending]
) -> Tried:
    """Draw a training job and words about it from a seed, and judge what comes of them."""
    rng = np.random.default_rng([*seed, 1])
    (folder / "job.py").write_text(jobs.draw(rng), encoding="utf-8")
    asked, outputs = jobs.words(rng, folder)
    before = state(folder)
    ending = way(asked)
    found = faults(asked, ending, before, folder, outputs)
    said = f"{(folder / 'job.py').read_text()}\n{ending.out[:3000]}\n{ending.err[-3000:]}"
    return Tried(asked, asked[0], ending.code, found, False, said)


def _lost(asked: Sequence[str], made: Sequence[Path], output: Path) -> list[str]:
    """Read the input and the result, and compare where there are numbers."""
    layer = "batchsense" if output.suffix in (".h5ad", ".zarr") else None
    try:
        original = read(made[0], made[1])
        corrected = read(output, made[1], layer=layer)
    except BatchsenseError as error:
        return [f"the result cannot be read: {error}"]
    return lost_values(original, corrected)


def _can_be_turned(drawn: tables.Drawn, made: Sequence[Path]) -> bool:
    """Whether names say nothing, so that others may stand for them."""
    names = (*drawn.specimens, *drawn.features)
    distinct = len({*names}) == len(names) and all(one.isalnum() for one in names)
    text = all(path.name.endswith(files.TEXT) for path in made)
    return distinct and text and not drawn.cells and "id" in drawn.sheet


def _turned(
    rng: np.random.Generator,
    drawn: tables.Drawn,
    made: Sequence[Path],
    asked: list[str],
    ending: Ending,
    way: Callable[[Sequence[str]], Ending],
) -> list[str]:
    """Ask the same of the same table in another order, under other names, in another unit."""
    unit = 4.0 if drawn.plain else 1.0
    other, _, columns = tables.twin(rng, drawn, unit)
    place = Path(asked[1]).parent / "turned"
    place.mkdir()
    again = [
        str(place / Path(word).name) if word.startswith(str(place.parent)) else word
        for word in asked
    ]
    files.write_plainly(tuple(place / one.name for one in made), other)
    found = way(again)
    # Folds and permutations are drawn anew in another order, and may decide a narrow question.
    drawn_anew = asked[0] in ("gap", "surrogates") and {found.code, ending.code} == {0, 1}
    if found.code != ending.code and not drawn_anew:
        return [f"exit {ending.code}, and {found.code} in another order: {found.err[-200:]}"]
    if ending.code or found.code or asked[0] not in ("test", "correct", "diagnose"):
        return []
    if asked[0] == "diagnose":
        return _differing_shares(ending, found) if "--json" in asked else []
    if "-o" not in asked:
        return []
    outputs = [Path(one[one.index("-o") + 1]) for one in (asked, again)]
    if not all(path.suffix == ".csv" for path in outputs):
        return []
    if asked[0] == "correct":
        return _differing_values(outputs, drawn, other, columns, unit)
    return _differing_tests(outputs, drawn.features, columns)


def _differing_shares(ending: Ending, found: Ending) -> list[str]:
    """Shares of the variance, which know neither order nor unit."""
    one, other = (json.loads(each.out)["result"] for each in (ending, found))
    pairs = [(part["batch"]["share"]["raw"], part["verdict"]) for part in (one, other)]
    if not np.isclose(*[pair[0] or 0.0 for pair in pairs], rtol=CLOSE, atol=CLOSE):
        return [f"shares {pairs} in another order"]
    return []


def _differing_values(
    outputs: list[Path], drawn: tables.Drawn, other: tables.Drawn, columns: Any, unit: float
) -> list[str]:
    one, second = (_cells(path) for path in outputs)
    names = dict(zip(drawn.specimens, (f"t{i}" for i in range(len(drawn.specimens))), strict=True))
    by_rows = set(drawn.specimens) >= {row for row, _ in one}
    if not by_rows:
        return []
    scale = max((abs(v) for v in one.values() if v is not None), default=1.0) or 1.0
    for (row, column), value in one.items():
        again = second.get((names[row], f"f{drawn.features.index(column)}"))
        if (value is None) != (again is None):
            return [f"{row}, {column}: {value} and {again} in another order"]
        if value is not None and abs(again / unit - value) > CLOSE * scale:  # type: ignore[operator]
            return [f"{row}, {column}: {value} and {again}/{unit} in another order"]
    return []


def _cells(path: Path) -> dict[tuple[str, str], float | None]:
    head, *rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    return {
        (row[0], name): float(cell) if cell else None
        for row in rows
        for name, cell in zip(head[1:], row[1:], strict=True)
    }


def _differing_tests(outputs: list[Path], features: list[str], columns: Any) -> list[str]:
    """The p of every contrast and feature."""
    one, other = (
        {(row["contrast"], row["g"]): row["p"] for row in _named(path)} for path in outputs
    )
    for (contrast, feature), p in one.items():
        again = other.get((contrast, f"f{features.index(feature)}"))
        if again is None or bool(p) != bool(again):
            return [f"{contrast}, {feature}: p {p!r} and {again!r} in another order"]
        if p and not np.isclose(float(p), float(again), rtol=1e-4, atol=1e-9):
            return [f"{contrast}, {feature}: p {p} and {again} in another order"]
    return []


def _named(path: Path) -> list[dict[str, str]]:
    head, *rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    names = ["g" if name == "feature" else name for name in head]
    return [dict(zip(names, row, strict=True)) for row in rows]

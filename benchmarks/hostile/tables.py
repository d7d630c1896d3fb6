"""A matrix with its sheet as users have them, and as nobody should: values, designs and names."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Column = list[str]

#: How often each part of a table is odd: most have one or two odd parts, so that most are answered.
ODD = 0.1
LABELS = {
    "months": ["May", "June", "July", "Aug"],
    "numbers": ["1", "2", "3", "4"],
    "fractions": ["0.5", "1.25", "3.75", "2.0"],
    "gaps": ["NA", "None", "nan", "null"],
    "scripts": ["五月", "é", "e\u0301", "ß"],
    "marks": ["<b>", "a,b", 'c"d', "=1+1"],
    "cases": ["may", "May", "MAY", "mAy"],
    "booleans": ["True", "False", "TRUE", "0"],
    "dates": ["2024-05-01", "2024-06-01", "1/2/24", "Jan-05"],
    "long": ["x" * 300, "x" * 299 + "y", "y", "z" * 1000],
}


@dataclass(frozen=True)
class Drawn:
    """One table: what is written to its files, and what its columns are.

    Attributes
    ----------
    values : array of shape (specimens, features)
        NaN where missing.
    specimens, features : list of str
        Names.
    sheet : dict of str to list of str
        Columns; the first has the ids.
    plain : bool
        Whether the values are ordinary numbers, so that a change of unit changes nothing.
    cells : dict of (int, int) to str
        Texts in the place of numbers.
    """

    values: npt.NDArray[np.float64]
    specimens: list[str]
    features: list[str]
    sheet: dict[str, Column]
    plain: bool
    cells: dict[tuple[int, int], str] = field(default_factory=dict)


def draw(rng: np.random.Generator, wide: bool) -> Drawn:
    """Draw a table; ``wide`` ones have enough features for surrogates."""
    small = rng.random() < ODD
    count = int(rng.choice([0, 1, 2, 3, 4, 5] if small else [8, 10, 12, 16, 24, 40]))
    width = int(rng.choice([100, 130]) if wide else rng.choice([1, 2, 3, 5, 10, 30]))
    batches = _batches(rng, count)
    drug = _condition(rng, batches)
    values, plain = _values(rng, count, width, batches)
    cells = {}
    if values.size and rng.random() < 0.03:
        place = (int(rng.integers(count)), int(rng.integers(width)))
        cells[place] = str(
            rng.choice(["inf", "-inf", "x", "1,5", "1e400", "0x10", "--", "1 000", "#DIV/0!"])
        )
    specimens, features = _names(rng, "s", count), _names(rng, "g", width)
    sheet = {"id": list(specimens), "month": _labels(rng, batches), "drug": _labels(rng, drug)}
    sheet["age"] = [f"{age:.1f}" for age in rng.normal(50, 10, count)]
    sheet["subject"] = [f"p{i // int(rng.integers(1, 4))}" for i in range(count)]
    for name in ("month", "drug", "age"):
        if count and rng.random() < ODD / 2:
            for row in rng.integers(count, size=1 + count // 8):
                sheet[name][row] = str(rng.choice(["", "NA", " ", "nan", "?"]))
    return _mismatched(rng, Drawn(values, specimens, features, sheet, plain, cells))


def twin(rng: np.random.Generator, drawn: Drawn, unit: float) -> tuple[Drawn, Any, Any]:
    """The same table in another order, under other names and in another unit.

    Gives it with the rows and columns of the first table, in its order.
    """
    rows = rng.permutation(len(drawn.specimens))
    columns = rng.permutation(len(drawn.features))
    renamed = {one: f"t{i}" for i, one in enumerate(drawn.specimens)}
    sheet = {name: list(column) for name, column in drawn.sheet.items()}
    ids = next(iter(sheet))
    sheet[ids] = [renamed.get(one, one) for one in sheet[ids]]
    order = rng.permutation(len(sheet[ids]))
    return (
        replace(
            drawn,
            values=drawn.values[rows][:, columns] * unit,
            specimens=[renamed[drawn.specimens[row]] for row in rows],
            features=[f"f{column}" for column in columns],
            sheet={name: [column[row] for row in order] for name, column in sheet.items()},
        ),
        rows,
        columns,
    )


def _batches(rng: np.random.Generator, count: int) -> npt.NDArray[np.int64]:
    kind = rng.choice(["even", "drawn", "one", "own", "tiny"], p=[0.5, 0.3, 0.05, 0.05, 0.1])
    place = np.arange(count)
    if kind == "even":
        return place * int(rng.integers(2, 5)) // max(count, 1)
    if kind == "drawn":
        return rng.integers(int(rng.integers(2, 5)), size=count)
    return {"one": 0 * place, "own": place, "tiny": np.minimum(place, 1)}[str(kind)]


def _condition(rng: np.random.Generator, batches: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    kind = rng.choice(["crossed", "drawn", "batch", "one", "near"], p=[0.5, 0.3, 0.07, 0.03, 0.1])
    place = np.arange(len(batches))
    if kind == "crossed":
        return place % 2
    if kind == "drawn":
        return rng.integers(int(rng.integers(2, 4)), size=len(batches))
    near = np.where(place == 0, 1 - batches % 2, batches % 2)
    return {"batch": batches % 2, "one": 0 * batches, "near": near}[str(kind)]


def _labels(rng: np.random.Generator, codes: npt.NDArray[np.int64]) -> Column:
    """Names of levels; most are plain words."""
    kind = str(rng.choice(list(LABELS))) if rng.random() < ODD else "months"
    known = LABELS[kind]
    return [known[code] if code < len(known) else f"L{code}" for code in codes]


def _values(
    rng: np.random.Generator, count: int, width: int, batches: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], bool]:
    normal = rng.normal(size=(count, width)) + 0.7 * batches[:, None]
    odd = {
        "more counts": rng.poisson(80, size=(count, width)).astype(float),
        "counts": rng.negative_binomial(2, 0.02, size=(count, width)).astype(float),
        "few counts": rng.poisson(0.3, size=(count, width)).astype(float),
        "bounded": 1 / (1 + np.exp(-normal)),
        "intensities": np.round(np.exp(8 + normal)),
        "logs with zeros": np.where(rng.random((count, width)) < 0.4, 0.0, 8 + normal),
        "heavy tails": rng.standard_cauchy(size=(count, width)) ** 3,
        "constant": np.full((count, width), 3.25),
        "constant in a batch": np.where(batches[:, None] == 0, 1.0, normal),
        "huge": normal * 1e300,
        "tiny": normal * 1e-300,
        "denormal": normal * 5e-322,
        "mixed scales": normal * 10.0 ** rng.integers(-150, 150, size=width),
        "far from zero": normal + 1e12,
        "twins": np.repeat(normal[:, :1], width, axis=1),
        "batch alone": np.repeat(batches[:, None].astype(float), width, axis=1),
    }
    kind = str(rng.choice(list(odd))) if rng.random() < 3 * ODD else "normal"
    values = odd.get(kind, normal)
    gaps = rng.choice([0.0, 0.05, 0.5, 1.0], p=[0.86, 0.1, 0.03, 0.01])
    if gaps:
        values = np.where(rng.random(values.shape) < gaps, np.nan, values)
    if count and width and rng.random() < ODD / 2:
        values = values.copy()
        values[batches == batches[0], int(rng.integers(width))] = np.nan
    return values, kind == "normal"


def _names(rng: np.random.Generator, letter: str, count: int) -> list[str]:
    names = [f"{letter}{i}" for i in range(count)]
    if not count or rng.random() > ODD:
        return names
    place = int(rng.integers(count))
    odd = ["", " ", names[0], "NA", "1.0", "month", "id", "a,b", 'q"', "a\tb", "é", "x" * 2000]
    kind = rng.choice(["numbers", "zeros", "spaces", "made", "one"])
    if kind == "one":
        return [str(rng.choice(odd)) if i == place else one for i, one in enumerate(names)]
    forms = {"numbers": "{}", "zeros": "{:03d}", "spaces": " {} x ", "made": "X{}.a"}
    return [forms[str(kind)].format(i) for i in range(count)]


def _mismatched(rng: np.random.Generator, drawn: Drawn) -> Drawn:
    """Let the rows of the sheet be other ones than those of the matrix, now and then."""
    sheet = drawn.sheet
    if drawn.specimens and rng.random() < ODD / 2:
        kind = rng.choice(["fewer", "more", "none", "twice", "turned", "headless"])
        if kind == "fewer":
            sheet = {name: column[1:] for name, column in sheet.items()}
        elif kind == "more":
            sheet = {name: [*column, column[0]] for name, column in sheet.items()}
            sheet["id"] = [*sheet["id"][:-1], "another"]
        elif kind == "twice":
            sheet = {name: [*column, column[0]] for name, column in sheet.items()}
        elif kind == "none":
            sheet = {**sheet, "id": [f"other{i}" for i in range(len(sheet["id"]))]}
        elif kind == "turned":
            sheet = {name: column[::-1] for name, column in sheet.items()}
        else:
            sheet = {("" if name == "id" else name): column for name, column in sheet.items()}
    return replace(drawn, sheet=sheet)

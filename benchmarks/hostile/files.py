"""The forms in which a table reaches the disk, and the damage on the way."""

from __future__ import annotations

import csv
import gzip
import io
import warnings
from pathlib import Path

import numpy as np

from hostile.tables import Column, Drawn

TEXT = (".csv", ".tsv", ".txt", ".csv.gz")


def write(folder: Path, drawn: Drawn, rng: np.random.Generator) -> tuple[Path, Path, bool]:
    """Write the matrix and the sheet; give their paths, and whether both are whole."""
    form = str(rng.choice([*TEXT, ".parquet", ".h5ad", ".zarr"], p=_often(4, 3)))
    cells = drawn.cells if form in TEXT else {}
    turned = form in TEXT and rng.random() < 0.3
    matrix = folder / f"m{form}"
    if form in TEXT:
        _write_text(matrix, _rows(drawn, cells, turned), rng)
    else:
        _write_binary(matrix, drawn)
    form = str(rng.choice([*TEXT, ".parquet", ".xlsx"], p=_often(4, 2)))
    sheet = folder / f"s{form}"
    if form in TEXT:
        lengths = zip(*drawn.sheet.values(), strict=True)
        _write_text(sheet, [list(drawn.sheet), *map(list, lengths)], rng)
    elif form == ".xlsx":
        _write_workbook(sheet, drawn.sheet)
    else:
        _frame(drawn.sheet).to_parquet(sheet)
    damaged = [path for path in (matrix, sheet) if path.is_file() and rng.random() < 0.015]
    for path in damaged:
        _damage(path, rng)
    return matrix, sheet, not damaged


def write_plainly(made: tuple[Path, Path], drawn: Drawn) -> None:
    """Write both as plain text under given names."""
    rows = [list(drawn.sheet), *map(list, zip(*drawn.sheet.values(), strict=True))]
    for path, lines in zip(made, (_rows(drawn, {}, False), rows), strict=True):
        _write_text(path, lines)


def _often(texts: int, others: int) -> list[float]:
    """Text in four of five files: reading it is where most goes wrong, and quick."""
    return [0.8 / texts] * texts + [0.2 / others] * others


def _rows(drawn: Drawn, cells: dict[tuple[int, int], str], turned: bool) -> list[list[str]]:
    body = [
        [
            cells.get((row, column), "" if np.isnan(value) else repr(float(value)))
            for column, value in enumerate(line)
        ]
        for row, line in enumerate(drawn.values)
    ]
    rows = [["id", *drawn.features]]
    rows += [[name, *line] for name, line in zip(drawn.specimens, body, strict=True)]
    return [list(column) for column in zip(*rows, strict=True)] if turned else rows


def _write_text(path: Path, rows: list[list[str]], rng: np.random.Generator | None = None) -> None:
    stream = io.StringIO()
    delimiter = "," if ".csv" in path.name else "\t"
    csv.writer(stream, delimiter=delimiter, lineterminator="\n").writerows(rows)
    text, coding = stream.getvalue(), "utf-8"
    if rng is not None and rng.random() < 0.08:
        kind = rng.choice(["bom", "crlf", "blank", "trailing", "title", "comment", "utf-16"])
        if kind == "crlf":
            text = text.replace("\n", "\r\n")
        elif kind == "blank":
            text = text.replace("\n", "\n\n")
        elif kind == "trailing":
            text = text.replace("\n", delimiter + "\n") + delimiter + "\n"
        elif kind == "title":
            text = "Table 1\n" + text
        elif kind == "comment":
            text = "# made by a program\n" + text
        coding = {"bom": "utf-8-sig", "utf-16": "utf-16"}.get(str(kind), coding)
    data = text.encode(coding)
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def _write_binary(path: Path, drawn: Drawn) -> None:
    import anndata
    import pandas as pd

    if path.suffix == ".parquet":
        names = pd.Series(drawn.features)
        columns = names.where(~names.duplicated(), names + "'").tolist()
        frame = pd.DataFrame(drawn.values, columns=columns)
        if "id" not in columns:
            frame.insert(0, "id", drawn.specimens)
        frame.to_parquet(path)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        obs, var = pd.DataFrame(index=drawn.specimens), pd.DataFrame(index=drawn.features)
        made = anndata.AnnData(drawn.values, obs=obs, var=var)
        made.write_h5ad(path) if path.suffix == ".h5ad" else made.write_zarr(path)


def _write_workbook(path: Path, sheet: dict[str, Column]) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    page = book.active
    page.append(list(sheet))
    for row in zip(*sheet.values(), strict=True):
        page.append([_cell(entry) for entry in row])
    book.save(path)


def _cell(entry: str) -> str | float | None:
    try:
        number = float(entry)
    except ValueError:
        return entry or None
    return number if np.isfinite(number) else entry


def _frame(sheet: dict[str, Column]):
    import pandas as pd

    frame = pd.DataFrame({name: [_cell(one) for one in col] for name, col in sheet.items()})
    mixed = [name for name in frame if frame[name].map(type).nunique() > 1]
    return frame.astype(dict.fromkeys(mixed, "string"))


def _damage(path: Path, rng: np.random.Generator) -> None:
    """Cut a file, or change some of its bytes."""
    data = bytearray(path.read_bytes())
    if not data or rng.random() < 0.4:
        path.write_bytes(bytes(data[: int(rng.integers(len(data) + 1))]))
        return
    for place in rng.integers(len(data), size=int(rng.integers(1, 6))):
        data[place] = int(rng.integers(256))
    path.write_bytes(bytes(data))

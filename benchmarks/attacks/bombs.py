"""Small files that stand for a great deal: each is made here, none is kept."""

from __future__ import annotations

import gzip
import io
import json
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

SHEET = "id,month,drug\n" + "".join(f"s{i},{'ab'[i % 2]},{'xyz'[i % 3]}\n" for i in range(12))
MATRIX = "id,g1,g2,g3\n" + "".join(f"s{i},{i * 7 % 5},{i * 3 % 7},{i}.5\n" for i in range(12))
#: Unfolded 3.2 GB; above 4 GB our own reader refuses by itself.
_WIDE = 20_000


@dataclass(frozen=True)
class Bomb:
    """Files for a page, by field of its form, and what is then asked.

    Attributes
    ----------
    command : str
        The page.
    files : dict
        Name and bytes, by field.
    asked : dict
        The form.
    """

    command: str
    files: dict[str, tuple[str, bytes]]
    asked: dict[str, str]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(len(content) for _, content in self.files.values())


def bombs() -> dict[str, Bomb]:
    """All of them, by name."""
    asked = {"batch": "month", "keep": "drug", "permutations": "20"}
    layout = {"batches": "2", "balance": "drug"}
    sheet = ("s.csv", SHEET.encode())
    sheets = {
        "workbook with a stray cell": ("s.xlsx", stray_cell()),
        "workbook of far cells": ("s.xlsx", far_cells()),
        "workbook of padded entities": ("s.xlsx", padded_entities()),
        "sheet in a Parquet dictionary": ("s.parquet", parquet_strings()),
        "sheet of a million columns": ("s.csv.gz", gzip.compress(wide_sheet())),
        "sheet of one endless line": ("s.csv.gz", gzip.compress(b"id,month\n" + b"a" * 10**9)),
    }
    matrices = {
        "Parquet of one number": ("m.parquet", parquet_numbers()),
        "sparse h5ad": ("m.h5ad", sparse_h5ad()),
        "10x archive": ("m.zip", archive_of_10x()),
        "Zarr store without chunks": ("m.zip", empty_zarr()),
        "gzip of zeros": ("m.csv.gz", gzip.compress(b"id,g1\ns1," + b"0" * 10**9)),
        "gzip of a wide matrix": ("m.csv.gz", gzip.compress(wide_matrix())),
    }
    found = {name: Bomb("layout", {"sheet": file}, layout) for name, file in sheets.items()}
    found |= {
        f"{name}, with a matrix": Bomb(
            "diagnose", {"matrix": ("m.csv", MATRIX.encode()), "sheet": file}, asked
        )
        for name, file in sheets.items()
    }
    found |= {
        name: Bomb("diagnose", {"matrix": file, "sheet": sheet}, asked)
        for name, file in matrices.items()
    }
    deep = b'{"result":' + b"[" * 4_000_000
    return found | {"plan without end": Bomb("verify", {"plan": ("p.json", deep)}, {})}


def stray_cell() -> bytes:
    """The last cell of a worksheet is filled."""
    import openpyxl

    book = openpyxl.Workbook()
    _fill(book.active)
    book.active["XFD1048576"] = "x"
    return _saved(book.save)


def far_cells() -> bytes:
    """Many rows, each with a cell at its far end."""
    import openpyxl

    book = openpyxl.Workbook()
    _fill(book.active)
    for row in range(20, 1_000_000, 500):
        book.active.cell(row, 16_000, "x")
    return _saved(book.save)


def _fill(page: object) -> None:
    for line in SHEET.splitlines():
        page.append(line.split(","))  # type: ignore[attr-defined]


def padded_entities() -> bytes:
    """Short names in the text stand for long ones: below what parsers take for an attack."""
    import openpyxl

    book = openpyxl.Workbook()
    _fill(book.active)
    source = io.BytesIO(_saved(book.save))
    padded = '<!DOCTYPE sst [<!ENTITY a "' + "A" * 100_000 + '">]>'
    cells = "".join("<si><t>&a;&a;&a;&a;&a;&a;&a;&a;</t></si>" for _ in range(2000))
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    target = io.BytesIO()
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "xl/sharedStrings.xml":
                content = f'<?xml version="1.0"?>{padded}<sst {space}>{cells}</sst>'.encode()
            new.writestr(name, content)
    return target.getvalue()


def parquet_strings() -> bytes:
    """Twenty million rows of one word."""
    import pyarrow as pa
    from pyarrow import parquet

    rows = 20_000_000
    indices = pa.array(np.zeros(rows, dtype=np.int32))
    columns = {n: pa.DictionaryArray.from_arrays(indices, ["x" * 40]) for n in ("id", "month")}
    return _saved(lambda path: parquet.write_table(pa.table(columns), path))


def parquet_numbers() -> bytes:
    """Two hundred million equal numbers."""
    frame = pd.DataFrame(np.zeros((100, _WIDE * 100)).T[:, :100], copy=False)
    frame.columns = [f"g{i}" for i in range(100)]
    return _saved(lambda path: frame.to_parquet(path, row_group_size=2_000_000))


def sparse_h5ad() -> bytes:
    """Cells and genes, hardly a count."""
    import anndata
    from scipy.sparse import csr_matrix

    names = [f"s{i}" for i in range(_WIDE)]
    obs = pd.DataFrame({"month": ["a", "b"] * (_WIDE // 2)}, index=names)
    var = pd.DataFrame(index=[f"g{i}" for i in range(_WIDE)])
    data = anndata.AnnData(csr_matrix((_WIDE, _WIDE), dtype=np.float32), obs=obs, var=var)
    return _saved(lambda path: data.write_h5ad(path, compression="gzip"), ".h5ad")


def archive_of_10x() -> bytes:
    """The same as 10x Genomics writes it."""
    target = io.BytesIO()
    names = "".join(f"s{i}\n" for i in range(_WIDE))
    head = "%%MatrixMarket matrix coordinate integer general\n"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("x/matrix.mtx", f"{head}{_WIDE} {_WIDE} 1\n1 1 1\n")
        packed.writestr("x/barcodes.tsv", names)
        packed.writestr("x/features.tsv", names)
    return target.getvalue()


def empty_zarr() -> bytes:
    """An array that is nothing but its shape."""
    import anndata

    names = [f"s{i}" for i in range(12)]
    small = anndata.AnnData(np.ones((12, 3)), obs=pd.DataFrame(index=names))
    target = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        store = Path(folder, "x.zarr")
        small.write_zarr(store)
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
            for path in sorted(store.rglob("*")):
                if not path.is_file():
                    continue
                content = path.read_bytes()
                if path.parent.name == "X" and path.name in (".zarray", "zarr.json"):
                    document = json.loads(content)
                    document["shape"] = [12, 20_000_000]
                    content = json.dumps(document).encode()
                packed.writestr(str(path.relative_to(folder)), content)
    return target.getvalue()


def wide_sheet() -> bytes:
    """A million columns, three rows."""
    head = "id,month," + ",".join(f"c{i}" for i in range(1_000_000))
    return "\n".join([head, *(f"s{i},a" + ",1" * 1_000_000 for i in range(3))]).encode()


def wide_matrix() -> bytes:
    """Twelve rows of three million cells."""
    line = ",0" * 3_000_000
    head = "id" + "".join(f",g{i}" for i in range(3_000_000))
    return "\n".join([head, *(f"s{i}{line}" for i in range(12))]).encode()


def _saved(write: Callable[[Path], object], suffix: str = "") -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"x{suffix}")
        write(path)
        return path.read_bytes()

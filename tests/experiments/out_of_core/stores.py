"""Small matrices in every form that is read in chunks, and how to read a result back."""

from __future__ import annotations

import warnings
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import zarr
from scipy import sparse

SPECIMENS, FEATURES = 230, 70
FORMS = (
    "dense.h5ad",
    "packed.h5ad",
    "csr.h5ad",
    "dense.zarr",
    "third.zarr",
    "csr.zarr",
    "plain.zarr",
    "sharded.zarr",
)


def values(dtype="float64", seed=0):
    """Give observations with batch effects in mean and scale, a drug effect and many zeros."""
    rng = np.random.default_rng(seed)
    month, drug = np.arange(SPECIMENS) % 4, (np.arange(SPECIMENS) % 7 < 3).astype(float)
    found = rng.normal(size=(SPECIMENS, FEATURES)) * (1 + 0.3 * month)[:, None]
    found += rng.normal(size=(4, FEATURES))[month] + drug[:, None] * rng.normal(size=FEATURES)
    found[rng.random(found.shape) < 0.2] = 0.0
    return found.astype(dtype)


def sheet():
    """Give the annotation of the specimens; age is a number."""
    number = np.arange(SPECIMENS)
    return pd.DataFrame(
        {
            "month": [f"m{i % 4}" for i in number],
            "drug": np.where(number % 7 < 3, "yes", "no"),
            "age": 20 + (number * 37) % 41,
        },
        index=[f"s{i}" for i in number],
    )


def make(folder: Path, name: str, matrix: np.ndarray) -> Path:
    """Write a matrix in one form, and its sheet."""
    path = folder / name
    sheet().to_csv(folder / "sheet.csv", index_label="id")
    form = path.stem
    if form in ("plain", "sharded"):
        options = (
            {"chunks": (25, 40)} if form == "plain" else {"chunks": (5, 35), "shards": (25, 70)}
        )
        array = zarr.create_array(path, shape=matrix.shape, dtype=matrix.dtype, **options)
        array[:] = matrix
        return path
    held = sparse.csr_matrix(matrix) if form == "csr" else matrix
    variables = pd.DataFrame({"long": "x"}, index=[f"g{j}" for j in range(matrix.shape[1])])
    data = anndata.AnnData(held, obs=sheet(), var=variables, obsm={"pca": matrix[:, :2]})
    if path.suffix == ".zarr":
        with (
            warnings.catch_warnings(),
            anndata.settings.override(zarr_write_format=3 if form == "third" else 2),
        ):
            warnings.simplefilter("ignore")
            data.write_zarr(path, chunks=(30, 70) if form == "third" else None)
    elif form == "packed":
        data.write_h5ad(path, compression="gzip")
    else:
        data.write_h5ad(path)
    return path


def result(path: Path) -> np.ndarray:
    """Read a corrected matrix back, as a user would."""
    if path.suffix == ".h5ad":
        return anndata.read_h5ad(path).layers["batchsense"]
    if path.stem.endswith(("plain", "sharded")):
        return zarr.open_array(path, mode="r")[:]
    return anndata.read_zarr(path).layers["batchsense"]

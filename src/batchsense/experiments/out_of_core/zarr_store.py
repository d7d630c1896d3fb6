"""Results in Zarr stores: a plain array, or a copy of an AnnData store with a further layer."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from threading import Event
from typing import Any

from batchsense.experiments.out_of_core.annotated_file import copy_file, group_in, unfinished
from batchsense.experiments.out_of_core.result_array import ResultArray, result_rows
from batchsense.experiments.tables.elements import ARRAY
from batchsense.storage.atomic import sync_one
from batchsense.storage.marks import mark
from batchsense.storage.matrices.location import COMPLETE, MARK, MatrixLocation, open_zarr

#: The files in which Zarr keeps metadata, in both of its formats.
_METADATA = ("zarr.json", ".zattrs", ".zgroup", ".zarray", ".zmetadata")


def copy_original(location: MatrixLocation, work: Path, with_matrix: bool, stop: Event) -> None:
    """As for a file: copy an AnnData store, or all of it but its matrix; no plain array."""
    shutil.rmtree(work, ignore_errors=True)
    if not location.inside:
        return
    source = Path(location.path)
    old = {source / "layers" / MARK, source / "uns" / MARK}
    if not with_matrix:
        old.add(source / location.inside)

    def unwanted(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if Path(folder, name) in old]

    def copy(one: str, other: str) -> None:
        if not stop.is_set():
            copy_file(Path(one), Path(other), stop)

    shutil.copytree(source, work, ignore=unwanted, copy_function=copy)


def reserve(location: MatrixLocation, work: Path, provenance: Mapping[str, Any]) -> ResultArray:
    """As for a file: make the array, with the chunks and compression of the input."""
    import zarr

    if not location.inside:
        array = _array_like(location, open_zarr(location.path), str(work), None)
        array.attrs[MARK] = {**unfinished(provenance), COMPLETE: False}
        inside = ""
    else:
        from anndata.io import write_elem

        root = zarr.open_group(work, mode="r+", use_consolidated=False)
        root.attrs[MARK] = {COMPLETE: False}
        layers, notes = group_in(root, "layers"), group_in(root, "uns")
        with warnings.catch_warnings():  # how future versions will divide arrays into files
            warnings.filterwarnings("ignore", "zarr v3 autosharding")
            write_elem(notes, MARK, unfinished(provenance))
        element = open_zarr(location.path)[location.inside]
        array = _array_like(location, element, layers.store, f"layers/{MARK}")
        array.attrs.update(ARRAY)
        inside = f"layers/{MARK}"
        _consolidate(work)
    return ResultArray(
        str(work),
        "zarr",
        inside,
        0,
        0,
        location.shape,
        str(location.working),
        result_rows(location),
    )


def mark_complete(result: ResultArray) -> None:
    """Say in the store that it is complete, after everything is on the disk."""
    import zarr

    work = Path(result.path)
    _sync_tree(work)
    if result.inside:
        root: Any = zarr.open_group(work, mode="r+", use_consolidated=False)
        root[f"uns/{MARK}/{COMPLETE}"][...] = True
        root.attrs[MARK] = {COMPLETE: True}
        _consolidate(work)
    else:
        array: Any = zarr.open_array(work, mode="r+")
        array.attrs[MARK] = {**array.attrs[MARK], COMPLETE: True}
    mark(work)
    _sync_tree(work, only_metadata=True)


def _array_like(location: MatrixLocation, element: Any, store: Any, name: str | None) -> Any:
    import zarr

    options: dict[str, Any] = {"zarr_format": element.metadata.zarr_format}
    if location.form == "dense":
        options |= {
            "chunks": element.chunks,
            "shards": element.shards,
            "compressors": element.compressors or None,
        }
    else:
        options["chunks"] = (result_rows(location), location.shape[1])
    return zarr.create_array(
        store, name=name, shape=location.shape, dtype=location.working, fill_value=0, **options
    )


def _consolidate(work: Path) -> None:
    """Renew the copy of all metadata at the top, if the store has one; readers prefer it."""
    import zarr

    if zarr.open_group(work, mode="r").metadata.consolidated_metadata is None:
        return
    with warnings.catch_warnings():  # not yet part of the Zarr 3 standard, and AnnData uses it
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(work)


def _sync_tree(folder: Path, only_metadata: bool = False) -> None:
    for path in folder.rglob("*"):
        if path.is_dir() or path.name in _METADATA or not only_metadata:
            sync_one(path)
    sync_one(folder)

"""Results in Zarr stores: a plain array, or a copy of an AnnData store with a further layer."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

from batchsense.experiments.out_of_core.annotated_file import copy_file
from batchsense.experiments.out_of_core.location import COMPLETE, MARK, Place, open_zarr
from batchsense.experiments.out_of_core.result_array import Slot, result_rows
from batchsense.storage.atomic import sync_one
from batchsense.storage.marks import mark

_FOLDER = {"encoding-type": "dict", "encoding-version": "0.1.0"}
_ARRAY = {"encoding-type": "array", "encoding-version": "0.2.0"}
_METADATA = ("zarr.json", ".zattrs", ".zgroup", ".zarray", ".zmetadata")


def copy_original(place: Place, work: Path, with_matrix: bool, stop: Event) -> None:
    """Copy an AnnData store, or all of it but its matrix; nothing for a plain array.

    Parameters
    ----------
    place : Place
        The input.
    work : path
        The new store.
    with_matrix : bool
        Whether the original numbers are copied too.
    stop : Event
        Set by who no longer waits for the end.
    """
    shutil.rmtree(work, ignore_errors=True)
    if not place.inside:
        return
    source = Path(place.path)
    old = {source / "layers" / MARK, source / "uns" / MARK}
    if not with_matrix:
        old.add(source / place.inside)

    def unwanted(folder: str, names: list[str]) -> list[str]:
        """Leave out an older result."""
        return [name for name in names if Path(folder, name) in old]

    def copy(one: str, other: str) -> None:
        """Copy a file, or nothing more after the stop."""
        if not stop.is_set():
            copy_file(Path(one), Path(other), stop)

    shutil.copytree(source, work, ignore=unwanted, copy_function=copy)


def reserve(place: Place, work: Path, provenance: Mapping[str, Any]) -> Slot:
    """Make the array of the result, with the chunks and compression of the input.

    Parameters
    ----------
    place : Place
        The input.
    work : path
        The copy.
    provenance : mapping
        What was done: text, numbers and lists of text by plain names.

    Returns
    -------
    Slot
        Where the numbers go.
    """
    import zarr

    known = {key: value for key, value in provenance.items() if value not in ([], None)}
    if not place.inside:
        array = _array_like(place, open_zarr(place.path), str(work), None)
        array.attrs[MARK] = {**known, COMPLETE: False}
        inside = ""
    else:
        from anndata.io import write_elem

        root = zarr.open_group(work, mode="r+", use_consolidated=False)
        root.attrs[MARK] = {COMPLETE: False}
        layers, notes = _folder(root, "layers"), _folder(root, "uns")
        with warnings.catch_warnings():  # how future versions will divide arrays into files
            warnings.filterwarnings("ignore", "zarr v3 autosharding")
            write_elem(notes, MARK, {**known, COMPLETE: np.bool_(False)})
        element = open_zarr(place.path)[place.inside]
        array = _array_like(place, element, layers.store, f"layers/{MARK}")
        array.attrs.update(_ARRAY)
        inside = f"layers/{MARK}"
        _consolidate(work)
    return Slot(
        str(work), "zarr", inside, 0, 0, place.shape, str(place.working), result_rows(place)
    )


def mark_complete(slot: Slot) -> None:
    """Say in the store that it is complete, after everything is on the disk."""
    import zarr

    work = Path(slot.path)
    _sync_tree(work)
    if slot.inside:
        root: Any = zarr.open_group(work, mode="r+", use_consolidated=False)
        root[f"uns/{MARK}/{COMPLETE}"][...] = True
        root.attrs[MARK] = {COMPLETE: True}
        _consolidate(work)
    else:
        array: Any = zarr.open_array(work, mode="r+")
        array.attrs[MARK] = {**array.attrs[MARK], COMPLETE: True}
    mark(work)
    _sync_tree(work, only_metadata=True)


def _array_like(place: Place, element: Any, store: Any, name: str | None) -> Any:
    """Make an array with the layout of another one; of whole rows where that is sparse."""
    import zarr

    options: dict[str, Any] = {"zarr_format": element.metadata.zarr_format}
    if place.form == "dense":
        options |= {
            "chunks": element.chunks,
            "shards": element.shards,
            "compressors": element.compressors or None,
        }
    else:
        options["chunks"] = (result_rows(place), place.shape[1])
    return zarr.create_array(
        store, name=name, shape=place.shape, dtype=place.working, fill_value=0, **options
    )


def _folder(root: Any, name: str) -> Any:
    """Give a group of an AnnData store; make it if it is missing."""
    if name not in root:
        root.create_group(name).attrs.update(_FOLDER)
    return root[name]


def _consolidate(work: Path) -> None:
    """Renew the copy of all metadata at the top, if the store has one; readers prefer it."""
    import zarr

    if zarr.open_group(work, mode="r").metadata.consolidated_metadata is None:
        return
    with warnings.catch_warnings():  # not yet part of the Zarr 3 standard, and AnnData uses it
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(work)


def _sync_tree(folder: Path, only_metadata: bool = False) -> None:
    """Return when all files of a store, and the entries of its folders, are on the disk itself."""
    for path in folder.rglob("*"):
        if path.is_dir() or path.name in _METADATA or not only_metadata:
            sync_one(path)
    sync_one(folder)

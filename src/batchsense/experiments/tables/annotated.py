"""Matrices as AnnData files or stores (.h5ad, .zarr): ``X`` stays as it is, results are a layer."""

from __future__ import annotations

import math
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from batchsense.arrays import Matrix
from batchsense.errors import DataError, MissingExtraError, listed
from batchsense.experiments.tables.arrow.parquet import DECLARED, sheet_columns, sheet_of
from batchsense.experiments.tables.elements import (
    FOLDER,
    Frame,
    read_frame,
    read_values,
    write_folder,
    write_values,
)
from batchsense.experiments.tables.matrix import (
    RawMatrix,
    check_ids,
    dense,
    free_name,
    refuse_packed,
    refuse_unfolding,
    stored,
    suffix_of,
)
from batchsense.experiments.tables.table import Column
from batchsense.storage.matrices.location import refuse_lost_chunks

if TYPE_CHECKING:
    from anndata import AnnData
    from pandas import DataFrame

#: The layer that holds the result, and the key under which its provenance is kept.
LAYER = "batchsense"
#: The entry of the provenance that is true when everything else has been written.
COMPLETE = "complete"
#: Kinds of files.
SUFFIXES = (".h5ad", ".zarr")


def read(
    path: str | Path, densify: bool = False, layer: str | None = None
) -> tuple[RawMatrix, dict[str, Column], frozenset[str]]:
    """Read ``X`` or a layer, the sheet in ``obs``, and which of its columns are categorical.

    Observations lie in rows; the index of ``obs`` is the first column of the sheet, ``id``.

    Raises
    ------
    DataError
        The file cannot be read, has no ``X`` or no such layer, is a result that was not finished,
        or the matrix is sparse and too large to unfold.
    MissingExtraError
        anndata is not installed.
    """
    where = str(path)
    with _opened(path, "r") as root:
        # Before it becomes part of a path inside the file: a name may hold slashes and dots.
        if layer is not None:
            _check_layer(layer, list(root["layers"]) if "layers" in root else [], where)
        inside = "X" if layer is None else f"layers/{layer}"
        _refuse_unfinished(root, where, inside)
        needed = [root[name] for name in ("obs", "var", inside) if name in root]
        sizes = [_sizes(node) for node in needed]
        size = sum(stored_bytes for _, stored_bytes in sizes)
        refuse_packed((sum(unfolded for unfolded, _ in sizes) // 8,), path, densify, size)
        with _told_plainly(path):
            data = _parts(root, inside)
    if data is None:
        return unpack(load(path), where, densify, layer)
    obs, var, found = data
    if found.ndim != 2 or found.shape != (len(obs.index), len(var.index)):
        raise DataError(
            f"the matrix has the shape {found.shape}, and there are {len(obs.index)} ids of rows "
            f"and {len(var.index)} of columns",
            where=where,
        )
    values, dtype = dense(found, where, densify, copy=False)
    matrix = _checked(RawMatrix(values, obs.index, var.index, "id", dtype), where)
    return matrix, *sheet_of_frame(obs, where)


def _parts(root: Any, inside: str) -> tuple[Frame, Frame, Any] | None:
    """What is needed of a file, and nothing else; None where its layout is an old one."""
    if any(name not in root for name in ("obs", "var", inside)):
        return None
    obs, var = frame_of(root["obs"]), frame_of(root["var"])
    found = read_values(root[inside])
    if found is None:
        from anndata.io import read_elem

        found = read_elem(root[inside])
    return None if obs is None or var is None else (obs, var, found)


def frame_of(node: Any) -> Frame | None:
    """A data frame of a file or store, by anndata where it must be; None of an old layout."""
    plain = read_frame(node)
    if plain is not None:
        return plain
    from anndata.io import read_elem
    from pandas import DataFrame

    frame = read_elem(node)
    if not isinstance(frame, DataFrame):
        return None
    columns = {str(name): list(frame[name]) for name in frame.columns}
    declared = frozenset(name for name in columns if str(frame.dtypes[name]) in DECLARED)
    return Frame(tuple(map(str, frame.index)), columns, declared)


def _sizes(node: Any) -> tuple[int, int]:
    """Bytes of the arrays in a file or store: unfolded, and as they are stored."""
    if hasattr(node, "shape"):
        unfolded = math.prod(node.shape) * node.dtype.itemsize
        stored_bytes = node.id.get_storage_size() if hasattr(node, "id") else node.nbytes_stored()
        return unfolded, stored_bytes
    parts = [_sizes(node[name]) for name in node]
    return sum(unfolded for unfolded, _ in parts), sum(size for _, size in parts)


def outline(path: str | Path) -> tuple[dict[str, Column], tuple[str, ...]]:
    """Read the sheet, as :func:`read` does, and the names of the layers, but no number."""
    with _opened(path, "r") as root, _told_plainly(path):
        layers = tuple(root["layers"]) if "layers" in root else ()
        frame = frame_of(root["obs"])
    if frame is None:  # as files were written long ago
        return _obs(load(path).obs, str(path))[0], layers
    return sheet_of_frame(frame, str(path))[0], layers


def sheet_of_frame(frame: Frame, where: str) -> tuple[dict[str, Column], frozenset[str]]:
    """Its columns as a sheet, the index first, and which are categorical or boolean."""
    headings = [free_name("id", frame.columns), *frame.columns]
    declared = [name in frame.declared for name in headings]
    return sheet_columns(headings, [frame.index, *frame.columns.values()], declared, where)


def _obs(frame: DataFrame, where: str) -> tuple[dict[str, Column], frozenset[str]]:
    return sheet_of(frame.reset_index(names=free_name("id", map(str, frame.columns))), where)


def unpack(
    data: AnnData, where: str, densify: bool = False, layer: str | None = None
) -> tuple[RawMatrix, dict[str, Column], frozenset[str]]:
    """Take an AnnData object apart as :func:`read` does a file; ``where`` names it in messages."""
    if layer is not None:
        _check_layer(layer, list(data.layers), where)
    found = data.X if layer is None else data.layers[layer]
    if found is None:
        has = f"; its layers, for --layer, are {listed(data.layers)}" if data.layers else ""
        raise DataError(f"the file has no X{has}", where=where)
    if hasattr(found, "to_memory"):  # sparse, and still on disk
        refuse_unfolding(found.shape, where, densify)
        found = found.to_memory()
    values, dtype = dense(found, where, densify)
    matrix = RawMatrix(values, tuple(data.obs_names), tuple(data.var_names), "id", dtype)
    return _checked(matrix, where), *_obs(data.obs, where)


def _checked(matrix: RawMatrix, where: str) -> RawMatrix:
    check_ids(matrix.row_ids, "row", where)
    check_ids(matrix.column_ids, "column", where)
    return matrix


def _check_layer(layer: str, known: list[str], where: str) -> None:
    if layer not in known:
        there = f"there are {listed(map(repr, known))}" if known else "it has none"
        raise DataError(f"the file has no layer {layer!r}; {there}", where=where)


def write(
    path: str | Path, original: str | Path, matrix: RawMatrix, provenance: Mapping[str, Any]
) -> None:
    """Copy an AnnData file or store, with a result in ``layers["batchsense"]``.

    ``X`` and everything else are copied as they are. The provenance, for ``uns["batchsense"]``, is
    text, numbers and lists of text by plain names: AnnData stores no lists of mappings, and no
    names with a slash.
    """
    if suffix_of(original) == ".zarr":
        shutil.copytree(original, path)
    else:
        shutil.copyfile(original, path)
    known = {key: value for key, value in provenance.items() if value not in ([], None)}
    with _opened(path, "r+") as root:
        for name in ("layers", "uns"):
            if name not in root:
                root.create_group(name).attrs.update(FOLDER)
            elif LAYER in root[name]:
                del root[name][LAYER]
        notes, values = {**known, COMPLETE: False}, stored(matrix.values, matrix.dtype)
        if Path(path).is_dir():
            _write_elements(root, notes, values)
        else:
            write_folder(root["uns"], LAYER, notes)
            write_values(root["layers"], LAYER, values)
        root[f"uns/{LAYER}/{COMPLETE}"][...] = True
        if Path(path).is_dir():
            root.attrs[LAYER] = {COMPLETE: True}
    if Path(path).is_dir():
        _consolidate(Path(path))


def _write_elements(store: Any, notes: Mapping[str, Any], values: Matrix) -> None:
    from anndata.io import write_elem

    with warnings.catch_warnings():  # how future versions will divide arrays into files
        warnings.filterwarnings("ignore", "zarr v3 autosharding")
        write_elem(store["uns"], LAYER, {**notes, COMPLETE: np.bool_(False)})
        write_elem(store["layers"], LAYER, values)


@contextmanager
def _opened(path: str | Path, mode: Literal["r", "r+"]) -> Iterator[Any]:
    # The file or store itself, without its AnnData shape: X is not read.
    target = Path(path)
    if not target.exists():
        raise DataError("cannot be read: no such file", where=str(path))
    with _told_plainly(path):
        if target.is_dir():
            import zarr

            root: Any = zarr.open_group(target, mode=mode, use_consolidated=False)
        else:
            import h5py

            root = h5py.File(target, mode)
    try:
        yield root
    finally:
        if hasattr(root, "close"):
            root.close()


@contextmanager
def _told_plainly(path: str | Path) -> Iterator[None]:
    try:
        yield
    except ImportError:
        raise MissingExtraError("AnnData files", "experiments") from None
    except OSError as error:
        raise DataError(f"not an AnnData file ({error})", where=str(path)) from None
    # What h5py, zarr and anndata raise at files of another kind, by what they stumble over first.
    except (LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise DataError(f"not an AnnData file: {error}", where=str(path)) from None


def _refuse_unfinished(root: Any, where: str, inside: str) -> None:
    """Refuse a result that was not written to its end, and a store that lost some of its parts."""
    flag = f"uns/{LAYER}/{COMPLETE}"
    mark = root.attrs.get(LAYER)
    unfinished = isinstance(mark, dict) and not mark.get(COMPLETE)
    if unfinished or (flag in root and not bool(root[flag][()])):
        raise DataError("an unfinished result; run the command that writes it again", where=where)
    data = root.get(inside)
    if data is None or hasattr(data, "shape") or not Path(where).is_dir():
        return
    refuse_lost_chunks(data["data"], where)


def load(path: str | Path, backed: Literal["r"] | None = None) -> AnnData:
    """Load the object of a file or store; with ``backed`` the ``X`` of a file stays on disk."""
    with _told_plainly(path), warnings.catch_warnings():
        from anndata import read_h5ad, read_zarr

        # Ids that occur twice are refused later, by name.
        warnings.filterwarnings("ignore", ".*names are not unique")
        return read_zarr(path) if Path(path).is_dir() else read_h5ad(path, backed)


def _consolidate(store: Path) -> None:
    """Renew the copy of all metadata at the top, if the store has one: readers prefer it."""
    import zarr

    if zarr.open_group(store, mode="r").metadata.consolidated_metadata is None:
        return
    with warnings.catch_warnings():  # not yet part of the Zarr 3 standard, and AnnData uses it
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(store)

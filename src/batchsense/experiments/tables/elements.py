"""Elements of .h5ad files in today's layout, read and written without loading anndata.

anndata takes longer to load than a file of 80 MB to read, correct and write. What is laid out in
another way than its versions from 0.8 on write is left to it: then the readers return None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Matrix

#: How AnnData marks elements, in files and stores alike.
FOLDER = {"encoding-type": "dict", "encoding-version": "0.1.0"}
ARRAY = {"encoding-type": "array", "encoding-version": "0.2.0"}
_FRAME = {"encoding-type": "dataframe", "encoding-version": "0.2.0"}
_TEXTS = {"encoding-type": "string-array", "encoding-version": "0.2.0"}
_TEXT = {"encoding-type": "string", "encoding-version": "0.2.0"}
_NUMBER = {"encoding-type": "numeric-scalar", "encoding-version": "0.2.0"}
_CATEGORICAL = {"encoding-type": "categorical", "encoding-version": "0.2.0"}
_NULLABLE = ("nullable-integer", "nullable-boolean", "nullable-string-array")
_SPARSE = ("csr_matrix", "csc_matrix")


@dataclass(frozen=True, slots=True)
class Frame:
    """A data frame of a file: its index, and its columns as plain Python values, None if missing.

    Attributes
    ----------
    index : tuple of str
    columns : dict of str to list
        In the order in which the file has them.
    declared : frozenset of str
        Columns that the file declares to be categories or truth values.
    """

    index: tuple[str, ...]
    columns: dict[str, list[Any]]
    declared: frozenset[str]


def read_frame(node: Any) -> Frame | None:
    """Read a data frame of a file; None of a store, or where a part of it has another layout."""
    if not hasattr(node, "id") or not _marked(node, _FRAME):
        return None
    names = [str(name) for name in node.attrs["column-order"]]
    index = node[node.attrs["_index"]]
    if not _marked(index, _TEXTS):
        return None
    columns = {}
    for name in names:
        entries = _column(node[name])
        if entries is None:
            return None
        columns[name] = entries
    declared = frozenset(name for name in names if _is_declared(node[name]))
    return Frame(tuple(index.asstr()[()]), columns, declared)


def _column(node: Any) -> list[Any] | None:
    if _marked(node, _TEXTS):
        return list(node.asstr()[()])
    if _marked(node, ARRAY):
        return list(node[()].tolist()) if node.ndim == 1 else None
    if _marked(node, _CATEGORICAL):
        labels = _column(node["categories"])
        if labels is None:
            return None
        labels.append(None)  # the code -1
        return [labels[code] for code in node["codes"][()]]
    if node.attrs.get("encoding-type") in _NULLABLE:
        values, missing = node["values"], node["mask"][()]
        given = values.asstr()[()] if values.dtype.kind == "O" else values[()].tolist()
        return [None if gone else one for one, gone in zip(given, missing, strict=True)]
    return None


def _is_declared(node: Any) -> bool:
    kind = node.attrs["encoding-type"]
    return kind in ("categorical", "nullable-boolean") or (kind == "array" and node.dtype == bool)


def read_values(node: Any) -> Any | None:
    """Read a matrix of a file, dense or sparse; None of a store or another layout."""
    if not hasattr(node, "id"):
        return None
    if _marked(node, ARRAY):
        return node[()]
    kind = node.attrs.get("encoding-type")
    if kind not in _SPARSE or node.attrs.get("encoding-version") != "0.1.0":
        return None
    from scipy import sparse

    parts = tuple(node[name][()] for name in ("data", "indices", "indptr"))
    made: Any = getattr(sparse, kind)(parts, shape=tuple(node.attrs["shape"]))
    return made


def _marked(node: Any, marks: Mapping[str, str]) -> bool:
    return all(node.attrs.get(name) == mark for name, mark in marks.items())


def write_folder(parent: Any, name: str, entries: Mapping[str, Any]) -> None:
    """Write text, numbers and lists of them under plain names, in place of what was there."""
    import h5py

    if name in parent:
        del parent[name]
    folder = parent.create_group(name)
    folder.attrs.update(FOLDER)
    for key, entry in entries.items():
        if isinstance(entry, Mapping):
            write_folder(folder, key, entry)
            continue
        values = np.asarray(entry)
        text = values.dtype.kind == "U"
        kind = h5py.string_dtype() if text else values.dtype
        folder.create_dataset(key, data=values.astype(object) if text else values, dtype=kind)
        marks = (_TEXT if text else _NUMBER) if not values.ndim else (_TEXTS if text else ARRAY)
        folder[key].attrs.update(marks)


def write_values(parent: Any, name: str, values: Matrix | npt.NDArray[Any]) -> None:
    """Write a dense matrix in place of what was there."""
    if name in parent:
        del parent[name]
    parent.create_dataset(name, data=values).attrs.update(ARRAY)

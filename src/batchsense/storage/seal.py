"""A seal on what is kept for later runs: what was changed or damaged meanwhile is not taken up.

A number that was changed gives no error, only another answer. So files of ours carry a hash of what
they hold; reading asks it first. It tells accidents and edits, not forgers.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

Arrays = dict[str, npt.NDArray[Any]]

#: The name of the seal among what it seals.
SEAL = "seal"


class BrokenSealError(Exception):
    """What a file holds is not what was written to it."""


def write_arrays(stream: IO[bytes], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write an archive of named arrays that :func:`read_arrays` knows again."""
    seal = np.frombuffer(_hash_of_arrays(arrays).encode(), dtype=np.uint8)
    np.savez(stream, **arrays, **{SEAL: seal})  # type: ignore[arg-type]


def read_arrays(path: str | Path) -> tuple[Arrays, bool]:
    """Read an archive of named arrays, and tell whether it was sealed.

    Raises
    ------
    BrokenSealError
        It is no such archive, or not as it was written.
    OSError
        It cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as stream:
    ...     write_arrays(stream, {"sums": np.ones(2)})
    ...     stream.flush()
    ...     arrays, known = read_arrays(stream.name)
    >>> arrays, known
    ({'sums': array([1., 1.])}, True)
    """
    try:
        # Opened here: where it is no archive, numpy leaves a file that it opened to chance.
        with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays: Arrays = dict(archive)
    except OSError:
        raise
    except (ValueError, TypeError, AttributeError, EOFError, KeyError, RuntimeError) as error:
        raise BrokenSealError(str(error)) from None
    except (zipfile.BadZipFile, zlib.error, SyntaxError, MemoryError) as error:
        raise BrokenSealError(str(error)) from None
    seal = arrays.pop(SEAL, None)
    if seal is not None and seal.tobytes() != _hash_of_arrays(arrays).encode():
        raise BrokenSealError("the numbers are not those that were written")
    return arrays, seal is not None


def sealed(document: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON document with its seal.

    Examples
    --------
    >>> kept = sealed({"steps": 120.0})
    >>> unsealed(kept)
    {'steps': 120.0}
    >>> unsealed({**kept, "steps": 12.0})
    Traceback (most recent call last):
    batchsense.storage.seal.BrokenSealError: not as it was written
    """
    return {**document, SEAL: _hash_of_document(document)}


def unsealed(document: Any) -> dict[str, Any]:
    """What a sealed document holds.

    Raises
    ------
    BrokenSealError
        It has no seal, or another one.
    """
    if not isinstance(document, dict):
        raise BrokenSealError("not a document")
    held = {name: part for name, part in document.items() if name != SEAL}
    if document.get(SEAL) != _hash_of_document(held):
        raise BrokenSealError("not as it was written")
    return held


def _hash_of_document(document: Mapping[str, Any]) -> str:
    text = json.dumps(document, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _hash_of_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {arrays[name].shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()

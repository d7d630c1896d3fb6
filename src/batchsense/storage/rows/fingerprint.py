"""Whether a file is still the one that was looked at: at once by its state, later by its content.

A hash of everything would read a table larger than memory once more. So two marks: while a process
runs, size and time of the last change; for a later run, perhaps on another machine, the sizes and a
hash of pieces spread over the files.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from batchsense.errors import DataError

#: Pieces that are hashed, and their bytes: 1 MiB in all, wherever a file was cut or written anew.
_PIECES, _PIECE = 256, 4096
#: Files of a folder whose state is asked each time; a store may have a million.
_CHILDREN = 100


@dataclass(frozen=True, slots=True)
class Stamp:
    """The state of a file, or of all files of a folder, when it was looked at.

    Attributes
    ----------
    path : str
        The file or folder.
    state : tuple of int
        Size and time of the last change of each file, in nanoseconds.
    """

    path: str
    state: tuple[int, ...]

    @classmethod
    def of(cls, path: str | Path) -> Stamp:
        """Look at a file; of a folder at its own state and that of what lies in it directly.

        Raises
        ------
        DataError
            It cannot be looked at.
        """
        return cls(str(path), _state(Path(path)))

    def check(self) -> None:
        """Refuse a file that was changed since.

        Raises
        ------
        DataError
            It was changed, replaced or removed.
        """
        if _state(Path(self.path)) != self.state:
            raise DataError(
                "the file was changed after it was first looked at; start again, and leave it "
                "alone while it is read",
                where=self.path,
            )


def fingerprint(path: str | Path) -> str:
    """Know a table again on any machine: sizes, names in a folder, and 256 pieces of content.

    A change that keeps every size and falls between the pieces is not seen.

    Raises
    ------
    DataError
        It cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     one, other = Path(folder, "a.npy"), Path(folder, "b.npy")
    ...     _ = one.write_bytes(b"rows" * 9), other.write_bytes(b"rows" * 9)
    ...     same = fingerprint(one) == fingerprint(other)
    ...     _ = other.write_bytes(b"rows" * 8 + b"ROWS")
    ...     same, fingerprint(one) == fingerprint(other)
    (True, False)
    """
    root = Path(path)
    try:
        files = _files(root)
        sizes = [file.stat().st_size for file in files]
        digest = hashlib.sha256()
        for file, size in zip(files, sizes, strict=True):
            name = file.relative_to(root).as_posix() if root.is_dir() else ""
            digest.update(f"{name} {size}\n".encode("utf-8", "surrogateescape"))
        whole = max(sum(sizes), 1)
        for file, size in zip(files, sizes, strict=True):
            pieces = min(-(-_PIECES * size // whole), -(-size // _PIECE))
            with file.open("rb") as stream:
                for number in range(pieces):
                    stream.seek((size - min(_PIECE, size)) * number // max(pieces - 1, 1))
                    digest.update(stream.read(_PIECE))
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", where=str(path)) from None
    return digest.hexdigest()


def _files(root: Path) -> list[Path]:
    if not root.is_dir():
        return [root]
    return sorted(file for file in root.rglob("*") if file.is_file())


def _state(path: Path) -> tuple[int, ...]:
    try:
        looked = [path, *(sorted(path.iterdir())[:_CHILDREN] if path.is_dir() else ())]
        states = [os.stat(one) for one in looked]
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", where=str(path)) from None
    return tuple(number for one in states for number in (one.st_size, one.st_mtime_ns))

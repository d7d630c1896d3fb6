"""One guard for all outputs of a run: nothing of the user is lost, and it is known before any work.

Without ``force`` nothing that exists is replaced. With it a regular file may be, or a folder that
holds what batchsense wrote and nothing else; never an input of the run, another output of it, a
folder of other things, a device, pipe, socket or link.
"""

from __future__ import annotations

import os
import tempfile
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path

from batchsense.errors import OutputError
from batchsense.storage.atomic import refuse_irreplaceable

#: The output that is no file.
STDOUT = "-"

# What a matrix.mtx is read with, and is an input as much as the matrix.
_BESIDE_MTX = [
    name + end
    for name in ("matrix.mtx", "barcodes.tsv", "features.tsv", "genes.tsv")
    for end in ("", ".gz")
]


def check_outputs(
    outputs: Mapping[str, str | Path | None], inputs: Sequence[str | Path], force: bool
) -> None:
    """Refuse, before any work, outputs that would cost the user something.

    Raises
    ------
    OutputError
        Which option, which path and what to do.

    Examples
    --------
    >>> check_outputs({"-o": "corrected.csv", "--report": None}, ["m.csv", "s.csv"], force=False)
    >>> check_outputs({"-o": "corrected.csv", "--report": "./corrected.csv"}, [], force=True)
    Traceback (most recent call last):
    batchsense.errors.OutputError: --report ./corrected.csv is also named by -o; give each ...
    """
    read = [path for given in inputs for path in _files_of(given)]
    named = {option: str(given) for option, given in outputs.items() if given is not None}
    for option, given in named.items():
        if given != STDOUT:
            _check(option, given, read, force)
    for (one, given), (other, name) in combinations(named.items(), 2):
        _check_pair(other, name, one, given)


def file_of(path: str | Path) -> Path:
    """The file of an input that may name a worksheet in it, as ``FILE.xlsx#Sheet``.

    Examples
    --------
    >>> str(file_of("plates.xlsx#June")), str(file_of("plate#1.csv"))
    ('plates.xlsx', 'plate#1.csv')
    """
    before, mark, _ = str(path).rpartition("#")
    if mark and before.lower().endswith(".xlsx") and not os.path.exists(path):
        return Path(before)
    return Path(path)


def _check(option: str, given: str, read: Iterable[Path], force: bool) -> None:
    if not given.strip() or "\0" in given:
        raise OutputError("is not the name of a file; name one", given, option)
    target = Path(given)
    for path in read:
        _check_against(option, target, path)
    refuse_irreplaceable(target, option)
    if not target.parent.is_dir():
        raise OutputError(
            f"cannot be written: {target.parent} is not a folder; create it first", target, option
        )
    if target.exists() and not force:
        raise OutputError("exists; give another name or --force to replace it", target, option)
    try:
        # Only trying tells: permissions say little to an administrator or on a read-only disk.
        tempfile.TemporaryFile(dir=target.parent).close()
    except OSError as error:
        raise OutputError(
            f"cannot be written: no file can be made in {target.parent} ({error.strerror})",
            target,
            option,
        ) from None


def _check_against(option: str, target: Path, path: Path) -> None:
    """Refuse an output that is an input, holds one, or lies in one."""
    if _same(target, path):
        raise OutputError("is an input of this run; give the output another name", target, option)
    if _inside(path, target):
        raise OutputError(f"holds the input {path}; name another place", target, option)
    if os.path.isdir(path) and _inside(target, path):
        raise OutputError(f"lies in the input {path}; name another place", target, option)


def _check_pair(option: str, given: str, other: str, name: str) -> None:
    """Refuse two outputs of one name, or one inside the other."""
    if STDOUT in (given, name):
        if given == name:
            raise OutputError(
                f"and {other} - are both stdout; name a file for one of them", given, option
            )
    elif _same(given, name):
        raise OutputError(f"is also named by {other}; give each a name of its own", given, option)
    elif _inside(given, name) or _inside(name, given):
        raise OutputError(
            f"and {other} {name} lie one in the other; name two places", given, option
        )


def _files_of(given: str | Path) -> list[Path]:
    """The files and folders that an input names."""
    if not str(given) or "\0" in str(given):
        return []
    path = file_of(given)
    found = [path]
    before, mark, _ = str(given).rpartition(":")
    if mark and before.endswith(".py"):
        found.append(Path(before))
    elif mark and before.replace(".", "_").isidentifier():
        found.append(Path(*before.split(".")).with_suffix(".py"))  # a module of this folder
    if path.name in ("matrix.mtx", "matrix.mtx.gz"):
        found += [path.with_name(name) for name in _BESIDE_MTX]
    return [one for one in found if os.path.lexists(one)]


def _same(one: str | Path, other: str | Path) -> bool:
    """Whether two paths lead to one file: by spelling, by a link or by a hard link."""
    return _spelling(one) == _spelling(other) or _same_on_disk(one, other)


def _inside(path: str | Path, folder: str | Path) -> bool:
    """Whether a path lies below another one, by spelling or by what the folders above it are."""
    if _spelling(path).startswith(_spelling(folder).rstrip(os.sep) + os.sep):
        return True
    # Mounted twice, a folder has two real paths.
    above = Path(os.path.realpath(path)).parents
    return os.path.isdir(folder) and any(_same_on_disk(up, folder) for up in above)


def _same_on_disk(one: str | Path, other: str | Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _spelling(path: str | Path) -> str:
    """A path without links, as file systems see it that ignore case and the form of Unicode.

    Names that differ in no more are refused everywhere: what is two files here is one elsewhere.
    """
    return unicodedata.normalize("NFC", os.path.realpath(path)).casefold()

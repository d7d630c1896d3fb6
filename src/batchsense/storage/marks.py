"""Which folders are results of ours: a mark says what was in a folder when it was written.

A result that is a folder (a Zarr store, a folder with a ``matrix.mtx``) may be replaced only if
everything in it is still what was written. So each carries the number of its files and a hash of
their names and sizes. A further file of the user, or one that is gone, makes it the user's.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

#: The mark of a folder that is no Zarr store; a dot keeps readers of the folder away from it.
MARK_FILE = ".batchsense"
#: The mark of a Zarr store: an attribute, since zarr warns of files that it does not know.
MARK_ATTRIBUTE = "batchsense_files"

# The metadata at the top of a Zarr store: left out of the hash because the mark stands there, and
# consolidation writes them anew.
_TOP = {"zarr.json", ".zattrs", ".zgroup", ".zarray", ".zmetadata", MARK_FILE}


def mark(folder: Path) -> None:
    """Note in a folder what it holds, so that :func:`is_ours` knows it again.

    Raises
    ------
    OSError
        The folder cannot be written.
    """
    place, document = _mark_of(folder)
    draft = place.with_name(f"{place.name}.new")
    draft.unlink(missing_ok=True)  # of a run that was killed here
    noted = _inventory(folder)
    if place.name == MARK_FILE:
        document = noted
    elif place.name == "zarr.json":
        document.setdefault("attributes", {})[MARK_ATTRIBUTE] = noted
    else:
        document[MARK_ATTRIBUTE] = noted
    draft.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    draft.replace(place)


def is_ours(folder: Path) -> bool:
    """Tell whether a folder holds what batchsense wrote, and nothing else.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     folder = Path(name)
    ...     _ = (folder / "matrix.mtx").write_text("numbers")
    ...     before = is_ours(folder)
    ...     mark(folder)
    ...     after = is_ours(folder)
    ...     _ = (folder / "thesis.txt").write_text("years of work")
    ...     before, after, is_ours(folder)
    (False, True, False)
    """
    try:
        place, document = _mark_of(folder)
        if place.name != MARK_FILE:
            attributes = document.get("attributes", {}) if place.name == "zarr.json" else document
            document = attributes.get(MARK_ATTRIBUTE)
        return bool(document) and document == _inventory(folder)
    except (OSError, ValueError, AttributeError):
        return False


def _mark_of(folder: Path) -> tuple[Path, Any]:
    for name in ("zarr.json", ".zattrs"):
        if (folder / name).is_file():
            return folder / name, json.loads((folder / name).read_text(encoding="utf-8"))
    if (folder / ".zgroup").is_file() or (folder / ".zarray").is_file():
        return folder / ".zattrs", {}
    place = folder / MARK_FILE
    return place, json.loads(place.read_text(encoding="utf-8")) if place.is_file() else {}


def _inventory(folder: Path) -> dict[str, Any]:
    found = []
    for parent, folders, files in os.walk(folder, onerror=_raise):
        inside = Path(parent).relative_to(folder).as_posix()
        # A link is never of ours, whatever it leads to.
        found += [f"{inside}/{name} link" for name in folders if Path(parent, name).is_symlink()]
        for name in files:
            if inside == "." and name in _TOP:
                continue
            found.append(f"{inside}/{name} {os.lstat(Path(parent, name)).st_size}")
    text = "\n".join(sorted(found))
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
    return {"files": len(found), "sha256": digest}


def _raise(error: OSError) -> None:
    raise error

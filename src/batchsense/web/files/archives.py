"""Matrices that are folders, sent as one archive: a Zarr store, or counts as 10x writes them.

An archive may name any path and hold links. So nothing is taken from it but plain files, each under
a name that is checked part by part, and what comes out is counted while it comes.
"""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from batchsense.errors import DataError, listed
from batchsense.web.entrance.guard import TooLargeError
from batchsense.web.files.file_names import file_name

#: Kinds of archives; .tar also gzipped.
ARCHIVES = (".zip", ".tar", ".tgz")
# By judgement: a Zarr store has a file for every chunk, and every file costs time to write.
_MOST_FILES = 50_000
# Deeper than Zarr stores are; file systems allow names of 255 bytes.
_DEEPEST = 20
_LONGEST_PART = 200
_STORE = ("zarr.json", ".zgroup")
_COUNTS = ("matrix.mtx", "matrix.mtx.gz")


def unpack(path: Path, most: int) -> Path:
    """Unpack an archive beside itself and delete it."""
    inside = path.with_name("unpacked.tmp")
    try:
        inside.mkdir()
        seen = 0
        for count, (name, stream) in enumerate(_files(path)):
            if count >= _MOST_FILES:
                raise DataError(f"the archive holds more than {_MOST_FILES:,} files", path.name)
            parts = _parts(name, path.name)
            if not parts:
                continue
            seen = _write(stream, inside.joinpath(*parts), seen, most, path.name)
        root = _root(inside, path.name)
        plain = path.name.lower().removesuffix(".gz")
        stem = path.name[: len(plain.rpartition(".")[0])] if root == inside else root.name
        name = file_name(stem)
        if not _holds(root, _COUNTS) and not name.lower().endswith(".zarr"):
            name += ".zarr"
        path.unlink()
        return root.rename(path.with_name(name))
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError) as error:
        raise DataError(f"a damaged archive, or none: {error}", where=path.name) from None
    except (RuntimeError, OSError) as error:  # a password, an unknown compression, a full disk
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"the archive cannot be unpacked: {reason}", where=path.name) from None
    finally:
        shutil.rmtree(inside, ignore_errors=True)


def _files(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    if path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path) as zipped:
            for one in zipped.infolist():
                if one.is_dir():
                    continue
                kind = stat.S_IFMT(one.external_attr >> 16)
                if kind not in (0, stat.S_IFREG):
                    raise _no_file(one.filename, path.name)
                with zipped.open(one) as stream:
                    yield one.filename, stream
        return
    mode = "r:" if path.suffix.lower() == ".tar" else "r:gz"
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]  # a literal is wanted
        for member in archive:
            if member.isdir():
                continue
            if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
                raise _no_file(member.name, path.name)
            stream = archive.extractfile(member)
            if stream is not None:
                with stream:
                    yield member.name, stream


def _no_file(name: str, archive: str) -> DataError:
    return DataError(
        f"{name[:80]!r} is a link or no plain file; pack the files themselves", where=archive
    )


def _parts(name: str, archive: str) -> tuple[str, ...]:
    """Take a path inside the archive apart; empty for what operating systems leave behind."""
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    bad = (
        name.startswith("/")
        or "\\" in name
        or ".." in parts
        or len(parts) > _DEEPEST
        or any(not part.isprintable() or len(part.encode()) > _LONGEST_PART for part in parts)
    )
    if bad or not parts:
        raise DataError(
            f"the archive names {name[:80]!r}, a place outside itself or no usable name; pack the "
            "folder anew",
            where=archive,
        )
    left_behind = parts[0] == "__MACOSX" or parts[-1] == ".DS_Store" or parts[-1].startswith("._")
    return () if left_behind else parts


def _write(stream: IO[bytes], target: Path, seen: int, most: int, archive: str) -> int:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            while block := stream.read(1 << 20):
                seen += len(block)
                if seen > most:
                    raise TooLargeError(archive)
                file.write(block)
    except (FileExistsError, NotADirectoryError):
        raise DataError(f"the archive holds {target.name!r} twice", where=archive) from None
    return seen


def _root(inside: Path, archive: str) -> Path:
    found = list(_roots(inside))
    if len(found) == 1:
        return found[0]
    if found:
        names = listed(sorted(repr(str(one.relative_to(inside))) for one in found))
        raise DataError(f"the archive holds several matrices: {names}; send one", where=archive)
    raise DataError(
        "the archive holds neither a Zarr store nor a folder with a matrix.mtx; other files are "
        "sent as they are",
        where=archive,
    )


def _roots(folder: Path) -> Iterator[Path]:
    if _holds(folder, (*_STORE, *_COUNTS)):
        yield folder
        return
    for part in sorted(folder.iterdir()):
        if part.is_dir():
            yield from _roots(part)


def _holds(folder: Path, names: tuple[str, ...]) -> bool:
    return any((folder / name).is_file() for name in names)


def pack(folder: Path) -> Path:
    """Pack a folder into a .zip beside it and delete the folder."""
    target = folder.with_name(f"{folder.name}.zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(part for part in folder.rglob("*") if part.is_file()):
            entry = zipfile.ZipInfo(str(path.relative_to(folder.parent)))
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            with path.open("rb") as source, packed.open(entry, "w", force_zip64=True) as stream:
                shutil.copyfileobj(source, stream, 1 << 20)
    shutil.rmtree(folder)
    return target

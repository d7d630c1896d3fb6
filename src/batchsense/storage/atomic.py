"""Write a file or a folder in one piece or not at all.

What is written goes to a temporary name beside the target, is brought to the disk itself, and takes
the target's name at the end. A full disk, an error or Ctrl-C leaves what stood there before.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from batchsense.errors import DataError, OutputError
from batchsense.storage.marks import is_ours, mark


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its name when the block ends without an error.

    The block makes a file or a folder there. What stood at ``path`` is replaced, with its
    permissions kept, if it is a file, or a folder that batchsense wrote.

    Yields
    ------
    Path
        Where to write; it does not exist yet.

    Raises
    ------
    OutputError
        What stands there may not be replaced: a folder of other things, a device, a link.
    DataError
        The system cannot write it: no space, no permission, no such folder.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     target = Path(folder, "numbers.txt")
    ...     with writing(target) as temporary:
    ...         _ = temporary.write_text("1 2 3")
    ...         print(target.exists())
    ...     print(target.read_text(), len(list(Path(folder).iterdir())))
    False
    1 2 3 1
    """
    target = Path(path)
    refuse_irreplaceable(target)
    # Not made of the target's name: that may be as long as a name can be.
    temporary = target.with_name(f".batchsense-{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        if temporary.is_dir():
            mark(temporary)
        sync(temporary)
        publish(temporary, target)
    except OSError as error:
        raise DataError(f"cannot be written: {error.strerror or error}", str(path)) from None
    finally:
        _remove(temporary)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in UTF-8, in one piece or not at all.

    Raises
    ------
    OutputError, DataError
        As :func:`writing`.
    """
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sync(path: Path) -> None:
    """Return when a file, or all of a folder, is on the disk itself."""
    for part in [*(sorted(path.rglob("*")) if path.is_dir() else ()), path]:
        sync_one(part)


def sync_one(path: Path) -> None:
    """Return when a file, or the list of a folder, is on the disk itself; skip what is absent."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:  # a chunk of zeros is not stored
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish(finished: Path, target: Path) -> None:
    """Give a finished file or folder its name; what stood there goes, or stays after a failure.

    Raises
    ------
    OutputError
        What stands there may not be replaced.
    OSError
        The system refuses.
    """
    refuse_irreplaceable(target)
    aside = target.with_name(f".batchsense-{os.getpid()}-{secrets.token_hex(4)}.old")
    try:
        # No folder may be renamed onto, and none onto a file: the older one steps aside first.
        if target.is_dir() or (target.exists() and finished.is_dir()):
            os.replace(target, aside)
        elif target.exists():
            os.chmod(finished, stat.S_IMODE(target.stat().st_mode))
        os.replace(finished, target)
    except BaseException:  # Ctrl-C too: the older result comes back
        if os.path.lexists(aside) and not os.path.lexists(target):
            os.replace(aside, target)
        raise
    with contextlib.suppress(OSError):  # some file systems cannot bring a folder to the disk
        sync_one(target.parent)
    _remove(aside)


def refuse_irreplaceable(target: Path, option: str | None = None) -> None:
    """Refuse what must not be replaced by a result: all but files and folders that we wrote.

    Raises
    ------
    OutputError
        A device, pipe, socket or link, or a folder with anything that batchsense did not write.
    """
    try:
        mode = os.lstat(target).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", target, option) from None
    except ValueError:
        raise OutputError("is not the name of a file", target, option) from None
    if stat.S_ISLNK(mode):
        leads = os.readlink(target)
        end = "which does not exist" if not target.exists() else "which is left as it is"
        raise OutputError(f"is a link to {leads}, {end}; name the file itself", target, option)
    if stat.S_ISDIR(mode):
        if is_ours(target):
            return
        raise OutputError(
            "is a folder with things that batchsense did not write; give another name",
            target,
            option,
        )
    if not stat.S_ISREG(mode):
        raise OutputError(
            f"is a {_special(mode)}, no file; name a file, or - for stdout", target, option
        )


def _special(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "named pipe"
    return "socket" if stat.S_ISSOCK(mode) else "device"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

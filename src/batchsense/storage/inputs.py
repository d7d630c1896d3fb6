"""What may be read: files and folders of this machine, not addresses and not pipes."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from batchsense.errors import DataError
from batchsense.storage.outputs import file_of

# A drive letter of one sign is no scheme.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def check_input(path: str | Path) -> None:
    """Refuse, before anything is opened, what is not a file or folder of this machine.

    What does not exist is left to its reader, who knows what was expected there.

    Raises
    ------
    DataError
        An address, such as ``https://…``, which libraries would fetch; a pipe, socket or device,
        which cannot be read twice; or no name at all.

    Examples
    --------
    >>> check_input("https://example.org/matrix.parquet")
    Traceback (most recent call last):
    batchsense.errors.DataError: https://example.org/matrix.parquet: an address; download it ...
    """
    text = str(path)
    if not text.strip() or "\0" in text:
        raise DataError("this is not the name of a file; name one", where=repr(text))
    if _ADDRESS.match(text) and not os.path.exists(text):
        raise DataError("an address; download it first: only files are read", where=text)
    try:
        mode = os.stat(file_of(path)).st_mode
    except OSError:
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        kind = "a pipe" if stat.S_ISFIFO(mode) else "no ordinary file"
        raise DataError(
            f"this is {kind}, which cannot be read twice; save it to a file first", where=text
        )

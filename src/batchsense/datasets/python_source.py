"""Python's own source text: real text that every Python carries, found at run time."""

from __future__ import annotations

import hashlib
import string
import sysconfig
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from batchsense.arrays import Integers
from batchsense.errors import DataError, listed

#: Standard library modules that are read: long-lived, plain Python, about 2.5 MB together.
MODULES: tuple[str, ...] = (
    "argparse", "ast", "bdb", "calendar", "codecs", "configparser", "csv", "dataclasses",
    "difflib", "dis", "doctest", "enum", "fractions", "ftplib", "functools", "heapq", "inspect",
    "ipaddress", "locale", "mailbox", "optparse", "pdb", "pickle", "pickletools", "plistlib",
    "pprint", "pstats", "random", "shutil", "smtplib", "socket", "ssl", "statistics", "string",
    "subprocess", "tarfile", "textwrap", "threading", "tokenize", "traceback", "turtle", "typing",
    "uuid", "warnings", "zipfile",
)  # fmt: skip

#: The known characters; symbol ``len(ALPHABET)`` stands for every other one.
ALPHABET: str = string.digits + string.ascii_letters + string.punctuation + " \t\n"

#: Less text than this is no data set: the usual 2.5 MB are missing but for a few modules.
_LEAST_CHARACTERS = 100_000


@dataclass(frozen=True, slots=True, eq=False)
class PythonSource:
    """The source text of a fixed list of standard library modules.

    Attributes
    ----------
    text : str
        The modules one after another, in the order of ``modules``.
    symbols : array of shape (characters,)
        Place of each character in :data:`ALPHABET`; ``len(ALPHABET)`` for any other. Read-only.
    modules : tuple of str
        The modules that were found.
    sha256 : str
        Hash of the text in UTF-8: it differs between Python versions.
    """

    text: str
    symbols: Integers
    modules: tuple[str, ...]
    sha256: str


@cache
def python_source() -> PythonSource:
    """Read the standard library's source text, about 2.5 million characters; no download.

    Raises
    ------
    DataError
        This Python carries no source text (some minimal images delete it).

    Examples
    --------
    >>> source = python_source()
    >>> "argparse" in source.modules, len(source.text) == len(source.symbols)
    (True, True)
    """
    return _read(Path(sysconfig.get_path("stdlib")))


def _read(folder: Path) -> PythonSource:
    files = {name: _file_of(folder, name) for name in MODULES}
    found = {name: file for name, file in files.items() if file is not None}
    text = "".join(file.read_text(encoding="utf-8") for file in found.values())
    if len(text) < _LEAST_CHARACTERS:
        missing = listed(name for name in MODULES if name not in found)
        raise DataError(
            f"this Python carries no source text of {missing}; "
            "install its standard library or use another TARGET",
            where=str(folder),
        )
    symbols = _symbols(text)
    symbols.setflags(write=False)
    digest = hashlib.sha256(text.encode("utf-8")).hexdigest()
    return PythonSource(text, symbols, tuple(found), digest)


def _file_of(folder: Path, module: str) -> Path | None:
    # Some modules are a package in newer versions.
    for file in (folder / f"{module}.py", folder / module / "__init__.py"):
        if file.is_file():
            return file
    return None


def _symbols(text: str) -> Integers:
    number = np.full(0x110000, len(ALPHABET), dtype=np.int64)
    number[[ord(character) for character in ALPHABET]] = np.arange(len(ALPHABET))
    codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    return number[codes]

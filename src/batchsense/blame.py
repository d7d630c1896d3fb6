"""Where in the user's own code an error arose, in words."""

from __future__ import annotations

import functools
import sys
import sysconfig
import traceback
from pathlib import Path

_OURS = str(Path(__file__).resolve().parent)
_LIBRARIES = tuple(
    str(Path(sysconfig.get_path(name)).resolve())
    for name in ("stdlib", "platstdlib", "purelib", "platlib")
)


def described(error: BaseException) -> str:
    """Name an error, its message and the line of the user's code that raised it.

    Parameters
    ----------
    error : BaseException
        An error raised by code that was not written here.

    Returns
    -------
    str
        For example ``"ValueError: no data (train.py:12)"``; without a place if no frame of the
        traceback is the user's.

    Examples
    --------
    >>> described(ValueError("no data"))
    'ValueError: no data'
    """
    message = " ".join(str(error).split())
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    place = place_of(error)
    return text if place is None else f"{text} ({place})"


def place_of(error: BaseException) -> str | None:
    """Return ``file:line`` of the innermost frame that is neither a library's nor ours."""
    found = None
    for frame in traceback.extract_tb(error.__traceback__):
        if not _is_library(frame.filename):
            found = f"{frame.filename}:{frame.lineno}"
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{error.filename}:{error.lineno}"
    return found


@functools.cache
def _is_library(filename: str) -> bool:
    if filename.startswith("<"):
        return True
    resolved = str(Path(filename).resolve())
    return resolved.startswith((_OURS, *_LIBRARIES))


def place_now() -> str | None:
    """Return ``file:line`` of the innermost running frame that is neither a library's nor ours."""
    frame = sys._getframe(1)
    while frame is not None:
        if not _is_library(frame.f_code.co_filename):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return None

"""How the passes over the data are compiled. Importing this module loads numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])

#: Sums may be reordered and multiply-adds fused; NaN and infinity keep their meaning.
_RELAXED = {"reassoc", "contract", "nsz"}


def compiled(function: Function) -> Function:
    """Compile for each type of data on first use, and keep the result on disk if possible."""
    options: dict[str, Any] = {"nogil": True, "fastmath": _RELAXED, "error_model": "numpy"}
    try:
        made: Any = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package nor the user's cache folder can be written
        made = numba.njit(**options)(function)
    typed: Function = made
    return typed

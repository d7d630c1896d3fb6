"""How much memory the machine has left, and the words for amounts of it."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from batchsense.errors import DataError

_UNITS = {
    "": 1, "B": 1,
    "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
}  # fmt: skip
_CGROUP = Path("/sys/fs/cgroup")


def parse_bytes(text: str) -> int:
    """Read an amount of memory such as ``8GiB``, ``16 GB`` or ``1000000``.

    Parameters
    ----------
    text : str
        A number and a unit: B, kB, MB, GB, TB (powers of 1000), KiB, MiB, GiB, TiB (of 1024).

    Returns
    -------
    int
        Bytes.

    Raises
    ------
    DataError
        It is not an amount of memory.

    Examples
    --------
    >>> parse_bytes("8GiB"), parse_bytes("1.5 MB")
    (8589934592, 1500000)
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]*)?)\s*([A-Za-z]*)\s*", text)
    unit = _UNITS.get(match[2].upper()) if match else None
    if match is None or unit is None or float(match[1]) <= 0:
        raise DataError(f"{text!r} is not an amount of memory; write for example 8GiB or 16GB")
    return int(float(match[1]) * unit)


def format_bytes(amount: float) -> str:
    """Write an amount of memory with three digits and a binary unit.

    Examples
    --------
    >>> format_bytes(8 * 2**30), format_bytes(1536), format_bytes(12)
    ('8 GiB', '1.5 KiB', '12 B')
    """
    for unit, size in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if amount >= size:
            return f"{amount / size:.3g} {unit}"
    return f"{amount:.0f} B"


def available_memory() -> int | None:
    """Give the bytes that can still be allocated; None where nothing says.

    The smaller of the system's available memory and what the control group has left.
    """
    limits = [limit for limit in (_system_bytes(), _cgroup_bytes()) if limit is not None]
    return min(limits) if limits else None


def resident_bytes() -> int:
    """Give the memory that this process occupies now; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def return_free_memory() -> None:
    """Give memory that was freed back to the system, where the C library can do that.

    Freed blocks of unpacked chunks otherwise stay with the allocator of each thread, and count.
    """
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _system_bytes() -> int | None:
    """Ask the system what is available without swapping."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None


def _cgroup_bytes() -> int | None:
    """Ask the control group (version 2, then 1) what is left of its limit."""
    for limit_file, usage_file in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            limit = int((_CGROUP / limit_file).read_text())
            used = int((_CGROUP / usage_file).read_text())
        except (OSError, ValueError):  # no such file, or the word "max"
            continue
        return max(limit - used, 0)
    return None

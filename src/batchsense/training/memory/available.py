"""How much memory a device has left."""

from __future__ import annotations

import torch

from batchsense.machine_memory import available_memory, format_bytes, parse_bytes, resident_bytes

__all__ = ["available_bytes", "format_bytes", "parse_bytes", "resident_bytes"]


def available_bytes(device: torch.device) -> int | None:
    """Give the bytes that can still be allocated on a device; None where nothing says.

    On the CPU the smaller of the system's available memory and what the control group has left.

    Parameters
    ----------
    device : torch.device
        ``cpu`` or ``cuda``.

    Examples
    --------
    >>> available_bytes(torch.device("meta")) is None
    True
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type != "cpu":
        return None
    return available_memory()

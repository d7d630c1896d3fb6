"""Work for another process, in a module that loads nothing heavy there."""

from __future__ import annotations

import os
import signal
import tempfile
import time

#: What must happen is given up after this: far beyond what a busy machine needs.
DEADLINE_S = 600


def add(a, b, listen):
    """Give a sum, and tell how far it is."""
    listen("adding", 1, 2)
    return a + b


def fail(error, _):
    """Fail as told."""
    raise error


def tell(_):
    """Print, as a library may, and name the process."""
    print("a library prints")
    return os.getpid()


def take(how, _):
    """Take more than is given."""
    if how == "memory":
        return len(bytearray(10**9))
    if how == "array":
        import numpy as np

        return np.ones(10**9).sum()
    if how == "frame":
        import pandas as pd

        return pd.DataFrame({"a": range(50_000_000)}).size
    if how == "disk":
        with tempfile.TemporaryFile() as file:
            return file.write(b"1" * 2_000_000)
    if how == "end":
        os.kill(os.getpid(), signal.SIGSEGV)
    return time.sleep(DEADLINE_S)

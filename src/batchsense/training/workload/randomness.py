"""Random state on loan: measuring draws numbers and gives every generator back as it was."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch

_MAX_SEED = 2**32


@contextlib.contextmanager
def borrowed_randomness(seed: int) -> Iterator[None]:
    """Seed Python's, numpy's and torch's global generators inside the block, restore them after.

    The user's model and data set may draw from any of them (dropout, augmentation), so a result is
    repeatable only if all three are seeded, and harmless only if all three are restored.

    Parameters
    ----------
    seed : int
        Seed, at least 0.

    Examples
    --------
    >>> before = torch.get_rng_state()
    >>> with borrowed_randomness(1):
    ...     first = torch.rand(1)
    >>> with borrowed_randomness(1):
    ...     second = torch.rand(1)
    >>> bool(first == second), bool((torch.get_rng_state() == before).all())
    (True, True)
    """
    python_state = random.getstate()
    numpy_state = np.random.get_state()  # noqa: NPY002 - user code draws from this generator
    used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = range(torch.cuda.device_count()) if used else []
    with torch.random.fork_rng(devices=list(devices)):
        random.seed(seed)
        np.random.seed(seed % _MAX_SEED)  # noqa: NPY002
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002

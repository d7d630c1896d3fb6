"""Random state on loan: measuring draws numbers and gives every generator back as it was."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

#: numpy's old generator takes seeds of 32 bits.
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
    before = random_state()
    try:
        random.seed(seed)
        np.random.seed(seed % _MAX_SEED)  # noqa: NPY002
        seed_torch(seed)
        yield
    finally:
        set_random_state(before)


def random_state() -> tuple[Any, ...]:
    """Where Python's, numpy's and torch's generators are, also those of the GPUs in use."""
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return (
        random.getstate(),
        np.random.get_state(),  # noqa: NPY002 - user code draws from this generator
        torch.get_rng_state(),
        torch.cuda.get_rng_state_all() if in_use else [],
    )


def set_random_state(state: tuple[Any, ...]) -> None:
    """Put all generators where :func:`random_state` found them."""
    random.setstate(state[0])
    np.random.set_state(state[1])  # noqa: NPY002
    torch.set_rng_state(state[2])
    if state[3]:
        torch.cuda.set_rng_state_all(state[3])


def seed_torch(seed: int) -> None:
    """Seed torch's generators of the CPU and of the devices in use.

    ``torch.manual_seed`` does the same, but formats a traceback for every device not in use.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)

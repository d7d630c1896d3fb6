"""Which examples a minibatch takes most memory with, where they differ in size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from batchsense import clock
from batchsense.training.workload import Workload, borrowed_randomness, measured_parts

#: Seconds that looking at examples may take: a list of 100,000 sequences in memory needs a part of
#: one, images on a disk several for a thousand.
_LOOKING_SECONDS = 2.0
#: So many are looked at whatever it takes: one in a hundred that is larger is missed in 8 % of
#: cases.
_LEAST_LOOKED_AT = 256
#: Examples traced together at most, of which each is the largest in something. A divisor of the
#: sizes that are traced, so that the same mixture is in each.
_MOST_KINDS = 4


@dataclass(frozen=True, slots=True)
class DifferingExamples:
    """That examples differ in size, and how far that was seen."""

    looked_at: int  #: How many were.
    examples: int  #: How many there are.

    def __str__(self) -> str:
        """Say for which examples a statement about the largest holds."""
        if self.looked_at == self.examples:
            return f"the largest of all {self.examples:,}"
        return f"the largest of {self.looked_at:,} looked at, of {self.examples:,} there are"


def examples_to_trace(workload: Workload) -> tuple[list[list[int]], DifferingExamples | None]:
    """Choose the examples to trace, each list to be repeated as often as a minibatch needs.

    All examples are looked at, in random order, as far as two seconds go. Where they differ, one
    list has the largest, and another, if that is not the same, those with the largest part (of a
    long source and a long target, each may be in another example): which of the two a minibatch
    takes more memory with depends on whether it is padded or joined. None where those looked at are
    all alike.

    Raises DataError: an example cannot be read.
    """
    count = len(workload.examples)
    order = np.random.default_rng(0).permutation(count)
    if isinstance(workload.examples, torch.utils.data.TensorDataset | Tensor):
        return [order[:_LEAST_LOOKED_AT].tolist()], None
    sizes: list[tuple[int, ...]] = []
    began = clock.now()
    with borrowed_randomness(0):
        while len(sizes) < count and (
            len(sizes) < _LEAST_LOOKED_AT or clock.now() - began < _LOOKING_SECONDS
        ):
            rows = order[len(sizes) : len(sizes) + _LEAST_LOOKED_AT].tolist()
            sizes += [measured_parts(example) for example in workload.fetch(rows)]
    if len(set(sizes)) == 1:
        return [order[:_LEAST_LOOKED_AT].tolist()], None
    lists = [[rows] for rows in order[[_largest([sum(parts) for parts in sizes])]].tolist()]
    if len({len(parts) for parts in sizes}) == 1:
        table = np.array(sizes)
        varied = np.flatnonzero(np.ptp(table, axis=0))[:_MOST_KINDS]
        kinds = list(dict.fromkeys(_largest(table[:, part]) for part in varied))
        if len(kinds) > 1:
            mixed = np.resize(order[kinds], 2 if len(kinds) == 2 else _MOST_KINDS)
            lists.append(mixed.tolist())
    return lists, DifferingExamples(len(sizes), count)


def _largest(sizes: Sequence[int] | np.ndarray[Any, Any]) -> int:
    return int(np.argmax(sizes))

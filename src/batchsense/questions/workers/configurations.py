"""Which steps are asked about, and which of them are compared."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from batchsense.errors import RequestError, UnresolvedError

if TYPE_CHECKING:
    from batchsense.questions.workers.request import WorkersRequest
    from batchsense.questions.workers.result import Held
    from batchsense.training.workers import StepConfiguration
    from batchsense.training.workers.evidence import StepEvidence

#: Pairs with one micro-batch are compared beside those with one batch size up to so many; the
#: document of more is read by no one.
_MOST_PAIRS = 1000


def asked_configurations(
    request: WorkersRequest, evidence: StepEvidence
) -> tuple[Held, list[StepConfiguration]]:
    """What is held fixed (``batch_size``, ``micro_batch`` or ``rows``), and every step in order.

    Raises DataError: the file of steps to predict cannot be read.
    Raises RequestError: workers do not divide by any number of nodes, or the batch size by the
    workers.
    """
    from batchsense.training.workers import StepConfiguration, read_configurations

    if request.at is not None:
        return "rows", read_configurations(request.at, request.name_of(request.at))
    spreads = _spreads(request, evidence)
    size, micro = request.batch_size, request.micro_batch
    if size is None and micro is None:
        size, micro = _held_by_the_table(evidence, [workers for _, workers in spreads])
    if size is None:
        return "micro_batch", [StepConfiguration(n, k, micro or 1) for n, k in spreads]
    dividing = [(n, k) for n, k in spreads if size % k == 0]
    if request.workers is None and dividing:
        spreads = dividing
    for _, workers in spreads:
        if size % workers:
            raise RequestError(
                f"--batch-size {size} does not divide over {workers} workers; the next that does "
                f"is {workers * math.ceil(size / workers)}"
            )
    return "batch_size", [StepConfiguration(n, k, size // k) for n, k in spreads]


def _spreads(request: WorkersRequest, evidence: StepEvidence) -> list[tuple[int, int]]:
    """Nodes and workers of every step."""
    if request.workers is None:
        most = 2 * max(one.workers for one, _ in evidence.measured)
        counts = [2**power for power in range(most.bit_length()) if 2**power <= most]
        if request.nodes is None:
            # A number that fills no whole nodes was not asked for by anyone.
            full = evidence.per_node
            counts = [count for count in counts if count <= full or count % full == 0]
    else:
        counts = sorted({int(part) for part in request.workers.split(",")})
    if request.nodes is None:
        return [(_fewest_nodes(count, evidence.per_node), count) for count in counts]
    nodes = sorted({int(part) for part in request.nodes.split(",")})
    spreads = [(one, count) for count in counts for one in nodes if count % one == 0]
    left = [count for count in counts if count not in {count for _, count in spreads}]
    if left and (request.workers is not None or not spreads):
        raise RequestError(
            f"{left[-1]} workers cannot be spread evenly over --nodes {request.nodes}; give "
            "--workers that they divide"
        )
    return spreads


def _fewest_nodes(workers: int, per_node: int) -> int:
    """The fewest nodes that hold the workers evenly, none fuller than was measured.

    >>> _fewest_nodes(8, 4), _fewest_nodes(6, 4), _fewest_nodes(7, 4)
    (2, 2, 7)
    """
    fullest = min(workers, per_node)
    return workers // next(each for each in range(fullest, 0, -1) if workers % each == 0)


def _held_by_the_table(
    evidence: StepEvidence, workers: Sequence[int]
) -> tuple[int | None, int | None]:
    """What the measured steps themselves hold fixed: the batch size, else the micro-batch.

    Raises UnresolvedError: nothing was measured that says how many examples.
    """
    measured = [one for one, _ in evidence.measured]
    if not measured:
        raise UnresolvedError("nothing says how many examples", "--batch-size or --micro-batch")
    sizes = Counter(one.batch_size for one in measured)
    size, often = max(sizes.items(), key=lambda found: (found[1], found[0]))
    micros = Counter(one.micro_batch for one in measured)
    micro, micro_often = max(micros.items(), key=lambda found: (found[1], found[0]))
    if often > micro_often and all(size % count == 0 for count in workers):
        return size, None
    return None, micro


def pairs_of(
    configurations: Sequence[StepConfiguration],
) -> list[tuple[StepConfiguration, StepConfiguration]]:
    """Pairs with one batch size, and with one micro-batch while they are few; fewer workers first.

    >>> from batchsense.training.workers import StepConfiguration
    >>> steps = [
    ...     StepConfiguration(1, 2, 8),
    ...     StepConfiguration(1, 1, 16),
    ...     StepConfiguration(1, 1, 4),
    ... ]
    >>> [(one.workers, other.workers) for one, other in pairs_of(steps)]
    [(1, 2)]
    """
    ordered = sorted(dict.fromkeys(configurations), key=lambda one: (one.workers, one.nodes))
    both = [
        (one, other)
        for one, other in combinations(ordered, 2)
        if (one.workers, one.nodes) != (other.workers, other.nodes)
    ]
    same_size = [pair for pair in both if pair[0].batch_size == pair[1].batch_size]
    same_micro = [
        (one, other)
        for one, other in both
        if (one.micro_batch, one.accumulation) == (other.micro_batch, other.accumulation)
    ]
    return same_size + (same_micro if len(same_size) + len(same_micro) <= _MOST_PAIRS else [])

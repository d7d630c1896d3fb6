"""What an epoch leaves for its last minibatch, tried before a batch size is advised."""

from __future__ import annotations

from batchsense.errors import DataError, listed
from batchsense.notes import Note
from batchsense.training.workload import (
    Workload,
    WorkloadCheck,
    borrowed_randomness,
    flat_gradient,
)

#: A last minibatch of so few is tried: BatchNorm and a variance need two examples, a difference of
#: pairs or a correlation three.
_FEW = 3


def doubts_of_the_last_minibatch(
    workload: Workload, check: WorkloadCheck, advised: int
) -> tuple[Note, ...]:
    """Try a step on what an epoch leaves for its last minibatch, if that is three or fewer.

    A note where a step on so few fails, or where one example makes the statistics of BatchNorm.
    """
    left = check.examples % advised
    if not 0 < left <= _FEW:
        return ()
    leaves = f"{check.examples:,} examples in minibatches of {advised:,} leave a last one of {left}"
    try:
        with borrowed_randomness(0):
            minibatch = workload.minibatch(range(left))
            flat_gradient(workload, workload.fresh_model(), minibatch)
    except DataError as error:
        why = f"{leaves}, on which a step fails: {error.message}"
    else:
        if left > 1 or not check.coupled_modules:
            return ()
        why = f"{leaves}, from which alone {listed(check.coupled_modules, 3)} takes its statistics"
    return (Note("last_minibatch", f"{why}. Use drop_last=True in the DataLoader."),)

"""A schedule in the engine of ``train``: from what was asked to what says the size of each step."""

from __future__ import annotations

from typing import Literal

import torch

from batchsense.errors import DataError
from batchsense.training.gradient_noise import GradientNoiseMeter
from batchsense.training.running import BatchSizes, Ranks
from batchsense.training.schedule.coupling import Coupling
from batchsense.training.schedule.measured import FollowNoise
from batchsense.training.schedule.sizes import ScheduledSizes
from batchsense.training.schedule.written import WrittenSchedule


def sizes_of_run(
    asked: BatchSizes | WrittenSchedule | Literal["noise"] | None,
    batch_size: int,
    optimizer: torch.optim.Optimizer,
    *,
    couple: Coupling,
    meter: GradientNoiseMeter | None,
    ranks: Ranks,
    count: int,
) -> BatchSizes:
    """Say how large each step is, of ``count`` examples; ``batch_size`` at the start by noise.

    Raises
    ------
    DataError
        A size is larger than the data set, or noise cannot be measured.
    """
    if asked is None:
        return lambda steps, examples: batch_size
    if isinstance(asked, WrittenSchedule):
        return ScheduledSizes(optimizer, asked, couple=couple, ranks=ranks, limit=count)
    if not isinstance(asked, str):
        return asked
    if meter is None:
        raise DataError(
            "a schedule by noise needs gradient noise, which cannot be measured in this job; write "
            "the sizes instead"
        )
    rule = FollowNoise(meter, batch_size, largest=count)
    return ScheduledSizes(optimizer, rule, couple=couple, ranks=ranks, limit=count)

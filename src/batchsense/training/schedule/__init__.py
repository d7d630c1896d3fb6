"""Batch sizes that change on the way: written beforehand, or following what is measured."""

from __future__ import annotations

from batchsense.training.schedule.coupling import Coupling, change_learning_rate
from batchsense.training.schedule.measured import FollowNoise, WhenHeatStalls
from batchsense.training.schedule.schedule import BatchSizeSchedule, ScheduledLoader
from batchsense.training.schedule.sizes import ScheduledSizes, SizeRule, Switch
from batchsense.training.schedule.written import (
    WrittenSchedule,
    constant,
    doubling,
    exponential,
    linear,
    parse_schedule,
    seesaw,
)

__all__ = [
    "BatchSizeSchedule",
    "Coupling",
    "FollowNoise",
    "ScheduledLoader",
    "ScheduledSizes",
    "SizeRule",
    "Switch",
    "WhenHeatStalls",
    "WrittenSchedule",
    "change_learning_rate",
    "constant",
    "doubling",
    "exponential",
    "linear",
    "parse_schedule",
    "seesaw",
]

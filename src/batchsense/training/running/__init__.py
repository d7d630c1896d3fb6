"""The one training loop: ranks, an endless order, the step, checkpoints; all else builds on it."""

from __future__ import annotations

from batchsense.training.running.checkpoint import CheckpointFolder
from batchsense.training.running.identity import Identity, identity_of, refuse_other
from batchsense.training.running.loop import (
    BatchSizes,
    Ending,
    Metering,
    Run,
    Scaling,
    StoppedBy,
    train_until,
)
from batchsense.training.running.order import EndlessOrder
from batchsense.training.running.ranks import (
    ALONE,
    TIMEOUT_SECONDS,
    Ranks,
    joined_ranks,
    present_ranks,
)
from batchsense.training.running.record import SMOOTHED_STEPS, RunRecord
from batchsense.training.running.step import Moment, Watch, optimizer_step

__all__ = [
    "ALONE",
    "SMOOTHED_STEPS",
    "TIMEOUT_SECONDS",
    "BatchSizes",
    "CheckpointFolder",
    "Ending",
    "EndlessOrder",
    "Identity",
    "Metering",
    "Moment",
    "Ranks",
    "Run",
    "RunRecord",
    "Scaling",
    "StoppedBy",
    "Watch",
    "identity_of",
    "joined_ranks",
    "optimizer_step",
    "present_ranks",
    "refuse_other",
    "train_until",
]

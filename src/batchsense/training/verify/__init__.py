"""Check a plan on the user's own job: a short sweep of batch sizes to the same loss."""

from __future__ import annotations

from batchsense.training.planning.batch_size import used_critical_batch_size
from batchsense.training.verify.advice import Advice, swept_sizes
from batchsense.training.verify.sweeping import (
    Sweep,
    SweepStore,
    SweptSize,
    fingerprint_of,
    sweep,
)
from batchsense.training.verify.training_run import (
    OutOfTimeError,
    SweptRun,
    evaluation_steps,
    ruled_optimizer,
    steps_to_loss,
    train_to_loss,
)
from batchsense.training.verify.verdict import (
    StateFile,
    StepsLaw,
    Verdict,
    Verification,
    fit_steps_law,
    judge,
    verify_plan,
)

__all__ = [
    "Advice",
    "OutOfTimeError",
    "StateFile",
    "StepsLaw",
    "Sweep",
    "SweepStore",
    "SweptRun",
    "SweptSize",
    "Verdict",
    "Verification",
    "evaluation_steps",
    "fingerprint_of",
    "fit_steps_law",
    "judge",
    "ruled_optimizer",
    "steps_to_loss",
    "sweep",
    "swept_sizes",
    "train_to_loss",
    "used_critical_batch_size",
    "verify_plan",
]

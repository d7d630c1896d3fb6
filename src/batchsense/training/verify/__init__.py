"""Check a plan on the user's own job: a short sweep of batch sizes to the same loss."""

from __future__ import annotations

from batchsense.training.verify.advice import Advice, swept_sizes, used_critical_batch_size
from batchsense.training.verify.check import Verification, verify_plan
from batchsense.training.verify.curve import evaluation_steps, steps_to_loss
from batchsense.training.verify.fit import StepsLaw, fit_steps_law
from batchsense.training.verify.store import SweepStore, fingerprint_of
from batchsense.training.verify.sweeping import Sweep, SweptSize, sweep
from batchsense.training.verify.training_run import (
    OutOfTimeError,
    SweptRun,
    ruled_optimizer,
    train_to_loss,
)
from batchsense.training.verify.verdict import Verdict, judge

__all__ = [
    "Advice",
    "OutOfTimeError",
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

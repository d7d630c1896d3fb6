"""Check a plan on the user's own job: a short sweep of batch sizes to the same loss."""

from __future__ import annotations

from batchsense.training.verify.advice import Advice
from batchsense.training.verify.sweeping import Sweep, SweptSize
from batchsense.training.verify.verdict import (
    StateFile,
    StepsLaw,
    Verdict,
    Verification,
    verify_plan,
)

__all__ = [
    "Advice",
    "StateFile",
    "StepsLaw",
    "Sweep",
    "SweptSize",
    "Verdict",
    "Verification",
    "verify_plan",
]

"""When one more worker slows a step down: predicted from a few measured steps."""

from batchsense.training.workers.ensemble import StepModel, fit_steps
from batchsense.training.workers.evidence import (
    Lever,
    StepEvidence,
    evidence_from_steps,
)
from batchsense.training.workers.prediction import (
    LEVEL,
    Comparison,
    StepConfiguration,
    StepPrediction,
    Verdict,
)
from batchsense.training.workers.range import FLAGS
from batchsense.training.workers.step_table import StepTable, read_configurations, read_steps
from batchsense.training.workers.time_to_target import steps_to_target
from batchsense.training.workers.turning_point import (
    TurningPoint,
    best_workers,
    break_even,
    minimum_batch_size,
    turning_point,
)

__all__ = [
    "FLAGS",
    "LEVEL",
    "Comparison",
    "Lever",
    "StepConfiguration",
    "StepEvidence",
    "StepModel",
    "StepPrediction",
    "StepTable",
    "TurningPoint",
    "Verdict",
    "best_workers",
    "break_even",
    "evidence_from_steps",
    "fit_steps",
    "minimum_batch_size",
    "read_configurations",
    "read_steps",
    "steps_to_target",
    "turning_point",
]

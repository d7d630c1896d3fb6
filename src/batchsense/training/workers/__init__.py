"""When one more worker slows a step down: predicted from a few measured steps."""

from batchsense.training.workers.prediction import (
    LEVEL,
    Comparison,
    StepConfiguration,
    StepPrediction,
    Verdict,
)

__all__ = ["LEVEL", "Comparison", "StepConfiguration", "StepPrediction", "Verdict"]

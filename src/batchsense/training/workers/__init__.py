"""When one more worker slows a step down: predicted from a few measured steps."""

from batchsense.training.workers.ensemble import StepModel, fit_steps
from batchsense.training.workers.from_probe import predict_from_probe
from batchsense.training.workers.prediction import (
    LEVEL,
    Comparison,
    StepConfiguration,
    StepPrediction,
    Verdict,
)
from batchsense.training.workers.probing.measuring import measure_probe
from batchsense.training.workers.probing.readings import Probe, read_probe
from batchsense.training.workers.range import FLAGS
from batchsense.training.workers.step_table import StepTable, read_configurations, read_steps
from batchsense.training.workers.time_to_target import steps_to_target
from batchsense.training.workers.turning_point import TurningPoint, turning_point

__all__ = [
    "FLAGS",
    "LEVEL",
    "Comparison",
    "Probe",
    "StepConfiguration",
    "StepModel",
    "StepPrediction",
    "StepTable",
    "TurningPoint",
    "Verdict",
    "fit_steps",
    "measure_probe",
    "predict_from_probe",
    "read_configurations",
    "read_probe",
    "read_steps",
    "steps_to_target",
    "turning_point",
]

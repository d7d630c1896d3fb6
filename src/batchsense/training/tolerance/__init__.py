"""The smallest batch size that keeps the gradient within a tolerance, by named guarantees."""

from __future__ import annotations

from batchsense.training.tolerance.ladder import Guarantee, ToleranceRung, tolerance_ladder
from batchsense.training.tolerance.pilot import GradientPilot, measure_pilot
from batchsense.training.tolerance.plan import Certificate, certify_tolerance, plan_tolerance

__all__ = [
    "Certificate",
    "GradientPilot",
    "Guarantee",
    "ToleranceRung",
    "certify_tolerance",
    "measure_pilot",
    "plan_tolerance",
    "tolerance_ladder",
]

"""Which result model each command publishes, and its JSON Schema."""

from __future__ import annotations

from typing import Any

from batchsense.questions.audit.result import AuditResult
from batchsense.questions.correct.result import CorrectResult
from batchsense.questions.demo.result import DemoResult
from batchsense.questions.diagnose.result import DiagnoseResult
from batchsense.questions.gap.result import GapResult
from batchsense.questions.layout.result import LayoutResult
from batchsense.questions.noise.result import GradientNoiseResult
from batchsense.questions.plan.result import PlanResult
from batchsense.questions.surrogates.result import SurrogatesResult
from batchsense.questions.test.result import ContrastTestsResult
from batchsense.questions.verify.result import VerifyResult
from batchsense.reports.envelope import Envelope, Model

#: The result model of every command with ``--json``.
RESULTS: dict[str, type[Model]] = {
    "plan": PlanResult,
    "noise": GradientNoiseResult,
    "verify": VerifyResult,
    "audit": AuditResult,
    "diagnose": DiagnoseResult,
    "correct": CorrectResult,
    "layout": LayoutResult,
    "test": ContrastTestsResult,
    "surrogates": SurrogatesResult,
    "gap": GapResult,
    "demo": DemoResult,
}


def json_schema(command: str) -> dict[str, Any]:
    """Give the JSON Schema of a command's whole document, envelope included.

    Parameters
    ----------
    command : str
        A key of :data:`RESULTS`.

    Returns
    -------
    dict
        A JSON Schema, draft 2020-12.
    """
    envelope: Any = Envelope.__class_getitem__(RESULTS[command])
    schema: dict[str, Any] = envelope.model_json_schema(mode="serialization")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = f"batchsense {command} --json"
    return schema

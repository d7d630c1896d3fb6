"""Which result model each command publishes, and its JSON Schema."""

from __future__ import annotations

from typing import Any

from batchsense.reports.envelope import Envelope, Model
from batchsense.reports.results.audit import AuditResult
from batchsense.reports.results.correct import CorrectResult
from batchsense.reports.results.demo import DemoResult
from batchsense.reports.results.diagnose import DiagnoseResult
from batchsense.reports.results.gap import GapResult
from batchsense.reports.results.layout import LayoutResult
from batchsense.reports.results.noise import GradientNoiseResult
from batchsense.reports.results.plan import PlanResult
from batchsense.reports.results.surrogates import SurrogatesResult
from batchsense.reports.results.test import ContrastTestsResult
from batchsense.reports.results.verify import VerifyResult

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

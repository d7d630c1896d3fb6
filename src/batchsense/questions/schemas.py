"""The JSON Schema of what each command prints with ``--json``."""

from __future__ import annotations

from typing import Any

from batchsense.questions.registry import QUESTIONS
from batchsense.reports.envelope import Envelope


def json_schema(command: str) -> dict[str, Any]:
    """The JSON Schema of a command's whole document, envelope included."""
    envelope: Any = Envelope.__class_getitem__(QUESTIONS[command].result)
    schema: dict[str, Any] = envelope.model_json_schema(mode="serialization")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = f"batchsense {command} --json"
    return schema

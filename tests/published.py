"""Documents against the published schemas: a schema is read and judged once, not per document."""

from __future__ import annotations

from functools import cache
from typing import Any

import jsonschema

from batchsense.questions.registry import json_schema


@cache
def _validator(command: str) -> jsonschema.Draft202012Validator:
    schema = json_schema(command)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def check_document(document: Any, command: str) -> None:
    """Raise a ValidationError if a document is not what ``batchsense schema COMMAND`` prints."""
    _validator(command).validate(document)

"""A plan as a file that other questions start from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from batchsense.errors import DataError
from batchsense.questions.plan.result import PlanResult

if TYPE_CHECKING:
    from batchsense.training import Workload


def read_plan(path: str) -> PlanResult:
    """Read the plan that ``batchsense plan -o FILE`` wrote.

    Raises DataError: it is no plan, or one of another version.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=path) from None
    except (ValueError, RecursionError):
        raise DataError(
            "not a JSON document; write one with `batchsense plan TARGET -o FILE`", where=path
        ) from None
    if not isinstance(document, dict) or document.get("command") != "plan":
        raise DataError("not a plan; write one with `batchsense plan TARGET -o FILE`", where=path)
    if document.get("result") is None:
        raise DataError("holds a refusal, not a plan: there is no advice to check", where=path)
    try:
        return PlanResult.model_validate(document["result"])
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise DataError(
            f"not a plan of this version of batchsense ({place}); plan again", where=path
        ) from None


def check_same_job(workload: Workload, plan: PlanResult, path: str) -> None:
    """Refuse a plan that was made for another training job.

    Raises DataError: numbers of parameters or examples differ.
    """
    from batchsense.training.workload import trainable

    count = len(workload.examples)
    size = sum(parameter.numel() for parameter in trainable(workload.model))
    if (count, size) != (plan.examples, plan.parameters):
        raise DataError(
            f"made for {plan.target} with {plan.parameters:,} parameters and {plan.examples:,} "
            f"examples, but TARGET has {size:,} and {count:,}",
            where=path,
        )

"""Documents that other questions start from, and what of them must agree with the job."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from batchsense.errors import DataError
from batchsense.questions.plan.result import PlanResult
from batchsense.reports.envelope import Model
from batchsense.storage.documents import read_result

if TYPE_CHECKING:
    from batchsense.training import Workload

ModelT = TypeVar("ModelT", bound=Model)


def read_document(path: str, command: str, model: type[ModelT], how: str) -> ModelT:
    """Read what ``batchsense COMMAND`` wrote; ``how`` is the line that does.

    Raises DataError: it is no such document, or one of another version.
    """
    result = read_result(path, command, how)
    try:
        return model.model_validate(result)
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise DataError(
            f"not a {command} of this version of batchsense ({place}); run batchsense {command} "
            "again",
            where=path,
        ) from None


def read_plan(path: str) -> PlanResult:
    """Read the plan that ``batchsense plan -o FILE`` wrote; errors as :func:`read_document`."""
    return read_document(path, "plan", PlanResult, "batchsense plan TARGET -o FILE")


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

"""What ``batchsense name`` is asked, and how it is answered."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from batchsense.progress import Progress, silent
from batchsense.questions.answer import Answer, document_product
from batchsense.questions.option import Option
from batchsense.questions.training_request import TrainingRequest
from batchsense.reports.envelope import Model


class NameResult(Model):
    """What ``batchsense name --json`` publishes."""

    steps: int = Field(description="What it is, with its unit.")


class NameRequest(TrainingRequest):
    """Say in one line what it answers: the line of the registry.

    Then what it does, what it changes (nothing) and when the answer is no (exit code 1).

    \b
    Examples:
      batchsense name digits --steps 20
    """

    command: ClassVar[str] = "name"

    steps: Annotated[int, Field(ge=1), Option("How many, in which unit.", metavar="N")] = 100


def ask(request: NameRequest, progress: Progress = silent) -> Answer[NameResult]:
    """Measure, and answer.

    Raises
    ------
    DataError
        What cannot be used.
    """
    # Everything heavy is imported here, so that --help stays cheap.
    workload = request.workload(progress)
    envelope = request.envelope(NameResult(steps=request.steps + len(workload.examples)))
    return Answer(
        envelope,
        lambda _: f"{envelope.answer().steps} steps",  # in text.py where it is longer
        # `page=` gives figures and a template of its own: report.py, report.html.j2.
        products=(document_product(envelope, "answer"),),
    )

"""What ``batchsense noise`` is asked, and how it is answered."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, field_validator

from batchsense.progress import Progress, silent
from batchsense.questions.answer import Answer, document_product
from batchsense.questions.noise.result import GradientNoiseResult
from batchsense.questions.option import Option
from batchsense.questions.training_request import TrainingRequest


class NoiseRequest(TrainingRequest):
    """Measure the noise scale of a training job, at its present weights and along a short run.

    The noise scale is the batch size at which the error of the averaged gradient is as long as the
    gradient. Says which layers the noise comes from, and how many more examples would be needed
    where the answer is not resolved (exit code 1). The model is not changed.

    \b
    Examples:
      batchsense noise
      batchsense noise train.py:workload --examples 8192 --seed 1
      batchsense noise charlm --steps 0 --json
    """

    command: ClassVar[str] = "noise"

    examples: Annotated[
        int, Field(ge=8), Option("Most examples to draw.", metavar="N", front=True)
    ] = 2048
    micro_batches: Annotated[
        int, Field(ge=8), Option("Into how many parts to split them.", metavar="K")
    ] = 32
    per_example: Annotated[
        bool | None,
        Option(
            "Norms of single examples, which tell more, or the spread of micro-batches, which "
            "suits every model; else the first, or the second where they cannot be seen."
        ),
    ] = None
    steps: Annotated[
        int,
        Field(ge=0),
        Option("Steps of the run for the critical batch size; 0 for none.", metavar="N"),
    ] = 200
    budget: Annotated[
        float,
        Field(ge=1),
        Option("Time after which the run ends early.", metavar="SECONDS", label="Seconds"),
    ] = 60.0

    @field_validator("steps")
    @classmethod
    def _long_enough(cls, steps: int) -> int:
        if 0 < steps < 16:
            raise ValueError("--steps must be 16 or more, or 0 for no run")
        return steps


def ask(request: NoiseRequest, progress: Progress = silent) -> Answer[GradientNoiseResult]:
    """Survey the gradient noise.

    Raises DataError: the training job cannot be made or measured.
    Raises UnresolvedError: its loss has no gradient noise that could be measured.
    """
    from batchsense.questions.noise.report import noise_report
    from batchsense.questions.noise.text import needed, noise_text
    from batchsense.reports.envelope import Note, Refusal
    from batchsense.training import ShortRun, survey_gradient_noise

    workload = request.workload(progress)
    survey = survey_gradient_noise(
        workload,
        request.examples,
        request.micro_batches,
        per_example=request.per_example,
        run=ShortRun(request.steps, request.budget) if request.steps else None,
        seed=request.seed,
        progress=progress,
    )
    result = GradientNoiseResult.of(survey, request.target, workload.batch_size)
    refusal = None
    if not result.noise_scale.resolved:
        refusal = Refusal(
            kind="unresolved",
            message="the noise scale is not resolved: its interval is wider than a factor of four",
            needed=needed(result),
        )
    envelope = request.envelope(result, Note.published(survey.cautions), refusal)
    return Answer(
        envelope,
        lambda table: noise_text(envelope, table),
        lambda: noise_report(envelope, request.words()),
        (document_product(envelope, "noise"),),
        no=refusal is not None,
    )

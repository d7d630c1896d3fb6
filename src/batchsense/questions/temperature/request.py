"""What ``batchsense temperature`` is asked, and how it is answered."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from batchsense.progress import Progress, silent
from batchsense.questions.answer import Answer, document_product
from batchsense.questions.option import Option
from batchsense.questions.temperature.result import TemperatureResult
from batchsense.questions.training_request import TrainingRequest

#: What `benchmarks/cooling_forecast.py` found; said beside every forecast.
_TRIALS = (
    "In trials on a small network 6 of 9 forecasts held what cooling gained in their 90 % "
    "interval: where the loss comes in bursts one cooldown gains much more or much less than the "
    "mean heat. Keep the weights from before you cool."
)


class Drawing(StrEnum):
    """How minibatches are drawn."""

    epoch = "epoch"
    replacement = "replacement"


class World(StrEnum):
    """What can be simulated instead of training."""

    well = "well"


class TemperatureRequest(TrainingRequest):
    """Measure the heat of a training run, and what cooling it would gain.

    Minibatch noise keeps the loss above its floor. A copy of the model is trained at the job's own
    learning rate; the mean loss of its weights, less the loss of their mean, is the heat. Once the
    weights have settled this is what a smaller learning rate or a larger batch size would gain.
    Exit code 1 while they still travel or the heat changes, because then nobody can say.

    \b
    Examples:
      batchsense temperature digits --budget 60
      batchsense temperature train.py:workload --steps 20000 --window 2500
      batchsense temperature --simulate well --report arrhenius.html
    """

    command: ClassVar[str] = "temperature"

    budget: Annotated[
        float,
        Field(ge=1, le=1e6),
        Option("Time for the run.", metavar="SECONDS", label="Seconds", front=True),
    ] = 60.0
    steps: Annotated[
        int | None, Field(ge=1), Option("Make so many steps, whatever the time.", metavar="N")
    ] = None
    batch_size: Annotated[
        int | None,
        Field(ge=1),
        Option("Examples a step; else the job's own.", metavar="N", front=True),
    ] = None
    window: Annotated[
        int | None,
        Field(ge=40),
        Option("Steps of a window; else an eighth of the run, ten epochs at least.", metavar="N"),
    ] = None
    sampling: Annotated[
        Drawing,
        Option("Every example once an epoch, or each drawn by itself."),
    ] = Drawing.epoch
    simulate: Annotated[
        World | None,
        Option("No training: count escapes from a double well, and hold them to the law."),
    ] = None

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        given = {
            "--steps": self.steps,
            "--batch-size": self.batch_size,
            "--window": self.window,
        }
        named = [name for name, value in given.items() if value is not None]
        if self.simulate is not None and named:
            raise ValueError(f"--simulate trains nothing: leave out {' and '.join(named)}")
        return self


def ask(request: TemperatureRequest, progress: Progress = silent) -> Answer[TemperatureResult]:
    """Measure the heat, or simulate escapes.

    Raises DataError: the training job cannot be made or trained.
    Raises UnresolvedError: the run is too short for an interval.
    """
    from batchsense.questions.temperature.report import temperature_report
    from batchsense.questions.temperature.text import temperature_text
    from batchsense.reports.envelope import Note, Refusal

    refusal, notes = None, []
    if request.simulate is not None:
        from batchsense.training.simulate import arrhenius_plot

        result = TemperatureResult.of_escapes(arrhenius_plot(seed=request.seed, progress=progress))
    else:
        from batchsense.training.temperature import measure_temperature

        run = measure_temperature(
            request.workload(progress),
            seconds=None if request.steps is not None else request.budget,
            steps=request.steps,
            batch_size=request.batch_size,
            window=request.window,
            sampling="epoch" if request.sampling is Drawing.epoch else "replacement",
            seed=request.seed,
            progress=progress,
        )
        result = TemperatureResult.of(run, request.target)
        notes = [Note(code="thermometer", message=_sentence(w)) for w in run.reading.warnings]
        if run.reading.forecast is not None:
            notes.append(Note(code="forecast_trials", message=_TRIALS))
        if run.reading.withheld_for not in (None, "no_heat"):
            refusal = Refusal(
                kind="unresolved",
                message=f"no forecast: {run.reading.withheld}",
                needed="a longer run, or a start from weights that have settled",
            )
    envelope = request.envelope(result, notes, refusal)
    return Answer(
        envelope,
        lambda table: temperature_text(envelope, table),
        lambda: temperature_report(envelope, request.words()),
        (document_product(envelope, "temperature"),),
        no=refusal is not None,
    )


def _sentence(warning: str) -> str:
    return f"{warning[0].upper()}{warning[1:]}."

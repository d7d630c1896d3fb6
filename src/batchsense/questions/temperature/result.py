"""What ``batchsense temperature --json`` prints: heat, what cooling gains, or why not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from batchsense.reports.envelope import Estimate, Model, finite

if TYPE_CHECKING:
    from batchsense.training.simulate import Arrhenius
    from batchsense.training.temperature import TemperatureRun
    from batchsense.training.temperature.reading import Withheld


class Settled(Model):
    """Whether the weights have stopped travelling."""

    ratio: float | None = Field(
        description="1 in equilibrium, 0 on a random walk, below 0 on a journey."
    )
    yes: bool = Field(description="Whether the ratio is .9 or more.")


class WindowResult(Model):
    """One window of the run."""

    last_step: int
    mean_loss: float = Field(description="Of the weights along the window.")
    loss_of_mean: float = Field(description="Of their mean.")
    settled_ratio: float | None = Field(description="Of this window alone.")


class EscapePoint(Model):
    """Escapes at one temperature."""

    barrier_over_kt: float
    escapes: int = Field(description="How many were counted.")
    rate: Estimate = Field(description="Per unit of training time, 95 % interval of the count.")
    kramers: float = Field(description="What the law says.")


class EscapesResult(Model):
    """Escapes from a double well at several temperatures."""

    slope: Estimate = Field(description="Of −log rate over barrier/kT; 1 by the law.")
    points: list[EscapePoint]


class TemperatureResult(Model):
    """The heat of a training run, or escapes in a simulated one."""

    target: str | None = Field(description="null for a simulation.")
    heat: Estimate = Field(
        description="Mean loss of the weights less the loss of their mean, on training examples; "
        "while the weights travel that is part of it; 90 % interval from the windows."
    )
    forecast: Estimate = Field(
        description="How far the loss would fall if the run were cooled to rest; null with the "
        "reason where nobody can say."
    )
    settled: Settled | None
    injected_heat: float | None = Field(
        description="η tr C/(4B(1 − m)): the heat of independent minibatches, an upper figure; "
        "null for other optimizers than descent."
    )
    sampling: Literal["epoch", "replacement"]
    advice: str
    batch_size: int | None
    examples: int | None = Field(description="In the data set.")
    optimizer: str | None
    steps: int | None
    seconds: float | None
    read_examples: int | None = Field(description="Whose loss was read.")
    loss: float | None = Field(description="Mean loss over the last window.")
    windows: list[WindowResult]
    escapes: EscapesResult | None = Field(description="Of --simulate; null else.")

    @classmethod
    def of(cls, run: TemperatureRun, target: str) -> TemperatureResult:
        """Turn a run into its JSON form."""
        from batchsense.training.temperature.windows import equilibration

        reading = run.reading
        heat = Estimate.of(reading.heat)
        forecast = (
            Estimate.missing(reading.withheld, level=reading.heat.level)
            if reading.forecast is None
            else Estimate.of(reading.forecast)
        )
        return cls(
            target=target,
            heat=heat,
            forecast=forecast,
            settled=Settled(ratio=finite(reading.ratio), yes=reading.settled),
            injected_heat=None if reading.injected is None else finite(reading.injected),
            sampling="epoch" if run.sampling == "epoch" else "replacement",
            advice=advice(forecast, reading.withheld_for),
            batch_size=run.batch_size,
            examples=run.examples,
            optimizer=run.optimizer,
            steps=run.steps,
            seconds=run.seconds,
            read_examples=run.read,
            loss=run.windows[-1].mean_loss,
            windows=[
                WindowResult(
                    last_step=window.first_step + window.steps,
                    mean_loss=window.mean_loss,
                    loss_of_mean=window.loss_of_mean,
                    settled_ratio=finite(equilibration([window])),
                )
                for window in run.windows
            ],
            escapes=None,
        )

    @classmethod
    def of_escapes(cls, found: Arrhenius) -> TemperatureResult:
        """Turn counted escapes into their JSON form."""
        reason = "simulated escapes; no training was measured"
        points = [
            EscapePoint(
                barrier_over_kt=point.barrier_over_kt,
                escapes=point.count,
                rate=Estimate.of(point.rate),
                kramers=point.kramers,
            )
            for point in found.points
        ]
        return cls(
            target=None,
            heat=Estimate.missing(reason),
            forecast=Estimate.missing(reason),
            settled=None,
            injected_heat=None,
            sampling="replacement",
            advice="none: a simulation",
            batch_size=None,
            examples=None,
            optimizer=None,
            steps=None,
            seconds=None,
            read_examples=None,
            loss=None,
            windows=[],
            escapes=EscapesResult(slope=Estimate.of(found.slope), points=points),
        )


def advice(forecast: Estimate, withheld_for: Withheld | None) -> str:
    """Say in a few words what to do."""
    if withheld_for is not None:
        return _WITHOUT_FORECAST[withheld_for]
    if forecast.estimate is None or forecast.low is None or forecast.low <= 0:
        return _WITHOUT_FORECAST["no_heat"]
    half = forecast.estimate - forecast.low
    return f"cool now: −{forecast.estimate:.2g} ± {half:.1g}"


_WITHOUT_FORECAST: dict[str, str] = {
    "travelling": "still travelling: train on",
    "changing": "the heat still changes: train on",
    "no_heat": "cooling gains nothing that can be told from zero",
    "unknown_optimizer": "try a cooldown: how this optimizer cools is not known",
}

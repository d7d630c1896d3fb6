"""The page of ``batchsense temperature``, and what its figures say."""

from __future__ import annotations

from batchsense.questions.temperature import text
from batchsense.questions.temperature.result import TemperatureResult
from batchsense.reports.envelope import Envelope
from batchsense.reports.figures.heat import draw_escapes, draw_heat
from batchsense.reports.page import Picture, render
from batchsense.reports.wording import number


def temperature_report(
    envelope: Envelope[TemperatureResult], command_line: str | None = None
) -> str:
    """The page of a heat measurement, or of simulated escapes."""
    result = envelope.answer()
    if result.escapes is not None:
        return render(
            __file__,
            envelope,
            command_line,
            pictures={"escapes": _escapes(result)},
            headline=text.escape_headline(result.escapes),
            rows=text.escape_rows(result.escapes),
        )
    return render(
        __file__,
        envelope,
        command_line,
        pictures={"windows": _windows(result)},
        headline=text.headline(result),
        forecast=text.forecast_sentence(result),
        injected=text.injected_sentence(result),
        run=text.run_sentence(result),
        rows=text.window_rows(result),
    )


def _windows(result: TemperatureResult) -> Picture:
    ax = draw_heat(
        [window.last_step for window in result.windows],
        [window.mean_loss for window in result.windows],
        [window.loss_of_mean for window in result.windows],
    )
    last = result.windows[-1]
    both = "heat" if result.settled and result.settled.yes else "heat and travel"
    finding = (
        f"In the last window the weights have a loss of {number(last.mean_loss)} on average, and "
        f"their mean has {number(last.loss_of_mean)}: the gap is {both}."
    )
    return Picture.of(ax, "windows", "Loss along the run and of mean weights", finding)


def _escapes(result: TemperatureResult) -> Picture:
    assert result.escapes is not None
    points = result.escapes.points
    ax = draw_escapes(
        [point.barrier_over_kt for point in points],
        [point.rate for point in points],
        [point.kramers for point in points],
    )
    return Picture.of(
        ax,
        "escapes",
        "Escapes over a barrier, by its height in kT",
        text.escape_headline(result.escapes),
    )

"""The heat of a run in plain words."""

from __future__ import annotations

from batchsense.questions.answer import Tabulate
from batchsense.questions.temperature.result import EscapesResult, TemperatureResult
from batchsense.reports.columns import prose
from batchsense.reports.envelope import Envelope
from batchsense.reports.wording import number, seconds, span, with_interval

_DRAWN = {
    "epoch": "every example once an epoch",
    "replacement": "each example drawn by itself",
}


def temperature_text(envelope: Envelope[TemperatureResult], table: Tabulate) -> str:
    """Write the heat for people."""
    result = envelope.answer()
    if result.escapes is not None:
        return "\n\n".join(
            [prose(escape_headline(result.escapes)), table(*escape_rows(result.escapes))]
        )
    parts = [
        prose(headline(result)),
        prose(forecast_sentence(result)),
        prose(injected_sentence(result)),
        prose(run_sentence(result)),
        table(*window_rows(result)),
    ]
    if envelope.notes:
        notes = (prose(note.message, "- ") for note in envelope.notes)
        parts.append("\n".join(["What to keep in mind:", *notes]))
    return "\n\n".join(parts)


def headline(result: TemperatureResult) -> str:
    """Say the answer first; while weights travel the difference is not all heat."""
    assert result.settled is not None
    if not result.settled.yes:
        return (
            f"{result.target} is still travelling. The mean of its weights has a loss lower by "
            f"{with_interval(result.heat)} than the weights, {number(result.loss)}; that is heat "
            f"of minibatches of {result.batch_size:,} and travel together. Train on."
        )
    return (
        f"Heat of {result.target}: {with_interval(result.heat)} of a loss of "
        f"{number(result.loss)}, kept up by the noise of minibatches of {result.batch_size:,}. "
        f"{_capital(result.advice)}."
    )


def forecast_sentence(result: TemperatureResult) -> str:
    """Say what cooling would gain, or why that is not said."""
    assert result.settled is not None
    if result.forecast.estimate is None:
        return f"What cooling would gain is not said: {result.forecast.reason}."
    return (
        f"Cooled to rest, by a learning rate that falls to zero or batch sizes that grow, the loss "
        f"would fall by {with_interval(result.forecast)}. The weights have settled: "
        f"r = {number(result.settled.ratio, 2)}, where 1 is equilibrium and 0 a random walk."
    )


def injected_sentence(result: TemperatureResult) -> str:
    """Hold the heat against what independent minibatches would inject."""
    if result.injected_heat is None:
        return (
            f"The heat that the gradient noise injects is not computed: {result.optimizer} has no "
            "such formula, or its noise could not be measured."
        )
    end = (
        "Drawn once an epoch, the noises of an epoch sum to zero, so that slow directions stay "
        "colder than this."
        if result.sampling == "epoch"
        else "It holds for small steps."
    )
    return (
        f"Independent minibatches would keep up {number(result.injected_heat)}, by the measured "
        f"gradient noise: η tr C/(4B(1 − m)). {end}"
    )


def run_sentence(result: TemperatureResult) -> str:
    """Say what was run."""
    assert result.steps is not None
    return (
        f"Trained a copy for {result.steps:,} steps ({result.optimizer}, "
        f"{_DRAWN[result.sampling]}) in {seconds(result.seconds)}; losses read on "
        f"{result.read_examples:,} of {result.examples:,} examples."
    )


def window_rows(result: TemperatureResult) -> tuple[list[str], list[list[str]]]:
    """Tabulate the windows."""
    rows = [
        [
            f"{window.last_step:,}",
            number(window.mean_loss, 4),
            number(window.loss_of_mean, 4),
            number(window.mean_loss - window.loss_of_mean, 2),
            number(window.settled_ratio, 2),
        ]
        for window in result.windows
    ]
    return ["up to step", "mean loss", "loss of mean weights", "difference", "settled"], rows


def escape_headline(escapes: EscapesResult) -> str:
    """Say what the escapes showed."""
    return (
        "Escapes of simulated minibatch descent from a double well: −log rate grows by "
        f"{with_interval(escapes.slope)} with each kT of the barrier; Arrhenius and Kramers say 1."
    )


def escape_rows(escapes: EscapesResult) -> tuple[list[str], list[list[str]]]:
    """Tabulate the escapes."""
    rows = [
        [
            number(point.barrier_over_kt, 2),
            f"{point.escapes:,}",
            number(point.rate.estimate),
            span(point.rate.low, point.rate.high),
            number(point.kramers),
        ]
        for point in escapes.points
    ]
    return ["barrier / kT", "escapes", "rate", "interval", "Kramers' law"], rows


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]

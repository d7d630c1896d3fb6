"""The page of ``batchsense noise``, and what its figures say."""

from __future__ import annotations

from batchsense.questions.noise import text
from batchsense.questions.noise.result import GradientNoiseResult
from batchsense.reports.envelope import Envelope, Estimate
from batchsense.reports.figures.intervals import Row, draw_intervals, draw_sizes
from batchsense.reports.page import Picture, render
from batchsense.reports.wording import number, percent, with_interval


def noise_report(envelope: Envelope[GradientNoiseResult], command_line: str | None = None) -> str:
    """The page of a noise measurement."""
    result = envelope.answer()
    header, rows = text.layer_rows(result)
    return render(
        __file__,
        envelope,
        command_line,
        pictures=_noise_pictures(result),
        headline=text.headline(result),
        unresolved=text.unresolved_sentence(result),
        meaning=text.meaning(result),
        run=text.run_sentence(envelope),
        layer_header=header,
        layer_rows=rows,
    )


#: Layers that are drawn, those with the most noise, on one screen; the table has them all.
SHOWN_LAYERS = 20


def _noise_pictures(result: GradientNoiseResult) -> dict[str, Picture]:
    pictures = {}
    named: dict[str, Estimate | None] = {
        "noise scale, now": result.noise_scale,
        "critical, over the run": None if result.run is None else result.critical_batch_size,
    }
    rows = [Row.of(name, value) for name, value in named.items() if value is not None]
    if any(row.estimate or row.low for row in rows):
        finding = f"The noise scale is {with_interval(result.noise_scale, ' examples')}. "
        finding += (
            "Well below these sizes twice the examples mean nearly half the steps; well above "
            "them, hardly any fewer."
        )
        ax = draw_sizes(rows, None, result.batch_size_today)
        pictures["sizes"] = Picture.of(ax, "sizes", "Batch sizes that the noise names", finding)
    if len(result.layers) > 1:
        pictures["layers"] = _layers(result)
    return pictures


def _layers(result: GradientNoiseResult) -> Picture:
    ranked = sorted(result.layers, key=lambda layer: -(layer.noise_share.estimate or 0.0))
    most = ranked[0]
    name = f"Layer {most.name}" if most.name else "The model itself"
    finding = (
        f"{name} holds {percent(most.noise_share.estimate)} of the noise with "
        f"{percent(most.parameters / result.parameters)} of the trained numbers."
    )
    if len(ranked) > SHOWN_LAYERS:
        finding += f" Drawn: the {SHOWN_LAYERS} noisiest of {number(len(ranked))} layers."
    rows = [
        Row.of(layer.name or "(model)", layer.noise_share, 100) for layer in ranked[:SHOWN_LAYERS]
    ]
    ax = draw_intervals(rows, "share of the noise (%)")
    return Picture.of(ax, "layers", "Where the noise comes from", finding)

"""The page of ``batchsense audit``, and what its figures say."""

from __future__ import annotations

from batchsense.questions.audit.result import AuditResult
from batchsense.reports.envelope import Envelope
from batchsense.reports.figures.intervals import Row, draw_intervals
from batchsense.reports.page import Picture, render
from batchsense.reports.wording import percent


def audit_report(envelope: Envelope[AuditResult], command_line: str | None = None) -> str:
    """The page of an audit."""
    result = envelope.answer()
    return render(__file__, envelope, command_line, drawn=_audit_picture(result))


def _audit_picture(result: AuditResult) -> Picture | None:
    bias = result.bias
    if bias.p_value is None or bias.estimate is None or bias.high is None or bias.low is None:
        return None
    row = Row(
        "averaged micro-batches",
        100 * max(bias.estimate, 0.0),
        100 * bias.low,
        100 * bias.high,
        null_high=100 * result.deviation,
    )
    said = (
        f"A bias of {percent(bias.estimate)} of the full gradient was detected"
        if bias.detected
        else f"No bias was detected; it is below {percent(bias.high)} of the full gradient"
    )
    finding = (
        f"{said} ({percent(bias.low)} to {percent(bias.high)}, each end at "
        f"{percent(bias.level)}). The grey bar is how far a single minibatch deviates: what is not "
        "bias in it is noise, and averages out over steps."
    )
    ax = draw_intervals(
        [row],
        "per cent of the full gradient",
        estimate_label="bias",
        null_label="one minibatch",
        interval_label=f"interval, each end at {percent(bias.level)}",
    )
    return Picture.of(ax, "bias", "Bias and noise of splitting", finding)

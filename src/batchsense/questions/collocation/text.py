"""A solved problem in plain words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchsense.questions.answer import Tabulate
from batchsense.questions.collocation.result import CollocationResult, PhaseResult
from batchsense.reports.columns import prose
from batchsense.reports.envelope import Envelope
from batchsense.reports.wording import number, seconds

if TYPE_CHECKING:
    from batchsense.questions.collocation.request import CollocationRequest

_ENDINGS = {
    "seconds": "the budget is spent",
    "error": "the error asked for is reached",
    "steps": "the steps asked for are made",
}


def collocation_text(envelope: Envelope[CollocationResult], table: Tabulate) -> str:
    """Write the solution for people."""
    result = envelope.answer()
    parts = [prose(headline(result)), prose(conditions_sentence(result))]
    parts += [prose(sentence) for sentence in constant_sentences(result)]
    return "\n\n".join([*parts, table(*phase_rows(result))])


def headline(result: CollocationResult) -> str:
    """Say the answer first."""
    done = (
        f"{result.steps:,} steps and {seconds(result.cpu_seconds)} of processor time; "
        f"{_ENDINGS[result.stopped_by]}."
    )
    if result.relative_l2 is None:
        return (
            f"{result.problem}: a loss of {number(result.validation_loss)} on points that no step "
            f"used, after {done} There is no reference, so the error is not known."
        )
    missed = ""
    if result.target_error is not None and result.stopped_by != "error":
        missed = f" The error of {number(result.target_error)} asked for was not reached."
    return (
        f"{result.problem}: relative L2 error {number(result.relative_l2)} against the reference "
        f"({result.reference}), after {done}{missed}"
    )


def conditions_sentence(result: CollocationResult) -> str:
    """Say what holds exactly and what is a term of the loss."""
    soft = ", ".join(result.soft)
    if not result.exact:
        return f"Terms of the loss, which hold as well as they are fitted: {soft}."
    return (
        f"Exact by the form of the network: {', '.join(result.exact)}. Terms of the loss: {soft}."
    )


def constant_sentences(result: CollocationResult) -> list[str]:
    """Say what constants were found."""
    return [
        f"Found {one.name} = {number(one.found, 4)}; the data were made with "
        f"{number(one.true, 4)}, {abs(one.found / one.true - 1):.2%} away."
        for one in result.constants
    ]


def phase_rows(result: CollocationResult) -> tuple[list[str], list[list[str]]]:
    """Tabulate the phases, each with the reason why it began."""
    rows = [
        [
            phase.name,
            points_words(phase),
            f"{phase.steps:,}",
            f"{phase.cpu_seconds:.1f}",
            "" if phase.relative_l2 is None else number(phase.relative_l2),
            phase.reason,
        ]
        for phase in result.phases
    ]
    return ["phase", "points a step", "steps", "CPU s", "error after", "began because"], rows


def points_words(phase: PhaseResult) -> str:
    """Counts by condition, one number where there is one condition."""
    return " + ".join(f"{one.count:,}" for one in phase.points)


def farewell(request: CollocationRequest, steps: int) -> str:
    """What a run that was asked to stop says."""
    if request.output is None:
        return f"stopped after step {steps:,}; nothing is kept without -o"
    again = "the same command" if request.resume else "the same command with --resume"
    return f"stopped after step {steps:,}; {again} goes on from there"

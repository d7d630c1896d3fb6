"""The gradient noise in plain words, for readers who have never heard of noise scale."""

from __future__ import annotations

from batchsense.questions.answer import Tabulate
from batchsense.questions.noise.result import GradientNoiseResult
from batchsense.reports.columns import prose
from batchsense.reports.envelope import Envelope, Estimate
from batchsense.reports.wording import number, percent, span, with_interval


def noise_text(envelope: Envelope[GradientNoiseResult], table: Tabulate) -> str:
    """Write the gradient noise for people."""
    result = envelope.answer()
    parts = [prose(headline(result))]
    if not result.noise_scale.resolved:
        parts.append(prose(unresolved_sentence(result)))
    parts += [prose(meaning(result)), prose(run_sentence(envelope))]
    if len(result.layers) > 1:
        parts.append("Where the noise comes from:")
        parts.append(table(*layer_rows(result)))
    if envelope.notes:
        parts.append(
            "\n".join(
                ["What to keep in mind:", *(prose(note.message, "- ") for note in envelope.notes)]
            )
        )
    return "\n\n".join(parts)


def headline(result: GradientNoiseResult) -> str:
    """Say the answer first."""
    return (
        f"Noise scale of {result.target}: {with_interval(result.noise_scale, ' examples')}, from "
        f"{result.examples_used:,} of {result.examples:,} examples at the present weights."
    )


def needed(result: GradientNoiseResult) -> str:
    """Say what would resolve the noise scale."""
    if result.examples - result.examples_used < result.micro_batches:
        return f"more examples than the {result.examples:,} of the data set"
    amount = "at least" if result.needed_at_least else "about"
    return f"{amount} {result.examples_needed:,} more examples"


def unresolved_sentence(result: GradientNoiseResult) -> str:
    """Say that this is not resolved, and what would resolve it."""
    total = result.examples_used + result.examples_needed
    last = result.examples - result.examples_used < result.micro_batches
    how = f" (--examples {total})" if total <= result.examples and not last else ""
    return f"Not resolved yet: {needed(result)} are needed{how}."


def meaning(result: GradientNoiseResult) -> str:
    """Explain the number."""
    return (
        "Each example gives its own opinion on how to change the model. At a batch size equal to "
        "the noise scale, the error of the averaged gradient is as long as the gradient itself; "
        "it falls as one over the square root of the batch size. It holds for these weights and "
        "mostly grows while the loss falls."
    )


def run_sentence(envelope: Envelope[GradientNoiseResult]) -> str:
    """Say what the short run showed."""
    result = envelope.answer()
    if result.run is None:
        asked = envelope.asked["steps"]
        why = "the run did not show it (see below)" if asked else "no run was asked for"
        return f"Critical batch size: not measured, because {why}."
    run = result.run
    sentence = (
        "Critical batch size, where a training run takes twice the fewest steps and twice the "
        f"fewest examples: {with_interval(result.critical_batch_size, ' examples', 2)}, over "
        f"{run.steps} steps of {run.batch_size} examples in which the loss went from "
        f"{number(run.initial_loss)} to {number(run.final_loss)}."
    )
    if not result.critical_batch_size.resolved:
        sentence += " Not resolved yet: more --steps narrow it."
    return sentence


def layer_rows(result: GradientNoiseResult) -> tuple[list[str], list[list[str]]]:
    """Tabulate the layers."""
    rows = [
        [
            layer.name or "(model)",
            f"{layer.parameters:,}",
            percent(layer.noise_share.estimate, 3),
            _shares(layer.noise_share),
            number(layer.noise_scale.estimate, 2),
            span(layer.noise_scale.low, layer.noise_scale.high, 2),
        ]
        for layer in result.layers
    ]
    return ["layer", "parameters", "share of noise", "interval", "noise scale", "interval"], rows


def _shares(value: Estimate) -> str:
    return f"{percent(value.low, 3)} to {percent(value.high, 3)}"

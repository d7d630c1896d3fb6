"""What a plan is unsure of: a stable code and a sentence for each doubt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from batchsense.errors import listed
from batchsense.notes import Note
from batchsense.training.gradient_noise import PathNoise
from batchsense.training.memory.example_sizes import DifferingExamples
from batchsense.training.tolerance import ToleranceRung


def doubts_of_noise(
    path: PathNoise, family: str, steps_wanted: int, examples: int
) -> tuple[Note, ...]:
    """Say why the critical batch size may be off."""
    critical = path.critical_batch_size
    high = f"and {critical.high:,.0f}" if critical.bounded else "and no upper end"
    seen = (
        f"{path.steps} steps ({path.steps * path.batch_size / examples:.2g} passes over the data)"
    )
    return _those(
        (
            not path.resolved,
            "critical_batch_size_unresolved",
            f"The critical batch size is not resolved (between {critical.low:,.0f} {high}); about "
            f"{path.steps_needed * path.batch_size:,} more examples of training would narrow it: "
            "raise --budget.",
        ),
        (
            path.run_too_large,
            "run_batch_size_too_large",
            f"The short run used {path.batch_size} examples a step, more than four times the "
            "critical batch size it found, and then overestimates it: the right batch size may be "
            "smaller.",
        ),
        (
            not path.loss_fell,
            "loss_hardly_fell",
            f"The loss went from {path.initial_loss:.4g} to {path.final_loss:.4g} in "
            f"{path.steps} steps, no more than chance would have it, so the noise of real progress "
            "was not seen; check the learning rate or raise --budget.",
        ),
        (
            path.loss_fell,
            "beginning_only",
            f"Measured over {seen}, while the loss fell from {path.initial_loss:.3g} to "
            f"{path.final_loss:.3g}. Noise grows as the loss falls further, and the best batch "
            "size with it.",
        ),
        (
            True,
            "learning_rate_trusted",
            "The learning rate is taken to be well tuned: one four times too small made the "
            "critical batch size come out two to four times too large in our trials.",
        ),
        (
            path.steps < steps_wanted,
            "run_cut_short",
            f"Time allowed {path.steps} steps of training instead of {steps_wanted}; "
            "a larger --budget sees more.",
        ),
        (
            family == "adam",
            "adaptive_optimizer",
            "For Adam and its kin the critical batch size is a rough guide (off by up to a factor "
            "of three in our trials): low confidence.",
        ),
        (
            family == "other",
            "unknown_optimizer",
            "The theory is for SGD; for this optimizer the advice is untested.",
        ),
    )


def doubts_of_coupling(modules: Sequence[str], cautions: Iterable[Note]) -> tuple[Note, ...]:
    """Name the layers that mix examples, or pass on what the quick audit found without any."""
    if not modules:
        return tuple(cautions)
    return _those(
        (
            True,
            "coupled_examples",
            f"{listed(modules, 3)} mixes the examples of a minibatch, so there is no gradient of "
            "one example and noise depends on how minibatches are split: low confidence.",
        )
    )


def doubts_of_memory(
    refusal: str, differing: DifferingExamples | None, device: str
) -> tuple[Note, ...]:
    """Say why the memory limit may be off, or, after a refusal, is unknown."""
    return _those(
        (bool(refusal), "memory_unresolved", f"Memory is not part of the advice: {refusal}."),
        (
            differing is not None,
            "examples_differ_in_size",
            f"Examples differ in size; memory holds for minibatches of {differing}.",
        ),
        (
            device == "cuda" and not refusal,
            "gpu_memory_rough",
            "Fragmentation of the GPU allocator is covered by a margin only.",
        ),
    )


def doubts_of_precision(calibrated: ToleranceRung, advised: int) -> Note:
    """Say when the wanted precision could not be resolved or reached."""
    size = calibrated.batch_size
    if size is None:
        return Note(
            "precision_unresolved",
            f"No batch size can be named for the tolerance: {calibrated.assumes}; it would take "
            f"{calibrated.needed}.",
        )
    if size > advised:
        return Note(
            "precision_beyond_limits",
            f"The tolerance needs {size:,} examples, more than memory, data or your maximum allow: "
            f"minibatches of {advised:,} do not keep it. Accumulate gradients over several.",
        )
    return Note(
        "precision_at_these_weights",
        "The tolerance holds for the weights where the short run ended; as the gradient shrinks, "
        "more examples are needed.",
    )


def doubts_of_rate(rules: Sequence[str] | None) -> tuple[Note, ...]:
    """Pass on the doubts of the learning rate's rule; None where no rate could be given."""
    if rules is None:
        return _those(
            (
                True,
                "batch_size_today_unknown",
                "Which batch size the learning rate was chosen for is unknown, so no matching one "
                "can be given: say --today N, or Workload(batch_size=N).",
            )
        )
    return tuple(Note("learning_rate_rule", text[0].upper() + text[1:] + ".") for text in rules)


def _those(*possible: tuple[bool, str, str]) -> tuple[Note, ...]:
    return tuple(Note(code, text) for holds, code, text in possible if holds)

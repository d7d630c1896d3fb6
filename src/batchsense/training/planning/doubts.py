"""What a plan is unsure of: a stable code and a sentence for each doubt."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from batchsense.errors import DataError, listed
from batchsense.notes import Note
from batchsense.training.gradient_noise.path import PathNoise, notes_on_path
from batchsense.training.memory.example_sizes import DifferingExamples
from batchsense.training.planning.batch_size import used_critical_batch_size
from batchsense.training.tolerance import ToleranceRung
from batchsense.training.workload import (
    Workload,
    WorkloadCheck,
    borrowed_randomness,
    flat_gradient,
)

#: A last minibatch of so few is tried: BatchNorm and a variance need two examples, a difference of
#: pairs or a correlation three.
_FEW = 3

#: By what factor a doubt may move the advised size, which goes as the root of the critical one; of
#: codes that are in neither table nothing is known, and they may move it to any size.
_MOVES = {
    "run_batch_size_too_large": math.sqrt(4),
    "learning_rate_trusted": math.sqrt(4),
    "adaptive_optimizer": math.sqrt(3),
}
#: These leave the size, and are about the learning rate, the memory or the last minibatch.
_LEAVE = frozenset(
    {
        "run_cut_short",
        "batch_size_today_unknown",
        "learning_rate_rule",
        "last_minibatch",
        "examples_differ_in_size",
        "gpu_memory_rough",
        "precision_at_these_weights",
        "loading_counts",
    }
)


def ranked(doubts: Iterable[Note], path: PathNoise, noise_now: float) -> tuple[Note, ...]:
    """Order doubts by how far they may move the advised size, those that leave it last.

    ``noise_now`` is the noise scale where the short run ended, in examples; the advice is for its
    mean along the run.
    """
    critical = path.critical_batch_size
    used = used_critical_batch_size(critical)
    grown = noise_now / used if noise_now < math.inf else 1.0
    ends = [critical.high / used, used / critical.low if critical.low > 0 else math.inf]
    moves = {
        **_MOVES,
        **dict.fromkeys(_LEAVE, 1.0),
        "critical_batch_size_unresolved": math.sqrt(max(ends)),
        "beginning_only": math.sqrt(max(grown, 1.0)),
    }
    return tuple(sorted(doubts, key=lambda doubt: -moves.get(doubt.code, math.inf)))


def doubts_of_noise(
    path: PathNoise, family: str, steps_wanted: int, examples: int
) -> tuple[Note, ...]:
    """Say why the critical batch size may be off."""
    critical = path.critical_batch_size
    high = f"and {critical.high:,.0f}" if critical.bounded else "and no upper end"
    seen = f"{path.steps} steps ({path.steps * path.batch_size / examples:.2g} times all examples)"
    own = _those(
        (
            not path.resolved,
            "critical_batch_size_unresolved",
            f"The critical batch size is not resolved (between {critical.low:,.0f} {high}); about "
            f"{path.steps_needed * path.batch_size:,} more examples of training would narrow it: "
            "raise --budget.",
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
            f"{path.final_loss:.3g}. Noise mostly grows as the loss falls further, and the best "
            "batch size with it.",
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
    )
    return (*notes_on_path(path, family), *own)


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


def doubts_of_the_last_minibatch(
    workload: Workload, check: WorkloadCheck, advised: int
) -> tuple[Note, ...]:
    """Try a step on what an epoch leaves for its last minibatch, if that is three or fewer.

    A note where a step on so few fails, or where one example makes the statistics of BatchNorm.
    """
    left = check.examples % advised
    if not 0 < left <= _FEW:
        return ()
    leaves = f"{check.examples:,} examples in minibatches of {advised:,} leave a last one of {left}"
    try:
        with borrowed_randomness(0):
            minibatch = workload.minibatch(range(left))
            flat_gradient(workload, workload.fresh_model(), minibatch)
    except DataError as error:
        why = f"{leaves}, on which a step fails: {error.message}"
    else:
        if left > 1 or not check.coupled_modules:
            return ()
        why = f"{leaves}, from which alone {listed(check.coupled_modules, 3)} takes its statistics"
    return (Note("last_minibatch", f"{why}. Use drop_last=True in the DataLoader."),)


def _those(*possible: tuple[bool, str, str]) -> tuple[Note, ...]:
    return tuple(Note(code, text) for holds, code, text in possible if holds)

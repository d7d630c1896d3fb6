"""What a plan is unsure of: a stable code and a sentence for each doubt."""

from __future__ import annotations

from batchsense.errors import listed
from batchsense.notes import Note
from batchsense.training.gradient_noise.path import PathNoise
from batchsense.training.learning_rate import Family
from batchsense.training.memory.envelope import MemoryEnvelope
from batchsense.training.planning.batch_size import BatchSizePlan
from batchsense.training.step_time import StepTime
from batchsense.training.workload.checks import WorkloadCheck


def doubts_of_noise(
    path: PathNoise, family: Family, steps_wanted: int, examples: int
) -> list[Note]:
    """Say why the critical batch size may be off."""
    found = []
    critical = path.critical_batch_size
    if not path.resolved:
        more = path.steps_needed * path.batch_size
        high = f"and {critical.high:,.0f}" if critical.bounded else "and no upper end"
        found.append(
            Note(
                "critical_batch_size_unresolved",
                f"The critical batch size is not resolved (between {critical.low:,.0f} {high}); "
                f"about {more:,} more examples of training would narrow it: raise --budget.",
            )
        )
    if path.run_too_large:
        found.append(
            Note(
                "run_batch_size_too_large",
                f"The short run used {path.batch_size} examples a step, more than four times the "
                "critical batch size it found, and then overestimates it: the right batch size "
                "may be smaller.",
            )
        )
    if not path.loss_fell:
        found.append(
            Note(
                "loss_hardly_fell",
                f"The loss went from {path.initial_loss:.4g} to {path.final_loss:.4g} in "
                f"{path.steps} steps, no more than chance would have it, so the noise of real "
                "progress was not seen; check the learning rate or raise --budget.",
            )
        )
    else:
        found.append(
            Note(
                "beginning_only",
                f"Measured over {path.steps} steps ({path.steps * path.batch_size / examples:.2g} "
                f"passes over the data), while the loss fell from {path.initial_loss:.3g} to "
                f"{path.final_loss:.3g}. Noise grows as the loss falls further, and the best batch "
                "size with it.",
            )
        )
    found.append(
        Note(
            "learning_rate_trusted",
            "The learning rate is taken to be well tuned: one four times too small made the "
            "critical batch size come out two to four times too large in our trials.",
        )
    )
    if path.steps < steps_wanted:
        found.append(
            Note(
                "run_cut_short",
                f"Time allowed {path.steps} steps of training instead of {steps_wanted}; "
                "a larger --budget sees more.",
            )
        )
    if family == "adam":
        found.append(
            Note(
                "adaptive_optimizer",
                "For Adam and its kin the critical batch size is a rough guide (off by up to a "
                "factor of three in our trials): low confidence.",
            )
        )
    if family == "other":
        found.append(
            Note(
                "unknown_optimizer",
                "The theory is for SGD; for this optimizer the advice is untested.",
            )
        )
    return found


def doubts_of_workload(check: WorkloadCheck) -> list[Note]:
    """Say which assumption about the loss does not hold."""
    found = []
    if check.coupled_modules:
        found.append(
            Note(
                "coupled_examples",
                f"{listed(check.coupled_modules, 3)} mixes the examples of a minibatch, so there "
                "is no gradient of one example and noise depends on how minibatches are split: "
                "low confidence.",
            )
        )
    return found


def doubts_of_step_time(timed: StepTime, plan: BatchSizePlan) -> list[Note]:
    """Say why the step time may be off at the advised size."""
    found = []
    if not timed.is_line:
        found.append(
            Note(
                "step_time_no_line",
                f"Step times miss the line c0 + c1·B by up to {timed.misfit:.0%}; the advice was "
                "searched between the measured times instead, and its interval is rougher.",
            )
        )
    if timed.fixed.estimate == 0:
        found.append(
            Note(
                "no_fixed_cost",
                "No fixed cost per step could be seen, so small minibatches look free; the fit is "
                "held at zero.",
            )
        )
    if timed.per_example.estimate == 0:
        found.append(
            Note(
                "no_cost_per_example",
                "Steps took no longer for more examples at the sizes timed; the true limit lies "
                "above them.",
            )
        )
    if plan.batch_size > 2 * timed.batch_sizes[-1]:
        found.append(
            Note(
                "beyond_timed_sizes",
                f"The advice lies beyond the largest size timed ({timed.batch_sizes[-1]:.0f}).",
            )
        )
    if timed.fetch_share > 0.2:
        found.append(
            Note(
                "loading_counts",
                f"Reading and collating examples takes {timed.fetch_share:.0%} of a step; with "
                "loader workers that part can overlap and the best batch size changes.",
            )
        )
    return found


def doubts_of_memory(envelope: MemoryEnvelope | None, refusal: str, device: str) -> list[Note]:
    """Say why the memory limit may be off."""
    if envelope is None:
        return [Note("memory_unresolved", f"Memory is not part of the advice: {refusal}.")]
    found = []
    if envelope.variable_examples:
        found.append(
            Note(
                "examples_differ_in_size",
                "Examples differ in size; memory holds for the largest of 256 looked at.",
            )
        )
    if device == "cuda":
        found.append(
            Note(
                "gpu_memory_rough",
                "Fragmentation of the GPU allocator is covered by a margin only.",
            )
        )
    return found

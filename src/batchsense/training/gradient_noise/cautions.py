"""What must be kept in mind about a measurement: a stable code and a sentence for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from batchsense.errors import listed
from batchsense.notes import Note
from batchsense.training.gradient_noise.path import PathNoise

#: Largest over mean squared norm of single gradients above which intervals are too optimistic.
HEAVY_TAIL = 20.0


def cautions_of_path(path: PathNoise | None, family: str) -> list[Note]:
    """Say why a critical batch size may be off.

    Parameters
    ----------
    path : PathNoise or None
        The critical batch size along a run; None if the run was too short.
    family : {"sgd", "adam", "other"}
        Kind of optimizer.

    Returns
    -------
    list of Note
        Empty if nothing is known against it.
    """
    found = []
    if path is not None and path.run_too_large:
        found.append(
            Note(
                "run_batch_size_too_large",
                f"The run used {path.batch_size:,} examples a step, more than four times the "
                "critical batch size found, which is then overestimated; measure a run with a "
                "smaller batch size.",
            )
        )
    if path is not None and family == "adam":
        found.append(
            Note(
                "adaptive_optimizer",
                "For Adam and its kin the critical batch size is a rough guide (off by up to a "
                "factor of three in our trials): low confidence.",
            )
        )
    if path is not None and family == "other":
        found.append(
            Note(
                "unknown_optimizer",
                "The theory is for SGD; for this optimizer the critical batch size is untested.",
            )
        )
    return found


def heavy_tail(largest_over_mean: float) -> list[Note]:
    """Say so if a few examples dominate."""
    if largest_over_mean <= HEAVY_TAIL:
        return []
    return [
        Note(
            "heavy_tailed",
            f"The largest squared gradient of one example is {largest_over_mean:.0f} times their "
            "mean: a few examples dominate, and intervals are too narrow by a little (88 to 97 % "
            "coverage where 95 % is meant).",
        )
    ]


def coupled(names: Sequence[str]) -> list[Note]:
    """Say so if modules mix the examples of a minibatch."""
    if not names:
        return []
    verb = "mixes" if len(names) == 1 else "mix"
    return [
        Note(
            "coupled_examples",
            f"{listed(names, 3)} {verb} the examples of a minibatch, so there is no gradient of "
            "one example and the noise depends on how minibatches are split: low confidence.",
        )
    ]


def left_out(steps: Mapping[str, int]) -> list[Note]:
    """Say which steps were not measured, and why."""
    return [
        Note("steps_left_out", f"{count:,} {'step' if count == 1 else 'steps'}: {reason}.")
        for reason, count in steps.items()
    ]

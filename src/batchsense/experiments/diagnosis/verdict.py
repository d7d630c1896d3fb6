"""One word for a diagnosis, and the thresholds behind it.

The thresholds are conventions. They are gathered here, each with its reason, and the numbers they
judge are always reported beside the word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from batchsense.errors import listed
from batchsense.experiments.design import MOST_PRODUCTS, Design
from batchsense.experiments.diagnosis.shares import Share
from batchsense.experiments.entanglement import Entanglement, LevelContrast
from batchsense.notes import Note

Verdict = Literal["fine", "adjust", "partly_lost", "not_estimable"]

#: A batch share is seen when permuted labels reach it less often than this: the usual 5 %.
SEEN_P = 0.05
#: R² of a kept factor with the batches above which half of its information is gone: the variance
#: of its effect at least doubles, and centring the batches would destroy at least half of it.
PARTLY_LOST_R2 = 0.5
#: R² below which adjusting or not makes little difference to the kept factor: keeping the batch in
#: the model costs at most a tenth of the information, and even a batch effect that the data do
#: not show can leak into the factor only weakly.
BALANCED_R2 = 0.1


def judge(
    batch_share: Share | None, found: Sequence[Entanglement], batch_name: str
) -> tuple[Verdict, str]:
    """The verdict, and a sentence with the numbers that decided it.

    ``not_estimable``: some kept factor cannot be told from the batches. ``partly_lost``: R² of
    some kept factor with the batches is at least 0.5. ``adjust``: the batches explain more than
    chance (p < 0.05), or R² is at least 0.1. ``fine``: neither.
    """
    lost = [one for one in found if not one.confounding.estimable]
    if lost:
        relations = [relation for one in lost for relation in one.confounding.aliased]
        names = listed([one.name for one in lost])
        return "not_estimable", f"{names} cannot be told from {batch_name}: {listed(relations)}."
    worst = max(found, key=lambda one: one.confounding.r2, default=None)
    if worst is not None and worst.confounding.r2 >= PARTLY_LOST_R2:
        return "partly_lost", (
            f"R² of {worst.name} with {batch_name} is {worst.confounding.r2:.2f}: with "
            f"{batch_name} in the model the data are worth {worst.confounding.effective_n:.1f} "
            f"specimens for {worst.name}, and centring without it in the model would destroy up "
            f"to {100 * worst.confounding.attenuation:.0f} % of its effect."
        )
    seen = batch_share is not None and batch_share.null.p_value < SEEN_P
    if seen and batch_share is not None:
        return "adjust", (
            f"{batch_name} explains more than permuted labels do (raw share "
            f"{batch_share.raw:.3f}, by chance {batch_share.null.mean:.3f}): keep it in the model."
        )
    if worst is not None and worst.confounding.r2 >= BALANCED_R2:
        return "adjust", (
            f"no effect of {batch_name} is seen, but R² of {worst.name} with it is "
            f"{worst.confounding.r2:.2f}, so even an unseen one would leak into {worst.name}: keep "
            f"{batch_name} in the model."
        )
    if batch_share is None:
        said = f"nothing of {batch_name} is left beside what is to be kept"
    else:
        said = (
            f"{batch_name} explains no more than permuted labels often do (raw share "
            f"{batch_share.raw:.3f}, by chance {batch_share.null.mean:.3f} on average, p = "
            f"{batch_share.null.p_value:.2g})"
        )
    if worst is None:
        return "fine", f"{said}."
    return "fine", (
        f"{said}, and what is to be kept is balanced: its R² with {batch_name} is at most "
        f"{worst.confounding.r2:.2f}."
    )


def remarks(design: Design, batch_share: Share | None, interaction: Share | None) -> list[Note]:
    """Notes on what was not, or could not be, looked at, and on interactions."""
    batches, notes = design.batches.name, []
    if not design.kept:
        message = (
            "No factor was named to be kept, so nothing can be said about what is entangled with "
            f"{batches}; name the wanted columns with --keep."
        )
        notes.append(Note("nothing_kept", message))
    if interaction and batch_share and interaction.share.low > batch_share.share.estimate:
        message = (
            f"What {batches} does differs between the levels of what is kept: this interaction has "
            f"{100 * interaction.share.estimate:.1f} % of the variance, the additive part "
            f"{100 * batch_share.share.estimate:.1f} %. An additive correction removes the smaller "
            "part only."
        )
        notes.append(Note("interaction_dominates", message))
    if design.kept and design.interaction() is None:
        message = (
            f"The interaction of {batches} with what is kept has more than {MOST_PRODUCTS} "
            "columns and was not looked at."
        )
        notes.append(Note("interaction_left_out", message))
    return notes


def linked_through(contrasts: Mapping[str, Sequence[LevelContrast]]) -> list[Note]:
    """Notes on differences that rest on the specimens of a single other level."""
    notes = []
    for name, found in contrasts.items():
        resting: dict[str, list[str]] = {}
        for contrast in found:
            for level in contrast.only_through:
                resting.setdefault(level, []).append(str(contrast))
        for level, linked in resting.items():
            message = (
                f"{name}: {listed(linked)} can be told only through {level}. "
                f"Without the specimens of {level} no batch would link these levels."
            )
            notes.append(Note("linked_through", message, (level, *linked)))
    return notes

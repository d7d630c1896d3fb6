"""What must be said beside the numbers of a diagnosis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from batchsense.errors import listed
from batchsense.experiments.contrasts import LevelContrast
from batchsense.experiments.design import MOST_PRODUCTS, Design
from batchsense.experiments.diagnosis.shares import Share
from batchsense.notes import Note


def remarks(design: Design, batch_share: Share | None, interaction: Share | None) -> list[Note]:
    """Gather the notes on what was not, or could not be, looked at, and on interactions.

    Parameters
    ----------
    design : Design
        The factors.
    batch_share, interaction : Share or None
        What batches, and batches times kept factors, add.

    Returns
    -------
    list of Note
        ``nothing_kept``, ``interaction_dominates`` and ``interaction_left_out``, as they apply.
    """
    return [
        *_nothing_kept(design),
        *_interacting(interaction, batch_share, design.batches.name),
        *_left_out(design),
    ]


def _nothing_kept(design: Design) -> list[Note]:
    """Remark that without a kept factor nothing can be said about confounding."""
    if design.kept:
        return []
    message = (
        "No factor was named to be kept, so nothing can be said about what is entangled with "
        f"{design.batches.name}; name the wanted columns with --keep."
    )
    return [Note("nothing_kept", message)]


def _interacting(interaction: Share | None, batch: Share | None, name: str) -> list[Note]:
    """Remark on an interaction that an additive correction would leave."""
    if interaction is None or batch is None or interaction.share.low <= batch.share.estimate:
        return []
    message = (
        f"What {name} does differs between the levels of what is kept: this interaction has "
        f"{100 * interaction.share.estimate:.1f} % of the variance, the additive part "
        f"{100 * batch.share.estimate:.1f} %. An additive correction removes the smaller part only."
    )
    return [Note("interaction_dominates", message)]


def linked_through(contrasts: Mapping[str, Sequence[LevelContrast]]) -> list[Note]:
    """Remark on differences that rest on the specimens of a single other level.

    Parameters
    ----------
    contrasts : mapping of str to sequence of LevelContrast
        The contrasts of each kept factor.

    Returns
    -------
    list of Note
        One ``linked_through`` for each level that others rest on.
    """
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


def _left_out(design: Design) -> list[Note]:
    """Remark on an interaction that was not looked at."""
    if not design.kept or design.interaction() is not None:
        return []
    message = (
        f"The interaction of {design.batches.name} with what is kept has more than {MOST_PRODUCTS} "
        "columns and was not looked at."
    )
    return [Note("interaction_left_out", message)]

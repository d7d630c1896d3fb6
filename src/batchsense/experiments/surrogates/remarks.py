"""What the user of surrogate variables must know."""

from __future__ import annotations

from collections.abc import Sequence

from batchsense.arrays import Floats
from batchsense.experiments.statistics.confounding import Confounding
from batchsense.experiments.surrogates.estimation import SurrogateCount
from batchsense.notes import Note

#: R² of a kept factor with the surrogates above which they may have swallowed it.
SWALLOWED_R2 = 0.3


def surrogate_remarks(
    kept: tuple[tuple[str, Confounding], ...],
    counted: SurrogateCount,
    values: Floats,
    keep: Sequence[str],
    asked: int,
    affected: float,
) -> list[Note]:
    """Say what surrogates cannot promise, and where this run is in danger.

    Parameters
    ----------
    kept : tuple of (str, Confounding)
        Kept factors against the surrogates.
    counted : SurrogateCount
        What exceeds chance.
    values : array of shape (specimens, surrogates)
        What was found.
    keep : sequence of str
        What was to be kept.
    asked : int
        How many surrogates were to be found.
    affected : float
        Sum of the weights of the features.

    Returns
    -------
    list of Note
        Remarks.
    """
    notes = []
    for name, confounding in kept:
        if confounding.r2 > SWALLOWED_R2:
            message = (
                f"R² of {name} with the surrogates is {confounding.r2:.2f}: either an unknown "
                f"batch goes with {name}, or the surrogates have swallowed a part of its effect. "
                "The data cannot say which."
            )
            notes.append(Note("surrogates_near_kept", message, (name,)))
    if not keep:
        message = (
            "Nothing was to be kept: the surrogates hold whatever varies most, wanted differences "
            "included."
        )
        notes.append(Note("nothing_kept", message))
    if values.shape[1] < asked:
        message = (
            f"{asked - values.shape[1]} directions have no features of their own and gave no "
            "surrogate."
        )
        notes.append(Note("fewer_surrogates", message))
    if values.shape[1] > counted.count:
        message = (
            f"Only {counted.count} directions exceed permuted residuals; the others are noise that "
            "costs degrees of freedom."
        )
        notes.append(Note("more_than_seen", message))
    if values.shape[1] and affected < 1.0:
        message = (
            "No feature goes with the surrogates without going with what is kept as well, so "
            "nothing bears them out: do not use them before you know what they are."
        )
        notes.append(Note("no_affected_features", message))
    if values.shape[1]:
        message = (
            "Surrogates are estimated from the same data. Tests with them as covariates take them "
            "as known, so p-values are somewhat too small, the more so the fewer the specimens."
        )
        notes.append(Note("estimated_covariates", message))
    return notes

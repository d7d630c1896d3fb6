"""Control features: surrogates from features that nothing wanted touches (RUV)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from batchsense.arrays import Flags, Floats
from batchsense.errors import DataError, UnresolvedError, listed
from batchsense.experiments.projections import without
from batchsense.experiments.statistics.multiplicity import benjamini_hochberg
from batchsense.experiments.surrogates.estimation import (
    ESTIMATORS,
    Estimation,
    SurrogateVariables,
    check_count,
    f_test,
    leading,
)
from batchsense.experiments.surrogates.observed import Loaded, Observed
from batchsense.experiments.tables.table import Table
from batchsense.experiments.tables.text import did_you_mean
from batchsense.experiments.value_kinds import tallies
from batchsense.notes import Note
from batchsense.variation.linear import factor

#: With fewer features the density of p-values, and so the weights, are not known.
FEWEST_FEATURES = 100
#: With fewer controls their own noise would make the surrogates. Chosen: the housekeeping genes
#: that people name are about ten.
FEWEST_CONTROLS = 5


def control_surrogates(observations: Floats, known: Floats, count: int) -> SurrogateVariables:
    """Leading directions of control features, beside what is known; weights are all 1.

    Left singular vectors of what ``known`` (specimens, columns) leaves of the controls, of shape
    (specimens, controls). What is wanted is not taken out: it has no part in a control.

    Source: Gagnon-Bartsch and Speed (2012), Biostatistics 13, 539 (RUV-2); Risso et al. (2014),
    Nat. Biotechnol. 32, 896 (RUVg).
    """
    left = without(observations, factor(known).basis)
    return SurrogateVariables(leading(left @ left.T, count), np.ones(observations.shape[1]))


def control_places(
    controls: Sequence[str], features: Sequence[str], used: Sequence[str], where: str
) -> Flags:
    """Which of the used features are controls."""
    known = set(features)
    if unknown := [name for name in controls if name not in known]:
        hint = did_you_mean(unknown[0], features)
        raise DataError(
            f"{len(unknown)} control features are not in the matrix: {listed(unknown, 3)}; "
            f"{hint}Names must be those of the matrix",
            where=where,
        )
    named = set(controls)
    places = np.array([name in named for name in used])
    if places.sum() < FEWEST_CONTROLS:
        raise DataError(
            f"{int(places.sum())} control features can be used (they vary, are complete, and of "
            f"counts there are enough); at least {FEWEST_CONTROLS} are needed, for surrogates are "
            "what controls share",
            where=where,
        )
    return places


def control_notes(
    controls: Floats, base: Floats, wanted: Floats, values: Floats, keep: Sequence[str]
) -> list[Note]:
    """What surrogates from controls assume, and what speaks against it in these data."""
    kept = listed(keep) if keep else "what is wanted"
    notes = [
        Note(
            "controls_assumed",
            f"The surrogates are what {controls.shape[1]} control features have in common. That "
            f"is unwanted only if {kept} touches none of them: whatever it does to all of them is "
            "in the surrogates, and a test with these will not find it.",
        )
    ]
    model = np.hstack([base, values])
    if not wanted.shape[1] or not values.shape[1]:
        return notes
    p = f_test(controls, np.hstack([model, wanted]), model)
    if touched := int((benjamini_hochberg(p) <= _TOUCHED_Q).sum()):
        notes.append(
            Note(
                "controls_touched",
                f"{touched} of the {len(p)} control features differ with {kept} beyond the "
                f"surrogates (q ≤ {_TOUCHED_Q:g}): these are no controls. Leave them out.",
            )
        )
    return notes


#: At this false discovery rate a control is said to be none: the custom of the field.
_TOUCHED_Q = 0.05


def learned_from(
    table: Table, observations: Observed, estimation: Estimation, known_features: Sequence[str]
) -> Observed:
    """All features that vary, or the controls among them."""
    if not estimation.controls:
        if (features := observations.shape[1]) < FEWEST_FEATURES:
            raise DataError(
                f"{features} features are complete and vary; surrogates are learned from what many "
                f"features have in common, at least {FEWEST_FEATURES}",
                where=table.source.matrix,
            )
        return observations
    if not isinstance(observations, Loaded):
        raise UnresolvedError(
            "control features are not looked up in a matrix on disk",
            needed="a file of the control features alone, or a matrix that fits in memory",
        )
    complete = ~np.isnan(table.values).any(axis=0) & ~tallies(table.features)
    varies = np.ptp(table.values[:, complete], axis=0) > 0
    used = np.array(table.features, dtype=object)[complete][varies].tolist()
    controls = control_places(estimation.controls, known_features, used, table.source.matrix)
    return Loaded(observations.values[:, controls])


def estimated(
    estimation: Estimation, chosen: Observed, wanted: Floats, base: Floats, count: int
) -> SurrogateVariables:
    """Estimate so many surrogates from what they are learned from."""
    if not isinstance(chosen, Loaded) or not estimation.controls:
        return ESTIMATORS[estimation.method](chosen, wanted, base, count)
    if estimation.count is None:
        count = min(count, chosen.shape[1] - 1)
    check_count(np.hstack([base, wanted]), count)
    if count >= chosen.shape[1]:
        raise DataError(
            f"{count} surrogates from {chosen.shape[1]} control features; there must be more "
            "controls than surrogates"
        )
    return control_surrogates(chosen.values, base, count)


def names_in(path: str) -> list[str]:
    """The names in a file, one a line; empty lines and comments (#) are none."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read as names, one a line: {error}", where=path) from None
    names = [line.strip().strip('"') for line in lines]
    names = [name for name in names if name and not name.startswith("#")]
    if not names:
        raise DataError("has no names of control features, one a line", where=path)
    return names

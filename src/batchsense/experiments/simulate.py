"""Experiments with a planted truth: what a treatment and each batch add is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchsense.arrays import Floats
from batchsense.experiments.tables.table import Table


@dataclass(frozen=True, slots=True, eq=False)
class Planted:
    """A simulated experiment and its truth.

    Attributes
    ----------
    table : Table
        Observations with the sheet columns ``month`` (the batch) and ``drug`` (no, yes).
    drug_effect : array of shape (features,)
        What the drug adds.
    month_effects : array of shape (months, features)
        What each month adds; sums to zero over the months.
    """

    table: Table
    drug_effect: Floats
    month_effects: Floats


@dataclass(frozen=True, slots=True)
class PlantedEffects:
    """What a treatment and the months add, over the features.

    Attributes
    ----------
    drug_sd, month_sd : float
        Standard deviation of the effects over the features, in units of the observations.
    drug_share, month_share : float
        Share of the features, chosen at random, that the drug and the months act on.
    """

    drug_sd: float = 1.0
    month_sd: float = 1.0
    drug_share: float = 1.0
    month_share: float = 1.0


def plant(
    specimens: int = 60,
    features: int = 100,
    months: int = 3,
    treated_share: float = 0.5,
    effects: PlantedEffects = PlantedEffects(),
    noise_sd: float = 1.0,
    seed: int = 0,
) -> Planted:
    """Simulate an experiment run in several months, some specimens treated.

    y = drug effect · treated + month effect + normal noise. In every other month a share
    ``treated_share`` of the specimens is treated, in the rest 1 - ``treated_share``: 0.5 is
    balanced, 1 fully confounded.

    Parameters
    ----------
    specimens, features, months : int
        Sizes; the specimens are spread evenly over the months.
    treated_share : float
        Between 0 and 1.
    effects : PlantedEffects
        How large the effects of drug and months are, and on how many features.
    noise_sd : float
        Standard deviation of the noise.
    seed : int
        Seed of everything random.

    Examples
    --------
    >>> planted = plant(specimens=4, features=2, months=2, treated_share=1.0)
    >>> list(zip(planted.table.sheet["month"], planted.table.sheet["drug"]))
    [('m0', 'yes'), ('m0', 'yes'), ('m1', 'no'), ('m1', 'no')]
    """
    spawned = np.random.SeedSequence(seed).spawn(3)
    drawn, noise, chosen = map(np.random.default_rng, spawned)
    month = np.arange(specimens) * months // specimens
    treated = np.zeros(specimens)
    for one in range(months):
        rows = np.flatnonzero(month == one)
        share = treated_share if one % 2 == 0 else 1 - treated_share
        treated[rows[: round(share * len(rows))]] = 1
    drug_effect = effects.drug_sd * drawn.normal(size=features)
    month_effects = effects.month_sd * drawn.normal(size=(months, features))
    month_effects -= month_effects.mean(axis=0)
    drug_effect *= chosen.permutation(features) < round(effects.drug_share * features)
    month_effects *= chosen.permutation(features) < round(effects.month_share * features)
    observations = np.outer(treated, drug_effect) + month_effects[month]
    observations += noise_sd * noise.normal(size=observations.shape)
    sheet = {
        "month": [f"m{one}" for one in month],
        "drug": ["yes" if one else "no" for one in treated],
    }
    table = Table.from_arrays(observations, sheet, name="simulated experiment")
    return Planted(table, drug_effect, month_effects)

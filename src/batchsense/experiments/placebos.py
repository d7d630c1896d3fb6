"""The placebos of a diagnosis: every kept factor, every usual pipeline, shifts as in the data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from batchsense.errors import ConfoundedError, DataError, UnresolvedError, listed
from batchsense.experiments.correction.two_passes.pass_runner import COMPILED_FROM
from batchsense.experiments.diagnosis.component import BatchComponent
from batchsense.experiments.diagnosis.diagnosis import Diagnosis, KeptDiagnosis
from batchsense.experiments.kinds import ColumnKinds
from batchsense.experiments.placebo import PIPELINES, BuiltIn, Placebo, PureNoise, placebo
from batchsense.experiments.tables.anndata_objects import as_table
from batchsense.experiments.tables.table import Table
from batchsense.progress import Progress, silent

if TYPE_CHECKING:
    from anndata import AnnData

#: Features of noise for each pipeline: half an interval at 5 % is 0.6 % wide.
MOST_FEATURES = 5000
#: Fewer tell nothing, however many specimens there are: half an interval is then 4 % wide.
FEWEST_FEATURES = 100
#: Values that all kept factors may take in one pipeline; from here on ComBat would load its
#: compiler, which takes longer than everything else.
MOST_VALUES = COMPILED_FROM - 1
#: Shifts are at most so many standard deviations of the noise; more makes no difference.
LARGEST_SHIFT = 100.0


@dataclass(frozen=True, slots=True)
class FactorPlacebo:
    """What one pipeline makes of noise, the test being for one kept factor.

    Attributes
    ----------
    factor : str
        The kept factor that is tested.
    pipeline : str
        A name of :data:`~batchsense.experiments.placebo.PIPELINES`.
    test : {"t", "F"}
        t for two levels and for numbers, F for more levels.
    found : Placebo or None
        The count and the rate; None where nothing can be tested.
    reason : str
        Why there is none, or what else must be known; mostly empty.
    """

    factor: str
    pipeline: BuiltIn
    test: Literal["t", "F"]
    found: Placebo | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Placebos:
    """What the usual pipelines make of pure noise on the sheet of a diagnosis.

    Attributes
    ----------
    outcomes : tuple of FactorPlacebo
        Four pipelines for each kept factor; empty if nothing is kept.
    features : int
        Features of noise for each.
    shift_sd : float or None
        Standard deviation of the batch shifts, in units of the noise; None where the data do not
        tell it, because nothing of the batches is left beside what is kept.
    shift_reason : str
        Where ``shift_sd`` comes from, or why it is not what the data say.
    alpha : float
        The level.
    """

    outcomes: tuple[FactorPlacebo, ...]
    features: int
    shift_sd: float | None
    shift_reason: str
    alpha: float


def placebos(
    table: Table | AnnData,
    found: Diagnosis,
    *,
    features: int | None = None,
    alpha: float = 0.05,
    seed: int = 0,
    progress: Progress = silent,
) -> Placebos:
    """Push noise through the usual pipelines, once for each kept factor of a diagnosis.

    The noise has batch shifts as large as those of the data, √(σ_b²/s²) with the variance component
    σ_b² of the batches and the residual variance s². They are 0 where the interval of the component
    reaches 0. See :func:`~batchsense.experiments.placebo` for the pipelines and for one of your
    own. The features of the noise are independent; real ones are not, so that in real data the
    number called varies more from study to study than the intervals here say. The expected share
    of p ≤ ``alpha`` does not depend on that.

    Parameters
    ----------
    table : Table or AnnData
        The experiment that was diagnosed.
    found : Diagnosis
        Its diagnosis: the factors and the variance component are taken from it.
    features : int, optional
        Features of noise; 5,000, or fewer where there are many specimens or factors.
    alpha : float
        The level.
    seed : int
        Seed; every factor and every pipeline gets noise of its own.
    progress : Progress
        Told of the pipelines.

    Raises
    ------
    DataError
        Fewer than one feature, or the diagnosis is one of several batch columns.

    References
    ----------
    Nygaard, Rødland and Hovig 2016, Biostatistics 17, 29.

    Examples
    --------
    >>> from batchsense.experiments import diagnose, plant
    >>> table = plant(specimens=40, features=50, months=2, treated_share=0.9, seed=1).table
    >>> noise = placebos(table, diagnose(table, "month", ["drug"]), seed=1)
    >>> for one in noise.outcomes:
    ...     print(f"{one.pipeline:12}", one.found.called, round(one.found.rate.estimate, 2))
    uncorrected  2186 0.52
    linear       437 0.24
    combat       357 0.24
    model        0 0.06
    """
    table, kept = as_table(table), found.kept
    if found.batch_parts:
        raise DataError(f"placebos take one batch column, not {found.design.batches.name}")
    shift_sd, shift_reason = _shift(found.component)
    asked = _affordable(found.specimens, len(kept)) if features is None else features
    outcomes = []
    for place, one in enumerate(kept):
        for step, pipeline in enumerate(PIPELINES):
            key = np.random.SeedSequence(seed, spawn_key=(place, step)).generate_state(1)[0]
            noise = PureNoise(asked, shift_sd or 0.0, int(key))
            told = shift_sd is not None or pipeline != "uncorrected"
            outcomes.append(_outcome(table, found, one, pipeline, noise if told else None, alpha))
            progress("running placebos", len(outcomes), len(kept) * len(PIPELINES))
    return Placebos(tuple(outcomes), asked, shift_sd, shift_reason, alpha)


def _affordable(specimens: int, factors: int) -> int:
    return min(MOST_FEATURES, max(FEWEST_FEATURES, MOST_VALUES // (specimens * max(factors, 1))))


def _shift(component: BatchComponent | None) -> tuple[float | None, str]:
    if component is None:
        return None, (
            "nothing of the batches is left beside what is kept, so the data do not tell how far "
            "they lie apart"
        )
    if component.component.low <= 0:
        reason = "none is resolved in the data"
        if component.within > 0 and component.component.high > 0:
            most = math.sqrt(component.component.high / component.within)
            reason += f", though up to {most:.2g} standard deviations cannot be ruled out"
        return 0.0, reason
    if component.relative_sd > LARGEST_SHIFT:
        return LARGEST_SHIFT, "in the data they lie even farther apart, which changes nothing more"
    return component.relative_sd, (
        "as in the data, the root of the variance component over the variance within"
    )


def _outcome(
    table: Table,
    found: Diagnosis,
    kept: KeptDiagnosis,
    pipeline: BuiltIn,
    noise: PureNoise | None,
    alpha: float,
) -> FactorPlacebo:
    design, name = found.design, kept.entanglement.name
    factor = next(one for one in design.kept if one.name == name)
    test: Literal["t", "F"] = "F" if len(factor.levels) > 2 else "t"
    if noise is None:
        reason = f"cannot be told: nor can how far the batches of {design.batches.name} lie apart"
        return FactorPlacebo(name, pipeline, test, None, reason)
    try:
        outcome = placebo(
            table,
            pipeline,
            name,
            design.batches.name,
            [one.name for one in design.kept],
            noise=noise,
            alpha=alpha,
            kinds=ColumnKinds().completed({one.name: one.kind for one in design.kept}),
        )
    except ConfoundedError as error:
        verb = "tested" if pipeline == "model" else "corrected"
        reason = f"cannot be {verb}: {listed(error.aliased, 3)}"
        return FactorPlacebo(name, pipeline, test, None, reason)
    except UnresolvedError as error:
        return FactorPlacebo(name, pipeline, test, None, f"cannot be tested: {error.message}")
    partly = pipeline == "model" and not kept.entanglement.confounding.estimable
    reason = f"only the differences that can be told from {design.batches.name}" if partly else ""
    return FactorPlacebo(name, pipeline, test, outcome, reason)

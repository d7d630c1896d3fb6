"""A placebo: pure noise on the user's own sheet, through the user's own pipeline.

Whatever is called there is false. This shows the price of a pipeline on the design at hand, without
a theory and without touching the data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Floats
from batchsense.errors import DataError, UnresolvedError
from batchsense.experiments.correction.combat.correction import CombatCorrection
from batchsense.experiments.correction.interface import Correction
from batchsense.experiments.correction.linear import LinearCorrection
from batchsense.experiments.design import Design, read_design
from batchsense.experiments.kinds import ColumnKinds
from batchsense.experiments.statistics.multiplicity import benjamini_hochberg
from batchsense.experiments.tables.anndata_objects import as_table
from batchsense.experiments.tables.table import Table
from batchsense.experiments.testing.comparisons import Model, comparisons
from batchsense.experiments.testing.contrasts import parse_contrast, read_terms
from batchsense.experiments.testing.fitting import fit_contrasts
from batchsense.experiments.testing.moderation import f_statistics, scale_of, t_statistics
from batchsense.experiments.threads import one_thread_if_small
from batchsense.variation.interval import Interval
from batchsense.variation.proportion import proportion

if TYPE_CHECKING:
    from anndata import AnnData

#: What a user may do with a table of noise: p-values, one for each feature.
Pipeline = Callable[[Table], npt.ArrayLike]
BuiltIn = Literal["uncorrected", "linear", "combat", "model"]

#: The built-in pipelines in words.
PIPELINES: dict[BuiltIn, str] = {
    "uncorrected": "no correction, test without the batch",
    "linear": "linear removal, then a test without the batch",
    "combat": "ComBat, then a test without the batch",
    "model": "test with the batch in the model",
}


@dataclass(frozen=True, slots=True)
class PureNoise:
    """Features of noise: N(0, 1), and a shift N(0, s²) for each batch.

    Attributes
    ----------
    features : int
        How many.
    shift_sd : float
        Standard deviation s of the batch shifts, in units of the noise.
    seed : int
        Seed of the noise.

    Raises
    ------
    DataError
        Fewer than one feature, or a negative ``shift_sd``.
    """

    features: int = 5000
    shift_sd: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn."""
        if self.features < 1 or self.shift_sd < 0:
            raise DataError("a placebo needs at least one feature and a shift that is not negative")

    def draw(self, design: Design) -> Floats:
        """Draw the noise on the batches of a design, shape (specimens, features)."""
        shifts, errors = map(np.random.default_rng, np.random.SeedSequence(self.seed).spawn(2))
        values = errors.normal(size=(design.specimens, self.features))
        effects = self.shift_sd * shifts.normal(size=(len(design.batches.levels), self.features))
        return np.asarray(values + effects[design.batches.codes])


@dataclass(frozen=True, slots=True)
class Placebo:
    """What a pipeline makes of pure noise.

    Attributes
    ----------
    pipeline : str
        A name of :data:`PIPELINES`, or that of the user's function.
    contrast : str
        What was tested.
    features : int
        Features of noise.
    called : int
        How many would be called at q ≤ ``alpha`` (Benjamini and Hochberg).
    rate : Interval
        Share of p ≤ ``alpha`` with its 95 % interval; a valid test has ``alpha``.
    alpha : float
        The level.
    shift_sd : float
        Standard deviation of the batch shifts, in units of the noise.
    seed : int
        Seed of the noise.
    """

    pipeline: str
    contrast: str
    features: int
    called: int
    rate: Interval
    alpha: float
    shift_sd: float
    seed: int

    def __str__(self) -> str:
        """Say what would be called."""
        half = (self.rate.high - self.rate.low) / 2.0
        return (
            f"would call {self.called} of {self.features} noise features; false-positive rate at "
            f"{self.alpha:g} = {self.rate.estimate:.3f} ± {half:.3f}"
        )


def placebo(
    table: Table | AnnData,
    pipeline: BuiltIn | Pipeline,
    contrast: str,
    batch_labels: str,
    keep: Sequence[str] = (),
    *,
    noise: PureNoise = PureNoise(),
    alpha: float = 0.05,
    kinds: ColumnKinds = ColumnKinds(),
) -> Placebo:
    """Push features of pure noise through a pipeline and count what it calls.

    Nothing in the noise goes with the contrast, except by way of the batches.

    Parameters
    ----------
    table : Table or AnnData
        The experiment; only its sheet is used.
    pipeline : str or callable
        ``"uncorrected"``, ``"linear"``, ``"combat"``, ``"model"`` (see :data:`PIPELINES`; ordinary
        F tests, t for a single contrast), or a function from a table of noise to one p-value for
        each feature.
    contrast : str
        What is tested: a column, or ``drug:yes-no``. It is kept in a built-in correction.
    batch_labels : str
        The batch column.
    keep : sequence of str
        Further columns that are kept and in the model.
    noise : PureNoise
        How many features, how far their batches lie apart, and the seed.
    alpha : float
        The level.
    kinds : ColumnKinds
        Columns whose kind is declared.

    Raises
    ------
    DataError
        An unknown pipeline or column, or a function that does not give one p-value per feature.
    ConfoundedError
        The pipeline needs the contrast beside the batches, and it cannot be told from them.
    UnresolvedError
        No degrees of freedom are left to test with.

    References
    ----------
    Nygaard, Rødland and Hovig 2016, Biostatistics 17, 29.

    Examples
    --------
    >>> sheet = {"month": [*"MMMMMMMMJJJJJJJJ"], "drug": [*"nnnnnnyynnyyyyyy"]}
    >>> table = Table.from_arrays(np.zeros((16, 1)), sheet)
    >>> for name in ("uncorrected", "linear", "model"):
    ...     found = placebo(table, name, "drug", "month", noise=PureNoise(seed=1))
    ...     print(name, round(found.rate.estimate, 2))
    uncorrected 0.13
    linear 0.1
    model 0.05
    """
    if not callable(pipeline) and pipeline not in PIPELINES:
        raise DataError(f"no pipeline {pipeline!r}; known: {', '.join(PIPELINES)}, or a function")
    table = as_table(table)
    (asked,), (terms, crossed) = read_terms([contrast], keep, None, table)
    design = read_design(table, batch_labels, terms, kinds, interactions=crossed)
    values = noise.draw(design)
    made = Table.from_arrays(
        values,
        table.sheet,
        table.specimens,
        name="noise on " + table.source.sheet,
        categorical=table.categorical,
    )
    with one_thread_if_small(values.size):
        if callable(pipeline):
            p = _p_values_of(pipeline, made)
        else:
            tested = _corrected(pipeline, made, batch_labels, terms, kinds)
            model = Model.of(design, None if pipeline == "model" else np.zeros((len(values), 0)))
            p = _p_values(tested, design, model, contrast, made)
    name = getattr(pipeline, "__name__", "your pipeline") if callable(pipeline) else pipeline
    hits = int((p <= alpha).sum())
    return Placebo(
        pipeline=name,
        contrast=str(asked),
        features=noise.features,
        called=int((benjamini_hochberg(p) <= alpha).sum()),
        rate=proportion(hits, noise.features),
        alpha=alpha,
        shift_sd=noise.shift_sd,
        seed=noise.seed,
    )


def _corrected(
    pipeline: BuiltIn,
    table: Table,
    batch_labels: str,
    keep: Sequence[str],
    kinds: ColumnKinds,
) -> Floats:
    if pipeline not in ("linear", "combat"):
        return table.values
    method = LinearCorrection if pipeline == "linear" else CombatCorrection
    correction: Correction = method(
        keep=tuple(keep), categorical=tuple(kinds.categorical), numeric=tuple(kinds.numeric)
    )
    return correction.fit(table, batch_labels).transform(table).values


def _p_values(values: Floats, design: Design, model: Model, contrast: str, table: Table) -> Floats:
    compared = comparisons(design, model, [parse_contrast(contrast, table)])
    weights = np.array([one.weights(model.names) for one in compared.differences])
    groups = tuple(group.members for group in compared.groups)
    fits = fit_contrasts(values, model.full, model.columns, weights, groups)
    scale = scale_of(fits, np.ones(values.shape[1], dtype=bool), shrink=False)
    if groups:
        p = f_statistics(fits, 0, len(groups[0]), scale)[1]
    else:
        p = t_statistics(fits, 0, scale, 0.95).p_value
    if np.isnan(p).any():
        raise UnresolvedError(
            f"{design.specimens} specimens leave no degrees of freedom for the residual variance",
            needed="at least one more specimen in a batch and condition that exist already",
        )
    return p


def _p_values_of(pipeline: Pipeline, table: Table) -> Floats:
    p = np.asarray(pipeline(table), dtype=np.float64)
    if p.shape != (len(table.features),) or not ((p >= 0) & (p <= 1)).all():
        raise DataError(
            f"the pipeline must give {len(table.features)} p-values between 0 and 1, one for each "
            f"feature; it gave an array of shape {p.shape}"
        )
    return p

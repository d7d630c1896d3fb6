"""Test what differs between conditions, with the batches in the model: before or after correction.

A correction subtracts from y something in the span of the batch terms B. A model [X, B] gives
therefore on the corrected values exactly what it gives on the original ones; a model X alone counts
degrees of freedom that are gone. So a test of corrected values adds the terms that were removed,
and a correction that is not linear is passed over for the original values.
"""

# ruff: noqa: PT028
# The function is no test of ours, whatever its name.

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from batchsense.arrays import Floats
from batchsense.errors import DataError
from batchsense.experiments.contrasts.formula import read_formula
from batchsense.experiments.correction.interface import Corrected
from batchsense.experiments.design import Design, read_design
from batchsense.experiments.kinds import ColumnKinds
from batchsense.experiments.tables.anndata_objects import as_table
from batchsense.experiments.tables.table import Table
from batchsense.experiments.testing import remarks
from batchsense.experiments.testing.blocks.reading import (
    on_blocks,
    read_blocks,
    refuse_contradictions,
)
from batchsense.experiments.testing.comparisons import Comparisons, Model, comparisons, plain_tests
from batchsense.experiments.testing.contrasts import ContrastOptions, Values, read_terms
from batchsense.experiments.testing.fitting import ContrastFits
from batchsense.experiments.testing.moderation import FeatureVariances, f_statistics, t_statistics
from batchsense.experiments.testing.observed import fit_observed, observe, weigh
from batchsense.experiments.testing.results import ContrastTests, EffectTest, FactorTest
from batchsense.progress import Progress, silent

if TYPE_CHECKING:
    from anndata import AnnData


def test(
    observations: Table | AnnData | Corrected,
    contrasts: str | Sequence[str],
    batch_labels: str | Sequence[str] | None = None,
    keep: Sequence[str] | None = None,
    options: ContrastOptions = ContrastOptions(),
    kinds: ColumnKinds = ColumnKinds(),
    surrogates: Sequence[str] = (),
    progress: Progress = silent,
) -> ContrastTests:
    r"""Test contrasts on every feature, with the batches in the model.

    For the model y = Xβ + Bγ + ε of a feature and a contrast c,

    .. math:: t = \frac{c\hat\beta}{\tilde s\sqrt{c(F^TF)^{-}c^T}}, \qquad F = [X, B],

    with the residual variance drawn towards that of all features (Smyth 2004) and d + d0 degrees
    of freedom. A factor of more than two levels is also tested as a whole, by F. A feature with
    missing values is fitted on its observed specimens.

    Parameters
    ----------
    observations : Table, AnnData or Corrected
        What was measured (also a table on disk, from
        :func:`~batchsense.experiments.on_disk`), or what a correction made of it. For linear
        removal the corrected values are tested with the removed terms in the model, which equals
        the test of the original values exactly; for other corrections the original values are
        tested. Counts are taken as counts: of the features with enough of them log counts per
        million, with TMM factors and a precision weight for each (voom).
    contrasts : str or sequence of str
        ``"drug"``: every level against the first, and all together; for a numeric column its
        slope. ``"drug: yes - no"``: one level minus another; ``"drug: (b + c)/2 - a"``;
        ``"drug*time"``: an interaction; ``"(a.late - a.early) - (b.late - b.early)"``: cells.
    batch_labels : str or sequence of str, optional
        The column with the batch labels, or several, also of numbers; needed for a table without
        surrogates.
    keep : sequence of str, optional
        Further columns in the model. None for a corrected table means what was kept there.
    options : ContrastOptions
        How variances are drawn together, the level of the intervals, which values of a corrected
        table are tested, and which column says what rows share a subject (``blocks``).
    kinds : ColumnKinds
        Columns whose kind is declared.
    surrogates : sequence of str
        Numeric columns in the place of batches that nobody wrote down, from
        :func:`~batchsense.experiments.find_surrogates`. Beside a batch column, name them in
        ``keep``.
    progress : Progress
        Told of the features with missing values.

    Returns
    -------
    ContrastTests
        The tests, what was refused, and notes.

    Raises
    ------
    DataError
        A column or level is unknown, or a corrected table has lost its batch terms.
    ConfoundedError
        None of the contrasts can be told from the batches; the terms are named.
    UnresolvedError
        No degrees of freedom are left, or the values are intensities, for which the model does not
        hold, or counts that are too few or went through a correction.

    References
    ----------
    Smyth 2004, Stat. Appl. Genet. Mol. Biol. 3, article 3; Nygaard, Rødland and Hovig 2016,
    Biostatistics 17, 29 (why correction before the test misleads); Frisch and Waugh 1933; Law,
    Chen, Shi and Smyth 2014, Genome Biol. 15, R29 (counts).

    Examples
    --------
    >>> from batchsense.experiments import correct, plant
    >>> table = plant(specimens=40, features=200, months=2, treated_share=0.8, seed=1).table
    >>> found = test(table, "drug", "month")
    >>> effect = found.effects[0]
    >>> print(effect.contrast, int((effect.q_value <= 0.05).sum()), "of 200")
    drug: yes - no 94 of 200

    After correction the answer is the same:

    >>> after = test(correct(table, "month", ["drug"]), "drug").effects[0]
    >>> bool(np.allclose(after.t, effect.t, rtol=1e-10))
    True
    """
    corrected = observations if isinstance(observations, Corrected) else None
    table = observations.table if isinstance(observations, Corrected) else as_table(observations)
    texts = [contrasts] if isinstance(contrasts, str) else contrasts
    if not texts:
        raise DataError("no contrast to test; name a column, such as drug, or drug:yes-no")
    refuse_contradictions(options)
    batch_column = _batch_column(
        corrected, table, batch_labels, bool(surrogates), options.ignore_batches
    )
    formula = None if options.design is None else read_formula(options.design, table)
    if keep is None and formula is None and corrected is not None:
        keep = [one.name for one in corrected.kept]
    asked, (terms, crossed) = read_terms(texts, keep or (), formula, table)
    declared = kinds if corrected is None else corrected.with_kinds(kinds, terms)
    design = read_design(table, batch_column, terms, declared, surrogates, crossed)
    if formula is not None:
        formula.check(design.kept, table.source.sheet)
    which, chosen = _chosen_values(corrected, table, options.values)
    model = Model.of(design, _batch_terms(corrected, design))
    compared = comparisons(design, model, asked, options.joint)
    fitted = Model.of(design, np.zeros((design.specimens, 0))) if options.ignore_batches else model
    blocks = read_blocks(table, design, fitted, options)
    observed = observe(table, (which, chosen), corrected, options, fitted.full)
    observed = weigh(observed, fitted, blocks, options, table.specimens, progress)
    fits, scale, observed = fit_observed(observed, fitted, compared, options, progress)
    effects, factors = _tests(model, compared, fits, scale, options.level)
    untested = remarks.untested(table.features, observed.varies, fits, scale, observed.counts)
    notes = [*design.notes, *remarks.on_design(design, compared, model)]
    if observed.counts is not None and observed.precision is not None:
        notes.insert(0, remarks.on_counts(observed.counts, observed.precision))
    notes += remarks.on_specimen_weights(observed.specimens, table.specimens)
    notes += remarks.on_spanned_batches(design, model, compared)
    notes += on_blocks(observed.blocks, compared, model)
    notes += remarks.on_shared_rows(table, design, model, compared, blocks)
    notes += [remarks.on_surrogates(surrogates)] if surrogates else []
    if options.ignore_batches:
        notes.extend(remarks.on_plain_test(effects, factors, design.batches.name))
    elif corrected is not None:
        notes.extend(remarks.on_correction(corrected, which))
    else:
        trace, by = observed.trace(design, model), options.corrected_by
        which = "original" if by is None else "corrected"
        notes.extend(remarks.on_values(design.batches.name, by, trace, effects, factors))
    return ContrastTests(
        effects=effects,
        factors=factors,
        refused=compared.refused,
        features=table.features,
        mean=observed.mean,
        df=scale.df,
        prior_df=scale.prior_df,
        prior_variance=scale.prior_variance,
        untested=untested,
        values=which,
        batch_labels=design.batches.name,
        terms=tuple(map(":".join, design.terms())),
        specimens=design.specimens,
        level=options.level,
        notes=(*notes, *remarks.on_untested(untested)),
        counts=observed.counts,
        precision=observed.precision,
        blocks=observed.blocks,
        specimen_weights=observed.weight_of_each(table.specimens),
        variance=np.where(fits.df > 0, fits.residual_squares / np.maximum(fits.df, 1), np.nan),
    )


# Without this pytest would take the imported function for a test of the user's.
test.__test__ = False  # type: ignore[attr-defined]


def _batch_column(
    corrected: Corrected | None,
    table: Table,
    batch_labels: str | Sequence[str] | None,
    surrogates: bool,
    ignore_batches: bool,
) -> str | Sequence[str] | None:
    if surrogates:
        if batch_labels is None and corrected is None:
            return None
        raise DataError(
            "surrogates stand where nobody wrote the batches down; beside a batch column name them "
            "among what is kept",
            where=table.source.sheet,
        )
    if corrected is None:
        if ignore_batches:
            raise DataError(
                "a test that ignores the batches is offered for corrected values only, to show "
                "what it does; give what a correction returned"
            )
        if not batch_labels:
            raise DataError(
                "name the batch column: a test without the batches in its model takes differences "
                "between batches for effects",
                where=table.source.sheet,
            )
        return batch_labels
    named = (batch_labels,) if isinstance(batch_labels, str) else tuple(batch_labels or ())
    if named and sorted(named) != sorted(corrected.batch_columns):
        raise DataError(
            f"the table was corrected for {corrected.batch_labels!r}, not for "
            f"{' + '.join(named)!r}; "
            "test the original table for another batch column"
        )
    return corrected.batch_columns


def _tests(
    model: Model,
    compared: Comparisons,
    fits: ContrastFits,
    scale: FeatureVariances,
    level: float,
) -> tuple[tuple[EffectTest, ...], tuple[FactorTest, ...]]:
    effects, factors = [], []
    for place, difference in enumerate(compared.differences):
        found = t_statistics(fits, place, scale, level)
        numbers = {name: getattr(found, name) for name in found.__slots__}
        plain = plain_tests(model, [difference])
        vif = model.vif(difference)
        effects.append(EffectTest(**numbers, contrast=difference, vif=vif, plain=plain))
    for place, group in enumerate(compared.groups):
        f = f_statistics(fits, place, len(group.members), scale)
        plain = plain_tests(model, [compared.differences[member] for member in group.members])
        df = len(group.members)
        factors.append(FactorTest(group.factor, df, group.complete, *f, plain, group.of))
    return tuple(effects), tuple(factors)


def _chosen_values(
    corrected: Corrected | None, table: Table, values: Values | None
) -> tuple[Values, Floats]:
    if corrected is None:
        if values == "corrected":
            raise DataError("there are no corrected values: give what a correction returned")
        return "original", table.values
    which = values or ("corrected" if corrected.method in remarks.LINEAR else "original")
    return which, corrected.values if which == "corrected" else table.values


def _batch_terms(corrected: Corrected | None, design: Design) -> Floats | None:
    if corrected is None:
        return None
    terms = np.asarray(corrected.batch_terms, dtype=np.float64)
    if terms.ndim != 2 or terms.shape[0] != design.specimens or terms.shape[1] == 0:
        raise DataError(
            "the corrected table has lost the batch terms that were removed, without which no test "
            "of it is valid; test the original table, with the batch column named"
        )
    return terms

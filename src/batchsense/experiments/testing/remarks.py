"""What must be said with a test: prices, doubts, and what was not tested."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from batchsense.arrays import Flags, Floats
from batchsense.errors import listed
from batchsense.experiments.correction.interface import Corrected
from batchsense.experiments.counts import PreparedCounts
from batchsense.experiments.dependence import dependent_rows, shared_rows, wrong_errors
from batchsense.experiments.design import Design
from batchsense.experiments.tables.table import Table
from batchsense.experiments.testing.comparisons import Comparisons, Model
from batchsense.experiments.testing.fitting import ContrastFits
from batchsense.experiments.testing.moderation import FeatureVariances
from batchsense.experiments.testing.results import Blocks, EffectTest, FactorTest
from batchsense.experiments.testing.weights.precision_weights import PrecisionWeights
from batchsense.experiments.testing.weights.specimen_weights import SpecimenWeights
from batchsense.experiments.value_kinds import tallies
from batchsense.notes import Note
from batchsense.variation.linear import factor

#: What is left of the batches: something, or nothing that could be seen; nothing beside the wanted
#: terms; nothing at all.
Trace = Literal["left", "removed", "centred"]

#: Corrections that subtract something in the span of the batch terms.
LINEAR = frozenset({"linear"})
#: R² above this is a high price: five specimens then do the work of one.
STEEP = 0.8
#: A share of the sum of squares below this is rounding, even in single precision: far above the
#: square of its 6e-8, far below any effect.
_NOTHING = 1e-9
#: So many features are enough to see whether a table was corrected: a correction leaves a trace in
#: none, an uncorrected table almost surely in the first.
LOOKED_AT = 500
#: So many numbers that are zero for no other reason than a correction (features times what the
#: batches add to the model): among whole numbers one may be zero by accident, ten are not.
_FEWEST_ZEROS = 10


def on_design(design: Design, compared: Comparisons, model: Model) -> list[Note]:
    """Remark on contrasts that are refused, or that can hardly be told from the batches."""
    notes = []
    batch = design.batches.name
    for one in compared.refused:
        message = (
            f"{one.contrast} cannot be told from {one.beside or 'the rest of the model'} and was "
            "not tested: "
            f"{listed(one.aliased)}. {one.explanation}"
        )
        notes.append(Note("not_estimable", message.strip(), one.aliased))
    steep = {
        str(one): model.vif(one)
        for one in compared.differences
        if 1.0 - 1.0 / model.vif(one) > STEEP
    }
    if steep:
        each = listed(
            f"{name} (R² {1 - 1 / vif:.3f}; the {design.specimens} specimens are worth "
            f"{design.specimens / vif:.1f})"
            for name, vif in steep.items()
        )
        message = (
            f"Hardly to be told from {batch}: {each}. The test is valid but sees only large "
            "effects: much of what is there will be missed."
        )
        notes.append(Note("steep_price", message, tuple(steep)))
    return notes


def on_surrogates(surrogates: Sequence[str]) -> Note:
    """Say what it means that the place of the batches is taken by estimates."""
    message = (
        f"{listed(surrogates)} stand for batches that nobody wrote down. If they were estimated "
        "from these data, the p-values take them as known and are somewhat too small."
    )
    return Note("estimated_covariates", message, tuple(surrogates))


def on_correction(corrected: Corrected, which: str) -> list[Note]:
    """Say which values of a corrected table were tested, and why that is valid."""
    batch = corrected.batch_labels
    if corrected.method in LINEAR:
        message = (
            f"The {which} values were tested with {batch} in the model. Linear removal changed "
            "them by batch terms only: original and corrected values give the same t, F and p."
        )
        return [Note("removed_terms_in_model", message)]
    if which == "original":
        message = (
            f"The original values were tested, with {batch} in the model: correction by "
            f"{corrected.method} rescales each batch, so no test of its values is exact."
        )
        return [Note("tested_original", message)]
    message = (
        f"Values corrected by {corrected.method} were tested with {batch} in the model. That is "
        "approximate: in simulations of 40 specimens in two batches 5 to 7 % of pure noise was "
        "called at 0.05. The test of the original values is exact."
    )
    return [Note("approximate", message)]


def trace_of_batches(values: Floats, design: Design, model: Model) -> Trace:
    """Tell whether batch effects are gone completely, beside the wanted terms or altogether.

    Only zeros that algebra does not enforce are evidence: where the wanted terms span the batches,
    or fit the values exactly, nothing of the batches can be left in any values.
    """
    complete = np.flatnonzero(~np.isnan(values).any(axis=0) & (np.ptp(values, axis=0) > 0))
    shown = values[:, complete[:LOOKED_AT]]
    return trace_in(shown - shown.mean(axis=0), trace_columns(design, model))


def trace_columns(design: Design, model: Model) -> tuple[Floats, Floats, Floats]:
    """The wanted terms, all terms, and the batches coded to sum to zero, beside a constant."""
    return design.wanted()[0], model.columns, design.batch_terms()


def trace_in(centred: Floats, columns: tuple[Floats, Floats, Floats]) -> Trace:
    """The same of centred features; rows and columns may be turned together."""
    wanted, full, batches = columns
    if not centred.shape[1]:
        return "left"
    if _explains_nothing(wanted, full, centred):
        return "removed"
    constant = wanted[:, :1]
    return (
        "centred"
        if _explains_nothing(constant, np.hstack([constant, batches]), centred)
        else "left"
    )


def on_spanned_batches(design: Design, model: Model, compared: Comparisons) -> list[Note]:
    """Say where the wanted terms take up all that the batches could add."""
    if model.full.rank > model.plain.rank:
        return []
    batch, codes = design.batches.name, design.batches.codes
    nested = [
        one.name
        for one in design.kept
        if one.values is None
        and len(np.unique(np.stack([one.codes, codes]), axis=1).T) == len(np.unique(one.codes))
    ]
    how = (
        f"{batch} is nested in {listed(nested)}: each {nested[0]} lies in one {batch} only."
        if nested
        else f"What is in the model takes up all that {batch} could add."
    )
    same = "each difference that is tested is" if compared.refused else "the tests are"
    message = f"{how} So {batch} adds nothing to the model, and {same} the same without it."
    return [Note("batches_spanned", message, (batch, *nested))]


def on_shared_rows(
    table: Table, design: Design, model: Model, compared: Comparisons, blocks: Blocks | None = None
) -> list[Note]:
    """Say where rows share a subject that is no block, and how wrong standard errors can be."""
    notes = []
    solution, basis = model.full.solution, model.full.basis
    known = None if blocks is None else blocks.codes
    for shared in shared_rows(table, design, known):
        low: dict[str, float] = {}
        high: dict[str, float] = {}
        for one in compared.differences:
            weights = (one.weights(model.full.names) @ solution) @ basis.T
            wrong = wrong_errors(shared, weights, basis, model.full.df_residual)
            if wrong is not None:
                (high if wrong > 1.0 else low)[str(one)] = wrong
        more = f"{shared.counted}."
        if high or low:
            more += f" If the residuals of one {shared.column} agree, standard errors are "
        if high:
            each = listed((f"{name} {wrong:.2f} times" for name, wrong in high.items()), 4)
            more += f"too small ({each} at most)" + (" and " if low else ".")
        if low:
            more += f"too large for {listed(low, 4)}."
        mended = shared.mended("lets rows of one agree")
        notes.append(dependent_rows(shared.column, "these tests", f"{more} {mended}"))
    return notes


def on_values(
    batch_column: str,
    corrected_by: str | None,
    trace: Trace,
    effects: Sequence[EffectTest],
    factors: Sequence[FactorTest],
) -> list[Note]:
    """Say what a test of values means that were corrected somewhere else, or look so."""
    if corrected_by is None and trace == "left":
        return []
    plain = (
        f"A test without {batch_column} would miss the part of each effect that goes with "
        f"{batch_column}, which was removed as well."
        if trace == "centred"
        else f"A test without {batch_column} would call of pure noise at 0.05, instead of 5 %: "
        f"{_rates(effects, factors)}."
    )
    if corrected_by is None:
        message = (
            f"Not a trace of {batch_column} is left in these values: they look corrected. "
            f"{batch_column} is in the model, so these are the tests of the original values. "
        )
        return [Note("looks_corrected", message + plain, (batch_column,))]
    if corrected_by in LINEAR or trace != "left":
        message = (
            f"The values were corrected by linear removal and tested with {batch_column} in the "
            f"model, which gives exactly the tests of the original values. {plain}"
        )
        return [Note("removed_terms_in_model", message)]
    method = "" if corrected_by == "unknown" else f" by {corrected_by}"
    message = (
        f"The values were corrected{method} and tested with {batch_column} in the model. That is "
        "exact if batch terms were subtracted and nothing else, and approximate after ComBat (in "
        "simulations of 40 specimens in two batches 5 to 7 % of noise was called at 0.05): if you "
        f"have the original values, test those. {plain}"
    )
    return [Note("approximate", message)]


def on_plain_test(
    effects: Sequence[EffectTest], factors: Sequence[FactorTest], batch_column: str
) -> list[Note]:
    """Warn of the false positives of a test that ignores what correction has used up."""
    message = (
        f"{batch_column} was left out of the model, as if the corrected values were raw. Of "
        f"pure noise such a test calls at 0.05, instead of 5 %: {_rates(effects, factors)} "
        "(exact for linear removal). Do not use these p-values."
    )
    return [Note("false_positives", message)]


def untested(
    features: Sequence[str],
    varies: Flags,
    fits: ContrastFits,
    scale: FeatureVariances,
    counts: PreparedCounts | None,
) -> dict[str, tuple[str, ...]]:
    """Sort the features without an answer by the reason."""
    missing = np.isnan(fits.estimates).any(axis=0)
    no_scale = np.isnan(scale.variance)
    tally = tallies(features)
    few = ~tally & ~counts.kept if counts is not None else np.zeros_like(tally)
    reasons = {
        "tally of a counting program": tally,
        "too few counts": few,
        "constant": ~varies & ~few & ~tally,
        "not told by the observed specimens": varies & missing,
        "no residual variance": varies & ~missing & no_scale,
    }
    return {
        reason: tuple(features[j] for j in np.flatnonzero(which).tolist())
        for reason, which in reasons.items()
        if which.any()
    }


def on_counts(counts: PreparedCounts, precision: PrecisionWeights) -> Note:
    """Say what was made of counts."""
    ratio = float(f"{precision.weights.max() / precision.weights.min():.3g}")
    message = (
        f"{counts.summary} Tested: log2 counts per million, each with a precision weight (voom; "
        f"the largest is {ratio:,g} times the smallest). An effect of 1 is a doubling."
    )
    return Note("tested_as_counts", message, counts.tallies)


def on_specimen_weights(found: SpecimenWeights | None, specimens: Sequence[str]) -> list[Note]:
    """Name the specimens that scatter most and least, where specimens were weighed."""
    if found is None:
        return []
    order = np.argsort(found.weights, kind="stable")
    least, most = (f"{found.weights[i]:.3g} ({specimens[i]})" for i in (order[0], order[-1]))
    message = (
        f"Specimens weigh {least} to {most}, by how far they scatter in {found.features:,} "
        "features: inverse variances whose geometric mean is 1. The tests take these weights as "
        "known."
    )
    return [Note("specimens_weighed", message, tuple(specimens[i] for i in order[:3].tolist()))]


def on_untested(found: dict[str, tuple[str, ...]]) -> list[Note]:
    """Remark on features without an answer; what counts leave out is said with them."""
    texts = {
        "constant": "are constant (or observed at most once) and were not tested",
        "not told by the observed specimens": (
            "are observed in specimens that do not tell every contrast from the batches and were "
            "not tested there"
        ),
        "no residual variance": (
            "have no residual variance or no degrees of freedom and were not tested"
        ),
    }
    return [
        Note(
            "untested_features",
            f"{len(names)} features {texts[reason]}: {listed(names, 3)}.",
            names[:10],
        )
        for reason, names in found.items()
        if reason in texts
    ]


def _explains_nothing(without: Floats, together: Floats, values: Floats) -> bool:
    """Whether further columns add nothing for centred values."""
    fewer, more = factor(without), factor(together)
    before = fewer.fit(values).residual_sum_of_squares
    after = more.fit(values).residual_sum_of_squares
    size = (values**2).sum(axis=0)
    open_ = (
        before > _NOTHING * size
    )  # else the wanted terms fit it exactly, and nothing can be left
    if (more.rank - fewer.rank) * int(open_.sum()) < _FEWEST_ZEROS:
        return False
    return bool((before - after <= _NOTHING * before)[open_].all())


def _rates(effects: Sequence[EffectTest], factors: Sequence[FactorTest]) -> str:
    rates = {f"{one.factor} (F)": one.plain.false_positive_rate for one in factors}
    rates.update({str(one.contrast): one.plain.false_positive_rate for one in effects})
    return listed((f"{name} {100 * rate:.1f} %" for name, rate in rates.items()), 4)

"""ComBat-seq on arrays: what each batch multiplies counts by, and how widely it scatters them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from batchsense.arrays import Flags, Floats, Integers
from batchsense.experiments.correction.combat_seq.count_quantiles import map_counts
from batchsense.experiments.correction.combat_seq.dispersion import (
    common_dispersion,
    feature_dispersions,
)
from batchsense.experiments.correction.combat_seq.negative_binomial import fit_log_linear
from batchsense.experiments.correction.fitted import LearnedArrays
from batchsense.progress import Progress, silent

#: Counts added on average to every cell before batch effects are read off, as in R, so that they
#: are finite.
PRIOR_COUNT = 1e-4
#: A column of which less than this part is its own says nothing more, as in the analysis of
#: confounding.
_LOST = 1e-10
#: Means are fitted, and counts mapped, for about so many values at a time.
_BLOCK = 1_000_000


@dataclass(frozen=True, slots=True, eq=False)
class CombatSeqModel(LearnedArrays):
    """Everything that the correction of one specimen needs, as arrays."""

    #: (features,): features with counts in every batch; the others are left as they are, and every
    #: array below has the used ones only.
    used: Flags
    #: (batches + terms, used): log means per count of the library: of the batches, then of the kept
    #: terms.
    coefficients: Floats
    #: (batches, used): what each batch adds to the log mean; weighted by specimens the shifts sum
    #: to zero.
    shifts: Floats
    dispersions: Floats  #: (batches, used): dispersion in each batch
    #: (batches,): batches in which kept terms cannot be fitted, so that all features share one
    #: dispersion.
    shared: Flags
    #: (terms,): the kept columns that say something of their own; others follow from them and the
    #: batches.
    chosen: Integers

    @property
    def left_alone(self) -> Flags:
        """Features without counts in some batch."""
        return ~self.used


def fit_combat_seq(
    counts: Floats,
    codes: Integers,
    terms: Floats,
    progress: Progress = silent,
    left_out: Flags | None = None,
) -> CombatSeqModel:
    r"""Fit means, batch effects and dispersions of counts.

    For specimen i of batch b with library size N (the sum over used features) and kept terms x,

    .. math:: \log \mu_{ij} = \log N_i + \alpha_j + x_i^T\beta_j + \gamma_{bj}, \qquad
              \sum_b n_b \gamma_{bj} = 0,

    with a dispersion φ of each batch and feature by Cox–Reid adjusted profile likelihood from the
    batch alone.

    Shapes: ``counts`` (specimens, features); ``codes`` (specimens,); ``terms`` (specimens,
    columns); ``left_out`` (features,), features that are none.

    Source: Zhang, Parmigiani and Johnson (2020), NAR Genomics and Bioinformatics 2, lqaa078;
    McCarthy, Chen and Smyth (2012), Nucleic Acids Research 40, 4288.
    """
    batches = int(codes.max()) + 1
    chosen = _independent(np.eye(batches)[codes], terms)
    terms = terms[:, chosen]
    used = np.all([counts[codes == b].sum(axis=0) > 0 for b in range(batches)], axis=0)
    if left_out is not None:
        used &= ~left_out
    y = counts[:, used]
    library = y.sum(axis=1)
    dispersions = np.empty((batches, y.shape[1]))
    shared = np.zeros(batches, dtype=bool)
    for b in range(batches):
        rows = codes == b
        dispersions[b], shared[b] = _dispersions(y[rows], terms[rows], np.log(library[rows]))
        progress("dispersions of the batches", b + 1, batches)
    coefficients = np.empty((batches + terms.shape[1], y.shape[1]))
    shifts = np.empty(dispersions.shape)
    for part in _parts(y):
        coefficients[:, part], shifts[:, part] = _means(
            y[:, part], codes, terms, library, dispersions[:, part]
        )
        progress("fitting means", part.stop, y.shape[1])
    return CombatSeqModel(used, coefficients, shifts, dispersions, shared, chosen)


def apply_combat_seq(
    model: CombatSeqModel,
    counts: Floats,
    codes: Integers,
    terms: Floats,
    progress: Progress = silent,
) -> Floats:
    r"""Map counts to the distribution that they would have without their batch.

    .. math:: \mu^* = \mu e^{-\gamma_b}, \qquad \varphi^* = \tfrac1B\sum_b \varphi_b

    Shapes: the result (specimens, features).
    """
    mapped = counts.copy()
    places = np.flatnonzero(model.used)
    library = np.log(counts[:, places].sum(axis=1))[:, None]
    design = np.hstack([np.eye(len(model.shifts))[codes], terms[:, model.chosen]])
    common = model.dispersions.mean(axis=0)
    for part in _parts(counts[:, places]):
        means = np.exp(library + design @ model.coefficients[:, part])
        mapped[:, places[part]] = map_counts(
            counts[:, places[part]],
            means,
            model.dispersions[codes, part],
            means * np.exp(-model.shifts[codes, part]),
            common[part],
        )
        progress("mapping counts", part.stop, len(places))
    return mapped


def _independent(batches: Floats, terms: Floats) -> Integers:
    """Choose columns, the last first, that follow neither from the batches nor from each other."""
    basis = np.linalg.qr(batches)[0]
    chosen: list[int] = []
    for place in range(terms.shape[1] - 1, -1, -1):
        column = terms[:, place] - terms[:, place].mean()
        rest = column - basis @ (basis.T @ column)
        rest -= basis @ (basis.T @ rest)
        if rest @ rest > _LOST * (column @ column):
            chosen.append(place)
            basis = np.column_stack([basis, rest / np.sqrt(rest @ rest)])
    return np.array(sorted(chosen), dtype=np.int64)


def _dispersions(counts: Floats, terms: Floats, offsets: Floats) -> tuple[Floats, bool]:
    constant = np.ones((len(counts), 1))
    design = np.hstack([constant, terms])
    rank = np.linalg.matrix_rank(design)
    if rank < design.shape[1] or rank >= len(counts):
        common = common_dispersion(counts, constant, offsets)
        return np.full(counts.shape[1], common), True
    common = common_dispersion(counts, design, offsets)
    return feature_dispersions(counts, design, offsets, common), False


def _means(
    y: Floats,
    codes: Integers,
    terms: Floats,
    library: Floats,
    dispersions: Floats,
) -> tuple[Floats, Floats]:
    """The coefficients of some features, and the shifts of their batches."""
    sizes = np.bincount(codes)
    design = np.hstack([np.eye(len(sizes))[codes], terms])
    scatter = dispersions[codes]
    plain = fit_log_linear(y, design, np.log(library), scatter).coefficients
    first = _finite(y, design, library[:, None], scatter, plain)
    level = sizes @ first[: len(sizes)] / len(codes)
    # Once more in units of the expected counts, in which the added counts weigh as they do in R.
    start = first.copy()
    start[: len(sizes)] -= level
    second = _finite(y, design, library[:, None] * np.exp(level), scatter, start)
    return plain, second[: len(sizes)]


def _finite(y: Floats, design: Floats, library: Floats, scatter: Floats, start: Floats) -> Floats:
    """Fit after adding a small count to every cell, in proportion to the library."""
    added = PRIOR_COUNT * library / library.mean(axis=0)
    offsets = np.log(library + 2 * added)
    return fit_log_linear(y + added, design, offsets, scatter, start).coefficients


def _parts(counts: Floats) -> Iterator[slice]:
    size = max(1, _BLOCK // len(counts))
    for first in range(0, counts.shape[1], size):
        yield slice(first, min(first + size, counts.shape[1]))

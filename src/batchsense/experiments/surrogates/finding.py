"""Unknown batches: directions of variation that nobody wrote down, as columns of the sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from typing_extensions import override

from batchsense.arrays import Floats
from batchsense.errors import ConfoundedError, DataError, UnresolvedError, listed
from batchsense.experiments.beyond_memory.stored_table import StoredTable
from batchsense.experiments.counts import log_count_table
from batchsense.experiments.design import Design
from batchsense.experiments.diagnosis.usable import usable_features
from batchsense.experiments.kinds import ColumnKinds
from batchsense.experiments.readings import refuse_doubtful
from batchsense.experiments.sheets.nuisances import no_batches
from batchsense.experiments.shown import Shown, per_cent
from batchsense.experiments.statistics.confounding import Confounding, analyse
from batchsense.experiments.surrogates.controls import control_notes, estimated, learned_from
from batchsense.experiments.surrogates.estimation import (
    PERMUTATIONS,
    Estimation,
    Method,
    SurrogateCount,
    surrogate_count,
)
from batchsense.experiments.surrogates.likeness import Likeness, likenesses
from batchsense.experiments.surrogates.observed import Loaded, Observed, Residuals, Stored
from batchsense.experiments.tables.anndata_objects import as_table
from batchsense.experiments.tables.columns import Factor, kept_factors
from batchsense.experiments.tables.table import Column, Table
from batchsense.experiments.threads import one_thread_if_small
from batchsense.experiments.value_kinds import refuse_raw
from batchsense.notes import Note
from batchsense.progress import Progress, silent
from batchsense.variation.linear import DesignFactor, factor

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

#: Less than this part of the sum of squares, left by the known factors, is rounding: 1e-10 of the
#: length, where double precision leaves 1e-15.
EXACT = 1e-20


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Surrogates(Shown):
    """Surrogate variables of a table.

    Attributes
    ----------
    table : Table
        What they were estimated from.
    values : array of shape (specimens, surrogates)
        Columns of norm 1, in the order of the specimens; determined up to sign and rotation.
    names : tuple of str
        Of the new columns, ``sv1`` onwards.
    method : str
        ``"reweighted"``, ``"two-step"`` or ``"controls"``.
    counted : SurrogateCount or None
        How many directions exceed chance; None where their number was given.
    residual_shares : tuple of float
        Share of each surrogate in what the known factors leave of the variation; together they may
        count a direction twice.
    likenesses : tuple of tuple of Likeness
        For each surrogate the columns of the sheet that explain it best, at most three.
    kept : tuple of (str, Confounding)
        Each kept factor with its R² against all surrogates together.
    affected_features : float
        Sum of the weights: about so many features took part.
    features : int
        Usable features.
    notes : tuple of Note
        What the reader must know.
    """

    table: Table
    values: Floats
    names: tuple[str, ...]
    method: Method
    counted: SurrogateCount | None
    residual_shares: tuple[float, ...]
    likenesses: tuple[tuple[Likeness, ...], ...]
    kept: tuple[tuple[str, Confounding], ...]
    affected_features: float
    features: int
    notes: tuple[Note, ...]

    @override
    def headline(self) -> str:
        shares = ", ".join(
            f"{name} {per_cent(share)}"
            for name, share in zip(self.names, self.residual_shares, strict=True)
        )
        told = f" ({shares} of the residual variation)" if shares else ""
        return (
            f"{len(self.names)} by the {self.method} method{told}; {len(self.values):,} specimens"
        )

    @override
    def to_frame(self) -> pd.DataFrame:
        """The surrogates as columns, a row for each specimen."""
        import pandas as pd

        return pd.DataFrame(self.values, list(self.table.specimens), list(self.names))

    def sheet(self) -> dict[str, Column]:
        """The sheet, in the order of the matrix, with the surrogates as new columns."""
        columns = dict(self.table.sheet)
        if self.table.source.id_column not in columns:
            columns = {self.table.source.id_column: self.table.specimens, **columns}
        for k, name in enumerate(self.names):
            columns[name] = tuple(repr(float(value)) for value in self.values[:, k])
        return columns


def find_surrogates(
    table: Table | AnnData,
    keep: Sequence[str],
    *,
    known: Sequence[str] = (),
    estimation: Estimation = Estimation(),
    kinds: ColumnKinds = ColumnKinds(),
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    progress: Progress = silent,
) -> Surrogates:
    """Estimate what varies and is in no column of the sheet; nothing if it does not exceed chance.

    Parameters
    ----------
    table : Table or AnnData
        Observations (also a table on disk, from :func:`~batchsense.experiments.on_disk`); features
        with missing values or without variation are left out and noted. Of counts, log counts per
        million of the features with enough of them are looked at.
    keep : sequence of str
        Columns of interest: the surrogates are made so as not to swallow them, as far as the data
        allow.
    known : sequence of str
        Columns that matter but are not of interest, such as a known batch: surrogates are what
        varies beside them.
    estimation : Estimation
        By which method, how many, and from which control features, if any.
    kinds : ColumnKinds
        Columns of ``keep`` or ``known`` whose kind is declared.
    permutations : int
        Permutations that judge the count, 20 at least.
    seed : int
        Seed of the permutations.
    progress : Progress
        Told of the permutations.

    Raises
    ------
    DataError
        A column cannot be used, fewer than 100 usable features, or five of controls, or a name is
        taken.
    UnresolvedError
        The known factors leave fewer than two residual degrees of freedom; no feature has enough
        counts; or the values are intensities, for which the model does not hold.
    ConfoundedError
        A kept factor cannot be told from the surrogates.

    Examples
    --------
    >>> from batchsense.experiments import PlantedEffects, plant
    >>> table = plant(
    ...     specimens=30, features=300, months=2, effects=PlantedEffects(drug_share=0.1)
    ... ).table
    >>> found = find_surrogates(table, ["drug"])
    >>> found.names, found.likenesses[0][0].column
    (('sv1',), 'month')
    """
    table = as_table(table)
    _check(table, keep, known, permutations)
    specimens = len(table.specimens)
    factors, more = kept_factors(table, [*keep, *known], "", kinds)
    design = Design(no_batches(specimens), factors)
    refuse_doubtful(design)
    known_features = table.features
    table = log_count_table(table, design)
    constant = np.ones((specimens, 1))
    wanted = _columns(factors[: len(keep)], specimens)
    base = np.hstack([constant, _columns(factors[len(keep) :], specimens)])
    full = np.hstack([base, wanted])
    in_order = (*factors[len(keep) :], *factors[: len(keep)])
    fitted = factor(full, ["Intercept", *(term for one in in_order for term in one.design()[1])])
    _refuse_aliased(fitted, keep, known, table)
    observations, total, notes = _observed(table, fitted)
    features = observations.shape[1]
    chosen = learned_from(table, observations, estimation, known_features)
    room = specimens - fitted.rank - 1
    if room < 1:
        raise UnresolvedError(
            f"{specimens} specimens leave no degree of freedom beside the known factors",
            needed="more specimens, or fewer columns to keep",
        )
    left = observations.products([Residuals(fitted.basis)], "multiplying residuals")[0]
    if np.trace(left) <= EXACT * total:
        raise DataError(
            "what is kept or known explains the observations exactly; nothing is left in which "
            "unknown batches could be seen",
            where=table.source.matrix,
        )
    refuse_raw(table.values_read(), "the search for surrogates")
    with one_thread_if_small(specimens * features):
        rng = np.random.default_rng(seed)
        counted = None
        if (asked := estimation.count) is None:
            model = base if estimation.controls else full
            counted = surrogate_count(chosen, model, rng, permutations, progress)
            asked = min(counted.count, room)
        values = np.empty((specimens, 0))
        weights = np.zeros(features)
        if asked:
            found = estimated(estimation, chosen, wanted, base, asked)
            values, weights = found.values, found.weights
    names = _free_names(values.shape[1], table)
    confounded = _against_kept(factors[: len(keep)], factors[len(keep) :], values, names)
    remarks = _remarks(confounded, counted, values, keep, asked, float(weights.sum()))
    if isinstance(chosen, Loaded) and estimation.controls:
        remarks += control_notes(chosen.values, base, wanted, values, keep)
    return Surrogates(
        table=table,
        values=values,
        names=names,
        method=estimation.method,
        counted=counted,
        residual_shares=_residual_shares(left, full, values),
        likenesses=tuple(likenesses(table, column) for column in values.T),
        kept=confounded,
        affected_features=float(weights.sum()),
        features=features,
        notes=(*table.notes, *notes, *more, *remarks),
    )


def _check(table: Table, keep: Sequence[str], known: Sequence[str], permutations: int) -> None:
    if permutations < 20:
        raise ValueError(f"at least 20 permutations are needed, not {permutations}")
    if isinstance(table, StoredTable):
        table.refuse_raw("the search for surrogates")
    if twice := [name for name in keep if name in known]:
        raise DataError(
            f"{listed(map(repr, twice))} cannot be both kept and known; name it once",
            where=table.source.sheet,
        )


def _free_names(count: int, table: Table) -> tuple[str, ...]:
    names = tuple(f"sv{k + 1}" for k in range(count))
    if taken := [name for name in names if name in table.sheet]:
        raise DataError(
            f"the sheet has columns {listed(map(repr, taken))} already; rename or remove them",
            where=table.source.sheet,
        )
    return names


def _columns(factors: Sequence[Factor], rows: int) -> Floats:
    return np.hstack([np.empty((rows, 0)), *(one.design()[0] for one in factors)])


def _refuse_aliased(
    fitted: DesignFactor, keep: Sequence[str], known: Sequence[str], table: Table
) -> None:
    if not fitted.relations:
        return
    relations = [str(relation) for relation in fitted.relations]
    if known:
        raise ConfoundedError(
            f"{listed(keep)} cannot be told from {listed(known)}: {listed(relations)}. Leave out "
            "one of them.",
            relations,
        )
    raise DataError(
        f"columns to be kept say the same: {listed(relations)}; keep one of them",
        where=table.source.sheet,
    )


def _against_kept(
    kept: Sequence[Factor], known: Sequence[Factor], values: Floats, names: tuple[str, ...]
) -> tuple[tuple[str, Confounding], ...]:
    if not names:
        return ()
    found = []
    for one in kept:
        others = [other.design()[0] for other in (*kept, *known) if other.name != one.name]
        columns, terms = one.design()
        confounding = analyse(
            columns,
            values,
            np.hstack(others) if others else None,
            wanted_names=terms,
            batch_names=names,
        )
        if not confounding.estimable:
            raise ConfoundedError(
                f"{one.name} cannot be told from the surrogates: {listed(confounding.aliased)}. "
                "Ask for fewer surrogates (--count).",
                confounding.aliased,
            )
        found.append((one.name, confounding))
    return tuple(found)


def _observed(table: Table, fitted: DesignFactor) -> tuple[Observed, float, list[Note]]:
    """The complete features that vary, the sum of their squares, and remarks on the others."""
    if isinstance(table, StoredTable):
        stored = Stored(table, fitted.basis)
        return stored, stored.squares, stored.looks.remarks(table, standardise=False)
    observations, notes = usable_features(table, standardise=False)
    observations = observations[:, np.ptp(observations, axis=0) > 0]
    total = float(((observations - observations.mean(axis=0)) ** 2).sum())
    return Loaded(observations), total, notes


def _residual_shares(left: Floats, full: Floats, values: Floats) -> tuple[float, ...]:
    """``left`` are the inner products of what the known factors leave."""
    total = float(np.trace(left))
    shares = []
    for column in factor(full).residuals(values).T:
        length = float(column @ column)
        along = float(column @ left @ column)
        shares.append(along / (length * total) if length > 1e-12 and total > 0 else 0.0)
    return tuple(shares)


#: R² of a kept factor with the surrogates above which they may have swallowed it: with them in the
#: model, more than 30 % of the information about the factor is gone. A convention.
SWALLOWED_R2 = 0.3


def _remarks(
    kept: tuple[tuple[str, Confounding], ...],
    counted: SurrogateCount | None,
    values: Floats,
    keep: Sequence[str],
    asked: int,
    affected: float,
) -> list[Note]:
    """Say what surrogates cannot promise, and where this run is in danger."""
    near = [
        Note(
            "surrogates_near_kept",
            f"R² of {name} with the surrogates is {confounding.r2:.2f}: either an unknown "
            f"batch goes with {name}, or the surrogates have swallowed a part of its effect. "
            "The data cannot say which.",
            (name,),
        )
        for name, confounding in kept
        if confounding.r2 > SWALLOWED_R2
    ]
    found = values.shape[1]
    remarks = (
        (
            not keep,
            "nothing_kept",
            "Nothing was to be kept: the surrogates hold whatever varies most, wanted differences "
            "included.",
        ),
        (
            found < asked,
            "fewer_surrogates",
            f"{asked - found} directions have no features of their own and gave no surrogate.",
        ),
        (
            counted is None,
            "count_not_checked",
            "The number of surrogates was given, not compared with permuted residuals: directions "
            "that are noise each cost a degree of freedom. Without --count it is estimated.",
        ),
        (
            found > 0 and affected < 1.0,
            "no_affected_features",
            "No feature goes with the surrogates without going with what is kept as well, so "
            "nothing bears them out: do not use them before you know what they are.",
        ),
        (
            found > 0,
            "estimated_covariates",
            "Surrogates are estimated from the same data. Tests with them as covariates take them "
            "as known, so p-values are somewhat too small, the more so the fewer the specimens.",
        ),
    )
    return [*near, *(Note(code, message) for applies, code, message in remarks if applies)]

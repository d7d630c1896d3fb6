"""Hard inputs through every route: a right result with a note, or a typed error that names them.

Each case changes one small experiment; each route is something that a user does with it. What a
route says to a case stands beside the case: a code of a note with what it names, a refusal, or
nothing, where nothing need be said.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sklearn.neighbors import KNeighborsClassifier

from batchsense.errors import BatchsenseError
from batchsense.experiments import (
    BatchCorrector,
    CombatCorrection,
    CombatSeqCorrection,
    LinearCorrection,
    Note,
    PureNoise,
    ShuffledFolds,
    Table,
    batch_gap,
    diagnose,
    find_surrogates,
    placebo,
    testing,
)
from batchsense.experiments.design import read_design
from batchsense.experiments.diagnosis.by_feature import shares_by_feature
from batchsense.experiments.out_of_core import correct_store

N = 24
MONTH = np.repeat(["May", "June", "July"], 8).astype(object)
DRUG = np.array([*"nynynynynynynyyynynyyyny"], dtype=object)
SPECIMENS = tuple(f"s{i}" for i in range(N))
#: The feature that the cases change.
ODD = 3


@dataclass
class Experiment:
    """What a route gets."""

    values: Any
    month: Any = field(default_factory=MONTH.copy)
    drug: Any = field(default_factory=DRUG.copy)
    specimens: tuple[str, ...] = SPECIMENS
    features: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.features = self.features or tuple(f"g{j}" for j in range(self.values.shape[1]))

    def table(self) -> Table:
        """Make a table."""
        sheet = {"month": self.month, "drug": self.drug}
        return Table.from_arrays(self.values, sheet, self.specimens, self.features)

    def dense(self) -> np.ndarray:
        """Give the values as they are meant."""
        values = self.values.toarray() if hasattr(self.values, "toarray") else self.values
        return np.asarray(values, dtype=np.float64)

    def without(self, features: set[int]) -> Experiment:
        """Leave features out."""
        kept = [j for j in range(len(self.features)) if j not in features]
        names = tuple(self.features[j] for j in kept)
        return dataclasses.replace(self, values=self.values[:, kept], features=names)


def experiment(route: str) -> Experiment:
    """Give 24 specimens of three months, with a drug that is not quite balanced."""
    rng = np.random.default_rng(1)
    if route == "combat-seq":
        return Experiment(rng.poisson(20 + 10 * (MONTH == "May")[:, None], (N, 12)).astype(float))
    features = 110 if route == "surrogates" else 12
    months = np.unique(MONTH, return_inverse=True)[1]
    return Experiment(rng.normal(size=(N, features)) + rng.normal(size=(3, features))[months])


@dataclass
class Outcome:
    """What a route gave: numbers by feature (last axis) or of the whole, and notes."""

    by_feature: np.ndarray
    whole: np.ndarray
    notes: tuple[Note, ...] = ()
    #: Whether the first axis is the specimens, with NaN where the observation is.
    corrected: bool = False


def numbers(found: object) -> list[float]:
    """Give all numbers of a result, those of its parts too; infinite ones are left out."""
    if isinstance(found, Note | str | Table) or found is None:
        return []
    if isinstance(found, bool | int | float | np.number):
        return [] if np.isinf(found) else [float(found)]
    if isinstance(found, np.ndarray):
        return found.ravel().tolist() if found.dtype.kind == "f" else []
    if dataclasses.is_dataclass(found):
        found = [getattr(found, one.name) for one in dataclasses.fields(found)]
    if isinstance(found, dict):
        found = list(found.values())
    return [number for part in found for number in numbers(part)]


def diagnosis(given: Experiment, _: object) -> Outcome:
    """Diagnose; the table feature by feature as well."""
    table = given.table()
    found = diagnose(table, "month", ["drug"], permutations=20)
    shares = shares_by_feature(table, read_design(table, "month", ["drug"]))
    told = np.array([[not reason for reason in shares.reasons]])
    by_feature = np.array([term.share for term in shares.terms] + [shares.residual])
    assert np.isfinite(by_feature[:, told[0]]).all()
    whole = dataclasses.replace(found, design=None, notes=())
    return Outcome(np.where(told, by_feature, 0.0), np.array(numbers(whole)), found.notes)


def correction(method: Any) -> Callable[[Experiment, object], Outcome]:
    """Correct in memory."""

    def route(given: Experiment, _: object) -> Outcome:
        table = given.table()
        found = method.fit(table, "month").transform(table)
        return Outcome(found.values, np.empty(0), found.notes, corrected=True)

    return route


def store(given: Experiment, folder: Any) -> Outcome:
    """Correct an AnnData file out of core."""
    import anndata

    obs = pd.DataFrame({"month": given.month, "drug": given.drug}, index=given.specimens)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = anndata.AnnData(given.values, obs, pd.DataFrame(index=given.features))
        data.write_h5ad(folder / "m.h5ad")
    how = CombatCorrection(keep=("drug",))
    found = correct_store(folder / "m.h5ad", folder / "o.h5ad", "month", how)
    values = anndata.read_h5ad(folder / "o.h5ad").layers["batchsense"]
    return Outcome(np.asarray(values, dtype=np.float64), np.empty(0), found.notes, corrected=True)


def transformer(given: Experiment, _: object) -> Outcome:
    """Correct by the transformer of scikit-learn."""
    covariates = pd.DataFrame({"drug": given.drug})
    observations = given.values
    if isinstance(observations, np.ndarray):
        observations = pd.DataFrame(observations, columns=given.features)
    found = BatchCorrector().fit(observations, batch_labels=given.month, covariates=covariates)
    values = found.transform(observations, batch_labels=given.month)
    return Outcome(np.asarray(values, float), np.empty(0), found.notes_, corrected=True)


def comparison(given: Experiment, _: object) -> Outcome:
    """Test the drug."""
    found = testing.test(given.table(), "drug", "month")
    effect = found.effects[0]
    prior = np.broadcast_to(found.prior_variance, effect.t.shape)
    rows = np.array([effect.effect, effect.standard_error, effect.t, effect.p_value, prior])
    untested = [given.features.index(f) for names in found.untested.values() for f in names]
    assert np.isnan(rows[:, untested]).all()
    rows[:, untested] = 0.0
    return Outcome(rows, np.empty(0), found.notes)


def noise(given: Experiment, _: object) -> Outcome:
    """Push a placebo through ComBat."""
    found = placebo(given.table(), "combat", "drug", "month", noise=PureNoise(50))
    return Outcome(np.zeros((0, len(given.features))), np.array(numbers(found)))


def surrogates(given: Experiment, _: object) -> Outcome:
    """Look for unknown batches; the known ones are not named."""
    found = find_surrogates(given.table(), ["drug"], permutations=20)
    return Outcome(np.zeros((0, len(given.features))), np.abs(found.values), found.notes)


def gap(given: Experiment, _: object) -> Outcome:
    """Compare folds; the batches are left out one by one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = batch_gap(
            KNeighborsClassifier(3),
            given.values,
            given.drug,
            given.month,
            folds=ShuffledFolds(repeats=1),
        )
    return Outcome(np.zeros((0, len(given.features))), found.by_batch)


ROUTES: dict[str, Callable[[Experiment, Any], Outcome]] = {
    "diagnose": diagnosis,
    "linear": correction(LinearCorrection(keep=("drug",))),
    "combat": correction(CombatCorrection(keep=("drug",))),
    "non-parametric": correction(CombatCorrection(keep=("drug",), parametric=False)),
    "combat-seq": correction(CombatSeqCorrection(keep=("drug",))),
    "test": comparison,
    "placebo": noise,
    "surrogates": surrogates,
    "batch_gap": gap,
    "BatchCorrector": transformer,
    "correct_store": store,
}
COMBATS = ("combat", "non-parametric", "correct_store")
LINEARS = ("linear", "BatchCorrector")
#: Routes that take the labels and values as a table with ids.
WITH_IDS = tuple(name for name in ROUTES if name not in ("batch_gap", "BatchCorrector"))


@dataclass
class Case:
    """A change, and what the routes say to it."""

    change: Callable[[Experiment], Experiment]
    #: Route to a pattern in the refusal.
    refused: dict[str, str] = field(default_factory=dict)
    #: Route to the code of a note and what it names.
    noted: dict[str, tuple[str, str]] = field(default_factory=dict)
    #: Routes for which everything else is as if the odd feature were not there.
    apart: tuple[str, ...] = ()
    #: Routes that give what they give for the unchanged experiment, to this precision.
    equal: tuple[str, ...] = ()
    within: float = 0.0


def each(routes: tuple[str, ...], said: Any) -> dict[str, Any]:
    """Let several routes say the same."""
    return dict.fromkeys(routes, said)


def with_values(change: Callable[[np.ndarray], Any]) -> Callable[[Experiment], Experiment]:
    """Change a copy of the values."""
    return lambda given: dataclasses.replace(given, values=change(given.values.copy()))


def put(value: float, *where: Any) -> Callable[[Experiment], Experiment]:
    """Put one value at some specimens of the odd feature."""

    def change(values: np.ndarray) -> np.ndarray:
        for rows in where:
            values[rows, ODD] = value
        return values

    return with_values(change)


def with_labels(**columns: Any) -> Callable[[Experiment], Experiment]:
    """Give other labels."""
    return lambda given: dataclasses.replace(given, **columns)


def replaced(labels: np.ndarray, *pairs: tuple[int, Any]) -> np.ndarray:
    """Give labels of which some are others."""
    labels = labels.copy()
    for row, label in pairs:
        labels[row] = label
    return labels


IN_MAY = MONTH == "May"
CODES = np.unique(MONTH, return_inverse=True)[1]
ONE_IN_JUNE = np.where(MONTH == "June", "May", MONTH).astype(object)
ONE_IN_JUNE[15] = "June"
NOT_COUNTS = {"combat-seq": rf"needs counts.*/ g{ODD} is missing"}
NO_NAN_MODEL = {"batch_gap": "NaN"}

CASES = {
    "a batch of one specimen": Case(
        with_labels(month=ONE_IN_JUNE),
        refused={"combat-seq": "two specimens or more in every batch, and June"},
        noted=each(
            ("diagnose", "linear", "test", *COMBATS, "BatchCorrector"),
            ("single_specimen_batches", "June"),
        ),
    ),
    "one batch only": Case(
        with_labels(month=np.repeat("May", N).astype(object)),
        refused={
            **each(WITH_IDS, "one batch only .'May'"),
            "batch_gap": "one batch only",
        },
        noted={"BatchCorrector": ("one_batch", "May")},
        equal=("surrogates",),
    ),
    "a constant feature": Case(
        put(7.0, slice(None)),
        noted={
            **each(("diagnose", "surrogates"), ("constant_features", f"g{ODD}")),
            **each(COMBATS, ("zero_variance", f"g{ODD}")),
            "test": ("untested_features", f"g{ODD}"),
        },
        apart=("linear", *COMBATS, "BatchCorrector", "test", "surrogates"),
    ),
    "no variance inside a batch": Case(
        put(7.0, IN_MAY),
        noted=each(COMBATS, ("zero_variance", f"g{ODD}")),
        apart=("linear", *COMBATS, "BatchCorrector"),
    ),
    "a feature missing in a batch": Case(
        put(np.nan, IN_MAY),
        refused=NOT_COUNTS | NO_NAN_MODEL,
        noted={
            **each(("diagnose", "surrogates"), ("incomplete_features", f"g{ODD}")),
            **each((*LINEARS, *COMBATS), ("unseen_in_batch", f"g{ODD} / May")),
        },
        apart=("linear", "BatchCorrector", "diagnose", "surrogates"),
    ),
    "a feature missing everywhere": Case(
        put(np.nan, slice(None)),
        refused=NOT_COUNTS | NO_NAN_MODEL,
        noted={
            **each(("diagnose", "surrogates"), ("incomplete_features", f"g{ODD}")),
            **each((*LINEARS, *COMBATS), ("features_unchanged", f"g{ODD}")),
            "test": ("untested_features", f"g{ODD}"),
        },
        apart=("linear", "BatchCorrector", "diagnose", "surrogates", "test"),
    ),
    "some missing values": Case(
        put(np.nan, 2, 13),
        refused=NOT_COUNTS | NO_NAN_MODEL,
        noted=each(("diagnose", "surrogates"), ("incomplete_features", f"g{ODD}")),
        apart=("linear", "BatchCorrector", "diagnose", "surrogates"),
    ),
    "an infinite value": Case(
        put(-np.inf, 13),
        refused={
            **each(WITH_IDS, rf"infinite values .*: s13 / g{ODD}"),
            "correct_store": "infinite values .number of specimen / feature.: 14 / 4",
            "BatchCorrector": rf"infinite values .*: 13 / g{ODD}",
            "batch_gap": "infinity",
        },
    ),
    "no batch label": Case(
        with_labels(month=replaced(MONTH, (4, None))),
        refused={
            **each(WITH_IDS, "'month' has no label for 's4'"),
            "BatchCorrector": "no label for 'specimen 5'",
            "batch_gap": "missing in rows 4",
        },
        equal=("surrogates",),
    ),
    "a batch label that is no number": Case(
        with_labels(month=replaced(CODES.astype(float), (4, np.nan))),
        refused={
            **each(WITH_IDS, "'month' has no label for 's4'"),
            "BatchCorrector": "no label for 'specimen 5'",
            "batch_gap": "missing or infinite in rows 4",
        },
        equal=("surrogates",),
    ),
    "no label of what is kept": Case(
        with_labels(drug=replaced(DRUG, (4, None))),
        refused={
            **each((*WITH_IDS, "surrogates"), "'drug' has no label for 's4'"),
            "BatchCorrector": "'drug' has no label for 'specimen 5'",
            "batch_gap": "missing in rows 4",
        },
    ),
    "whole numbers for labels": Case(with_labels(month=CODES), equal=tuple(ROUTES), within=1e-12),
    "floats for labels": Case(
        with_labels(month=CODES.astype(float)), equal=tuple(ROUTES), within=1e-12
    ),
    "categories for labels": Case(
        with_labels(month=pd.Categorical(MONTH, categories=["May", "June", "July", "August"])),
        equal=tuple(ROUTES),
        within=1e-12,
    ),
    "single precision": Case(
        with_values(lambda values: values.astype(np.float32)), equal=tuple(ROUTES), within=1e-4
    ),
    "a sparse matrix": Case(
        with_values(scipy.sparse.csr_matrix),
        refused={"BatchCorrector": "toarray"},
        equal=tuple(name for name in ROUTES if name != "BatchCorrector"),
        within=1e-12,
    ),
    "whole numbers": Case(
        with_values(lambda values: np.rint(10 * values + 200).astype(np.int32)),
        # Nor do they scatter as counts do: no test of counts either.
        refused=each(("diagnose", "test", "surrogates"), "read as counts .* withheld"),
    ),
    "a specimen twice": Case(
        with_labels(specimens=(*SPECIMENS[:-1], "s0")),
        refused=each(WITH_IDS, "ids occur more than once: 's0'"),
    ),
    "a feature twice": Case(
        lambda given: dataclasses.replace(given, features=(*given.features[:-1], "g0")),
        refused={
            **each(WITH_IDS, "ids occur more than once: 'g0'"),
            "BatchCorrector": "features occur more than once: 'g0'",
        },
    ),
}
#: What scikit-learn itself refuses, in words of its own.
OF_SCIKIT_LEARN = (ValueError, TypeError)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Outcome]:
    """Give what a route says of the unchanged experiment, found once."""
    found: dict[str, Outcome] = {}

    def of(route: str) -> Outcome:
        if route not in found:
            given = experiment(route)
            found[route] = ROUTES[route](given, tmp_path_factory.mktemp("plain"))
        return found[route]

    return of


def assert_no_silent_gap(found: Outcome, given: Experiment) -> None:
    """Every number is finite; a corrected value is missing exactly where the observation is."""
    missing = np.isnan(given.dense()) if found.corrected else np.zeros(found.by_feature.shape)
    np.testing.assert_array_equal(np.isnan(found.by_feature), missing)
    assert np.isfinite(found.whole).all()
    assert not np.isinf(found.by_feature).any()


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("name", CASES)
def test_hard_inputs(name, route, plain, tmp_path):
    """A right result with its note, or a refusal that names rows or terms; never a silent NaN."""
    case = CASES[name]
    given = case.change(experiment(route))
    if route in case.refused and route not in case.equal:
        with pytest.raises((BatchsenseError, *OF_SCIKIT_LEARN), match=case.refused[route]):
            ROUTES[route](given, tmp_path)
        return
    found = ROUTES[route](given, tmp_path)

    assert_no_silent_gap(found, given)
    if route in case.noted:
        code, names = case.noted[route]
        assert names in [where for note in found.notes if note.code == code for where in note.where]
    if route in case.equal:
        wanted = plain(route)
        np.testing.assert_allclose(found.by_feature, wanted.by_feature, atol=case.within)
        np.testing.assert_allclose(found.whole, wanted.whole, atol=case.within)
    if route in case.apart:
        folder = tmp_path / "apart"
        folder.mkdir()
        rest = ROUTES[route](given.without({ODD}), folder)
        others = np.delete(found.by_feature, ODD, axis=1)
        np.testing.assert_allclose(others, rest.by_feature, atol=1e-9)
        if route == "surrogates":
            np.testing.assert_allclose(found.whole, rest.whole, atol=1e-9)

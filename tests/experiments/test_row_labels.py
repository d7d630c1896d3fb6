"""What carries labels is matched by them, in every function, or refused where the labels differ."""

import itertools

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, read_h5ad
from scipy import sparse
from sklearn.neighbors import KNeighborsClassifier

from batchsense.errors import DataError
from batchsense.experiments import (
    BatchCorrector,
    CombatCorrection,
    ShuffledFolds,
    Table,
    batch_gap,
    compare_gaps,
    correct,
    correct_store,
    diagnose,
    find_surrogates,
    from_anndata,
    into_anndata,
    placebo,
    plan_layout,
    test,
    two_factor_shares,
    variance_components,
    variance_components_by_feature,
    write,
)
from batchsense.experiments.row_labels import in_one_order

ROWS = 24


def experiment(seed):
    """Observations with their sheet, one index for both, of a kind that the seed chooses."""
    generator = np.random.default_rng(seed)
    names = generator.permutation(1000)[:ROWS]
    kinds = [
        [f"s{name}" for name in names],
        names.tolist(),
        [float(name) for name in names],
        pd.to_datetime("2024-01-01") + pd.to_timedelta(names, "D"),
        [f"{name:04d}" for name in names],
    ]
    index = pd.Index(kinds[seed % len(kinds)], name=[None, "id"][seed % 2])
    month, drug = np.tile([*"MJA"], ROWS // 3), np.repeat(["no", "yes"], ROWS // 2)
    values = generator.normal(size=(ROWS, 3)) + 3.0 * (month == "J")[:, None]
    frame = pd.DataFrame(values, index=index, columns=[*"abc"])
    return frame, pd.DataFrame({"month": month, "drug": drug}, index=index), generator


#: Every function that takes labels beside a matrix: numbers that depend on which label is whose.
FUNCTIONS = {
    "batch_gap": lambda X, month, drug: (
        batch_gap(KNeighborsClassifier(1), X, drug, month, ShuffledFolds(1)).by_batch
    ),
    "BatchCorrector": lambda X, month, drug: BatchCorrector().fit_transform(
        X, batch_labels=month, covariates=drug
    ),
    "BatchCorrector of a frame": lambda X, month, drug: BatchCorrector().fit_transform(
        X, batch_labels=month, covariates=drug.to_frame() if hasattr(drug, "to_frame") else drug
    ),
    "transform": lambda X, month, drug: (
        BatchCorrector().fit(X, batch_labels=month).transform(X, batch_labels=month)
    ),
    "variance_components": lambda X, month, drug: (
        variance_components(X["a"] if hasattr(X, "columns") else X[:, 0], month).icc.estimate
    ),
    "by feature": lambda X, month, drug: variance_components_by_feature(X, month).icc,
    "two_factor_shares": lambda X, month, drug: [
        two_factor_shares(X, month, drug, permutations=0, seed=0).first.share.estimate,
        two_factor_shares(X, month, drug, permutations=0, seed=0).second.share.estimate,
    ],
    "from_arrays": lambda X, month, drug: (
        correct(Table.from_arrays(X, {"month": month, "drug": drug}), "month", ["drug"]).values
    ),
}
functions = pytest.mark.parametrize("ask", FUNCTIONS.values(), ids=FUNCTIONS)


@functions
@pytest.mark.parametrize("seed", range(5))
def test_labels_in_another_order_change_nothing(ask, seed):
    """The answer is that of arrays in the right order, whatever order the series have."""
    X, sheet, generator = experiment(seed)
    month, drug = (sheet[name].iloc[generator.permutation(ROWS)] for name in sheet)

    assert np.allclose(
        ask(X.to_numpy(), sheet["month"].to_numpy(), sheet["drug"].to_numpy()), ask(X, month, drug)
    )


def renamed(labels, generator):
    """One label is another one."""
    index = labels.index.astype(object).to_numpy().copy()
    index[generator.integers(ROWS)] = "nobody"
    return labels.set_axis(index)


def repeated(labels, generator):
    """One label stands for two rows, in another order."""
    index = labels.index.astype(object).to_numpy().copy()
    index[0] = index[1]
    return labels.set_axis(index).iloc[::-1]


def counted(labels, generator):
    """The index was lost, and the order may be."""
    return labels.sample(frac=1, random_state=1).reset_index(drop=True)


def levelled(labels, generator):
    """An index of two levels."""
    return labels.set_axis(pd.MultiIndex.from_product([labels.index, ["run 1"]]))


WRONG = [renamed, repeated, counted, levelled]


@functions
@pytest.mark.parametrize("wrong", WRONG)
def test_labels_that_differ_are_refused(ask, wrong):
    """Whatever is wrong with the labels of one part, no number comes out."""
    for seed, part in itertools.product(range(2), ("month", "drug")):
        X, sheet, generator = experiment(seed)
        columns = {name: sheet[name] for name in sheet}
        columns[part] = wrong(columns[part], generator)
        if part == "drug" and ask in list(FUNCTIONS.values())[3:6]:
            continue  # these take one kind of labels
        with pytest.raises(DataError, match=r"label|index|ids|levels"):
            ask(X, *columns.values())


def test_order_that_nothing_tells_is_refused():
    """Two series in different orders beside an array: nothing says which order it has."""
    X, sheet, _ = experiment(0)
    with pytest.raises(DataError, match="X carries none, so nothing tells which order it has"):
        FUNCTIONS["batch_gap"](X.to_numpy(), sheet["month"].iloc[::-1], sheet["drug"])


def test_numbers_that_only_count_are_no_ids():
    """The same numbers in another order, where one side only counts its rows: both readings."""
    X, months = pd.DataFrame({"a": [1.0, 2.0]}), pd.Series([*"MJ"], index=[1, 0])
    with pytest.raises(DataError, match="by number or by place"):
        in_one_order({"X": X, "batch_labels": months})


def test_number_and_text_are_one_id():
    """7 and "7" are one label, as they are in files."""
    X = pd.DataFrame({"a": [1.0, 2.0]}, index=[7, 8])
    months = pd.Series([*"MJ"], index=["8", "7"])

    assert in_one_order({"X": X, "month": months})["month"].tolist() == [*"JM"]


def test_ids_of_a_table():
    """They are those of the frame, of ``specimens`` or of the sheet, which is matched by them."""
    X, sheet, generator = experiment(0)
    shuffled = sheet.iloc[generator.permutation(ROWS)]
    ids, months = tuple(X.index), tuple(sheet["month"])

    made = Table.from_arrays(X, shuffled)
    assert (made.specimens, made.features, made.sheet["month"]) == (ids, (*"abc",), months)
    made = Table.from_arrays(X.to_numpy(), shuffled, specimens=ids)
    assert (made.specimens, made.sheet["month"]) == (ids, months)
    assert Table.from_arrays(X.to_numpy(), sheet).specimens == ids
    plain = sheet.reset_index(names="id")
    assert Table.from_arrays(X.to_numpy(), plain, plain["id"]).sheet["month"] == months


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (lambda X, s: (X, s, s.index[::-1]), "differ; give one of them"),
        (lambda X, s: (X, s.reset_index(names="id")), "carry different labels"),
        (
            lambda X, s: (X.to_numpy(), s.iloc[::-1].reset_index(names="id"), s.index),
            "another order",
        ),
        (lambda X, s: (X, s, None, [*"xyz"]), "columns of values differ"),
        (lambda X, s: (X, pd.concat([s, s], axis=1)), "more than once"),
        (lambda X, s: (X, s.set_axis(pd.MultiIndex.from_product([["a"], s]), axis=1)), "levels"),
    ],
)
def test_tables_that_contradict_themselves_are_refused(arguments, words):
    """Ids given twice, lost, in another order or in levels; columns that occur twice."""
    X, sheet, _ = experiment(0)
    with pytest.raises(DataError, match=words):
        Table.from_arrays(*arguments(X, sheet))


def test_layout_of_columns_with_an_index():
    """Series of a sheet are matched by label; an index of ids becomes the first column."""
    _, sheet, generator = experiment(0)
    parts = {"id": sheet.index.to_series(), "drug": sheet["drug"].iloc[generator.permutation(ROWS)]}

    planned = plan_layout(parts, 2, ["drug"]).sheet()

    assert dict(zip(planned["id"], planned["drug"], strict=True)) == sheet["drug"].to_dict()
    assert list(plan_layout(sheet, 2, ["drug"]).sheet()) == ["id", "month", "drug", "batch"]


@pytest.fixture(scope="module")
def cells():
    """An AnnData object of 24 cells."""
    _, sheet, generator = experiment(0)
    return AnnData(
        generator.normal(size=(ROWS, 120)), obs=sheet, layers={"raw": np.ones((ROWS, 120))}
    )


@pytest.mark.parametrize(
    "ask",
    [
        lambda cells: diagnose(cells, "month", ["drug"], permutations=20).specimens,
        lambda cells: len(correct(cells, "month").values),
        lambda cells: len(CombatCorrection().fit(cells, "month").transform(cells).values),
        lambda cells: test(cells, "drug", "month").specimens,
        lambda cells: len(compare_gaps(cells, "month", "drug").predicted.codes),
        lambda cells: len(plan_layout(cells, 2, ["drug"]).sheet()["id"]),
        lambda cells: len(find_surrogates(cells, ["drug"]).sheet()["drug"]),
        lambda cells: placebo(cells, "model", "drug", "month").features // 5000 * ROWS,
    ],
)
def test_annotated_object_stands_for_its_table(cells, ask):
    """An AnnData object is taken by its X and obs where a table is."""
    assert ask(cells) == ROWS


@pytest.mark.parametrize(
    "ask",
    [
        lambda cells: batch_gap(KNeighborsClassifier(1), cells, cells.obs.drug, cells.obs.month),
        lambda cells: BatchCorrector().fit(cells, batch_labels=cells.obs.month),
        lambda cells: variance_components_by_feature(cells, cells.obs.month),
        lambda cells: two_factor_shares(cells, cells.obs.month, cells.obs.drug, seed=0),
        lambda cells: Table.from_arrays(cells, cells.obs),
        lambda cells: write(cells, cells.X, "corrected.h5ad"),
        lambda cells: correct_store(cells, "corrected.h5ad", "month"),
        lambda cells: diagnose(cells.to_df(), "month"),
    ],
)
def test_annotated_object_is_refused_elsewhere(cells, ask):
    """Where a matrix or a file is expected, the refusal says what to give."""
    with pytest.raises(DataError):
        ask(cells)


@pytest.mark.parametrize("form", ["csr", "csc", "dense"])
@pytest.mark.parametrize("part", [slice(None), slice(0, 10)])
def test_backed_object(tmp_path, form, part):
    """An object whose matrix is on disk gives the same table, sparse or dense, whole or in part."""
    whole = sparse.random(ROWS, 30, 0.5, random_state=0, format="csr")
    stored = whole.toarray() if form == "dense" else whole.asformat(form)
    obs = pd.DataFrame({"lane": [*"12"] * 12}, index=[f"c{i}" for i in range(ROWS)])
    AnnData(stored, obs=obs).write_h5ad(tmp_path / "c.h5ad")
    backed = read_h5ad(tmp_path / "c.h5ad", backed="r")[part]

    assert np.array_equal(whole.toarray()[part], from_anndata(backed).values)
    backed.file.close()


def test_gene_that_is_in_obs_keeps_its_place():
    """It is left out of the features, and stands in the layer as it was."""
    X, sheet, _ = experiment(0)
    data = AnnData(X.to_numpy(), obs=sheet.assign(b=X["b"]), var=pd.DataFrame(index=[*"abc"]))

    table = from_anndata(data)
    into_anndata(correct(table, "month"), data)

    assert table.features == ("a", "c")
    assert np.array_equal(X["b"], data.layers["batchsense"][:, 1])

"""What is in the sheet is no feature: left out with a note, or refused where contents differ."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from batchsense.errors import DataError
from batchsense.experiments import (
    BatchCorrector,
    LinearCorrection,
    Table,
    batch_gap,
    correct,
    correct_store,
    read,
    write,
)

ROWS = 20


def files(folder, seed, disguise, content=None):
    """A matrix that holds a column of its sheet, in a form and under a name that the seed chooses.

    Gives their paths, the column and the names of the true features.
    """
    generator = np.random.default_rng(seed)
    ids = pd.Index([f"s{row}" for row in range(ROWS)], name="id")
    month = generator.permutation(np.repeat([*"MJ"], ROWS // 2))
    age, dose = generator.integers(20, 80, ROWS), generator.normal(size=ROWS)
    sheet = pd.DataFrame({"month": month, "age": age, "dose": dose}, index=ids)
    codes = {"M": generator.normal(), "J": generator.normal()}
    contents = {
        "month": np.array([codes[one] for one in month]),
        "age": age * [1, 12, -0.5][seed % 3] + [0, 3][seed % 2],
        "dose": dose.astype(np.float32),
    }
    column = ["month", "age", "dose"][seed % 3]
    matrix = pd.DataFrame(generator.normal(size=(ROWS, 5)), index=ids, columns=[*"abcde"])
    names = list(matrix)
    held = contents[column] if content is None else content(generator)
    matrix.insert(int(generator.integers(6)), disguise(column), held)
    matrix = matrix.iloc[generator.permutation(ROWS)]
    path = folder / f"m{seed}{['.csv', '.tsv', '.parquet'][seed % 3]}"
    lying = matrix.T if seed % 2 else matrix
    if path.suffix == ".parquet":
        lying.to_parquet(path)
    else:
        lying.to_csv(path, sep="," if path.suffix == ".csv" else "\t")
    sheet.to_csv(folder / f"s{seed}.csv")
    return path, folder / f"s{seed}.csv", column, names


@pytest.mark.parametrize("disguise", [str, str.upper, lambda name: f" {name} "])
def test_column_of_the_sheet_is_left_out_with_a_note(tmp_path, disguise):
    """In any unit or code, orientation and format, under its name in any case; and written back."""
    for seed in range(12):
        matrix, sheet, column, names = files(tmp_path, seed, disguise)

        table = read(matrix, sheet)

        assert sorted(names) == sorted(table.features), seed
        note = next(one for one in table.notes if one.code == "sheet_columns_left_out")
        assert column in note.message.lower()
        result = matrix.with_name(f"o{matrix.name}")
        write(table, correct(table, "month").values, result)
        again = read(result, sheet)
        assert (table.aside.places, table.orientation) == (again.aside.places, again.orientation)
        assert np.allclose(table.aside.values, again.aside.values)


def test_name_of_a_column_with_other_content_is_refused(tmp_path):
    """Nothing tells whether it is a gene of that name or the column, changed."""
    for seed in range(12):
        matrix, sheet, _, _ = files(tmp_path, seed, str, lambda one: one.normal(size=ROWS))
        with pytest.raises(DataError, match="rename one of the two"):
            read(matrix, sheet)


def test_other_features_stay(tmp_path):
    """A name that is like that of a column keeps its feature where the contents differ."""
    for seed in range(12):
        found = files(tmp_path, seed, str.upper, lambda one: one.normal(size=ROWS))
        table = read(*found[:2])
        assert (len(table.features), table.aside) == (6, None)
        assert "features_tell_a_column" not in [one.code for one in table.notes]


def test_labels_under_another_name_are_told(tmp_path):
    """A feature with one value for each label stays, with a note that says so."""
    for seed in range(0, 12, 3):
        table = read(*files(tmp_path, seed, lambda _: "site")[:2])
        note = next(one for one in table.notes if one.code == "features_tell_a_column")
        assert note.where == ("month", "site")


def test_features_of_two_values_are_not_told_by_chance():
    """Among thousands of features of two values some go with the labels by chance."""
    generator = np.random.default_rng(0)
    for _ in range(20):
        values = generator.integers(0, 2, (8, 3000))
        table = Table.from_arrays(values, {"month": [*"MMMMJJJJ"]})
        assert "features_tell_a_column" not in [one.code for one in table.notes]


def test_one_file_is_not_its_own_sheet(tmp_path):
    """Neither under one name nor under two."""
    matrix, sheet, _, _ = files(tmp_path, 0, str)
    (tmp_path / "link.csv").symlink_to(matrix)
    for other in (matrix, tmp_path / "link.csv"):
        with pytest.raises(DataError, match="one file is given as matrix and as sheet"):
            read(matrix, other)
    copy = pd.read_csv(matrix).merge(pd.read_csv(sheet)[["id", "age", "dose"]], on="id")
    copy.to_csv(tmp_path / "copy.csv", index=False)
    with pytest.raises(DataError, match="holds every feature"):
        read(matrix, tmp_path / "copy.csv")


def test_fitted_correction_meets_the_same_matrix(tmp_path):
    """What was left out of the fit is left out of later specimens too."""
    table = read(*files(tmp_path, 0, str)[:2])
    fitted = LinearCorrection().fit(table, "month")

    assert np.array_equal(fitted.transform(table).values, correct(table, "month").values)


def test_store_on_disk(tmp_path):
    """Out of core the contents are not compared, so the name alone is refused."""
    obs = pd.DataFrame({"lane": [*"12"] * 4, "b": range(8)}, index=[f"c{i}" for i in range(8)])
    data = AnnData(np.arange(24.0).reshape(8, 3), obs=obs, var=pd.DataFrame(index=[*"abc"]))
    data.write_h5ad(tmp_path / "c.h5ad")
    with pytest.raises(DataError, match="names of columns of the sheet"):
        correct_store(tmp_path / "c.h5ad", tmp_path / "o.h5ad", "lane")


@pytest.fixture
def frame():
    """Observations among which the answers and the batch stand."""
    generator = np.random.default_rng(0)
    plain = pd.DataFrame(generator.normal(size=(ROWS, 2)), columns=["a", "b"])
    return plain.assign(ill=[0, 1] * (ROWS // 2), site=np.repeat([3, 4], ROWS // 2))


def test_corrector_takes_no_labels_for_features(frame):
    """A correction of the batch labels by themselves is refused, covariates too."""
    for part in ({"batch_labels": frame["site"]}, {"covariates": frame[["ill"]]}):
        with pytest.raises(DataError, match="among the features"):
            BatchCorrector().fit(frame, **{"batch_labels": list(frame["site"]), **part})


def test_gap_takes_no_answers_for_features(frame):
    """The answers are refused, the batch is told."""
    from sklearn.neighbors import KNeighborsClassifier

    with pytest.raises(DataError, match="y itself"):
        batch_gap(KNeighborsClassifier(1), frame, frame["ill"], frame["site"])
    told = batch_gap(
        KNeighborsClassifier(1), frame.drop(columns="ill"), frame["ill"], frame["site"]
    )
    assert "batch_labels_among_features" in [note.code for note in told.notes]

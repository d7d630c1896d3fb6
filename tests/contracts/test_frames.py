"""What takes a table takes an AnnData object, and frames of other libraries make the same table."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest

import batchsense.experiments as experiments
from batchsense.errors import DataError
from batchsense.experiments import (
    BatchGap,
    CombatCorrection,
    LinearCorrection,
    ShuffledFolds,
    Table,
    from_anndata,
    into_anndata,
)

FEATURES = 100  # the least from which surrogates are learned
RNG = np.random.default_rng(0)
MONTH, DRUG = np.repeat(["May", "June", "July"], 12), np.tile(["no", "yes"], 18)
IDS = [f"s{i}" for i in range(36)]
VALUES = RNG.normal(size=(36, FEATURES)) + (MONTH == "July")[:, None]
FRAME = pd.DataFrame(VALUES, IDS, [f"g{j}" for j in range(FEATURES)])
SHEET = pd.DataFrame({"month": MONTH, "drug": DRUG}, IDS)


def annotated() -> anndata.AnnData:
    """The specimens as an AnnData object."""
    return anndata.AnnData(VALUES, obs=SHEET.copy(), var=pd.DataFrame(index=FRAME.columns))


def table() -> Table:
    """The same as a table."""
    return Table.from_arrays(FRAME, SHEET)


def written(given: Any, folder: Path) -> str:
    """What write makes of it."""
    experiments.write(given, VALUES * 2, folder / "out.csv")
    return (folder / "out.csv").read_text().partition("\n")[2]


#: Each public function, on a small scale; what of its answer is compared.
CALLS: dict[str, Callable[[Any, Path], Any]] = {
    "correct": lambda given, _: experiments.correct(given, "month", ["drug"]).values,
    "diagnose": lambda given, _: (
        experiments.diagnose(given, "month", ["drug"], permutations=20).verdict
    ),
    "test": lambda given, _: experiments.test(given, "drug", "month").effects[0].p_value,
    "find_surrogates": lambda given, _: (
        experiments.find_surrogates(given, ["drug"], permutations=20).values
    ),
    "placebo": lambda given, _: experiments.placebo(given, "linear", "drug", "month").called,
    "placebos": lambda given, _: str(
        experiments.placebos(
            given, experiments.diagnose(table(), "month", ["drug"], permutations=20), features=100
        )
    ),
    "compare_gaps": lambda given, _: (
        experiments.compare_gaps(given, "month", "drug", folds=ShuffledFolds(repeats=1))
        .ways[0]
        .gap.difference.estimate
    ),
    "aggregate": lambda given, _: experiments.aggregate(given, ["month", "drug"]).values,
    "plan_layout": lambda given, _: str(experiments.plan_layout(given, 3, ["drug"]).codes),
    "write": written,
    "LinearCorrection.fit": lambda given, _: (
        LinearCorrection(keep=("drug",)).fit(given, "month").transform(given).values
    ),
    "CombatCorrection.fit": lambda given, _: (
        CombatCorrection(keep=("drug",)).fit(given, "month").transform(given).values
    ),
}


def test_every_public_function_of_a_table_is_called_here() -> None:
    """And each takes an AnnData object by its signature."""
    taking = set()
    for name in experiments.__all__:
        made = getattr(experiments, name)
        if isinstance(made, FunctionType):
            first = next(iter(inspect.signature(made).parameters.values()), None)
            if first is not None and str(first.annotation).startswith("Table"):
                assert "AnnData" in str(first.annotation), name
                taking.add(name)

    assert taking | {"plan_layout"} <= set(CALLS)
    assert BatchGap.__name__ in experiments.__all__  # batch_gap takes matrices, as scikit-learn


@pytest.mark.parametrize("name", CALLS)
def test_the_answer_is_that_of_the_table(name: str, tmp_path: Path) -> None:
    """To the last bit."""
    found, wanted = (CALLS[name](given, tmp_path) for given in (annotated(), table()))

    np.testing.assert_array_equal(found, wanted)


def test_a_correction_comes_back_as_a_layer() -> None:
    """X stays, and what was done is said."""
    data = annotated()
    corrected = experiments.correct(data, "month", ["drug"])
    into_anndata(corrected, data)

    np.testing.assert_array_equal(data.layers["batchsense"], corrected.values)
    np.testing.assert_array_equal(data.X, VALUES)
    again = experiments.diagnose(from_anndata(data, layer="batchsense"), "month", permutations=20)
    assert again.verdict == "fine"


def polars_frame(frame: pd.DataFrame) -> Any:
    """Of polars."""
    polars = pytest.importorskip("polars")
    return polars.DataFrame({str(name): column.to_numpy() for name, column in frame.items()})


def arrow_table(frame: pd.DataFrame) -> Any:
    """Of Arrow."""
    return pytest.importorskip("pyarrow").Table.from_pandas(frame, preserve_index=False)


class OnlyInterchange:
    """A frame that offers the older protocol alone."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame

    @property
    def columns(self) -> Any:
        return self._frame.columns

    def __dataframe__(self, *args: Any, **kwargs: Any) -> Any:
        return self._frame.__dataframe__(*args, **kwargs)


@pytest.mark.filterwarnings("ignore:.*interchange")
@pytest.mark.parametrize("make", [polars_frame, arrow_table, OnlyInterchange, lambda frame: frame])
class TestFrames:
    """Values, ids and labels are those of pandas."""

    def test_one_frame_with_everything(self, make: Callable[[pd.DataFrame], Any]) -> None:
        """Features beside labels, and the ids in a column."""
        whole = pd.concat([SHEET, FRAME], axis=1).rename_axis("cell").reset_index()
        made = Table.from_frame(make(whole), ["month", "drug"], "cell")

        np.testing.assert_array_equal(made.values, VALUES)
        assert (list(made.specimens), made.features) == (IDS, tuple(FRAME.columns))
        assert made.sheet["month"] == tuple(MONTH)

    def test_two_frames(self, make: Callable[[pd.DataFrame], Any]) -> None:
        """Values and sheet apart, in one order."""
        values, sheet = (frame.reset_index(drop=True) for frame in (FRAME, SHEET))
        made = Table.from_arrays(make(values), make(sheet), specimens=IDS)

        np.testing.assert_array_equal(made.values, VALUES)
        assert made.sheet["drug"] == tuple(DRUG)


def test_missing_values_stay_missing() -> None:
    """A null of Arrow is neither a number nor a label."""
    pyarrow = pytest.importorskip("pyarrow")
    columns = {"g": [1.0, None, 3.0], "h": [1, 2, None], "month": ["May", None, "July"]}
    made = Table.from_frame(pyarrow.table(columns), ["month"])

    np.testing.assert_array_equal(made.values, [[1, 1], [np.nan, 2], [3, np.nan]])
    assert made.sheet["month"] == ("May", None, "July")


def test_columns_that_are_not_there_are_named() -> None:
    """And a string is no list of columns."""
    with pytest.raises(DataError, match="no column 'lane'"):
        Table.from_frame(FRAME, ["lane"])
    with pytest.raises(DataError, match="a list of its columns"):
        Table.from_frame(FRAME, "month")


def test_what_is_no_number_in_a_frame_is_named_and_nullable_numbers_are_read() -> None:
    """A forgotten column of the sheet is named; gaps of nullable columns are missing values."""
    frame = pd.DataFrame({"month": [*"ab"], "drug": [*"xy"], "g": [1.5, 2.5], "h": [True, False]})
    with pytest.raises(DataError, match="without numbers: 'drug'; name them as columns of the"):
        Table.from_frame(frame, ["month"])

    frame["k"] = pd.array([3, None], dtype="Int64")
    values = Table.from_frame(frame, ["month", "drug"]).values
    np.testing.assert_array_equal(values, [[1.5, 1, 3], [2.5, 0, np.nan]])

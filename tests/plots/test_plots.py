"""Every picture of a result draws where it is told, and can be saved."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from batchsense import plots
from batchsense.errors import DataError, UnresolvedError
from batchsense.experiments import (
    ColumnKinds,
    ContrastOptions,
    ShuffledFolds,
    Table,
    batch_gap,
    correct,
    diagnose,
    find_surrogates,
    plan_layout,
    plant,
    testing,
)
from batchsense.reports.numbers import numbers_of

TABLE = plant(specimens=24, features=120, months=2, seed=1).table
CORRECTED = correct(TABLE, "month", ["drug"])
LANES = ColumnKinds(categorical=["lane"])
TESTS = testing.test(TABLE, "drug", "month", options=ContrastOptions(trend=True))


def gap() -> object:
    """How wrong a guess is on months left out."""
    from sklearn.dummy import DummyClassifier

    return batch_gap(
        DummyClassifier(),
        TABLE.values,
        TABLE.sheet["drug"],
        TABLE.sheet["month"],
        ShuffledFolds(repeats=1),
    )


DRAWN: dict[str, Callable[[Axes | None], Axes]] = {
    "plot_components": lambda ax: plots.plot_components(TABLE, "month", ax=ax),
    "plot_gap": lambda ax: plots.plot_gap(gap(), ax=ax),
    "plot_layout": lambda ax: plots.plot_layout(plan_layout(TABLE, 3, ["drug"]), ax=ax),
    "plot_leading_features": lambda ax: plots.plot_leading_features(TESTS, TABLE, ax=ax),
    "plot_mean_difference": lambda ax: plots.plot_mean_difference(TESTS, ax=ax),
    "plot_p_values": lambda ax: plots.plot_p_values(TESTS, ax=ax),
    "plot_relative_expression": lambda ax: plots.plot_relative_expression(TABLE, "month", ax=ax),
    "plot_shares": lambda ax: plots.plot_shares(
        diagnose(TABLE, "month", ["drug"], permutations=20), ax=ax
    ),
    "plot_surrogates": lambda ax: plots.plot_surrogates(
        find_surrogates(TABLE, ["drug"], permutations=20), ax=ax
    ),
    "plot_trend": lambda ax: plots.plot_trend(TESTS, ax=ax),
    "plot_volcano": lambda ax: plots.plot_volcano(TESTS, "drug: yes - no", ax=ax),
}


def test_no_picture_is_forgotten_here() -> None:
    """Each plot of the package is drawn below."""
    assert set(DRAWN) == {name for name in plots.__all__ if name.startswith("plot_")}


@pytest.mark.parametrize("name", sorted(DRAWN))
def test_a_picture_takes_and_returns_axes(name: str, tmp_path: Path) -> None:
    """Given axes are used and returned, without axes there is a new figure; all have numbers."""
    ax = Figure(layout="constrained").subplots()

    assert DRAWN[name](ax) is ax
    assert DRAWN[name](None).figure is not ax.figure
    assert len({len(column) for column in numbers_of(ax).values()}) == 1
    plots.save_figure(ax, tmp_path / f"{name}.svg")


def test_after_a_correction_other_values_are_drawn() -> None:
    """Before it stand the values as measured, after it the corrected ones, on one scale."""
    before, after = (plots.plot_relative_expression(CORRECTED, "month", k) for k in (False, True))

    assert before.get_ylim() == after.get_ylim()
    assert numbers_of(before)["50 %"] != numbers_of(after)["50 %"]
    planes = [numbers_of(plots.plot_components(CORRECTED, "drug", k)) for k in (False, True)]
    assert next(iter(planes[0])) == "id"
    assert list(planes[0])[1] != list(planes[1])[1]


def test_numbers_colour_by_thirds() -> None:
    """A column of many numbers makes three groups of about the same size."""
    sheet = {**TABLE.sheet, "age": [str(40 + k) for k in range(24)]}
    told = numbers_of(plots.plot_components(Table.from_arrays(TABLE.values, sheet), "age"))

    assert sorted(map(told["age"].count, set(told["age"]))) == [8, 8, 8]


def test_counts_are_drawn_as_logarithms() -> None:
    """Libraries of unlike depth lie together: log counts per million are drawn."""
    rng = np.random.default_rng(0)
    depth = np.repeat([1.0, 8.0], 6)[:, None]
    counts = rng.poisson(depth * rng.uniform(20, 400, size=60)).astype(float)
    sheet = {"lot": ["1", "2"] * 6, "drug": ["a", "a", "b", "b"] * 3}
    table = Table.from_arrays(counts, sheet, values_are="counts")
    told = numbers_of(plots.plot_relative_expression(table, "lot"))

    assert np.abs(told["50 %"]).max() < 0.3
    found = testing.test(table, "drug", "lot")
    assert plots.plot_trend(found).get_xlabel() == "mean log2 count"
    assert len(numbers_of(plots.plot_leading_features(found, table))["drug"]) == 12


def test_what_cannot_be_drawn_is_said() -> None:
    """An unknown contrast, another table, and a trend that was not asked for."""
    with pytest.raises(DataError, match="there are drug: yes - no"):
        plots.plot_volcano(TESTS, "dose")
    with pytest.raises(DataError, match="other features"):
        plots.plot_leading_features(TESTS, plant(specimens=24, features=60).table)
    with pytest.raises(UnresolvedError, match="same prior variance"):
        plots.plot_trend(testing.test(TABLE, "drug", "month"))


def test_batches_of_numbers_are_labels() -> None:
    """Eight lanes are eight labels, not thirds of a number; of several columns each is shown."""
    lanes = np.random.default_rng(0).permutation(np.repeat(np.arange(1, 9), 3))
    table = Table.from_arrays(TABLE.values, {**TABLE.sheet, "lane": lanes.astype(str)})
    told = numbers_of(plots.plot_relative_expression(table, "lane"))
    assert sorted(set(told["lane"])) == [*"12345678"]

    found = testing.test(table, "drug", "lane")
    leading = numbers_of(plots.plot_leading_features(found, table))
    assert sorted(set(leading["lane"])) == [*"12345678"]
    several = testing.test(table, "drug", ["month", "lane"], kinds=LANES)
    assert {"month", "lane"} <= set(numbers_of(plots.plot_leading_features(several, table)))


def test_a_picture_shows_in_a_notebook_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """There pyplot holds its figure until the cell ends; in a script nothing is held."""
    from matplotlib import pyplot

    plots.plot_volcano(TESTS)
    assert pyplot.get_fignums() == []
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    ax = plots.plot_volcano(TESTS)
    try:
        assert [pyplot.figure(number) for number in pyplot.get_fignums()] == [ax.figure]
    finally:
        pyplot.close("all")


@pytest.mark.filterwarnings("error")
def test_a_specimen_without_values_is_not_drawn() -> None:
    """The others are, on a scale of their own."""
    values = TABLE.values.copy()
    values[2] = np.nan
    table = Table.from_arrays(values, TABLE.sheet, TABLE.specimens)
    ax = plots.plot_relative_expression(table, "month")

    assert len(numbers_of(ax)["specimen"]) == 23
    assert 0 < ax.get_ylim()[1] < 20

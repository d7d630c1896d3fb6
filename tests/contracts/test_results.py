"""Every answer about a table can be looked at: a line, a data frame, both in a notebook."""

import dataclasses
import inspect
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from batchsense import experiments
from batchsense.experiments import (
    PlainModel,
    ShuffledFolds,
    batch_gap,
    compare_gaps,
    correct,
    diagnose,
    find_surrogates,
    plan_layout,
    plant,
    testing,
)
from batchsense.experiments.shown import Shown

TABLE = plant(specimens=24, features=120, months=2, seed=1).table


def _gap() -> Shown:
    from sklearn.dummy import DummyClassifier

    labels = TABLE.sheet["drug"], TABLE.sheet["month"]
    return batch_gap(DummyClassifier(), TABLE.values, *labels, ShuffledFolds(repeats=1))


#: A result of each class, and how many rows its frame has.
RESULTS: dict[str, tuple[Callable[[], Shown], int]] = {
    "Diagnosis": (lambda: diagnose(TABLE, "month", ["drug"], permutations=20), 4),
    "Corrected": (lambda: correct(TABLE, "month", ["drug"]), 24),
    "ContrastTests": (lambda: testing.test(TABLE, "drug", "month"), 120),
    "Surrogates": (lambda: find_surrogates(TABLE, ["drug"], permutations=20), 24),
    "Layout": (lambda: plan_layout(TABLE, 3, ["drug"]), 24),
    "BatchGap": (_gap, 2),
    "GapComparison": (
        lambda: compare_gaps(
            TABLE, "month", "drug", PlainModel("nearest"), ShuffledFolds(repeats=1)
        ),
        4,
    ),
}
#: Classes that functions of the package return and that are no answers: parts, inputs, or a few
#: numbers that a dataclass shows well by itself.
NO_ANSWERS = {
    "Table",
    "CorrectedStore",
    "Placebo",
    "Placebos",
    "Planted",
    "TwoFactorShares",
    "VarianceComponents",
    "FeatureComponents",
}


def returned() -> dict[str, type]:
    """The exported dataclasses that public functions of the package return."""
    functions = [getattr(experiments, name) for name in experiments.__all__]
    names = [
        name.strip()
        for one in functions
        if inspect.isfunction(one)
        for name in str(one.__annotations__["return"]).split("|")
    ]
    kinds = {name: getattr(experiments, name, None) for name in names}
    return {name: kind for name, kind in kinds.items() if dataclasses.is_dataclass(kind)}


def test_no_answer_is_forgotten() -> None:
    """What a function returns is listed above, or is said to be no answer."""
    answers = {name: kind for name, kind in returned().items() if name not in NO_ANSWERS}

    assert set(answers) == set(RESULTS)
    assert all(issubclass(kind, Shown) for kind in answers.values())


@pytest.fixture(scope="module", params=sorted(RESULTS))
def result(request: pytest.FixtureRequest) -> tuple[Shown, int]:
    """Calculate one result."""
    make, rows = RESULTS[request.param]
    made = make()
    assert type(made).__name__ == request.param
    return made, rows


def test_a_result_is_told_in_a_line(result: tuple[Shown, int]) -> None:
    """The name of its class and what was found, without arrays."""
    found, _ = result
    line = repr(found)

    assert line.startswith(f"<{type(found).__name__}: ")
    assert len(line) < 240
    assert "\n" not in line
    assert "array(" not in line


def test_a_result_is_a_data_frame(result: tuple[Shown, int]) -> None:
    """Its frame has the expected rows, named columns, and numbers as numbers."""
    found, rows = result
    frame = found.to_frame()

    assert isinstance(frame, pd.DataFrame)
    assert len(frame) == rows
    assert all(isinstance(name, str) for name in frame.columns)


def test_a_result_shows_in_a_notebook(result: tuple[Shown, int]) -> None:
    """Its line and its table, as markup that holds no script; names of the data are text."""
    found, _ = result
    html = found._repr_html_()

    assert found.headline().split(";")[0].replace("≤", "≤") in html.replace("&lt;", "<")
    assert "<table" in html
    assert "<script" not in html
    assert len(html) < 40_000


def test_names_in_the_data_are_text_in_a_notebook() -> None:
    """Markup in a column or feature cannot enter the notebook."""
    names = ["<script>x</script>", *(f"f{k}" for k in range(9))]
    sheet = {"lot": ["1", "2"] * 8, "<b>": ["p", "p", "q", "q"] * 4}
    values = np.random.default_rng(0).normal(size=(16, 10))
    table = experiments.Table.from_arrays(values, sheet, features=names)
    for found in (correct(table, "lot", ["<b>"]), testing.test(table, "<b>", "lot")):
        assert "<script" not in found._repr_html_()
        assert "<b>:" not in found._repr_html_()


def test_frames_hold_the_numbers_of_the_results() -> None:
    """Corrected values, shares, tests and surrogates are those of the arrays."""
    corrected, tests = correct(TABLE, "month", ["drug"]), testing.test(TABLE, "drug", "month")
    shares = diagnose(TABLE, "month", ["drug"], permutations=20)

    np.testing.assert_array_equal(corrected.to_frame().to_numpy(), corrected.values)
    assert corrected.to_frame().loc[TABLE.specimens[3], TABLE.features[5]] == corrected.values[3, 5]
    np.testing.assert_array_equal(tests.to_frame()["p"], tests.effects[0].p_value)
    assert shares.to_frame().loc["month", "share"] == shares.batch_share.share.estimate
    assert list(shares.to_frame().index) == ["month", "drug", "month × drug", "together"]


def test_results_load_pandas_only_for_a_frame() -> None:
    """A result and its line need no pandas of their own, and no matplotlib at all."""
    program = (
        "import sys; from batchsense.experiments import correct, plant; "
        "repr(correct(plant(specimens=12, features=20, months=2).table, 'month')); "
        "print('matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert done.stdout == "False\n", done.stderr

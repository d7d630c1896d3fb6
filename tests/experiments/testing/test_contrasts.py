"""Any contrast: sums of cells equal a dense pseudo-inverse, or are refused by name."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from designs import all_columns, estimable, indicators

from batchsense.errors import ConfoundedError, DataError
from batchsense.experiments import ColumnKinds, Table, testing
from batchsense.experiments.contrasts.formula import read_formula
from batchsense.experiments.contrasts.grammar import weights_of_cells

FACTORS = {"drug": ["a", "b", "IL-2"], "time": ["early", "late", "very late"], "sex": ["f", "m"]}


def draw(rng, lost):
    """A sheet of three factors, a number and lots; with ``lost``, cells that are empty or a lot."""
    n = int(rng.integers(45, 80))
    sheet = {name: rng.choice(levels, n) for name, levels in FACTORS.items()}
    sheet["lot"] = rng.choice(["L1", "L2", "L3"], n)
    if lost:
        first = sheet["drug"] == "a"
        sheet["time"][first & (sheet["time"] == "early")] = "late"  # an empty cell
        sheet["lot"][first & (sheet["time"] == "very late")] = "L4"  # a cell with its own lot,
        others = np.flatnonzero((sheet["lot"] == "L4") & (sheet["time"] != "very late"))
        sheet["lot"][others] = "L1"
    sheet["age"] = rng.normal(50, 9, n)
    return sheet, rng.normal(size=(n, 3)) + 100


def quoted(level):
    return level if level.isalnum() else f'"{level}"'


def expression(rng, columns):
    """A random sum of cells whose weights sum to zero, and its weights."""
    cells = list(product(*(FACTORS[name] for name in columns)))
    many = min(len(cells), int(rng.integers(2, 5)))
    chosen = [cells[i] for i in rng.choice(len(cells), many, replace=False)]
    weights = rng.integers(1, 4, len(chosen)).astype(float)
    texts = [".".join(map(quoted, cell)) for cell in chosen]
    left = " + ".join(f"{w:g}*{t}" for w, t in zip(weights[:-1], texts[:-1], strict=True))
    total = weights[:-1].sum()
    text = f"({left})/{total:g} - {texts[-1]}"
    return text, dict(zip(chosen, [*(weights[:-1] / total), -1.0], strict=True))


def dense(sheet, columns, cells):
    """All indicators of factors and cells, lots and age; and the vector of a contrast of cells."""
    design, names = all_columns(sheet, ["lot", *columns, "age"])
    parts, every, vector = [design], list(names), [0.0] * len(names)
    for size in range(2, len(columns) + 1):
        for some in combinations(range(len(columns)), size):
            levels = list(product(*(FACTORS[columns[place]] for place in some)))
            rows = list(zip(*(sheet[columns[place]].tolist() for place in some), strict=True))
            parts.append(np.array([[float(row == cell) for cell in levels] for row in rows]))
            weight = dict.fromkeys(levels, 0.0)
            for cell, own in cells.items():
                weight[tuple(cell[place] for place in some)] += own
            vector.extend(weight.values())
    for cell, weight in cells.items():
        for name, level in zip(columns, cell, strict=True):
            vector[every.index(f"{name}[{level}]")] += weight
    return np.hstack(parts), np.array(vector)


def dense_t(design, vector, y):
    inverse = np.linalg.pinv(design, rcond=1e-10)
    y = y - y.mean(axis=0)
    left = y - design @ (inverse @ y)
    df = len(y) - np.linalg.matrix_rank(design)
    effect = vector @ inverse @ y
    error = np.sqrt((left**2).sum(axis=0) / df * (vector @ inverse @ inverse.T @ vector))
    return effect, effect / error


@pytest.mark.parametrize("lost", [False, True])
def test_random_contrasts_equal_a_dense_reference(lost):
    """120 random sums of cells: effect and t to 1e-8, those that cannot be told refused."""
    worst, told, refused = 0.0, 0, 0
    for seed in range(20):
        rng = np.random.default_rng(7000 + seed)
        sheet, values = draw(rng, lost)
        table = Table.from_arrays(values, sheet)
        for columns in (["drug"], ["drug", "time"], ["drug", "time", "sex"]):
            text, cells = expression(rng, columns)
            design, vector = dense(sheet, columns, cells)
            known = estimable(design, vector)
            asked = f"{'*'.join(columns)}: {text}"
            options = testing.ContrastOptions(shrink=False)
            if not known:
                with pytest.raises(ConfoundedError) as error:
                    testing.test(table, asked, "lot", ["age"], options)
                assert error.value.aliased
                refused += 1
                continue
            found = testing.test(table, asked, "lot", ["age"], options)
            effect, t = dense_t(design, vector, values)
            (one,) = found.effects
            means = {".".join(cell): weight for cell, weight in cells.items()}
            shown = {n.replace("'", ""): w for n, w in one.contrast.means().items()}
            assert shown == pytest.approx(means)
            worst = max(worst, np.abs(one.effect - effect).max(), np.abs(one.t / t - 1).max())
            told += 1
    assert worst < 1e-8
    assert (told == 60 and not refused) if not lost else (told > 15 and refused > 15)


def test_what_no_specimen_tells_is_named():
    """An empty cell is named as such, and a cell that is a lot of its own by its relation."""
    rng = np.random.default_rng(1)
    sheet, values = draw(rng, lost=True)
    table = Table.from_arrays(values, sheet)
    with pytest.raises(ConfoundedError, match="No specimen has drug a and time early") as error:
        testing.test(table, "a.early - b.early", "lot")
    assert "cannot be told from the rest of the model" in str(error.value)
    with pytest.raises(ConfoundedError, match=r"cannot be told from lot") as error:
        testing.test(table, "drug*time: a.'very late' - b.'very late'", "lot")
    assert any("lot[L4]" in relation for relation in error.value.aliased)
    found = testing.test(table, ["drug*time", "drug*time: b.late - b.early"], "lot")
    assert {one.beside for one in found.refused} == {""}
    assert [one.of for one in found.factors] == ["interaction"]
    assert not found.factors[0].complete


def test_joint_f_equals_a_dense_wald_test():
    """F of all contrasts, one of which follows from others, equals the dense Wald statistic."""
    rng = np.random.default_rng(3)
    sheet, values = draw(rng, lost=False)
    table = Table.from_arrays(values, sheet)
    asked = ["drug: a - b", "drug: b - IL-2", "drug: a - IL-2", "age"]
    options = testing.ContrastOptions(shrink=False, joint=True)
    (joint,) = testing.test(table, asked, "lot", options=options).factors
    design, names = all_columns(sheet, ["lot", "drug", "age"])
    rows = np.zeros((3, len(names)))
    for row, (plus, minus) in enumerate([("a", "b"), ("b", "IL-2")]):
        rows[row, [names.index(f"drug[{plus}]"), names.index(f"drug[{minus}]")]] = 1, -1
    rows[2, names.index("age")] = 1
    inverse = np.linalg.pinv(design)
    b = rows @ inverse @ values
    left = values - design @ (inverse @ values)
    variance = (left**2).sum(axis=0) / (len(values) - np.linalg.matrix_rank(design))
    wald = np.einsum("if,ij,jf->f", b, np.linalg.inv(rows @ inverse @ inverse.T @ rows.T), b) / 3
    assert (joint.df, joint.of, joint.complete) == (3, "contrasts", True)
    np.testing.assert_allclose(joint.f, wald / variance, rtol=1e-8)
    with pytest.raises(DataError, match="joint test needs two"):
        testing.test(table, "sex", "lot", options=options)


def test_a_formula_is_the_model():
    """``~ drug * age + sex`` fits a slope for each drug: slopes and effects equal plain numpy."""
    rng = np.random.default_rng(4)
    sheet, values = draw(rng, lost=False)
    table = Table.from_arrays(values, sheet)
    options = testing.ContrastOptions(shrink=False, design="~ drug * age + sex")
    found = testing.test(table, ["drug*age: a - b", "drug*age: a", "sex"], "lot", options=options)
    age = sheet["age"] - sheet["age"].mean()
    slopes = indicators(sheet["drug"]) * age[:, None]  # IL-2, a, b
    base = all_columns(sheet, ["lot", "drug", "sex"])[0]
    design = np.hstack([base, slopes])
    vector = np.zeros(design.shape[1])
    for one, at in zip(found.effects[:2], [{-2: 1.0, -1: -1.0}, {-2: 1.0}], strict=True):
        vector[:] = 0
        vector[list(at)] = list(at.values())
        effect, t = dense_t(design, vector, values)
        np.testing.assert_allclose(one.effect, effect, atol=1e-8)
        np.testing.assert_allclose(one.t, t, rtol=1e-8)
    assert found.terms == ("drug", "age", "sex", "drug:age")
    again = testing.ContrastOptions(shrink=False, design="~ 0 + drug/age + sex")
    same = testing.test(table, "sex", "lot", options=again).effects[0]
    np.testing.assert_allclose(same.t, found.effects[2].t, rtol=1e-10)


def test_weights_are_read():
    """Levels with signs and blanks stand as they are or in quotes; numbers are weights only."""
    levels = [["5", "10", "IL-2", "low dose", "low"]]
    read = {
        "'IL-2' - low dose": {"IL-2": 1, "low dose": -1},
        "(10 + 5)/2 - low": {"10": 0.5, "5": 0.5, "low": -1},
        "2*10 - 2 * low": {"10": 2, "low": -2},
        "-(low - 10)*3": {"low": -3, "10": 3},
        "0.5*(IL-2 \N{MINUS SIGN} 5)": {"IL-2": 0.5, "5": -0.5},
    }
    for text, weights in read.items():
        found = weights_of_cells(text, ["dose"], levels)
        assert {cell[0]: weight for cell, weight in found.items()} == pytest.approx(weights)


@pytest.mark.parametrize(
    ("contrast", "says"),
    [
        ("drug: hihg - low", "no level 'hihg'; did you mean 'high'"),
        ("drgu: high - low", "no column 'drgu'; did you mean 'drug'"),
        ("high - low", "write COLUMN: A - B"),
        ("high.lte - high.early", "no column has 'lte'; did you mean 'late'"),
        ("age: 50 - 40", "was read as numbers, which have a slope"),
        ("drug: high", "sum to 1, not to 0"),
        ("drug: high - high", "weights cancel"),
        ("drug: 0.33*high + 0.66*low - 1", "adds the number -1"),
        ("drug: high / low", "not multiplied or divided"),
        ("drug: (high - low", "closing bracket"),
        ("drug: high - low)", "operator was expected"),
        ("drug: high - low/0", "division by zero"),
        ("drug: " + "(" * 99, "too many brackets"),
        ("drug: " + "-" * 99 + "high", "too many signs"),
        ("drug: " + "high - " * 999, "letters"),
        ("lo.x - hi.x", "can be read as cells of one\\*other or of two\\*other"),
        ("age*score", "product of numbers"),
    ],
)
def test_contrasts_that_are_none_are_refused(contrast, says):
    """Each wrong contrast gets a typed error that says what to write."""
    n = 24
    sheet = {
        "lot": [*"PQ"] * 12,
        "drug": ["high", "low", "none"] * 8,
        "time": ["early"] * 12 + ["late"] * 12,
        "one": ["lo", "hi"] * 12,
        "two": ["lo"] * 6 + ["hi"] * 12 + ["lo"] * 6,
        "other": (["x"] * 3 + ["y"] * 3) * 4,
        "age": np.arange(n) + 0.5,
        "score": np.arange(n)[::-1] ** 2 + 0.5,
    }
    table = Table.from_arrays(np.random.default_rng(0).normal(size=(n, 3)), sheet)
    with pytest.raises(DataError, match=says):
        testing.test(table, contrast, "lot")


@pytest.mark.parametrize(
    ("formula", "says"),
    [
        ("~ log(age) + drug", "calls log"),
        ("~ C(drug)", r"calls C\(\)"),
        ("~ {age + 1}", "cannot be read from '{age"),
        ("~ __import__('os').system('true')", "calls __import__"),
        ("~ drug + 'x'", "cannot be read"),
        ("y ~ drug", "no column 'y'"),
        ("drug ~ age", "has a left side"),
        ("~ drug +* age", "is no formula"),
        ("~ 2 * drug", "is no formula"),
        ("~ ", "names no column"),
        ("~ drgu", "did you mean 'drug'"),
        ("~ drug:age", "without drug"),
        ("~ drug - drug", "leaves no column"),
        ("~ (drug + age + sex)**99", "more than 20,000 terms"),
        ("~ " + " * ".join(["drug", "age", "sex"] * 6), "more than 20,000 terms"),
        ("~ drug + lot", "both the batch and kept"),
        ("~ sex", "'drug' is compared, but not in the design"),
        ("~ drug * sex", "differs with sex"),
    ],
)
def test_formulas_hold_columns_only(formula, says):
    """A formula is never evaluated; what is no column of the sheet is refused."""
    sheet, values = draw(np.random.default_rng(0), lost=False)
    table = Table.from_arrays(values, sheet)
    with pytest.raises(DataError, match=says):
        testing.test(table, "drug: a - b", "lot", options=testing.ContrastOptions(design=formula))


def test_a_slope_that_differs_is_told_where_to_ask_for_it():
    """The remedy that a refusal names is an answer."""
    sheet, values = draw(np.random.default_rng(0), lost=False)
    table = Table.from_arrays(values, sheet)
    design = testing.ContrastOptions(design="~ age * sex")
    with pytest.raises(DataError, match=r"'age' differs with sex") as refused:
        testing.test(table, "age", "lot", options=design)
    named = str(refused.value).split("say where (")[1].split(")")[0]
    weighed = str(refused.value).split("or weigh (")[1][:-1]
    assert len(testing.test(table, [named, weighed], "lot", options=design).effects) == 2


def test_names_of_columns_in_a_formula():
    """Names with blanks stand in backticks; a nested formula holds what it implies."""
    sheet = {"my drug": [*"abab"], "x.y": [*"aabb"], "age": [1.5, 2.5, 3.5, 5.5]}
    table = Table.from_arrays(np.zeros((4, 1)), sheet)
    found = read_formula("~ `my drug`/x.y + age", table)
    assert found.columns == ("my drug", "age", "x.y")
    assert found.interactions == (("my drug", "x.y"),)
    assert found.implied == ((("x.y",), ("my drug",)),)


def test_undeclared_numbers_stay_numbers_in_a_product():
    """A dose that is declared categorical has cells; as a number it has slopes."""
    sheet, values = draw(np.random.default_rng(2), lost=False)
    sheet["dose"] = np.random.default_rng(5).choice([0, 5, 10], len(values))
    table = Table.from_arrays(values, sheet)
    cells = testing.test(
        table, "drug*dose: a.10 - a.5", "lot", kinds=ColumnKinds(categorical=["dose"])
    )
    assert cells.effects[0].contrast.means() == {"a.10": 1.0, "a.5": -1.0}
    slopes = testing.test(table, "drug*dose: a - b", "lot", kinds=ColumnKinds(numeric=["dose"]))
    assert slopes.terms == ("drug", "dose", "drug:dose")

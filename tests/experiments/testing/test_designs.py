"""Random designs: estimable contrasts equal a dense reference, the others are refused by name."""

from __future__ import annotations

import numpy as np
import pytest
from designs import all_columns, estimable

from batchsense.errors import ConfoundedError, DataError, UnresolvedError
from batchsense.experiments import ColumnKinds, Table, testing

FEATURES = 4


def contrast_vector(difference, names):
    found = np.zeros(len(names))
    if not difference.upper:
        found[names.index(difference.factor)] = 1.0
    else:
        found[names.index(f"{difference.factor}[{difference.upper}]")] = 1.0
        found[names.index(f"{difference.factor}[{difference.lower}]")] = -1.0
    return found


def dense_t(design, vector, y):
    inverse = np.linalg.pinv(design, rcond=1e-10)
    y = y - y.mean()  # moves no contrast, and spares the reference an offset of a thousand
    left = y - design @ (inverse @ y)
    rank = np.linalg.matrix_rank(design)
    variance = left @ left / (len(y) - rank)
    effect = vector @ inverse @ y
    return effect, effect / np.sqrt(variance * (vector @ inverse @ inverse.T @ vector))


def random_sheet(rng):
    """One to three categorical and up to two numeric columns, unbalanced; and lots."""
    n = int(rng.integers(18, 60))
    lots = int(rng.integers(2, 6))
    sheet = {
        "lot": rng.choice([f"L{k}" for k in range(lots)], n, p=rng.dirichlet(np.full(lots, 3)))
    }
    for k in range(int(rng.integers(1, 4))):
        levels = int(rng.integers(2, 5))
        sheet[f"f{k}"] = rng.choice([f"x{j}" for j in range(levels)], n)
    numeric = [f"n{k}" for k in range(int(rng.integers(0, 3)))]
    for name in numeric:
        sheet[name] = 100 + 10 * rng.normal(size=n)
    return sheet, numeric


def usable(sheet, numeric):
    """Whether every factor has levels to compare and the wanted terms alone are independent."""
    wanted = {name: column for name, column in sheet.items() if name != "lot"}
    if any(len(set(column)) < 2 for column in sheet.values()):
        return False
    columns = sum(1 if name in numeric else len(set(c)) - 1 for name, c in wanted.items())
    design, _ = all_columns(sheet, wanted)
    return np.linalg.matrix_rank(design) == columns + 1


def draw(seed, aliased):
    """Draw until a design is usable; alias a wanted column with lots where that is wanted."""
    rng = np.random.default_rng(seed)
    while True:
        sheet, numeric = random_sheet(rng)
        if aliased:
            codes = np.unique(sheet["lot"], return_inverse=True)[1]
            levels = codes.max() + 1
            # A map from lots to levels, so that the factor is a matter of the lot alone.
            coarse = np.arange(levels) % int(rng.integers(2, levels + 1))
            if rng.random() < 0.3:
                sheet["bad"] = 50.0 + coarse[codes]
                numeric = [*numeric, "bad"]
            else:
                sheet["bad"] = np.array([f"b{k}" for k in coarse])[codes]
        design, _ = all_columns(sheet, sheet)
        room = len(design) - np.linalg.matrix_rank(design)
        if usable(sheet, numeric) and room > 3:
            return sheet, numeric, rng


@pytest.mark.parametrize("missing", [0.0, 0.1])
@pytest.mark.parametrize("designs", [30, pytest.param(200, marks=pytest.mark.slow)])
def test_random_designs_equal_a_dense_reference(designs, missing):
    """Random designs, unbalanced, with and without gaps: every effect and t to 1e-8."""
    worst, compared = 0.0, 0
    for seed in range(designs):
        sheet, numeric, rng = draw(seed, aliased=False)
        values = 1000 + rng.normal(size=(len(sheet["lot"]), FEATURES))
        values[rng.random(values.shape) < missing] = np.nan
        wanted = [name for name in sheet if name != "lot"]
        table = Table.from_arrays(values, sheet)
        design, names = all_columns(sheet, sheet)
        try:
            found = testing.test(
                table,
                wanted,
                "lot",
                options=testing.ContrastOptions(shrink=False),
                kinds=ColumnKinds(numeric=numeric),
            )
        except ConfoundedError:
            continue
        for one in found.effects:
            vector = contrast_vector(one.contrast, names)
            for j in range(FEATURES):
                seen = ~np.isnan(values[:, j])
                part = design[seen]
                told = estimable(part, vector) and seen.sum() > np.linalg.matrix_rank(part)
                assert told == np.isfinite(one.t[j])
                if told:
                    effect, t = dense_t(part, vector, values[seen, j])
                    worst = max(worst, abs(effect - one.effect[j]), abs(t / one.t[j] - 1))
                    compared += 1

    assert compared > 5 * designs
    assert worst < 1e-8


@pytest.mark.parametrize("designs", [25, pytest.param(200, marks=pytest.mark.slow)])
def test_aliased_designs_are_refused_exactly(designs):
    """Designs with a factor that is a matter of the lot: exactly what a dense check loses."""
    lost_pairs = 0
    for seed in range(designs):
        sheet, numeric, rng = draw(seed, aliased=True)
        wanted = [name for name in sheet if name != "lot"]
        table = Table.from_arrays(rng.normal(size=(len(sheet["lot"]), FEATURES)), sheet)
        design, names = all_columns(sheet, sheet)
        with pytest.raises(ConfoundedError) as refusal:
            testing.test(
                table,
                "bad",
                "lot",
                [w for w in wanted if w != "bad"],
                kinds=ColumnKinds(numeric=numeric),
            )
        assert refusal.value.aliased
        for relation in refusal.value.aliased:
            assert relation.startswith("bad")
            assert "lot[" in relation
        try:
            found = testing.test(table, wanted, "lot", kinds=ColumnKinds(numeric=numeric))
        except ConfoundedError:
            continue
        assert all(estimable(design, contrast_vector(e.contrast, names)) for e in found.effects)
        for one in found.refused:
            lost_pairs += 1
            assert not estimable(design, contrast_vector(one.contrast, names))
            assert one.aliased
        assert {one.contrast.factor for one in found.refused} >= {"bad"}

    assert lost_pairs > designs / 2


def partly_linked():
    """Drugs A and B in lots 1 and 2; C and D in lots 3 and 4."""
    rng = np.random.default_rng(0)
    lot = np.repeat(["1", "2", "3", "4"], 6)
    drug = np.array(["A", "B"] * 6 + ["C", "D"] * 6)
    return Table.from_arrays(rng.normal(size=(24, 5)), {"lot": lot, "drug": drug})


def test_comparable_levels_are_tested_and_the_others_refused():
    """Within {A, B} and within {C, D} is tested, jointly with 2 df; C against A is refused."""
    found = testing.test(partly_linked(), "drug", "lot")

    assert [str(one.contrast) for one in found.effects] == ["drug: B - A", "drug: D - C"]
    assert [str(one.contrast) for one in found.refused] == ["drug: C - A"]
    assert (found.factors[0].df, found.factors[0].complete) == (2, False)
    assert "not_estimable" in [note.code for note in found.notes]
    assert "C, D" in found.refused[0].explanation


def test_a_single_refused_contrast_is_an_error_that_names_it():
    """Asked for D minus A alone, the test refuses with the relation and what would help."""
    with pytest.raises(ConfoundedError, match="drug: D - A cannot be told from lot") as refusal:
        testing.test(partly_linked(), "drug:D-A", "lot")

    assert refusal.value.aliased
    assert "No specimen links these groups" in str(refusal.value)


@pytest.mark.parametrize(
    ("contrast", "says"),
    [
        ("drag", "did you mean 'drug'"),
        ("drug:A-X", "no level 'X'"),
        ("drug:A-A", "weights cancel"),
        ("drug:A", "sum to 1, not to 0"),
        ("lot", "both the batch and kept"),
        ([], "no contrast to test"),
    ],
)
def test_unusable_contrasts_are_refused(contrast, says):
    """A wrong column or level is an error that says what there is."""
    with pytest.raises(DataError, match=says):
        testing.test(partly_linked(), contrast, "lot")


def test_levels_with_hyphens():
    """Names of levels may hold hyphens; what can be read in two ways is refused."""
    rng = np.random.default_rng(1)
    sheet = {"lot": ["1"] * 12 + ["2"] * 12, "drug": ["IL-2", "IL", "2-no", "no"] * 6}
    table = Table.from_arrays(rng.normal(size=(24, 3)), sheet)
    found = testing.test(table, "drug:IL-2-IL", "lot", kinds=ColumnKinds(categorical=["drug"]))

    assert str(found.effects[0].contrast) == "drug: IL-2 - IL"
    with pytest.raises(DataError, match="can be read in 2 ways"):
        testing.test(table, "drug:IL-2-no", "lot")


def test_a_table_needs_its_batch_column():
    """Without batch labels a table is not tested, and ignoring them is for corrected values."""
    with pytest.raises(DataError, match="name the batch column"):
        testing.test(partly_linked(), "drug")
    with pytest.raises(DataError, match="corrected values only"):
        testing.test(
            partly_linked(), "drug", "lot", options=testing.ContrastOptions(ignore_batches=True)
        )


def test_no_degrees_of_freedom_left():
    """As many terms as specimens: no answer, and how many specimens are missing."""
    sheet = {"lot": ["1", "2", "1", "2"], "drug": ["a", "a", "b", "b"], "age": [1.5, 2, 3.7, 9]}
    table = Table.from_arrays(np.random.default_rng(0).normal(size=(4, 9)), sheet)
    with pytest.raises(UnresolvedError, match="leave no degrees of freedom") as refusal:
        testing.test(table, "drug", "lot", ["age"])

    assert refusal.value.needed == "at least 1 more specimens, or fewer terms"


def test_features_that_cannot_be_tested_are_listed():
    """Constant, unseen and undecidable features get no p and are named; the others are not hurt."""
    rng = np.random.default_rng(2)
    values = rng.normal(size=(24, 8))
    sheet = {"lot": ["1", "2"] * 12, "drug": ["a", "a", "b", "b"] * 6}
    values[:, 0] = 7.0
    values[:, 1] = np.nan
    values[np.array(sheet["drug"]) == "b", 2] = np.nan
    values[:, 3] = np.where(np.array(sheet["drug"]) == "b", 2.0, 1.0)
    clean = testing.test(
        Table.from_arrays(values[:, 4:], sheet),
        "drug",
        "lot",
        options=testing.ContrastOptions(shrink=False),
    )
    for shrink in (True, False):
        found = testing.test(
            Table.from_arrays(values, sheet),
            "drug",
            "lot",
            options=testing.ContrastOptions(shrink=shrink),
        )
        p = found.effects[0].p_value

        assert np.isnan(p[[0, 1, 2]]).all()
        assert np.isfinite(p[4:]).all()
        assert found.untested["constant"] == ("feature 1", "feature 2")
        assert found.untested["not told by the observed specimens"] == ("feature 3",)
        assert np.isfinite(p[3]) == shrink
        if not shrink:
            assert found.untested["no residual variance"] == ("feature 4",)
            assert np.allclose(p[4:], clean.effects[0].p_value, rtol=1e-12)


def test_a_batch_of_a_single_specimen_changes_nothing():
    """A specimen alone in its batch tells nothing: t, F and df are those without it."""
    rng = np.random.default_rng(3)
    sheet = {"lot": ["1", "2"] * 12 + ["3"], "drug": [*"AABBCC" * 4, "A"]}
    values = rng.normal(size=(25, 6))
    alone = testing.test(Table.from_arrays(values, sheet), "drug", "lot")
    without = {name: column[:-1] for name, column in sheet.items()}
    found = testing.test(Table.from_arrays(values[:-1], without), "drug", "lot")

    assert "single_specimen_batches" in [note.code for note in alone.notes]
    assert np.allclose(alone.df, found.df)
    assert np.allclose(alone.factors[0].f, found.factors[0].f)
    for first, second in zip(alone.effects, found.effects, strict=True):
        assert np.allclose(first.t, second.t)


def test_order_names_and_offsets_do_not_matter():
    """Shuffled specimens, renamed lots and an offset of a million leave every t as it is."""
    rng = np.random.default_rng(4)
    sheet = {"lot": ["a", "b", "c"] * 10, "drug": rng.choice(["no", "yes"], 30)}
    values = rng.normal(size=(30, 12))
    values[rng.random(values.shape) < 0.05] = np.nan
    plain = testing.test(Table.from_arrays(values, sheet), "drug", "lot").effects[0]
    order = rng.permutation(30)
    renamed = {"a": "z", "b": "y", "c": "x"}
    moved = {
        "lot": [renamed[sheet["lot"][i]] for i in order],
        "drug": [sheet["drug"][i] for i in order],
    }
    shuffled = Table.from_arrays(values[order] + 1e6, moved)

    assert np.allclose(testing.test(shuffled, "drug", "lot").effects[0].t, plain.t, rtol=1e-7)


def test_the_table_of_all_tests():
    """frame() has a row for each contrast and feature, and says why there is no answer."""
    table = partly_linked()
    values = table.values.copy()
    values[:, 2] = 1.0
    frame = testing.test(Table.from_arrays(values, table.sheet), "drug", "lot").to_frame()

    assert frame["contrast"].unique().tolist() == ["drug", "drug: B - A", "drug: D - C"]
    assert len(frame) == 15
    assert frame["kind"].tolist() == ["F"] * 5 + ["t"] * 10
    assert frame.loc[frame["feature"] == "feature 3", "remark"].unique().tolist() == ["constant"]
    assert (frame["p"].isna() == (frame["remark"] == "constant")).all()

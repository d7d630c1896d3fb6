"""ComBat on tables: hard inputs answered or refused, parts merged, files loaded, batches added."""

from __future__ import annotations

import numpy as np
import pytest

from batchsense.errors import ConfoundedError, DataError, UnresolvedError
from batchsense.experiments import (
    CombatCorrection,
    FittedCombat,
    FittedLinear,
    LinearCorrection,
    Table,
)
from batchsense.experiments.correction.combat.model import fit_combat
from batchsense.experiments.correction.two_passes import pass_runner
from batchsense.experiments.correction.two_passes.statistics import BatchStatistics

MERGED = 1e-10


def codes(found):
    return [note.code for note in found.notes]


def note(found, code):
    """Give the one note of a code."""
    (one,) = [note for note in found.notes if note.code == code]
    return one


def make_table(seed=0, n=48, features=30, missing=0.0, months="abc"):
    """Draw an unbalanced table with a drug and an age, ids distinct between seeds."""
    rng = np.random.default_rng(seed)
    month = rng.choice([*months], size=n)
    sheet = {
        "month": month,
        "drug": rng.choice(["no", "low", "high"], size=n),
        "age": np.round(rng.uniform(20, 60, size=n), 2),
    }
    size = np.array([1.0 + ord(m) % 3 for m in month])[:, None]
    values = 10 + size * rng.normal(size=(n, features)) + 2 * size
    values[rng.random(values.shape) < missing] = np.nan
    return Table.from_arrays(values, sheet, [f"s{seed}-{i}" for i in range(n)])


def rows_of(table, rows):
    """Take some rows of a table."""
    sheet = {name: [entries[i] for i in rows] for name, entries in table.sheet.items()}
    return Table.from_arrays(
        table.values[rows], sheet, [table.specimens[i] for i in rows], table.features
    )


OPTIONS = [
    {},
    {"parametric": False},
    {"mean_only": True},
    {"shrink": False},
    {"reference_batch": "b"},
    {"stopping": "converged"},
]


@pytest.mark.parametrize("missing", [0.0, 0.15])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_gathered_in_any_order_equals_fit_at_once(options, missing):
    """Parts by batch, by drug and of few specimens, merged in random order: the same to 1e-10."""
    table = make_table(1, missing=missing)
    method = CombatCorrection(keep=("drug", "age"), **options)
    whole = method.fit(table, "month").transform(table).values
    month = np.array(table.sheet["month"])
    first = np.flatnonzero(month == "a")  # a part of one batch cannot be corrected alone
    rest = np.random.default_rng(2).permutation(np.flatnonzero(month != "a"))
    parts = [first, *np.split(rest, [3, 5, 14])]
    gathered = [method.gather(rows_of(table, rows), "month") for rows in parts]
    for order in ([0, 1, 2, 3, 4], [4, 2, 0, 3, 1]):
        merged = gathered[order[0]]
        for place in order[1:]:
            merged = merged.merge(gathered[place])
        found = method.finish(merged).transform(table).values

        assert np.array_equal(np.isnan(whole), np.isnan(found))
        assert np.nanmax(np.abs(whole - found)) < MERGED


@pytest.mark.parametrize(
    "method", [CombatCorrection(keep=("drug",)), LinearCorrection(keep=("age",))]
)
def test_fitted_corrections_merge(method):
    """Two fitted halves merged equal one fit, whichever comes first."""
    table = make_table(3)
    halves = [rows_of(table, np.arange(start, 48, 2)) for start in (0, 1)]
    first, second = (method.fit(half, "month") for half in halves)
    whole = method.fit(table, "month").transform(table).values

    for merged in (first.merge(second), second.merge(first)):
        assert np.abs(whole - merged.transform(table).values).max() < MERGED


@pytest.mark.parametrize("keep", [("drug", "age"), ()])
@pytest.mark.parametrize("missing", [0.0, 0.1])
@pytest.mark.parametrize(
    ("kind", "make"), [(FittedCombat, CombatCorrection), (FittedLinear, LinearCorrection)]
)
def test_loaded_equals_saved(tmp_path, kind, make, missing, keep):
    """A loaded correction gives equal values and notes, and can still be merged."""
    table, more = make_table(4, missing=missing), make_table(5, missing=missing)
    fitted = make(keep=keep).fit(table, "month")
    fitted.save(tmp_path / "correction.npz")
    loaded = kind.load(tmp_path / "correction.npz")
    before, after = fitted.transform(table), loaded.transform(table)

    assert np.array_equal(before.values, after.values, equal_nan=True)
    assert (before.notes, before.unchanged) == (after.notes, after.unchanged)
    assert [one.name for one in after.kept] == [*keep]
    other = make(keep=keep).fit(more, "month")
    assert np.array_equal(
        fitted.merge(other).transform(more).values,
        loaded.merge(other).transform(more).values,
        equal_nan=True,
    )
    assert [path.name for path in tmp_path.iterdir()] == ["correction.npz"]


def test_what_is_no_correction_is_not_loaded(tmp_path):
    """A missing file, another file, another method: a typed error with the path."""
    LinearCorrection().fit(make_table(), "month").save(tmp_path / "linear.npz")
    (tmp_path / "text").write_text("hello")
    np.savez(tmp_path / "other.npz", a=1)
    for name, says in (
        ("none.npz", "no such file"),
        ("text", "not a correction"),
        ("other.npz", "not a correction"),
        ("linear.npz", "linear method, not combat"),
    ):
        with pytest.raises(DataError, match=says) as refusal:
            FittedCombat.load(tmp_path / name)
        assert refusal.value.where == str(tmp_path / name)


def test_parts_that_do_not_belong_together_are_refused():
    """The same specimens twice, other columns, other features, other options, other kinds."""
    table, method = make_table(), CombatCorrection(keep=("drug",))
    part = method.gather(table, "month")
    with pytest.raises(DataError, match="occur in both parts: 's0-0'"):
        part.merge(part)
    with pytest.raises(DataError, match="different columns"):
        part.merge(CombatCorrection().gather(make_table(1), "month"))
    with pytest.raises(DataError, match="features of the parts differ"):
        part.merge(method.gather(make_table(1, features=29), "month"))
    fitted = method.fit(table, "month")
    with pytest.raises(DataError, match="different options"):
        fitted.merge(CombatCorrection(keep=("drug",), mean_only=True).fit(make_table(1), "month"))
    doses = CombatCorrection(keep=("dose",))
    few = Table.from_arrays(table.values[:6], {"month": [*"abcabc"], "dose": [1, 2, 1, 2, 1, 2]})
    many = Table.from_arrays(
        table.values[6:20], {"month": [*"ab" * 7], "dose": range(14)}, [f"m{i}" for i in range(14)]
    )
    with pytest.raises(DataError, match="declare it with numeric"):
        doses.gather(few, "month").merge(doses.gather(many, "month"))


@pytest.mark.parametrize(
    "make",
    [CombatCorrection, lambda **o: CombatCorrection(parametric=False, **o), LinearCorrection],
)
def test_new_batches_are_brought_to_the_fitted_ones(make):
    """A batch added later ends at the common level; the fitted batches stay as they were."""
    table = make_table(6, n=60, features=200)
    later = make_table(7, n=40, features=200, months="z")
    later = Table.from_arrays(later.values + 5, later.sheet, later.specimens, later.features)
    fitted = make(keep=("drug",)).fit(table, "month")
    with pytest.raises(DataError, match="not fitted: z"):
        fitted.transform(later)
    extended = fitted.extend(later)
    moved, before = extended.transform(later), fitted.transform(table)

    assert np.array_equal(before.values, extended.transform(table).values)
    assert abs(moved.values.mean() - before.values.mean()) < 0.1
    assert "batches_added" in codes(moved)
    if isinstance(fitted, FittedCombat):
        assert moved.values.std() == pytest.approx(before.values.std(), rel=0.1)
    with pytest.raises(DataError, match="merge first"):
        extended.merge(fitted)
    with pytest.raises(DataError, match="no batch that was not fitted"):
        fitted.extend(table)


def test_extended_corrections_are_saved(tmp_path):
    """A batch that was added survives a file."""
    table, later = make_table(8), make_table(9, months="z")
    extended = CombatCorrection().fit(table, "month").extend(later)
    extended.save(tmp_path / "c.npz")
    loaded = FittedCombat.load(tmp_path / "c.npz")

    assert np.array_equal(extended.transform(later).values, loaded.transform(later).values)


def test_a_single_specimen_makes_all_mean_only_with_a_note():
    """The decision is R's; it is written down, and equals asking for means only."""
    table = make_table(10)
    months = ["z", *table.sheet["month"][1:]]
    table = Table.from_arrays(table.values, {"month": months, "drug": table.sheet["drug"]})
    found = CombatCorrection(keep=("drug",)).fit(table, "month").transform(table)
    asked = CombatCorrection(keep=("drug",), mean_only=True).fit(table, "month").transform(table)

    assert np.isfinite(found.values).all()
    assert np.array_equal(asked.values, found.values)
    assert "only means were adjusted" in note(found, "single_specimen_batches").message
    assert note(found, "single_specimen_batches").where == ("z",)


@pytest.mark.parametrize("hole", [False, True])
def test_features_that_do_not_vary_inside_a_batch_are_left_alone(hole):
    """Constant everywhere or inside one batch, with or without a gap: unchanged and listed."""
    table = make_table(11)
    values = table.values.copy()
    july = np.array(table.sheet["month"]) == "b"
    values[:, 0] = 0.1
    values[july, 1] = 3.3
    if hole:
        values[np.flatnonzero(july)[0], 1] = np.nan
    found = CombatCorrection().fit(Table.from_arrays(values, table.sheet), "month")
    corrected = found.transform(Table.from_arrays(values, table.sheet))

    assert corrected.unchanged == ("feature 1", "feature 2")
    assert np.array_equal(values[:, :2], corrected.values[:, :2], equal_nan=True)
    assert note(corrected, "zero_variance").where == ("feature 1", "feature 2")
    assert np.isfinite(corrected.values[:, 2:]).all()
    assert not np.allclose(values[:, 2:], corrected.values[:, 2:])


def test_a_feature_that_a_batch_lacks_is_corrected_in_the_others():
    """It is estimated from the rest and named; values that turn up there later are left, named."""
    table = make_table(12)
    values = table.values.copy()
    july = np.array(table.sheet["month"]) == "b"
    values[july, 3] = np.nan
    values[np.flatnonzero(july)[1:], 4] = np.nan
    holed = Table.from_arrays(values, table.sheet)
    fitted = CombatCorrection(keep=("drug",)).fit(holed, "month")
    found, full = fitted.transform(holed), fitted.transform(table)

    assert np.array_equal(np.isnan(values), np.isnan(found.values))
    assert note(found, "unseen_in_batch").where == ("feature 4 / b",)
    assert note(found, "observed_once").where == ("feature 5 / b",)
    means = [found.values[np.array(table.sheet["month"]) == m, 3].mean() for m in "ac"]
    assert abs(means[0] - means[1]) < 1.5
    assert "left_unchanged" not in codes(found)
    assert np.array_equal(table.values[july, 3], full.values[july, 3])
    assert note(full, "left_unchanged").where == ("feature 4 / b",)


def test_missing_values_that_entangle_a_feature_leave_it_alone():
    """Where a feature's gaps make the drug the month, that feature is unchanged and named."""
    table = make_table(13, months="ab")
    month, drug = np.array(table.sheet["month"]), np.array(table.sheet["drug"])
    values = table.values.copy()
    values[(month == "a") != (drug == "no"), 2] = np.nan
    holed = Table.from_arrays(values, table.sheet)
    found = CombatCorrection(keep=("drug",)).fit(holed, "month").transform(holed)

    assert found.unchanged == ("feature 3",)
    assert note(found, "features_unchanged").where == ("feature 3",)


def test_the_reference_batch_stays_bit_for_bit():
    """Nothing of the reference changes, with missing values and numeric terms as well."""
    table = make_table(14, missing=0.1)
    month = np.array(table.sheet["month"])
    method = CombatCorrection(keep=("drug", "age"), reference_batch="b")
    found = method.fit(table, "month").transform(table).values

    same = table.values[month == "b"]
    assert np.array_equal(same, found[month == "b"], equal_nan=True)
    assert not np.allclose(table.values[month == "a"], found[month == "a"], equal_nan=True)


@pytest.mark.parametrize(
    ("change", "options", "error", "says"),
    [
        ({"month": ["a"] * 48}, {}, DataError, "one batch only"),
        ({"month": [None, *"ab" * 23, "a"]}, {}, DataError, "no label for 's0-0'"),
        ({}, {"reference_batch": "q"}, DataError, "no batch 'q'"),
        ({"month": ["q", *"ab" * 23, "a"]}, {"reference_batch": "q"}, DataError, "single specimen"),
        ({"drug": [*"abc" * 16], "month": [*"xyz" * 16]}, {}, ConfoundedError, "cannot be told"),
    ],
)
def test_unusable_sheets_are_refused(change, options, error, says):
    """One batch, a missing label, a reference that is none or too small, confounding: typed."""
    table = make_table()
    changed = Table.from_arrays(table.values, {**table.sheet, **change}, table.specimens)
    with pytest.raises(error, match=says):
        CombatCorrection(keep=("drug",), **options).fit(changed, "month")


def test_unusable_values_are_refused():
    """Infinity in a table is named on reading; too few features, and no residual variation."""
    table = make_table()
    values = table.values.copy()
    values[4, 7] = np.inf
    with pytest.raises(DataError, match="s0-4 / feature 8"):
        Table.from_arrays(values, table.sheet, table.specimens)
    two = Table.from_arrays(table.values[:, :2], table.sheet)
    with pytest.raises(DataError, match=r"at least 3 .* linear method"):
        CombatCorrection().fit(two, "month")
    pair = Table.from_arrays(table.values[:2], {"month": ["a", "b"]})
    with pytest.raises(UnresolvedError, match="single specimen"):
        CombatCorrection().fit(pair, "month")


@pytest.mark.parametrize("labels", [[1, 2, 10], ["x", "y", "z"], [1.0, 2.0, 10.0]])
def test_kinds_of_labels_do_not_matter(labels):
    """Batches may be numbers or text: the same values come out."""
    table = make_table(15)
    renamed = [labels["abc".index(m)] for m in table.sheet["month"]]
    other = Table.from_arrays(table.values, {"month": renamed})
    plain = Table.from_arrays(table.values, {"month": table.sheet["month"]})

    expected = CombatCorrection().fit(plain, "month").transform(plain).values
    assert np.allclose(
        expected, CombatCorrection().fit(other, "month").transform(other).values, atol=1e-12
    )


@pytest.mark.parametrize("method", [CombatCorrection, LinearCorrection])
def test_confounding_can_be_overruled_and_says_what_is_lost(method):
    """Asked to go on, the difference is removed with the batches, and the note says so."""
    table = make_table(16, months="ab", features=400)
    drug = ["y" if m == "a" else "n" for m in table.sheet["month"]]
    lost = Table.from_arrays(table.values, {"month": table.sheet["month"], "drug": drug})
    found = method(keep=("drug",), despite_confounding=True).fit(lost, "month").transform(lost)
    treated = np.array(drug) == "y"

    assert abs(found.values[treated].mean() - found.values[~treated].mean()) < 0.05
    said = note(found, "confounded_removed")
    assert "1 of 1 independent differences of drug" in said.message
    assert said.where == ("drug[y] = month[a]",)
    assert np.isfinite(found.values).all()
    blind = method().fit(lost, "month").transform(lost)
    assert np.allclose(blind.values, found.values, atol=1e-9)


def test_overruling_does_not_depend_on_the_names_of_levels():
    """What is kept of a partly confounded factor is the same under any coding of its levels."""
    table = make_table(17, months="abc")
    month = np.array(table.sheet["month"])
    kind = np.where(month == "c", "R", np.where(np.arange(48) % 2, "P", "Q"))
    results = []
    for names in ("PQR", "RPQ", "QRP"):
        renamed = [names["PQR".index(k)] for k in kind]
        part = Table.from_arrays(table.values, {"month": month, "kind": renamed})
        method = CombatCorrection(keep=("kind",), despite_confounding=True)
        results.append(method.fit(part, "month").transform(part).values)

    assert np.allclose(results[0], results[1], atol=1e-9)
    assert np.allclose(results[0], results[2], atol=1e-9)


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize(
    ("layout", "dtype"), [("C", "f8"), ("C", "f4"), ("F", "f8"), ("strided", "f8")]
)
def test_compiled_correction_equals_numpy(monkeypatch, layout, dtype, continuous):
    """Both passes, compiled, give what numpy gives, into a new array and in place."""
    pytest.importorskip("numba")
    rng = np.random.default_rng(0)
    values = (rng.normal(size=(40, 600)) + 5).astype(dtype)
    values[3, 5] = np.nan
    batches = rng.integers(0, 3, 40)
    kept = rng.normal(size=(40, 2)) if continuous else rng.integers(0, 2, (40, 1)).astype(float)
    seen = BatchStatistics.empty(3, 600, kept.shape[1]).add(values, batches, kept)
    model = fit_combat(seen)
    plain = model.affine().apply(values, batches, kept)
    if layout == "strided":
        values = np.repeat(values, 2, axis=1)[:, ::2]
    elif layout == "F":
        values = np.asfortranarray(values)
    monkeypatch.setattr(pass_runner, "COMPILED_FROM", 1)
    found = model.affine().apply(values, batches, kept)
    tolerance = 1e-12 if dtype == "f8" else 1e-5

    assert found.dtype == dtype
    np.testing.assert_allclose(plain, found, rtol=tolerance)
    assert model.affine().apply(values, batches, kept, out=values) is values
    np.testing.assert_allclose(plain, values, rtol=tolerance)


@pytest.mark.parametrize("mean_only", [False, True])
def test_compiled_weights_equal_numpy(monkeypatch, mean_only):
    """The non-parametric option gives the same from compiled code."""
    pytest.importorskip("numba")
    table = make_table(18, features=60)
    batches = np.unique(table.sheet["month"], return_inverse=True)[1]
    seen = BatchStatistics.empty(3, 60).add(table.values, batches)
    plain = fit_combat(seen, parametric=False, mean_only=mean_only)
    monkeypatch.setattr(pass_runner, "COMPILED_FROM", 1)
    compiled = fit_combat(seen, parametric=False, mean_only=mean_only)

    np.testing.assert_allclose(plain.shifts, compiled.shifts, rtol=1e-12)
    np.testing.assert_allclose(plain.scales, compiled.scales, rtol=1e-12)


def test_large_batches_do_not_underflow():
    """With 3,000 specimens in a batch every likelihood is tiny, and the result still finite."""
    rng = np.random.default_rng(0)
    values, batches = rng.normal(size=(6000, 5)), np.repeat([0, 1], 3000)
    seen = BatchStatistics.empty(2, 5).add(values + batches[:, None], batches)

    assert np.isfinite(fit_combat(seen, parametric=False).affine().apply(values, batches)).all()


def test_in_place_saves_memory_and_other_specimens_are_corrected_alike():
    """out=table.values corrects in place; part of the specimens and features gives the same."""
    table = make_table(19)
    fitted = CombatCorrection(keep=("drug", "age")).fit(table, "month")
    whole = fitted.transform(table).values
    rows, columns = [5, 0, 9, 11], [3, 1, 7]
    part = Table.from_arrays(
        table.values[np.ix_(rows, columns)],
        {name: [entries[i] for i in rows] for name, entries in table.sheet.items()},
        features=[table.features[j] for j in columns],
    )
    assert np.allclose(whole[np.ix_(rows, columns)], fitted.transform(part).values, atol=1e-12)
    fitted.transform(table, out=table.values)
    assert np.array_equal(whole, table.values)


def test_learned_batches_are_reported():
    """Shift and scale of each batch, over the features, in the units that are stated."""
    rng = np.random.default_rng(20)
    values = rng.normal(size=(200, 300))
    values[100:] = 2 * values[100:] + 4
    table = Table.from_arrays(values, {"month": ["May"] * 100 + ["July"] * 100})
    july, may = CombatCorrection().fit(table, "month").transform(table).learned

    assert (july.level, july.specimens, may.level) == ("July", 100, "May")
    assert july.scale / may.scale == pytest.approx(2, rel=0.05)
    sd = np.sqrt((1 + 4) / 2)
    assert july.shift - may.shift == pytest.approx(4 / sd, rel=0.05)

"""ComBat without shrinkage is location and scale of each feature, by itself."""

import numpy as np
import pytest

from batchsense.errors import DataError
from batchsense.experiments import CombatCorrection, Table, load_correction


def make_table(features: int, seed: int = 0, gap: bool = False) -> Table:
    """Three uneven months that shift and stretch, and a drug given to two of three."""
    rng = np.random.default_rng(seed)
    month = np.repeat([0, 1, 2], [9, 12, 6])
    drug = np.arange(27) % 3 > 0
    values = rng.normal(size=(27, features)) * (1 + month)[:, None] + 3 * month[:, None]
    values += drug[:, None] * rng.normal(size=features)
    if gap:
        values[2, 0] = np.nan
    return Table.from_arrays(values, {"month": [f"m{k}" for k in month], "drug": drug.tolist()})


def by_hand(table: Table, divisor_less: int = 0) -> np.ndarray:
    """Shift and scale every feature by least squares, one at a time."""
    _, month = np.unique(table.sheet["month"], return_inverse=True)
    drug = np.array([entry == "True" for entry in table.sheet["drug"]], dtype=float)
    done = table.values.copy()
    for j, column in enumerate(table.values.T):
        seen = ~np.isnan(column)
        y, codes, z = column[seen], month[seen], drug[seen]
        design = np.column_stack([np.eye(3)[codes], z])
        found = np.linalg.lstsq(design, y, rcond=None)[0]
        residuals = y - design @ found
        grand = found[:3] @ np.bincount(month) / len(month)
        sd = np.sqrt((residuals**2).sum() / (len(y) - divisor_less))
        for b in range(3):
            here = codes == b
            shift = (found[b] - grand) / sd
            scale = (residuals[here] ** 2).sum() / (here.sum() - 1) / sd**2
            st = grand + z[here] * found[3]
            y[here] = (y[here] - st) / np.sqrt(scale) + st - sd * shift / np.sqrt(scale)
        done[seen, j] = y
    return done


@pytest.mark.parametrize("features", [1, 2, 40])
def test_it_equals_location_and_scale_by_hand(features: int) -> None:
    """One feature as well as many: the same numbers to 1e-10."""
    table = make_table(features)
    found = CombatCorrection(keep=("drug",), shrink=False).fit(table, "month").transform(table)

    np.testing.assert_allclose(found.values, by_hand(table), rtol=1e-10, atol=1e-10)
    assert [note.code for note in found.notes].count("not_shrunken") == 1


def test_it_equals_location_and_scale_with_a_gap() -> None:
    """A missing value stays missing; as in sva the variances then divide by one less."""
    table = make_table(3, gap=True)
    found = CombatCorrection(keep=("drug",), shrink=False).fit(table, "month").transform(table)

    np.testing.assert_allclose(found.values, by_hand(table, 1), rtol=1e-10, atol=1e-10)


def test_batches_then_have_one_mean_and_one_spread() -> None:
    """Without anything kept each feature has the same mean and spread in every batch."""
    table = make_table(5)
    done = CombatCorrection(shrink=False).fit(table, "month").transform(table).values
    parts = [done[np.array(table.sheet["month"]) == name] for name in ("m0", "m1", "m2")]

    for one in parts[1:]:
        np.testing.assert_allclose(one.mean(axis=0), parts[0].mean(axis=0))
        np.testing.assert_allclose(one.std(axis=0, ddof=1), parts[0].std(axis=0, ddof=1))


def test_means_only_equals_centring() -> None:
    """Without scales the residual of each value stays, at one level."""
    table = make_table(2)
    method = CombatCorrection(keep=("drug",), shrink=False, mean_only=True)
    done = method.fit(table, "month").transform(table).values
    change = done - table.values

    for name in ("m0", "m1", "m2"):
        here = np.array(table.sheet["month"]) == name
        np.testing.assert_allclose(np.ptp(change[here], axis=0), 0.0, atol=1e-12)


def test_what_follows_the_model_in_a_batch_is_shifted_only() -> None:
    """A feature on its drug effect exactly in one month has no scale there, and is named."""
    table = make_table(3)
    values = table.values.copy()
    drug = np.array([entry == "True" for entry in table.sheet["drug"]], dtype=float)
    values[:, 1] = 2 * drug
    values[9:, 1] += np.tile([1, 1, -1, -1, -1, 1], 3)  # balanced over the drug, which stays 2
    table = Table.from_arrays(values, table.sheet, features=["a", "exact", "c"])
    found = CombatCorrection(keep=("drug",), shrink=False).fit(table, "month").transform(table)

    assert np.isfinite(found.values).all()
    (named,) = [note for note in found.notes if note.code == "observed_once"]
    assert named.where == ("exact / m0",)
    np.testing.assert_allclose(np.diff(found.values[[0, 1], 1]), 2.0)


def test_it_is_stored_and_extended(tmp_path) -> None:
    """What was learned of one feature is kept, and a new month is judged by itself."""
    table, later = make_table(1), make_table(1, seed=1)
    sheet = {**later.sheet, "month": [f"new{name}" for name in later.sheet["month"]]}
    later = Table.from_arrays(later.values, sheet, [f"l{k}" for k in range(27)], later.features)
    fitted = CombatCorrection(keep=("drug",), shrink=False).fit(table, "month")
    fitted.save(tmp_path / "f.npz")
    loaded = load_correction(tmp_path / "f.npz")

    assert loaded.correction.shrink is False
    np.testing.assert_array_equal(loaded.transform(table).values, fitted.transform(table).values)
    done = fitted.extend(later).transform(later).values
    assert np.isfinite(done).all()
    assert done.std() < later.values.std()


def test_a_prior_needs_features_and_two_ways_contradict() -> None:
    """With shrinkage one feature is refused, with the way out; non-parametric shrinks."""
    table = make_table(1)
    with pytest.raises(DataError, match="--no-shrinkage"):
        CombatCorrection().fit(table, "month")
    with pytest.raises(DataError, match="shrinks nothing"):
        CombatCorrection(parametric=False, shrink=False).fit(table, "month")

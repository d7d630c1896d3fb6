"""Several batch columns of any kind at once: in tests, in removal, in ComBat and in diagnosis."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from designs import all_columns, estimable, indicators

from batchsense.cli.main import run
from batchsense.errors import ConfoundedError, DataError
from batchsense.experiments import (
    ColumnKinds,
    CombatCorrection,
    CombatSeqCorrection,
    LinearCorrection,
    Table,
    correct,
    diagnose,
    load_correction,
    placebos,
    read,
    testing,
)
from batchsense.experiments.design import read_design
from batchsense.experiments.entanglement import entanglements
from batchsense.experiments.sheets.nuisances import indicator_names

HERE = Path(__file__).parents[1] / "references" / "nuisances"
NAMES = ["run", "plate", "rin"]
KEEP = ("drug", "age")


def reference(name):
    """A matrix that R wrote, specimens in rows."""
    return pd.read_csv(HERE / f"{name}.csv").to_numpy().T


@pytest.fixture(scope="module")
def table():
    """36 specimens of three runs and four plates with a RIN value."""
    sheet = pd.read_csv(HERE / "sheet.csv")
    values = pd.read_csv(HERE / "input.csv", index_col=0).T
    return Table.from_arrays(values.to_numpy(), sheet.drop(columns="id"), list(sheet.id))


def test_removal_equals_limma(table):
    """Two batch columns and a covariate at once: limma's values to 1e-10.

    Numbers are taken around their mean, so that features keep their level; limma takes them as they
    come, which differs by one number for each feature.
    """
    values = LinearCorrection(keep=KEEP).fit(table, NAMES).transform(table).values
    np.testing.assert_allclose(values, reference("centred"), atol=1e-10)
    apart = values - reference("removed")
    np.testing.assert_allclose(apart, np.broadcast_to(apart.mean(axis=0), apart.shape), atol=1e-10)


def test_combat_with_others_in_its_model_equals_sva(table):
    """ComBat over run with plate and RIN in the model: sva's values less their effects."""
    found = CombatCorrection(keep=KEEP).fit(table, NAMES).transform(table)
    fit = pd.read_csv(HERE / "coefficients.csv")
    effects = np.column_stack([np.zeros(15), fit.platep2, fit.platep3, fit.platep4])
    rin = np.array(table.sheet["rin"], dtype=float)
    others = (indicators(table.sheet["plate"]) - 0.25) @ effects.T
    others = others + np.outer(rin - rin.mean(), fit.rin)
    np.testing.assert_allclose(found.values, reference("combat") - others, atol=1e-9)
    (said,) = [note.message for note in found.notes if note.code == "combat_over"]
    assert said.startswith("ComBat shifted and stretched by run, the first batch column")
    assert "has a single specimen" in said
    with pytest.raises(DataError, match="r3 · p3"):
        CombatCorrection(combine=True).fit(table, NAMES)


def test_combat_over_combinations(table):
    """With combine, runs and sites are one batch column of their cells, declared kinds or not."""
    runs = list(table.sheet["run"])
    site = np.array(["xy"[runs[:i].count(one) % 2 * (one != "r3")] for i, one in enumerate(runs)])
    more = Table.from_arrays(table.values, {**table.sheet, "site": site}, table.specimens)
    cells = [f"{a} · {b}" for a, b in zip(table.sheet["run"], site, strict=True)]
    by_hand = Table.from_arrays(table.values, {"cell": cells, **more.sheet}, table.specimens)
    combined = CombatCorrection(keep=KEEP, combine=True, categorical=("site",))
    found = combined.fit(more, ["run", "site"])
    alone = CombatCorrection(keep=KEEP).fit(by_hand, "cell")
    np.testing.assert_allclose(
        found.transform(more).values, alone.transform(by_hand).values, atol=1e-10
    )
    assert found.transform(more).rank_lost == 4
    lost = [note.where for note in found.notes if note.code == "attenuation"]
    assert not {"run", "site"} & {name for names in lost for name in names}
    assert [one.confounding.vif for one in found.kept] == pytest.approx(
        [one.confounding.vif for one in alone.kept]
    )


@pytest.mark.parametrize("method", [LinearCorrection, CombatCorrection])
def test_saved_corrections_remember_all(method, table, tmp_path):
    """A fit of several columns comes back whole; it is not merged, and gains no batches."""
    fitted = method(keep=KEEP).fit(table, NAMES)
    fitted.save(tmp_path / "f.npz")
    again = load_correction(tmp_path / "f.npz")
    one, two = fitted.transform(table), again.transform(table)
    np.testing.assert_array_equal(one.values, two.values)
    assert two.batch_columns == tuple(NAMES)
    assert two.record()["batch_columns"] == NAMES
    assert two.record()["rank_lost"] == 6
    assert [kept.confounding for kept in again.kept] == [k.confounding for k in fitted.kept]
    for refused in (lambda: again.merge(fitted), lambda: again.extend(table)):
        with pytest.raises(DataError, match=r"run \+ plate \+ rin"):
            refused()
    other = {**table.sheet, "plate": ["p9"] * 36}
    with pytest.raises(DataError, match="not fitted: p9"):
        again.transform(Table.from_arrays(table.values, other, table.specimens))
    single = method(keep=KEEP).fit(table, ["run"])
    single.save(tmp_path / "one.npz")
    assert "batch_columns" not in load_correction(tmp_path / "one.npz").transform(table).record()


def test_corrected_values_test_as_the_original_ones(table):
    """After removal of all, the test with all in its model is that of the original values."""
    before = testing.test(table, "drug", NAMES, ["age"]).effects[0]
    corrected = correct(table, NAMES, KEEP)
    after = testing.test(corrected, "drug").effects[0]
    np.testing.assert_allclose(after.t, before.t, rtol=1e-9)
    matrix = testing.removal_matrix(corrected)
    moved = matrix @ (table.values - table.values.mean(axis=0))
    np.testing.assert_allclose(
        moved - moved.mean(axis=0), corrected.values - corrected.values.mean(axis=0), atol=1e-9
    )
    with pytest.raises(DataError, match="not for 'run'"):
        testing.test(corrected, "drug", "run")


def test_missing_values_are_removed_on_what_was_observed(table):
    """Each feature equals a dense fit of its observed specimens, or is left as it is and named."""
    rng = np.random.default_rng(0)
    values = np.array(table.values)
    values[rng.random(values.shape) < 0.15] = np.nan
    drug = np.array(table.sheet["drug"]) == "yes"
    plate = np.array(table.sheet["plate"])
    values[drug & (plate != "p2"), 3] = np.nan  # here drug goes with plates
    values[~drug & (plate == "p2"), 3] = np.nan
    gaps = Table.from_arrays(values, table.sheet, table.specimens)
    found = correct(gaps, NAMES, KEEP)
    assert found.unchanged == (table.features[3],)
    np.testing.assert_array_equal(found.values[:, 3], values[:, 3])
    numbers = {"rin", "age"}
    sheet = {n: np.array(c, dtype=float if n in numbers else str) for n, c in table.sheet.items()}
    wanted, _ = all_columns(sheet, KEEP)
    batches, names = all_columns(sheet, NAMES)
    for j in set(range(values.shape[1])) - {3}:
        seen = ~np.isnan(values[:, j])
        both = np.hstack([batches, wanted[:, 1:]])
        fit = np.linalg.pinv(both[seen], rcond=1e-10) @ values[seen, j]
        effects = batches[:, 1:] @ fit[1 : len(names)]
        left = values[seen, j] - effects[seen]
        apart = found.values[seen, j] - left
        np.testing.assert_allclose(apart, apart.mean(), atol=1e-9)


def draw(rng, aliased):
    """A sheet with two or three nuisances, a drug, a dose; with ``aliased`` one that they make."""
    n = int(rng.integers(24, 60))
    sheet = {
        "run": rng.choice(["r1", "r2", "r3"], n),
        "rin": rng.normal(7, 1, n),
        "plate": rng.choice(["p1", "p2", "p3", "p4"][: int(rng.integers(2, 5))], n),
    }
    nuisances = [*rng.permutation(list(sheet))[: int(rng.integers(2, 4))]]
    sheet["drug"] = rng.choice(["a", "b", "c"], n)
    sheet["dose"] = rng.normal(20, 5, n)
    if aliased:
        made = np.zeros(n)
        for name in nuisances:
            numbers = np.unique(sheet[name], return_inverse=True)[1] ** 2 + 1.0
            made += rng.normal() * (sheet["rin"] if name == "rin" else numbers)
        sheet["bad"] = 30 + made
    return sheet, nuisances, rng.normal(size=(n, 3)) + 50


MANY = [40, pytest.param(200, marks=pytest.mark.slow)]


@pytest.mark.parametrize("designs", MANY)
def test_random_designs_equal_a_dense_reference(designs):
    """Designs with two or three nuisances of mixed kinds: effects, t and removal to 1e-8."""
    worst = compared = 0
    for seed in range(designs):
        rng = np.random.default_rng(50_000 + seed)
        sheet, nuisances, values = draw(rng, aliased=False)
        table = Table.from_arrays(values, sheet)
        options = testing.ContrastOptions(shrink=False)
        found = testing.test(table, ["drug: b - a", "dose"], nuisances, options=options)
        design, names = all_columns(sheet, [*nuisances, "drug", "dose"])
        inverse = np.linalg.pinv(design, rcond=1e-10)
        centred = values - values.mean(axis=0)
        left = centred - design @ (inverse @ centred)
        variance = (left**2).sum(axis=0) / (len(values) - np.linalg.matrix_rank(design))
        for one, terms in zip(
            found.effects, ({"drug[b]": 1, "drug[a]": -1}, {"dose": 1}), strict=True
        ):
            vector = np.array([float(terms.get(name, 0)) for name in names])
            assert estimable(design, vector)
            effect = vector @ inverse @ centred
            t = effect / np.sqrt(variance * (vector @ inverse @ inverse.T @ vector))
            worst = max(worst, np.abs(one.effect - effect).max(), np.abs(one.t / t - 1).max())
            compared += 1
        if any(name != "rin" for name in nuisances) and seed % 4 == 0:
            corrected = correct(table, nuisances, ["drug", "dose"]).values
            width = len(all_columns(sheet, nuisances)[1])
            apart = corrected - (values - design[:, 1:width] @ (inverse @ centred)[1:width])
            worst = max(worst, np.abs(apart - apart.mean(axis=0)).max())
    assert compared == 2 * designs
    assert worst < 1e-8


@pytest.mark.parametrize("designs", MANY)
def test_aliased_designs_are_refused_by_name(designs):
    """Designs with a column that nuisances make together: it alone, and all that make it."""
    for seed in range(designs):
        rng = np.random.default_rng(60_000 + seed)
        sheet, nuisances, values = draw(rng, aliased=True)
        table = Table.from_arrays(values, sheet)
        with pytest.raises(ConfoundedError) as error:
            testing.test(table, "bad", nuisances, ["drug", "dose"])
        (said,) = error.value.aliased
        assert said.startswith("bad = ")
        assert all(name in said for name in nuisances)
        assert "drug" not in said
        assert "dose" not in said
        if seed % 8:
            continue
        design = read_design(table, nuisances, ["drug", "bad", "dose"])
        found = {one.name: one.confounding for one in entanglements(design)}
        assert [name for name, one in found.items() if not one.estimable] == ["bad"]
        (relation,) = found["bad"].relations
        every = dict(
            zip(indicator_names(design.batches), design.batches.indicators().T, strict=True),
            bad=sheet["bad"],
            Intercept=np.ones(len(values)),
        )
        total = sum(
            c * every[t] for t, c in zip(relation.terms, relation.coefficients, strict=True)
        )
        np.testing.assert_allclose(total, 0, atol=1e-8)
        with pytest.raises(ConfoundedError, match="bad cannot be told from"):
            LinearCorrection(keep=("bad", "dose")).fit(table, ["run", "rin", "plate"])


def test_diagnosis_shares(table):
    """Each nuisance gets what it adds to the others, and all what they add to what is kept."""
    found = diagnose(table, NAMES, KEEP, permutations=20)
    sheet = {
        n: np.array(c, dtype=float if n in ("rin", "age") else str) for n, c in table.sheet.items()
    }
    centred = table.values - table.values.mean(axis=0)

    def left(names):
        design = all_columns(sheet, names)[0]
        return ((centred - design @ (np.linalg.pinv(design, rcond=1e-10) @ centred)) ** 2).sum()

    total, full = (centred**2).sum(), left([*NAMES, *KEEP])
    assert found.batch_share.raw == pytest.approx((left(KEEP) - full) / total)
    for one in found.batch_parts:
        others = [name for name in (*NAMES, *KEEP) if name != one.name]
        assert one.share.raw == pytest.approx((left(others) - full) / total)
        assert one.alone == pytest.approx(1 - left([one.name]) / total)
    assert found.component is None
    assert [one.name for one in found.scores.clusterings] == ["run", "plate", "drug"]
    with pytest.raises(DataError, match="one batch column"):
        placebos(table, found)


@pytest.mark.parametrize(
    ("column", "kinds", "kind"),
    [
        ([1, 2, 3] * 8, {}, "categorical"),
        ([0, 1] * 12, {}, "categorical"),
        (np.linspace(5, 9, 24), {}, "numeric"),
        (np.arange(24) * 7 % 31, {}, "may be names or a measurement"),
        ([0.5, 1.5, 2.5] * 8, {}, "may be names or a measurement"),
        ([0.5, 1.5, 2.5] * 8, {"categorical": ["x"]}, "categorical"),
        ([1, 2, 3] * 8, {"numeric": ["x"]}, "numeric"),
        ([1, 2, 3] * 8, {"numeric": ["x"], "categorical": ["x"]}, "categorical and numeric"),
        (["a"] * 24, {}, "one batch only"),
        ([*np.arange(23) / 4, "n.d."], {}, "24 categories: all but 'n.d.' are numbers"),
        ([*np.arange(23) / 4, "n.d."], {"categorical": ["x"]}, "own for each specimen"),
    ],
)
def test_kinds_of_batch_columns(column, kinds, kind):
    """A number beside a batch column is clear, or declared, or asked about."""
    made = Table.from_arrays(np.zeros((24, 1)), {"run": [*"ab"] * 12, "x": column})
    if " " in kind:
        with pytest.raises(DataError, match=kind):
            read_design(made, ["run", "x"], kinds=ColumnKinds(**kinds))
    else:
        design = read_design(made, ["run", "x"], kinds=ColumnKinds(**kinds))
        assert design.batches.parts[1].kind == kind


def test_what_takes_one_column_says_so(table):
    """Counts are corrected for one column, and determined columns are named."""
    with pytest.raises(DataError, match="takes one batch column"):
        CombatSeqCorrection().fit(table, NAMES)
    with pytest.raises(DataError, match="named as a batch twice"):
        correct(table, ["run", "run"])
    with pytest.raises(DataError, match="needs a column of categories"):
        LinearCorrection(numeric=("rin", "age")).fit(table, ["rin", "age"])
    nested = {**table.sheet, "week": [f"w{label[1] > '1'}" for label in table.sheet["run"]]}
    notes = read_design(Table.from_arrays(table.values, nested), ["run", "week"]).notes
    assert [note.where for note in notes if note.code == "batch_column_determined"] == [("week",)]
    removed = correct(Table.from_arrays(table.values, nested), ["week", "run"], KEEP)
    alone = correct(table, "run", KEEP)
    apart = removed.values - alone.values
    np.testing.assert_allclose(apart, np.broadcast_to(apart[0], apart.shape), atol=1e-9)
    assert removed.rank_lost == 2


def test_commands(table, tmp_path, capsys, monkeypatch):
    """Three --batch on the command line; the file remembers them, and one is told as ever."""
    monkeypatch.chdir(tmp_path)
    frame = pd.DataFrame(table.values, index=table.specimens, columns=table.features)
    frame.to_csv("m.csv")
    pd.DataFrame({"id": table.specimens, **table.sheet}).to_csv("s.csv", index=False)
    batch = ["--batch", "run", "--batch", "plate", "--batch", "rin"]
    assert (
        run(["correct", "m.csv", "s.csv", *batch, "--keep", "drug", "-o", "o.csv", "--json"]) == 0
    )
    said = json.loads(capsys.readouterr().out)
    assert said["asked"]["batch"] == NAMES
    assert (said["result"]["batch"], said["result"]["rank_lost"]) == ("run + plate + rin", 6)
    assert run(["diagnose", "m.csv", "s.csv", *batch, "--keep", "drug", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in said["result"]["batch"]["columns"]] == NAMES
    assert "no_placebo" in [note["code"] for note in said["notes"]]
    assert run(["diagnose", "m.csv", "s.csv", "--batch", "run", "--no-placebo", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["asked"]["batch"] == "run"
    assert said["result"]["batch"]["columns"] == []
    assert run(["gap", "m.csv", "s.csv", *batch, "--predict", "drug"]) == 2
    assert "takes one value" in capsys.readouterr().err
    pytest.importorskip("anndata")
    assert run(["correct", "m.csv", "s.csv", "--batch", "run", "-o", "x.csv"]) == 0
    import anndata

    data = anndata.AnnData(frame, obs=pd.DataFrame(dict(table.sheet), index=list(table.specimens)))
    data.write_h5ad("m.h5ad")
    words = ["--keep", "drug", "-o", "c.h5ad"]
    assert run(["correct", "m.h5ad", *batch, *words, "--numeric", "rin"]) == 0
    capsys.readouterr()
    assert run(["test", "c.h5ad", "--contrast", "drug", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["result"]["batch"] == "run + plate + rin"
    assert run(["correct", "m.h5ad", *batch, "--out-of-core", "-o", "d.h5ad"]) == 2
    assert "takes one --batch" in capsys.readouterr().err
    assert read("c.h5ad").specimens == table.specimens

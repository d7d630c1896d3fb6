"""Surrogates from control features: what controls have in common, and what that assumes."""

import numpy as np
import pytest

from batchsense.cli.main import run
from batchsense.errors import DataError
from batchsense.experiments import Estimation, Table, find_surrogates, testing


def experiment(
    seed: int = 0, entangled: float = 0.8, touched: float = 0.0, controls: int = 60
) -> tuple[Table, np.ndarray, Estimation]:
    """Forty specimens, an unknown batch that goes with the drug, and controls without the drug."""
    rng = np.random.default_rng(seed)
    hidden = np.repeat([0.0, 1.0], 20)
    drug = (rng.random(40) < np.where(hidden == 1, entangled, 1 - entangled)).astype(float)
    features = controls + 240
    values = rng.normal(size=(40, features)) + np.outer(hidden, rng.normal(0, 2, features))
    effects = np.where(np.arange(features) < controls, touched, 0.0)
    effects[controls : controls + 120] = 1.5
    values += np.outer(drug, effects)
    names = [f"c{k}" if k < controls else f"g{k}" for k in range(features)]
    sheet = {"drug": ["yes" if d else "no" for d in drug]}
    table = Table.from_arrays(values, sheet, features=names)
    return table, hidden, Estimation("controls", controls=tuple(names[:controls]))


def test_they_are_the_singular_vectors_of_the_controls() -> None:
    """Equal to a singular value decomposition of the centred controls, up to sign."""
    table, _, how = experiment()
    found = find_surrogates(table, ["drug"], estimation=Estimation("controls", 2, how.controls))
    controls = table.values[:, :60]
    expected = np.linalg.svd(controls - controls.mean(axis=0))[0][:, :2]

    np.testing.assert_allclose(np.abs(found.values), np.abs(expected), atol=1e-8)
    assert (found.method, found.affected_features) == ("controls", 60)


def test_known_columns_are_taken_out_first() -> None:
    """What is known has no part in the surrogates."""
    table, hidden, how = experiment()
    sheet = {**table.sheet, "run": [f"r{k:.0f}" for k in hidden]}
    known = Table.from_arrays(table.values, sheet, features=table.features)
    one = Estimation("controls", 1, how.controls)
    found = find_surrogates(known, ["drug"], known=["run"], estimation=one)

    assert abs(np.corrcoef(found.values[:, 0], hidden)[0, 1]) < 1e-9


def test_the_unknown_batch_is_found_although_it_goes_with_the_drug() -> None:
    """One direction exceeds chance, the hidden batch; a test with it finds what the drug does."""
    table, hidden, how = experiment()
    found = find_surrogates(table, ["drug"], estimation=how, permutations=20)
    values = Table.from_arrays(table.values, found.sheet(), features=table.features)
    called = testing.test(values, "drug", surrogates=found.names).effects[0].q_value <= 0.05

    assert found.names == ("sv1",)
    assert abs(np.corrcoef(found.values[:, 0], hidden)[0, 1]) > 0.95
    assert called[60:180].mean() > 0.5
    assert called[180:].mean() < 0.05
    assert called[:60].mean() < 0.05


def test_what_it_assumes_is_said_and_what_speaks_against_it() -> None:
    """The assumption always; controls that the drug touches one by one are counted."""
    table, _, how = experiment()
    codes = [note.code for note in find_surrogates(table, ["drug"], estimation=how).notes]
    assert "controls_assumed" in codes
    assert "controls_touched" not in codes

    wrong = Estimation("controls", 1, (*how.controls[:40], *table.features[60:80]))
    notes = find_surrogates(table, ["drug"], estimation=wrong).notes
    (touched,) = [note.message for note in notes if note.code == "controls_touched"]
    assert int(touched.split()[0]) >= 5


def test_few_and_unknown_controls_are_refused() -> None:
    """Fewer than five, more surrogates than controls, and names that the matrix has not."""
    table, _, how = experiment()
    with pytest.raises(DataError, match="4 control features can be used"):
        find_surrogates(table, ["drug"], estimation=Estimation("controls", 1, how.controls[:4]))
    with pytest.raises(DataError, match="more controls than surrogates"):
        find_surrogates(table, ["drug"], estimation=Estimation("controls", 5, how.controls[:5]))
    with pytest.raises(DataError, match="at most 37 leave"):
        find_surrogates(table, ["drug"], estimation=Estimation("controls", 38, how.controls))
    with pytest.raises(DataError, match="did you mean 'c9'"):
        find_surrogates(table, ["drug"], estimation=Estimation("controls", 1, ("C9x",)))
    with pytest.raises(ValueError, match="control features belong"):
        Estimation("controls")


def test_a_small_panel_with_controls_is_enough() -> None:
    """Controls need not be beside a hundred other features."""
    table, hidden, _ = experiment()
    panel = Table.from_arrays(table.values[:, :30], table.sheet, features=table.features[:30])
    how = Estimation("controls", 1, table.features[:10])
    found = find_surrogates(panel, [], estimation=how)

    assert abs(np.corrcoef(found.values[:, 0], hidden)[0, 1]) > 0.8


def test_counts_are_taken_as_counts() -> None:
    """Of counts log counts per million are looked at; controls with few counts are left out."""
    rng = np.random.default_rng(0)
    hidden, drug = np.repeat([0.0, 1.0], 15), np.arange(30) % 2
    levels = rng.uniform(3, 7, size=150) + np.outer(hidden, rng.normal(0, 0.7, size=150))
    levels[:, 60:] += np.outer(drug, rng.normal(0, 0.7, size=90))
    counts = rng.poisson(np.exp(levels)).astype(float)
    counts[:, 0] = rng.poisson(0.2, size=30)
    sheet = {"drug": ["yes" if d else "no" for d in drug]}
    table = Table.from_arrays(counts, sheet, values_are="counts")
    how = Estimation("controls", 1, table.features[:60])
    found = find_surrogates(table, ["drug"], estimation=how)

    assert abs(np.corrcoef(found.values[:, 0], hidden)[0, 1]) > 0.95
    assert found.affected_features == 59


def test_the_command_takes_names_and_files(tmp_path, capsys, monkeypatch) -> None:
    """Names on the line and in a file go together; the answer says that they are controls."""
    import pandas as pd

    monkeypatch.chdir(tmp_path)
    table, _, how = experiment()
    pd.DataFrame(table.values, table.specimens, table.features).to_csv("m.csv")
    pd.DataFrame(table.sheet, pd.Index(table.specimens, name="id")).to_csv("s.csv")
    (tmp_path / "c.txt").write_text("# spikes\n" + "\n".join(how.controls[:20]) + "\n\n")
    line = ["surrogates", "m.csv", "s.csv", "--keep", "drug", "-o", "out.csv"]
    line += ["--control", "c.txt", "--control", "c30", "--count", "1"]

    assert run(line) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Surrogates: 1 (from control features); about 21 of 300 features took part" in said
    assert "what 21 control features have in common" in said
    assert "sv1" in (tmp_path / "out.csv").read_text()
    assert run([*line[:-2], "--method", "two-step", "--force"]) == 2
    (tmp_path / "c.txt").write_bytes(b"\xff\xfe\x00")
    assert run([*line, "--force"]) == 3

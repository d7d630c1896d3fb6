"""What is kept for later runs is taken up as it was written, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from batchsense.cli.main import run
from batchsense.errors import DataError
from batchsense.experiments import (
    CombatCorrection,
    CombatSeqCorrection,
    LinearCorrection,
    Table,
    load_correction,
)
from batchsense.storage.seal import BrokenSealError, read_arrays, sealed, unsealed

METHODS = {
    "linear": LinearCorrection,
    "combat": CombatCorrection,
    "combat-seq": CombatSeqCorrection,
}


def counts() -> Table:
    """Twelve specimens of three months."""
    rng = np.random.default_rng(0)
    drawn = rng.poisson(20.0, size=(12, 5)).astype(float)
    sheet = {"month": np.repeat(["May", "June", "July"], 4), "drug": np.tile(["no", "yes"], 6)}
    return Table.from_arrays(drawn, sheet)


def edited(arrays: dict, rng: np.random.Generator) -> dict:
    """The same archive with one array dropped, cut, retyped, emptied, or changed in a number."""
    names = sorted(arrays)
    name = names[int(rng.integers(len(names)))]
    one, others = arrays[name], {key: arrays[key] for key in names if key != name}
    kind = rng.choice(["drop", "cut", "flat", "text", "number", "nan", "about", "none"])
    if kind == "about":
        about = json.loads(arrays["about"].tobytes())
        keys = sorted(about)
        key = keys[int(rng.integers(len(keys)))]
        about[key] = (None, 3, "x", [], {}, [["a"]], [about[key]])[int(rng.integers(7))]
        return {**arrays, "about": np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)}
    if kind == "drop":
        return others
    made = {
        "cut": one[..., :-1] if one.ndim else one,
        "flat": one.ravel(),
        "text": np.array(["x"] * one.size).reshape(one.shape),
        "number": one + np.asarray(1, dtype=one.dtype),
        "nan": np.full(one.shape, np.nan),
        "none": np.zeros(0),
    }[str(kind)]
    return {**others, name: made}


@pytest.mark.parametrize("method", METHODS)
def test_no_edit_of_a_saved_correction_is_taken_up(method: str, tmp_path: Path) -> None:
    """Sixty edits of each method: every one is refused in words."""
    rng, path = np.random.default_rng(1), tmp_path / "fitted.npz"
    METHODS[method](keep=("drug",)).fit(counts(), "month").save(path)
    with np.load(path) as archive:
        arrays = dict(archive)
    for _ in range(60):
        changed = edited(arrays, rng)
        if changed.keys() == arrays.keys() and all(
            np.array_equal(changed[name], arrays[name]) for name in arrays
        ):
            continue
        np.savez(path, **changed)
        with pytest.raises(DataError, match=r"batchsense saved|a correction of format"):
            load_correction(path)


def test_bytes_of_a_saved_correction(tmp_path: Path) -> None:
    """Cut anywhere or with bytes changed: the same correction, or a refusal."""
    path = tmp_path / "fitted.npz"
    LinearCorrection(keep=("drug",)).fit(counts(), "month").save(path)
    whole, rng = path.read_bytes(), np.random.default_rng(3)
    expected = load_correction(path).transform(counts()).values
    for _ in range(80):
        data = bytearray(whole)
        if rng.random() < 0.3:
            del data[int(rng.integers(len(data))) :]
        for place in rng.integers(max(len(data), 1), size=int(rng.integers(1, 4))):
            if len(data):
                data[place] = int(rng.integers(256))
        path.write_bytes(data)
        try:
            found = load_correction(path)
        except DataError:
            continue
        np.testing.assert_array_equal(found.transform(counts()).values, expected)


def test_a_document_without_its_seal() -> None:
    """A field changed, added or removed, or the seal taken off."""
    kept = json.loads(json.dumps(sealed({"runs": [1.5, None], "é": {"a": 1}})))

    assert unsealed(kept) == {"runs": [1.5, None], "é": {"a": 1}}
    for other in ({**kept, "x": 1}, {**kept, "runs": [1.5]}, {"runs": [1.5]}, [], None, 3):
        with pytest.raises(BrokenSealError):
            unsealed(other)


def test_an_archive_of_something_else(tmp_path: Path) -> None:
    """No archive, an empty one, and one without a seal."""
    path = tmp_path / "a.npz"
    for data in (b"", b"text", b"PK\x03\x04"):
        path.write_bytes(data)
        with pytest.raises(BrokenSealError):
            read_arrays(path)
    np.savez(path, a=np.ones(1))
    assert read_arrays(path)[1] is False


def test_the_command_line_names_the_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Exit code 3, the file, and what to do; nothing is written."""
    path, output = tmp_path / "fitted.npz", tmp_path / "o.csv"
    path.write_bytes(b"PK\x03\x04")
    (tmp_path / "m.csv").write_text("id,a\ns1,1\ns2,2\n")
    (tmp_path / "s.csv").write_text("id,month\ns1,May\ns2,July\n")
    files = [str(tmp_path / name) for name in ("m.csv", "s.csv")]

    assert run(["correct", *files, "--fitted", str(path), "-o", str(output)]) == 3
    assert "fitted.npz: not a correction that batchsense saved" in capsys.readouterr().err
    assert not output.exists()

"""A run that was interrupted is taken up, and nothing unfinished passes for a result."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr
from stores import FEATURES, SPECIMENS, make, result, values

from batchsense.errors import DataError
from batchsense.experiments import CombatCorrection
from batchsense.experiments.out_of_core import StoredMatrix, ThisProcess, budget, correct_store
from batchsense.experiments.out_of_core.journal import journal
from batchsense.storage.matrices.location import find

WORKER = Path(__file__).parent / "killed_runs.py"
CORRECTION = CombatCorrection(keep=("drug",))


class InterruptedRunError(Exception):
    """Somebody pulls the plug."""


@dataclass(frozen=True)
class Faltering:
    """An engine that stops after some blocks, and counts what it did."""

    log: list
    sums_until: int = 10**9
    correct_until: int = 10**9

    def sizes(self, inputs):
        return ThisProcess().sizes(inputs)

    def sums(self, given, into, keep):
        added = []

        def counted(run):
            added.append(run)
            self.log.append(("sums", run))
            keep(into, added)
            if len(added) == self.sums_until:
                raise InterruptedRunError
            given.done(run)

        return ThisProcess().sums(replace(given, done=counted), into, keep)

    def correct(self, given, result, affine):
        seen = []

        def counted(run):
            given.done(run)
            seen.append(run)
            self.log.append(("correct", run))
            if len(seen) == self.correct_until:
                raise InterruptedRunError

        ThisProcess().correct(replace(given, done=counted), result, affine)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Take blocks of about thirty specimens."""
    monkeypatch.setattr(budget, "LARGEST_BLOCK", 30 * FEATURES * 8)


@pytest.mark.parametrize("name", ["dense.h5ad", "plain.zarr"])
def test_work_is_done_once(tmp_path, name):
    """Interrupted in both passes, each block is summed and corrected once; the result is equal."""
    stored = StoredMatrix(make(tmp_path, name, values()), tmp_path / "sheet.csv")
    log: list = []
    interrupted = tmp_path / f"interrupted-{name}"

    def run(target, **stops):
        return correct_store(stored, target, "month", CORRECTION, engine=Faltering(log, **stops))

    for stops in ({"sums_until": 3}, {"sums_until": 2}, {"correct_until": 2}, {"correct_until": 3}):
        with pytest.raises(InterruptedRunError):
            run(interrupted, **stops)
        assert not interrupted.exists()
    again = run(interrupted)
    whole = run(tmp_path / f"whole-{name}")

    covered = [run for what, run in log if what == "sums"]
    assert again.resumed
    assert not whole.resumed
    assert sum(high - low for low, high in covered) == 2 * SPECIMENS
    assert sum(high - low for what, (low, high) in log if what == "correct") == 2 * SPECIMENS
    assert np.array_equal(result(interrupted), result(tmp_path / f"whole-{name}"))


def test_other_options_start_afresh(tmp_path):
    """What was done for another correction is thrown away, not mixed in."""
    path = make(tmp_path, "dense.h5ad", values())
    output = tmp_path / "out.h5ad"
    with pytest.raises(InterruptedRunError):
        correct_store(path, output, "month", engine=Faltering([], correct_until=3))

    found = correct_store(path, output, "month", CORRECTION)
    correct_store(path, tmp_path / "whole.h5ad", "month", CORRECTION)

    assert not found.resumed
    assert np.array_equal(result(tmp_path / "whole.h5ad"), result(output))


def test_a_changed_input_starts_afresh(tmp_path):
    """The input is known by its size and the time of its last change."""
    path = make(tmp_path, "dense.h5ad", values())
    output = tmp_path / "out.h5ad"
    with pytest.raises(InterruptedRunError):
        correct_store(path, output, "month", CORRECTION, engine=Faltering([], correct_until=3))
    make(tmp_path, "dense.h5ad", values(seed=5))

    assert not correct_store(path, output, "month", CORRECTION).resumed


def test_a_line_that_was_cut_off_is_dropped(tmp_path):
    """The journal is valid up to its last whole line."""
    with journal(tmp_path / "out.zarr", "this") as first:
        first.note_written((0, 10))
        first.note_written((10, 20))
    lines = (tmp_path / "out.zarr.partial" / "journal").read_bytes()
    (tmp_path / "out.zarr.partial" / "journal").write_bytes(lines[:-5])

    with journal(tmp_path / "out.zarr", "this") as second:
        assert second.written == [(0, 10)]
        second.note_written((10, 12))
    with journal(tmp_path / "out.zarr", "this") as third:
        assert third.written == [(0, 12)]


@pytest.mark.parametrize(
    ("name", "stage"), [("dense.h5ad", "sums_until"), ("plain.zarr", "correct_until")]
)
def test_damaged_work_is_done_again_or_named(tmp_path, name, stage):
    """Any file of the unfinished work cut, filled or removed: the same result, or words."""
    stored = StoredMatrix(make(tmp_path, name, values()), tmp_path / "sheet.csv")
    target, whole = tmp_path / f"o-{name}", tmp_path / f"whole-{name}"
    correct_store(stored, whole, "month", CORRECTION)
    with pytest.raises(InterruptedRunError):
        correct_store(stored, target, "month", CORRECTION, engine=Faltering([], **{stage: 2}))
    left = tmp_path / f"o-{name}.partial"
    kept = tmp_path / "kept"
    shutil.copytree(left, kept)
    found = [path.relative_to(kept) for path in kept.rglob("*") if path.is_file()]
    small = [path for path in found if path.parts[0] != "result" or path.suffix == ".json"]
    done = refused = 0
    for path in small:
        for damage in (lambda data: data[: len(data) // 2], lambda data: b"\x00" * len(data), None):
            for old in (left, target):
                shutil.rmtree(old, ignore_errors=True) if old.is_dir() else old.unlink(True)
            shutil.copytree(kept, left)
            (left / path).unlink()
            if damage is not None:
                (left / path).write_bytes(damage((kept / path).read_bytes()))
            try:
                correct_store(stored, target, "month", CORRECTION)
            except DataError as error:
                refused += str(left) in str(error)
                continue
            assert np.allclose(result(target), result(whole), rtol=1e-12, atol=1e-12)
            done += 1
    assert done >= 3
    assert done + refused == 3 * len(small)


def test_two_runs_do_not_write_the_same_result(tmp_path):
    """The second one is refused while the first one lives."""
    with (
        journal(tmp_path / "out.zarr", "this"),
        pytest.raises(DataError, match="another run"),
        journal(tmp_path / "out.zarr", "this"),
    ):
        pass


@pytest.mark.parametrize("name", ["dense.h5ad", "third.zarr", "plain.zarr"])
def test_unfinished_results_are_refused_as_inputs(tmp_path, name):
    """Whoever gives an unfinished result a proper name is told."""
    stored = StoredMatrix(make(tmp_path, name, values()), tmp_path / "sheet.csv")
    output = tmp_path / f"out-{name}"
    with pytest.raises(InterruptedRunError):
        correct_store(stored, output, "month", CORRECTION, engine=Faltering([], correct_until=2))
    renamed = tmp_path / f"renamed-{name}"
    (tmp_path / f"out-{name}.partial" / "result").rename(renamed)

    with pytest.raises(DataError, match="unfinished"):
        find(renamed)


def killed(folder, name, times):
    """Kill a run at random moments until it gets through; give what was seen after each."""
    path = make(folder, name, values())
    done = subprocess.run(
        [sys.executable, str(WORKER), str(path), str(folder / f"out-{name}"), str(times)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check_killed(folder, name, times):
    """No kill left a result that opens; the last run took up the others and is equal."""
    seen = killed(folder, name, times)
    stored = StoredMatrix(folder / name, folder / "sheet.csv")
    correct_store(stored, folder / f"whole-{name}", "month", CORRECTION)

    assert seen["kills"] >= times
    assert seen["opened_early"] == 0
    assert seen["resumed"]
    difference = result(folder / f"out-{name}") - result(folder / f"whole-{name}")
    assert np.abs(difference).max() < 1e-12  # blocks of another size, sums in another order


STOPPING_RUN = """
import sys
from batchsense.experiments import CombatCorrection, StoredMatrix
from batchsense.experiments.out_of_core import budget, correct_store, passes
budget.LARGEST_BLOCK, passes._SYNC_EVERY_S = 30 * 70 * 8, 0.0

def stop_at_the_first_block(task, done, total):
    if task.startswith("correcting"):
        print("written", flush=True)
        sys.stdin.read()

correct_store(
    StoredMatrix(sys.argv[1], sheet=sys.argv[3]), sys.argv[2], "month",
    CombatCorrection(keep=("drug",)), progress=stop_at_the_first_block,
)
"""


def test_killed_once(tmp_path):
    """Kill -9 in the second pass: nothing opens, and the next run only does what is left."""
    path, output = make(tmp_path, "plain.zarr", values()), tmp_path / "out-plain.zarr"
    words = [
        sys.executable,
        "-c",
        STOPPING_RUN,
        str(path),
        str(output),
        str(tmp_path / "sheet.csv"),
    ]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, env={**os.environ, "OMP_NUM_THREADS": "1"}, **pipes) as started:
        assert started.stdout.readline() == "written\n"
        started.kill()

    assert started.returncode == -signal.SIGKILL
    assert not output.exists()
    with pytest.raises(DataError, match="unfinished"):
        find(tmp_path / "out-plain.zarr.partial" / "result")
    log: list = []
    stored = StoredMatrix(path, tmp_path / "sheet.csv")
    found = correct_store(stored, output, "month", CORRECTION, engine=Faltering(log))
    assert found.resumed
    assert "sums" not in [what for what, _ in log]
    assert sum(high - low for what, (low, high) in log if what == "correct") < SPECIMENS
    correct_store(stored, tmp_path / "whole-plain.zarr", "month", CORRECTION)
    assert np.abs(result(output) - result(tmp_path / "whole-plain.zarr")).max() < 1e-12


@pytest.mark.slow
def test_killed_three_times(tmp_path):
    """Kill -9, three times: the fourth run finishes."""
    check_killed(tmp_path, "dense.h5ad", 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["dense.h5ad", "csr.h5ad", "dense.zarr", "third.zarr", "plain.zarr"]
)
def test_killed_twenty_times(tmp_path, name):
    """Kill -9 at twenty random moments never leaves a file that opens as finished."""
    check_killed(tmp_path, name, 20)


def test_a_finished_result_says_so(tmp_path):
    """The mark of completeness is the last thing that is written."""
    for name, target in (("dense.h5ad", "out.h5ad"), ("plain.zarr", "out.zarr")):
        stored = StoredMatrix(make(tmp_path, name, values()), tmp_path / "sheet.csv")
        correct_store(stored, tmp_path / target, "month")

    with h5py.File(tmp_path / "out.h5ad") as root:
        assert bool(root["uns/batchsense/complete"][()])
    assert zarr.open_array(tmp_path / "out.zarr", mode="r").attrs["batchsense"]["complete"]

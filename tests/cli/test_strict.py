"""Nothing of a command line is dropped, and no fault of the system is called a bug."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from batchsense.cli.main import run
from batchsense.questions.option import options_of
from batchsense.questions.registry import QUESTIONS
from batchsense.storage.inputs import check_input

SINGLE = [
    pytest.param(command, one.flag, id=f"{command}-{one.flag}")
    for command, question in QUESTIONS.items()
    for one in options_of(question.request)
    if not one.repeated and not one.option.argument and one.type is not bool
]


@pytest.mark.parametrize(("command", "flag"), SINGLE)
def test_an_option_of_one_value_is_not_given_twice(
    command: str, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every single-valued option of every command: no value is dropped."""
    assert run([command, f"--{flag}", "2", f"--{flag}=3"]) == 2
    said = capsys.readouterr().err
    assert "was given 2 times, and takes one value" in said
    assert ("join their labels in one column of SHEET" in said) == (flag == "batch")


def test_switches_that_contradict_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """--placebo --no-placebo asks for two things; --force --force for one."""
    assert run(["diagnose", "--placebo", "--no-placebo"]) == 2
    assert "was given 2 times" in capsys.readouterr().err
    assert run(["layout", "nowhere.csv", "--force", "--force", "--batches", "2"]) == 2
    assert "was given" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["--per-feature"],
        ["--per-feature", "--block", "subject", "--robust"],
        ["--ordinary", "--trend"],
        ["--specimen-weights", "--block", "subject"],
    ],
)
def test_options_of_a_test_that_contradict_are_a_fault_of_usage(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """One of them would be passed over: refused before anything is read, as they are typed."""
    assert run(["test", *words]) == 2
    said = capsys.readouterr().err
    assert words[0] in said
    assert words[1:] == [] or words[-2 if "subject" in words[-1:] else -1] in said


@pytest.mark.parametrize("scheme", ["http", "https", "ftp", "s3", "file", "memory", "gs", "HTTP"])
@pytest.mark.parametrize("place", ["MATRIX", "SHEET"])
def test_addresses_are_not_opened(
    scheme: str, place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the scheme: exit code 3 before anything is read."""
    address = f"{scheme}://127.0.0.1:9/m.parquet"
    (tmp_path / "m.csv").write_text("id,a\ns1,1\ns2,2\n")
    words = [address, "s.csv"] if place == "MATRIX" else [str(tmp_path / "m.csv"), address]

    assert run(["diagnose", *words, "--batch", "month"]) == 3
    assert "only files are read" in capsys.readouterr().err


def test_pipes_and_devices_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be read twice does not hang; names with a colon or a worksheet are files."""
    pipe = tmp_path / "f.csv"
    os.mkfifo(pipe)
    for path, word in ((pipe, "a pipe"), ("/dev/null", "no ordinary file")):
        assert run(["diagnose", str(path), "s.csv", "--batch", "month"]) == 3
        assert word in capsys.readouterr().err
    for name in ("c:/m.csv", "a:b.csv", "plates.xlsx#May", "missing.csv"):
        check_input(tmp_path / name)
        check_input(name)


JOB = """
import dataclasses, os, sys
from batchsense.training import digits_workload
{top}
def workload():
    {inside}
    job = digits_workload()
    def loss(model, minibatch):
        {in_loss}
        return job.loss(model, minibatch)
    return dataclasses.replace(job, loss=loss)
"""
PLACES = ("top", "inside", "in_loss")


def job(folder: Path, **code: str) -> str:
    """A training job whose code does something at a place."""
    path = folder / "job.py"
    path.write_text(JOB.format(**{place: code.get(place, "pass") for place in PLACES}))
    return f"{path}:workload"


@pytest.mark.parametrize("place", PLACES)
def test_what_the_job_prints_does_not_stand_before_the_json(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prints at import, in the function and in the loss go to stderr."""
    words = ["noise", job(tmp_path, **{place: "print('loading')"}), "--steps", "0", "--json"]
    run([*words, "--examples", "16", "--micro-batches", "8"])
    said = capsys.readouterr()

    assert json.loads(said.out)["command"] == "noise"
    assert "loading" in said.err


@pytest.mark.parametrize("code", ["0", "'done'"])
@pytest.mark.parametrize("place", PLACES)
def test_a_job_that_exits_is_no_answer(
    place: str, code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """sys.exit anywhere in the user's code, with any code, is exit code 3 with a reason."""
    assert run(["audit", job(tmp_path, **{place: f"sys.exit({code})"})]) == 3
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError(36, "File name too long", "a.csv"), "a.csv: File name too long"),
        (PermissionError(13, "Permission denied", "x"), "x: Permission denied"),
        (MemoryError(), "not enough memory"),
    ],
)
def test_the_system_is_not_a_bug_of_ours(
    error: BaseException,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A full disk, a missing right, too little memory: one line, exit code 3."""

    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr("batchsense.cli.run.run_question", broken)
    assert run(["noise"]) == 3
    assert says in capsys.readouterr().err


def test_stdout_that_is_full_or_closed_is_said(tmp_path: Path) -> None:
    """Exit code 3 or 2 and one line; no result is half made."""
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "batchsense", "schema", "plan"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, "No space left" in done.stderr) == (3, True)
    (tmp_path / "s.csv").write_text("id,arm\n" + "".join(f"s{k},{'ab'[k % 2]}\n" for k in range(8)))
    words = "layout s.csv --batches 2 --balance arm -o l.csv >&-"
    done = subprocess.run(
        ["bash", "-c", f"exec {sys.executable} -m batchsense {words}"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (done.returncode, "stdout is closed" in done.stderr) == (2, True)
    assert not (tmp_path / "l.csv").exists()


@pytest.mark.parametrize(
    ("option", "name", "state"),
    [
        ("-o", "plan.verify.json", None),
        ("--report", "plan.verify.json", None),
        ("-o", "kept.json", "kept.json"),
        ("-o", "plan.json", None),
    ],
)
@pytest.mark.parametrize("exists", [True, False])
def test_finished_runs_are_not_replaced_by_an_answer(
    option: str,
    name: str,
    state: str | None,
    exists: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where `verify` keeps its runs, by name or by default, no output goes, even with --force."""
    plan = tmp_path / "plan.json"
    plan.write_text("{}")
    if exists:
        (tmp_path / name).write_text("{}")
    words = ["verify", "digits", "--plan", str(plan), option, str(tmp_path / name), "--force"]
    words += [] if state is None else ["--state", str(tmp_path / state)]

    assert run(words) == 2
    assert name in capsys.readouterr().err
    assert plan.read_text() == "{}"
    assert not exists or (tmp_path / name).read_text() == "{}"


@pytest.mark.parametrize("command", ["demo", "audit", "noise", "plan"])
def test_a_missing_extra_is_named(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Without torch every question about training, and the demo, says what to install."""
    ours = [name for name in sys.modules if name.startswith(("batchsense", "torch"))]
    kept = {name: sys.modules.pop(name) for name in ours}
    sys.modules["torch"] = None  # not by monkeypatch, which would take torch away at its end
    try:
        from batchsense.cli.main import run as anew

        assert anew([command]) == 2
    finally:
        for name in [name for name in sys.modules if name.startswith("batchsense")]:
            del sys.modules[name]
        sys.modules.pop("torch", None)
        sys.modules.update(kept)
    assert "need the training extra: pip install" in capsys.readouterr().err


def test_nothing_is_read_from_an_address_in_python(tmp_path: Path) -> None:
    """Matrix, sheet, store and saved correction: refused before anything is opened."""
    from batchsense.errors import DataError
    from batchsense.experiments import load_correction, read
    from batchsense.experiments.out_of_core import correct_store

    (tmp_path / "m.csv").write_text("id,a\ns1,1\ns2,2\n")
    os.mkfifo(tmp_path / "f.csv")
    address = "http://127.0.0.1:9/m"
    for ask in (
        lambda: read(f"{address}.parquet", tmp_path / "m.csv"),
        lambda: read(tmp_path / "m.csv", f"{address}.parquet"),
        lambda: read(tmp_path / "f.csv", tmp_path / "m.csv"),
        lambda: read(tmp_path / "m.csv", tmp_path / "f.csv"),
        lambda: correct_store(f"{address}.zarr", tmp_path / "o.zarr", "month"),
        lambda: load_correction(f"{address}.npz"),
        lambda: load_correction(tmp_path / "f.csv"),
    ):
        with pytest.raises(DataError, match=r"an address|a pipe"):
            ask()


def test_the_file_of_a_scheduler_is_an_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No output takes its place, not even with --force."""
    scheduler = tmp_path / "scheduler.h5ad"
    scheduler.write_text("{}")
    words = ["correct", "m.h5ad", "s.csv", "--batch", "month", "--cluster", str(scheduler)]

    assert run([*words, "-o", str(scheduler), "--force"]) == 2
    assert "is an input of this run" in capsys.readouterr().err
    assert scheduler.read_text() == "{}"


def test_shares_that_cannot_be_told_are_a_refusal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The refusal of a file of shares stands in the document, and no file is written."""
    months, drugs = ["May", "July"] * 3, ["no", "no", "yes", "low", "high", "most"]
    rows = [f"s{i},{m},{d}" for i, (m, d) in enumerate(zip(months, drugs, strict=True))]
    (tmp_path / "s.csv").write_text("\n".join(["id,month,drug", *rows]) + "\n")
    lines = [f"s{i},{i * i % 3}.5,{i % 2}.25,{i}.5" for i in range(6)]
    (tmp_path / "m.csv").write_text("\n".join(["id,a,b,c", *lines]) + "\n")
    files = [str(tmp_path / name) for name in ("m.csv", "s.csv")]
    words = ["diagnose", *files, "--batch", "month", "--keep", "drug", "--no-placebo", "--json"]

    assert run([*words, "-o", str(tmp_path / "f.csv")]) == 1
    assert json.loads(capsys.readouterr().out)["refusal"] is not None
    assert not (tmp_path / "f.csv").exists()


@pytest.mark.parametrize("command", ["train", "plan", "noise", "audit", "temperature", "memory"])
@pytest.mark.parametrize("named", ["job.py:make", "job:make", "./job.py:make"])
def test_the_code_of_a_job_is_an_input(
    command: str,
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Neither the document nor the page takes the place of what the user wrote."""
    monkeypatch.chdir(tmp_path)
    job = tmp_path / "job.py"
    job.write_text("raise AssertionError('run')")
    for option in ("-o", "--report"):
        stop = ["--epochs", "1"] if command == "train" else []
        assert run([command, named, *stop, option, str(job), "--force"]) == 2
        assert "is an input of this run" in capsys.readouterr().err
    assert job.read_text() == "raise AssertionError('run')"

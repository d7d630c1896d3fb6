"""No output of a run costs the user anything: one guard, over all kinds of paths and files."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import tempfile
from pathlib import Path

import pytest

from batchsense.errors import OutputError
from batchsense.storage.atomic import writing
from batchsense.storage.marks import is_ours, mark
from batchsense.storage.outputs import check_outputs


def result_of_ours(path: Path, store: bool = False) -> None:
    """Write a folder as batchsense does: a matrix in three files, or a Zarr store."""
    with writing(path) as temporary:
        (temporary / "c").mkdir(parents=True)
        (temporary / "c" / "0").write_text("numbers")
        if store:
            (temporary / "zarr.json").write_text('{"node_type": "group"}')


def make(kind: str, path: Path) -> None:
    """Put something of a kind at a path."""
    match kind:
        case "file":
            path.write_text("old")
        case "ours":
            result_of_ours(path)
        case "our store":
            result_of_ours(path, store=True)
        case "ours and a thesis":
            result_of_ours(path)
            (path / "thesis.txt").write_text("years of work")
        case "our store and a deep thesis":
            result_of_ours(path, store=True)
            (path / "c" / "thesis.txt").write_text("years of work")
        case "ours and a link":
            result_of_ours(path)
            (path / "c" / "elsewhere").symlink_to(path.parent)
        case "ours, rewritten":
            result_of_ours(path)
            (path / "c" / "0").write_text("other numbers")
        case "folder":
            path.mkdir()
            (path / "thesis.txt").write_text("years of work")
        case "empty folder":
            path.mkdir()
        case "a foreign mark":
            path.mkdir()
            (path / ".batchsense").write_text('{"files": 0}')
        case "fifo":
            os.mkfifo(path)
        case "socket":
            here = os.getcwd()
            os.chdir(path.parent)  # the names of sockets are short
            try:
                with socket.socket(socket.AF_UNIX) as made:
                    made.bind(path.name)
            finally:
                os.chdir(here)
        case "link":
            path.with_name("real").write_text("old")
            path.symlink_to(path.with_name("real"))
        case "dangling link":
            path.symlink_to(path.with_name("nowhere"))
        case "link to a device":
            path.symlink_to(os.devnull)
        case "link to a folder":
            result_of_ours(path.with_name("real"))
            path.symlink_to(path.with_name("real"))
        case "nothing":
            pass


REPLACEABLE = {"file", "ours", "our store"}
REFUSED = {
    "ours and a thesis": "did not write",
    "our store and a deep thesis": "did not write",
    "ours and a link": "did not write",
    "ours, rewritten": "did not write",
    "folder": "did not write",
    "empty folder": "did not write",
    "a foreign mark": "did not write",
    "fifo": "named pipe",
    "socket": "socket",
    "link": "is a link to .*name the file itself",
    "dangling link": "is a link to .*does not exist",
    "link to a device": "is a link to",
    "link to a folder": "is a link to",
}
#: Ways to write the same path, from the folder that holds it.
SPELLINGS = {
    "plain": lambda path: path.name,
    "dotted": lambda path: f"./{path.name}",
    "absolute": str,
    "there and back": lambda path: f"../{path.parent.name}/{path.name}",
    "doubled": lambda path: f"{path.parent}//{path.name}",
    "slash at the end": lambda path: f"{path}/",
    "path": lambda path: path,
    "through a linked folder": lambda path: f"{path.parent.parent}/linked/{path.name}",
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder that a link beside it leads to as well."""
    folder = tmp_path / "here"
    folder.mkdir()
    (tmp_path / "linked").symlink_to(folder)
    monkeypatch.chdir(folder)
    return folder


def snapshot(folder: Path) -> list[tuple[str, str]]:
    """All names and contents, without following links."""
    return sorted(
        (str(path), path.read_text() if path.is_file() else "") for path in folder.rglob("*")
    )


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("kind", ["nothing", *sorted(REPLACEABLE), *REFUSED])
def test_what_may_be_replaced(here: Path, kind: str, spelling: str) -> None:
    """Nothing without force; with it a file or a result of ours; looking changes nothing."""
    target = here / "r"
    make(kind, target)
    given = SPELLINGS[spelling](target)
    before = snapshot(here)
    for force in (False, True):
        if kind == "nothing" or (kind in REPLACEABLE and force):
            check_outputs({"-o": given}, [], force)
            continue
        expected = REFUSED.get(kind, "exists; give another name or --force")
        with pytest.raises(OutputError, match=expected) as caught:
            check_outputs({"--report": given}, [], force)

        assert caught.value.option == "--report"
        assert str(caught.value).startswith("--report ")
        assert caught.value.path in (str(given), str(given).rstrip("/"), str(Path(given)))

    assert snapshot(here) == before


@pytest.mark.parametrize(
    ("one", "other"), list(itertools.product(SPELLINGS, ["plain", "absolute", "path"]))
)
@pytest.mark.parametrize("kind", ["file", "ours"])
def test_an_input_is_never_an_output(here: Path, kind: str, one: str, other: str) -> None:
    """However the two are spelled, with force or without."""
    path = here / "m"
    make(kind, path)
    for force in (False, True):
        with pytest.raises(OutputError, match="is an input"):
            check_outputs({"-o": SPELLINGS[one](path)}, ["s", SPELLINGS[other](path)], force)


def disguised(here: Path, way: str) -> tuple[str, str]:
    """An input and an output that are one thing though their names differ."""
    (here / "m.csv").write_text("numbers")
    match way:
        case "hard link":
            os.link(here / "m.csv", here / "o.csv")
            return "m.csv", "o.csv"
        case "link to the input":
            (here / "o.csv").symlink_to("m.csv")
            return "m.csv", "o.csv"
        case "linked input":
            (here / "i.csv").symlink_to("m.csv")
            return "i.csv", "m.csv"
        case "case":
            return "m.csv", "M.CSV"
        case "form of Unicode":
            (here / "caf\u00e9.csv").write_text("numbers")
            return "caf\u00e9.csv", "cafe\u0301.csv"
        case "worksheet":
            shutil.copy(here / "m.csv", here / "m.xlsx")
            return "m.xlsx#June", "m.xlsx"
        case "function in a file":
            shutil.copy(here / "m.csv", here / "job.py")
            return "job.py:make", "job.py"
        case "beside a matrix.mtx":
            for name in ("matrix.mtx", "barcodes.tsv", "features.tsv"):
                (here / name).write_text("numbers")
            return "matrix.mtx", "features.tsv"
        case "in the folder of a matrix":
            (here / "tenx").mkdir()
            return "tenx", "tenx/report.html"
        case "in a linked folder":
            (here / "tenx").mkdir()
            (here / "other").symlink_to("tenx")
            return "other", "tenx/report.html"
        case "deep in a store":
            (here / "m.zarr" / "X").mkdir(parents=True)
            return "m.zarr", "m.zarr/X/report.html"
        case "folder of the input":
            result_of_ours(here / "mine")
            return "mine/c/0", "mine"
        case "folder above the input":
            return f"{here}/m.csv", ".."
    raise AssertionError(way)


@pytest.mark.parametrize("way", [
    "hard link", "link to the input", "linked input", "case", "form of Unicode", "worksheet",
    "function in a file", "beside a matrix.mtx", "in the folder of a matrix", "in a linked folder",
    "deep in a store", "folder of the input", "folder above the input",
])  # fmt: skip
def test_disguised_inputs(here: Path, way: str) -> None:
    """Links, hard links, case, worksheets, folders: an input stays one, also with force."""
    given, output = disguised(here, way)
    for force in (False, True):
        with pytest.raises(OutputError, match="input"):
            check_outputs({"-o": output}, [given], force)


@pytest.mark.parametrize("one", SPELLINGS)
@pytest.mark.parametrize("kind", ["nothing", "file", "ours"])
def test_two_outputs_of_one_name(here: Path, kind: str, one: str) -> None:
    """Two outputs may not name one file, whether it exists or not."""
    path = here / "r"
    make(kind, path)
    with pytest.raises(OutputError, match=r"--report .* is also named by -o"):
        check_outputs({"-o": "r", "--report": SPELLINGS[one](path), "-x": None}, [], force=True)


def test_two_outputs_that_meet(here: Path) -> None:
    """By case, by a hard link, or one inside the other."""
    with pytest.raises(OutputError, match="also named"):
        check_outputs({"-o": "r.csv", "--report": "R.csv"}, [], force=False)
    (here / "a").write_text("old")
    os.link(here / "a", here / "b")
    with pytest.raises(OutputError, match="also named"):
        check_outputs({"-o": "a", "--report": "b"}, [], force=True)
    result_of_ours(here / "tenx")
    with pytest.raises(OutputError, match="one in the other"):
        check_outputs({"-o": "tenx", "--report": "tenx/page.html"}, [], force=True)
    check_outputs({"-o": "x.csv", "--report": "x.html"}, [], force=False)


def test_stdout_is_for_one(here: Path) -> None:
    """A dash is stdout, at most once; ./- is a file."""
    check_outputs({"-o": "-", "--report": None}, [], force=False)
    check_outputs({"-o": "-", "--report": "./-"}, [], force=False)
    with pytest.raises(OutputError, match="both stdout"):
        check_outputs({"-o": "-", "--report": "-"}, [], force=True)

    assert list(here.iterdir()) == []


@pytest.mark.parametrize(("given", "expected"), [
    ("", "not the name of a file"),
    ("  ", "not the name of a file"),
    ("a\0b", "not the name of a file"),
    (".", "did not write"),
    ("..", "did not write"),
    ("/", "did not write"),
    ("nowhere/r.csv", "not a folder; create it first"),
    ("m.csv/r.csv", "not a folder; create it first"),
    ("a" * 256, "name too long"),
    ("/dev/null", "is a device"),
    ("/dev/full", "is a device"),
    ("/dev/stdout", "is a link|is a"),
    ("/proc/r.csv", "no file can be made in /proc"),
])  # fmt: skip
def test_places_where_nothing_can_be_written(here: Path, given: str, expected: str) -> None:
    """Names that are none, folders that are none, devices; with force or without."""
    (here / "m.csv").write_text("numbers")
    for force in (False, True):
        with pytest.raises(OutputError, match=f"(?i){expected}"):
            check_outputs({"-o": given}, [], force)


def test_a_folder_without_permission(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried before any work, and leaves no trace."""
    check_outputs({"-o": "r.csv"}, [], force=False)

    assert list(here.iterdir()) == []

    def refused(dir: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    with pytest.raises(OutputError, match=r"no file can be made in .*Permission denied"):
        check_outputs({"-o": "r.csv"}, [], force=True)


def test_inputs_that_are_no_files(here: Path) -> None:
    """Names of workloads, missing files and odd names do not matter."""
    check_outputs({"-o": "r.csv"}, ["digits", "no/such.csv", "x.py:f", "", "a\0b"], force=False)


@pytest.mark.parametrize("metadata", ["zarr.json", ".zgroup", ".zarray", None])
def test_a_mark_is_known_again(tmp_path: Path, metadata: str | None) -> None:
    """In either format of Zarr and in plain folders; a copy is ours too, a part of it is not."""
    folder = tmp_path / "result"
    (folder / "c").mkdir(parents=True)
    (folder / "c" / "0").write_text("numbers")
    if metadata:
        (folder / metadata).write_text('{"zarr_format": 2}')
    assert not is_ours(folder)
    mark(folder)
    shutil.copytree(folder, tmp_path / "copy")

    assert is_ours(folder)
    assert is_ours(tmp_path / "copy")
    assert (folder / ".batchsense").exists() == (metadata is None)
    (tmp_path / "copy" / "c" / "0").unlink()
    assert not is_ours(tmp_path / "copy")
    mark(folder)
    assert is_ours(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '"text"', '{"attributes": []}', "\xff"])
def test_a_broken_mark_is_none(tmp_path: Path, content: str) -> None:
    """Whatever stands where the mark should, the folder is not ours."""
    for name in ("zarr.json", ".zattrs", ".batchsense"):
        folder = tmp_path / f"f{name}"
        folder.mkdir()
        (folder / name).write_text(content, encoding="latin-1")

        assert not is_ours(folder)

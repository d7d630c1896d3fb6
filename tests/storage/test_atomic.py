"""Files and folders appear in one piece, or what stood there before stays."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from batchsense.errors import DataError, OutputError
from batchsense.storage import atomic
from batchsense.storage.atomic import write_text, writing
from batchsense.storage.marks import is_ours


def make(
    path: Path, kind: str, content: str, meanwhile: Callable[[], object] | None = None
) -> None:
    """Write a result that is a file or a folder; something may happen meanwhile."""
    with writing(path) as temporary:
        if kind == "file":
            temporary.write_text(content)
        else:
            temporary.mkdir()
            (temporary / "part").write_text(content)
        if meanwhile:
            meanwhile()


def held(path: Path) -> str:
    """What a file, or the part of a folder, holds."""
    return (path / "part" if path.is_dir() else path).read_text()


@pytest.mark.parametrize("before", [None, "file", "folder"])
@pytest.mark.parametrize("after", ["file", "folder"])
def test_a_result_replaces_another(tmp_path: Path, before: str | None, after: str) -> None:
    """A file or folder of ours takes the place of one of ours; nothing else is left."""
    target = tmp_path / "result"
    if before:
        make(target, before, "old")
    make(target, after, "new")

    assert held(target) == "new"
    assert target.is_dir() == (after == "folder")
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(),
                                   RuntimeError("ours")])  # fmt: skip
@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("step", ["write", "sync", "rename", "rename back"])
def test_a_failure_leaves_what_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, kind: str, error: BaseException
) -> None:
    """A full disk, Ctrl-C or an error of ours, at any step: the old result, and nothing beside."""
    target = tmp_path / "result"
    make(target, kind, "old")
    replace = os.replace
    calls = []

    def failing(*_: object) -> None:
        raise error

    def failing_second(one: Path, other: Path) -> None:
        """Fail when the new folder is to take the name that the old one gave up."""
        calls.append(other)
        if len(calls) == (2 if kind == "folder" else 1):
            raise error
        replace(one, other)

    if step == "sync":
        monkeypatch.setattr(os, "fsync", failing)
    elif step == "rename":
        monkeypatch.setattr(atomic.os, "replace", failing)
    elif step == "rename back":
        monkeypatch.setattr(atomic.os, "replace", failing_second)
    with pytest.raises(DataError if isinstance(error, OSError) else type(error)):
        make(target, kind, "half", failing if step == "write" else None)
    monkeypatch.undo()

    assert held(target) == "old"
    assert kind == "file" or is_ours(target)
    assert list(tmp_path.iterdir()) == [target]


def test_a_really_full_disk_is_said_in_one_line(tmp_path: Path) -> None:
    """The limit of the system on the size of a file stands in for a full disk."""
    code = """
import resource, signal, sys
from batchsense.errors import DataError
from batchsense.storage.atomic import write_text
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_text(sys.argv[1], "x" * 5000)
except DataError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "page.html")], capture_output=True, text=True
    )

    assert done.stdout == f"{tmp_path}/page.html: cannot be written: File too large\n"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_other_things_is_never_replaced(tmp_path: Path) -> None:
    """Neither when writing begins nor when somebody puts a file there meanwhile."""
    target = tmp_path / "project"
    target.mkdir()
    (target / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="did not write"):
        make(target, "folder", "new")

    other = tmp_path / "result"
    make(other, "folder", "old")
    with pytest.raises(OutputError, match="did not write"):
        make(other, "folder", "new", lambda: (other / "thesis.txt").write_text("years of work"))

    assert (other / "thesis.txt").read_text() == "years of work"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["project", "result"]


def test_permissions_of_a_replaced_file_stay(tmp_path: Path) -> None:
    """A file that only its owner may read stays one."""
    target = tmp_path / "patients.csv"
    target.write_text("old")
    target.chmod(0o600)
    write_text(target, "new")

    assert target.stat().st_mode & 0o777 == 0o600


def test_the_longest_name_can_be_written(tmp_path: Path) -> None:
    """The temporary name is not longer than the target's."""
    target = tmp_path / ("a" * 251 + ".csv")
    write_text(target, "text")

    assert target.read_text() == "text"


def test_text_that_has_no_encoding_leaves_the_old_file(tmp_path: Path) -> None:
    """A failed write leaves the old file as it was and no temporary file behind."""
    target = tmp_path / "page.html"
    write_text(target, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(target, "\ud800")

    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    """No folder is created."""
    with pytest.raises(DataError, match="cannot be written"):
        write_text(tmp_path / "nowhere" / "page.html", "text")

    assert list(tmp_path.iterdir()) == []

"""What was done so far, so that the same command goes on where an earlier one was interrupted.

All that is unfinished lies in one folder beside the target, ``NAME.partial``: the journal, the
sums and the result. The target appears when it is complete, by a rename.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from batchsense.errors import DataError
from batchsense.experiments.out_of_core.result_array import ResultArray
from batchsense.experiments.out_of_core.runs import SpecimenRun, united
from batchsense.storage.atomic import refuse_irreplaceable, sync_one
from batchsense.storage.seal import (
    BrokenSealError,
    read_arrays,
    sealed,
    unsealed,
    write_arrays,
)

#: Number of the layout of the folder; another one is not taken up.
_LAYOUT = 3
#: How the sums of a pass are named, after its own name.
_SUMS = "-sums.npz"


class Journal:
    """The folder of unfinished work; opened by :func:`journal`.

    Attributes
    ----------
    folder : Path
        The folder.
    resumed : bool
        Whether earlier work was taken up.
    written : list of pair of int
        Specimens whose result is on the disk.
    result : ResultArray or None
        Where the result goes, once there is room for it.
    """

    def __init__(self, folder: Path, stream: IO[str], events: list[dict[str, Any]]) -> None:
        self.folder = folder
        self._stream = stream
        self.resumed = bool(events)
        self.written: list[SpecimenRun] = []
        self.result: ResultArray | None = None
        for event in events:
            self._take(event)

    @property
    def work(self) -> Path:
        """The unfinished file or store; without a suffix, so that no reader takes it for one."""
        return self.folder / "result"

    def note_written(self, run: SpecimenRun) -> None:
        """Note specimens whose result is on the disk."""
        self._append({"event": "written", "low": run[0], "high": run[1]})

    def note_reserved(self, result: ResultArray) -> None:
        """Note that there is room for the result."""
        self._append({"event": "reserved", "slot": asdict(result)})

    def keep_sums(
        self, name: str, sums: Mapping[str, npt.NDArray[Any]], runs: Sequence[SpecimenRun]
    ) -> None:
        """Keep what a pass has added up, and of which runs."""
        spans = np.array(runs, dtype=np.int64).reshape(-1, 2)
        self._keep(f"{name}{_SUMS}", {**sums, "spans": spans})

    def sums(self, name: str) -> tuple[dict[str, npt.NDArray[Any]] | None, list[SpecimenRun]]:
        """What a pass had added up, and of which runs."""
        if not (self.folder / f"{name}{_SUMS}").exists():
            return None, []
        arrays, _ = read_arrays(self.folder / f"{name}{_SUMS}")
        runs = [(int(low), int(high)) for low, high in arrays["spans"]]
        return {key: array for key, array in arrays.items() if key != "spans"}, runs

    def _append(self, event: dict[str, Any]) -> None:
        """Note what is done, and go on from it."""
        _write_line(self._stream, event)
        self._take(event)

    def _take(self, event: dict[str, Any]) -> None:
        if event["event"] == "written":
            self.written = united([*self.written, (event["low"], event["high"])])
        elif event["event"] == "reserved":
            stored = event["slot"]
            self.result = ResultArray(**{**stored, "shape": tuple(stored["shape"])})
            self.written = []

    def _keep(self, name: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        draft = self.folder / f"{name}.new"
        with draft.open("wb") as stream:
            write_arrays(stream, arrays)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(self.folder / name)


@contextlib.contextmanager
def journal(target: Path, fingerprint: str) -> Iterator[Journal]:
    """Open the folder of unfinished work of a target.

    The fingerprint stands for the input, the design and the options. Earlier work is taken up where
    it has the same one and is as it was written, and thrown away otherwise.

    Raises
    ------
    DataError
        Another run writes the same target, or the folder cannot be written or is something else.
    OutputError
        What stands at the target may not be replaced.
    """
    refuse_irreplaceable(target)
    folder = partial_folder(target)
    if os.path.lexists(folder) and not _is_unfinished_work(folder):
        raise DataError("is in the way, and no unfinished work; move it", where=str(folder))
    try:
        folder.mkdir(exist_ok=True)
        stream = (folder / "journal").open("a+", encoding="utf-8", errors="replace")
    except OSError as error:
        raise DataError(f"cannot be written: {error.strerror}", where=str(target)) from None
    with stream:
        _lock(stream, target)
        begun = {"event": "begun", "layout": _LAYOUT, "fingerprint": fingerprint}
        events = _events(stream)
        if events[:1] != [begun] or not _is_whole(folder, events):
            _empty(folder)
            stream.truncate(0)
            _write_line(stream, begun)
            events = []
        yield Journal(folder, stream, events)


def partial_folder(target: Path) -> Path:
    """Name the folder of unfinished work."""
    return target.with_name(f"{target.name}.partial")


def _is_unfinished_work(folder: Path) -> bool:
    """Whether a folder is empty, or its journal was begun by us; all else is the user's."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    names = [path.name for path in folder.iterdir()]
    if "journal" not in names:
        return not names
    with (folder / "journal").open("rb") as stream:
        first = stream.readline(1000)
    begun = b'{"event": "begun"'
    # A run that was killed at once leaves nothing but an empty or cut journal.
    return first.startswith(begun) or (names == ["journal"] and begun.startswith(first))


def _is_whole(folder: Path, events: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the sums are those that were kept, and the result that was begun is still there."""
    try:
        as_kept = all(read_arrays(path)[1] for path in folder.glob(f"*{_SUMS}"))
    except (BrokenSealError, OSError):
        return False
    begun = any(event["event"] == "reserved" for event in events)
    return as_kept and (not begun or (folder / "result").exists())


def publish(found: Journal, target: Path) -> None:
    """Give the complete result its name, and remove the folder of the unfinished work.

    Raises
    ------
    OutputError
        What stands there may not be replaced.
    """
    refuse_irreplaceable(target)
    if target.is_dir():  # a folder cannot be replaced by a rename
        target.rename(found.folder / "replaced")
    found.work.replace(target)
    sync_one(target.parent)
    shutil.rmtree(found.folder)


def _lock(stream: IO[str], target: Path) -> None:
    """Keep other runs out, until this process ends; a killed one keeps nobody out."""
    try:
        import fcntl
    except ImportError:  # not on this system
        return
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise DataError("another run is writing it; wait for its end", where=str(target)) from None


def _events(stream: IO[str]) -> list[dict[str, Any]]:
    """Read the journal up to the first line that is not as it was written, such as a cut one."""
    stream.seek(0)
    events: list[dict[str, Any]] = []
    kept = 0
    for line in stream.read().splitlines(keepends=True):
        try:
            event = unsealed(json.loads(line))
        except (ValueError, RecursionError, BrokenSealError):
            break
        if not line.endswith("\n"):
            break
        kept += len(line.encode())
        events.append(event)
    stream.seek(kept)
    stream.truncate()
    return events


def _write_line(stream: IO[str], event: Mapping[str, Any]) -> None:
    """Write a line that survives a loss of power."""
    stream.write(json.dumps(sealed(event)) + "\n")
    stream.flush()
    os.fsync(stream.fileno())


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name == "journal":
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()

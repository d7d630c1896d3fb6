"""What a sweep has found so far, in a file: an interrupted check goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from batchsense.errors import DataError
from batchsense.storage.atomic import write_text
from batchsense.training.verify.advice import Advice
from batchsense.training.verify.training_run import SweptRun
from batchsense.training.workload.workload import Workload

_KIND = "batchsense verify state"
_FORMAT = f"{_KIND} 1"


class SweepStore:
    """Finished runs, by condition, written to a file after each one.

    Parameters
    ----------
    fingerprint : str
        From :func:`fingerprint_of`: what the runs are about.
    path : path, optional
        The file; nothing is written without one.
    restart : bool
        Ignore what the file holds; it must be the state of some check even then.

    Raises
    ------
    DataError
        The file belongs to another check, or is no such file.

    Examples
    --------
    >>> store = SweepStore("about this")
    >>> store.add(SweptRun(32, 1.0, 0, 120.0, 130, False, 0.4))
    >>> store.find(32, 1.0, 0).steps
    120.0
    """

    def __init__(
        self, fingerprint: str, path: str | Path | None = None, restart: bool = False
    ) -> None:
        self._fingerprint = fingerprint
        self._path = None if path is None else Path(path)
        self._runs: dict[tuple[int, float, int], SweptRun] = {}
        self.step_seconds: dict[int, float] = {}
        if self._path is not None and self._path.exists():
            self._read(self._path, restart)

    @property
    def runs(self) -> tuple[SweptRun, ...]:
        """All finished runs, in the order in which they were made."""
        return tuple(self._runs.values())

    def find(self, batch_size: int, multiplier: float, repeat: int) -> SweptRun | None:
        """Give the run of a condition, if it was made."""
        return self._runs.get((batch_size, multiplier, repeat))

    def add(self, run: SweptRun) -> None:
        """Keep a run and write the file."""
        self._runs[run.batch_size, run.multiplier, run.repeat] = run
        self._write()

    def keep_step_seconds(self, seconds: dict[int, float]) -> None:
        """Keep the measured step times and write the file."""
        self.step_seconds = dict(seconds)
        self._write()

    def _write(self) -> None:
        """Write in one piece: to a temporary name beside the file, then rename."""
        if self._path is None:
            return
        document = {
            "format": _FORMAT,
            "fingerprint": self._fingerprint,
            "step_seconds": {str(size): time for size, time in self.step_seconds.items()},
            "runs": [asdict(run) for run in self._runs.values()],
        }
        write_text(self._path, json.dumps(document, indent=1, allow_nan=False) + "\n")

    def _read(self, path: Path, restart: bool) -> None:
        """Take up what an earlier run of the same check found, if it is wanted."""
        where = str(path)
        try:
            document: Any = json.loads(path.read_text(encoding="utf-8"))
            if restart and document["format"].startswith(_KIND):
                return
            known = document["format"] == _FORMAT
            fingerprint = document["fingerprint"]
            runs = [SweptRun(**run) for run in document["runs"]]
            seconds = {int(size): float(time) for size, time in document["step_seconds"].items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(
                f"not the state of a check ({type(error).__name__}); give another name with "
                "--state",
                where=where,
            ) from None
        if not known or fingerprint != self._fingerprint:
            raise DataError(
                "belongs to the check of another plan, model, loss or seed; --restart replaces it",
                where=where,
            )
        self._runs = {(run.batch_size, run.multiplier, run.repeat): run for run in runs}
        self.step_seconds = seconds


def fingerprint_of(workload: Workload, advice: Advice, seed: int) -> str:
    """Give a hash of what decides a sweep: weights, number of examples, claims and seed.

    Parameters
    ----------
    workload : Workload
        The training job.
    advice : Advice
        What is checked.
    seed : int
        Seed of the sweep.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    digest = hashlib.sha256(f"{advice!r} {seed} {len(workload.examples)}".encode())
    for parameter in workload.model.parameters():
        digest.update(parameter.detach().cpu().double().numpy().tobytes())
    return digest.hexdigest()

"""Passes over a matrix on disk that add something up, taken up where they were interrupted."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from batchsense import __version__
from batchsense.arrays import Matrix
from batchsense.errors import BatchsenseError, DataError
from batchsense.experiments.out_of_core.engine import Assignment, Engine, Sizes
from batchsense.experiments.out_of_core.journal import Journal, journal, partial_folder
from batchsense.experiments.out_of_core.pass_protocol import Pass, State
from batchsense.experiments.out_of_core.runs import SpecimenRun, length, missing, united
from batchsense.progress import Progress
from batchsense.storage.matrices.location import MatrixLocation


@dataclass(slots=True, eq=False)
class Totals:
    """Arrays that are added up; what belongs to single features is zero elsewhere."""

    sums: dict[str, npt.NDArray[Any]]

    def merge(self, other: Totals) -> Totals:
        """Add both."""
        if not self.sums or not other.sums:
            return self if self.sums else other
        return Totals({name: self.sums[name] + other.sums[name] for name in self.sums})

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Give the arrays."""
        return self.sums


@dataclass(slots=True, eq=False)
class Passes:
    """Passes over one matrix, each kept in a journal while it runs and after it was done."""

    engine: Engine
    progress: Progress
    found: Journal | None = None
    sizes: Sizes | None = None
    done: int = 0

    def run(self, inputs: Pass, task: str) -> Any:
        """Do what is left of a pass, known by its inputs, and give what it added up."""
        label = "" if self.found is None else hashlib.sha256(pickle.dumps(inputs)).hexdigest()[:16]
        before, summed = (None, []) if self.found is None else self.found.sums(label)
        left = missing(summed, inputs.total)
        state = inputs.empty() if before is None else inputs.restored(before)

        def keep(state: State, runs: Sequence[SpecimenRun]) -> None:
            if self.found is not None:
                self.found.keep_sums(label, state.arrays(), united([*summed, *runs]))

        count = inputs.total - length(left)

        def done(run: SpecimenRun) -> None:
            nonlocal count
            count += run[1] - run[0]
            self.progress(task, count, inputs.total)

        if left:
            sizes = self.sizes or Sizes(*[self.engine.blocks(inputs)] * 2)
            self.done += inputs.reads(-(-length(left) // sizes.sums.rows))
            state = self.engine.sums(Assignment(inputs, sizes, left, done), state, keep)
            keep(state, [(0, inputs.total)])
        return state


def unfinished_work(fingerprint: str) -> Path:
    """Name what an answer without an output of its own keeps its sums under.

    In the cache of the user: next to a matrix that others own there may be no room.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "batchsense" / fingerprint[:16]


@contextlib.contextmanager
def resumable(fingerprint: str, engine: Engine, progress: Progress) -> Iterator[Passes]:
    """Passes whose sums outlive a kill, and are removed when the answer is there.

    Where nothing can be kept (no cache that can be written, or the same question is being answered
    already), the passes run without that.
    """
    target = unfinished_work(fingerprint)
    with contextlib.ExitStack() as stack:
        found = None
        with contextlib.suppress(OSError, DataError):
            target.parent.mkdir(parents=True, exist_ok=True)
            found = stack.enter_context(journal(target, fingerprint))
        if found is None:
            yield Passes(engine, progress)
            return
        try:
            yield Passes(engine, progress, found)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"interrupted; what is done is kept in {partial_folder(target)}, and the same "
                "command goes on with it; remove the folder to give it up"
            ) from None
        except BatchsenseError:
            shutil.rmtree(found.folder, ignore_errors=True)
            raise
        shutil.rmtree(found.folder, ignore_errors=True)


def fingerprint_of(location: MatrixLocation, asked: Sequence[object], *arrays: Matrix) -> str:
    """Stand for everything that sums depend on: the input, what is asked, and arrays of it."""
    source = Path(location.path)
    files = sorted(source.rglob("*")) if source.is_dir() else [source]
    states = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.is_file()]
    described = [__version__, asdict(location), states, *asked]
    digest = hashlib.sha256(json.dumps(described, default=repr).encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()

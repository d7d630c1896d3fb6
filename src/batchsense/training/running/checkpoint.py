"""Checkpoints: one file in a folder of its own, written whole or not at all."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from batchsense.blame import described
from batchsense.errors import DataError, OutputError, listed
from batchsense.storage.atomic import writing

#: The file; its key ``model`` holds the weights, for ``load_state_dict``.
NAME = "checkpoint.pt"
#: Version of what it holds.
VERSION = 1
# What a process that was killed while it wrote leaves behind.
_LEFT_BEHIND = ".batchsense-*.tmp"


@dataclass(frozen=True, slots=True)
class CheckpointFolder:
    """Where a run keeps what it goes on from."""

    folder: Path  #: Holds the checkpoint and nothing else.

    @classmethod
    def opened(
        cls, folder: str | Path, *, resume: bool, option: str = "--checkpoint"
    ) -> CheckpointFolder:
        """Make the folder of a new run, or find that of an older one; before any work.

        ``option`` names it in messages.

        Raises OutputError: it is a file, holds other things, or holds a checkpoint that would be
        lost.
        Raises DataError: there is no checkpoint to go on from, or the folder cannot be made.
        """
        path = Path(folder)
        if path.exists() and not path.is_dir():
            raise OutputError("is a file; name a folder for checkpoints", path, option)
        kept = cls(path)
        left = set(path.glob(_LEFT_BEHIND)) if path.exists() else set()
        others = sorted(one.name for one in (path.iterdir() if path.exists() else ()))
        others = [name for name in others if name != NAME and path / name not in left]
        if others:
            raise OutputError(
                f"holds other things ({listed(others, 3)}); name a folder of its own, or a new one",
                path,
                option,
            )
        if resume and not kept.file.exists():
            raise DataError(
                "holds no checkpoint to go on from; leave out --resume to begin", where=str(path)
            )
        if not resume and kept.file.exists():
            raise OutputError(
                "holds the checkpoint of an earlier run; --resume goes on from it, another name "
                "begins anew",
                path,
                option,
            )
        try:
            path.mkdir(exist_ok=True)
            for one in left:
                one.unlink(missing_ok=True)
        except OSError as error:
            raise DataError(f"cannot be made: {error.strerror}", where=str(path)) from None
        return kept

    @property
    def file(self) -> Path:
        """The checkpoint itself."""
        return self.folder / NAME

    def write(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint, or leave the older one.

        Raises DataError: it cannot be written.
        """
        with writing(self.file) as temporary:
            torch.save({"version": VERSION, **state}, temporary)

    def read(self) -> dict[str, Any]:
        """Read the checkpoint; nothing in it is run.

        Raises DataError: it is damaged, or of another version.
        """
        try:
            state = torch.load(self.file, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
            raise DataError(
                f"cannot be read as a checkpoint ({described(error)[:200]}); begin anew in another "
                "folder",
                where=str(self.file),
            ) from None
        if not isinstance(state, dict) or state.get("version") != VERSION:
            raise DataError(
                "is no checkpoint of this version of batchsense; begin anew in another folder",
                where=str(self.file),
            )
        return state

"""The JSON that every command prints: one envelope around one published result model.

NaN and infinity never appear: what is undefined is ``null`` beside a reason, because JSON has no
word for them and readers of other languages would fail on ours.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from batchsense import __version__
from batchsense.errors import BatchsenseError, ConfoundedError, UnresolvedError
from batchsense.notes import Note as FoundNote
from batchsense.storage.documents import SCHEMA_VERSION
from batchsense.storage.outputs import file_of
from batchsense.variation.interval import Interval

_ABSENT: Any = object()


class Model(BaseModel):
    """Base of every published model: frozen, no unknown keys, no NaN."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, ser_json_inf_nan="constants"
    )

    @classmethod
    def like(cls, source: object, **others: Any) -> Self:
        """Copy what the source has under the names of the fields, intervals as estimates.

        NaN and infinity become null; ``others`` says what has another name or form there.
        """
        for name in cls.model_fields.keys() - others.keys():
            value = getattr(source, name, _ABSENT)  # once: a property may take seconds
            if isinstance(value, Interval):
                value = Estimate.of(value)
            if value is not _ABSENT:
                others[name] = finite(value) if isinstance(value, float) else value
        return cls(**others)


class Note(Model):
    """One thing the reader must know: a stable code for programs, a sentence for people."""

    code: str = Field(description="Stable identifier, for example 'constant_features'.")
    message: str = Field(description="One or two sentences: what, where, what to do.")
    where: list[str] = Field(
        default_factory=list, description="Rows, columns, terms or layers concerned."
    )

    @classmethod
    def published(cls, notes: Iterable[FoundNote]) -> list[Note]:
        """Turn the notes of a calculation into their JSON form, each once."""
        return [
            cls(code=note.code, message=note.message, where=list(note.where))
            for note in dict.fromkeys(notes)
        ]


class Estimate(Model):
    """A number with its uncertainty; a missing end is explained by ``reason``."""

    estimate: float | None = Field(description="Point estimate; null where undefined.")
    low: float | None = Field(description="Lower end of the interval; null where unbounded.")
    high: float | None = Field(description="Upper end of the interval; null where unbounded.")
    level: float = Field(default=0.95, description="Confidence level of the interval.")
    reason: str | None = Field(default=None, description="Why something is null.")

    @classmethod
    def of(cls, interval: Interval, reason: str | None = None, **more: Any) -> Self:
        """Turn an :class:`~batchsense.variation.interval.Interval` into its JSON form."""
        ends = {name: finite(getattr(interval, name)) for name in ("estimate", "low", "high")}
        if reason is None and None in ends.values():
            missing = [name for name, value in ends.items() if value is None]
            reason = f"the data set no bound for: {', '.join(missing)}"
        return cls(**ends, level=interval.level, reason=reason, **more)

    @classmethod
    def missing(cls, reason: str | None, **more: Any) -> Self:
        """The place of an estimate that cannot be made, and why."""
        return cls(estimate=None, low=None, high=None, reason=reason, **more)


class ResolvedEstimate(Estimate):
    """An estimate that says whether it is precise enough to act on."""

    resolved: bool = Field(description="Whether the interval is narrow enough to act on.")


#: Files beyond this are not read once more for a hash, which takes a second a gigabyte.
LARGEST_HASHED = 1_000_000_000


class FileState(Model):
    """What stands for a file whose content was not hashed."""

    size_bytes: int = Field(description="Its size, or that of all files of a folder.")
    modified: str = Field(description="Time of its last change, of a folder the latest; UTC.")
    reason: str = Field(description="Why it was not hashed.")


class InputFile(Model):
    """A file that was read: by its content, or by size and time where that would cost a pass."""

    path: str
    sha256: str | None = Field(
        description="Of the content (of a folder: of names and contents in order of the names); "
        "null for more than 1 GB, see state."
    )
    state: FileState | None = Field(
        default=None, description="What stands in for the hash; null where there is one."
    )

    @classmethod
    def of(cls, path: str | Path) -> InputFile:
        """Hash the file (or, for a directory store, its files in order of their names).

        A file of more than 1 GB is known by its size and the time of its last change: hashing
        would read it once more, and it may have been made not to be read more than needed.
        """
        root = file_of(path)
        files = sorted(p for p in root.rglob("*") if p.is_file()) if root.is_dir() else [root]
        states = [file.stat() for file in files]
        size = sum(state.st_size for state in states)
        if size > LARGEST_HASHED:
            latest = datetime.fromtimestamp(max(state.st_mtime for state in states), UTC)
            known = FileState(
                size_bytes=size,
                modified=latest.isoformat(timespec="microseconds"),
                reason="larger than 1 GB: a hash would take another pass over it",
            )
            return cls(path=str(path), sha256=None, state=known)
        digest = hashlib.sha256()
        for file in files:
            if root.is_dir():
                digest.update(str(file.relative_to(root)).encode())
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
        return cls(path=str(path), sha256=digest.hexdigest())

    def identity(self) -> str:
        """Give what the file is known by, in words."""
        if self.state is None:
            return f"sha256:{self.sha256}"
        return f"{self.state.size_bytes} bytes, last changed {self.state.modified}"


class Refusal(Model):
    """The answer "no", in a form that a program can act on."""

    kind: Literal["confounded", "unresolved"]
    message: str
    aliased: list[str] = Field(default_factory=list, description="The entangled terms.")
    needed: str | None = Field(default=None, description="What would resolve it.")

    @classmethod
    def of(cls, error: BatchsenseError) -> Refusal:
        """Turn a refusing error into its JSON form."""
        if isinstance(error, ConfoundedError):
            return cls(kind="confounded", message=error.message, aliased=list(error.aliased))
        if isinstance(error, UnresolvedError):
            return cls(kind="unresolved", message=error.message, needed=error.needed)
        raise TypeError(f"{type(error).__name__} is not an answer")


ResultT = TypeVar("ResultT", bound=Model)


class Envelope(Model, Generic[ResultT]):
    """What every command prints with ``--json``: exactly one such document on stdout."""

    schema_version: str = SCHEMA_VERSION
    command: str
    batchsense_version: str = __version__
    inputs: list[InputFile] = Field(default_factory=list)
    seed: int | None = Field(default=None, description="The seed of everything random.")
    asked: dict[str, Any] = Field(
        default_factory=dict, description="What was asked for: every option with its value."
    )
    result: ResultT | None = Field(description="The answer; null only beside a refusal.")
    refusal: Refusal | None = None
    notes: list[Note] = Field(default_factory=list)

    def answer(self) -> ResultT:
        """Give the result; raises ValueError beside a refusal."""
        if self.result is None:
            raise ValueError("there is no result to report")
        return self.result

    def to_json(self) -> str:
        """Serialise; raises ValueError rather than write NaN."""
        return json.dumps(
            self.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False
        )


def finite(value: float | None) -> float | None:
    """Give the number, or None where it is NaN or infinite."""
    if value is None or not math.isfinite(value):
        return None
    return float(value)

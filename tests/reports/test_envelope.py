"""The JSON envelope: one document, no NaN, hashes by content."""

import hashlib
import json
import math
from pathlib import Path

import pytest
from pydantic import ValidationError

from batchsense.errors import ConfoundedError, DataError, UnresolvedError
from batchsense.reports.envelope import Envelope, Estimate, InputFile, Model, Refusal
from batchsense.variation.interval import Interval


class Answer(Model):
    """A result model as small as possible."""

    value: float | None


def test_an_unbounded_end_is_null_beside_its_reason() -> None:
    """JSON has no infinity: the end is null and the reason says which."""
    estimate = Estimate.of(Interval(100.0, 45.0, math.inf))

    assert estimate.high is None
    assert estimate.reason == "the data set no bound for: high"
    assert Estimate.of(Interval(1.0, 0.5, 2.0)).reason is None


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_cannot_enter(value: float) -> None:
    """A model refuses NaN and infinity instead of writing a silent null."""
    with pytest.raises(ValidationError):
        Answer(value=value)


def test_unknown_keys_are_refused() -> None:
    """A misspelt key in a document is an error, not ignored."""
    with pytest.raises(ValidationError):
        Answer.model_validate({"value": 1.0, "vlaue": 2.0})


def test_the_document_round_trips() -> None:
    """What is printed loads again into the same model."""
    envelope = Envelope[Answer](command="plan", seed=3, result=Answer(value=1.5))

    assert Envelope[Answer].model_validate_json(envelope.to_json()) == envelope
    assert json.loads(envelope.to_json())["result"] == {"value": 1.5}


def test_files_and_stores_are_hashed_by_content(tmp_path: Path) -> None:
    """A file's hash is its SHA-256; a folder's changes with any file in it."""
    file = tmp_path / "store" / "a"
    file.parent.mkdir()
    file.write_bytes(b"abc")

    assert InputFile.of(file).sha256 == hashlib.sha256(b"abc").hexdigest()
    before = InputFile.of(file.parent).sha256
    file.write_bytes(b"abd")
    assert InputFile.of(file.parent).sha256 != before


def test_refusals_carry_what_a_program_needs() -> None:
    """The entangled terms and what would help are fields, not only text."""
    confounded = Refusal.of(ConfoundedError("aliased", ["drug = month"]))
    unresolved = Refusal.of(UnresolvedError("noisy", needed="512 examples"))

    assert (confounded.kind, confounded.aliased) == ("confounded", ["drug = month"])
    assert (unresolved.kind, unresolved.needed) == ("unresolved", "512 examples")
    with pytest.raises(TypeError):
        Refusal.of(DataError("bad"))

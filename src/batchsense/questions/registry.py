"""The questions, one line each, in the order in which help and the pages show them.

Each has a room ``batchsense.questions.NAME`` whose module ``request`` holds the class of the
request, ``NameRequest``, and ``ask``; nothing of a room is loaded before it is asked for.
"""

from __future__ import annotations

import functools
import importlib
import typing
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from batchsense.errors import MissingExtraError

if TYPE_CHECKING:
    from batchsense.questions.answer import Answer
    from batchsense.questions.request import Request
    from batchsense.reports.envelope import Model


_NOT_IN_BROWSERS = ("stream",)


@dataclass(frozen=True, slots=True)
class Question:
    """A command, as far as it is known before its room is loaded."""

    command: str
    summary: str

    @property
    def in_browser(self) -> bool:
        """Whether a browser asks it; nobody sends a table larger than memory to a page."""
        return self.command not in _NOT_IN_BROWSERS

    @property
    def _room(self) -> ModuleType:
        return importlib.import_module(f"batchsense.questions.{self.command}.request")

    @property
    def request(self) -> type[Request]:
        """The class of its request."""
        found: type[Request] = getattr(self._room, f"{self.command.capitalize()}Request")
        return found

    @property
    def ask(self) -> Callable[..., Answer[Any]]:
        """Takes a request and a progress listener, gives the answer."""
        ask: Callable[..., Answer[Any]] = self._room.ask

        @functools.wraps(ask)
        def asked(*given: Any, **named: Any) -> Answer[Any]:
            try:
                return ask(*given, **named)
            except ModuleNotFoundError as error:
                lacking = MissingExtraError.of(error, f"Answers of {self.command}")
                raise (lacking or error) from None

        return asked

    @property
    def result(self) -> type[Model]:
        """The published model of its result."""
        answer = typing.get_type_hints(self._room.ask)["return"]
        found: type[Model] = typing.get_args(answer)[0]
        return found


QUESTIONS: dict[str, Question] = {
    command: Question(command, summary)
    for command, summary in {
        "plan": "Measure a training job and recommend its batch size.",
        "noise": "Measure the noise scale of a training job, at its present weights and along a "
        "short run.",
        "verify": "Check a plan: train copies at sizes from an eighth to eight times its advice.",
        "train": "Train a job at its planned batch size, in one process or many, with checkpoints.",
        "temperature": "Measure the heat of a training run, and what cooling it would gain.",
        "collocation": "Solve a differential equation by a network, with as many points a step as "
        "its noise asks.",
        "memory": "Predict the memory of a training step at every batch size, and the largest that "
        "fits.",
        "stream": "Plan how a table larger than memory is streamed, and tell what its order on "
        "disk costs.",
        "probe": "Measure in under a minute what predicts the step of any number of workers.",
        "workers": "Say when one more worker slows a training step down, from a few measured "
        "steps.",
        "audit": "Test whether the average gradient of micro-batches is the gradient of the "
        "minibatch.",
        "diagnose": "Show how much of the variance belongs to the batches, and what is entangled "
        "with them.",
        "correct": "Remove what the batches add, keep the wanted columns, and write the matrix to "
        "FILE.",
        "layout": "Assign specimens to batches or plates so that nothing wanted goes with the "
        "batches.",
        "test": "Test contrasts on every feature, with the batches in the model.",
        "surrogates": "Estimate what varies and is in no column of the sheet: surrogate variables.",
        "gap": "Show how much worse a model is on a batch that it has not seen than shuffled folds "
        "promise.",
        "demo": "Tell the story of batchsense on real handwritten digits, in about a minute.",
    }.items()
}


def json_schema(command: str) -> dict[str, Any]:
    """The JSON Schema of a command's whole document, envelope included."""
    from batchsense.reports.envelope import Envelope

    envelope: Any = Envelope.__class_getitem__(QUESTIONS[command].result)
    schema: dict[str, Any] = envelope.model_json_schema(mode="serialization")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = f"batchsense {command} --json"
    return schema

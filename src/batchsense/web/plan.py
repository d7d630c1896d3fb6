"""The page of ``batchsense plan``, for the built-in training jobs.

A TARGET of the command line may be the user's own code, which is run. Nothing of that kind is ever
taken from a browser: a page of another site could then run code on this machine.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from batchsense.errors import BatchsenseError, ConfoundedError, DataError, UnresolvedError
from batchsense.progress import Progress
from batchsense.web.answers import answer_routes, begin, last_choice
from batchsense.web.form_fields import number_field, text_field, whole_field
from batchsense.web.jobs import Answer, Work, refused
from batchsense.web.pages import page, typed_error_page
from batchsense.web.visitors import Visitors

#: The training jobs that a browser may name.
TARGETS = {
    "digits": "a small network that reads handwritten digits",
    "charlm": "a small transformer that reads Python's own source text",
}
DEFAULT_SECONDS = 30.0
_LONGEST_S = 300.0
_LARGEST = 10_000_000


@dataclass(frozen=True, slots=True)
class PlanChoice:
    """What the form asks for; the names are those of the options."""

    target: str = "digits"
    budget: float = DEFAULT_SECONDS
    today: int | None = None
    tolerance: float | None = None
    confidence: float = 0.95
    memory_gib: float | None = None
    minimum: int = 1
    maximum: int | None = None
    seed: int = 0

    @classmethod
    def of(cls, form: FormData) -> PlanChoice:
        """Read the form.

        Raises
        ------
        DataError
            A target that is not built in, a number that is none, or bounds that contradict.
        """
        target = text_field(form, "target") or "digits"
        if target not in TARGETS:
            raise DataError(
                f"a browser may name only {' and '.join(TARGETS)}; for a training job of your own "
                "use the command line: batchsense plan path.py:function",
                where="Training job",
            )
        confidence = number_field(form, "confidence", "Confidence", 0, 1)
        if confidence == 1:
            raise DataError("must be below 1, for example 0.95", where="Confidence")
        minimum = whole_field(form, "minimum", "Smallest batch size", 1, _LARGEST) or 1
        maximum = whole_field(form, "maximum", "Largest batch size", 1, _LARGEST)
        if maximum is not None and maximum < minimum:
            raise DataError(f"the largest, {maximum}, is below the smallest, {minimum}")
        budget = whole_field(form, "budget", "Seconds", 1, int(_LONGEST_S))
        return cls(
            target=target,
            budget=DEFAULT_SECONDS if budget is None else float(budget),
            today=whole_field(form, "today", "Batch size today", 1, _LARGEST),
            tolerance=number_field(form, "tolerance", "Tolerance", 0, 100),
            confidence=confidence or 0.95,
            memory_gib=number_field(form, "memory", "Memory", 0, 1_000_000),
            minimum=minimum,
            maximum=maximum,
            seed=whole_field(form, "seed", "Seed", 0, 2**32 - 1) or 0,
        )

    def command_line(self) -> str:
        """Give the words that repeat the plan in a terminal.

        Examples
        --------
        >>> PlanChoice(today=32).command_line()
        'batchsense plan digits --budget 30 --today 32 --seed 0'
        """
        options = {
            "budget": f"{self.budget:g}",
            "today": self.today,
            "tolerance": self.tolerance,
            "confidence": None if self.tolerance is None else self.confidence,
            "memory": None if self.memory_gib is None else f"{self.memory_gib:g}GiB",
            "min": self.minimum if self.minimum > 1 else None,
            "max": self.maximum,
            "seed": self.seed,
        }
        words = ["batchsense", "plan", self.target]
        for name, value in options.items():
            words += [] if value is None else [f"--{name}", str(value)]
        return shlex.join(words)


def work_on(choice: PlanChoice) -> Work:
    """Make the calculation of a choice: the same as on the command line."""

    def work(progress: Progress, _: Path) -> Answer:
        from batchsense.questions.plan.report import plan_report
        from batchsense.questions.plan.result import PlanResult
        from batchsense.reports.envelope import Envelope
        from batchsense.training import BUILT_IN, plan_training

        progress("preparing the training job", 0, 1)
        memory = None if choice.memory_gib is None else int(choice.memory_gib * 2**30)
        try:
            measured = plan_training(
                BUILT_IN[choice.target](),
                seconds=choice.budget,
                tolerance=choice.tolerance,
                confidence=choice.confidence,
                memory_bytes=memory,
                minimum=choice.minimum,
                maximum=choice.maximum,
                batch_size_today=choice.today,
                seed=choice.seed,
                progress=progress,
            )
        except (ConfoundedError, UnresolvedError) as error:
            return refused("plan", error, choice.seed)
        result = PlanResult.of(measured, choice.target)
        envelope = Envelope[PlanResult](command="plan", seed=choice.seed, result=result)
        return Answer(envelope.to_json(), plan_report(envelope, choice.command_line()))

    return work


async def form_page(request: Request) -> Response:
    """Show the form, as it was filled in last."""
    chosen = last_choice(request, "plan") or PlanChoice()
    return page("plan_form.html.j2", "plan", targets=TARGETS, chosen=chosen, most=int(_LONGEST_S))


async def run(request: Request) -> Response:
    """Start a plan."""
    visitors: Visitors = request.app.state.visitors
    async with request.form(max_files=0, max_fields=20) as form:
        try:
            choice = PlanChoice.of(form)
        except BatchsenseError as error:
            return typed_error_page(error, "plan", "/plan")
    visitor = visitors.welcome(request)
    return await begin(request, visitor, "plan", work_on(choice), choice)


ROUTES = [
    Route("/plan", form_page),
    Route("/plan/run", run, methods=["POST"]),
    *answer_routes("plan", "/plan"),
]

"""What ``batchsense collocation`` is asked, and how it is answered."""

from __future__ import annotations

import os
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator
from typing_extensions import override

from batchsense.progress import Progress, silent
from batchsense.questions.answer import Answer
from batchsense.questions.collocation.result import CollocationResult
from batchsense.questions.option import Option
from batchsense.questions.request import About, Request

#: The problems that come with the package; no browser may name any other, whose code is run.
BUILT_IN_PROBLEMS = {
    "heat": "heat in a rod that cools",
    "poisson-disc": "Poisson's equation on a disc",
    "poisson-l": "Laplace's equation on an L, singular at its inner corner",
    "burgers": "Burgers' equation, whose wave steepens to a shock",
    "allen-cahn": "Allen–Cahn: phases that separate",
    "helmholtz": "Helmholtz' equation, four half-waves across",
    "wave": "a string that swings in two modes",
    "kovasznay": "a steady flow behind a grid, Navier–Stokes",
    "viscosity": "an unknown viscosity, found from 200 noisy values",
}


class CollocationRequest(Request):
    """Solve a differential equation by a network, with as many points a step as its noise asks.

    Adam begins on few points; Gauss–Newton steps follow on fresh points each time, and on more of
    them once those show that the gain was chance. Each switch is told with its reason, the error
    against a reference where the problem has one. Exit code 1 if --error was not reached.

    \b
    Examples:
      batchsense collocation heat --error 1e-4
      batchsense collocation burgers --budget 120 -o run --report burgers.html
      batchsense collocation problem.py:make --budget 600 -o run --resume
    """

    command: ClassVar[str] = "collocation"
    about: ClassVar[About] = "nothing"

    problem: Annotated[
        str,
        Option(
            "A built-in problem, path.py:function or module:function (it is run).",
            of="target",
            argument=True,
            metavar="PROBLEM",
            label="Problem",
            front=True,
            choices=BUILT_IN_PROBLEMS,
        ),
    ] = "heat"
    budget: Annotated[
        float,
        Field(gt=0, le=1e6),
        Option("Processor time, also before --resume.", metavar="SECONDS", front=True),
    ] = 60.0
    error: Annotated[
        float | None,
        Field(gt=0, lt=1),
        Option("Stop at this relative L2 error against the reference.", front=True),
    ] = None
    steps: Annotated[
        int | None, Field(ge=1), Option("Stop after so many, whatever the time.", metavar="N")
    ] = None
    output: Annotated[
        str | None,
        Option(
            "Folder that keeps the weights and what a run goes on from.",
            short="-o",
            metavar="DIR",
            of="machine",
        ),
    ] = None
    resume: Annotated[bool, Option("Go on from the checkpoint in -o.", of="machine")] = False

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.resume and self.output is None:
            raise ValueError("--resume needs -o: the folder to go on from")
        return self

    @override
    def kept_paths(self) -> dict[str, str]:
        return {} if self.output is None else {"--output": self.output}


def ask(request: CollocationRequest, progress: Progress = silent) -> Answer[CollocationResult]:
    """Solve the problem.

    Raises RequestError: one of several processes asks.
    Raises DataError: the problem or the checkpoint cannot be used, or --error was given without a
    reference.
    Raises KeyboardInterrupt: Ctrl-C or SIGTERM came; with words about the checkpoint.
    """
    from batchsense.errors import DataError, RequestError
    from batchsense.questions.collocation.report import collocation_report
    from batchsense.questions.collocation.text import collocation_text, farewell
    from batchsense.training.collocation.problems import PROBLEMS, CollocationProblem
    from batchsense.training.collocation.solving import Ends, solve
    from batchsense.training.running import CheckpointFolder
    from batchsense.training.running.signals import stop_on_signal
    from batchsense.training.workload import load_named

    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise RequestError(
            "collocation solves in one process, and several would write to one folder; start it "
            "without torchrun (WORLD_SIZE is set)"
        )
    problem = load_named(
        request.problem, PROBLEMS, CollocationProblem, "problem", CollocationProblem.of
    )
    if request.error is not None and problem.reference is None:
        raise DataError("has no reference to measure --error by", where=request.problem)
    kept = None
    if request.output is not None:
        kept = CheckpointFolder.opened(request.output, resume=request.resume, option="-o")
    seconds = None if request.steps is not None else request.budget
    with stop_on_signal(twice_ends=True) as stop:
        report = solve(
            problem,
            Ends(seconds, request.error, request.steps),
            seed=request.seed,
            kept=kept,
            resume=request.resume,
            stop=lambda: stop.asked,
            progress=progress,
        )
    if report.stopped_by == "signal":
        raise KeyboardInterrupt(farewell(request, report.steps))
    result = CollocationResult.of(problem, report, request.problem, request.error)
    envelope = request.envelope(result)
    return Answer(
        envelope,
        lambda table: collocation_text(envelope, table),
        lambda: collocation_report(envelope, problem, report, request.words()),
        no=request.error is not None and report.stopped_by != "error",
    )

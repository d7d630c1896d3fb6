"""``batchsense plan``: which batch size, measured on the user's own job and machine."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from batchsense.cli.answer import check_output, give, refusals, write_text_atomically
from batchsense.cli.console import progress_on_stderr, say, table
from batchsense.errors import DataError


def plan(
    target: Annotated[
        str,
        typer.Argument(help="digits, charlm, path.py:function or module:function (it is run)."),
    ] = "digits",
    budget: Annotated[
        float, typer.Option(metavar="SECONDS", min=1, help="About how long to measure.")
    ] = 30.0,
    today: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Batch size that the learning rate belongs to."),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(help="Wanted precision of the gradient: error over its length, e.g. 0.5."),
    ] = None,
    confidence: Annotated[
        float, typer.Option(help="How often the tolerance must hold, between 0 and 1.")
    ] = 0.95,
    memory: Annotated[
        str | None,
        typer.Option(metavar="BYTES", help="Memory of the process, e.g. 8GiB; else what is free."),
    ] = None,
    minimum: Annotated[
        int, typer.Option("--min", metavar="N", min=1, help="Smallest batch size to advise.")
    ] = 1,
    maximum: Annotated[
        int | None, typer.Option("--max", metavar="N", min=1, help="Largest one.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every draw.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help="Also write the JSON document here."),
    ] = None,
    report: Annotated[
        str | None, typer.Option(metavar="FILE.html", help="Also write an HTML report here.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
) -> None:
    """Measure a training job and recommend its batch size.

    Times real steps, traces memory and trains a copy of the model for a moment to see how much its
    gradients differ from example to example. The model itself is not changed.

    \b
    Examples:
      batchsense plan
      batchsense plan train.py:workload --today 64 --budget 60
      batchsense plan charlm --memory 8GiB --report plan.html -o plan.json
    """
    check_output(output, force)
    check_output(report, force)
    if not 0 < confidence < 1:
        raise typer.BadParameter("--confidence must lie between 0 and 1, for example 0.95")
    if tolerance is not None and not tolerance > 0:
        raise typer.BadParameter("--tolerance must be positive, for example 0.5")
    if maximum is not None and maximum < minimum:
        raise typer.BadParameter(f"--max {maximum} is below --min {minimum}")
    with refusals("plan", as_json, seed):
        from batchsense.questions.plan.result import PlanResult
        from batchsense.questions.plan.text import plan_text
        from batchsense.reports.envelope import Envelope
        from batchsense.training import load_target, parse_bytes, plan_training

        try:
            memory_bytes = None if memory is None else parse_bytes(memory)
        except DataError as error:
            raise typer.BadParameter(f"--memory: {error.message}") from None
        workload = load_target(target)
        with progress_on_stderr() as progress:
            measured = plan_training(
                workload,
                seconds=budget,
                tolerance=tolerance,
                confidence=confidence,
                memory_bytes=memory_bytes,
                minimum=minimum,
                maximum=maximum,
                batch_size_today=today,
                seed=seed,
                progress=progress,
            )
    result = PlanResult.of(measured, target)
    envelope = Envelope[PlanResult](command="plan", seed=seed, result=result)
    if report is not None:
        from batchsense.questions.plan.report import plan_report

        words = _words(
            target,
            budget=budget,
            today=today,
            tolerance=tolerance,
            confidence=confidence if tolerance is not None else None,
            memory=memory,
            min=minimum if minimum > 1 else None,
            max=maximum,
            seed=seed,
        )
        write_text_atomically(report, plan_report(envelope, words))
        say(f"report: {report}")
    if output is not None and output != "-":
        write_text_atomically(output, envelope.to_json() + "\n")
        say(f"plan: {output}")
    give(envelope, as_json or output == "-", lambda: plan_text(result, table))


def _words(target: str, **options: float | str | None) -> str:
    """Give the words that repeat this plan."""
    words = ["batchsense", "plan", target]
    for name, value in options.items():
        if value is not None:
            words += [f"--{name}", f"{value:g}" if isinstance(value, float) else str(value)]
    return shlex.join(words)

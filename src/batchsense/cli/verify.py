"""``batchsense verify``: is the advice of a plan right? A short sweep on the user's own job."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from batchsense.cli.answer import EXIT_NO, check_output, give, refusals, write_text_atomically
from batchsense.cli.console import progress_on_stderr, say, table
from batchsense.errors import DataError

if TYPE_CHECKING:
    from batchsense.questions.plan.result import PlanResult
    from batchsense.training import Workload


def verify(
    target: Annotated[
        str,
        typer.Argument(help="The plan's TARGET: digits, charlm, path.py:function (it is run)."),
    ],
    plan: Annotated[
        str,
        typer.Option(
            metavar="FILE", help="What `batchsense plan -o FILE` wrote.", show_default=False
        ),
    ] = ...,  # type: ignore[assignment]  # typer's sign of a required option
    budget: Annotated[
        float, typer.Option(metavar="SECONDS", min=1, help="Stop after about so long.")
    ] = 300.0,
    allowed: Annotated[
        float, typer.Option(help="Training time that the advice may lose, as a fraction.")
    ] = 0.15,
    loss: Annotated[
        float | None,
        typer.Option(help="Loss to train to; by default where the plan's short run ended."),
    ] = None,
    state: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Where finished runs are kept; by default beside the plan."
        ),
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Forget finished runs and begin anew.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the examples' orders.")] = 0,
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
    """Check a plan: train copies at sizes from an eighth to eight times its advice.

    All copies start from the same weights and train to the same loss, with learning rates searched
    around the plan's rule. Finished runs are kept, so after Ctrl-C or at the end of the budget the
    same command goes on. Exit code 1 if the advice is refuted, or too little was seen to tell.

    \b
    Examples:
      batchsense plan digits -o plan.json
      batchsense verify digits --plan plan.json --budget 60
      batchsense verify train.py:workload --plan plan.json --budget 900 --json
    """
    check_output(output, force)
    check_output(report, force)
    if not allowed > 0:
        raise typer.BadParameter("--allowed must be positive, for example 0.15")
    kept = str(Path(plan).with_suffix(".verify.json")) if state is None else state
    with refusals("verify", as_json, seed, [plan]):
        from batchsense.questions.verify.result import VerifyResult, advice_of
        from batchsense.questions.verify.text import verify_notes, verify_text
        from batchsense.reports.envelope import Envelope, InputFile
        from batchsense.training import load_target
        from batchsense.training.verify import verify_plan

        planned = _read_plan(plan)
        workload = load_target(target)
        _check_same_job(workload, planned, plan)
        try:
            with progress_on_stderr() as progress:
                checked = verify_plan(
                    workload,
                    advice_of(planned, loss),
                    budget=budget,
                    allowed=allowed,
                    state=kept,
                    restart=restart,
                    seed=seed,
                    progress=progress,
                )
        except KeyboardInterrupt:
            say(f"stopped; finished runs are kept in {kept}: the same command goes on from there")
            raise
    result = VerifyResult.of(checked, planned, target, budget)
    envelope = Envelope[VerifyResult](
        command="verify",
        inputs=[InputFile.of(plan)],
        seed=seed,
        result=result,
        notes=verify_notes(result, closest_target=loss is None),
    )
    if report is not None:
        from batchsense.questions.verify.report import verify_report

        write_text_atomically(report, verify_report(envelope, _words(target, plan, budget)))
        say(f"report: {report}")
    if output is not None and output != "-":
        write_text_atomically(output, envelope.to_json() + "\n")
        say(f"verdict: {output}")
    give(envelope, as_json or output == "-", lambda: verify_text(envelope, table))
    if result.verdict == "refuted":
        raise typer.Exit(EXIT_NO)


def _words(target: str, plan: str, budget: float) -> str:
    """Give the words that repeat this check."""
    return shlex.join(["batchsense", "verify", target, "--plan", plan, "--budget", f"{budget:g}"])


def _read_plan(path: str) -> PlanResult:
    """Read the plan out of the document that `plan -o` wrote."""
    from pydantic import ValidationError

    from batchsense.questions.plan.result import PlanResult

    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=path) from None
    except ValueError:
        raise DataError(
            "not a JSON document; write one with `batchsense plan TARGET -o FILE`", where=path
        ) from None
    if not isinstance(document, dict) or document.get("command") != "plan":
        raise DataError("not a plan; write one with `batchsense plan TARGET -o FILE`", where=path)
    if document.get("result") is None:
        raise DataError("holds a refusal, not a plan: there is no advice to check", where=path)
    try:
        return PlanResult.model_validate(document["result"])
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise DataError(
            f"not a plan of this version of batchsense ({place}); plan again", where=path
        ) from None


def _check_same_job(workload: Workload, plan: PlanResult, path: str) -> None:
    """Refuse a plan that was made for another job."""
    from batchsense.training import trainable

    count = len(workload.examples)
    size = sum(parameter.numel() for parameter in trainable(workload.model))
    if (count, size) != (plan.examples, plan.parameters):
        raise DataError(
            f"made for {plan.target} with {plan.parameters:,} parameters and {plan.examples:,} "
            f"examples, but TARGET has {size:,} and {count:,}",
            where=path,
        )

"""``batchsense audit``: may this loss be mini-batched, accumulated, distributed."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from batchsense.cli.answer import EXIT_NO, check_output, give, refusals, write_text_atomically
from batchsense.cli.console import progress_on_stderr, say, table


def audit(
    target: Annotated[
        str,
        typer.Argument(help="digits, charlm, path.py:function or module:function (it is run)."),
    ] = "digits",
    micro_batch: Annotated[
        int, typer.Option(metavar="M", min=1, help="Examples per micro-batch.")
    ] = 8,
    minibatch: Annotated[
        int, typer.Option(metavar="N", min=4, help="Examples per minibatch, at least 4·M.")
    ] = 64,
    partitions: Annotated[
        int, typer.Option(min=6, help="Random partitions for kind and bias.")
    ] = 24,
    processes: Annotated[
        int, typer.Option(metavar="N", min=2, help="Processes for the prediction of DDP.")
    ] = 2,
    bias_tolerance: Annotated[
        float, typer.Option(help="Relative bias that is called safe where none is detected.")
    ] = 0.01,
    alpha: Annotated[float, typer.Option(help="Level of the test for a bias.")] = 0.01,
    precision: Annotated[str, typer.Option(help="float64, float32 or bfloat16.")] = "float64",
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
    """Test whether the average gradient of micro-batches is the gradient of the minibatch.

    Runs the loss in float64 on a copy of the model, over a minibatch and its parts. Says what kind
    of loss it is, what it divides by, which module or line lets examples meet, what accumulation,
    DDP and an uneven last micro-batch make of it, and how to repair it. Exit code 1 unless it is
    safe.

    \b
    Examples:
      batchsense audit
      batchsense audit train.py:workload --micro-batch 4 --minibatch 64
      batchsense audit train.py:workload --json --report audit.html
    """
    check_output(output, force)
    check_output(report, force)
    if precision not in ("float64", "float32", "bfloat16"):
        raise typer.BadParameter("--precision must be float64, float32 or bfloat16")
    if not 0 < alpha < 0.5:
        raise typer.BadParameter("--alpha must lie between 0 and 0.5, for example 0.01")
    if not bias_tolerance > 0:
        raise typer.BadParameter("--bias-tolerance must be positive, for example 0.01")
    if minibatch < 4 * micro_batch:
        raise typer.BadParameter(
            f"--minibatch {minibatch} holds fewer than four micro-batches of {micro_batch}"
        )
    with refusals("audit", as_json, seed):
        from batchsense.questions.audit.result import AuditResult
        from batchsense.questions.audit.text import audit_text
        from batchsense.reports.envelope import Envelope, Note
        from batchsense.training import load_target
        from batchsense.training.separability import audit as audit_workload

        workload = load_target(target)
        with progress_on_stderr() as progress:
            found = audit_workload(
                workload,
                micro_batch=micro_batch,
                batch_size=minibatch,
                partitions=partitions,
                alpha=alpha,
                bias_tolerance=bias_tolerance,
                world_size=processes,
                precision=precision,
                seed=seed,
                progress=progress,
            )
    envelope = Envelope[AuditResult](
        command="audit",
        seed=seed,
        result=AuditResult.of(found, target),
        notes=[Note(code="audit_limit", message=note) for note in found.notes],
    )
    if report is not None:
        from batchsense.questions.audit.report import audit_report

        words = ["batchsense", "audit", target, "--micro-batch", str(micro_batch)]
        words += ["--minibatch", str(minibatch), "--seed", str(seed)]
        write_text_atomically(report, audit_report(envelope, shlex.join(words)))
        say(f"report: {report}")
    if output is not None and output != "-":
        write_text_atomically(output, envelope.to_json() + "\n")
        say(f"audit: {output}")
    give(envelope, as_json or output == "-", lambda: audit_text(envelope, table))
    if not found.safe:
        raise typer.Exit(EXIT_NO)

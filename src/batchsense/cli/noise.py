"""``batchsense noise``: how much gradients differ between examples, with an interval."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from batchsense.cli.answer import EXIT_NO, check_output, give, refusals, write_text_atomically
from batchsense.cli.console import progress_on_stderr, say, table


def noise(
    target: Annotated[
        str,
        typer.Argument(help="digits, charlm, path.py:function or module:function (it is run)."),
    ] = "digits",
    examples: Annotated[
        int, typer.Option(metavar="N", min=8, help="Most examples to draw.")
    ] = 2048,
    micro_batches: Annotated[
        int, typer.Option(metavar="K", min=8, help="Into how many parts to split them.")
    ] = 32,
    per_example: Annotated[
        bool | None,
        typer.Option(
            "--per-example/--no-per-example",
            help="Norms of single examples, or the spread of micro-batches; else what suits.",
        ),
    ] = None,
    steps: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, help="Steps of the run for the critical batch size; 0 for none."
        ),
    ] = 200,
    budget: Annotated[
        float, typer.Option(metavar="SECONDS", min=1, help="Time after which the run ends early.")
    ] = 60.0,
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
    """Measure the noise scale of a training job, at its present weights and along a short run.

    The noise scale is the batch size at which the error of the averaged gradient is as long as the
    gradient. Says which layers the noise comes from, and how many more examples would be needed
    where the answer is not resolved (exit code 1). The model is not changed.

    \b
    Examples:
      batchsense noise
      batchsense noise train.py:workload --examples 8192 --seed 1
      batchsense noise charlm --steps 0 --json
    """
    check_output(output, force)
    check_output(report, force)
    if 0 < steps < 16:
        raise typer.BadParameter("--steps must be 16 or more, or 0 for no run")
    with refusals("noise", as_json, seed):
        from batchsense.questions.noise.result import GradientNoiseResult
        from batchsense.questions.noise.text import needed, noise_text
        from batchsense.reports.envelope import Envelope, Note, Refusal
        from batchsense.training import load_target, survey_gradient_noise

        workload = load_target(target)
        with progress_on_stderr() as progress:
            survey = survey_gradient_noise(
                workload,
                examples,
                micro_batches,
                per_example=per_example,
                run_steps=steps,
                run_seconds=budget,
                seed=seed,
                progress=progress,
            )
    result = GradientNoiseResult.of(survey, target, workload.batch_size)
    refusal = None
    if not result.noise_scale.resolved:
        refusal = Refusal(
            kind="unresolved",
            message="the noise scale is not resolved: its interval is wider than a factor of four",
            needed=needed(result),
        )
    envelope = Envelope[GradientNoiseResult](
        command="noise",
        seed=seed,
        result=result,
        refusal=refusal,
        notes=[Note(code=c.code, message=c.message) for c in survey.cautions],
    )
    if report is not None:
        from batchsense.questions.noise.report import noise_report

        words = ["batchsense", "noise", target, "--examples", str(examples)]
        words += ["--micro-batches", str(micro_batches), "--steps", str(steps)]
        words += ["--seed", str(seed)]
        if per_example is not None:
            words.append("--per-example" if per_example else "--no-per-example")
        write_text_atomically(report, noise_report(envelope, shlex.join(words)))
        say(f"report: {report}")
    if output is not None and output != "-":
        write_text_atomically(output, envelope.to_json() + "\n")
        say(f"noise: {output}")
    give(envelope, as_json or output == "-", lambda: noise_text(envelope, table))
    if refusal is not None:
        raise typer.Exit(EXIT_NO)

"""``batchsense demo``: the story of both kinds of batches on one real data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from batchsense.cli.answer import check_output, give, refusals
from batchsense.cli.console import progress_on_stderr, say, write_answer

REPORT = "demo-report.html"


def demo(
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.html",
            help=f"Where the report with the figures goes; {REPORT} if left out; - for stdout.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing report.")] = False,
) -> None:
    """Tell the story of batchsense on real handwritten digits, in about a minute.

    The variance of the gradient, the smallest batch for a tolerance, a plan; then the hidden batch
    in the same data: what it does to a classifier, to a comparison, and when no correction helps.
    Prints an account and writes one HTML report with figures. A report of the default name that
    exists already is kept unless --force is given; the account is printed all the same.

    \b
    Examples:
      batchsense demo
      batchsense demo -o story.html --force
      batchsense demo --json > story.json
    """
    if output == "-" and as_json:
        raise typer.BadParameter("-o - prints the report, --json a document; choose one")
    kept = output is None and not force and Path(REPORT).exists()
    target = None if kept else output or REPORT
    check_output(target, force)
    with refusals("demo", as_json, seed):
        from batchsense.questions.demo.report import demo_report
        from batchsense.questions.demo.result import DemoResult
        from batchsense.questions.demo.story import tell
        from batchsense.questions.demo.text import demo_text
        from batchsense.reports.envelope import Envelope
        from batchsense.reports.page import write_report

        with progress_on_stderr() as progress:
            result = tell(seed, progress=progress)
    envelope = Envelope[DemoResult](command="demo", seed=seed, result=result)
    words = f"batchsense demo --seed {seed}"
    if target == "-":
        write_answer(demo_report(envelope, words))
        say(demo_text(result))
        return
    if target is not None:
        write_report(target, demo_report(envelope, words), force)
    give(envelope, as_json, lambda: demo_text(result, target))
    if kept:
        say(f"{REPORT} exists and was kept; --force replaces it, -o writes another one")

"""What ``batchsense demo`` is asked, and how it is answered."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from batchsense.progress import Progress, silent
from batchsense.questions.answer import Answer, Product
from batchsense.questions.demo.result import DemoResult
from batchsense.questions.option import Option
from batchsense.questions.request import About, Request

REPORT = "demo-report.html"


class DemoRequest(Request):
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

    command: ClassVar[str] = "demo"
    about: ClassVar[About] = "nothing"
    #: Its page is what --output writes.
    has_page: ClassVar[bool] = False

    output: Annotated[
        str | None,
        Option(
            f"Where the report with the figures goes; {REPORT} if left out; - for stdout.",
            short="-o",
            metavar="FILE.html",
            of="output",
        ),
    ] = None


def ask(request: DemoRequest, progress: Progress = silent) -> Answer[DemoResult]:
    """Tell the story.

    Raises
    ------
    MissingExtraError
        One half of the package is not installed.
    """
    from batchsense.questions.demo.report import demo_report
    from batchsense.questions.demo.story import tell
    from batchsense.questions.demo.text import demo_text
    from batchsense.storage.atomic import write_text

    envelope = request.envelope(tell(request.seed, progress=progress))

    def page() -> str:
        return demo_report(envelope, request.words())

    written: list[str] = []

    def write(path: Path) -> None:
        write_text(path, page())
        written.append(str(path))

    return Answer(
        envelope,
        lambda _: demo_text(envelope.answer(), next(iter(written), None)),
        page,
        (Product("output", "report", write, page, REPORT),),
    )

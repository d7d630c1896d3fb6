"""What ``batchsense verify`` is asked, and how it is answered."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field
from typing_extensions import override

from batchsense.progress import Progress, silent
from batchsense.questions.answer import Answer, document_product
from batchsense.questions.option import Option
from batchsense.questions.plan.document import check_same_job, read_plan
from batchsense.questions.request import About
from batchsense.questions.training_request import TargetField, TrainingRequest
from batchsense.questions.verify.result import VerifyResult


class VerifyRequest(TrainingRequest):
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

    command: ClassVar[str] = "verify"
    about: ClassVar[About] = "plan"

    target: TargetField
    plan: Annotated[
        str,
        Option("What `batchsense plan -o FILE` wrote.", metavar="FILE", of="document", front=True),
    ]
    budget: Annotated[
        float,
        Field(ge=1),
        Option("Stop after about so long.", metavar="SECONDS", label="Seconds", front=True),
    ] = 300.0
    allowed: Annotated[
        float,
        Field(gt=0),
        Option("Training time that the advice may lose, as a fraction."),
    ] = 0.15
    loss: Annotated[
        float | None,
        Option("Loss to train to; by default where the plan's short run ended."),
    ] = None
    state: Annotated[
        str | None,
        Option(
            "Where finished runs are kept; by default PLAN.verify.json beside the plan.",
            metavar="FILE",
            of="machine",
        ),
    ] = None
    restart: Annotated[bool, Option("Forget finished runs and begin anew.")] = False

    @override
    def kept_paths(self) -> dict[str, str]:
        return {"--state": self.state or str(Path(self.plan).with_suffix(".verify.json"))}


def ask(request: VerifyRequest, progress: Progress = silent) -> Answer[VerifyResult]:
    """Train copies around the advice of a plan, and judge it.

    Raises DataError: the plan cannot be read or was made for another job, or the job cannot be
    trained.
    Raises KeyboardInterrupt: with words about the finished runs, which are kept.
    """
    from batchsense.questions.verify.report import verify_report
    from batchsense.questions.verify.result import advice_of
    from batchsense.questions.verify.text import verify_notes, verify_text
    from batchsense.training.verify import StateFile, verify_plan

    planned = read_plan(request.plan)
    workload = request.workload(progress)
    check_same_job(workload, planned, request.plan)
    kept = request.kept_paths()["--state"]
    try:
        checked = verify_plan(
            workload,
            advice_of(planned, request.loss),
            budget=request.budget,
            allowed=request.allowed,
            state=StateFile(kept, request.restart),
            seed=request.seed,
            progress=progress,
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped; finished runs are kept in {kept}: the same command goes on from there"
        ) from None
    result = VerifyResult.of(checked, planned, request.target, request.budget)
    notes = list(verify_notes(result, closest_target=request.loss is None))
    envelope = request.envelope(result, notes)
    return Answer(
        envelope,
        lambda table: verify_text(envelope, table),
        lambda: verify_report(envelope, request.words()),
        (document_product(envelope, "verdict"),),
        no=result.verdict == "refuted",
    )

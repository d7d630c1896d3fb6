"""What ``batchsense probe`` is asked, and how it is answered."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, field_validator

from batchsense.progress import Progress, silent
from batchsense.questions.answer import Answer, document_product
from batchsense.questions.option import Option
from batchsense.questions.probe.result import ProbeResult
from batchsense.questions.quantities import whole_numbers
from batchsense.questions.training_request import TrainingRequest


class ProbeRequest(TrainingRequest):
    """Measure in under a minute what predicts the step of any number of workers.

    Times local steps at two micro-batches, the real buckets of gradients, and their exchange at all
    workers and at some of them. Start it with torchrun, on the machines and over the network that
    will train; alone it measures the local steps only.

    \b
    Examples:
      torchrun --nproc_per_node 4 -m batchsense probe train.py:workload -o probe.json
      batchsense probe digits --micro-batches 16,128
    """

    command: ClassVar[str] = "probe"
    #: `batchsense workers` draws what follows from it.
    has_page: ClassVar[bool] = False

    micro_batches: Annotated[
        str | None,
        Option(
            "Two numbers of examples of one worker, e.g. 16,128; else today's and an eighth of it.",
            metavar="N,N",
        ),
    ] = None
    budget: Annotated[
        float,
        Field(ge=1),
        Option("About how long to measure.", metavar="SECONDS", label="Seconds", front=True),
    ] = 30.0
    timeout: Annotated[
        float,
        Field(ge=1),
        Option(
            "How long to wait for another worker that does not answer.",
            metavar="SECONDS",
            of="machine",
        ),
    ] = 60.0

    @field_validator("micro_batches")
    @classmethod
    def _are_two(cls, sizes: str | None) -> str | None:
        try:
            if sizes is not None and len({*whole_numbers(sizes, "16,128")}) != 2:
                raise ValueError("write two different sizes, such as 16,128")
        except ValueError as error:
            raise ValueError(f"--micro-batches {sizes}: {error}") from None
        return sizes


def ask(request: ProbeRequest, progress: Progress = silent) -> Answer[ProbeResult]:
    """Probe, together with the other workers that torchrun started; the first one tells.

    Raises DataError: the training job cannot be made or run, workers have different models, or one
    of them does not answer.
    """
    from batchsense.questions.probe.text import probe_notes, probe_text
    from batchsense.training.running.ranks import joined_ranks
    from batchsense.training.workers.from_probe import checked_seconds, fit_white_box
    from batchsense.training.workers.probing.measuring import measure_probe

    with joined_ranks(timeout_seconds=request.timeout) as ranks:
        workload = ranks.agreed(lambda: request.workload(ranks.on_first(progress)))
        probe = measure_probe(
            workload,
            ranks,
            () if request.micro_batches is None else whole_numbers(request.micro_batches),
            target=request.target,
            seconds=request.budget,
            seed=request.seed,
            progress=progress,
        )
    box = fit_white_box(probe, seed=request.seed)
    result = ProbeResult.of(box, checked_seconds(box))
    envelope = request.envelope(result, probe_notes(result))
    return Answer(
        envelope,
        lambda table: probe_text(envelope, table),
        products=(document_product(envelope, "probe"),),
        told=ranks.is_first,
    )

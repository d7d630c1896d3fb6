"""What ``batchsense stream`` is asked, and how it is answered."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from batchsense.machine_memory import parse_bytes
from batchsense.progress import Progress, silent
from batchsense.questions.answer import Answer, document_product
from batchsense.questions.option import Option
from batchsense.questions.quantities import is_an_amount
from batchsense.questions.request import About, Request
from batchsense.questions.stream.result import StreamResult


class StreamRequest(Request):
    """Plan how a table larger than memory is streamed, and tell what its order on disk costs.

    Reads random blocks of FILE (.npy, .parquet, .zarr, .h5ad) to see how alike rows are that lie
    together, and chooses blocks and pool for training on it. Exit code 1 if minibatches vary more
    than 1.05 times as much as independent rows.

    \b
    Examples:
      batchsense stream rows.parquet --batch-size 256 --memory 256MB
      batchsense stream cells.h5ad --by cell_type --memory 1GiB -o stream.json
      batchsense stream sorted.npy --memory 64MB --shuffle-to shuffled.npy
    """

    command: ClassVar[str] = "stream"
    about: ClassVar[About] = "nothing"

    file: Annotated[
        str,
        Option(
            "The table: .npy, .parquet (or a folder of parts), .zarr or .h5ad.",
            of="matrix",
            argument=True,
            metavar="FILE",
        ),
    ]
    batch_size: Annotated[
        int, Field(ge=1), Option("Rows of a minibatch.", metavar="N", front=True)
    ] = 256
    memory: Annotated[
        str,
        Option(
            "Memory for the stream beside the program, all loaders together.",
            metavar="BYTES",
            front=True,
        ),
    ] = "256MB"
    by: Annotated[
        str | None,
        Option(
            "Only this column counts, e.g. the label (in a plain array its number from 0); else "
            "the one most alike within blocks.",
            metavar="COLUMN",
        ),
    ] = None
    columns: Annotated[
        tuple[str, ...],
        Option(
            "Columns that are read (repeat it); all by default, of AnnData X.",
            name="column",
            metavar="COLUMN",
        ),
    ] = ()
    loaders: Annotated[
        int,
        Field(ge=0, le=1024),
        Option("Loader processes that share the memory.", metavar="N"),
    ] = 0
    shuffle_to: Annotated[
        str | None,
        Option(
            "Also write the rows in random order here, and plan for that file.",
            metavar="OUT",
            of="output",
        ),
    ] = None
    output: Annotated[
        str | None,
        Option("Also write the JSON document here.", short="-o", metavar="FILE", of="output"),
    ] = None

    _memory_is_an_amount = field_validator("memory")(is_an_amount)

    @model_validator(mode="after")
    def _shuffles_to_a_file(self) -> Self:
        if self.shuffle_to == "-":
            raise ValueError("--shuffle-to - is not offered; name a file for the rows")
        return self


def ask(request: StreamRequest, progress: Progress = silent) -> Answer[StreamResult]:
    """Plan the stream, after a shuffle of the file if one was asked for.

    Raises DataError: the file cannot be read or streamed.
    Raises UnresolvedError: nothing varies in it.
    """
    from batchsense.questions.stream.report import stream_report
    from batchsense.questions.stream.text import stream_notes, stream_text
    from batchsense.storage.rows import open_rows
    from batchsense.training.streaming import plan_stream, shuffle_rows

    memory = parse_bytes(request.memory)

    def planned(path: str) -> StreamResult:
        plan = plan_stream(
            open_rows(path, request.columns or None),
            request.batch_size,
            memory,
            request.seed,
            by=request.by,
            loaders=request.loaders,
            progress=progress,
        )
        return StreamResult.of(request.name_of(path), plan, request.loaders)

    result = planned(request.file)
    if request.shuffle_to is not None:
        shuffle_rows(request.file, request.shuffle_to, memory, request.seed, progress=progress)
        result = planned(request.shuffle_to).model_copy(
            update={"before": result.design_effect, "shuffled_from": result.file}
        )
    envelope = request.envelope(result, stream_notes(result))
    return Answer(
        envelope,
        lambda table: stream_text(envelope, table),
        lambda: stream_report(envelope, request.words()),
        (document_product(envelope, "stream"),),
        no=not result.fits,
    )

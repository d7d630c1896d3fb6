"""What a plan becomes where minibatches come from a stream: the rows that are worth its advice."""

from __future__ import annotations

from batchsense.errors import UnresolvedError
from batchsense.questions.plan.result import PlanResult, StreamedResult
from batchsense.questions.stream.result import StreamResult
from batchsense.reports.envelope import Note


def streamed(plan: PlanResult, stream: StreamResult) -> PlanResult:
    """Say how many rows of the stream are worth the advised examples.

    Raises UnresolvedError: no minibatch of a pool is worth as many.
    """
    from batchsense.training.streaming import design_effect, effective_size

    icc = min(max(stream.icc.estimate or 0.0, 0.0), 1.0)
    place = stream.rows, stream.block, stream.pool
    size = effective_size(icc, plan.batch_size, *place)
    if size is None:
        held = min(stream.block * stream.pool, stream.rows)
        raise UnresolvedError(
            f"no minibatch from pools of {held:,} rows of {stream.file} is worth the wanted "
            f"{plan.batch_size:,} independent examples",
            "a stream with more memory or of a shuffled file",
        )
    effect = design_effect(icc, size, *place)
    doubts = list(plan.doubts)
    most = plan.memory.max_batch_size
    if most is not None and size > most:
        doubts.append(
            Note(
                code="stream_beyond_memory",
                message=f"{size:,} rows of the stream are wanted and {most:,} fit into memory: "
                "split the minibatch and add the gradients up, or shuffle the file.",
            )
        )
    found = StreamedResult(
        file=stream.file, batch_size=size, design_effect=effect, independent=plan.batch_size
    )
    return plan.model_copy(update={"stream": found, "doubts": doubts})

"""What ``batchsense stream --json`` prints: how a table is streamed, and what that costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from batchsense.reports.envelope import Estimate, Model

if TYPE_CHECKING:
    from batchsense.training.streaming import StreamPlan


class StreamResult(Model):
    """Blocks and pool of a stream, and the variance of its minibatches."""

    file: str = Field(description="The table that is streamed.")
    rows: int
    row_bytes: int = Field(description="Of a row in a pool.")
    batch_size: int = Field(description="Rows of a minibatch.")
    loaders: int = Field(description="Loader processes, each with a pool of its own.")
    icc: Estimate = Field(
        description="Intraclass correlation of rows in a block of icc_block, of the column that is "
        "most alike; the estimate may be negative."
    )
    icc_block: int | None
    icc_column: str | None
    block: int = Field(description="Rows that are read together.")
    pool: int = Field(description="Blocks that are in memory together, and shuffled.")
    design_effect: Estimate = Field(
        description="Variance of a minibatch mean over that of as many independent rows; the plan "
        "goes by the upper end."
    )
    allowed: float = Field(description="The largest design effect that fits.")
    fits: bool
    effective_batch_size: float = Field(description="Independent rows a minibatch is worth.")
    memory_bytes: int = Field(description="What the stream may take beside the program.")
    used_bytes: int = Field(description="What it takes at most.")
    least_bytes: int = Field(description="The least memory with which the design effect fits.")
    pilot_blocks: int = Field(description="Random blocks that were read to see this.")
    left_out: list[str] = Field(description="Columns that miss values, and were not looked at.")
    shuffled_from: str | None = Field(
        default=None, description="The file whose rows were shuffled into this one."
    )
    before: Estimate | None = Field(
        default=None, description="The design effect of that file; null without a shuffle."
    )

    @classmethod
    def of(cls, file: str, plan: StreamPlan, loaders: int) -> StreamResult:
        """Turn a plan into its JSON form."""
        unknown = "too few rows to tell; the pool holds them all"
        return cls.like(
            plan,
            file=file,
            loaders=loaders,
            icc=Estimate.missing(unknown) if plan.icc is None else Estimate.of(plan.icc),
            icc_column=plan.icc_column or None,
            left_out=list(plan.left_out),
        )

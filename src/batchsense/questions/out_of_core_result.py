"""What a document says of a matrix that was not loaded."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from batchsense.reports.envelope import Model


class OutOfCore(Model):
    """How a matrix was read that was not loaded."""

    reason: Literal["asked", "memory", "plain_array"] = Field(
        description="Why: asked for; it would not fit in memory; or a plain Zarr array, which is "
        "read in no other way."
    )
    memory_bytes: int | None = Field(
        description="What this process, or each worker of the cluster, was allowed to occupy; null "
        "where nothing was said: for correct 500 MB, or more where the program takes most of that; "
        "for the others a quarter of what is free, and 500 MB at least."
    )
    cluster: str | None = Field(description="The cluster whose workers did it; null: this process.")
    resumed: bool = Field(description="Whether work of an interrupted run was taken up.")
    passes: int = Field(default=2, description="How often the matrix was gone through.")

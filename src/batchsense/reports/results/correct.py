"""What ``batchsense correct --json`` publishes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from batchsense.reports.envelope import Envelope, Model, Note
from batchsense.reports.results.shares import Entangled, entangled_fields, published

if TYPE_CHECKING:
    from batchsense.experiments.correction import Corrected


class LearnedBatch(Model):
    """What the features of one batch have in common."""

    level: str = Field(description="The batch.")
    specimens: int = Field(description="How many were fitted.")
    shift: float = Field(
        description="Mean over the features of what the batch adds, in standard deviations."
    )
    shift_spread: float = Field(description="Its standard deviation over the features.")
    scale: float = Field(
        description="Mean over the features of the factor by which the batch stretches; 1 if "
        "scales were left alone."
    )
    scale_spread: float = Field(description="Its standard deviation over the features.")


class CorrectResult(Model):
    """A corrected table."""

    method: str = Field(description="Name of the correction.")
    output: str = Field(description="Where the corrected matrix was written.")
    batch: str = Field(description="The batch column.")
    batch_levels: list[str]
    kept: list[Entangled]
    removed_share: float = Field(
        description="Part of the total sum of squares that was removed (for combat-seq, of log2 "
        "counts per million); a fact about this table."
    )
    rank_lost: int = Field(
        description="Degrees of freedom used; a later test must count them (batch in its model)."
    )
    learned: list[LearnedBatch] = Field(
        description="What was learned of each batch over all features; empty for methods that "
        "treat every feature alone."
    )
    unchanged_features: list[str] = Field(description="Features that were left as they are.")
    specimens: int
    features: int
    orientation: str = Field(description="How the matrix lies in its file, told by the ids.")
    notes: list[Note] = Field(description="What the user of the corrected matrix must know.")

    @classmethod
    def of(cls, found: Corrected, output: str) -> CorrectResult:
        """Publish a correction."""
        fields: list[dict[str, Any]] = [entangled_fields(one) for one in found.kept]
        before, after = map(_variation, found.compared())
        return cls(
            method=found.method,
            output=output,
            batch=found.batch_labels,
            batch_levels=list(found.batch_levels),
            kept=[Entangled(**entry) for entry in fields],
            removed_share=1 - after / before if before else 0.0,
            rank_lost=found.rank_lost,
            learned=[LearnedBatch(**asdict(one)) for one in found.learned],
            unchanged_features=list(found.unchanged),
            specimens=found.values.shape[0],
            features=found.values.shape[1],
            orientation=found.table.orientation,
            notes=published(found.notes),
        )


def provenance(
    found: Corrected, envelope: Envelope[CorrectResult], options: Mapping[str, str | bool | None]
) -> dict[str, Any]:
    """Say what was done, in the plain names, texts and lists that an AnnData file can keep."""
    record = found.record()
    read = [f"{note.code}: {note.message}" for note in envelope.notes]
    return {
        **record,
        "inputs": [f"{file.path} sha256:{file.sha256}" for file in envelope.inputs],
        "notes": [*read, *record["notes"]],
        "options": [f"{name}={value}" for name, value in options.items() if value],
    }


def _variation(values: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """Sum the squares around the mean of each feature, over what was observed."""
    observed = ~np.isnan(values)
    filled = np.where(observed, values, 0.0)
    means = filled.sum(axis=0) / np.maximum(observed.sum(axis=0), 1)
    return float((np.where(observed, values - means, 0.0) ** 2).sum())

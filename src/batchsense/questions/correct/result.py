"""What ``batchsense correct --json`` publishes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from batchsense.questions.out_of_core_result import OutOfCore
from batchsense.questions.shares import Entangled, entangled_fields
from batchsense.reports.envelope import Envelope, Model, Note

if TYPE_CHECKING:
    from batchsense.experiments import Corrected, CorrectedStore


class LearnedBatch(Model):
    """What the features of one batch have in common."""

    level: str = Field(description="The batch.")
    specimens: int = Field(description="How many were fitted; 0: the batch came later.")
    shift: float = Field(
        description="Mean over the features of what the batch adds, in standard deviations."
    )
    shift_spread: float = Field(description="Its standard deviation over the features.")
    scale: float = Field(
        description="Mean over the features of the factor by which the batch stretches; 1 if "
        "scales were left alone."
    )
    scale_spread: float = Field(description="Its standard deviation over the features.")


class Reused(Model):
    """A correction that was learned earlier, from other specimens."""

    file: str = Field(description="The file that holds it.")
    specimens: int = Field(description="How many specimens it was learned from.")
    new_batches: list[str] = Field(
        description="Batches that were not fitted and are estimated from this table."
    )


class CorrectResult(Model):
    """A corrected table."""

    method: str = Field(description="Name of the correction.")
    output: str = Field(description="Where the corrected matrix was written.")
    batch: str = Field(description="The batch column; several are joined by ' + '.")
    batch_columns: list[str] = Field(description="The batch columns.")
    batch_levels: list[str] = Field(description="The batches that were told apart, or stretched.")
    levels_of: str = Field(
        description="The column that batch_levels are of: of several the first of categories, or, "
        "with --combine, their combination."
    )
    kept: list[Entangled]
    removed_share: float = Field(
        description="Part of the total sum of squares that was removed (for combat-seq, of log2 "
        "counts per million); negative where the correction added variation. A fact about this "
        "table."
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
    out_of_core: OutOfCore | None = Field(
        default=None, description="How it was corrected a few specimens at a time; null: in memory."
    )
    reused: Reused | None = Field(
        default=None,
        description="The earlier fit that was applied; null: learned from this table.",
    )
    saved_fitted: str | None = Field(
        default=None, description="Where what was learned is kept; null: nowhere."
    )
    notes: list[Note] = Field(description="What the user of the corrected matrix must know.")

    @property
    def fitted_specimens(self) -> int:
        """How many specimens the correction was learned from."""
        return self.specimens if self.reused is None else self.reused.specimens

    @classmethod
    def of(
        cls,
        found: Corrected | CorrectedStore,
        output: str,
        out_of_core: OutOfCore | None = None,
        reused: Reused | None = None,
        saved_fitted: str | None = None,
    ) -> CorrectResult:
        """Publish a correction, whether its values are in memory or on disk."""
        return cls.like(
            found,
            output=output,
            batch=found.batch_labels,
            batch_columns=list(found.batch_columns),
            levels_of=found.levels_of or found.batch_labels,
            batch_levels=list(found.batch_levels),
            kept=[Entangled(**entangled_fields(one)) for one in found.kept],
            learned=[LearnedBatch.like(one) for one in found.learned],
            unchanged_features=list(found.unchanged),
            specimens=len(found.table.specimens),
            features=len(found.table.features),
            orientation=found.table.orientation,
            out_of_core=out_of_core,
            reused=reused,
            saved_fitted=saved_fitted,
            notes=Note.published(found.notes),
        )


def provenance(
    found: Corrected | CorrectedStore,
    envelope: Envelope[CorrectResult],
    options: Mapping[str, str | bool | None],
) -> dict[str, Any]:
    """Say what was done, in the plain names, texts and lists that an AnnData file can keep."""
    record = found.record()
    read = [f"{note.code}: {note.message}" for note in envelope.notes]
    return {
        **record,
        "inputs": [f"{file.path} {file.identity()}" for file in envelope.inputs],
        "notes": [*read, *record["notes"]],
        "options": [f"{name}={value}" for name, value in options.items() if value],
    }

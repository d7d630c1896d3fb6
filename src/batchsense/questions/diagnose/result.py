"""What ``batchsense diagnose --json`` publishes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from batchsense.questions.diagnose.placebo_result import PlaceboResult
from batchsense.questions.diagnose.scores_result import ScoresResult
from batchsense.questions.out_of_core_result import OutOfCore
from batchsense.questions.shares import Entangled, ShareResult, entangled_fields
from batchsense.reports.envelope import Estimate, Model, finite

if TYPE_CHECKING:
    from batchsense.experiments.diagnosis.block_share import BlockShare
    from batchsense.experiments.diagnosis.diagnosis import Diagnosis
    from batchsense.experiments.diagnosis.shares import Share
    from batchsense.experiments.entanglement import LevelContrast
    from batchsense.experiments.placebos import Placebos
    from batchsense.experiments.tables.columns import Factor

#: A design with more combinations of level and batch is not published cell by cell: the document
#: would be mostly zeros.
_MOST_CELLS = 10_000


class ComponentResult(Estimate):
    """The variance component of the batches, in squared units of the observations."""

    within: float = Field(description="Mean over features of the residual variance.")
    relative_sd: float | None = Field(
        description="SD of the batches over the residual SD; 0 where the component is negative, "
        "null where nothing is left within."
    )
    negative_features: int = Field(description="Features whose own component is negative.")


class ContrastResult(Model):
    """A difference between two levels of a kept factor."""

    contrast: str = Field(description="Second level minus first level.")
    estimable: bool
    r2_with_batch: float = Field(
        description="Share of the information about it that goes with the batches; 1 if lost."
    )
    effective_n: float = Field(description="Specimens times (1 - R²).")
    only_through: list[str] = Field(
        description="Levels without whose specimens it could not be told."
    )

    @classmethod
    def of_contrast(cls, found: LevelContrast, specimens: int) -> ContrastResult:
        """Publish a contrast."""
        return cls.like(
            found,
            contrast=str(found),
            r2_with_batch=found.r2,
            effective_n=specimens * (1.0 - found.r2),
            only_through=list(found.only_through),
        )


class BatchResult(Model):
    """The batches."""

    name: str = Field(description="The column of the sheet; several are joined by ' + '.")
    columns: list[BatchPartResult] = Field(
        description="Of several batch columns each; empty for one."
    )
    levels: dict[str, int] = Field(
        description="Specimens per batch; of several columns per combination of their categories."
    )
    share: ShareResult = Field(description="What the batches add to the kept factors.")
    r2_alone: float = Field(description="Share of the sum of squares without any other term.")
    component: ComponentResult | None = Field(
        description="Variance component of the batches at hand (Henderson's method 3) with a "
        "bootstrap interval; null where nothing is left of them, and for several columns."
    )


class BatchPartResult(Model):
    """One of several batch columns."""

    name: str
    kind: str = Field(description="'categorical' or 'numeric'.")
    share: ShareResult = Field(description="What it adds to the others and the kept factors.")
    r2_alone: float = Field(description="Share of the sum of squares without any other term.")


class KeptResult(Entangled):
    """A kept factor: what it explains, and how it goes with the batches."""

    share: ShareResult = Field(description="What it adds to the batches and the other factors.")
    r2_alone: float = Field(description="Share of the sum of squares without any other term.")
    contrasts: list[ContrastResult] = Field(
        description="All differences between its levels; empty for a numeric factor and for more "
        "than 12 levels."
    )
    counts: dict[str, list[int]] | None = Field(
        description="Specimens of each level in each batch, in the order of batch.levels; null "
        "for a numeric factor, and where there are more than 10,000 combinations."
    )


class InteractionResult(Model):
    """What the batches do differently to different levels or values of what is kept."""

    name: str
    share: ShareResult = Field(description="What it adds to the batches and the kept factors.")


class SketchResult(Model):
    """Random sums of the specimens that stood for products of all of them."""

    sums: int
    relative_error: float = Field(description="Standard error of a squared length, at most.")
    seed: int


class BlockResult(Model):
    """Rows of one subject, or of another unit."""

    name: str = Field(description="The column of the sheet.")
    count: int = Field(description="Its different entries.")
    share: ShareResult = Field(description="What they add to the batches and the kept factors.")


class DiagnoseResult(Model):
    """The diagnosis of a table."""

    verdict: Literal["fine", "adjust", "partly_lost", "not_estimable"]
    reason: str = Field(description="The numbers that decided the verdict.")
    batch: BatchResult
    kept: list[KeptResult]
    interaction: InteractionResult | None = Field(
        description="Null where nothing is kept or no degree of freedom is left for it."
    )
    block: BlockResult | None = Field(description="Null without --block.")
    joint: ShareResult = Field(description="Batches and kept factors together.")
    shared: float | None = Field(
        description="Share of the sum of squares that batches and kept factors explain together "
        "beyond what each adds to the others; may be negative."
    )
    residual_share: float | None = Field(
        description="Share of the sum of squares that batches and kept factors leave, the "
        "interaction included; null if nothing judges it."
    )
    residual: Estimate = Field(
        description="Share of the variance that no term explains, the interaction among the terms, "
        "chance added back."
    )
    scores: ScoresResult | None = Field(
        description="Whether specimens cluster by batch or by what is kept; null where fewer than "
        "two directions vary."
    )
    placebo: PlaceboResult | None = Field(
        description="What usual pipelines call in pure noise on this sheet; null where nothing is "
        "kept, for several batch columns, or with --no-placebo."
    )
    specimens: int
    features: int
    orientation: str = Field(description="How the matrix lies in its file, told by the ids.")
    standardised: bool = Field(description="Whether every feature had the same weight.")
    out_of_core: OutOfCore | None = Field(
        default=None, description="How the matrix was read in pieces; null: in memory."
    )
    sketch: SketchResult | None = Field(
        default=None,
        description="What nulls, p-values and the ends of intervals rest on, where specimens times "
        "themselves do not fit in memory; null: all is exact.",
    )

    @classmethod
    def of(
        cls,
        found: Diagnosis,
        orientation: str,
        standardised: bool = False,
        noise: Placebos | None = None,
        blocks: BlockShare | None = None,
    ) -> DiagnoseResult:
        """Publish a diagnosis, with its placebos where they were run."""
        interaction, crossed = None, found.design.interaction()
        if found.interaction_share is not None and crossed is not None:
            share = ShareResult.of_share(found.interaction_share, "")
            interaction = InteractionResult(name=crossed[0], share=share)
        return cls.like(
            found,
            batch=_batches(found),
            kept=_kept(found),
            interaction=interaction,
            block=None
            if blocks is None
            else BlockResult.like(
                blocks,
                share=ShareResult.of_share(
                    blocks.share, f"nothing of {blocks.name}, or nothing within it, is left"
                ),
            ),
            joint=ShareResult.of_share(found.joint_share, "no degree of freedom is left"),
            residual=(
                Estimate.missing("no degree of freedom is left")
                if found.residual is None
                else Estimate.of(found.residual)
            ),
            scores=None if found.scores is None else ScoresResult.of_scores(found.scores),
            placebo=(
                PlaceboResult.of_placebos(noise) if noise is not None and noise.outcomes else None
            ),
            orientation=orientation,
            standardised=standardised,
            sketch=None if found.sketch is None else SketchResult.like(found.sketch),
        )


def _batches(found: Diagnosis) -> BatchResult:
    batches = found.design.batches
    names = ", ".join(one.entanglement.name for one in found.kept)
    component = found.component
    return BatchResult(
        name=batches.name,
        columns=[
            BatchPartResult.like(
                one,
                share=ShareResult.of_share(one.share, "nothing is left beside the others"),
                r2_alone=one.alone,
            )
            for one in found.batch_parts
        ],
        levels=dict(zip(batches.levels, batches.counts.tolist(), strict=True)),
        share=ShareResult.of_share(
            found.batch_share,
            f"nothing of {batches.name} is left beside {names}",
            _partial(found.batch_share, batches.design()[0].shape[1], batches.name),
        ),
        r2_alone=found.batch_alone,
        component=None
        if component is None
        else ComponentResult.of(
            component.component,
            within=component.within,
            relative_sd=finite(component.relative_sd),
            negative_features=component.negative,
        ),
    )


def _kept(found: Diagnosis) -> list[KeptResult]:
    kept, batches = [], found.design.batches
    for one in found.kept:
        name = one.entanglement.name
        factor = next(factor for factor in found.design.kept if factor.name == name)
        kept.append(
            KeptResult(
                **entangled_fields(one.entanglement),
                share=ShareResult.of_share(
                    one.share, f"nothing of {name} is left beside {batches.name}"
                ),
                r2_alone=one.alone,
                contrasts=[
                    ContrastResult.of_contrast(contrast, found.specimens)
                    for contrast in one.contrasts
                ],
                counts=_counts(factor, batches),
            )
        )
    return kept


def _counts(kept: Factor, batches: Factor) -> dict[str, list[int]] | None:
    shape = (len(kept.levels), len(batches.levels))
    if kept.values is not None or shape[0] * shape[1] > _MOST_CELLS:
        return None
    cells = np.bincount(kept.codes * shape[1] + batches.codes, minlength=shape[0] * shape[1])
    return dict(zip(kept.levels, cells.reshape(shape).tolist(), strict=True))


def _partial(share: Share | None, columns: int, name: str) -> str | None:
    """Say so where only a part of a term can be told from the others."""
    if share is None or share.columns == columns:
        return None
    return f"only {share.columns} of {columns} differences between levels of {name} can be told"

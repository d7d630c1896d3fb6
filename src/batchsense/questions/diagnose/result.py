"""What ``batchsense diagnose --json`` publishes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from batchsense.questions.out_of_core_result import OutOfCore
from batchsense.questions.shares import Entangled, ShareResult, entangled_fields
from batchsense.reports.envelope import Estimate, Model, finite

if TYPE_CHECKING:
    from batchsense.experiments.diagnosis import BlockShare, Diagnosis, Scores, Share
    from batchsense.experiments.entanglement import LevelContrast
    from batchsense.experiments.placebos import FactorPlacebo, Placebos
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


class ComponentScoreResult(Model):
    """One principal component regressed on one factor."""

    component: int = Field(description="Number of the component, from 1.")
    name: str = Field(description="The factor.")
    r2_alone: float = Field(description="R² of the component on this factor alone.")
    r2_partial: float | None = Field(
        description="What the factor explains of what the others leave; null if they leave nothing."
    )
    f: float | None = Field(description="F of the factor given the others; null if not defined.")
    df: tuple[int, int] = Field(description="Degrees of freedom of F.")
    p_value: float | None
    p_holm: float | None = Field(description="Corrected for all components and factors (Holm).")


class ClusteringResult(Model):
    """How near specimens of one label lie to one another in the first components."""

    name: str = Field(description="The batch column or a kept factor.")
    silhouette: float | None = Field(
        description="Mean silhouette, -1 to 1; null where too few labels can be compared."
    )
    neighbours: float = Field(description="Part of the nearest neighbours with the own label.")
    neighbours_by_chance: float = Field(description="The same for labels laid out at random.")
    distance_r2_alone: float = Field(description="Share of squared distances between labels.")
    distance_r2: float = Field(description="The same beyond the other factors.")
    distance_r2_by_chance: float | None = Field(
        description="Mean of distance_r2 over labels permuted within the other factors; null where "
        "they cannot be. It grows with the number of labels."
    )
    p_silhouette: float | None
    p_neighbours: float | None
    p_distance: float | None = Field(
        description="How often labels permuted within the other factors reach distance_r2."
    )
    arrangements: float | None = Field(
        description="Different ways to permute; null where beyond counting."
    )
    reason: str | None = Field(description="Why the p-values are null: it cannot be told.")


class MixingResult(Model):
    """How mixed labels are among the neighbours of a specimen, beside its level by chance."""

    name: str = Field(description="The batch column or a kept factor.")
    measure: Literal["iLISI", "cLISI", "kBET"] = Field(
        description="LISI: median effective number of labels in a neighbourhood (1: unmixed); "
        "kBET: share of neighbourhoods whose batches differ from those of all, at level 0.05."
    )
    value: float
    by_chance: float | None = Field(
        description="Mean over labels permuted within the other factors; null where they cannot be."
    )
    low: float | None = Field(description="Of the 95 % interval of permuted labels.")
    high: float | None
    p_value: float | None = Field(description="How often permuted labels are mixed as little.")
    neighbours: float = Field(description="Perplexity of LISI; size of a neighbourhood of kBET.")
    reason: str | None = Field(description="Why there is no chance level.")


class ScoresResult(Model):
    """What principal components and distances between specimens go with."""

    clusters_by: Literal["batch", "kept", "both", "neither", "cannot_tell"]
    sentence: str = Field(description="The same in words.")
    explained: list[float] = Field(description="Part of the variance along each component.")
    overall: dict[str, float] = Field(
        description="For each factor the mean R² over the components, weighted by their variance."
    )
    components: list[ComponentScoreResult]
    clusterings: list[ClusteringResult] = Field(description="The batches first.")
    mixing: list[MixingResult] = Field(description="Empty with fewer than 12 specimens.")

    @classmethod
    def of_scores(cls, found: Scores) -> ScoresResult:
        """Publish scores."""
        return cls.like(
            found,
            explained=found.explained.tolist(),
            components=[
                ComponentScoreResult.like(
                    one, r2_alone=one.alone, r2_partial=one.partial, p_holm=one.holm
                )
                for one in found.components
            ],
            clusterings=[
                ClusteringResult.like(
                    one,
                    distance_r2_alone=one.alone,
                    distance_r2=one.partial,
                    distance_r2_by_chance=one.partial_by_chance,
                )
                for one in found.clusterings
            ],
            mixing=[MixingResult.like(one) for one in found.mixing],
        )


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


class FactorPlaceboResult(Model):
    """One pipeline, its test being for one kept factor."""

    factor: str = Field(description="The kept factor that is tested, the others in the model.")
    pipeline: Literal["uncorrected", "linear", "combat", "model"] = Field(
        description="What is done before the test; 'model' corrects nothing and has the batches in "
        "the model of the test, which the others have not."
    )
    test: Literal["t", "F"] = Field(description="F for more than two levels.")
    rate: Estimate = Field(
        description="Share of the features with p ≤ alpha; alpha for a valid test. The interval is "
        "that of the simulation. Null, beside a reason, where nothing can be tested."
    )
    called: int | None = Field(
        description="Features with q ≤ alpha (Benjamini and Hochberg), all of them false."
    )
    seed: int | None = Field(description="Seed of this noise, for batchsense.experiments.placebo.")

    @classmethod
    def of_outcome(cls, found: FactorPlacebo) -> FactorPlaceboResult:
        """Publish an outcome."""
        outcome, reason = found.found, found.reason
        if outcome is None:
            rate = Estimate.missing(reason)
            return cls.like(found, rate=rate, called=None, seed=None)
        rate = Estimate.of(outcome.rate, reason or None)
        return cls.like(found, rate=rate, called=outcome.called, seed=outcome.seed)


class PlaceboResult(Model):
    """Pure noise on the user's own sheet: whatever is called there is false."""

    features: int = Field(description="Independent features of normal noise, for each pipeline.")
    alpha: float = Field(description="Level of p and of q.")
    shift_sd: float | None = Field(
        description="SD of the shifts between batches in units of the noise; null where the data "
        "do not tell it."
    )
    shift_reason: str = Field(description="Where shift_sd comes from.")
    outcomes: list[FactorPlaceboResult] = Field(description="All pipelines for each kept factor.")

    @classmethod
    def of_placebos(cls, found: Placebos) -> PlaceboResult:
        """Publish placebos."""
        outcomes = [FactorPlaceboResult.of_outcome(one) for one in found.outcomes]
        return cls.like(found, outcomes=outcomes)


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
    """Random sums of the features that stood for all of them."""

    columns: int
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
        description="What permutations, p-values and the ends of intervals rest on, where "
        "specimens times themselves do not fit in memory; null: all is exact.",
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
        batches = found.design.batches
        names = ", ".join(one.entanglement.name for one in found.kept)
        interaction, crossed = None, found.design.interaction()
        if found.interaction_share is not None and crossed is not None:
            share = ShareResult.of_share(found.interaction_share, "")
            interaction = InteractionResult(name=crossed[0], share=share)
        kept: list[KeptResult] = []
        for one in found.kept:
            name = one.entanglement.name
            share = ShareResult.of_share(
                one.share, f"nothing of {name} is left beside {batches.name}"
            )
            factor = next(factor for factor in found.design.kept if factor.name == name)
            kept.append(
                KeptResult(
                    **entangled_fields(one.entanglement),
                    share=share,
                    r2_alone=one.alone,
                    contrasts=[
                        ContrastResult.of_contrast(contrast, found.specimens)
                        for contrast in one.contrasts
                    ],
                    counts=_counts(factor, batches),
                )
            )
        return cls.like(
            found,
            batch=BatchResult(
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
                if found.component is None
                else ComponentResult.of(
                    found.component.component,
                    within=found.component.within,
                    relative_sd=finite(found.component.relative_sd),
                    negative_features=found.component.negative,
                ),
            ),
            kept=kept,
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

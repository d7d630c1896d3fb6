"""What ``batchsense diagnose --json`` publishes of components, clusters and neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from batchsense.reports.envelope import Model

if TYPE_CHECKING:
    from batchsense.experiments.diagnosis.scores import Scores


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

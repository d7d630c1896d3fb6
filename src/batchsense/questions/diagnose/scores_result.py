"""Components, distances, contrasts and placebos, as diagnose publishes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from batchsense.reports.envelope import Estimate, Model, finite

if TYPE_CHECKING:
    from batchsense.experiments.diagnosis import BatchComponent, Clustering, ComponentScore, Scores
    from batchsense.experiments.entanglement import LevelContrast


class ComponentResult(Estimate):
    """The variance component of the batches, in squared units of the observations."""

    within: float = Field(description="Mean over features of the residual variance.")
    relative_sd: float | None = Field(
        description="SD of the batches over the residual SD; 0 where the component is negative, "
        "null where nothing is left within."
    )
    negative_features: int = Field(description="Features whose own component is negative.")

    @classmethod
    def of_component(cls, found: BatchComponent) -> ComponentResult:
        """Publish a variance component."""
        return cls(
            estimate=found.component.estimate,
            low=found.component.low,
            high=found.component.high,
            level=found.component.level,
            within=found.within,
            relative_sd=finite(found.relative_sd),
            negative_features=found.negative,
        )


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

    @classmethod
    def of_score(cls, found: ComponentScore) -> ComponentScoreResult:
        """Publish a score."""
        return cls(
            component=found.component,
            name=found.name,
            r2_alone=found.alone,
            r2_partial=found.partial,
            f=finite(found.f),
            df=found.df,
            p_value=found.p_value,
            p_holm=found.holm,
        )


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
    p_silhouette: float | None
    p_neighbours: float | None
    p_distance: float | None = Field(
        description="How often labels permuted within the other factors reach distance_r2."
    )
    arrangements: float | None = Field(
        description="Different ways to permute; null where beyond counting."
    )
    reason: str | None = Field(description="Why the p-values are null: it cannot be told.")

    @classmethod
    def of_clustering(cls, found: Clustering) -> ClusteringResult:
        """Publish a clustering."""
        return cls(
            name=found.name,
            silhouette=found.silhouette,
            neighbours=found.neighbours,
            neighbours_by_chance=found.neighbours_by_chance,
            distance_r2_alone=found.alone,
            distance_r2=found.partial,
            p_silhouette=found.p_silhouette,
            p_neighbours=found.p_neighbours,
            p_distance=found.p_distance,
            arrangements=finite(found.arrangements),
            reason=found.reason,
        )


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

    @classmethod
    def of_scores(cls, found: Scores) -> ScoresResult:
        """Publish scores."""
        return cls(
            clusters_by=found.clusters_by,
            sentence=found.sentence,
            explained=found.explained.tolist(),
            overall=found.overall,
            components=[ComponentScoreResult.of_score(one) for one in found.components],
            clusterings=[ClusteringResult.of_clustering(one) for one in found.clusterings],
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
        return cls(
            contrast=str(found),
            estimable=found.estimable,
            r2_with_batch=found.r2,
            effective_n=specimens * (1.0 - found.r2),
            only_through=list(found.only_through),
        )

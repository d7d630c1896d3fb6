"""What ``batchsense surrogates --json`` publishes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from batchsense.questions.out_of_core_result import OutOfCore
from batchsense.reports.envelope import Model

if TYPE_CHECKING:
    from batchsense.experiments.surrogates.finding import Surrogates


class LikeColumn(Model):
    """A column of the sheet that a surrogate looks like."""

    column: str
    adjusted_r2: float = Field(description="R² with what chance explains subtracted.")
    p_value: float = Field(description="Of its F test; several columns were looked at.")


class SurrogateResult(Model):
    """One surrogate variable."""

    name: str = Field(description="The new column.")
    values: list[float] = Field(description="In the order of the specimens; norm 1.")
    residual_share: float = Field(
        description="Share of it in what the known factors leave of the variation."
    )
    looks_like: list[LikeColumn] = Field(description="Columns that explain it best, at most three.")


class KeptAgainstSurrogates(Model):
    """A kept factor against all surrogates together."""

    name: str
    r2_with_surrogates: float = Field(description="Largest squared canonical correlation.")
    vif: float
    effective_n: float


class SurrogatesResult(Model):
    """Surrogate variables of a table."""

    output: str = Field(description="Where the sheet was written.")
    method: str
    specimens: list[str]
    features: int = Field(description="Complete features that vary.")
    affected_features: float = Field(description="About so many features took part.")
    count_seen: int | None = Field(
        description="Directions that exceed permuted residuals (p < 0.1); null where their number "
        "was given."
    )
    direction_p_values: list[float] = Field(
        description="For each leading direction of the residuals, how often permuted residuals "
        "have as large a share; the first twenty."
    )
    direction_shares: list[float] = Field(description="Shares of these directions.")
    permutations: int = Field(description="0 where the number of surrogates was given.")
    surrogates: list[SurrogateResult]
    kept: list[KeptAgainstSurrogates]
    out_of_core: OutOfCore | None = Field(
        default=None, description="How the matrix was read in pieces; null: in memory."
    )

    @classmethod
    def of(cls, found: Surrogates, output: str) -> SurrogatesResult:
        """Publish surrogates."""
        seen = found.counted
        return cls.like(
            found,
            output=output,
            specimens=list(found.table.specimens),
            count_seen=None if seen is None else seen.count,
            direction_p_values=[] if seen is None else seen.p_values[:20].tolist(),
            direction_shares=[] if seen is None else seen.shares[:20].tolist(),
            permutations=0 if seen is None else seen.permutations,
            surrogates=[
                SurrogateResult(
                    name=name,
                    values=found.values[:, k].tolist(),
                    residual_share=found.residual_shares[k],
                    looks_like=[LikeColumn.like(one) for one in found.likenesses[k]],
                )
                for k, name in enumerate(found.names)
            ],
            kept=[
                KeptAgainstSurrogates.like(numbers, name=name, r2_with_surrogates=numbers.r2)
                for name, numbers in found.kept
            ],
        )

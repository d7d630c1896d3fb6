"""What ``batchsense layout --json`` publishes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from batchsense.questions.shares import Entangled, entangled_fields
from batchsense.reports.envelope import Model

if TYPE_CHECKING:
    from batchsense.experiments.layout.result import Layout
    from batchsense.experiments.layout.worth import FactorWorth
    from batchsense.experiments.tables.columns import Factor


class NumericSpread(Model):
    """A numeric column in one batch."""

    mean: float
    standard_deviation: float | None = Field(description="Null for a single specimen.")


class BalancedFactor(Entangled):
    """A balanced factor: what the batches cost it."""

    relative_effective_n: float = Field(description="1 - R²: effective n over specimens.")
    counts: dict[str, list[int]] | None = Field(
        description="Specimens of each level in each batch, in the order of batches; null for a "
        "numeric factor."
    )
    by_batch: list[NumericSpread] | None = Field(
        description="Mean and spread in each batch, in their order; null for a categorical factor."
    )
    position_r2: float | None = Field(
        description="R² with batch, plate row, plate column and edge together; null without plates."
    )
    contrast: str = Field(description="What the detectable effect is about.")
    detectable: float | None = Field(
        description="Effect found with 80 % power at level 0.05, in residual standard deviations, "
        "batch in the model; null where nothing is left to judge it by."
    )
    detectable_unbatched: float | None = Field(description="The same without batches.")


class PlatesResult(Model):
    """Positions on plates."""

    rows: int
    columns: int
    wells: list[str] = Field(description="Well of each specimen, in the order of the sheet.")
    empty_wells: list[str] = Field(description="Wells that stay empty because that was asked for.")
    kept: int = Field(description="Specimens that kept the well that they had.")
    score: float = Field(
        description="Sum over plate row, plate column and edge of the squared canonical "
        "correlations with the balanced factors."
    )
    random_best: float = Field(description="The least of 50 random placements.")


class LayoutBatch(Model):
    """One batch."""

    name: str
    specimens: int = Field(description="References not counted.")
    capacity: int | None = Field(description="Places for specimens; null without limit.")


class LayoutResult(Model):
    """A layout."""

    output: str = Field(description="Where the sheet was written.")
    column: str = Field(description="The new column.")
    specimens: int
    batches: list[LayoutBatch]
    reference_specimens: int = Field(description="References in each batch.")
    assigned: list[str] = Field(description="Batch of each specimen, in the order of the sheet.")
    score: float = Field(
        description="Sum of the squared canonical correlations of all balanced factors with the "
        "batches; 0 is balanced."
    )
    random_best: float | None = Field(
        description="The least score of random layouts with the same constraints; null if none "
        "was found."
    )
    random_mean: float | None = Field(description="Their mean.")
    random_layouts: int = Field(description="How many were drawn.")
    factors: list[BalancedFactor]
    assumptions: str = Field(description="What the detectable effects assume.")
    plates: PlatesResult | None = Field(description="Null without --plate.")

    @classmethod
    def of(cls, found: Layout, output: str) -> LayoutResult:
        """Publish a layout."""
        from batchsense.experiments.layout.worth import ASSUMPTIONS

        chance = found.random_scores
        capacities = found.capacities or (None,) * len(found.batch_levels)
        plates = found.plates
        return cls(
            output=output,
            column=found.column,
            specimens=len(found.codes),
            batches=[
                LayoutBatch(name=name, specimens=size, capacity=capacity)
                for name, size, capacity in zip(
                    found.batch_levels, found.sizes, capacities, strict=True
                )
            ],
            reference_specimens=found.reference_specimens,
            assigned=[found.batch_levels[code] for code in found.codes],
            score=found.score,
            random_best=float(chance.min()) if len(chance) else None,
            random_mean=float(chance.mean()) if len(chance) else None,
            random_layouts=len(chance),
            factors=[
                _factor(found, worth, kept)
                for worth, kept in zip(found.factors, found.design.kept, strict=True)
            ],
            assumptions=ASSUMPTIONS,
            plates=None
            if plates is None
            else PlatesResult.like(
                plates,
                wells=[plates.name(well) for well in plates.wells],
                empty_wells=[plates.name(well) for well in plates.empty_wells],
            ),
        )


def _factor(found: Layout, worth: FactorWorth, kept: Factor) -> BalancedFactor:
    batch_count = len(found.batch_levels)
    counts, spread = None, None
    if kept.values is None:
        cells = np.zeros((len(kept.levels), batch_count), dtype=int)
        np.add.at(cells, (kept.codes, found.codes), 1)
        counts = dict(zip(kept.levels, cells.tolist(), strict=True))
    else:
        spread = []
        for b in range(batch_count):
            here = kept.values[found.codes == b]
            deviation = float(here.std(ddof=1)) if len(here) > 1 else None
            mean = float(here.mean()) if len(here) else 0.0
            spread.append(NumericSpread(mean=mean, standard_deviation=deviation))
    return BalancedFactor.like(
        worth,
        **entangled_fields(worth.entanglement),
        relative_effective_n=1 - worth.entanglement.confounding.r2,
        counts=counts,
        by_batch=spread,
    )

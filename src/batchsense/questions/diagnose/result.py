"""What ``batchsense diagnose --json`` publishes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from batchsense.questions.diagnose.placebo_result import PlaceboResult
from batchsense.questions.diagnose.scores_result import (
    ComponentResult,
    ContrastResult,
    ScoresResult,
)
from batchsense.questions.shares import Entangled, ShareResult, entangled_fields
from batchsense.reports.envelope import Estimate, Model

if TYPE_CHECKING:
    from batchsense.experiments.diagnosis import Diagnosis, Share
    from batchsense.experiments.placebos import Placebos
    from batchsense.experiments.tables.columns import Factor

#: A design with more combinations of level and batch is not published cell by cell.
_MOST_CELLS = 10_000


class BatchResult(Model):
    """The batches."""

    name: str = Field(description="The column of the sheet.")
    levels: dict[str, int] = Field(description="Specimens per batch.")
    share: ShareResult = Field(description="What the batches add to the kept factors.")
    r2_alone: float = Field(description="Share of the sum of squares without any other term.")
    component: ComponentResult | None = Field(
        description="Variance component of the batches at hand (Henderson's method 3) with a "
        "bootstrap interval; null where nothing is left of them."
    )


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


class DiagnoseResult(Model):
    """The diagnosis of a table."""

    verdict: Literal["fine", "adjust", "partly_lost", "not_estimable"]
    reason: str = Field(description="The numbers that decided the verdict.")
    batch: BatchResult
    kept: list[KeptResult]
    interaction: InteractionResult | None = Field(
        description="Null where nothing is kept or no degree of freedom is left for it."
    )
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
        "kept, or with --no-placebo."
    )
    specimens: int
    features: int
    orientation: str = Field(description="How the matrix lies in its file, told by the ids.")
    standardised: bool = Field(description="Whether every feature had the same weight.")

    @classmethod
    def of(
        cls,
        found: Diagnosis,
        orientation: str,
        standardised: bool = False,
        noise: Placebos | None = None,
    ) -> DiagnoseResult:
        """Publish a diagnosis, with its placebos where they were run."""
        batches = found.design.batches
        names = ", ".join(one.entanglement.name for one in found.kept)
        interaction, crossed = None, found.design.interaction()
        if found.interaction_share is not None and crossed is not None:
            interaction = InteractionResult(
                name=crossed[0],
                share=ShareResult.of_share(found.interaction_share, ""),
            )
        kept: list[KeptResult] = []
        for one in found.kept:
            fields: dict[str, Any] = entangled_fields(one.entanglement)
            name = one.entanglement.name
            share = ShareResult.of_share(
                one.share, f"nothing of {name} is left beside {batches.name}"
            )
            factor = next(factor for factor in found.design.kept if factor.name == name)
            kept.append(
                KeptResult(
                    **fields,
                    share=share,
                    r2_alone=one.alone,
                    contrasts=[
                        ContrastResult.of_contrast(contrast, found.specimens)
                        for contrast in one.contrasts
                    ],
                    counts=_counts(factor, batches),
                )
            )
        return cls(
            verdict=found.verdict,
            reason=found.reason,
            batch=BatchResult(
                name=batches.name,
                levels=dict(zip(batches.levels, batches.counts.tolist(), strict=True)),
                share=ShareResult.of_share(
                    found.batch_share,
                    f"nothing of {batches.name} is left beside {names}",
                    _partial(found.batch_share, len(batches.levels) - 1, batches.name),
                ),
                r2_alone=found.batch_alone,
                component=(
                    None
                    if found.component is None
                    else ComponentResult.of_component(found.component)
                ),
            ),
            kept=kept,
            interaction=interaction,
            joint=ShareResult.of_share(found.joint_share, "no degree of freedom is left"),
            shared=found.shared,
            residual_share=found.residual_share,
            residual=(
                _undefined("no degree of freedom is left")
                if found.residual is None
                else Estimate.of(found.residual)
            ),
            scores=None if found.scores is None else ScoresResult.of_scores(found.scores),
            placebo=(
                PlaceboResult.of_placebos(noise) if noise is not None and noise.outcomes else None
            ),
            specimens=found.specimens,
            features=found.features,
            orientation=orientation,
            standardised=standardised,
        )


def _undefined(reason: str) -> Estimate:
    return Estimate(estimate=None, low=None, high=None, reason=reason)


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

"""What ``batchsense diagnose --json`` publishes of features of pure noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from batchsense.reports.envelope import Estimate, Model

if TYPE_CHECKING:
    from batchsense.experiments.placebos import FactorPlacebo, Placebos


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

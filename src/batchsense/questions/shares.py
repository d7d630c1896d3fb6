"""Shares of variance and confounding numbers, as diagnose and correct publish them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from batchsense.reports.envelope import Estimate, Model, finite

if TYPE_CHECKING:
    from batchsense.experiments.diagnosis.shares import Share
    from batchsense.experiments.entanglement import Entanglement


class ShareResult(Estimate):
    """A share of the total variance, with what chance explains subtracted."""

    raw: float | None = Field(description="Share of the sum of squares; chance not subtracted.")
    null_mean: float | None = Field(description="Mean of raw over permuted labels.")
    null_high: float | None = Field(description="95 % quantile of raw over permuted labels.")
    p_value: float | None = Field(
        description="How often permuted labels explain as much, the data counted as one of them."
    )
    permutations: int = Field(description="How often the labels were permuted.")
    columns: int = Field(description="Independent columns of the term that the others leave.")

    @classmethod
    def of_share(cls, share: Share | None, reason: str, remark: str | None = None) -> ShareResult:
        """Publish a share; ``reason`` says why where there is none."""
        if share is None:
            unknown = dict.fromkeys(("raw", "null_mean", "null_high", "p_value"))
            return cls.missing(reason, **unknown, permutations=0, columns=0)
        return cls.of(
            share.share,
            remark,
            raw=share.raw,
            null_mean=share.null.mean,
            null_high=share.null.high,
            p_value=share.null.p_value,
            permutations=share.null.permutations,
            columns=share.columns,
        )


class LinkedLevels(Model):
    """Levels that specimens link through shared batches."""

    levels: list[str]
    batch_labels: list[str]


class Entangled(Model):
    """A kept factor against the batches; computed from the sheet alone, hence exact."""

    name: str
    kind: str = Field(description="'categorical' or 'numeric'.")
    r2_with_batch: float = Field(
        description="Largest squared canonical correlation with the batches, others given: 0 to 1."
    )
    vif: float | None = Field(description="Variance inflation 1 / (1 - R²); null where infinite.")
    vif_reason: str | None = Field(default=None, description="Why vif is null.")
    effective_n: float = Field(description="Specimens times (1 - R²).")
    attenuation: float = Field(
        description="Part of the effect that centring the batches without it would destroy."
    )
    cramers_v: float | None = Field(
        description="Association of the two labels, chance included; null for a numeric factor."
    )
    estimable: bool
    aliased: list[str] = Field(description="Relations that entangle it, such as 'a[x] = b[y]'.")
    linked: list[LinkedLevels] = Field(
        description="Groups of levels; levels of different groups cannot be compared."
    )
    explanation: str | None = Field(default=None, description="What is not linked and would help.")


def entangled_fields(found: Entanglement) -> dict[str, Any]:
    """The fields of :class:`Entangled` for a kept factor."""
    numbers = found.confounding
    vif = finite(numbers.vif)
    return {
        "name": found.name,
        "kind": found.kind,
        "r2_with_batch": numbers.r2,
        "vif": vif,
        "vif_reason": "infinite: nothing is left beside the batches" if vif is None else None,
        "effective_n": numbers.effective_n,
        "attenuation": numbers.attenuation,
        "cramers_v": found.cramers_v,
        "estimable": numbers.estimable,
        "aliased": list(numbers.aliased),
        "linked": [
            LinkedLevels(
                levels=[str(level) for level in group.conditions],
                batch_labels=[str(label) for label in group.batch_labels],
            )
            for group in found.linked
        ],
        "explanation": found.explanation or None,
    }

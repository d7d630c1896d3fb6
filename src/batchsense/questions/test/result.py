"""What ``batchsense test --json`` publishes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from batchsense.questions.out_of_core_result import OutOfCore
from batchsense.reports.envelope import Estimate, Model, finite

if TYPE_CHECKING:
    from batchsense.experiments.testing import ContrastTests, EffectTest, FactorTest

#: So many features with the smallest p are published for each contrast; --output writes them all.
TOP = 20
#: A feature is called at this q: the custom of the field, told wherever features are counted.
Q_LIMIT = 0.05


class FeatureEffect(Model):
    """One contrast of one feature."""

    feature: str
    mean: float = Field(description="Mean of the observed values.")
    effect: Estimate = Field(description="In units of the values.")
    standard_error: float
    t: float
    df: float | None = Field(description="Degrees of freedom; null where infinite.")
    p_value: float
    q_value: float = Field(description="Benjamini-Hochberg over the features of this contrast.")


class FeatureF(Model):
    """All levels of a factor on one feature."""

    feature: str
    mean: float
    f: float
    p_value: float
    q_value: float


class Counted(Model):
    """What effects and factors have in common."""

    tested: int = Field(description="Features with an answer.")
    called: int = Field(description="Features with q at most 0.05.")
    plain_inflation: float = Field(
        description="Factor by which t of a test without the batch is too large on values "
        "corrected by linear removal (root of the mean inflation for F)."
    )
    plain_false_positive_rate: float = Field(
        description="What such a test calls of pure noise at 0.05; from the sheet alone."
    )


class EffectResult(Counted):
    """One contrast."""

    contrast: str = Field(description="Such as 'drug: yes - no', or a numeric column.")
    factor: str
    upper: str | None = Field(description="Null for a slope, and for more than two means.")
    lower: str | None
    weights: dict[str, float] = Field(
        description="Weight of the mean of each level, or cell such as 'yes.late'; empty for a "
        "slope."
    )
    r2_with_batch: float = Field(description="Share of the contrast that goes with the batches.")
    vif: float = Field(description="Variance inflation by the batches, 1 / (1 - R²).")
    top: list[FeatureEffect] = Field(description="The 20 features with the smallest p.")


class FactorResult(Counted):
    """All comparable levels of a factor together, an interaction, or all contrasts."""

    factor: str = Field(description="The factor or factors, or the contrasts.")
    df: int = Field(description="Independent differences that were tested.")
    complete: bool = Field(description="Whether these are all that was asked for.")
    of: str = Field(description="What was tested together: 'levels', 'interaction', 'contrasts'.")
    top: list[FeatureF] = Field(description="The 20 features with the smallest p.")


class RefusedResult(Model):
    """A contrast that cannot be told."""

    contrast: str
    beside: str | None = Field(
        description="The batches that it cannot be told from; null if not even from the rest."
    )
    aliased: list[str] = Field(description="Relations such as 'drug[yes] = month[July]'.")
    explanation: str | None = Field(description="What is not linked and would help.")


class CountsResult(Model):
    """Counts that were taken as counts."""

    kept: int = Field(description="Features with enough counts.")
    features: int = Field(description="Features that were looked at; tallies are none.")
    least_per_million: float = Field(description="Counts per million that a feature must reach,")
    in_specimens: float = Field(description="in so many specimens (need not be whole),")
    least_in_all: float = Field(description="and so many counts in all of them.")
    tallies: list[str] = Field(description="Rows of a counting program, left out.")
    sizes: dict[str, float] = Field(description="Counts of each specimen in the kept features.")
    factors: dict[str, float] = Field(description="TMM factors; sizes times these are effective.")
    least_weight: float = Field(description="Smallest precision weight: an inverse variance.")
    largest_weight: float

    @classmethod
    def of(cls, found: ContrastTests) -> CountsResult | None:
        """Publish what was made of counts; None where none were tested."""
        counts, precision = found.counts, found.precision
        if counts is None or precision is None:
            return None
        return cls(
            kept=counts.values.shape[1],
            features=len(counts.kept) - len(counts.tallies),
            least_per_million=counts.rule.cpm,
            in_specimens=counts.rule.specimens,
            least_in_all=counts.rule.in_all,
            tallies=list(counts.tallies),
            sizes=dict(zip(counts.specimens, counts.sizes.tolist(), strict=True)),
            factors=dict(zip(counts.specimens, counts.factors.tolist(), strict=True)),
            least_weight=float(precision.weights.min()),
            largest_weight=float(precision.weights.max()),
        )


class BlocksResult(Model):
    """Rows that share a subject, or another unit."""

    column: str
    count: int = Field(description="Different entries of the column.")
    per_feature: bool = Field(
        description="Whether each feature has a variance between blocks of its own."
    )
    correlation: float = Field(
        description="Of two rows of one block: what features agree on, or the median where each "
        "has its own."
    )
    quarter: float = Field(description="A quarter of the features have less than this,")
    three_quarters: float = Field(description="three quarters less than this.")

    @classmethod
    def of(cls, found: ContrastTests) -> BlocksResult | None:
        """Publish the blocks; None where there are none."""
        blocks = found.blocks
        if blocks is None:
            return None
        low, high = blocks.middle_half()
        return cls.like(blocks, column=blocks.name, quarter=low, three_quarters=high)


class ContrastTestsResult(Model):
    """The tests of a table."""

    batch: str = Field(description="The batch column, always in the model.")
    terms: list[str] = Field(description="The wanted columns in the model.")
    specimens: int
    features: int
    orientation: str = Field(description="How the matrix lies in its file, told by the ids.")
    values: str = Field(description="'original' or 'corrected'.")
    counts: CountsResult | None = Field(
        description="Where counts were tested: effects are then in log2 counts per million, with "
        "a precision weight for each observation."
    )
    specimen_weights: dict[str, float] = Field(
        default={},
        description="The inverse variance of each specimen, where specimens were weighed.",
    )
    blocks: BlocksResult | None = Field(
        description="Rows that are correlated because they share a subject."
    )
    level: float = Field(description="Confidence level of the intervals.")
    shrink: bool = Field(description="Whether the features share what is common to variances.")
    trend: bool
    robust: bool
    prior_df: float | None = Field(
        description="Degrees of freedom that the other features lend (median); null where they "
        "are infinite, or nothing is shared."
    )
    prior_variance: float | None = Field(description="Their common variance (median).")
    effects: list[EffectResult]
    factors: list[FactorResult]
    refused: list[RefusedResult]
    untested: dict[str, int] = Field(description="Features without some answer, by the reason.")
    output: str | None = Field(description="Where the table of all features was written.")
    out_of_core: OutOfCore | None = Field(
        default=None, description="How the matrix was read in pieces; null: in memory."
    )

    @classmethod
    def of(
        cls,
        found: ContrastTests,
        orientation: str,
        shrink: bool = True,
        trend: bool = False,
        robust: bool = False,
        output: str | None = None,
    ) -> ContrastTestsResult:
        """Publish tests."""
        lent = found.prior_df[~np.isnan(found.prior_variance)]
        common = found.prior_variance[~np.isnan(found.prior_variance)]
        return cls(
            batch=found.batch_labels,
            terms=list(found.terms),
            specimens=found.specimens,
            features=len(found.features),
            orientation=orientation,
            values=found.values,
            counts=CountsResult.of(found),
            blocks=BlocksResult.of(found),
            specimen_weights=found.specimen_weights,
            level=found.level,
            shrink=shrink,
            trend=trend,
            robust=robust,
            prior_df=finite(float(np.median(lent))) if len(lent) else None,
            prior_variance=finite(float(np.median(common))) if len(common) else None,
            effects=[_effect(found, one) for one in found.effects],
            factors=[_factor(found, one) for one in found.factors],
            refused=[
                RefusedResult(
                    contrast=str(one.contrast),
                    beside=one.beside or None,
                    aliased=list(one.aliased),
                    explanation=one.explanation or None,
                )
                for one in found.refused
            ],
            untested={reason: len(names) for reason, names in found.untested.items()},
            output=output,
        )


def _effect(found: ContrastTests, one: EffectTest) -> EffectResult:
    top = [
        FeatureEffect(
            feature=found.features[j],
            mean=float(found.mean[j]),
            effect=Estimate(
                estimate=float(one.effect[j]),
                low=float(one.low[j]),
                high=float(one.high[j]),
                level=found.level,
            ),
            standard_error=float(one.standard_error[j]),
            t=float(one.t[j]),
            df=finite(float(one.df[j])),
            p_value=float(one.p_value[j]),
            q_value=float(one.q_value[j]),
        )
        for j in smallest(one.p_value)
    ]
    return EffectResult(
        **_common(one),
        contrast=str(one.contrast),
        factor=one.contrast.factor,
        upper=one.contrast.upper or None,
        lower=one.contrast.lower or None,
        weights=one.contrast.means(),
        r2_with_batch=1.0 - 1.0 / one.vif,
        vif=one.vif,
        top=top,
    )


def _factor(found: ContrastTests, one: FactorTest) -> FactorResult:
    top = [
        FeatureF(
            feature=found.features[j],
            mean=float(found.mean[j]),
            f=float(one.f[j]),
            p_value=float(one.p_value[j]),
            q_value=float(one.q_value[j]),
        )
        for j in smallest(one.p_value)
    ]
    return FactorResult(
        **_common(one), factor=one.factor, df=one.df, complete=one.complete, of=one.of, top=top
    )


def smallest(p_values: np.ndarray, most: int = TOP) -> list[int]:
    """Give the places of the smallest p-values, smallest first.

    Examples
    --------
    >>> smallest(np.array([0.5, np.nan, 0.1]))
    [2, 0]
    """
    order = np.argsort(p_values, kind="stable")[:most]
    return [int(j) for j in order if not np.isnan(p_values[j])]


def _common(one: EffectTest | FactorTest) -> dict[str, float | int]:
    return {
        "tested": int((~np.isnan(one.p_value)).sum()),
        "called": int((one.q_value <= Q_LIMIT).sum()),
        "plain_inflation": one.plain.inflation,
        "plain_false_positive_rate": one.plain.false_positive_rate,
    }

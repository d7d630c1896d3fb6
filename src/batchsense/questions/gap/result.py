"""What ``batchsense gap --json`` prints: a model on shuffled folds and on batches left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from batchsense.reports.envelope import Estimate, Model

if TYPE_CHECKING:
    from batchsense.experiments import CorrectedGap, GapComparison


class BatchErrors(Model):
    """Errors of a model on the rows of one batch."""

    batch_label: str
    specimens: int
    shuffled: float = Field(description="Other rows of the batch were in training.")
    left_out: float = Field(description="No row of the batch was in training.")


class WayResult(Model):
    """The model behind one correction, tested in two ways."""

    correction: Literal["none", "linear", "combat"] = Field(
        description="What was learned and removed inside every fold."
    )
    shuffled: Estimate = Field(
        description="Error where the rows of every batch are spread over all folds; mean over "
        "batches and repetitions."
    )
    left_out: Estimate = Field(
        description="Error where each batch in turn is left out of training; mean over batches."
    )
    difference: Estimate = Field(description="left_out - shuffled, compared batch by batch.")
    standard_error: float = Field(description="Standard error of the difference, over the batches.")
    ratio: Estimate = Field(description="left_out / shuffled.")
    batches_worse: int = Field(description="Batches with a larger error when left out.")
    batches_equal: int
    batches_better: int
    change: Estimate | None = Field(
        description="left_out minus left_out without correction, batch by batch; null for 'none'."
    )
    by_batch: list[BatchErrors]

    @classmethod
    def of(cls, way: CorrectedGap, names: tuple[str, ...]) -> WayResult:
        """Publish the gap behind one correction."""
        gap = way.gap
        if gap.ratio is None:
            ratio = Estimate.missing("no error in either way of testing")
        else:
            only_left_out = "shuffled folds show no error to compare with"
            ratio = Estimate.of(gap.ratio, None if gap.shuffled.estimate > 0 else only_left_out)
        return cls.like(
            gap,
            correction=way.correction,
            left_out=Estimate.of(gap.held_out),
            ratio=ratio,
            batches_worse=gap.worse,
            batches_equal=len(gap.sizes) - gap.worse - gap.better,
            batches_better=gap.better,
            change=None if way.change is None else Estimate.of(way.change),
            by_batch=[
                BatchErrors(
                    batch_label=name,
                    specimens=int(size),
                    shuffled=float(both[0]),
                    left_out=float(both[1]),
                )
                for name, size, both in zip(names, gap.sizes, gap.by_batch, strict=True)
            ],
        )


class GapResult(Model):
    """How much worse a model is on a batch that it has not seen."""

    verdict: Literal["gap", "no_gap_seen", "cannot_tell"] = Field(
        description="Of the model without correction. 'cannot_tell': not even a gap as large as "
        "the shuffled error is excluded, or rows that share an entry of 'withheld_for' lie on both "
        "sides of the folds (exit code 1)."
    )
    withheld_for: list[str] = Field(
        description="Columns that show that rows are no independent specimens, where that alone "
        "keeps a gap from being excluded."
    )
    batches_needed: int | None = Field(
        description="Batches like these that would tell; null with another verdict, and where no "
        "number would do."
    )
    batch: str = Field(description="The column with the batch labels.")
    predicted: str = Field(description="The column that is predicted.")
    block: str | None = Field(
        description="The column whose entries are never in training and predicted at once; null "
        "where rows count as independent."
    )
    kind: Literal["categorical", "numeric"] = Field(description="What is predicted.")
    classes: list[str] = Field(description="The classes; empty for numbers.")
    model: str
    measure: Literal["error rate", "mean squared error"]
    specimens: int
    features: int
    repeats: int = Field(description="How often the shuffled folds were drawn.")
    missing_filled: int = Field(description="Missing values that were filled inside the folds.")
    guess: Estimate = Field(
        description="Error on batches left out of a model that looks at no feature: the commonest "
        "class, or the mean, of the training rows."
    )
    cramers_v: float | None = Field(
        description="Association of classes and batches, chance included; null for numbers."
    )
    ways: list[WayResult] = Field(description="Without correction first.")

    @classmethod
    def of(cls, found: GapComparison, features: int, repeats: int) -> GapResult:
        """Publish a comparison."""
        cannot_tell = found.verdict == "cannot_tell"
        withheld = cannot_tell and found.excluded
        return cls(
            verdict=found.verdict,
            withheld_for=[one.column for one in found.shared] if withheld else [],
            batches_needed=found.batches_needed if cannot_tell and not withheld else None,
            batch=found.batches.name,
            predicted=found.predicted.name,
            block=found.blocks,
            kind=found.predicted.kind,
            classes=list(found.predicted.levels),
            model=found.model,
            measure=found.ways[0].gap.measure,
            specimens=len(found.batches.codes),
            features=features,
            repeats=repeats,
            missing_filled=found.filled,
            guess=Estimate.of(found.guess),
            cramers_v=found.association,
            ways=[WayResult.of(way, found.batches.levels) for way in found.ways],
        )

"""What ``batchsense demo --json`` prints: the story of the project as numbers."""

from __future__ import annotations

from pydantic import Field

from batchsense.questions.plan.result import PlanResult, WorkersResult
from batchsense.reports.envelope import Estimate, Model, Refusal


class MeasuredVariance(Model):
    """The variance of the gradient of minibatches of one size."""

    batch_size: int
    variance: Estimate = Field(
        description="Mean squared distance of a minibatch gradient from the full gradient."
    )


class GradientResult(Model):
    """The variance of a mean falls as 1/n."""

    examples: int = Field(description="Examples in the data set.")
    steps: int = Field(description="Training steps before the measurement.")
    loss: float = Field(description="Mean loss of all examples at these weights, in nats.")
    draws: int = Field(description="Minibatches drawn at each size, with replacement.")
    points: list[MeasuredVariance]
    slope: Estimate = Field(description="Of log variance on log batch size; the law says -1.")
    squared_gradient_norm: float = Field(
        description="Squared length of the full gradient; exact, from all examples."
    )
    trace_covariance: float = Field(
        description="Variance of the gradient of one example; exact, from all examples."
    )


class Promise(Model):
    """A batch size and what is promised for it."""

    name: str = Field(description="How it is derived: 'calibrated' or 'chebyshev'.")
    assumption: str = Field(description="What has to be believed.")
    batch_size: int = Field(description="Examples, drawn without replacement.")


class ToleranceResult(Model):
    """The smallest batch for a tolerance, checked on fresh minibatches."""

    tolerance: float = Field(
        description="Allowed error of the gradient as a part of the length of the full gradient."
    )
    miss_rate: float = Field(description="How often the error may be larger.")
    promises: list[Promise]
    checked_batch_size: int = Field(description="The size that was tried.")
    checked_minibatches: int = Field(description="Fresh minibatches of that size.")
    misses: int = Field(description="How many were farther off than allowed.")
    observed_miss_rate: Estimate


class FormErrors(Model):
    """Error rates of a classifier on one form."""

    form: str
    shuffled: float
    left_out: float


class ClassifierResult(Model):
    """A classifier tested on shuffled folds and on forms left out."""

    model: str
    shuffled: Estimate = Field(description="Error rate; test rows share forms with training rows.")
    left_out: Estimate = Field(description="Error rate; the form was left out of training.")
    ratio: Estimate = Field(description="left_out / shuffled.")
    difference: Estimate = Field(description="left_out - shuffled, mean of the forms.")
    standard_error: float = Field(description="Standard error of the difference, over the forms.")
    forms_worse: int
    forms_equal: int
    forms_better: int
    by_form: list[FormErrors]


class ShareResult(Model):
    """The part of the total variation that a term accounts for."""

    term: str
    share: Estimate = Field(description="Of the total sum of squares over all pixels.")
    null_mean: float | None = Field(description="The same by chance alone: mean of permutations.")
    null_max: float | None = Field(description="The same by chance alone: largest permutation.")
    p_value: float | None = Field(description="How often chance gives at least this share.")
    random_effects_share: Estimate = Field(
        description="With the forms as a random draw of all forms: chance removed, the part of "
        "the interaction that hides in a main effect too."
    )


class FormsResult(Model):
    """How much varies with the form and with the digit."""

    cramers_v: float = Field(description="Association of form and digit in the design, 0 to 1.")
    permutations: int
    shares: list[ShareResult]


class MethodResult(Model):
    """How far a way of analysis ends from the known answer."""

    method: str
    error: Estimate = Field(
        description="Squared error relative to the squared truth; 0 is right, 1 nothing left."
    )
    effect: list[float] = Field(
        description="Mean image of 8 minus mean image of 3 in the first draw, 64 pixels."
    )


class ConfoundedResult(Model):
    """A subsample in which form and digit are entangled, and one in which they are one."""

    rows: int = Field(description="Rows in each draw.")
    draws: int = Field(description="Draws behind the errors.")
    cramers_v: float = Field(description="Association of form and digit in the first draw.")
    truth: list[float] = Field(description="The effect in all rows of the two digits, 64 pixels.")
    methods: list[MethodResult]
    refusal: Refusal = Field(description="The answer where each digit has a form of its own.")


class MemoryWall(Model):
    """How many examples fit into a limit."""

    limit_bytes: int
    most_examples: int = Field(description="Of a step that stays within the limit.")
    peak_bytes: int = Field(description="Of a step of so many.")
    beyond_bytes: int = Field(description="Of a step of one example more.")


class SplitResult(Model):
    """Whether a loss may be split into parts of its examples."""

    name: str = Field(description="'atoms' or 'points'.")
    verdict: str = Field(description="yes, no or unresolved.")
    kind: str
    deviation: float = Field(description="Of averaged parts from the whole, over the gradient.")


class HeatResult(Model):
    """The heat of a run, beside a floor that is known exactly."""

    batch_size: int
    learning_rate: float
    loss: float = Field(description="Mean over the run.")
    floor: float = Field(description="Least loss, by solving the equations.")
    heat: Estimate = Field(description="Loss above the floor, read without knowing it.")


class MonthsResult(Model):
    """Specimens measured in May and in July, most of the treated ones in July; simulated."""

    specimens: int
    genes: int
    moved: int = Field(description="Genes that the drug moves.")
    share: Estimate = Field(description="Of the month in the variance, chance subtracted.")
    p_value: float = Field(description="How often permuted months give at least this share.")
    false_discovery: float = Field(description="Part of its calls that a test may have wrong.")
    called: list[int] = Field(description="Genes, by a t test of the drug alone; with the month.")
    wrong: list[int] = Field(description="Of them, those that the drug does not move.")
    effective_specimens: float = Field(description="What they are worth beside the month.")
    refusal: Refusal = Field(description="Where May has all controls and July all treated.")


class DemoResult(Model):
    """One real data set, both halves of the project."""

    gradient: GradientResult
    tolerance: ToleranceResult
    plan: PlanResult
    memory: MemoryWall | None = Field(description="Null where the peak is not resolved.")
    workers: WorkersResult = Field(description="Over a network of 100 Mbit/s.")
    splits: list[SplitResult]
    heat: HeatResult
    classifiers: list[ClassifierResult]
    forms: FormsResult
    confounded: ConfoundedResult
    months: MonthsResult

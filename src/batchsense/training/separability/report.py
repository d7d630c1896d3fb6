"""What an audit found, in numbers and in words that claim no more than was tested."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from batchsense.variation.interval import Interval

#: Mean of independent terms, their sum, a quotient of two sums, a function of such, none of them;
#: or undecided, where the design cannot tell.
Kind: TypeAlias = Literal["mean", "sum", "ratio", "composite", "interacting", "undecided"]
#: May the loss be cut into parts whose gradients are averaged?
Verdict: TypeAlias = Literal["yes", "no", "unresolved"]


@dataclass(frozen=True, slots=True)
class Bias:
    """The mean deviation over random partitions: what more micro-batches do not average away.

    Attributes
    ----------
    size : Interval
        ‖E(mean_k g_k − G)‖ / ‖G‖. The estimate is the signed root of an unbiased estimate of the
        square, so it may be negative where there is nothing but noise.
    detected : bool
        Whether the sign-flip test rejects "no bias", or all partitions are off alike.
    p_value, p_value_sign_flip : float
        Split-half test, and sign-flip test beside it: the second decides, having more power.
    over_noise : float
        The bias over the noise of one micro-batch's gradient.
    partitions : int
        Over how many random partitions; for a ratio they are computed from the measured ones.
    """

    size: Interval
    detected: bool
    p_value: float
    p_value_sign_flip: float
    over_noise: float
    partitions: int


@dataclass(frozen=True, slots=True, eq=False)
class FoundNormaliser:
    """What a ratio divides by.

    Attributes
    ----------
    name : str
        Readable: ``"minibatch['labels'] != -100"``.
    weight : callable or None
        Gives w of a minibatch; None if it could not be expressed by what a minibatch contains.
    additive : bool
        Whether w of the whole is the sum of w over the parts.
    also : tuple of str
        Other counts that fit these examples as well.
    class_weights : mapping or None
        Relative weight of every class, where that is what was discovered.
    """

    name: str
    weight: Callable[[Any], float] | None
    additive: bool = True
    also: tuple[str, ...] = ()
    class_weights: Mapping[int, float] | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """Where the examples of a minibatch meet.

    Attributes
    ----------
    name : str
        Path of the module in the model, name of the loss term, or ``"loss"``.
    place : str
        ``"module"``, ``"term"`` or ``"loss"``.
    detail : str
        What was seen there.
    where : str or None
        ``file:line`` of the operation, if it was found.
    strength : float or None
        How far the outputs of examples moved when others were replaced, relative to their size.
    """

    name: str
    place: Literal["module", "term", "loss"]
    detail: str
    where: str | None = None
    strength: float | None = None


@dataclass(frozen=True, slots=True)
class Consequence:
    """What happens to the gradient under one way of splitting.

    Attributes
    ----------
    deviation : float or None
        ‖split gradient − full gradient‖ / ‖full gradient‖; None if it was not measured.
    scale : float or None
        The multiple of the full gradient that is nearest to the split one.
    factor : str or None
        Name of the scale if the whole error is a factor: ``"1/K"``.
    message : str
        One sentence.
    low, high : float or None
        The least and the largest deviation that was measured; ``deviation`` is the root of their
        mean square.
    splits : int
        How many ways of splitting were measured.
    """

    deviation: float | None
    scale: float | None
    factor: str | None
    message: str
    low: float | None = None
    high: float | None = None
    splits: int = 0


@dataclass(frozen=True, slots=True)
class Consequences:
    """What happens under the three usual ways of splitting a minibatch.

    Attributes
    ----------
    gradient_accumulation, ddp, uneven_last : Consequence
        Averaging micro-batches of equal size; averaging over processes; averaging micro-batches
        of which the last is smaller.
    """

    gradient_accumulation: Consequence
    ddp: Consequence
    uneven_last: Consequence


@dataclass(frozen=True, slots=True, eq=False)
class SeparabilityReport:
    """Whether a loss may be mini-batched, accumulated and distributed.

    Attributes
    ----------
    kind : str
        With L over a set of examples: ``"mean"`` of independent terms, ``"sum"``, ``"ratio"`` of
        two sums, ``"composite"`` (a function of such), ``"interacting"``; ``"undecided"`` where
        the partitions cannot tell these apart.
    kind_without_noise : str or None
        The same with dropout switched off; None where the loss draws no random numbers.
    exact : bool
        Whether the kind follows from equalities that hold to rounding, not from statistics.
    stochastic : bool
        Whether the loss draws random numbers.
    verdict : str
        ``"yes"``: the average of micro-batch gradients is the full gradient, exactly or with no
        bias detected and the possible bias below the tolerance; ``"no"``; ``"unresolved"``.
    deviation : float
        Root mean square of ‖mean_k g_k − G‖ / ‖G‖.
    residual : float or None
        What no linear combination of micro-batch gradients reaches, relative to ‖G‖.
    bias : Bias or None
        None where the deviation is zero to rounding, or where ``bias_withheld`` says why.
    bias_withheld : str or None
        Why the partitions do not show a bias.
    normaliser : FoundNormaliser or None
        What a mean (examples) or a ratio divides by, or the terms of a sum of two ratios.
    sources : tuple of Source
        Where examples meet; empty for a mean.
    consequences : Consequences
        Under gradient accumulation, DDP and an uneven last micro-batch.
    scale : float
        The multiple of G that is nearest to mean_k g_k.
    fix : str
        What to do.
    tolerance, floor : float
        What counted as zero, and the rounding it comes from; relative to ‖G‖.
    batch_size, micro_batch, parameters : int
        Examples audited at once, examples per part, numbers in the gradient.
    level : float
        Confidence level of the ends of the bias interval.
    bias_tolerance : float
        The relative bias that is called safe.
    precision : str
        In which everything was computed.
    cost : float
        Gradients over all examples that the decision took.
    notes : tuple of str
        What limits the answer.
    """

    kind: Kind
    kind_without_noise: Kind | None
    exact: bool
    stochastic: bool
    verdict: Verdict
    deviation: float
    residual: float | None
    bias: Bias | None
    normaliser: FoundNormaliser | None
    sources: tuple[Source, ...]
    consequences: Consequences
    scale: float
    fix: str
    tolerance: float
    floor: float
    batch_size: int
    micro_batch: int
    parameters: int
    level: float
    bias_tolerance: float
    precision: str
    cost: float
    notes: tuple[str, ...] = field(default=())
    bias_withheld: str | None = None

    @property
    def safe(self) -> bool:
        """Whether the verdict is yes."""
        return self.verdict == "yes"

    @property
    def conclusion(self) -> str:
        """One sentence: what was found, and how far the test reaches."""
        if self.kind == "interacting" and self.normaliser is not None:
            return f"{_SUM_OF_RATIOS} {self.finding}"
        return f"{_KINDS[self.kind] if self.exact else _BY_CHANCE[self.kind]} {self.finding}"

    @property
    def finding(self) -> str:
        """What was measured about the averaged micro-batch gradient."""
        tested = f"{self.batch_size} examples in micro-batches of {self.micro_batch}"
        if self.bias_withheld is not None:
            return (
                f"On {tested} the averaged gradient differs by {_share(self.deviation)} of the "
                f"full one; {self.bias_withheld}."
            )
        if self.bias is None and self.tolerance < self.bias_tolerance:
            return (
                f"On {tested} the averaged gradient equals the full one to rounding "
                f"(deviation {self.deviation:.1e})."
            )
        if self.bias is None:
            return (
                f"On {tested} the averaged gradient differs from the full one by "
                f"{self.deviation:.1g}·|G|, but in {self.precision} less than "
                f"{self.tolerance:.1g}·|G| cannot be told from rounding."
            )
        if self.bias.detected:
            size, count = self.bias.size, self.bias.partitions
            if size.high - size.low <= _ALIKE * size.estimate:
                return (
                    f"On {tested} the averaged gradient is off by {_share(size.estimate)} of the "
                    f"full one, alike in all {count} partitions."
                )
            return (
                f"On {tested} the averaged gradient is biased by {_share(size.estimate)} of the "
                f"full one ({_share(size.low)} to {_share(size.high)}, each end at "
                f"{self.level:.0%}, {count} partitions)."
            )
        return (
            f"On {tested}: no bias detected, |bias| < {self.bias.size.high:.2g}·|G| "
            f"({self.level:.0%}, {self.bias.partitions} partitions); one minibatch deviates by "
            f"{self.deviation:.2g}·|G|."
        )


def _share(part: float) -> str:
    """A part of the gradient in per cent, with more digits where it is small."""
    return f"{part:.2%}" if abs(part) >= 0.001 or part == 0 else f"{100 * part:.2g}%"


# An interval as narrow as this is that of one number, which every partition gives.
_ALIKE = 1e-5
#: What is said of tensors whose shapes let every example meet every other.
BROADCAST = "were broadcast to"
_SUM_OF_RATIOS = "A sum of ratios: its terms divide by different counts of the minibatch."
#: What a sum plus a regulariser is called: its parts add up, the regulariser K times.
EXAMPLE_FREE_TERM = "a sum, and a term that does not depend on the examples"
_KINDS: dict[str, str] = {
    "mean": "A mean of independent terms.",
    "sum": "A sum of independent terms: add micro-batch gradients, do not average them.",
    "ratio": "A ratio of two sums over the examples: each micro-batch has its own denominator.",
    "composite": "A function of sums over the examples: no fixed weights put the parts together.",
    "interacting": "The examples of a minibatch act on each other.",
    "undecided": "No mean of independent terms; what else it is these partitions cannot tell.",
}
_BY_CHANCE: dict[str, str] = {
    "mean": "Random numbers hide the parts; nothing speaks against a mean of independent terms.",
    "sum": "Random numbers hide the parts; they fit a sum: add micro-batch gradients.",
    "ratio": "Random numbers hide the parts; they fit a ratio of two sums over the examples.",
    "composite": "Random numbers hide the parts.",
    "interacting": "The examples of a minibatch act on each other, or are put together unevenly.",
    "undecided": "Random numbers hide the parts.",
}

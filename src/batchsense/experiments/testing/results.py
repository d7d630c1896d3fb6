"""What a test gives: effects with intervals, p and q, and what could not be tested."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from typing_extensions import override

from batchsense.arrays import Floats, Integers
from batchsense.experiments.contrasts.combination import Difference
from batchsense.experiments.counts import PreparedCounts
from batchsense.experiments.shown import Shown
from batchsense.experiments.testing.moderation import Statistics
from batchsense.experiments.testing.weights.precision_weights import PrecisionWeights
from batchsense.notes import Note

if TYPE_CHECKING:
    import pandas as pd


GroupOf = Literal["levels", "interaction", "contrasts"]

#: Where features are counted in one line, and how many contrasts it names.
_Q_LIMIT, _SHOWN = 0.05, 3
#: The columns of the table of all tests.
COLUMNS = (
    *("contrast", "feature", "mean", "effect", "low", "high", "standard_error"),
    *("statistic", "kind", "df", "p", "q", "remark"),
)


@dataclass(frozen=True, slots=True, eq=False)
class PlainTest:
    """What a test without the batch terms would do on values corrected by linear removal.

    Attributes
    ----------
    inflation : float
        Its t divided by the honest one (for F: the root of the mean variance inflation); divide by
        it in tools that cannot take the batch into their model.
    false_positive_rate : float
        The share of pure noise that it calls at 0.05.
    """

    inflation: float
    false_positive_rate: float


@dataclass(frozen=True, slots=True, eq=False)
class EffectTest(Statistics):
    """One contrast, tested on every feature: ``effect``, ``low``, ``high``, ``t``, ``p_value`` ...

    The arrays are those of
    :class:`~batchsense.experiments.testing.moderation.Statistics`.

    Attributes
    ----------
    contrast : Difference
        The level minus the other, or the slope.
    vif : float
        How much the batches in the model inflate the variance of the effect.
    plain : PlainTest
        What ignoring the batch on corrected values would do.
    """

    contrast: Difference
    vif: float
    plain: PlainTest

    @property
    def name(self) -> str:
        """The contrast in words."""
        return str(self.contrast)


@dataclass(frozen=True, slots=True, eq=False)
class FactorTest:
    """Several contrasts together, tested on every feature: mostly all levels of a factor.

    Attributes
    ----------
    factor : str
        The factor, the factors of an interaction, or the contrasts.
    df : int
        Independent differences that were tested.
    complete : bool
        Whether these are all; false where some cannot be told.
    f, p_value, q_value, df_within : array of shape (features,)
        Of the moderated F; the last are the degrees of freedom below.
    plain : PlainTest
        What ignoring the batch on corrected values would do.
    of : {"levels", "interaction", "contrasts"}
        What was tested together.
    """

    factor: str
    df: int
    complete: bool
    f: Floats = field(repr=False)
    p_value: Floats = field(repr=False)
    q_value: Floats = field(repr=False)
    df_within: Floats = field(repr=False)
    plain: PlainTest
    of: GroupOf = "levels"

    @property
    def name(self) -> str:
        """The factor."""
        return self.factor


@dataclass(frozen=True, slots=True)
class Refused:
    """A contrast that the design cannot answer.

    Attributes
    ----------
    contrast : Difference
        What was asked.
    aliased : tuple of str
        The relations that entangle it, such as ``drug[yes] = month[July]``.
    explanation : str
        Which levels no specimen links, and what would; may be empty.
    beside : str
        The batch column that it cannot be told from; empty if it cannot even without the batches.
    """

    contrast: Difference
    aliased: tuple[str, ...]
    explanation: str
    beside: str


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """Rows that share a subject, or another unit, and how far they agree.

    Attributes
    ----------
    name : str
        The column.
    codes : array of shape (specimens,)
        The block of each specimen.
    count : int
        Number of blocks.
    per_feature : bool
        Whether each feature has a variance between blocks of its own.
    correlation : float
        Of two rows of a block: what features agree on, or the median where each has its own.
    each : array of shape (features,)
        That of every feature, NaN where it does not tell; with variances of each feature at least
        zero.
    """

    name: str
    codes: Integers = field(repr=False)
    count: int
    per_feature: bool
    correlation: float = np.nan
    each: Floats = field(default_factory=lambda: np.empty(0), repr=False)

    def middle_half(self) -> tuple[float, float]:
        """The correlations below which a quarter and three quarters of the features lie."""
        low, high = np.nanquantile(self.each, [0.25, 0.75])
        return float(low), float(high)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ContrastTests(Shown):
    """The tests of a table.

    Attributes
    ----------
    effects : tuple of EffectTest
        One for each estimable contrast.
    factors : tuple of FactorTest
        One for each factor of more than two levels that was asked for as a whole.
    refused : tuple of Refused
        What cannot be told from the batches.
    features : tuple of str
        The features, in the order of every array.
    mean : array of shape (features,)
        Mean of the observed values that were tested.
    df : array of shape (features,)
        Degrees of freedom of the variances: residual ones, and those that other features lend.
    prior_df, prior_variance : array of shape (features,)
        What the other features lend; zero and NaN without shrinkage.
    untested : dict of str to tuple of str
        Features without an answer to some contrast, by the reason.
    values : str
        ``"original"`` or ``"corrected"``: which observations were tested.
    batch_labels : str
        The batch column.
    terms : tuple of str
        Wanted factors in the model.
    specimens : int
        Number of specimens.
    level : float
        Confidence level of the intervals.
    notes : tuple of Note
        What the reader must know.
    counts : PreparedCounts or None
        Where counts were tested: which features were kept, and the libraries.
    precision : PrecisionWeights or None
        Where counts were tested: the weights of the kept features, and their trend.
    blocks : Blocks or None
        Where rows share blocks: which, and how far they agree.
    specimen_weights : dict of str to float
        Where specimens were weighed: the inverse variance of each, their geometric mean being one.
    variance : array of shape (features,) or None
        The residual variance of each feature by itself, before anything is shared.
    """

    effects: tuple[EffectTest, ...]
    factors: tuple[FactorTest, ...]
    refused: tuple[Refused, ...]
    features: tuple[str, ...] = field(repr=False)
    mean: Floats = field(repr=False)
    df: Floats = field(repr=False)
    prior_df: Floats = field(repr=False)
    prior_variance: Floats = field(repr=False)
    untested: dict[str, tuple[str, ...]]
    values: str
    batch_labels: str
    terms: tuple[str, ...]
    specimens: int
    level: float
    notes: tuple[Note, ...]
    counts: PreparedCounts | None = None
    precision: PrecisionWeights | None = None
    blocks: Blocks | None = None
    specimen_weights: dict[str, float] = field(default_factory=dict, repr=False)
    variance: Floats | None = field(default=None, repr=False)

    @override
    def headline(self) -> str:
        found = [
            f"{one.name}: {int((one.q_value <= _Q_LIMIT).sum()):,} of "
            f"{int((one.p_value >= 0).sum()):,} features at q ≤ {_Q_LIMIT:g}"
            for one in self.effects[:_SHOWN]
        ]
        more = f"; {len(self.effects) - _SHOWN} more contrasts" * (len(self.effects) > _SHOWN)
        refused = f"; {len(self.refused)} refused" * bool(self.refused)
        return f"{'; '.join(found)}{more}{refused}; {self.specimens:,} specimens"

    @override
    def to_frame(self) -> pd.DataFrame:
        """All tests as one table: a row for each contrast and feature, factors first.

        Returns
        -------
        DataFrame
            Columns ``contrast``, ``feature``, ``mean``, ``effect``, ``low``, ``high``,
            ``standard_error`` (missing for F), ``statistic``, ``kind`` (t or F), ``df`` (of the
            variance), ``p``, ``q`` and ``remark`` (why there is no answer).
        """
        import pandas as pd

        remarks = {name: reason for reason, names in self.untested.items() for name in names}
        reasons = [remarks.get(name, "") for name in self.features]
        frames = []
        tests: list[FactorTest | EffectTest] = [*self.factors, *self.effects]
        for one in tests:
            df = one.df_within if isinstance(one, FactorTest) else one.df
            own: dict[str, object] = {"feature": self.features, "mean": self.mean, "df": df}
            own.update(contrast=one.name, p=one.p_value, q=one.q_value)
            own["remark"] = np.where(np.isnan(one.p_value), reasons, "")
            if isinstance(one, FactorTest):
                own.update(statistic=one.f, kind="F")
            else:
                own.update(effect=one.effect, low=one.low, high=one.high)
                own.update(standard_error=one.standard_error, statistic=one.t, kind="t")
            frames.append(pd.DataFrame(own))
        return pd.concat(frames, ignore_index=True).reindex(columns=list(COLUMNS))

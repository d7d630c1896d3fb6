"""What the numbers of a matrix are: counts, logarithms, intensities, bounded or plain numbers.

The model of this package adds effects to values that scatter alike whatever their size. Counts and
intensities scatter the more the larger they are: where they are recognised, a verdict is withheld.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Flags
from batchsense.errors import DataError, UnresolvedError, listed
from batchsense.notes import Note

ValueKind = Literal["counts", "log", "intensities", "bounded", "numbers"]

#: Kinds whose scatter grows with their size, so that a model that adds effects does not hold.
RAW: frozenset[str] = frozenset({"counts", "intensities"})
#: Larger numbers are no logarithms: as a binary one it would stand for a count of 10¹⁵.
LARGEST_LOG = 50
#: Whole numbers that never come down to this, and whose variance is below half their mean in most
#: features, are no counts: those of independent events scatter at least as much as their mean.
_FEW_COUNTS, _EVEN = 10, 0.5
#: Whole numbers of which the smallest positive one, or the middle of the positive ones, is beyond
#: these are intensities: the deepest libraries have a median below 1e4.
_SMALLEST_INTENSITY, _MEDIAN_INTENSITY = 1e3, 1e5
#: Beyond this every double is whole, so that being whole says nothing.
_LARGEST_WHOLE = 2**53
#: Counts of which up to one in a hundred is fractional or negative were damaged on the way.
_FEW_BROKEN = 0.01
#: Whole numbers that reach this, with zeros in a quarter of the cells, ever fewer ones, twos and
#: threes, are counts even below 50. Scores and genotypes end before it, pixels do not fall so.
_SMALL_COUNTS, _ZEROS = 10, 0.25
#: Fewer values do not show how they are distributed.
_FEWEST = 100
#: Features of which some exceed 1000, whose medians span two orders of magnitude and which scatter
#: nearly in proportion to them: the slope in logarithms is 1 for intensities, 0 for logarithms.
_LARGE, _SPAN, _SLOPE, _FEATURES = 1e3, 1e2, 0.75, 50
#: A repeated extreme stands for "not observed" where it lies farther from the next value than this
#: part of the range of all others: zero in log intensities of 18 to 30, or -999.
_APART = {"zero": 0.3, "other": 1.0}
#: Quantiles are taken of about so many values: their errors do not matter here.
_LOOKED_AT = 100_000

#: How the rows begin that htseq-count, STAR and featureCounts append to their features.
_TALLIES = (
    "__no_feature",
    "__ambiguous",
    "__too_low_aqual",
    "__not_aligned",
    "__alignment_not_unique",
    "n_unmapped",
    "n_multimapping",
    "n_nofeature",
    "n_ambiguous",
    "unassigned_",
)


@dataclass(frozen=True, slots=True)
class ValuesRead:
    """As what the values of a matrix were read.

    Examples
    --------
    >>> print(ValuesRead("counts", False, 0, 51, True))
    counts (whole numbers from 0 to 51)
    """

    kind: ValueKind  #: What they are; ``"numbers"`` where nothing tells
    declared: bool  #: Whether the user said so
    #: The ends, in units of the values; NaN where there are none.
    lowest: float
    highest: float
    whole: bool  #: Whether all are whole numbers

    def __str__(self) -> str:
        """Name the kind, and what speaks for it."""
        what = "whole numbers" if self.whole else "numbers"
        return f"{self.kind} ({what} from {self.lowest:,.10g} to {self.highest:,.10g})"

    @property
    def sentence(self) -> str:
        """Say which reading was taken: the same words everywhere."""
        if self.declared:
            return f"The values were declared to be {self}."
        return f"The values were read as {self}; --values says what they are."


def read_values(values: npt.NDArray[Any], declared: ValueKind | None = None) -> ValuesRead:
    """Tell what the values of a matrix are; where that is declared, only their ends are looked at.

    Whole numbers from 0 on of which some exceed 50 are counts, or intensities where even the small
    ones are large; but plain numbers where none is below 10 and they scatter less than counts can.
    Fractions are intensities where the medians of features span two orders of magnitude, with a
    scatter that grows with them. Fractions between 0 and 1 are bounded. All else are plain numbers,
    logarithms among them: nothing tells these apart, or depends on it.
    """
    ends = [np.nan, np.nan]
    if values.size:
        by_feature = np.fmin.reduce(values, axis=0), np.fmax.reduce(values, axis=0)
        ends = [float(np.fmin.reduce(by_feature[0])), float(np.fmax.reduce(by_feature[1]))]
    low, high = ends
    whole = bool(values.size) and max(-low, high) <= _LARGEST_WHOLE
    whole = whole and all(np.array_equal(rows, np.rint(rows), equal_nan=True) for rows in values)
    if declared in RAW and low < 0:
        raise DataError(
            f"the values are declared to be {declared}, and {declared} are never negative; the "
            f"lowest is {low:g}. Declare what they are: --values log, for example"
        )
    if declared == "counts" and values.size and not whole and high <= _LARGEST_WHOLE:
        broken = values[(values != np.rint(values)) & ~np.isnan(values)].flat[0]
        raise DataError(
            f"counts are whole numbers, and one of the values that are declared to be counts is "
            f"{broken:g}. Round estimated counts (RSEM, salmon), or declare another kind"
        )
    kind = declared or _recognised(values, low, high, whole)
    return ValuesRead(kind, declared is not None, low, high, whole)


def _recognised(values: npt.NDArray[Any], low: float, high: float, whole: bool) -> ValueKind:
    if not low >= 0:
        return "numbers"
    if whole and high > LARGEST_LOG:
        if low >= _FEW_COUNTS and _too_even(values):
            return "numbers"
        some = _some(values)
        smallest = float(np.min(values, where=values > 0, initial=np.inf))
        middle = np.median(some[some > 0]) if (some > 0).any() else 0.0
        large = smallest > _SMALLEST_INTENSITY or middle > _MEDIAN_INTENSITY
        return "intensities" if large else "counts"
    if whole:
        return "counts" if high >= _SMALL_COUNTS and _falls_off(values) else "numbers"
    if high <= 1:
        return "bounded"
    return "intensities" if high > _LARGE and _scatter_grows(values) else "numbers"


def _falls_off(values: npt.NDArray[Any]) -> bool:
    """Whether whole numbers become the rarer the larger they are, and many are zero."""
    some = _some(values)
    if len(some) < _FEWEST:
        return False
    zeros, *others = (np.count_nonzero(some == number) for number in range(4))
    return bool(zeros >= _ZEROS * len(some)) and sorted((zeros, *others), reverse=True) == [
        zeros,
        *others,
    ]


def _too_even(values: npt.NDArray[Any]) -> bool:
    """Whether positive numbers vary less, in most features, than counts of that size can."""
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # features without two observed values
        ratio = np.nanvar(values, axis=0, ddof=1) / np.nanmean(values, axis=0)
    told = ratio[np.isfinite(ratio)]
    return bool(told.size and np.median(told) < _EVEN)


def _scatter_grows(values: npt.NDArray[Any]) -> bool:
    """Whether features of many sizes scatter in proportion to their size.

    By medians, which a code for missing values, such as 9999, does not move.
    """
    complete = values[:, ~np.isnan(values).any(axis=0)]
    if len(values) < 3 or complete.shape[1] < _FEATURES:
        return False
    middle = np.median(complete, axis=0)
    scatter = np.median(np.abs(complete - middle), axis=0)
    told = (middle > 0) & (scatter > 0)
    if np.count_nonzero(told) < _FEATURES:
        return False
    sizes = np.log(middle[told])
    if np.subtract(*np.quantile(sizes, [0.95, 0.05])) < np.log(_SPAN):
        return False
    return bool(np.polyfit(sizes, np.log(scatter[told]), 1)[0] >= _SLOPE)


def _some(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Observed values, about 100,000 of them, from all over the matrix."""
    flat = values.reshape(-1)  # a copy only where the matrix lies the other way
    some = flat[:: max(1, flat.size // _LOOKED_AT)]
    return np.asarray(some[~np.isnan(some)])


def refuse_raw(read: ValuesRead, what: str) -> None:
    """Withhold an answer that rests on added effects and equal scatter, where neither holds."""
    if read.kind not in RAW:
        return
    raise UnresolvedError(
        f"{read.sentence} In the model effects add up and all values scatter alike, but "
        f"{read.kind} scatter the more the larger they are; so {what} is withheld",
        needed=f"{_LOGS[read.kind]}; or --values numbers (values_are='numbers' in Python) if they "
        f"are no {read.kind}",
    )


_LOGS = {
    "counts": "log counts per million, log2((count + 0.5) / (library size + 1) * 1e6), as voom and "
    "edgeR make them",
    "intensities": "their logarithms, with zeros left empty where they mean that nothing was "
    "observed",
}


def value_notes(
    values: npt.NDArray[Any], read: ValuesRead, where: str = "", rows: Sequence[str] = ()
) -> list[Note]:
    """Remark on values that the model does not suit, that look missing, or that are no features.

    ``where`` says in words what part of the matrix was looked at, if not all; ``rows`` are the
    features.
    """
    sentence = f"{read.sentence[:-1]}{where}."
    advice = {
        "counts": (
            "looks_like_counts",
            "test and diagnose take them as counts. Elsewhere the model adds effects, so transform "
            "first (for example to log counts per million), or correct them as what they are: "
            "correct --method combat-seq.",
        ),
        "intensities": (
            "looks_like_intensities",
            "The model adds effects, so take logarithms first.",
        ),
        "bounded": (
            "looks_bounded",
            "The model adds effects and knows no bounds, so corrected values may leave them; "
            "transform first (for example proportions to logits, which for methylation are M "
            "values).",
        ),
    }
    notes = []
    if read.kind in advice:
        code, what = advice[read.kind]
        notes.append(Note(code, f"{sentence} {what}"))
    elif _may_be_counts(values, read):
        notes.append(Note("whole_numbers", f"{sentence} If they are counts, say so."))
    elif broken := _broken_counts(values, read):
        message = (
            f"{sentence} All but {broken:,} of them are whole numbers from 0 on; if they are "
            "counts, mend these and say --values counts."
        )
        notes.append(Note("nearly_counts", message))
    return [*notes, *_like_missing(values, read), *tally_notes(rows)]


def _may_be_counts(values: npt.NDArray[Any], read: ValuesRead) -> bool:
    return (
        not read.declared
        and read.whole
        and read.lowest >= 0
        and read.highest >= (_SMALL_COUNTS if read.lowest == 0 else LARGEST_LOG)
        and values.size >= _FEWEST
    )


def _broken_counts(values: npt.NDArray[Any], read: ValuesRead) -> int:
    """How many values keep a matrix from being one of counts, if they are a few."""
    if read.kind != "numbers" or read.declared or not read.highest > LARGEST_LOG:
        return 0
    some = _some(values)
    positive = some[some > 0]
    if len(some) < _FEWEST or (positive == np.rint(positive)).mean() < 1.0 - _FEW_BROKEN:
        return 0
    broken = int(np.count_nonzero((values < 0) | ((values != np.rint(values)) & ~np.isnan(values))))
    return broken if broken <= _FEW_BROKEN * values.size else 0


def _like_missing(values: npt.NDArray[Any], read: ValuesRead) -> list[Note]:
    """Remark on an extreme that is repeated and far from everything else."""
    if values.size < _FEWEST or read.kind in ("counts", "bounded") or not np.isfinite(read.lowest):
        return []
    some = _some(values)
    notes = []
    ends = (
        (read.lowest, values > read.lowest, 1.0),
        (read.highest, values < read.highest, -1.0),
    )
    for end, others, sign in ends:
        at_end = values == end
        mixed = at_end.any(axis=0) & others.any(axis=0)  # constant features are no gaps
        count = int(np.count_nonzero(at_end[:, mixed]))
        if count < 2:
            continue
        rest = sign * some[some != end]
        if not len(rest):
            continue
        reduce = np.min if sign > 0 else np.max
        nearest = float(reduce(values, where=others, initial=sign * np.inf))
        gap, range_ = abs(nearest - end), np.quantile(rest, 0.99) - sign * nearest
        zero = end == 0 and sign > 0
        apart = gap > _APART["zero" if zero else "other"] * range_ and gap > 3
        if apart or (zero and nearest > _SMALLEST_INTENSITY):
            side = "or more" if sign > 0 else "or less"
            message = (
                f"{count:,} values are exactly {end:g}, and all others {nearest:g} {side}: such "
                f"values mostly stand for what was not observed. They were taken as measured; "
                "leave their cells empty if they are missing."
            )
            notes.append(Note("looks_missing", message))
    return notes


def tallies(features: Sequence[str]) -> Flags:
    """Mark the rows that a counting program appended to its features, shape (features,).

    Examples
    --------
    >>> tallies(["BRCA1", "__no_feature", "N_unmapped"]).tolist()
    [False, True, True]
    """
    return np.array([one.strip().lower().startswith(_TALLIES) for one in features], dtype=bool)


def tally_notes(features: Sequence[str]) -> list[Note]:
    """Name the rows that a counting program appended."""
    found = [features[place] for place in np.flatnonzero(tallies(features)).tolist()]
    if not found:
        return []
    message = (
        f"{listed(found)} are tallies of a counting program, no features. combat-seq leaves them "
        "as they are and out of the library sizes; diagnose, surrogates and test leave them out; "
        "the other methods, and gap unless it reads counts, take them for features: remove them."
    )
    return [Note("tallies", message, tuple(found))]


def range_notes(original: npt.NDArray[Any], corrected: npt.NDArray[Any]) -> list[Note]:
    """Remark on corrected values that such values cannot have.

    Counts, intensities and other large numbers that are never negative, and proportions.
    """
    low = np.fmin.reduce(original, axis=None)
    high = np.fmax.reduce(original, axis=None)
    if not (low >= 0 and (high <= 1 or high > LARGEST_LOG)):
        return []
    below = int(np.count_nonzero(corrected < 0))
    above = int(np.count_nonzero(corrected > 1)) if high <= 1 else 0
    found = [f"{below:,} are negative"] * (below > 0) + [f"{above:,} are above 1"] * (above > 0)
    if not found:
        return []
    message = (
        f"Corrected values left the range of the originals, which lie between {low:g} and "
        f"{high:g}: {' and '.join(found)}. Transform first (counts and intensities to logarithms, "
        "proportions to logits) and transform the result back."
    )
    return [Note("left_range", message)]

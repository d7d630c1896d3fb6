"""Which features have enough counts to tell anything, judged without looking at the groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from batchsense.arrays import Flags, Floats

#: The customs of the field (Chen, Lun and Smyth 2016): so many counts in a library of median size
#: and in all; groups beyond ``_LARGE`` specimens need only this share of those beyond it.
_FEWEST, _FEWEST_IN_ALL, _LARGE, _SHARE = 10.0, 15.0, 10.0, 0.7
#: Leverages are sums of squares and come with rounding: 1/3.0000000000000004 is still three.
_ROUNDING = 1e-14


@dataclass(frozen=True, slots=True)
class ExpressionRule:
    """A feature is kept that reaches ``cpm`` in ``specimens`` specimens, and ``in_all`` counts.

    Attributes
    ----------
    cpm : float
        Counts per million.
    specimens : float
        How many specimens; need not be whole where it comes from leverages.
    in_all : float
        Counts of all specimens together.
    """

    cpm: float
    specimens: float
    in_all: float = _FEWEST_IN_ALL

    @classmethod
    def of(cls, sizes: Sequence[float] | Floats, leverages: ArrayLike) -> ExpressionRule:
        r"""The rule that suits libraries and a design.

        With library sizes N and leverages h of the design, both of shape (specimens,), cpm is
        :math:`10^6\cdot 10/\operatorname{median} N`, and specimens :math:`n = \min 1/h`, the size
        of the smallest of groups; :math:`10 + 0.7(n - 10)` where it is above 10.

        References
        ----------
        Chen, Lun and Smyth 2016, F1000Research 5, 1438; edgeR's manual, ``filterByExpr``.

        Examples
        --------
        Three specimens a group, libraries of two million: ten counts are 5 per million.

        >>> rule = ExpressionRule.of([2e6] * 6, [1 / 3] * 6)
        >>> rule.cpm, round(rule.specimens, 9)
        (5.0, 3.0)
        >>> rule.keeps([[10, 9, 30]] * 3 + [[0, 9, 0]] * 3, [2e6] * 6)
        array([ True, False,  True])
        """
        needed = 1.0 / float(np.max(leverages))
        if needed > _LARGE:
            needed = _LARGE + _SHARE * (needed - _LARGE)
        return cls(_FEWEST / float(np.median(sizes)) * 1e6, needed)

    def keeps(self, counts: ArrayLike, sizes: ArrayLike) -> Flags:
        """Mark what is kept of counts of shape (specimens, features), shape (features,)."""
        values = np.asarray(counts, dtype=np.float64)
        per_million = values / np.asarray(sizes, dtype=np.float64)[:, None] * 1e6
        # A count of exactly the least one in the median library is enough, however it is rounded.
        enough = (per_million >= self.cpm * (1.0 - _ROUNDING)).sum(axis=0)
        often = enough >= self.specimens * (1.0 - _ROUNDING)
        return np.asarray(often & (values.sum(axis=0) >= self.in_all))

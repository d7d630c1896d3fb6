"""Which features have enough counts to tell anything, judged without looking at the groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from batchsense.arrays import Flags

#: The customs of the field (Chen, Lun and Smyth 2016): so many counts in a library of median size
#: and in all; groups beyond ``_LARGE`` specimens need only this share of those beyond it.
_FEWEST, _FEWEST_IN_ALL, _LARGE, _SHARE = 10.0, 15.0, 10.0, 0.7
#: Leverages are sums of squares and come with rounding: 1/3.0000000000000004 is still three.
_ROUNDING = 1e-14


@dataclass(frozen=True, slots=True)
class ExpressionRule:
    """What a feature needs to be kept.

    Attributes
    ----------
    cpm : float
        Counts per million that must be reached in ``specimens`` specimens.
    specimens : float
        How many; need not be whole where it comes from leverages.
    in_all : float
        Counts that all specimens together must have.
    """

    cpm: float
    specimens: float
    in_all: float = _FEWEST_IN_ALL

    def keeps(self, counts: ArrayLike, sizes: ArrayLike) -> Flags:
        """Mark the features that are kept, shape (features,).

        Counts have shape (specimens, features), library sizes (specimens,).
        """
        values = np.asarray(counts, dtype=np.float64)
        per_million = values / np.asarray(sizes, dtype=np.float64)[:, None] * 1e6
        # A count of exactly the least one in the median library is enough, however it is rounded.
        enough = (per_million >= self.cpm * (1.0 - _ROUNDING)).sum(axis=0)
        return np.asarray(
            (enough >= self.specimens * (1.0 - _ROUNDING)) & (values.sum(axis=0) >= self.in_all)
        )


def expression_rule(sizes: ArrayLike, leverages: ArrayLike) -> ExpressionRule:
    r"""The rule that suits libraries and a design.

    .. math:: k = 10^6\,\frac{10}{\operatorname{median}(N)}, \qquad
              n = \min_i \frac{1}{h_i}, \qquad n \to 10 + 0.7\,(n - 10)\ \text{if } n > 10

    with the library sizes N and the leverages h of the design, whose smallest inverse is in
    designs of groups the size of the smallest one. A feature is kept if k counts per million are
    reached in n specimens, and 15 counts in all.

    Parameters
    ----------
    sizes : array of shape (specimens,)
        All counts of each specimen, positive.
    leverages : array of shape (specimens,)
        Diagonal of the hat matrix of the design.

    References
    ----------
    Chen, Lun and Smyth 2016, F1000Research 5, 1438; edgeR's manual, ``filterByExpr``.

    Examples
    --------
    Three specimens a group, libraries of two million: ten counts are 5 per million.

    >>> rule = expression_rule([2e6] * 6, [1 / 3] * 6)
    >>> rule.cpm, round(rule.specimens, 9)
    (5.0, 3.0)
    >>> rule.keeps([[10, 9, 30]] * 3 + [[0, 9, 0]] * 3, [2e6] * 6)
    array([ True, False,  True])
    """
    needed = 1.0 / float(np.max(np.asarray(leverages, dtype=np.float64)))
    if needed > _LARGE:
        needed = _LARGE + _SHARE * (needed - _LARGE)
    middle = float(np.median(np.asarray(sizes, dtype=np.float64)))
    return ExpressionRule(_FEWEST / middle * 1e6, needed)

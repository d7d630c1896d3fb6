"""Moments by group: one :class:`Moments` for each label, gathered and merged in pieces."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce

import numpy as np
from numpy.typing import ArrayLike

from batchsense.errors import DataError
from batchsense.variation.labels import levels_of
from batchsense.variation.matrices import finite_matrix
from batchsense.variation.moments import Moments, finite_weights


@dataclass(frozen=True, slots=True, eq=False)
class GroupedMoments:
    """Moments of each group, as a read-only collection.

    Attributes
    ----------
    groups : mapping from label to Moments
        In the order in which the labels were first met, those of one piece sorted.
    cross : bool
        Whether cross products are gathered.

    Examples
    --------
    >>> first = GroupedMoments.of([[1.0], [2.0], [10.0]], ["May", "May", "July"])
    >>> both = first.update([[12.0]], ["July"])
    >>> print(both["July"].mean, both.total().mean, len(both))
    [11.] [6.25] 2
    """

    groups: Mapping[Hashable, Moments] = field(default_factory=dict)
    cross: bool = False

    @classmethod
    def of(
        cls,
        observations: ArrayLike,
        labels: ArrayLike,
        weights: ArrayLike | None = None,
        *,
        cross: bool = False,
    ) -> GroupedMoments:
        """Gather the moments of each group; see :meth:`Moments.of`.

        Parameters
        ----------
        observations : array of shape (observations, features) or (observations,)
            Finite numbers.
        labels : array of shape (observations,)
            The group of each observation.
        weights : array of shape (observations,), optional
            Not negative; they count as repetitions.
        cross : bool
            Whether to gather cross products.

        Raises
        ------
        DataError
            If a value is not finite, a label is missing, or the lengths differ.
        """
        values = finite_matrix(observations, "observations", vector=True)
        found = levels_of(labels)
        if len(values) != len(found.codes):
            raise DataError(f"{len(found.codes)} labels for {len(values)} observations")
        importance = None if weights is None else finite_weights(weights, len(values))
        order = np.argsort(found.codes, kind="stable")
        parts = np.split(order, np.cumsum(found.counts)[:-1])
        groups = {
            level: Moments.of(
                values[rows], None if importance is None else importance[rows], cross=cross
            )
            for level, rows in zip(found.levels, parts, strict=True)
        }
        return cls(groups, cross)

    def update(
        self, observations: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None
    ) -> GroupedMoments:
        """Give the moments with more labelled observations added; see :meth:`of`."""
        return self.merge(GroupedMoments.of(observations, labels, weights, cross=self.cross))

    def merge(self, other: GroupedMoments) -> GroupedMoments:
        """Give the moments of both collections, group by group.

        Raises
        ------
        DataError
            If the numbers of features differ, or only one of the two has cross products.
        """
        if not self.groups:
            return other
        groups = dict(self.groups)
        for label, moments in other.groups.items():
            groups[label] = groups[label].merge(moments) if label in groups else moments
        return GroupedMoments(groups, self.cross)

    def __add__(self, other: GroupedMoments) -> GroupedMoments:
        """Merge."""
        if not isinstance(other, GroupedMoments):
            return NotImplemented
        return self.merge(other)

    def __getitem__(self, label: Hashable) -> Moments:
        """Give the moments of one group."""
        return self.groups[label]

    def __iter__(self) -> Iterator[Hashable]:
        """Go through the labels."""
        return iter(self.groups)

    def __len__(self) -> int:
        """Count the groups."""
        return len(self.groups)

    def total(self) -> Moments:
        """Give the moments of all groups together.

        Raises
        ------
        DataError
            If there is no group yet.
        """
        if not self.groups:
            raise DataError("there are no groups yet; update with observations first")
        return reduce(Moments.merge, self.groups.values())

    def within(self) -> Moments:
        """Give the moments around each group's own mean, weights and squares added up.

        The mean is that of :meth:`total`; divide by (weight - groups) with ``variance(len(...))``.
        """
        total = self.total()
        squares = sum(
            (m.centred_sum_of_squares for m in self.groups.values()), np.zeros_like(total.mean)
        )
        return replace(total, centred_sum_of_squares=squares, cross_products=None)

"""How each kept factor is entangled with the batches, in numbers, names and words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchsense.arrays import Floats
from batchsense.errors import ConfoundedError, listed
from batchsense.experiments.design import Design
from batchsense.experiments.statistics.confounding import (
    Confounding,
    LinkedGroup,
    analyse,
    connected_components,
    cramers_v,
)
from batchsense.experiments.tables.columns import Factor, NumericBatches

_SHOWN_LEVELS = 6


@dataclass(frozen=True, slots=True)
class Entanglement:
    """One kept factor against the batches.

    Attributes
    ----------
    name : str
        The kept factor.
    kind : str
        ``"categorical"`` or ``"numeric"``.
    confounding : Confounding
        R² with the batches, variance inflation, effective n, attenuation, relations.
    cramers_v : float or None
        Association of the two labels, chance not subtracted; None for numbers.
    linked : tuple of LinkedGroup
        Levels that specimens link through shared batches, with those batches; levels of different
        groups cannot be compared. Empty for a numeric factor.
    """

    name: str
    kind: str
    confounding: Confounding
    cramers_v: float | None
    linked: tuple[LinkedGroup, ...]

    @property
    def explanation(self) -> str:
        """Say which levels no specimen links, and what would link them; empty if none."""
        if len(self.linked) < 2:
            return ""
        groups = [
            f"{{{listed(group.conditions, _SHOWN_LEVELS)}}} only in "
            f"{{{listed(group.batch_labels, _SHOWN_LEVELS)}}}"
            for group in self.linked
        ]
        first, second = self.linked[0], self.linked[1]
        text = (
            f"Levels of {self.name!r} by batch: {listed(groups)}. No specimen links these groups, "
            f"so {second.conditions[0]} - {first.conditions[0]} cannot be told from batch "
            f"{listed(second.batch_labels, _SHOWN_LEVELS)}. To link them, run for example "
            f"{self.name} {first.conditions[0]} also in batch {second.batch_labels[0]}."
        )
        if all(len(group.batch_labels) > 1 for group in self.linked):
            text += (
                " With several batches per group a comparison between batches remains possible, "
                "with the batches, not the specimens, as the observations."
            )
        return text


def entanglements(design: Design) -> tuple[Entanglement, ...]:
    """Analyse every kept factor of a design against its batches.

    Parameters
    ----------
    design : Design
        The factors.

    Returns
    -------
    tuple of Entanglement
        In the order of the kept factors.

    Examples
    --------
    >>> from batchsense.experiments.design import read_design
    >>> from batchsense.experiments.tables import Table
    >>> table = Table.from_arrays(
    ...     [[1.0], [2.0], [3.0], [4.0]],
    ...     {"month": ["May", "May", "July", "July"], "drug": ["no", "no", "yes", "yes"]},
    ... )
    >>> (drug,) = entanglements(read_design(table, "month", ["drug"]))
    >>> drug.confounding.estimable, len(drug.linked)
    (False, 2)
    """
    names = tuple(f"{design.batches.name}[{level}]" for level in design.batches.levels)
    if isinstance(design.batches, NumericBatches):
        names = design.batches.levels
    return tuple(_one(design, kept, names) for kept in design.kept)


def refuse_confounded(design: Design, found: tuple[Entanglement, ...]) -> None:
    """Refuse a design in which a kept factor cannot be told from the batches.

    Raises
    ------
    ConfoundedError
        Naming every relation, what remains estimable and what would help.
    """
    lost = [one for one in found if not one.confounding.estimable]
    if not lost:
        return
    relations = list(dict.fromkeys(r for one in lost for r in one.confounding.aliased))
    batch = design.batches.name
    parts = [
        f"{listed([one.name for one in lost])} cannot be told from {batch}: {listed(relations)}."
    ]
    parts.extend(one.explanation for one in lost if one.explanation)
    kept = [one.name for one in found if one.confounding.estimable]
    if kept:
        parts.append(f"Estimable: {listed(kept)}.")
    parts.append(
        f"Removing {batch} would remove {listed([one.name for one in lost])} with it, so nothing "
        "was corrected."
    )
    raise ConfoundedError(" ".join(parts), relations)


def _one(design: Design, kept: Factor, batch_names: tuple[str, ...]) -> Entanglement:
    """Analyse one kept factor, the others in the model."""
    columns, names = _all_columns(kept)
    others = [_all_columns(other) for other in design.kept if other.name != kept.name]
    confounding = analyse(
        columns,
        design.batches.indicators(),
        np.hstack([part for part, _ in others]) if others else None,
        wanted_names=names,
        batch_names=batch_names,
        other_names=[name for _, terms in others for name in terms] if others else None,
    )
    if kept.kind == "numeric" or isinstance(design.batches, NumericBatches):
        return Entanglement(kept.name, kept.kind, confounding, None, ())
    association = cramers_v(kept.codes, design.batches.codes).value
    # Codes, not labels, so that the groups list levels in the order of the factors.
    linked = tuple(
        LinkedGroup(
            tuple(level for code, level in enumerate(kept.levels) if code in group.conditions),
            tuple(
                level
                for code, level in enumerate(design.batches.levels)
                if code in group.batch_labels
            ),
        )
        for group in connected_components(kept.codes, design.batches.codes)
    )
    return Entanglement(kept.name, kept.kind, confounding, association, linked)


def _all_columns(kept: Factor) -> tuple[Floats, tuple[str, ...]]:
    """Give all indicators of a factor (so that relations can be named most simply), or numbers."""
    if kept.values is not None:
        return kept.design()
    return kept.indicators(), tuple(f"{kept.name}[{level}]" for level in kept.levels)

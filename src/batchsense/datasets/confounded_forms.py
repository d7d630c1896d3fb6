"""Confounding on demand: real rows of two digits, drawn so that form and digit are entangled.

The question has a known answer: how does a written 8 differ from a written 3, pixel by pixel? All
357 rows of the two digits, with a term for each form, give the truth; a draw that puts most 3s in
some forms and most 8s in the others asks it again under any degree of confounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Floats, Integers
from batchsense.datasets.digits import Digits, load_digits

Confounding = Literal["balanced", "partial", "total"]

#: The two digits that are compared: the effect is the mean image of the second minus the first.
COMPARED = (3, 8)
#: Rows drawn from each form, of the 9 to 14 of each digit: one digit nearly always fills them.
ROWS_PER_FORM = 10
#: Share of the rarer digit's opposite in each form: 0.5 is balanced; 0.8 gives Cramér's V = 0.6,
#: where ignoring the form, keeping it in the model and centring differ clearly.
FRACTIONS: dict[str, float] = {"balanced": 0.5, "partial": 0.8}


@dataclass(frozen=True, slots=True, eq=False)
class DigitForms:
    """Rows of 3s and 8s on several forms, and the answer that the full data give.

    Attributes
    ----------
    observations : array of shape (specimens, 64)
        Grey values, 0 to 16.
    digit : array of shape (specimens,)
        3 or 8: what an analysis wants to keep.
    form_labels : array of shape (specimens,)
        The form: the batch.
    truth : array of shape (64,)
        Mean image of 8 minus mean image of 3 from all 357 rows, forms in the model.
    rows : array of shape (specimens,)
        The row of each specimen in the full data.
    note : str
        What this draw shows.
    """

    observations: Floats
    digit: Integers
    form_labels: Integers
    truth: Floats
    rows: Integers
    note: str

    def relative_error(self, effect: npt.ArrayLike) -> float:
        """The squared error of an estimated effect, relative to the squared truth: 1 for no effect.

        Examples
        --------
        >>> scene = digit_forms("balanced")
        >>> scene.relative_error(scene.truth), scene.relative_error(0 * scene.truth)
        (0.0, 1.0)
        """
        difference = np.asarray(effect, dtype=np.float64) - self.truth
        return float(difference @ difference / (self.truth @ self.truth))


def digit_forms(
    confounding: Confounding = "balanced", seed: int = 0, *, fraction: float | None = None
) -> DigitForms:
    """Draw 3s and 8s so that digit and form are entangled to a chosen degree.

    From each form ten rows are drawn. In seven random forms a fraction p of them are 3s, in the
    other seven a fraction 1 - p. ``"balanced"`` is p = 0.5, ``"partial"`` p = 0.8; ``fraction``
    sets p itself. At p = 1 the digit is nested in the forms. ``"total"`` is the case in which no
    method helps: one form with 3s only and one with 8s only.

    Parameters
    ----------
    confounding : {"balanced", "partial", "total"}
        How entangled digit and form are.
    seed : int
        Seed of the draw.
    fraction : float, optional
        p, from 0.5 to 1; replaces ``confounding``.

    Raises
    ------
    ValueError
        An unknown ``confounding``, or a ``fraction`` outside 0.5 to 1.

    Examples
    --------
    >>> scene = digit_forms("total", seed=1)
    >>> sorted(set(zip(scene.digit.tolist(), scene.form_labels.tolist())))
    [(3, 6), (8, 7)]
    """
    digits = load_digits()
    rng = np.random.default_rng(seed)
    if fraction is None and confounding == "total":
        rows, note = _two_forms(digits, rng), _TOTAL
    else:
        p = _checked_fraction(confounding, fraction)
        rows = _mixed_forms(digits, p, rng)
        note = _NESTED if p == 1 else _MIXED.format(percent=100 * p, v=2 * p - 1)
    return DigitForms(
        observations=digits.observations[rows],
        digit=digits.digit[rows],
        form_labels=digits.form_labels[rows],
        truth=_true_effect(digits),
        rows=rows,
        note=note,
    )


_TOTAL = (
    "One form holds 3s only, the other 8s only: what a digit adds and what a form adds cannot be "
    "told apart by any method. One 3 and one 8 on the same form would make it possible."
)
_NESTED = (
    "Every form holds one digit only (digit nested in form): with the form as a fixed term the "
    "digit cannot be estimated."
)
_MIXED = (
    "In half of the forms {percent:.0f} % of the rows are 3s, in the other half 8s: "
    "Cramér's V of form and digit is about {v:.1f}."
)


def _checked_fraction(confounding: str, fraction: float | None) -> float:
    if fraction is None:
        if confounding not in FRACTIONS:
            known = ", ".join([*FRACTIONS, "total"])
            raise ValueError(f"unknown confounding {confounding!r}; known: {known}")
        return FRACTIONS[confounding]
    if not 0.5 <= fraction <= 1:
        raise ValueError(f"fraction must lie between 0.5 and 1, not {fraction}")
    return float(fraction)


def _rows_of(digits: Digits, form: int, digit: int) -> Integers:
    found = (digits.form_labels == form) & (digits.digit == digit)
    return np.flatnonzero(found).astype(np.int64)


def _two_forms(digits: Digits, rng: np.random.Generator) -> Integers:
    forms = rng.choice(int(digits.form_labels.max()) + 1, size=2, replace=False)
    parts = [_rows_of(digits, int(f), d) for f, d in zip(forms, COMPARED, strict=True)]
    return np.sort(np.concatenate(parts))


def _mixed_forms(digits: Digits, p: float, rng: np.random.Generator) -> Integers:
    forms = rng.permutation(int(digits.form_labels.max()) + 1)
    parts = []
    for place, form in enumerate(forms):
        share = p if place < len(forms) // 2 else 1 - p
        first = round(ROWS_PER_FORM * share)
        for digit, wanted in zip(COMPARED, (first, ROWS_PER_FORM - first), strict=True):
            # A form holds 9 to 14 of each digit: at p = 1 one form may give 9 rows instead of 10.
            there = _rows_of(digits, int(form), digit)
            parts.append(rng.choice(there, size=min(wanted, len(there)), replace=False))
    return np.sort(np.concatenate(parts))


def _true_effect(digits: Digits) -> Floats:
    chosen = np.isin(digits.digit, COMPARED)
    forms = np.unique(digits.form_labels)
    is_form = (digits.form_labels[chosen, None] == forms).astype(np.float64)
    is_second = (digits.digit[chosen, None] == COMPARED[1]).astype(np.float64)
    design = np.hstack([is_second, is_form])
    effect: Floats = np.linalg.lstsq(design, digits.observations[chosen], rcond=None)[0][0]
    return effect

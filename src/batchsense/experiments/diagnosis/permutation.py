"""What a term explains by chance: its labels permuted, everything else kept (Freedman and Lane)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchsense.arrays import Floats
from batchsense.progress import Progress, silent

#: Report progress every so many permutations.
_REPORT_EVERY = 20


@dataclass(frozen=True, slots=True)
class Null:
    """The raw share of a term when it does nothing.

    Attributes
    ----------
    mean, high : float
        Mean and 95 % quantile of the raw share over the permutations.
    p_value : float
        (1 + permutations at least as extreme) / (1 + permutations).
    permutations : int
        How many were drawn.
    """

    mean: float
    high: float
    p_value: float
    permutations: int


def permutation_null(
    left_by_others: Floats,
    term_basis: Floats,
    others_basis: Floats,
    total: float,
    rng: np.random.Generator,
    permutations: int,
    progress: Progress = silent,
) -> Null:
    """Permute what the other terms leave of the observations, and fit the term again.

    The rows of the residuals of the other terms are exchangeable if the term does nothing. A
    permutation is as extreme as the data if its F statistic is at least as large; F, unlike the
    share, does not depend on what the other terms happen to take from a permutation.

    Parameters
    ----------
    left_by_others : array of shape (specimens, features)
        Residuals of the other terms.
    term_basis : array of shape (specimens, r)
        Orthonormal basis of the term, the other terms taken out.
    others_basis : array of shape (specimens, p)
        Orthonormal basis of the other terms.
    total : float
        Total sum of squares, the denominator of the share.
    rng : numpy.random.Generator
        Draws the permutations.
    permutations : int
        How many, at least 1.
    progress : Progress
        Told after every 20 permutations.

    Returns
    -------
    Null
        Distribution of the raw share, and the p-value.

    References
    ----------
    Freedman and Lane (1983), "A nonstochastic interpretation of reported significance levels".
    """
    specimens, features = left_by_others.shape
    gram = left_by_others @ left_by_others.T if specimens <= features else None

    def squares(basis: Floats) -> float:
        """Sum of squares along a basis, through the smaller of the two products."""
        if gram is not None:
            return float(np.einsum("ij,ij->", basis, gram @ basis))
        return float(((basis.T @ left_by_others) ** 2).sum())

    everything = float((left_by_others**2).sum())

    def ratio(term: float, others: float) -> float:
        """Term over residual; constant factors do not change the order."""
        rest = everything - others - term
        return term / rest if rest > 1e-12 * everything else np.inf

    observed = ratio(squares(term_basis), 0.0)
    raw = np.empty(permutations)
    hits = 0
    for done in range(permutations):
        order = rng.permutation(specimens)
        term = squares(term_basis[order])
        raw[done] = term / total
        # Equal statistics of equal arrangements must count as hits despite round-off.
        hits += ratio(term, squares(others_basis[order])) >= observed * (1 - 1e-9)
        if (done + 1) % _REPORT_EVERY == 0:
            progress("permuting labels", done + 1, permutations)
    return Null(
        mean=float(raw.mean()),
        high=float(np.quantile(raw, 0.95)),
        p_value=(1 + hits) / (1 + permutations),
        permutations=permutations,
    )

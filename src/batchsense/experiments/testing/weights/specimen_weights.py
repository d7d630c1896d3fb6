"""How well each specimen was measured: weights from all features at once, by restricted likelihood.

A specimen of poor quality scatters more in every feature. It need not be left out, which would cost
what it does tell: it is weighed by the inverse of its own variance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from batchsense.arrays import Flags, Floats
from batchsense.errors import UnresolvedError
from batchsense.variation.linear import DesignFactor

#: The weights are drawn towards equality as by so many features that say they are equal: chosen as
#: in Ritchie et al. (2006), so that few features cannot make a weight infinite.
PRIOR_FEATURES = 10.0
#: Steps until no log weight moves by more; 1e-9 is far below any error of the weights.
_STEP, _ROUNDS = 1e-9, 500
#: A specimen whose log weight falls below this scatters a million times as much as others, which no
#: quality explains: the likelihood has no greatest value.
_LOST = -2.0 * np.log(1e6)
#: What is left of a column beside the others, as part of the largest, if it is spanned by them.
_SPANNED = 1e-10
#: Beyond so many specimens steps go by the diagonal of the information: what is beside it is of
#: the order of terms over specimens, and equations of all specimens would take seconds a step.
_MANY = 300
#: Steps need no exact information: that of so many features, drawn by chance, errs by a tenth.
_TOLD = 100
#: Features with precisions of their own are fitted together in stacks of so many numbers: 16 MB.
_STACK_VALUES = 2_000_000


@dataclass(frozen=True, slots=True, eq=False)
class SpecimenWeights:
    """The inverse variance of each specimen, against that of the geometric mean."""

    weights: Floats = field(repr=False)  #: (specimens,): their geometric mean is one
    features: int  #: Features that they come from
    rounds: int  #: Steps of the search


def specimen_weights(
    values: Floats,
    design: DesignFactor,
    precision: Floats | None = None,
    prior_features: float = PRIOR_FEATURES,
    names: Sequence[str] = (),
) -> SpecimenWeights:
    r"""Estimate a variance for each specimen that holds in all features.

    In the model :math:`y_{gi} \sim N(x_i\beta_g, \sigma_g^2 v_i / p_{gi})` with
    :math:`\prod v_i = 1`, the restricted likelihood is greatest where, up to a constant c,

    .. math:: \sum_g \frac{p_{gi} w_i e_{gi}^2}{s_g^2} - (1 - h_{gi}) + k (w_i - 1) = c,
       \qquad w_i = 1/v_i,

    with the residuals e, residual variances s² and leverages h of the weighted fits; k features
    stand for the belief that all specimens are alike.

    ``values`` has shape (specimens, features), NaN where missing; ``precision`` (p), of the same
    shape, holds what is known of single observations, such as the weights of log counts; ``names``
    are those of the specimens, for refusals.

    Source: Ritchie, Diyagama, Neilson, van Laar, Dobrovic, Holloway and Smyth 2006, BMC
    Bioinformatics 7, 261; Smyth 2002, J. Comput. Graph. Statist. 11, 836 (the likelihood); Liu et
    al. 2015, Nucleic Acids Res. 43, e97 (with counts).
    """
    observed = ~np.isnan(values)
    usable = _scatters(values, observed, design)
    if usable.sum() < 2:
        raise UnresolvedError(
            f"{'one feature has' if usable.any() else 'no feature has'} residual scatter; how well "
            "a specimen was measured is seen from many",
            needed="at least 2 such features, or a test without specimen weights",
        )
    values, observed = values[:, usable], observed[:, usable]
    known = None if precision is None and observed.all() else observed * 1.0
    if precision is not None and known is not None:
        known = np.where(observed, precision[:, usable], 0.0)
    values = np.where(observed, values, 0.0)
    logs = np.zeros(len(values))
    damping, last, before = 1.0, np.inf, logs
    for rounds in range(1, _ROUNDS + 1):
        excess, information = _score(values, known, design.basis, np.exp(logs))
        score = excess + prior_features * (np.exp(logs) - 1.0)
        score -= score.mean()
        size = float(np.abs(score).max())
        if size > 2.0 * last:  # too far: half of the step
            damping, logs = damping / 2.0, (logs + before) / 2.0
            continue
        last, before = size, logs
        prior = prior_features * np.exp(logs)
        information = information + (prior if information.ndim == 1 else np.diag(prior))
        step = _solved(information, score) * damping
        logs = logs - np.clip(step, -1.0, 1.0)
        logs -= logs.mean()
        damping = min(1.0, 2.0 * damping)
        if logs.min() < _LOST:
            lost = int(logs.argmin())
            raise UnresolvedError(
                "the scatter of some features lies in specimen "
                f"{names[lost] if names else lost + 1} alone, so that its weight falls to nothing",
                needed="features that scatter in all specimens, or a test without specimen weights",
            )
        if np.abs(step).max() < _STEP:
            return SpecimenWeights(np.exp(logs), int(usable.sum()), rounds)
    raise UnresolvedError(
        f"the weights of the specimens still move after {_ROUNDS} steps",
        needed="more features, or a test without specimen weights",
    )


def _scatters(values: Floats, observed: Flags, design: DesignFactor) -> Flags:
    """Whether a feature leaves residuals that are more than rounding."""
    filled = np.where(observed, values, 0.0)
    centred = filled - filled.sum(axis=0) / np.maximum(observed.sum(axis=0), 1)
    centred[~observed] = 0.0
    left = centred - design.basis @ (design.basis.T @ centred)
    gaps = np.flatnonzero(~observed.all(axis=0))
    for part in _stacks(len(gaps), design.basis):
        seen, one = observed[:, gaps[part]].T, centred[:, gaps[part]].T
        turned = _orthonormal(seen[:, :, None] * design.basis)
        left[:, gaps[part]] = (
            one - np.einsum("fnr,fmr,fm->fn", turned, turned, one, optimize=True)
        ).T
    size = np.abs(filled).max(axis=0)
    # 16 units in the last place of the largest value: no real noise is as small.
    return np.asarray(np.abs(left).max(axis=0) > 16 * np.finfo(float).eps * size)


def _score(
    values: Floats, known: Floats | None, basis: Floats, weights: Floats
) -> tuple[Floats, Floats]:
    """Sum over features of w e²/s² - (1 - h), and how fast it grows with the log variances."""
    roots = np.sqrt(weights)
    features = values.shape[1]
    if known is None:
        turned = np.linalg.qr(roots[:, None] * basis)[0]
        scaled = roots[:, None] * values
        residuals = scaled - turned @ (turned.T @ scaled)
        squares = residuals**2
        freedom = len(values) - basis.shape[1]
        excess = (squares * (freedom / squares.sum(axis=0))).sum(axis=1)
        excess -= features * (1.0 - (turned**2).sum(axis=1))
        return excess, features * _information(turned, freedom, np.ones(len(values)))
    excess = np.zeros(len(values))
    information = np.zeros((len(values),) * (1 if len(values) > _MANY else 2))
    told = np.zeros(features, dtype=bool)
    told[np.random.default_rng(0).permutation(features)[:_TOLD]] = True
    for part in _stacks(features, basis):
        own = (roots[:, None] * np.sqrt(known[:, part])).T
        turned = _orthonormal(own[:, :, None] * basis)
        scaled = own * values[:, part].T
        effects = np.einsum("fnr,fn->fr", turned, scaled)
        squares = (scaled - np.einsum("fnr,fr->fn", turned, effects)) ** 2
        seen = (own > 0).astype(float)
        freedom = seen.sum(axis=1) - (turned**2).sum(axis=(1, 2))
        excess += (squares * (freedom / squares.sum(axis=1))[:, None]).sum(axis=0)
        excess -= (seen - (turned**2).sum(axis=2)).sum(axis=0)
        for place in np.flatnonzero(told[part]):
            information += _information(turned[place], freedom[place], seen[place])
    return excess, information * (features / told.sum())


def _stacks(features: int, basis: Floats) -> Iterator[slice]:
    width = max(1, _STACK_VALUES // basis.size)
    return (slice(start, start + width) for start in range(0, features, width))


def _orthonormal(columns: Floats) -> Floats:
    """Bases of a stack; a feature that was not observed in a whole batch has fewer columns."""
    turned, upper = np.linalg.qr(columns)
    sizes = np.abs(np.diagonal(upper, axis1=1, axis2=2))
    less = sizes.min(axis=1) <= _SPANNED * sizes.max(axis=1)
    if less.any():
        left, found, _ = np.linalg.svd(columns[less], full_matrices=False)
        turned[less] = left * (found > _SPANNED * found[:, :1])[:, None, :]
    return np.asarray(turned)


def _information(turned: Floats, freedom: float, seen: Floats) -> Floats:
    """Of the log variances, shape (specimens, specimens), or its diagonal where they are many."""
    own = seen - (turned**2).sum(axis=1)
    if len(turned) > _MANY:
        return np.asarray(own**2)
    left = np.diag(seen) - turned @ turned.T
    return np.asarray(left**2 - np.outer(own, own) / freedom)


def _solved(information: Floats, score: Floats) -> Floats:
    """Step of the log weights that takes the score to zero; their sum stays as it is."""
    count = len(score)
    if information.ndim == 1:
        step = score / information
        return np.asarray(step - step.mean())
    centre = np.eye(count) - 1.0 / count
    held = centre @ information @ centre + 1.0 / count
    return np.asarray(np.linalg.solve(held, score))

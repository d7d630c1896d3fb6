"""How hot a run stays near a minimum: the stationary excess loss that minibatch noise keeps up."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from batchsense.arrays import Floats
from batchsense.errors import DataError, UnresolvedError
from batchsense.training.temperature.modes import (
    epoch_variance,
    independent_variance,
    pair_responses,
)
from batchsense.training.temperature.setting import SgdSetting
from batchsense.variation.matrices import finite_matrix

#: The fixed point of noise and spread is reached to this relative change of the spread.
_SETTLED = 1e-10
#: Iterations until the noise is said to feed on itself; each contracts by the share that the
#: multiplicative part has of all noise, so that a share of .99 settles within 2,500.
_MOST_ROUNDS = 5000
#: A curvature below this part of the largest is that of no direction: a minimum cannot hold there.
_FLAT = 1e-12


@dataclass(frozen=True, slots=True)
class Heat:
    """What minibatch noise adds to the loss of a run that has settled in a quadratic minimum.

    Attributes
    ----------
    total : float
        Mean excess loss, in units of the loss; infinite where a mode is not stable.
    by_mode : array of shape (modes,)
        The part of each eigenvector of the Hessian, in units of the loss.
    variance : array of shape (modes,)
        Of the weight along each eigenvector.
    eigenvalues : array of shape (modes,)
        Of the Hessian, rising.
    temperature : array of shape (modes,)
        kT of each mode: twice its part of the loss. Equal in all modes only if the noise of the
        gradient is the same in all directions.
    naive : float
        η tr C/(4B(1 − m)), which knows neither sampling nor the size of a step.
    stable : bool
        Whether every mode is.
    """

    total: float
    by_mode: Floats
    variance: Floats
    eigenvalues: Floats
    temperature: Floats
    naive: float
    stable: bool


def predict_heat(
    hessian: ArrayLike,
    covariance: ArrayLike,
    setting: SgdSetting,
    features: ArrayLike | None = None,
) -> Heat:
    r"""Predict the stationary excess loss of a quadratic loss, in the sampling that is used.

    It is :math:`\frac12 \operatorname{tr}(HS)`, where S is the covariance of the weights: for
    independent steps the solution of :math:`Z = AZA' + b\,(fC/B)\,b'` of weight and momentum
    buffer. Under epoch shuffling the noises of an epoch sum to zero; S is then found mode by mode
    (:func:`~batchsense.training.temperature.modes.epoch_variance`).

    Parameters
    ----------
    hessian : array of shape (weights, weights)
        H at the minimum, loss per weight²; positive definite.
    covariance : array of shape (weights, weights)
        C, of one example's gradient at the minimum.
    setting : SgdSetting
        Learning rate, batch size, momentum and sampling.
    features : array of shape (examples, weights), optional
        Of a linear regression with loss ½(x·w − y)²: then the noise grows with the spread,
        :math:`C ← C + E[xx'Sxx'] - HSH`, until both settle.

    Returns
    -------
    Heat
        In units of the loss.

    Raises
    ------
    DataError
        Shapes differ, a matrix is not symmetric, or a direction has no curvature.
    UnresolvedError
        Noise and spread feed on each other without end.

    References
    ----------
    Mandt, Hoffman and Blei (2017), JMLR 18; Liu, Ziyin and Ueda (2021), ICML.

    Examples
    --------
    >>> heat = predict_heat(np.eye(2), np.eye(2), SgdSetting(0.1, 8, momentum=0.9))
    >>> round(heat.total, 4), round(heat.naive, 4)
    (0.0642, 0.0625)
    """
    curvature, directions, noise = _checked(hessian, covariance)
    naive = (
        setting.learning_rate
        * float(np.trace(noise))
        / (4 * setting.batch_size * (1 - setting.momentum))
    )
    own = np.diag(noise)
    if features is None or curvature[-1] >= setting.largest_stable_curvature:
        return _heat(_additive(setting, curvature, own), curvature, naive)
    rows = finite_matrix(features, "features")
    if rows.shape[1] != len(curvature):
        raise DataError(f"features have {rows.shape[1]} columns, the Hessian {len(curvature)}")
    spread = _multiplicative(rows @ directions, curvature, noise, setting)
    if setting.sampling == "epoch":
        steady = _additive(replace(setting, sampling="per_step"), curvature, own)
        grown = np.divide(spread, steady, out=np.ones_like(spread), where=steady > 0)
        spread = grown * _additive(setting, curvature, own)
    return _heat(spread, curvature, naive)


def _additive(setting: SgdSetting, curvature: Floats, noise: Floats) -> Floats:
    """Variance by mode where the noise is the same everywhere."""

    def of(eigenvalue: float, own: float) -> float:
        if setting.sampling == "epoch":
            return epoch_variance(setting, eigenvalue, own)[0]
        return independent_variance(setting, eigenvalue, own)

    pairs = zip(curvature.tolist(), noise.tolist(), strict=True)
    return np.array([of(eigenvalue, own) for eigenvalue, own in pairs])


def _multiplicative(rows: Floats, curvature: Floats, noise: Floats, setting: SgdSetting) -> Floats:
    """Variance by mode where each example's gradient is x(x·w − y), in the Hessian's eigenbasis."""
    response = pair_responses(setting, curvature) * (
        setting.drawn_without_replacement / setting.batch_size
    )
    spread = response * noise
    for _ in range(_MOST_ROUNDS):
        reach = np.einsum("ni,ij,nj->n", rows, spread, rows)
        grown = noise + (rows * reach[:, None]).T @ rows / len(rows)
        grown -= curvature[:, None] * spread * curvature
        updated = response * grown
        if not np.isfinite(updated).all() or updated.max() > 1e100:
            break
        change = np.abs(updated - spread).max()
        spread = updated
        if change <= _SETTLED * np.abs(spread).max():
            return np.diag(spread).copy()
    raise UnresolvedError(
        "noise and spread feed on each other: at this learning rate and batch size the run does "
        "not settle",
        "a larger batch size or a smaller learning rate",
    )


def _heat(variance: Floats, curvature: Floats, naive: float) -> Heat:
    by_mode = curvature * variance / 2
    return Heat(
        total=float(by_mode.sum()),
        by_mode=by_mode,
        variance=variance,
        eigenvalues=curvature,
        temperature=2 * by_mode,
        naive=naive,
        stable=bool(np.isfinite(by_mode).all()),
    )


def _checked(hessian: ArrayLike, covariance: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Eigenvalues and eigenvectors of H, and C in their basis."""
    tables = []
    for values, what in ((hessian, "the Hessian"), (covariance, "the covariance")):
        table = finite_matrix(values, what)
        if table.shape[0] != table.shape[1]:
            raise DataError(f"{what} is square; this has shape {table.shape}")
        if not np.allclose(table, table.T, rtol=1e-6, atol=1e-9 * float(np.abs(table).max())):
            raise DataError(f"{what} is symmetric; this is not")
        tables.append((table + table.T) / 2)
    if tables[0].shape != tables[1].shape:
        raise DataError(
            f"the Hessian has shape {tables[0].shape}, the covariance {tables[1].shape}"
        )
    curvature, directions = np.linalg.eigh(tables[0])
    if curvature[0] <= _FLAT * abs(curvature[-1]):
        raise DataError(
            f"the Hessian has the curvature {curvature[0]:.3g} in one direction; nothing holds the "
            "weights there, so there is no stationary heat (leave the direction out)"
        )
    return curvature, directions, directions.T @ tables[1] @ directions

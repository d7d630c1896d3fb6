"""Stationary spread of the weights along one direction of a quadratic loss, for any sampling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg

from batchsense.arrays import Floats
from batchsense.errors import DataError
from batchsense.training.temperature.setting import SgdSetting

#: Below this many relaxation times an epoch (x = Mηλ/(1 − m)) the shuffled variance no longer
#: depends on λ, to this relative error, while its computation loses digits to cancellation.
_SLOWEST = 1e-4


@dataclass(frozen=True, slots=True)
class ShuffleFactor:
    """Variance of weights under epoch shuffling over that under drawing with replacement.

    Attributes
    ----------
    mean : float
        Averaged over the steps of an epoch.
    epoch_end : float
        At the end of an epoch.
    """

    mean: float
    epoch_end: float


def independent_variance(setting: SgdSetting, eigenvalue: float, noise: float) -> float:
    r"""Give the stationary variance of a weight when steps are independent.

    .. math:: S = \frac{η\,c\,f\,(1+m)}{Bλ(1-m)(2(1+m) - ηλ)}

    with c the variance of one example's gradient along the mode, in (loss per weight)², λ in loss
    per weight², f = 1 with replacement and (N − B)/(N − 1) without, also for sampling by epoch; it
    is infinite from ηλ = 2(1 + m) on. Source: Liu, Ziyin and Ueda (2021), "Noise and fluctuation of
    finite learning rate SGD", ICML.
    """
    lr, m = setting.learning_rate, setting.momentum
    room = 2 * (1 + m) - lr * eigenvalue
    if room <= 0:
        return float("inf")
    drawn = noise * setting.drawn_without_replacement / setting.batch_size
    return lr * drawn * (1 + m) / (eigenvalue * (1 - m) * room)


def epoch_variance(setting: SgdSetting, eigenvalue: float, noise: float) -> tuple[float, float]:
    r"""Give the stationary variance of a weight under epoch shuffling: mean, and at an epoch's end.

    The noises of an epoch sum to zero: :math:`\operatorname{Cov}(ξ_s, ξ_t) = V(δ_{st} - 1/M)
    M/(M-1)`, V = (c/B)(N − B)/(N − 1). With A the step of (weight, momentum buffer), b its response
    to noise and :math:`s_k = \sum_{j<k} A^j b`, the covariance k steps into an epoch is
    :math:`A^k P A'^k + W_k`, :math:`W_k = \frac{VM}{M-1}(\sum_{j<k} A^j bb' A'^j - s_k s_k'/M)`,
    and P solves :math:`P = A^M P A'^M + W_M`. All sums are powers of one matrix, so an epoch of a
    million steps costs no more than one of ten. Zero where the epoch is one step, infinite where
    the step is not stable; λ and c as in :func:`independent_variance`.
    """
    if setting.examples is None:
        raise DataError("an epoch has an end: say how many examples there are")
    steps = setting.steps_per_epoch
    if steps < 2:
        return 0.0, 0.0
    if eigenvalue >= setting.largest_stable_curvature:
        return float("inf"), float("inf")
    lr, m = setting.learning_rate, setting.momentum
    slowest = _SLOWEST * (1 - m) / (steps * lr)
    step, response = _step(lr, max(eigenvalue, slowest), m)
    left = (setting.examples - setting.batch_size) / (setting.examples - 1)
    scale = noise / setting.batch_size * left * steps / (steps - 1)
    map_, start = _epoch_map(step, response, steps)
    after = np.linalg.matrix_power(map_, steps) @ start
    spread = (after[0:4] - after[4:8] / steps).reshape(2, 2)
    whole = np.linalg.matrix_power(step, steps)
    end = linalg.solve_discrete_lyapunov(whole, (spread + spread.T) / 2)
    start[11:15] = end.ravel()
    total = (np.linalg.matrix_power(map_, steps) @ start)[15]
    return float(scale * total / steps), float(scale * end[0, 0])


def shuffle_factor(setting: SgdSetting, eigenvalue: float) -> ShuffleFactor:
    r"""Say how much colder epoch shuffling keeps a mode than drawing with replacement.

    In the limit of small steps, with x = Mηλ/(1 − m), the mean is
    :math:`1 - 2/x + 2(1 - e^{-x})/x^2` and at an epoch's end :math:`1 - \tanh(x/2)/(x/2)`: modes
    that relax slower than an epoch lasts hardly see any noise. Computed exactly, not from these.

    Raises
    ------
    DataError
        The number of examples is not given.

    Examples
    --------
    >>> found = shuffle_factor(SgdSetting(0.01, 16, examples=1024, sampling="epoch"), 1.0)
    >>> round(found.mean, 3), round(found.epoch_end, 3)
    (0.184, 0.033)
    """
    drawn = SgdSetting(setting.learning_rate, setting.batch_size, setting.momentum)
    free = independent_variance(drawn, eigenvalue, 1.0)
    mean, end = epoch_variance(setting, eigenvalue, 1.0)
    if not np.isfinite(free):
        raise DataError(
            f"a mode of curvature {eigenvalue:g} is not stable at this learning rate; it must stay "
            f"below {setting.largest_stable_curvature:g}"
        )
    return ShuffleFactor(mean / free, end / free)


def pair_responses(setting: SgdSetting, eigenvalues: Floats) -> Floats:
    """Give the stationary covariance of each two modes for a unit covariance of their noises.

    Shapes: ``eigenvalues`` (modes,), result (modes, modes); infinite where the step is unstable.
    """
    count = len(eigenvalues)
    steps = [_step(setting.learning_rate, float(value), setting.momentum) for value in eigenvalues]
    unit = np.outer(steps[0][1], steps[0][1]).ravel()
    matrices = np.stack([np.kron(a, b) for a, _ in steps for b, _ in steps])
    found = np.linalg.solve(np.eye(4) - matrices, np.broadcast_to(unit[:, None], (count**2, 4, 1)))
    responses: Floats = np.array(found[:, 0, 0]).reshape(count, count)
    unstable = eigenvalues >= setting.largest_stable_curvature
    responses[unstable] = np.inf
    responses[:, unstable] = np.inf
    return responses


def _step(lr: float, eigenvalue: float, momentum: float) -> tuple[Floats, Floats]:
    """A and b of (weight, buffer) ← A (weight, buffer) + b noise."""
    matrix = np.array([[1 - lr * eigenvalue, -lr * momentum], [eigenvalue, momentum]])
    return matrix, np.array([-lr, 1.0])


def _epoch_map(step: Floats, response: Floats, steps: int) -> tuple[Floats, Floats]:
    """The linear map of one step on all that an epoch sums, and its start.

    The state is [Σ A^j bb' A'^j (4), s s' (4), s (2), 1, A^k P A'^k (4), the running total].
    """
    square = np.kron(step, step)
    unit = np.outer(response, response).ravel()
    cross = np.kron(step, response[:, None]) + np.kron(response[:, None], step)
    map_: Floats = np.zeros((16, 16))
    map_[0:4, 0:4] = map_[4:8, 4:8] = map_[11:15, 11:15] = square
    map_[0:4, 10] = map_[4:8, 10] = unit
    map_[4:8, 8:10] = cross
    map_[8:10, 8:10], map_[8:10, 10], map_[10, 10] = step, response, 1.0
    map_[15, [0, 4, 11, 15]] = 1.0, -1.0 / steps, 1.0, 1.0
    start = np.zeros(16)
    start[10] = 1.0
    return map_, start

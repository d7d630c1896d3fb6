"""Fits a form to measured steps: robust, held near a prior where the rows say nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from batchsense.arrays import Floats
from batchsense.training.workers.forms import Form, Spread
from batchsense.training.workers.range import REGIME_FACTOR

#: Pull to the prior, as a share of a residual: weak, so that it decides only what rows leave open.
_PULL = 0.05
#: What two nodes may take beside more of them, one standard deviation as a logarithm: as little is
#: known of it as of a kind of spread that was not measured.
_TWO_NODES = math.log(REGIME_FACTOR)
#: Where not both were measured the factor would share with the links what they took, so it is held
#: at one; what is unknown of it is then drawn with the ensemble.
_HELD = 10.0
#: Residuals of more than about 10 % count linearly: a cold or disturbed row must not bend all.
_ROBUST_FROM = 0.1
_MOST_EVALUATIONS = 400
#: Starts besides the prior; with fewer the search ended in poorer minima on public tables.
_JITTERED_STARTS = 5
#: Steps of forward differences of logarithms.
_STEP = 1e-6
#: What no form follows, which a fit through few rows cannot see: fitted to every row of a public
#: table the forms left .047, .081 and .100 (three applications). Each is covered by the mean of the
#: two others as well (benchmarks/workers_tables.py).
_LEAST_SPREAD = 0.07
#: Parameters that a handful of rows pins down in effect: compute line, message, gradients.
_EFFECTIVE_PARAMETERS = 4


@dataclass(frozen=True, slots=True)
class Fit:
    """A form with its parameters."""

    form: Form  #: The form.
    theta: Floats  #: Its parameters; shape (parameters,).
    #: Standard deviation of the logarithm of seconds about it, corrected for few rows.
    spread: float


def prior(form: Form, spread: Spread, seconds: Floats) -> Floats:
    """The parameters before any fit: half the fastest step each for overhead and examples.

    >>> from batchsense.training.workers import StepConfiguration
    >>> from batchsense.training.workers.forms import FORMS
    >>> spread = Spread.of([StepConfiguration(1, 1, 50), StepConfiguration(2, 2, 50)])
    >>> np.exp(prior(FORMS["no overlap"], spread, np.array([0.1, 0.2]))).round(4).tolist()
    [0.05, 0.001, 0.01, 0.025, 0.01, 0.025, 1.0]
    """
    least = seconds.min()
    scale = {
        "c0": least / 2,
        "c1": least / (2 * np.median(spread.micro_batch)),
        "a": least / 10,
        "w": least / 4,
        "o": least / 20,
        "h": 0.1,
        "two": 1.0,
        "s": 1.0,  # its logarithm is the logit 0
    }
    return np.log([scale[name.partition("_")[0]] for name in form.parameters])


def fit_form(
    form: Form,
    spread: Spread,
    seconds: Floats,
    random: np.random.Generator,
    start: Floats | None = None,
) -> Fit:
    r"""Fit a form to measured steps, from several starts about the prior or from one ``start``.

    Smallest is

    .. math:: \sum_i \rho(\log \hat T_i - \log T_i) + \sum_j \rho(0.05\,(\theta_j - \theta_{0j}))

    with :math:`\rho` the soft absolute value beyond 0.1.
    """
    from scipy.optimize import least_squares

    before = prior(form, spread, seconds)
    logs = np.log(seconds)
    steps = _STEP * np.eye(len(before))
    pull = np.full(len(before), _PULL)
    two = form.parameters.index("two")
    if 2 in spread.nodes and spread.nodes.max() > 2:
        pull[two] = _LEAST_SPREAD / _TWO_NODES
        if start is not None:
            # A further fit is a draw: what rows cannot tell from the links, they leave open.
            before[two] += random.normal(0, _TWO_NODES)
    else:
        pull[two] = _HELD

    def residuals(theta: Floats) -> Floats:
        return np.concatenate([np.log(form.seconds(theta, spread)) - logs, pull * (theta - before)])

    def jacobian(theta: Floats) -> Floats:
        both = np.log(form.seconds(np.vstack([theta, theta + steps]), spread))
        slopes: Floats = np.vstack([(both[1:] - both[0]).T / _STEP, np.diag(pull)])
        return slopes

    jitters = random.normal(size=(_JITTERED_STARTS, len(before)))
    starts = [before, *(before + jitters)] if start is None else [start]
    found = [
        least_squares(
            residuals,
            one,
            jacobian,
            loss="soft_l1",
            f_scale=_ROBUST_FROM,
            max_nfev=_MOST_EVALUATIONS,
        )
        for one in starts
    ]
    theta = min(found, key=lambda one: float(one.cost)).x
    left = residuals(theta)[: len(logs)]
    free = max(len(logs) - _EFFECTIVE_PARAMETERS, 1)
    return Fit(form, theta, max(float(left.std()) * np.sqrt(len(logs) / free), _LEAST_SPREAD))

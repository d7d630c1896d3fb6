"""Predicts steps from a table of measured ones: four forms, each fitted again to noisy copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from batchsense.arrays import Floats
from batchsense.progress import Progress, silent
from batchsense.training.workers.fitting import Fit, fit_form
from batchsense.training.workers.forms import FORMS, Spread
from batchsense.training.workers.prediction import (
    LEVEL,
    Comparison,
    StepConfiguration,
    StepPrediction,
    verdict_of,
)
from batchsense.training.workers.range import MeasuredRange
from batchsense.training.workers.step_table import StepTable
from batchsense.variation.interval import Interval, student_quantile

#: Fits of each form to noisy copies of the rows. Twice as many moved no error or coverage by more
#: than seeds do.
_REFITS = 4


@dataclass(frozen=True, slots=True)
class StepModel:
    """What a table of measured steps says about others.

    Attributes
    ----------
    draws : tuple of Fit
        Every form as fitted, and fitted to noisy copies of the rows; all count alike.
    spread : float
        Standard deviation of log seconds about a form, averaged over the forms.
    measured : MeasuredRange
        What was measured.
    table : StepTable
        The rows.
    surprises : ndarray of shape (draws,)
        Standard normal numbers: how much slower links that were not measured are in each draw.
    """

    draws: tuple[Fit, ...]
    spread: float
    measured: MeasuredRange
    table: StepTable
    surprises: Floats

    def log_seconds(
        self,
        configurations: Sequence[StepConfiguration],
        bytes_factor: float = 1.0,
        messages_factor: float = 1.0,
    ) -> Floats:
        """Logarithm of the seconds of a step in every draw.

        Parameters
        ----------
        configurations : sequence of StepConfiguration
            Which steps.
        bytes_factor, messages_factor : float
            What the bytes of gradients, and the time of a message, are multiplied by.

        Returns
        -------
        ndarray of shape (draws, configurations)
            A row for each draw, whose parameters are shared, so that differences can be taken.
        """
        spread = Spread.of(configurations)
        factors = np.log([self.measured.slower_by(one) for one in configurations])
        rows = []
        for fit, surprise in zip(self.draws, self.surprises, strict=True):
            there = replace(spread, slower_links=np.exp(surprise * factors))
            theta = fit.theta.copy()
            for place, name in enumerate(fit.form.parameters):
                theta[place] += np.log({"w": bytes_factor, "a": messages_factor}.get(name[0], 1.0))
            rows.append(np.log(fit.form.seconds(theta, there)))
        return np.array(rows)

    def predict(self, configurations: Sequence[StepConfiguration]) -> tuple[StepPrediction, ...]:
        r"""Predict the seconds of steps.

        The centre is the median over the draws of :math:`\log T`; the 80 % interval reaches
        :math:`1.28\,(s^2_{draws} + s^2_{form})^{1/2}` to each side.

        Examples
        --------
        >>> rows = [StepConfiguration(1, k, b) for k in (1, 2, 4) for b in (8, 64)]
        >>> times = [
        ...     (row, 0.02 + 0.001 * row.micro_batch + 0.03 * (row.workers > 1)) for row in rows
        ... ]
        >>> model = fit_steps(StepTable.of(times))
        >>> (step,) = model.predict([StepConfiguration(1, 2, 32)])
        >>> step.seconds.low < 0.082 < step.seconds.high, step.flags
        (True, ())
        """
        intervals = self.intervals(self.log_seconds(configurations))
        return tuple(
            StepPrediction(one, interval, self.measured.flags(one))
            for one, interval in zip(configurations, intervals, strict=True)
        )

    def intervals(self, logs: Floats) -> list[Interval]:
        """Interval of seconds from their logarithms in the draws, one for each column."""
        reach = student_quantile(np.inf, LEVEL) * np.hypot(logs.std(axis=0), self.spread)
        return [
            interval_of(middle, each)
            for middle, each in zip(np.median(logs, axis=0), reach, strict=True)
        ]

    def ratios(self, first: Floats, second: Floats) -> list[Interval]:
        """Interval of second over first, from log seconds in the same draws."""
        difference = second - first
        # What no form follows differs from one configuration to the next.
        reach = student_quantile(np.inf, LEVEL) * np.hypot(
            difference.std(axis=0), np.sqrt(2) * self.spread
        )
        return [
            interval_of(middle, each)
            for middle, each in zip(np.median(difference, axis=0), reach, strict=True)
        ]

    def compare(
        self, pairs: Sequence[tuple[StepConfiguration, StepConfiguration]]
    ) -> tuple[Comparison, ...]:
        """Say for pairs whether the second takes longer for the same examples, from joint draws."""
        if not pairs:
            return ()
        # A configuration stands in many pairs; each is computed once.
        known = {one: place for place, one in enumerate(dict.fromkeys(chain.from_iterable(pairs)))}
        sizes = np.array([one.batch_size for one in known], dtype=float)
        per_example = self.log_seconds(list(known)) - np.log(sizes)
        places = np.array([[known[one] for one in pair] for pair in pairs])
        ratios = self.ratios(per_example[:, places[:, 0]], per_example[:, places[:, 1]])
        return tuple(
            Comparison(*pair, verdict_of(ratio)) for pair, ratio in zip(pairs, ratios, strict=True)
        )


def fit_steps(table: StepTable, seed: int = 0, progress: Progress = silent) -> StepModel:
    """Fit four forms to measured steps.

    Parameters
    ----------
    table : StepTable
        At least five configurations, with one worker and with several among them.
    seed : int
        Of the starts, the noisy copies and what is drawn for unmeasured links.
    progress : callable
        Told how far the fits are.

    Returns
    -------
    StepModel
        Predicts.

    Raises
    ------
    UnresolvedError
        As ``MeasuredRange.of``.
    """
    measured = MeasuredRange.of(table.configurations)
    random = np.random.default_rng(seed)
    spread = Spread.of(table.configurations)
    draws: list[Fit] = []
    for done, form in enumerate(FORMS.values()):
        progress("fitting forms of the step time", done, len(FORMS))
        best = fit_form(form, spread, table.seconds, random)
        draws.append(best)
        for _ in range(_REFITS):
            noise = random.normal(0, best.spread, len(table.seconds))
            noisy = table.seconds * np.exp(noise)
            draws.append(fit_form(form, spread, noisy, random, start=best.theta))
    own = [fit.spread for fit in draws[:: _REFITS + 1]]
    return StepModel(tuple(draws), float(np.mean(own)), measured, table, _normal(draws, random))


def _normal(draws: Sequence[Fit], random: np.random.Generator) -> Floats:
    """Normal numbers at even levels, in random order: few draws then have no tilt."""
    from scipy.special import ndtri

    levels = (np.arange(len(draws)) + 0.5) / len(draws)
    return np.asarray(random.permutation(ndtri(levels)), dtype=float)


def interval_of(middle: float, reach: float) -> Interval:
    """An interval from its middle and reach on the logarithmic scale.

    >>> interval_of(0.0, np.log(2)).high
    2.0
    """
    ends = np.exp([middle, middle - reach, middle + reach])
    return Interval(float(ends[0]), float(ends[1]), float(ends[2]), LEVEL)

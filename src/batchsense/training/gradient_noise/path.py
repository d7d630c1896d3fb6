"""The critical batch size along a training run: recorded on a copy, and integrated."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from batchsense import clock
from batchsense.arrays import Floats
from batchsense.errors import DataError, UnresolvedError
from batchsense.notes import Note
from batchsense.progress import Progress, silent
from batchsense.training.gradient_noise.estimators import moments_of_examples
from batchsense.training.gradient_noise.report import (
    LEAST_GROUPS,
    Branch,
    fieller_ratio,
    is_resolved,
    pool_moments,
)
from batchsense.training.learning_rate import optimizer_family, rescale
from batchsense.training.running import Moment, optimizer_step
from batchsense.training.workload import (
    Workload,
    admitted,
    borrowed_randomness,
    least_part,
    loss_gradient,
    trainable,
)
from batchsense.variation.grouped_moments import GroupedMoments
from batchsense.variation.interval import Interval

#: Records over which the share of signal in a gradient is averaged. One record's γ̂ is often
#: negative; with 25, five runs of a net gave 0.80 to 1.18 of the exact value of the path.
SMOOTHED_RECORDS = 25

#: Blocks of consecutive records that are treated as independent. Longer blocks forget one another
#: better, fewer leave fewer degrees of freedom; no study compares other numbers.
BLOCKS = 16

#: Steps that an interval needs, two a block, and which a run makes even when its time is up.
LEAST_STEPS = 2 * LEAST_GROUPS

#: Micro-batches into which each step's minibatch is split. Single examples had errors 1.3 times
#: smaller than eight parts and 2 times smaller than two; eight cost 1.06 to 1.40 of the step.
MICRO_BATCHES = 8


@dataclass(frozen=True, slots=True, eq=False)
class PathRecords:
    """What a short run recorded at each step."""

    batch_size: int | Floats  #: Examples per step, or of each step; shape (steps,).
    trace_covariance: Floats  #: τ̂ at each step, unbiased; shape (steps,).
    squared_gradient_norm: Floats  #: γ̂ at each step, unbiased, often negative; shape (steps,).
    loss: Floats  #: Loss of the step's minibatch; shape (steps,).


@dataclass(frozen=True, slots=True)
class PathNoise:
    """The critical batch size of a run, with its interval.

    Attributes
    ----------
    critical_batch_size : Interval
        B_crit in examples: training at it takes twice the fewest steps and twice the fewest
        examples. Holds down to ``final_loss`` only.
    branch : str
        Which ends the data set.
    batch_size : int
        The batch size of the run.
    steps : int
        Steps of the run.
    initial_loss, final_loss : float
        Mean loss over the first and the last tenth of the run.
    loss_fell : bool
        Whether the difference of the two is more than chance (three times its standard error).
    """

    critical_batch_size: Interval
    branch: Branch
    batch_size: int
    steps: int
    initial_loss: float
    final_loss: float
    loss_fell: bool

    @property
    def resolved(self) -> bool:
        """Whether the ends of the interval are within a factor of four."""
        return is_resolved(self.critical_batch_size)

    @property
    def run_too_large(self) -> bool:
        """Whether the run used a batch size so far above B_crit that it is overestimated."""
        return self.batch_size > 4 * self.critical_batch_size.estimate

    @property
    def steps_needed(self) -> int:
        """About how many more steps would resolve B_crit, for errors that fall as 1/√steps."""
        interval = self.critical_batch_size
        if self.resolved:
            return 0
        if not interval.bounded or interval.ratio > 1e3:
            return 7 * self.steps
        excess = np.log(interval.ratio) / np.log(4.0)
        return int(np.ceil(self.steps * (excess**2 - 1)))


def record_short_run(
    workload: Workload,
    steps: int,
    batch_size: int,
    *,
    batch_size_ratio: float = 1.0,
    micro_batches: int = MICRO_BATCHES,
    seconds: float = math.inf,
    seed: int = 0,
    progress: Progress = silent,
) -> tuple[PathRecords, nn.Module]:
    """Train a copy of the model and record τ̂ and γ̂ at every step; give the trained copy too.

    Each step draws its minibatch afresh from all examples, so that the draw never depends on the
    weights; it is computed as micro-batches, whose spread gives the noise at little extra cost.
    ``batch_size_ratio`` is the batch size over that which the optimizer's learning rate was chosen
    for: it is rescaled by the rule of its kind where one is known. A run that ``seconds`` cut short
    is not repeatable to the digit.

    Raises DataError: the loss or its gradient is not finite on the way.
    """
    drawn, least = min(batch_size, admitted(workload)), least_part(workload.model)
    groups = min(micro_batches, drawn // least)
    if groups < 2:
        raise DataError(f"a run of {drawn} examples a step cannot show noise; use {2 * least}")
    size = drawn // groups
    rows = []
    with borrowed_randomness(seed):
        model = workload.fresh_model()
        optimizer = workload.fresh_optimizer(model)
        if batch_size_ratio != 1.0 and optimizer_family(optimizer) != "other":
            rescale(optimizer, batch_size_ratio)
        rng = np.random.default_rng(seed)
        ends = clock.now() + seconds
        for step in range(steps):
            chosen = rng.choice(len(workload.examples), size=(groups, size), replace=False)
            try:
                rows.append(_step(workload, model, optimizer, chosen))
            except DataError as error:
                raise DataError(f"at step {step + 1} of a short run: {error}") from error
            progress("training a copy", step + 1, steps)
            if clock.now() > ends and step + 1 >= LEAST_STEPS:
                break
    loss, tau, gamma = np.array(rows).T
    return PathRecords(groups * size, tau, gamma, loss), model


def _step(
    workload: Workload,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    chosen: np.ndarray[tuple[int, int], np.dtype[np.int64]],
) -> tuple[float, float, float]:
    parameters = trainable(model)
    groups, size = chosen.shape
    total: list[Tensor] = []
    squares = torch.zeros((), dtype=torch.float64)
    loss_sum = mean_square = 0.0

    def differentiate(loss: Tensor) -> None:
        nonlocal total, squares, loss_sum
        gradient = loss_gradient(loss, parameters)
        loss_sum += loss.item()
        squares += _squared_norm(gradient)
        total = [a + b for a, b in zip(total, gradient, strict=True)] if total else gradient

    def watch(moment: Moment, loss: Tensor | None) -> None:
        nonlocal mean_square
        if moment != "ready":
            return
        mean = [part / groups for part in total]
        mean_square = _squared_norm(mean).item()
        if not math.isfinite(mean_square):
            raise DataError("the gradient is not finite although the loss is")
        for parameter, value in zip(parameters, mean, strict=True):
            parameter.grad = value

    parts = (workload.minibatch(part) for part in chosen)
    optimizer_step(workload, model, optimizer, parts, differentiate=differentiate, watch=watch)
    # A micro-batch mean is an "example" whose covariance is Σ/size.
    population = len(workload.examples)
    moments = moments_of_examples(squares.item() / groups, mean_square, groups)
    tau = moments.trace_covariance * size * (population - 1) / population
    gamma = moments.squared_gradient_norm + tau / (population - 1)
    return loss_sum / groups, tau, gamma


def _squared_norm(gradient: list[Tensor]) -> Tensor:
    norms = torch.stack([torch.linalg.vector_norm(part).double() for part in gradient])
    return norms.square().sum().cpu()


def critical_batch_size_of_path(records: PathRecords, level: float = 0.95) -> PathNoise:
    r"""Integrate the critical batch size along a run.

    A step at batch size B makes the share :math:`w = 1/(1 + B_s/B)` of the progress that a step
    without noise would, so :math:`B_{crit} = \sum w B_s / \sum w`. One step's γ̂ is too noisy to
    divide by; with M = γ + τ/B the same sum is

    .. math:: B_{crit} = \sum_t \frac{\hat τ_t}{\hat M_t} \Big/ \sum_t \frac{\hat γ_t}{\hat M_t},
        \qquad \hat M_t = \hat Q_t \left[\tfrac1B + (1 - \tfrac1B) \hat φ_t\right],

    where Q = γ + τ and φ is the moving mean of γ̂/Q̂ over 25 steps, cut to 0…1. The interval is
    Fieller's, on means of consecutive blocks.

    There must be 16 records or more, one per step (else an UnresolvedError).

    Source: McCandlish et al. (2018), "An empirical model of large-batch training", section 2.

    A run whose noise is the same at every step, τ = 100 and γ = 2, has B_crit = 50:

    >>> same = np.ones(64)
    >>> records = PathRecords(16, 100 * same, 2 * same, same)
    >>> round(critical_batch_size_of_path(records).critical_batch_size.estimate, 6)
    50.0
    """
    steps = len(records.loss)
    if steps < LEAST_STEPS:
        raise UnresolvedError(
            f"a run of {steps} steps is too short for an interval", f"{LEAST_STEPS} steps or more"
        )
    tau, gamma = records.trace_covariance, records.squared_gradient_norm
    scale = _smoothed_step_norm(tau, gamma, records.batch_size)
    blocks = max(LEAST_GROUPS, min(BLOCKS, steps // SMOOTHED_RECORDS))
    noise, signal = (block_means(part / scale, blocks) for part in (tau, gamma))
    moments, covariance = pool_moments(noise, signal)
    ratio = fieller_ratio(
        moments.trace_covariance, moments.squared_gradient_norm, covariance, blocks - 1, level
    )
    tenth = max(1, steps // 10)
    first, last = float(records.loss[:tenth].mean()), float(records.loss[-tenth:].mean())
    # From differences of neighbours: the spread of one minibatch's loss without the trend.
    spread = float(np.diff(records.loss).std()) / math.sqrt(2)
    return PathNoise(
        critical_batch_size=ratio.interval,
        branch=ratio.branch,
        batch_size=round(float(np.mean(records.batch_size))),
        steps=steps,
        initial_loss=first,
        final_loss=last,
        loss_fell=first - last > 3 * spread * math.sqrt(2 / tenth),
    )


def notes_on_path(path: PathNoise, family: str) -> list[Note]:
    """Say why a critical batch size found with an optimizer of a family may be off."""
    found = []
    if path.run_too_large:
        found.append(
            Note(
                "run_batch_size_too_large",
                f"The run used {path.batch_size:,} examples a step, more than four times the "
                "critical batch size found, which is then overestimated; measure a run with a "
                "smaller batch size.",
            )
        )
    if family == "adam":
        found.append(
            Note(
                "adaptive_optimizer",
                "For Adam and its kin the critical batch size is a rough guide (off by up to a "
                "factor of three in our trials): low confidence.",
            )
        )
    if family == "other":
        found.append(
            Note(
                "unknown_optimizer",
                "The theory is for SGD; for this optimizer the critical batch size is untested.",
            )
        )
    return found


def block_means(values: Floats, blocks: int) -> Floats:
    """Return the means of consecutive blocks of nearly equal length along the first axis."""
    lengths = [len(part) for part in np.array_split(values, blocks)]
    of_blocks = GroupedMoments.of(
        values.reshape(len(values), -1), np.repeat(np.arange(blocks), lengths)
    )
    means = np.stack([of_blocks[block].mean for block in of_blocks])
    return means.reshape(blocks, *values.shape[1:])


def _smoothed_step_norm(tau: Floats, gamma: Floats, batch_size: int | Floats) -> Floats:
    """Estimate E|g_B|² at each step: never zero, and calm where gradients spike."""
    square = tau + gamma
    # With few micro-batches one step's estimate of E|g_i|² may be tiny or negative.
    square = np.maximum(square, 0.05 * _moving_mean(np.maximum(square, 0.0)))
    if not (square > 0).all():
        raise UnresolvedError("the gradient is zero along the whole run", "a loss that can fall")
    share = np.clip(_moving_mean(gamma / square), 0.0, 1.0)
    return np.asarray(square * (1 / batch_size + (1 - 1 / batch_size) * share))


def _moving_mean(values: Floats) -> Floats:
    """Average each value with its neighbours on both sides; windows shrink at the ends."""
    window = np.ones(min(SMOOTHED_RECORDS, len(values)))
    total = np.convolve(values, window, mode="same")
    return np.asarray(total / np.convolve(np.ones(len(values)), window, mode="same"))

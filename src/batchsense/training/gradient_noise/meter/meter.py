"""Measure gradient noise inside an ordinary training loop, every k steps, without touching it."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Literal, Self

import torch
from torch import nn

from batchsense.errors import DataError
from batchsense.notes import Note
from batchsense.training.example_gradients import PLAIN_MEAN, LossForm, refuse_coupled
from batchsense.training.gradient_noise.meter.observer import (
    UNREMARKABLE,
    StepObserver,
    check_meterable,
    unwrapped,
)
from batchsense.training.gradient_noise.meter.pooling import MeterReport, RunSoFar, report_of_steps
from batchsense.training.gradient_noise.meter.records import StepBook
from batchsense.training.gradient_noise.report import LEAST_GROUPS, notes_on_coupling
from batchsense.training.learning_rate import optimizer_family
from batchsense.training.workload import coupled_modules

Mode = Literal["auto", "per_example", "micro_batch"]

#: Version of what :meth:`GradientNoiseMeter.state_dict` gives.
STATE_VERSION = 1


class GradientNoiseMeter:
    r"""Gradient noise of a running training, from the gradients it computes anyway.

    Every ``every`` optimizer steps the meter notes the squared gradients of single examples, or of
    micro-batches (the backward passes of an accumulated step, the processes of a
    ``DistributedDataParallel`` one), and of their mean. From :math:`E|g_b|^2 = γ + τ/b` follow
    τ = tr Σ and :math:`γ = |G|^2` of that step, without bias. Nothing is changed: the weights are
    the same bit for bit with and without the meter. Gradients are read when a backward pass ends,
    before clipping.

    Parameters
    ----------
    model : torch.nn.Module
        What is called in the loop; the ``DistributedDataParallel`` module if there is one. Then
        every process needs a meter, and each measured step costs one small all-reduce.
    optimizer : torch.optim.Optimizer
        Whose ``step()`` ends a step, and whose parameters are measured.
    mode : {"auto", "per_example", "micro_batch"}
        Norms of single examples are more precise and need no accumulation; micro-batches suit every
        model. ``"auto"`` takes the first unless the model cannot be watched that way (BatchNorm,
        ``torch.compile``).
    every : int
        Measure one step out of so many.
    pooled : int
        Over how many of the last measured steps the noise scale is pooled.
    form : LossForm
        Whether the loss is the mean or the sum over the examples of a pass, what it is multiplied
        with before ``backward``, and which dimension of the model's first tensor counts examples. A
        constant factor cancels in the noise scale and only sets the unit of τ and γ.
    population : int, optional
        Examples in the data set, if each step draws its own without replacement and nothing is
        augmented: removes a small bias, −τ/N, from γ.
    leave_out : sequence of str
        Names of parameters not to measure.

    Raises
    ------
    DataError
        Nothing to train, an optimizer of other parameters, a sharded model, or
        ``mode="per_example"`` with a model that mixes its examples.

    Notes
    -----
    In the loop the meter never raises: a step that it cannot use (gradients not finite, zeroed on
    the way, arriving in parts) is left out, counted and reported, and the first of its kind is
    warned of. All backward passes of a step must be about examples drawn alike.

    References
    ----------
    McCandlish et al. (2018), "An empirical model of large-batch training", appendix A.

    Examples
    --------
    >>> import numpy as np
    >>> from batchsense.training import digits_workload
    >>> job = digits_workload()
    >>> rng = np.random.default_rng(0)
    >>> sgd = torch.optim.SGD(job.model.parameters(), lr=0.1)
    >>> with GradientNoiseMeter(job.model, sgd, every=2) as meter:
    ...     for _ in range(128):
    ...         loss = job.loss(job.model, job.minibatch(rng.integers(1797, size=32)))
    ...         sgd.zero_grad()
    ...         loss.backward()
    ...         sgd.step()
    >>> report = meter.report()
    >>> report.resolved, report.measured, report.examples_used
    (True, 64, 2048)
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        mode: Mode = "auto",
        every: int = 20,
        pooled: int = 64,
        form: LossForm = PLAIN_MEAN,
        population: int | None = None,
        leave_out: Sequence[str] = (),
    ) -> None:
        check_meterable(model, optimizer)
        if mode not in ("auto", "per_example", "micro_batch"):
            raise DataError(f"mode is {mode!r}; use 'auto', 'per_example' or 'micro_batch'")
        if every < 1 or pooled < LEAST_GROUPS:
            raise DataError(f"every={every} must be 1 or more and pooled={pooled} 8 or more")
        single, why_not = _single_examples(unwrapped(model), mode)
        self._observer = StepObserver(
            model,
            optimizer,
            single_examples=single,
            form=form,
            population=population,
            leave_out=leave_out,
        )
        self._optimizer = optimizer
        self._every, self._pooled = every, pooled
        self._notes = [] if why_not is None else [why_not]
        self._book = StepBook(pooled)
        self._unmeasured: Counter[str] = Counter()
        self._warned: set[str] = set()
        self._steps = self._since = 0
        self._handle: Any = None

    @property
    def steps(self) -> int:
        """Optimizer steps seen, also before a checkpoint."""
        return self._steps

    @property
    def measured(self) -> int:
        """How many of them were measured."""
        return len(self._book)

    def __enter__(self) -> Self:
        self.attach()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.detach()

    def attach(self) -> None:
        """Begin to measure; what ``with`` does on entering.

        Raises
        ------
        DataError
            The meter is attached already.
        """
        if self._handle is not None:
            raise DataError("this meter is in use already; leave its block first")
        self._handle = self._optimizer.register_step_post_hook(self._after_step)
        self._arm_if_due()

    def detach(self) -> None:
        """Stop measuring and remove every hook; what ``with`` does on leaving."""
        self._observer.disarm()
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    @contextmanager
    def watching(self, examples: int) -> Iterator[None]:
        """Say how many examples the loss in this block is about.

        Only needed where the model's first tensor does not tell: where it is called several times
        for one loss, through other methods than ``model(...)``, or without tensors.

        """
        with self._observer.watching(examples):
            yield

    def report(self, level: float = 0.95) -> MeterReport:
        """Report what is known so far; may be called at any time.

        Parameters
        ----------
        level : float
            Confidence level.

        Returns
        -------
        MeterReport
            Noise scale over the last measured steps, critical batch size over the run, layers.

        Raises
        ------
        UnresolvedError
            No step was measured; says why.
        DataError
            The level does not lie between 0 and 1.
        """
        if not 0 < level < 1:
            raise DataError(f"the level must lie between 0 and 1, not {level}")
        observer = self._observer
        mixing = () if observer.single_examples else coupled_modules(observer.inner)
        rows = self._book.rows
        return report_of_steps(
            rows,
            observer.metered.layers,
            RunSoFar(
                steps=self._steps,
                single_examples=observer.single_examples,
                family=optimizer_family(self._optimizer),
                unmeasured=self._unmeasured,
                notes=(*self._notes, *notes_on_coupling(mixing), *observer.metered.notes()),
            ),
            pooled=max(1, min(self._pooled, sum(row.step >= self._since for row in rows))),
            level=level,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return everything that was measured, for a checkpoint.

        It holds tensors, numbers and strings; ``torch.load(..., weights_only=True)`` reads it.
        """
        return {
            "version": STATE_VERSION,
            "steps": self._steps,
            "since": self._since,
            "single_examples": self._observer.single_examples,
            "layers": list(self._observer.metered.layers.names),
            "unmeasured": dict(self._unmeasured),
            "book": self._book.state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state_dict`; what was measured so far is replaced.

        Raises
        ------
        DataError
            It is of another version, model or mode.
        """
        self._book, self._steps, self._since, self._unmeasured = self._read(state)
        if self._handle is not None:
            self._observer.disarm()
            self._arm_if_due()

    def merge(self, other: GradientNoiseMeter | Mapping[str, Any]) -> None:
        """Add what another worker, or another part of the same run, has measured.

        Steps that both have measured are averaged, weighted by examples: workers with the same
        weights and other examples. Not for the processes of one ``DistributedDataParallel``
        training, whose meters have exchanged their sums already.

        Parameters
        ----------
        other : GradientNoiseMeter or mapping
            A meter of the same model, or its :meth:`state_dict`.

        Raises
        ------
        DataError
            It is of another version, model or mode, or holds the same measurements.
        """
        state = other.state_dict() if isinstance(other, GradientNoiseMeter) else other
        book, steps, since, unmeasured = self._read(state)
        self._book.merge(book)
        self._steps, self._since = max(self._steps, steps), max(self._since, since)
        self._unmeasured.update(unmeasured)

    def _arm_if_due(self) -> None:
        if self._steps % self._every:
            return
        try:
            if self._observer.arm():
                self._since = self._steps
        except DataError as error:
            self._leave_out({str(error): 1})

    def _after_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if self._observer.armed:
            row, reasons = self._observer.read(self._steps)
            if row is not None:
                self._book.add(row)
            self._leave_out(reasons)
        self._steps += 1
        self._arm_if_due()

    def _leave_out(self, reasons: Mapping[str, int]) -> None:
        self._unmeasured.update(reasons)
        for reason in set(reasons) - UNREMARKABLE - self._warned:
            self._warned.add(reason)
            warnings.warn(
                f"step {self._steps} was not measured: {reason}", RuntimeWarning, stacklevel=2
            )

    def _read(self, state: Mapping[str, Any]) -> tuple[StepBook, int, int, Counter[str]]:
        if not isinstance(state, Mapping) or state.get("version") != STATE_VERSION:
            version = state.get("version") if isinstance(state, Mapping) else type(state).__name__
            raise DataError(
                f"the state is of version {version!r}, not {STATE_VERSION}; it was "
                "not written by this version of batchsense"
            )
        names = list(self._observer.metered.layers.names)
        try:
            if list(state["layers"]) != names:
                raise DataError("the state is that of another model: its layers have other names")
            if bool(state["single_examples"]) != self._observer.single_examples:
                raise DataError(
                    "the state was measured in another mode; make the meter with the same"
                )
            unmeasured = Counter({str(why): int(n) for why, n in state["unmeasured"].items()})
            book = StepBook.of_state(state["book"], self._pooled, len(names))
            return book, int(state["steps"]), int(state["since"]), unmeasured
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise DataError(
                f"the state is damaged ({type(error).__name__}: {error}); take an earlier one"
            ) from None


def _single_examples(model: nn.Module, mode: Mode) -> tuple[bool, Note | None]:
    if mode == "micro_batch":
        return False, None
    try:
        refuse_coupled(model)
    except DataError as error:
        if mode == "per_example":
            raise
        return False, Note("micro_batches", f"Single examples cannot be seen: {error}.")
    return True, None

"""A batch-size schedule in a training loop of one's own, by accumulation or by the loader."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from batchsense.errors import DataError
from batchsense.training.gradient_noise import GradientNoiseMeter
from batchsense.training.running import EndlessOrder, Ranks, present_ranks
from batchsense.training.schedule.coupling import Coupling
from batchsense.training.schedule.draws import EpochDraws, Part, check_size
from batchsense.training.schedule.measured import FollowNoise
from batchsense.training.schedule.sizes import ScheduledSizes, SizeRule, Switch
from batchsense.training.schedule.written import WrittenSchedule, parse_schedule
from batchsense.training.workload import count_examples

_STATE_VERSION = 1


class BatchSizeSchedule:
    r"""Let the batch size change on the way, at the exact example, with the learning rate.

    Sizes count the examples of a step over all processes, and are a function of the examples
    *consumed*, never of those that a loader has fetched ahead: a change comes between two steps, at
    the first that begins at or after its example.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        With the settings that belong to the first size.
    schedule : WrittenSchedule, str or SizeRule
        Written, such as ``exponential(64, 1024, 100_000)`` or ``"64, 256 at 20000"``; ``"noise"``
        to follow the critical batch size that ``meter`` measures, from one micro-batch a process
        on; or a rule such as ``FollowNoise`` and ``WhenHeatStalls``.
    couple : {"lr", "temperature", "seesaw"} or None
        What the learning rate does; None leaves it, so that growth cools the run.
    mode : {"accumulate", "loader"}
        Micro-batches of a fixed size, as many as the step needs, in constant memory; or minibatches
        that are whole steps.
    micro_batch : int, optional
        Examples that a process computes at once. ``"accumulate"`` needs it; with ``"loader"`` it is
        a limit of memory that a schedule may not pass.
    lr_schedulers : iterable, optional
        Learning rate schedulers of this optimizer; their base rates follow too.
    ranks : Ranks, optional
        The processes; those of torch's process group by default.
    meter : GradientNoiseMeter, optional
        For ``"noise"``.

    Raises
    ------
    DataError
        The schedule cannot be read or kept: sizes that processes, micro-batches or memory do not
        allow, with the nearest that they do; a scheduler that was not named.

    Notes
    -----
    Rules that measure act on what is fetched after they decide: with worker processes and
    ``"loader"`` a few steps later than with ``"accumulate"``.

    Examples
    --------
    >>> from batchsense.training import digits_workload
    >>> job = digits_workload()
    >>> sgd = torch.optim.SGD(job.model.parameters(), lr=0.05)
    >>> schedule = BatchSizeSchedule(sgd, "32, 128 at 960", couple="lr", micro_batch=32)
    >>> for minibatch in schedule.loader(job.examples, epochs=1):
    ...     schedule.backward(job.loss(job.model, minibatch))
    ...     _ = schedule.step()
    >>> schedule.steps, schedule.examples, sgd.param_groups[0]["lr"]
    (37, 1797, 0.2)
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        schedule: WrittenSchedule | SizeRule | str,
        couple: Coupling = None,
        mode: Literal["accumulate", "loader"] = "accumulate",
        micro_batch: int | None = None,
        *,
        lr_schedulers: Iterable[Any] | None = None,
        ranks: Ranks | None = None,
        meter: GradientNoiseMeter | None = None,
    ) -> None:
        if mode not in ("accumulate", "loader"):
            raise DataError(f"mode is {mode!r}; use 'accumulate' or 'loader'")
        if mode == "accumulate" and micro_batch is None:
            raise DataError("accumulation needs micro_batch: the examples a process takes at once")
        ranks = ranks or present_ranks()
        rule = _rule_of(schedule, meter, (micro_batch or 0) * ranks.world_size)
        self._optimizer, self._ranks, self._micro_batch = optimizer, ranks, micro_batch
        self._accumulates = mode == "accumulate"
        self._sizes = ScheduledSizes(
            optimizer, rule, couple=couple, lr_schedulers=lr_schedulers, ranks=ranks
        )
        for size in self._sizes.known:
            check_size(size, ranks, micro_batch, whole=not self._accumulates)
        self._part: Part | None = None
        self.steps = self.examples = self._filled = 0
        self._seed: int | None = None

    @property
    def batch_size(self) -> int:
        """The size of the step under way, or of the last one."""
        return self._sizes.batch_size

    @property
    def switches(self) -> tuple[Switch, ...]:
        """The first size and every change, with the example, the learning rate and the reason."""
        return tuple(self._sizes.switches)

    @property
    def last_part(self) -> bool:
        """Whether the micro-batch at hand ends its step: when gradients are to be exchanged."""
        return self._at_hand().last

    def loader(
        self,
        examples: Any,
        *,
        epochs: int | None = None,
        drop_last: bool = False,
        seed: int = 0,
        **options: Any,
    ) -> ScheduledLoader:
        """Make a loader whose minibatches this schedule cuts; each ``for`` over it is one epoch.

        What is left of an epoch begins the next one, so every example comes once an epoch and no
        step is short. Each process gets its share.

        Parameters
        ----------
        examples : data set
            With ``len`` and ``[]``.
        epochs : int, optional
            Of the whole run: the remainder of the last one makes a shorter step, unless
            ``drop_last``. Without it the remainder always waits for another epoch.
        drop_last : bool
            Leave the remainder of the run out.
        seed : int
            Of the order.
        **options
            Of ``torch.utils.data.DataLoader``, such as ``num_workers`` and ``collate_fn``.
        """
        for taken in ("batch_size", "shuffle", "sampler", "batch_sampler"):
            if options.pop(taken, None):
                raise DataError(f"the schedule cuts and shuffles by itself; leave out {taken}")
        if options.get("in_order") is False:
            raise DataError("in_order=False mixes minibatches, whose sizes would then be unknown")
        if self._seed not in (None, seed):
            raise DataError(f"the run that goes on has the order of seed {self._seed}, not {seed}")
        self._sizes.limit_to(len(examples))
        self._seed = seed
        return ScheduledLoader(self, examples, epochs, drop_last, options)

    def over(self, micro_batches: Iterable[Any]) -> Iterator[Any]:
        """Go through micro-batches of another loader or stream; steps end where they are filled.

        A step may go on in the next pass. What was consumed before a checkpoint is not skipped:
        that is the other loader's to do.

        Raises
        ------
        DataError
            In mode ``"loader"``; or a step was not made.
        """
        if not self._accumulates:
            raise DataError("another loader cannot change its sizes: use mode='accumulate'")
        for minibatch in micro_batches:
            self._refuse_unfinished()
            found, first = count_examples(minibatch), self._filled == 0
            if first:
                self._sizes(self.steps, self.examples)
            every = found * self._ranks.world_size
            size, last = self.batch_size, self._filled + every >= self.batch_size
            self._part = Part(size, size, found, every / size, first, last)
            yield minibatch

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of the mean loss of a micro-batch, by its share of the step.

        Raises
        ------
        DataError
            The loss is not finite, or no micro-batch is at hand.
        """
        part = self._at_hand()
        if not math.isfinite(loss.item()):
            rate = float(self._optimizer.param_groups[0]["lr"])
            raise DataError(
                f"the loss is {loss.item()} at step {self.steps + 1}, with {part.size} examples a "
                f"step and a learning rate of {rate:.3g}"
            )
        (loss * part.scale).backward()  # type: ignore[no-untyped-call]

    def step(self, make: Callable[[], object] | None = None) -> bool:
        """Say that a micro-batch is done; at the end of a step, make it and zero the gradients.

        Parameters
        ----------
        make : callable, optional
            Instead of ``optimizer.step``, such as ``lambda: scaler.step(optimizer)``.

        Returns
        -------
        bool
            Whether the optimizer was stepped.
        """
        part, self._part = self._at_hand(), None
        self._filled += part.examples * self._ranks.world_size
        if not part.last:
            return False
        # Micro-batches of another loader may fill a step to more than its size.
        size = max(self._filled, part.size) if self._accumulates else part.size
        if size != part.size:
            scale_gradients(self._optimizer, part.size / size)
        (make or self._optimizer.step)()
        self._optimizer.zero_grad()
        self.steps, self.examples, self._filled = self.steps + 1, self.examples + size, 0
        self._sizes.rule.after_step()
        return True

    def state_dict(self) -> dict[str, Any]:
        """Everything to go on from after the last whole step, beside model and optimizer.

        What is fetched but not consumed, and the micro-batches of a step under way, come again.
        """
        return {
            "version": _STATE_VERSION,
            "steps": self.steps,
            "examples": self.examples,
            "seed": self._seed,
            "sizes": self._sizes.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on, also with another number of processes.

        Raises
        ------
        DataError
            The state is of another version, schedule, coupling or order.
        """
        if state.get("version") != _STATE_VERSION:
            raise DataError("this state is not of a batch-size schedule of this version")
        if None not in (self._seed, state["seed"]) and self._seed != state["seed"]:
            raise DataError(f"the state is of an order of seed {state['seed']}, not {self._seed}")
        self._sizes.load_state_dict(state["sizes"])
        self.steps, self.examples = state["steps"], state["examples"]
        self._seed = self._seed if state["seed"] is None else state["seed"]
        self._part, self._filled = None, 0

    def _at_hand(self) -> Part:
        if self._part is None:
            raise DataError(
                "no micro-batch is at hand: take them from schedule.loader(...) or "
                "schedule.over(...), and call step() once after each"
            )
        return self._part

    def _refuse_unfinished(self) -> None:
        if self._part is not None:
            raise DataError("call schedule.step() after every minibatch; the last one had none")


class ScheduledLoader:
    """The minibatches of a schedule, an epoch each time it is gone through; made by ``loader``.

    Raises
    ------
    TypeError
        By ``len()``, where sizes depend on what is measured.
    """

    def __init__(
        self,
        schedule: BatchSizeSchedule,
        examples: Any,
        epochs: int | None,
        drop_last: bool,
        options: Mapping[str, Any],
    ) -> None:
        self._schedule, self._examples, self._options = schedule, examples, dict(options)
        self._epochs, self._drop_last = epochs, drop_last
        self._order = EndlessOrder(len(examples), schedule._seed or 0)

    @property
    def epoch(self) -> int:
        """Epochs behind: what ``range`` begins with in a run that goes on."""
        return self._draws().end // len(self._examples) - 1

    def __iter__(self) -> Iterator[Any]:
        """Minibatches from the first example that is not consumed to the end of its epoch."""
        schedule, draws = self._schedule, self._draws()
        schedule._part, schedule._filled = None, 0
        # Worker processes are seeded from it, so that a run that goes on leaves torch's own alone.
        seeds = torch.Generator().manual_seed(draws.start)
        options = {"generator": seeds, **self._options}
        for minibatch in DataLoader(self._examples, batch_sampler=draws, **options):
            schedule._refuse_unfinished()
            part = draws.queue.popleft()
            if part.first:
                schedule._sizes.begin(part.planned, part.reason, schedule.steps, schedule.examples)
            schedule._part = part
            yield minibatch

    def __len__(self) -> int:
        """Minibatches that are left of this epoch, by going through the schedule."""
        if not isinstance(self._schedule._sizes.rule, WrittenSchedule):
            raise TypeError("length depends on measurement")
        return len(self._draws())

    def _draws(self) -> EpochDraws:
        """What is left of the epoch; the next one where no whole step of this one is left."""
        schedule, count = self._schedule, len(self._examples)
        at, last = schedule.examples, math.inf if self._epochs is None else self._epochs * count
        end = (at // count + 1) * count
        if end < last and at + schedule._sizes.decide(schedule.steps, at)[0] > end:
            end += count
        return EpochDraws(
            self._order,
            at,
            int(min(end, last)),
            end >= last and not self._drop_last,
            schedule._micro_batch if schedule._accumulates else None,
            schedule._ranks,
            schedule._sizes.decide,
            schedule.steps,
        )


def scale_gradients(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Multiply all gradients of an optimizer."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                parameter.grad.mul_(factor)


def _rule_of(
    schedule: WrittenSchedule | SizeRule | str, meter: GradientNoiseMeter | None, start: int
) -> SizeRule:
    if not isinstance(schedule, str):
        return schedule
    if schedule != "noise":
        return parse_schedule(schedule)
    if meter is None or not start:
        raise DataError(
            '"noise" begins with one micro-batch a process: give micro_batch, and '
            "meter=GradientNoiseMeter(model, optimizer)"
        )
    return FollowNoise(meter, start)

"""The training loop over one or more processes: step, exchange losses, keep, stop, go on."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor, distributed, nn

from batchsense import clock
from batchsense.arrays import Floats, Integers
from batchsense.errors import DataError
from batchsense.progress import Progress, silent
from batchsense.training.running.checkpoint import CheckpointFolder
from batchsense.training.running.order import EndlessOrder
from batchsense.training.running.ranks import Ranks
from batchsense.training.running.record import RunRecord
from batchsense.training.running.signals import stop_on_signal
from batchsense.training.running.step import Moment, optimizer_step
from batchsense.training.workload import Workload, random_state, set_random_state

StoppedBy: TypeAlias = Literal["loss", "steps", "epochs", "signal"]

#: Steps between two looks at the loss to stop at: the same for any number of processes, so that
#: all stop after the same step.
_LOOK_EVERY = 8
#: Seconds between two exchanges of losses and wishes to stop, and steps at most: each is a message
#: round, and a second is soon enough to stop.
_EXCHANGE_SECONDS, _MOST_UNSHARED = 1.0, 256


class BatchSizes(Protocol):
    """How many examples each step takes: where a schedule comes in.

    It must give the same on every process and after a resumed run, so it may depend on the counts,
    and on what is the same everywhere, such as a meter's report; not on time. With ``state_dict``
    and ``load_state_dict`` it is kept in checkpoints.
    """

    def __call__(self, steps: int, examples: int) -> int:
        """The batch size, over all processes, of the step after so many steps and examples."""


@dataclass(frozen=True, slots=True)
class Ending:
    """When to stop: after so many steps, passes over the examples, or at a loss; what comes first.

    Attributes
    ----------
    steps : int or None
        Steps.
    epochs : int or None
        The first step after which every example was seen so often; it is filled up from the next
        pass.
    loss : float or None
        Mean loss of the last 20 minibatches, looked at every eighth step.
    """

    steps: int | None = None
    epochs: int | None = None
    loss: float | None = None

    def reached(self, record: RunRecord, count: int) -> StoppedBy | None:
        """Which end has come; ``count`` examples make an epoch."""
        looked = record.steps % _LOOK_EVERY == 0
        if self.loss is not None and looked and record.reached(self.loss):
            return "loss"
        if self.steps is not None and record.steps >= self.steps:
            return "steps"
        if self.epochs is not None and record.examples >= self.epochs * count:
            return "epochs"
        return None


#: The factor on the loss of each micro-batch of this process, given those and a function that
#: collates all examples of the step.
Scaling: TypeAlias = Callable[[Sequence[Any], Callable[[], Any]], Floats]


@dataclass(slots=True)
class Metering:
    """What watches the loop: told of each loss before and after, kept with the checkpoint."""

    watching: Callable[[int], contextlib.AbstractContextManager[None]] = lambda examples: (
        contextlib.nullcontext()
    )
    state_dict: Callable[[], Any] = lambda: None
    load_state_dict: Callable[[Any], None] = lambda state: None
    scale: float = 1.0  # of the micro-batch under way


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Everything that is trained and how; the loop changes model, optimizer and record."""

    workload: Workload  #: Its loss is called with ``model``.
    model: nn.Module  #: What is called, perhaps wrapped; ``trained`` is the model itself.
    trained: nn.Module
    optimizer: torch.optim.Optimizer  #: Of its parameters.
    ranks: Ranks  #: The processes.
    order: EndlessOrder  #: The examples; each step takes the next ones.
    batch_sizes: BatchSizes  #: How many.
    accumulate: int = 1  #: Micro-batches into which each process cuts its part of a step.
    #: Examples of a micro-batch at most; more micro-batches are made where a step needs them.
    micro_batch: int | None = None
    #: How their losses are put together; None for shares of the examples.
    scaling: Scaling | None = None
    #: 1: gradients are averaged at each step. More: each process steps by itself, and parameters
    #: are averaged so often.
    sync_every: int = 1
    metering: Metering = field(default_factory=Metering)  #: What watches.
    record: RunRecord = field(default_factory=RunRecord)

    @property
    def local(self) -> bool:
        """Whether the processes step by themselves."""
        return self.sync_every > 1 and not self.ranks.alone

    def step(self, number: int, start: int, batch_size: int) -> float:
        """Make a step, the ``number``-th; give this process's part of its loss."""
        ranks, losses = self.ranks, []
        if batch_size < ranks.world_size:
            raise DataError(
                f"{batch_size} examples a step cannot be shared by {ranks.world_size} processes; "
                "take a larger batch size or fewer processes"
            )
        everything = self.order.at(start, batch_size)
        mine = _cut(everything, ranks.world_size)[ranks.rank]
        needed = math.ceil(len(mine) / (self.micro_batch or len(mine)))
        parts = _cut(mine, min(max(self.accumulate, needed), len(mine)))
        minibatches: Any = (self.workload.minibatch(rows) for rows in parts)
        together = mine if self.local else everything
        sharers = 1 if self.local else ranks.world_size
        if self.scaling is None:
            scales = np.array([len(rows) * sharers / len(together) for rows in parts])
        else:
            minibatches = list(minibatches)
            scales = self.scaling(minibatches, lambda: self.workload.minibatch(together))
        share = len(mine) / batch_size if self.local else 1 / sharers
        sizes = iter([len(rows) for rows in parts])
        factors = iter(scales)
        watching = contextlib.ExitStack()

        def watch(moment: Moment, loss: Tensor | None) -> None:
            if moment == "start":
                watching.enter_context(self.metering.watching(next(sizes)))
                self.metering.scale = float(next(factors))
            elif moment == "loss" and loss is not None:
                losses.append(loss.item() * self.metering.scale)
            elif moment == "gradients":
                watching.close()

        with watching:
            optimizer_step(
                self.workload, self.model, self.optimizer, minibatches, scales=scales, watch=watch
            )
        if self.local and number % self.sync_every == 0:
            self.average()
        return share * sum(losses)

    def average(self) -> None:
        """Average parameters and buffers over the processes."""
        for tensor in (*self.trained.parameters(), *self.trained.buffers()):
            if tensor.is_floating_point():
                distributed.all_reduce(tensor.data)
                tensor.data.div_(self.ranks.world_size)

    def state_dict(self) -> dict[str, Any]:
        """Everything to go on from; every process must call, the first one gets it all."""
        own: dict[str, Any] = {"randomness": _plain(random_state())}
        if self.local:
            # Optimizers of processes that step by themselves differ, and between two averages
            # their models too.
            own |= {"model": self.trained.state_dict(), "optimizer": self.optimizer.state_dict()}
        return {
            "model": self.trained.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ranks": self.ranks.gathered(own),
            "meter": self.metering.state_dict(),
            "record": self.record.state_dict(),
            **({"sizes": sizes()} if (sizes := _method(self.batch_sizes, "state_dict")) else {}),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a :meth:`state_dict`; with another number of processes where that can be."""
        count, of_ranks = self.ranks.world_size, state["ranks"]
        if self.local and count != len(of_ranks):
            raise DataError(
                f"{len(of_ranks)} processes stepped by themselves and {count} cannot go on for "
                "them; start as many",
            )
        own = of_ranks[self.ranks.rank] if self.ranks.rank < len(of_ranks) else {}
        self.trained.load_state_dict(own.get("model", state["model"]))
        self.optimizer.load_state_dict(own.get("optimizer", state["optimizer"]))
        if own:
            set_random_state(_as_it_was(own["randomness"]))
        if state["meter"] is not None:
            self.metering.load_state_dict(state["meter"])
        if (load := _method(self.batch_sizes, "load_state_dict")) and "sizes" in state:
            load(state["sizes"])
        loaded = RunRecord.of_state(state["record"])
        for name in RunRecord.__slots__:
            setattr(self.record, name, getattr(loaded, name))


def train_until(
    run: Run,
    ending: Ending,
    *,
    kept: CheckpointFolder | None = None,
    keep_every_seconds: float = 60.0,
    also_kept: dict[str, Any] | None = None,
    progress: Progress = silent,
) -> StoppedBy:
    """Train until an end comes, or somebody asks to stop; keep checkpoints on the way.

    The ``run`` is fresh, or loaded from a checkpoint. The first process writes checkpoints, with
    the entries ``also_kept``: at the start, every so many seconds, and at the end.

    Raises DataError: a loss is not finite, or a checkpoint cannot be written. Names the step.
    """
    exchange = _Exchange(run, min(_EXCHANGE_SECONDS, keep_every_seconds))
    tell = _telling(ending, run, run.ranks.on_first(progress))
    last_kept = clock.now()

    def keep() -> None:
        if kept is not None:
            state = run.state_dict()
            if run.ranks.is_first:
                kept.write({**state, **(also_kept or {})})

    with stop_on_signal(twice_ends=run.ranks.alone) as stop:
        if run.record.steps == 0:
            keep()
        while (end := ending.reached(run.record, len(run.workload.examples))) is None:
            due = run.ranks.is_first and clock.now() - last_kept >= keep_every_seconds
            shared = exchange.after_steps(ending, stop_asked=lambda: stop.asked, keep_due=due)
            tell()
            if shared.stop:
                end = "signal"
                break
            if shared.keep:
                keep()
                last_kept = clock.now()
        if run.local and end != "signal" and run.record.steps % run.sync_every:
            run.average()
        keep()
    return end


@dataclass(frozen=True, slots=True)
class _Shared:
    stop: bool
    keep: bool


class _Exchange:
    """Makes steps until the next exchange, and exchanges what they brought."""

    def __init__(self, run: Run, seconds: float) -> None:
        self._run, self._seconds = run, seconds
        self._steps = 1

    def after_steps(
        self, ending: Ending, *, stop_asked: Callable[[], bool], keep_due: bool
    ) -> _Shared:
        run, record = self._run, self._run.record
        began = clock.now()
        losses: list[float] = []
        sizes: list[int] = []
        while len(losses) < self._steps:
            made, seen = record.steps + len(losses), record.examples + sum(sizes)
            size = run.batch_sizes(made, seen)
            try:
                losses.append(run.step(made + 1, seen, size))
            except DataError as error:
                raise DataError(f"at step {made + 1}: {error}") from error
            sizes.append(size)
            alone_and_asked = run.ranks.alone and stop_asked()
            if alone_and_asked or self._must_share(ending, len(losses), sum(sizes)):
                break
        took = clock.now() - began
        wishes = [float(stop_asked()), float(keep_due), took]
        *losses, stop, keep, took = run.ranks.summed([*losses, *wishes]).tolist()
        took /= run.ranks.world_size
        record.add(losses, sizes)
        record.seconds += took
        quick = self._seconds * len(losses) / took if took > 0 else math.inf
        self._steps = int(min(max(quick, 1.0), _MOST_UNSHARED))
        return _Shared(stop > 0, keep > 0)

    def _must_share(self, ending: Ending, steps: int, examples: int) -> bool:
        """Whether a step is one after which something may be decided."""
        record, count = self._run.record, len(self._run.workload.examples)
        if ending.loss is not None and (record.steps + steps) % _LOOK_EVERY == 0:
            return True
        if ending.steps is not None and record.steps + steps >= ending.steps:
            return True
        return ending.epochs is not None and record.examples + examples >= ending.epochs * count


def _method(sizes: BatchSizes, name: str) -> Callable[..., Any] | None:
    """What a schedule with a state of its own has, and a plain function has not."""
    return getattr(sizes, name, None)


def _cut(rows: Integers, parts: int) -> list[Integers]:
    """Cut rows into parts as equal as can be; nearly every step has one, which costs nothing."""
    return [rows] if parts == 1 else np.array_split(rows, parts)


def _telling(ending: Ending, run: Run, progress: Progress) -> Callable[[], None]:
    """A listener in steps, passes, or percent of the way down to the loss."""
    record, count = run.record, len(run.workload.examples)
    furthest = 0

    def tell() -> None:
        nonlocal furthest
        if ending.steps is not None:
            progress("training, steps", record.steps, ending.steps)
        elif ending.epochs is not None:
            progress("training, examples", record.examples, ending.epochs * count)
        elif ending.loss is not None:
            first = record.curve[0][1]
            way = (first - record.loss) / (first - ending.loss) if first > ending.loss else 0.0
            furthest = max(furthest, int(100 * min(max(way, 0.0), 1.0)))
            progress("training, percent of the way to the loss", furthest, 100)

    return tell


def _plain(state: tuple[Any, ...]) -> list[Any]:
    """States of random generators as ``torch.load`` reads them without running code."""
    python, numpy, cpu, gpus = state
    name, keys, *rest = numpy
    return [python, [name, torch.from_numpy(keys.astype(np.int64)), *rest], cpu, gpus]


def _as_it_was(state: list[Any]) -> tuple[Any, ...]:
    python, (name, keys, *rest), cpu, gpus = state
    return python, (name, keys.numpy().astype(np.uint32), *rest), cpu, gpus

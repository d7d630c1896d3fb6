"""A batch-size schedule as a callback of Hugging Face's Trainer."""

from __future__ import annotations

from typing import Any, Self

from batchsense.errors import DataError, MissingExtraError
from batchsense.training.schedule import (
    Coupling,
    SizeRule,
    Switch,
    WhenHeatStalls,
    WrittenSchedule,
)
from batchsense.training.trainers.accumulation import (
    Accumulation,
    TrainerSteps,
    joined,
)

_NAME = "BatchsenseSchedule"


class ScheduleCallback:
    """Let the batch size of a Trainer change on the way, by accumulation.

    ``per_device_train_batch_size`` is the micro-batch. While the schedule runs, ``global_step``
    counts micro-batches, as with ``gradient_accumulation_steps=1``: so learning rate schedules,
    ``max_steps``, saving and ``resume_from_checkpoint`` keep their meaning in examples whatever the
    steps. A Trainer always steps at the end of an epoch, so the last step of one may be smaller.

    Parameters
    ----------
    trainer : transformers.Trainer
        To which it is then given.
    schedule : WrittenSchedule, str or SizeRule
        Examples of a step over all processes, as for
        :class:`~batchsense.training.schedule.BatchSizeSchedule`.
    couple : {"lr", "temperature", "seesaw"} or None
        What the learning rate does when the size changes.

    Raises
    ------
    DataError
        A rule by heat, whose state the Trainer cannot keep. When training begins: sizes that are no
        whole number of micro-batches, or ``gradient_accumulation_steps`` other than 1. On the way:
        a gradient that is not finite.

    Examples
    --------
    ``trainer.add_callback(ScheduleCallback(trainer, "64, 256 at 20000"))``, then
    ``trainer.train()``:

    >>> ScheduleCallback.on_train_begin.__doc__
    'Take optimizer and loader, and go on from a checkpoint.'
    """

    def __new__(cls, *given: Any, **named: Any) -> Self:
        """Make it a callback of transformers."""
        try:
            from transformers import TrainerCallback
        except ImportError:
            raise MissingExtraError("Callbacks of Hugging Face's Trainer", "hf") from None
        made: Self = joined(cls, TrainerCallback)
        return made

    def __init__(
        self,
        trainer: Any,
        schedule: WrittenSchedule | SizeRule | str,
        couple: Coupling = None,
    ) -> None:
        if isinstance(schedule, WhenHeatStalls):
            raise DataError("a Trainer keeps its state as text, which a thermometer does not fit")
        self._trainer, self._steps = trainer, TrainerSteps(schedule, couple)
        self._before = self._whole = self._length = self._missing = 0

    @property
    def switches(self) -> tuple[Switch, ...]:
        """The first size and every change."""
        return tuple(self._steps.sizes.switches)

    def on_train_begin(self, args: Any, state: Any, control: Any, **of: Any) -> None:
        """Take optimizer and loader, and go on from a checkpoint."""
        if args.gradient_accumulation_steps != 1:
            raise DataError(
                f"gradient_accumulation_steps={args.gradient_accumulation_steps} is the schedule's "
                "to set; leave it at 1"
            )
        saved = state.stateful_callbacks.get(_NAME)
        if saved is not None:
            self._steps.load_state_dict(saved)
        optimizer = getattr(of["optimizer"], "optimizer", of["optimizer"])
        scheduler = getattr(of["lr_scheduler"], "scheduler", of["lr_scheduler"])
        micro = args.per_device_train_batch_size * max(1, args.n_gpu)
        self._steps.bind(optimizer, [scheduler], micro, args.world_size)
        self._before, self._whole = state.global_step, micro * args.world_size
        if not hasattr(of["train_dataloader"], "__len__"):
            raise DataError("the schedule counts epochs; give a data set with a length")
        self._length = len(of["train_dataloader"])
        # The last micro-batch of an epoch may be short.
        count = self._trainer.num_examples(of["train_dataloader"])
        self._missing = max(0, self._length * self._whole - count)
        self._next(args, state)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **of: Any) -> None:
        """The Trainer counts micro-batches anew."""
        self._next(args, state)

    def on_step_end(self, args: Any, state: Any, control: Any, **of: Any) -> None:
        """Count the micro-batches of the step, and set those of the next one."""
        made = max(1, self._trainer.current_gradient_accumulation_steps)
        state.global_step += made - 1
        # What the Trainer divides its mean losses by counts steps, which are fewer.
        self._trainer._globalstep_last_logged += made - 1
        self._trainer._initial_global_step += made - 1
        scheduler = of["lr_scheduler"]
        for _ in range(made - 1):
            scheduler.step()
        for name, strategy, steps in (
            ("should_log", args.logging_strategy, state.logging_steps),
            ("should_save", args.save_strategy, state.save_steps),
            ("should_evaluate", args.eval_strategy, state.eval_steps),
        ):
            # A step may pass over the number at which something was due.
            passed = steps and state.global_step // steps > self._before // steps
            setattr(control, name, getattr(control, name) or (strategy == "steps" and passed))
        control.should_training_stop |= state.global_step >= state.max_steps
        self._before = state.global_step
        ended = state.global_step % self._length == 0
        self._steps.end(made * self._whole - (self._missing if ended else 0))
        self._next(args, state)
        state.stateful_callbacks[_NAME] = self._steps.state_dict()

    def on_log(self, args: Any, state: Any, control: Any, **of: Any) -> None:
        """Stop where a gradient is not finite."""
        norm = (of.get("logs") or {}).get("grad_norm")
        if norm is not None:
            self._steps.refuse_not_finite(float(norm))

    def on_train_end(self, args: Any, state: Any, control: Any, **of: Any) -> None:
        """Leave the arguments as they were."""
        args.gradient_accumulation_steps = 1

    def _next(self, args: Any, state: Any) -> None:
        args.gradient_accumulation_steps = Accumulation.after(
            self._steps.begin(), state.global_step % self._length
        )

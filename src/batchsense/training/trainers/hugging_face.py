"""Callbacks of Hugging Face's Trainer: a batch-size schedule, a planned step, a noise meter."""

from __future__ import annotations

from typing import Any

from batchsense.errors import DataError
from batchsense.training.schedule import (
    Coupling,
    SizeRule,
    Switch,
    WhenHeatStalls,
    WrittenSchedule,
)
from batchsense.training.trainers.accumulation import Accumulation, TrainerSteps
from batchsense.training.trainers.joining import JoinedCallback, TrainerMeter
from batchsense.training.trainers.planned import PlannedStep
from batchsense.training.workload import trainable

_NAME = "BatchsenseSchedule"


class _Callback(JoinedCallback):
    joins = ("transformers", "TrainerCallback", "hf", "Hugging Face's Trainer")


class ScheduleCallback(_Callback):
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
        optimizer, scheduler = _plain(of)
        micro = args.per_device_train_batch_size * max(1, args.n_gpu)
        self._steps.bind(optimizer, [scheduler], micro, args.world_size)
        self._before, self._whole = state.global_step, micro * args.world_size
        _check_minibatch(of["train_dataloader"], self._whole)
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


class PlanCallback(_Callback):
    """Train with the batch size and the learning rate of a plan.

    The size is set at once, as ``per_device_train_batch_size`` and ``gradient_accumulation_steps``;
    the learning rate when training begins, to the optimizer and its scheduler.

    Parameters
    ----------
    trainer : transformers.Trainer
        To which it is then given.
    plan : TrainingPlan, document or path
        The answer of ``plan_training``, or what ``batchsense plan -o FILE`` wrote.
    micro_batch : int, optional
        Examples that a device takes at once; all of its share by default.

    Raises
    ------
    DataError
        It is no plan, or one of another job; or the size is no whole number of micro-batches. When
        training begins: another learning rate than was planned from, or another size than was set.

    Examples
    --------
    ``trainer.add_callback(PlanCallback(trainer, "plan.json"))``, then ``trainer.train()``:

    >>> PlanCallback.on_train_begin.__doc__
    'Set the learning rate.'
    """

    def __init__(self, trainer: Any, plan: Any, micro_batch: int | None = None) -> None:
        args = trainer.args
        devices = args.world_size * max(1, args.n_gpu)
        self._step = PlannedStep.of(plan, devices)
        parameters = sum(parameter.numel() for parameter in trainable(trainer.model))
        self._step.check_job(len(trainer.train_dataset), parameters)
        micro = micro_batch or max(1, self._step.batch_size // devices)
        args.gradient_accumulation_steps = self._step.micro_batches(micro, devices)
        args.per_device_train_batch_size = micro
        trainer._train_batch_size = args.train_batch_size

    def on_train_begin(self, args: Any, state: Any, control: Any, **of: Any) -> None:
        """Set the learning rate."""
        size = self._step.batch_size // args.gradient_accumulation_steps
        _check_minibatch(of["train_dataloader"], size)
        optimizer, scheduler = _plain(of)
        self._step.apply(optimizer, [scheduler])


class MeterCallback(_Callback, TrainerMeter):
    """Measure gradient noise while the Trainer trains; the weights stay the same bit for bit.

    Parameters
    ----------
    trainer : transformers.Trainer
        To which it is then given.
    **options
        Those of :class:`~batchsense.training.GradientNoiseMeter` but its loss: ``every=20``, ...

    Examples
    --------
    ``trainer.add_callback(noise := MeterCallback(trainer))``, and after ``trainer.train()``,
    ``print(noise.report())``. What is measured is not kept in the Trainer's checkpoints.

    >>> MeterCallback.on_train_end.__doc__
    'Stop measuring.'
    """

    def __init__(self, trainer: Any, **options: Any) -> None:
        super().__init__(**options)
        self._trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **of: Any) -> None:
        """Begin to measure."""
        optimizer, _ = _plain(of)

        def loss_scale() -> float:
            scaler = getattr(of["optimizer"], "scaler", None)
            scale = 1.0 if scaler is None else float(scaler.get_scale())
            return scale / int(self._trainer.current_gradient_accumulation_steps)

        self.begin(self._trainer.model_wrapped, optimizer, loss_scale)

    def on_train_end(self, args: Any, state: Any, control: Any, **of: Any) -> None:
        """Stop measuring."""
        self.end()


def _check_minibatch(loader: Any, examples: int) -> None:
    """Refuse what changes the size behind the arguments: the rate would be that of another one."""
    found = getattr(loader, "total_batch_size", examples)
    if found != examples:
        raise DataError(
            f"a minibatch has {found} examples over all processes, not {examples}; leave out "
            "auto_find_batch_size and split_batches"
        )


def _plain(of: Any) -> tuple[Any, Any]:
    """Optimizer and scheduler behind what accelerate made of them."""
    optimizer, scheduler = of["optimizer"], of["lr_scheduler"]
    return (
        getattr(optimizer, "optimizer", optimizer),
        getattr(scheduler, "scheduler", scheduler),
    )

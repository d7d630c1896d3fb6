"""Callbacks of Lightning: a batch-size schedule, a planned step, a noise meter."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from batchsense.errors import DataError
from batchsense.training.schedule import Coupling, SizeRule, Switch, WrittenSchedule
from batchsense.training.schedule.schedule import scale_gradients
from batchsense.training.trainers.accumulation import Accumulation, TrainerSteps
from batchsense.training.trainers.joining import JoinedCallback, TrainerMeter
from batchsense.training.trainers.planned import PlannedStep
from batchsense.training.workload import count_examples, trainable

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer


class _Callback(JoinedCallback):
    joins = ("lightning.pytorch", "Callback", "lightning", "Lightning")


class ScheduleCallback(_Callback):
    """Let the batch size of a Lightning training change on the way, by accumulation.

    The loader's ``batch_size`` is the micro-batch. Lightning always steps at the end of an epoch,
    so the last step of one may be smaller; its gradient is then the mean over what it has.
    Schedulers with ``interval: step`` count micro-batches, so that they end where
    ``trainer.estimated_stepping_batches`` says, whatever the steps.

    Parameters
    ----------
    schedule : WrittenSchedule, str or SizeRule
        Examples of a step over all processes, as for
        :class:`~batchsense.training.schedule.BatchSizeSchedule`.
    couple : {"lr", "temperature", "seesaw"} or None
        What the learning rate does when the size changes.

    Raises
    ------
    DataError
        When training begins: sizes that are no whole number of micro-batches, manual optimization,
        or an ``accumulate_grad_batches`` of the trainer's own. On the way: a loss that is not
        finite.

    Examples
    --------
    Give it to the trainer, ``Trainer(callbacks=[ScheduleCallback("64, 256 at 20000")])``:

    >>> ScheduleCallback.on_train_start.__doc__
    'Take optimizer and loader.'
    """

    def __init__(self, schedule: WrittenSchedule | SizeRule | str, couple: Coupling = None) -> None:
        self._steps = TrainerSteps(schedule, couple)
        self._filled, self._parts, self._planned = 0, 0, 0

    @property
    def switches(self) -> tuple[Switch, ...]:
        """The first size and every change."""
        return tuple(self._steps.sizes.switches)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take optimizer and loader."""
        if not pl_module.automatic_optimization or len(trainer.optimizers) != 1:
            raise DataError("the schedule needs automatic optimization with one optimizer")
        if trainer.accumulate_grad_batches != 1:
            raise DataError(
                f"accumulate_grad_batches={trainer.accumulate_grad_batches} is the schedule's to "
                "set; leave it out of the Trainer"
            )
        loader = trainer.train_dataloader
        schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
        self._steps.bind(
            trainer.optimizers[0],
            schedulers,
            getattr(loader, "batch_size", None),
            trainer.world_size,
        )
        self._parts = 0

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, minibatch: Any, index: int
    ) -> None:
        """Begin a step, if the last one was made."""
        if self._parts == 0:
            self._planned = self._steps.begin()
            trainer.accumulate_grad_batches = Accumulation.after(self._planned, index)
            self._filled = 0
        self._parts += 1
        self._filled += count_examples(minibatch) * trainer.world_size

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Any
    ) -> None:
        """Where an epoch ended early, make the gradient the mean over what came."""
        if self._parts < self._planned:
            scale_gradients(optimizer, self._planned / self._parts)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, minibatch: Any, index: int
    ) -> None:
        """End a step where Lightning made it."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else None
        if loss is not None:
            self._steps.refuse_not_finite(float(loss))
        if trainer.fit_loop._should_accumulate():
            return
        self._steps.end(self._filled)
        for config in trainer.lr_scheduler_configs:
            for _ in range(self._parts - 1):
                if config.interval == "step" and config.frequency == 1:
                    config.scheduler.step()  # type: ignore[call-arg]
        self._parts = 0

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the trainer as it was."""
        trainer.accumulate_grad_batches = 1

    def state_dict(self) -> dict[str, Any]:
        """Goes into Lightning's checkpoints."""
        return {"steps": self._steps.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint of Lightning."""
        self._steps.load_state_dict(state_dict["steps"])


class PlanCallback(_Callback):
    """Train with the batch size and the learning rate of a plan.

    A DataModule with a ``batch_size``, as Lightning's own tuner wants it, is given the planned one;
    else the loader's stays the micro-batch, and a planned step is made of several.

    Parameters
    ----------
    plan : TrainingPlan, document or path
        The answer of ``plan_training``, or what ``batchsense plan -o FILE`` wrote.
    micro_batch : int, optional
        Examples that a process takes at once; all of its share by default.

    Raises
    ------
    DataError
        It is no plan. When training begins: another job than was planned, a size that is no whole
        number of micro-batches, or another learning rate than was planned from.

    Examples
    --------
    ``Trainer(callbacks=[PlanCallback("plan.json")])``.

    >>> PlanCallback.setup.__doc__
    'Give the DataModule its batch size.'
    """

    def __init__(self, plan: Any, micro_batch: int | None = None) -> None:
        self._plan, self._micro = plan, micro_batch
        PlannedStep.of(plan)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the DataModule its batch size."""
        data: Any = getattr(trainer, "datamodule", None)
        if stage != "fit" or not hasattr(data, "batch_size"):
            return
        step = PlannedStep.of(self._plan, trainer.world_size)
        data.batch_size = self._micro or max(1, step.batch_size // trainer.world_size)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set accumulation and learning rate."""
        world, loader = trainer.world_size, cast("Any", trainer.train_dataloader)
        step = PlannedStep.of(self._plan, world)
        if len(trainer.optimizers) != 1:
            raise DataError(f"one optimizer can be planned, not {len(trainer.optimizers)}")
        own = getattr(loader, "batch_size", None)
        if own is None or (self._micro is not None and own != self._micro):
            wanted = self._micro or step.batch_size // world
            raise DataError(f"the loader's batch_size is {own}; make it {wanted}")
        step.check_job(len(loader.dataset), sum(p.numel() for p in trainable(pl_module)))
        trainer.accumulate_grad_batches = step.micro_batches(own, world)
        schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
        step.apply(trainer.optimizers[0], schedulers)


class MeterCallback(_Callback, TrainerMeter):
    """Measure gradient noise while Lightning trains; the weights stay the same bit for bit.

    Parameters
    ----------
    **options
        Those of :class:`~batchsense.training.GradientNoiseMeter` but its loss: ``every=20``, ...

    Examples
    --------
    ``Trainer(callbacks=[noise := MeterCallback()])``, and after ``fit``, ``print(noise.report())``.

    >>> MeterCallback.on_train_end.__doc__
    'Stop measuring.'
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to measure."""
        if len(trainer.optimizers) != 1:
            raise DataError(f"one optimizer can be metered, not {len(trainer.optimizers)}")

        def loss_scale() -> float:
            scaler = getattr(trainer.precision_plugin, "scaler", None)
            scale = 1.0 if scaler is None else float(scaler.get_scale())
            return scale / int(trainer.accumulate_grad_batches)

        model = trainer.strategy.model
        self.begin(pl_module if model is None else model, trainer.optimizers[0], loss_scale)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, minibatch: Any, index: int
    ) -> None:
        """Say how many examples the loss is about: it is no call of the module itself."""
        self._watched = contextlib.ExitStack()
        self._watched.enter_context(self.meter.watching(count_examples(minibatch)))

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Any) -> None:
        """The loss is there."""
        self._watched.close()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, minibatch: Any, index: int
    ) -> None:
        """There was no loss, if this is still open."""
        self._watched.close()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop measuring."""
        self.end()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, error: Any) -> None:
        """Stop measuring."""
        self.end()

    def state_dict(self) -> dict[str, Any]:
        """Goes into Lightning's checkpoints; what was loaded, while nothing is measured."""
        return self._loaded or {} if self._meter is None else self._meter.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint of Lightning."""
        self._loaded = state_dict or None

"""A batch-size schedule as a callback of Lightning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from batchsense.errors import DataError, MissingExtraError
from batchsense.training.schedule import Coupling, SizeRule, Switch, WrittenSchedule
from batchsense.training.schedule.schedule import scale_gradients
from batchsense.training.trainers.accumulation import (
    Accumulation,
    TrainerSteps,
    joined,
)
from batchsense.training.workload import count_examples

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer


class ScheduleCallback:
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

    def __new__(cls, *given: Any, **named: Any) -> Self:
        """Make it a callback of Lightning."""
        try:
            from lightning.pytorch import Callback
        except ImportError:
            raise MissingExtraError("Callbacks of Lightning", "lightning") from None
        made: Self = joined(cls, Callback)
        return made

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

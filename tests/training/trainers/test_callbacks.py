"""Callbacks that meter noise and apply a plan, inside the real Lightning and the real Trainer."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, SequentialSampler

from batchsense.errors import DataError
from batchsense.training import GradientNoiseMeter, LossForm, MeterReport
from batchsense.training.trainers.planned import PlannedStep

pytestmark = pytest.mark.filterwarnings("ignore")
COUNT, MICRO, PARTS, EPOCHS, RATE = 96, 8, 3, 3, 0.05


class Rows(Dataset[Any]):
    """96 examples with noise."""

    def __init__(self) -> None:
        numbers = torch.Generator().manual_seed(0)
        self.x = torch.randn(COUNT, 3, generator=numbers)
        self.y = self.x[:, 0].sin() + torch.randn(COUNT, generator=numbers)

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, row: int) -> Any:
        return {"x": self.x[row], "labels": self.y[row]}


class Net(nn.Module):
    """Its forward gives its loss, as transformers want it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": (self.layers(x)[:, 0] - labels).square().mean()}


def weights(net: nn.Module) -> torch.Tensor:
    """In one vector."""
    return torch.cat([p.detach().reshape(-1) for p in net.parameters()])


def optimizer_of(net: nn.Module, kind: str = "sgd") -> torch.optim.Optimizer:
    """Of either family."""
    if kind == "adam":
        return torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.1)
    return torch.optim.SGD(net.parameters(), lr=RATE)


def thirds(step: torch.Tensor) -> Any:
    """The micro-batches of a step."""
    return step.split(MICRO)


def by_hand(mode: Any, split: Any = thirds) -> tuple[MeterReport, torch.Tensor]:
    """The loop written out, with a meter around it."""
    net, data = Net(), Rows()
    optimizer = optimizer_of(net)
    parts = len(split(torch.arange(MICRO * PARTS)))
    form = LossForm(loss_scale=1 / parts)
    with GradientNoiseMeter(net, optimizer, every=1, mode=mode, form=form) as meter:
        for _ in range(EPOCHS):
            for step in torch.arange(COUNT).split(MICRO * PARTS):
                optimizer.zero_grad()
                for rows in split(step):
                    (net(data.x[rows], data.y[rows])["loss"] / parts).backward()
                optimizer.step()
    return meter.report(), weights(net)


def loader_of(size: int) -> DataLoader[Any]:
    """In order, each process its share."""
    rows, share = Rows(), None
    if torch.distributed.is_initialized():
        share = torch.utils.data.DistributedSampler(rows, shuffle=False)
    return DataLoader(rows, size, sampler=share)


def in_lightning(folder: Path, callback: Any, kind: str = "sgd", **given: Any) -> Any:
    """Train in Lightning, without shuffling; the trainer, the module and what each step had."""
    import lightning.pytorch as pl

    falling, micro = given.pop("falling", False), given.pop("micro", MICRO)

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.rates, self.counts = Net(), list[float](), list[int]()

        def training_step(self, minibatch: Any, index: int) -> Any:
            self.counts.append(len(minibatch["x"]))
            return self.net(minibatch["x"], minibatch["labels"])["loss"]

        def on_before_optimizer_step(self, optimizer: Any) -> None:
            self.rates.append(optimizer.param_groups[0]["lr"])

        def configure_optimizers(self) -> Any:
            own = optimizer_of(self.net, kind)
            if not falling:
                return own
            half = torch.optim.lr_scheduler.StepLR(own, EPOCHS - 1, 0.5)  # in the last epoch
            return {"optimizer": own, "lr_scheduler": half}

    class Data(pl.LightningDataModule):
        batch_size = micro

        def train_dataloader(self) -> Any:
            return loader_of(self.batch_size)

    class Fixed(pl.LightningDataModule):
        def train_dataloader(self) -> Any:
            return loader_of(micro)

    module, data = Module(), Fixed() if given.pop("fixed", False) else Data()
    again = given.pop("again", None)
    trainer = pl.Trainer(
        max_epochs=given.pop("epochs", EPOCHS),
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callback,
        default_root_dir=folder,
        use_distributed_sampler=False,  # it would shuffle
        **given,
    )
    trainer.fit(module, data, ckpt_path=again)
    return trainer, module


def in_the_trainer(
    folder: Path, callback: Callable[[Any], Any], kind: str = "sgd", **given: Any
) -> Any:
    """Train in Hugging Face's Trainer, without shuffling."""
    import transformers.trainer
    from transformers import Trainer, TrainingArguments

    # A folder of these tests has the name of a package that it looks for.
    transformers.trainer.is_datasets_available = lambda: False

    class InOrder(Trainer):  # type: ignore[misc]
        def _get_train_sampler(self, dataset: Any = None) -> Any:
            return SequentialSampler(self.train_dataset)

    arguments = {
        "per_device_train_batch_size": MICRO,
        "num_train_epochs": EPOCHS,
        "max_grad_norm": 0.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
        "learning_rate": RATE,
        "lr_scheduler_type": "constant",
        **given,
    }
    again = arguments.pop("again", None)
    net = Net()
    own = (None, None) if kind == "adam" else (optimizer_of(net), None)
    trainer = InOrder(
        net,
        TrainingArguments(str(folder), **arguments),
        train_dataset=Rows(),
        optimizers=own,
    )
    made = callback(trainer)
    trainer.add_callback(made)
    trainer.train(resume_from_checkpoint=again)
    return trainer, made


@pytest.mark.parametrize("mode", ["per_example", "micro_batch"])
class TestMeter:
    """What is measured is what a meter around the written loop measures."""

    def same(self, found: MeterReport, net: nn.Module, mode: str) -> None:
        """Noise and critical batch size; weights bit for bit."""
        wanted, then = by_hand(mode)
        assert torch.equal(weights(net), then)
        assert (found.measured, found.examples_used) == (12, 12 * MICRO * PARTS)
        for name in ("estimate", "low", "high"):
            one, other = getattr(found.noise_scale, name), getattr(wanted.noise_scale, name)
            assert one == pytest.approx(other, rel=1e-5)
        shares = [[layer.noise_share.estimate for layer in x.layers] for x in (found, wanted)]
        assert shares[0] == pytest.approx(shares[1], rel=1e-5)

    def test_in_the_trainer(self, mode: str, tmp_path: Path, capsys: Any) -> None:
        """With its accumulation."""
        from batchsense.training.trainers.hugging_face import MeterCallback

        trainer, noise = in_the_trainer(
            tmp_path,
            lambda trainer: MeterCallback(trainer, every=1, mode=mode),
            gradient_accumulation_steps=PARTS,
        )
        self.same(noise.report(), trainer.model, mode)

    def test_in_lightning(self, mode: str, tmp_path: Path) -> None:
        """Also when it goes on from a checkpoint in the middle."""
        from batchsense.training.trainers.lightning import MeterCallback

        given = {"accumulate_grad_batches": PARTS}
        noise = MeterCallback(every=1, mode=mode)
        trainer, _ = in_lightning(tmp_path, noise, epochs=EPOCHS - 1, **given)
        trainer.save_checkpoint(tmp_path / "half.ckpt")
        noise = MeterCallback(every=1, mode=mode)
        _, module = in_lightning(tmp_path, noise, again=tmp_path / "half.ckpt", **given)
        self.same(noise.report(), module.net, mode)


def scaler(start: float = 2.0**10) -> torch.amp.GradScaler:
    """Of fp16, which neither trainer makes without a graphics card; its scale often doubles."""
    return torch.amp.GradScaler("cpu", init_scale=start, growth_interval=2)


def half_precision(start: float = 2.0**10) -> Any:
    """Lightning's fp16."""
    from lightning.pytorch.plugins.precision import MixedPrecision

    return MixedPrecision("16-mixed", "cpu", scaler=scaler(start))


def half_in_the_trainer(trainer: Any, start: float = 2.0**10) -> Any:
    """The Trainer, as it is with fp16 on a graphics card."""
    trainer.accelerator.native_amp, trainer.accelerator.scaler = True, scaler(start)
    return trainer


class TestMixedPrecision:
    """What is metered is about the loss, whatever it is multiplied with before backward."""

    def same(self, found: MeterReport, mode: str, rel: float) -> None:
        """Noise and its unit: a scale that is left in would change the unit."""
        wanted, _ = by_hand(mode)
        assert found.measured == 12
        for name in ("noise_scale", "trace_covariance"):
            one, other = (getattr(report.noise, name).estimate for report in (found, wanted))
            assert one == pytest.approx(other, rel=rel)

    def test_in_lightning(self, tmp_path: Path) -> None:
        """To the precision of bf16 and of fp16, whose scale doubles on the way."""
        from batchsense.training.trainers.lightning import MeterCallback

        noise = MeterCallback(every=1, mode="micro_batch")
        assert noise.state_dict() == {}
        in_lightning(tmp_path, noise, accumulate_grad_batches=PARTS, precision="bf16-mixed")
        self.same(noise.report(), "micro_batch", 2e-2)

        noise, plugin = MeterCallback(every=1, mode="per_example"), half_precision()
        in_lightning(tmp_path, noise, accumulate_grad_batches=PARTS, plugins=plugin)
        self.same(noise.report(), "per_example", 2e-3)
        assert plugin.scaler.get_scale() == 2.0**16

    def test_in_the_trainer(self, tmp_path: Path, capsys: Any) -> None:
        """The same; with accelerate's wrapped optimizer in between."""
        from batchsense.training.trainers.hugging_face import MeterCallback

        def callback(trainer: Any) -> Any:
            return MeterCallback(trainer, every=1, mode="per_example")

        given = {"gradient_accumulation_steps": PARTS}
        _, noise = in_the_trainer(tmp_path, callback, bf16=True, **given)
        self.same(noise.report(), "per_example", 1e-2)

        trainer, noise = in_the_trainer(
            tmp_path, lambda trainer: callback(half_in_the_trainer(trainer)), fp16=True, **given
        )
        self.same(noise.report(), "per_example", 2e-3)
        assert trainer.accelerator.scaler.get_scale() == 2.0**16

    def test_steps_that_the_scaler_skips_are_not_metered(self, tmp_path: Path) -> None:
        """Too large a scale at first; and what is metered then has the unit of the loss."""
        from batchsense.training.trainers.lightning import MeterCallback

        noise = MeterCallback(every=1, mode="micro_batch")
        plugin = half_precision(2.0**24)
        in_lightning(tmp_path, noise, accumulate_grad_batches=PARTS, plugins=plugin)
        found = noise.report()
        assert [note.message for note in found.cautions] == [
            f"{12 - found.measured} steps: a gradient was not finite."
        ]
        assert 1 < found.measured < 12
        wanted, _ = by_hand("micro_batch")
        ratio = found.noise.trace_covariance.estimate / wanted.noise.trace_covariance.estimate
        assert 0.5 < ratio < 2

    def test_measuring_without_the_scale_is_refused(self, tmp_path: Path, capsys: Any) -> None:
        """A workload does not scale its loss, so fp16 would lose what a training keeps."""
        from transformers import TrainerCallback

        from batchsense.training.trainers.workloads import (
            workload_from_lightning,
            workload_from_trainer,
        )

        trainer, module = in_lightning(tmp_path, [], plugins=half_precision(), epochs=1)
        with pytest.raises(DataError, match=r"fp16 with a scaled loss.*bf16"):
            workload_from_lightning(module, loader_of(MICRO), trainer)
        trainer, _ = in_the_trainer(tmp_path, lambda _: TrainerCallback(), num_train_epochs=1)
        with pytest.raises(DataError, match=r"fp16 with a scaled loss.*bf16"):
            workload_from_trainer(half_in_the_trainer(trainer))


def test_a_wrapper_of_lightning_in_one_process(tmp_path: Path) -> None:
    """Metered through DistributedDataParallel, which calls ``training_step`` in its own forward."""
    from batchsense.training.trainers.lightning import MeterCallback

    noise = MeterCallback(every=1, mode="per_example")
    # Lightning leaves its ranks in the environment, where the next trainer would find them.
    with patch.dict(os.environ, MASTER_PORT="0"):
        try:
            trainer, module = in_lightning(
                tmp_path, noise, accumulate_grad_batches=PARTS, strategy="ddp", devices=1
            )
        finally:
            torch.distributed.destroy_process_group()
    assert trainer.world_size == 1
    assert type(noise.meter._observer._model).__name__ == "DistributedDataParallel"
    TestMeter().same(noise.report(), module.net, "per_example")


def document(rate: float = RATE, adam: bool = False, **changed: Any) -> dict[str, Any]:
    """A plan as its command writes it: 24 examples, from 8."""
    factor = 3**0.5 if adam else (1 + 48 / 8) / (1 + 48 / 24)
    return {
        "command": "plan",
        "result": {
            "batch_size": MICRO * PARTS,
            "examples": COUNT,
            "parameters": 26,
            "learning_rate": rate * factor,
            "learning_rate_rule": {"factor": factor, "from_batch_size": MICRO},
            "critical_batch_size": {"estimate": 48.0, "low": 30.0, "high": 90.0},
            **changed,
        },
    }


class TestPlan:
    """The trainer's own state says what the plan says."""

    @pytest.mark.parametrize("micro", [None, MICRO])
    def test_in_the_trainer(self, micro: int | None, tmp_path: Path, capsys: Any) -> None:
        """From a file; all at once, or in micro-batches, and going on does not apply it twice."""
        from batchsense.training.trainers.hugging_face import PlanCallback

        file = tmp_path / "plan.json"
        file.write_text(json.dumps(document()))

        def callback(trainer: Any) -> Any:
            return PlanCallback(trainer, file, micro_batch=micro)

        trainer, _ = in_the_trainer(tmp_path, callback, save_strategy="epoch")
        parts = 1 if micro is None else PARTS
        assert trainer.args.per_device_train_batch_size * parts == MICRO * PARTS
        assert trainer.args.gradient_accumulation_steps == parts
        assert trainer.get_train_dataloader().total_batch_size == MICRO * PARTS // parts
        assert trainer.state.train_batch_size == MICRO * PARTS // parts
        assert trainer.state.global_step == EPOCHS * COUNT // (MICRO * PARTS)
        rates = [row["learning_rate"] for row in trainer.state.log_history if "loss" in row]
        assert rates == pytest.approx([RATE * 7 / 3] * 12)

        if micro is not None:
            again, _ = in_the_trainer(tmp_path, callback, again=str(tmp_path / "checkpoint-8"))
            assert torch.equal(weights(again.model), weights(trainer.model))

    def test_adam_in_the_trainer(self, tmp_path: Path, capsys: Any) -> None:
        """All that the square-root rule changes, in every group of its own optimizer."""
        from batchsense.training.trainers.hugging_face import PlanCallback

        trainer, _ = in_the_trainer(
            tmp_path,
            lambda trainer: PlanCallback(trainer, document(adam=True)),
            "adam",
            weight_decay=0.1,
        )
        for group in trainer.optimizer.param_groups:
            assert group["lr"] == pytest.approx(RATE * 3**0.5)
            assert group["betas"][1] == pytest.approx(0.999**3)
            assert group["eps"] == pytest.approx(1e-8 / 3**0.5)
        decays = {group["weight_decay"] for group in trainer.optimizer.param_groups}
        assert sorted(decays) == pytest.approx([0.0, 0.1 * 3**0.5])

    @pytest.mark.parametrize("fixed", [False, True])
    @pytest.mark.parametrize("kind", ["sgd", "adam"])
    def test_in_lightning(self, fixed: bool, kind: str, tmp_path: Path) -> None:
        """By the DataModule's batch size where there is one, else by accumulation."""
        from batchsense.training.trainers.lightning import PlanCallback

        callback = PlanCallback(document(adam=kind == "adam"))
        trainer, module = in_lightning(tmp_path, callback, kind, fixed=fixed, falling=True)
        parts = PARTS if fixed else 1
        assert trainer.accumulate_grad_batches == parts
        assert set(module.counts) == {MICRO * PARTS // parts}
        assert trainer.global_step == EPOCHS * COUNT // (MICRO * PARTS)
        factor = 3**0.5 if kind == "adam" else 7 / 3
        assert module.rates == pytest.approx([RATE * factor] * 8 + [RATE * factor / 2] * 4)

        trainer.save_checkpoint(tmp_path / "end.ckpt")
        again = {"again": tmp_path / "end.ckpt", "epochs": EPOCHS + 1, "falling": True}
        _, more = in_lightning(tmp_path, callback, kind, fixed=fixed, **again)
        assert more.rates == pytest.approx([RATE * factor / 2] * 4)

    def test_what_does_not_fit_is_refused(self, tmp_path: Path, capsys: Any) -> None:
        """Another learning rate, another job, sizes between micro-batches, and what is no plan."""
        from batchsense.training.trainers.hugging_face import PlanCallback

        for given, said in (
            (document(rate=0.07), r"planned from a learning rate of 0.07 .* has 0.05"),
            (document(examples=95), "this training has 26 and 96"),
            (document(batch_size=20), "nearest size that can: 16"),
            ({"command": "noise", "result": {}}, "answer of noise is no plan"),
            ({"command": "plan", "result": None}, "a refusal"),
            ({"command": "plan", "result": {}}, "of this version"),
            (tmp_path / "none.json", "cannot be read"),
            (3, "a int is no plan"),
        ):
            with pytest.raises(DataError, match=said):
                in_the_trainer(
                    tmp_path,
                    lambda trainer, given=given: PlanCallback(trainer, given, micro_batch=MICRO),
                )

    def test_a_size_that_changed_behind_the_arguments_is_refused(
        self, tmp_path: Path, capsys: Any
    ) -> None:
        """As ``auto_find_batch_size`` does when memory runs out: the rate would not fit it."""
        from batchsense.training.trainers.hugging_face import PlanCallback, ScheduleCallback

        def smaller(trainer: Any, own: Any) -> Any:
            trainer._train_batch_size = MICRO // 2
            return own

        for make, wanted in (
            (lambda trainer: PlanCallback(trainer, document()), MICRO * PARTS),
            (lambda trainer: ScheduleCallback(trainer, f"{MICRO}"), MICRO),
        ):
            with pytest.raises(DataError, match=f"has 4 examples over all .* not {wanted};.*split"):
                in_the_trainer(tmp_path, lambda trainer, make=make: smaller(trainer, make(trainer)))

    def test_the_answer_of_plan_training_is_a_plan(self) -> None:
        """The same step as from its document; for more workers the size of their choice."""
        from batchsense.questions.plan.result import PlanResult
        from batchsense.training import digits_workload, plan_training

        plan = plan_training(digits_workload(), seconds=1)
        read = PlannedStep.of(PlanResult.of(plan, "digits"))
        own = PlannedStep.of(plan)
        assert (read.batch_size, read.examples, read.parameters) == (
            own.batch_size,
            own.examples,
            own.parameters,
        )
        assert read.planned_from == pytest.approx(own.planned_from)
        assert read.critical_batch_size == pytest.approx(own.critical_batch_size)

        compared = {"choices": [{"workers": 4, "batch_size": 32}]}
        assert PlannedStep.of(document(workers=compared), 4).micro_batches(MICRO, 4) == 1

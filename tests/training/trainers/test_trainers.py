"""Schedules inside the real Lightning and the real Trainer: the same run as our own loop."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from batchsense.errors import DataError, MissingExtraError
from batchsense.training.trainers.accumulation import Accumulation

COUNT, EPOCHS, MICRO, WRITTEN = 22, 3, 4, "4, 8 at 12, 16 at 36"
pytestmark = pytest.mark.filterwarnings("ignore")


class Rows(Dataset[Any]):
    """22 examples."""

    def __init__(self, bad: bool = False) -> None:
        numbers = torch.Generator().manual_seed(0)
        self.x = torch.randn(COUNT, 3, generator=numbers)
        self.y = self.x[:, 0].sin()
        if bad:
            self.y[9] = float("nan")

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, row: int) -> Any:
        return {"x": self.x[row], "labels": self.y[row]}


class Net(nn.Module):
    """A small network whose forward gives its loss, as transformers want it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": (self.layers(x)[:, 0] - labels).square().mean()}


def sgd(net: nn.Module) -> torch.optim.Optimizer:
    """With momentum."""
    return torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)


def falling(optimizer: Any) -> Any:
    """A learning rate that falls to zero over all micro-batches of the run."""
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / (EPOCHS * 6))


def written_out() -> tuple[torch.Tensor, list[int], list[float], list[float]]:
    """The same run by hand: weights, micro-batches of each step, learning rates and losses."""
    net, data = Net(), Rows()
    optimizer = sgd(net)
    parts, rates, losses, seen, counted = [], [], [], 0, 0
    for _ in range(EPOCHS):
        groups = list(torch.arange(COUNT).split(MICRO))
        while groups:
            size = 4 if seen < 12 else 8 if seen < 36 else 16
            own, groups = groups[: size // MICRO], groups[size // MICRO :]
            optimizer.param_groups[0]["lr"] = 0.05 * size / 4 * (1 - counted / (EPOCHS * 6))
            losses.append(0.0)
            for rows in own:
                loss = net(data.x[rows], data.y[rows])["loss"] / len(own)
                loss.backward()
                losses[-1] += loss.item()
            optimizer.step()
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.zero_grad()
            parts.append(len(own))
            seen, counted = seen + sum(map(len, own)), counted + len(own)
    return weights(net), parts, rates, losses


def weights(net: nn.Module) -> torch.Tensor:
    """In one vector."""
    return torch.cat([p.detach().reshape(-1) for p in net.parameters()])


class TestLightning:
    """The callback in Lightning's own loop."""

    def run(self, folder: Path, stop: int = EPOCHS, again: Path | None = None, **given: Any) -> Any:
        """Train, and note learning rates at each step."""
        import lightning.pytorch as pl

        from batchsense.training.trainers.lightning import ScheduleCallback

        class Module(pl.LightningModule):
            def __init__(self) -> None:
                super().__init__()
                self.net, self.rates = Net(), list[float]()

            def training_step(self, minibatch: Any, index: int) -> Any:
                return self.net(minibatch["x"], minibatch["labels"])["loss"]

            def on_before_optimizer_step(self, optimizer: Any) -> None:
                self.rates.append(optimizer.param_groups[0]["lr"])

            def configure_optimizers(self) -> Any:
                own = sgd(self.net)
                scheduler = {"scheduler": falling(own), "interval": "step"}
                return {"optimizer": own, "lr_scheduler": scheduler}

        module, callback = Module(), ScheduleCallback(given.pop("schedule", WRITTEN), "lr")
        trainer = pl.Trainer(
            max_epochs=stop,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[callback],
            default_root_dir=folder,
            **given,
        )
        loader = DataLoader(given.get("data", Rows(given.get("bad", False))), batch_size=MICRO)
        trainer.fit(module, loader, ckpt_path=again)
        return trainer, module, callback

    def test_it_is_the_run_written_out(self, tmp_path: Path) -> None:
        """Weights, steps and learning rates; resumed from Lightning's checkpoint too."""
        wanted, parts, rates, _ = written_out()
        trainer, module, callback = self.run(tmp_path)

        torch.testing.assert_close(weights(module.net), wanted)
        assert trainer.global_step == len(parts)
        assert module.rates == pytest.approx(rates)
        assert [(one.examples, one.batch_size) for one in callback.switches] == [
            (0, 4),
            (12, 8),
            (38, 16),
        ]

        half, _, _ = self.run(tmp_path, stop=1)
        half.save_checkpoint(tmp_path / "half.ckpt")
        _, again, other = self.run(tmp_path, again=tmp_path / "half.ckpt")
        assert torch.equal(weights(again.net), weights(module.net))
        assert other.switches == callback.switches

    def test_what_it_cannot_do_is_refused(self, tmp_path: Path) -> None:
        """Sizes between micro-batches, and an accumulation of the trainer's own."""
        with pytest.raises(DataError, match="nearest size that can: 8"):
            self.run(tmp_path, schedule="4, 9 at 12")
        with pytest.raises(DataError, match="leave it out"):
            self.run(tmp_path, accumulate_grad_batches=2)


class TestHuggingFace:
    """The callback in the Trainer's own loop."""

    def run(self, folder: Path, again: str | None = None, bad: bool = False, **given: Any) -> Any:
        """Train, and note learning rates at each step."""
        import transformers.trainer
        from transformers import Trainer, TrainerCallback, TrainingArguments

        # A folder of these tests has the name of a package that it looks for.
        transformers.trainer.is_datasets_available = lambda: False

        from batchsense.training.trainers.hugging_face import ScheduleCallback

        class Rates(TrainerCallback):  # type: ignore[misc]
            seen: list[float]

            def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **of: Any) -> None:
                self.seen.append(of["optimizer"].param_groups[0]["lr"])

        class InOrder(Trainer):  # type: ignore[misc]
            def _get_train_sampler(self, dataset: Any = None) -> Any:
                return torch.utils.data.SequentialSampler(self.train_dataset)

        net = Net()
        own = sgd(net)
        arguments = {
            "output_dir": str(folder),
            "per_device_train_batch_size": MICRO,
            "num_train_epochs": EPOCHS,
            "logging_steps": 1,
            "save_steps": 5,
            "max_grad_norm": 0.0,
            "report_to": [],
            "use_cpu": True,
            "disable_tqdm": True,
            **given,
        }
        trainer = InOrder(
            net,
            TrainingArguments(**arguments),
            train_dataset=Rows(bad),
            optimizers=(own, falling(own)),
        )
        rates = Rates()
        rates.seen = []
        callback = ScheduleCallback(trainer, WRITTEN, "lr")
        trainer.add_callback(callback)
        trainer.add_callback(rates)
        trainer.train(resume_from_checkpoint=again)
        return trainer, net, callback, rates.seen

    def test_it_is_the_run_written_out(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Weights, steps, learning rates and logged losses; resumed in the middle of an epoch."""
        wanted, parts, rates, losses = written_out()
        trainer, net, callback, seen = self.run(tmp_path)

        torch.testing.assert_close(weights(net), wanted)
        assert seen == pytest.approx(rates)
        assert trainer.state.global_step == EPOCHS * 6 == sum(parts)
        logged = [row["loss"] for row in trainer.state.log_history if "loss" in row]
        assert logged == pytest.approx(losses, rel=1e-3)

        saved = sorted(tmp_path.glob("checkpoint-*"), key=lambda one: int(one.name[11:]))
        assert len(saved) >= 3
        for checkpoint in saved[:-1]:
            _, again, other, _ = self.run(tmp_path / "again", str(checkpoint), save_strategy="no")
            assert torch.equal(weights(again), weights(net))
            assert other.switches == callback.switches

    def test_what_it_cannot_do_is_refused(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """An accumulation of the trainer's own, and gradients that are not finite."""
        with pytest.raises(DataError, match="leave it at 1"):
            self.run(tmp_path, gradient_accumulation_steps=2)
        with pytest.raises(DataError, match="nan at step"):
            self.run(tmp_path, bad=True)


def test_accumulation_counts_from_its_step() -> None:
    """It is a plain number but for the remainder, also when it is saved."""
    import pickle

    three = Accumulation.after(3, 4)
    assert [n % three == 0 for n in (5, 6, 7, 8, 10)] == [False, False, True, False, True]
    assert (three / 2, list(range(three)), type(pickle.loads(pickle.dumps(three)))) == (
        1.5,
        [0, 1, 2],
        int,
    )


@pytest.mark.parametrize(
    ("package", "module", "extra"),
    [("lightning", "lightning", "lightning"), ("transformers", "hugging_face", "hf")],
)
def test_a_missing_package_is_named_with_its_extra(
    package: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The module itself loads without it."""
    import importlib

    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, f"{package}.pytorch", None)
    own = importlib.import_module(f"batchsense.training.trainers.{module}")
    with pytest.raises(MissingExtraError, match=rf"batchsense\[{extra}\]"):
        own.ScheduleCallback()

"""A trainer, a module or a loop gives the workload that one would have written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import (
    DataLoader,
    IterableDataset,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)

from batchsense.errors import DataError
from batchsense.training import Workload, load_target, measure_gradient_noise
from batchsense.training.trainers.workloads import (
    optimizer_like,
    workload_from_lightning,
    workload_from_loader,
    workload_from_trainer,
)
from batchsense.training.workload import flat_gradient

pytestmark = pytest.mark.filterwarnings("ignore")
COUNT, FEATURES, KINDS, SMOOTHING = 96, 5, 3, 0.2


class Rows(torch.utils.data.Dataset[Any]):
    """Classified rows as dictionaries, as transformers want them."""

    def __init__(self) -> None:
        numbers = torch.Generator().manual_seed(0)
        self.x = torch.randn(COUNT, FEATURES, generator=numbers)
        self.labels = (self.x[:, 0] > 0).long() + (self.x[:, 1] > 1).long()

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, row: int) -> Any:
        return {"x": self.x[row], "labels": self.labels[row]}


class Net(nn.Module):
    """Scores with a normalisation that weight decay leaves out."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.Sequential(nn.Linear(FEATURES, 8), nn.LayerNorm(8), nn.Linear(8, KINDS))

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, Any]:
        scores = self.layers(x)
        if labels is None:
            return {"logits": scores}
        return {"loss": nn.functional.cross_entropy(scores, labels), "logits": scores}


def by_hand(smoothing: float = 0.0, size: int | None = None) -> Workload:
    """The job written out."""
    rows = Rows()

    def loss(net: nn.Module, minibatch: Any) -> torch.Tensor:
        return nn.functional.cross_entropy(
            net(minibatch[0])["logits"], minibatch[1], label_smoothing=smoothing
        )

    return Workload(Net(), loss, TensorDataset(rows.x, rows.labels), adam, batch_size=size)


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=1e-3)


def same_gradients(one: Workload, other: Workload) -> None:
    """The same gradient of the same examples, and the same noise."""
    rows = [3, 1, 40, 95]
    found = [flat_gradient(job, job.model, job.minibatch(rows)) for job in (one, other)]
    torch.testing.assert_close(*found)
    noises = [measure_gradient_noise(job, examples=64, micro_batches=16) for job in (one, other)]
    assert noises[0].noise_scale.estimate == pytest.approx(noises[1].noise_scale.estimate, rel=1e-4)


def hugging_face(folder: Path, **options: Any) -> Any:
    """A Trainer that is ready to train."""
    transformers = pytest.importorskip("transformers")
    arguments = transformers.TrainingArguments(
        str(folder),
        per_device_train_batch_size=8,
        gradient_accumulation_steps=3,
        weight_decay=0.1,
        learning_rate=0.02,
        use_cpu=True,
        report_to="none",
        **options,
    )
    model = Net()
    if "label_smoothing_factor" in options:
        model.config = transformers.PretrainedConfig()
    return transformers.Trainer(model=model, args=arguments, train_dataset=Rows())


@pytest.mark.parametrize("smoothing", [0.0, SMOOTHING])
def test_a_trainer_is_the_job_written_by_hand(smoothing: float, tmp_path: Path) -> None:
    """Loss with label smoothing, groups of weight decay, examples of a step."""
    job = workload_from_trainer(hugging_face(tmp_path, label_smoothing_factor=smoothing))
    model = job.fresh_model()
    optimizer = job.fresh_optimizer(model)

    assert (job.batch_size, len(job.examples)) == (24, COUNT)
    same_gradients(job, by_hand(smoothing))
    decays = {
        name: group["weight_decay"]
        for group in optimizer.param_groups
        for held in group["params"]
        for name, own in model.named_parameters()
        if own is held
    }
    assert decays["layers.0.weight"] == 0.1
    assert decays["layers.1.weight"] == decays["layers.0.bias"] == 0.0
    assert {group["lr"] for group in optimizer.param_groups} == {0.02}


def test_mixed_precision_is_that_of_the_trainer(tmp_path: Path) -> None:
    """With bf16 the scores of the loss are computed in it."""
    job = workload_from_trainer(hugging_face(tmp_path, bf16=True))
    plain = by_hand()
    rows = [0, 5, 9]
    loose = flat_gradient(job, job.model, job.minibatch(rows))
    exact = flat_gradient(plain, plain.model, plain.minibatch(rows))

    assert 1e-5 < float((loose - exact).norm() / exact.norm()) < 0.05


def lightning_parts(several: bool = False) -> tuple[Any, Any]:
    """A module and its data."""
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def training_step(self, minibatch: Any, number: int) -> Any:
            loss = nn.functional.cross_entropy(self.net(minibatch[0])["logits"], minibatch[1])
            self.log("loss", loss)
            return {"loss": loss}

        def configure_optimizers(self) -> Any:
            one = torch.optim.SGD(self.parameters(), lr=0.3, momentum=0.9)
            if several:
                return [one, torch.optim.SGD(self.parameters(), lr=0.3)]
            return {"optimizer": one, "lr_scheduler": torch.optim.lr_scheduler.StepLR(one, 3)}

    class Data(lightning.LightningDataModule):  # type: ignore[misc, name-defined]
        def train_dataloader(self) -> Any:
            rows = Rows()
            return DataLoader(TensorDataset(rows.x, rows.labels), 16, shuffle=True)

    return Module(), Data()


def test_a_lightning_module_is_the_job_written_by_hand() -> None:
    """What it logs goes nowhere; accumulation is the trainer's; the module stays as it was."""
    lightning = pytest.importorskip("lightning")
    module, data = lightning_parts()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(accumulate_grad_batches=4, accelerator="cpu", devices=1, **quiet)
    job = workload_from_lightning(module, data, trainer)
    group = job.fresh_optimizer(job.fresh_model()).param_groups[0]

    assert (job.batch_size, group["lr"], group["momentum"]) == (64, 0.3, 0.9)
    same_gradients(job, by_hand())
    assert "log" not in vars(module)
    assert workload_from_lightning(module, data).batch_size == 16


def test_several_optimizers_are_refused() -> None:
    """One can be planned."""
    with pytest.raises(DataError, match="no optimizer, or several"):
        workload_from_lightning(*lightning_parts(several=True))


def test_a_loop_is_the_job_written_by_hand() -> None:
    """From what stands in front of the loop, in one call."""
    written = by_hand(size=12)
    loader = DataLoader(written.examples, 12, shuffle=True)  # type: ignore[arg-type]
    optimizer = torch.optim.SGD(written.model.parameters(), lr=0.3)
    job = workload_from_loader(written.model, written.loss, loader, optimizer)

    assert job.batch_size == 12
    same_gradients(job, written)


class Stream(IterableDataset[Any]):
    """Rows without numbers."""

    def __iter__(self) -> Any:
        return iter(())


@pytest.mark.parametrize(
    ("loader", "said"),
    [
        (DataLoader(Stream(), 4), "streams its examples"),
        (
            DataLoader(
                TensorDataset(torch.zeros(8, 1)), 2, sampler=WeightedRandomSampler([1.0] * 8, 8)
            ),
            "WeightedRandomSampler draws minibatches that are no uniform draws",
        ),
        (DataLoader(TensorDataset(torch.zeros(8, 1)), None), "makes no minibatches"),
        ([1, 2], "a list; give a torch DataLoader"),
    ],
)
def test_what_is_no_uniform_draw_is_refused(loader: Any, said: str) -> None:
    """Each with what to give instead."""
    model = nn.Linear(1, 1)
    with pytest.raises(DataError, match=said):
        workload_from_loader(model, lambda m, x: m(x[0]).mean(), loader, adam)


def test_an_optimizer_of_another_model_is_refused() -> None:
    """Its groups could not be found again on a copy."""
    with pytest.raises(DataError, match="none of the model's"):
        optimizer_like(adam(nn.Linear(1, 1).parameters()), nn.Linear(1, 1))


def test_a_subset_and_a_scheduler_keep_what_was_chosen() -> None:
    """The rate of a schedule that has begun is its base."""
    rows = TensorDataset(torch.randn(20, 1), torch.randn(20, 1))
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.4)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.1)
    part = DataLoader(Subset(rows, range(10)), 5)
    job = workload_from_loader(
        model, lambda m, x: (m(x[0]) - x[1]).square().mean(), part, optimizer
    )

    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.04)
    assert job.fresh_optimizer(job.fresh_model()).param_groups[0]["lr"] == 0.4
    assert len(job.examples) == 10


def test_a_target_may_return_a_trainer_or_a_module_with_its_data(tmp_path: Path) -> None:
    """The command line asks the same questions of them."""
    here = Path(__file__)
    file = tmp_path / "job.py"
    file.write_text(
        f"import sys; sys.path.insert(0, {str(here.parent)!r})\n"
        f"from {here.stem} import hugging_face, lightning_parts\n"
        f"from pathlib import Path\n"
        f"def trainer(): return hugging_face(Path({str(tmp_path)!r}))\n"
        "def module(): return lightning_parts()\n"
    )

    assert load_target(f"{file}:trainer").batch_size == 24
    assert load_target(f"{file}:module").batch_size == 16

"""Steps without data: the two instances of more than 80 GB, and what they cannot see."""

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from batchsense.errors import DataError
from batchsense.training import Workload, fake_memory_envelope, fit_memory_envelope
from batchsense.training.memory import PlainNet, full_batch_bytes


def adam(parameters):
    """AdamW."""
    return torch.optim.AdamW(parameters)


def workload_of(model: nn.Module, *shape: int) -> Workload:
    """A mean square over examples of a shape."""
    return Workload(
        model,
        lambda model, minibatch: model(minibatch[0]).square().mean(),
        TensorDataset(torch.zeros(32, *shape)),
        adam,
    )


@pytest.mark.parametrize(
    ("net", "wanted"),
    [
        (PlainNet(2_000_000, 5_400, "float64"), 86.5e9),
        (PlainNet(500, 4_000_000, "float32", (1024, 1024, 1024)), 90.0e9),
    ],
    ids=["linear", "deep"],
)
def test_full_batches_of_more_than_eighty_gigabytes(net: PlainNet, wanted: float) -> None:
    """By arithmetic 86.5 and 90.0 GB; nothing is allocated."""
    envelope = fake_memory_envelope(net.workload)

    assert full_batch_bytes(envelope, net.examples) == pytest.approx(wanted, rel=0.01)
    assert envelope.lower_bound == ()


@pytest.mark.parametrize("size", [64, pytest.param(1200, marks=pytest.mark.slow)])
def test_without_data_equals_real_steps(size: int) -> None:
    """A net of linear layers, within 1 %; it is built inside, so nothing of it is ever real."""

    def load() -> Workload:
        return workload_of(
            nn.Sequential(nn.Linear(100, 300), nn.LayerNorm(300), nn.GELU(), nn.Linear(300, 1)), 100
        )

    fake, real = fake_memory_envelope(load), fit_memory_envelope(load())

    assert fake.peak_bytes(size) == pytest.approx(real.peak_bytes(size), rel=0.01)


@pytest.mark.slow
def test_kernels_that_allocate_inside_are_named() -> None:
    """Convolutions and recurrent modules make the envelope a lower bound, and they are listed."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 1))
    fake = fake_memory_envelope(lambda: workload_of(nn.Sequential(nn.Conv2d(3, 4, 3)), 3, 8, 8))

    assert fake.lower_bound == ("0 (Conv2d)",)
    real = fit_memory_envelope(workload_of(net, 3, 8, 8))
    same = fake_memory_envelope(
        lambda: workload_of(
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 1)), 3, 8, 8
        )
    )
    assert same.peak_bytes(500) <= real.peak_bytes(500)


def test_code_that_asks_for_values_is_refused() -> None:
    """A decision on a value needs data; the refusal says to measure real steps."""

    def load() -> Workload:
        job = workload_of(nn.Linear(3, 1), 3)

        def loss(model, minibatch):
            return job.loss(model, minibatch) * (2 if minibatch[0].sum() > 0 else 1)

        return Workload(job.model, loss, job.examples, adam)

    with pytest.raises(DataError, match="without --fake"):
        fake_memory_envelope(load)


def test_nothing_stays_fake() -> None:
    """After the question tensors have data again."""
    fake_memory_envelope(lambda: workload_of(nn.Linear(3, 1), 3))

    assert torch.ones(2).sum().item() == 2

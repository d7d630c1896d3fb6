"""What the bytes of a step are for, micro-batches whose gradients add up, and loading."""

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from batchsense.training import Workload, fit_memory_envelope
from batchsense.training.memory.allocations import PURPOSES, trace_training_step, uncollected
from batchsense.training.memory.allocations import two_training_steps as steps
from batchsense.training.memory.envelope import LOADING
from batchsense.training.memory.probing import trace_of_size


def square(model: nn.Module, minibatch: list[torch.Tensor]) -> torch.Tensor:
    """The mean square of the output."""
    return model(minibatch[0]).square().mean()


class Tutorial(Dataset):
    """Makes a new tensor for each example."""

    def __init__(self, count: int, features: int) -> None:
        self.rows = torch.randn(count, features).numpy()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[torch.Tensor]:
        return (torch.tensor(self.rows[index]),)


def wide(optimizer=torch.optim.AdamW, examples=None) -> Workload:
    """A net of 300 × 200 and 200 × 1 weights."""
    net = nn.Sequential(nn.Linear(300, 200), nn.ReLU(), nn.Linear(200, 1))
    return Workload(net, square, examples or TensorDataset(torch.randn(64, 300)), optimizer)


PARAMETERS = 300 * 200 + 200 + 200 + 1


@pytest.mark.parametrize(
    ("optimizer", "copies"),
    [(torch.optim.AdamW, 2), (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), 1),
     (lambda p: torch.optim.SGD(p, lr=0.1), 0)],
    ids=["AdamW", "momentum", "plain"],
)  # fmt: skip
def test_the_breakdown_is_arithmetic(optimizer, copies: int) -> None:
    """Weights, optimizer state, minibatch and kept activations, each counted by hand."""
    envelope = fit_memory_envelope(wide(optimizer))
    parts = envelope.breakdown(5000)

    assert tuple(parts) == PURPOSES
    assert sum(parts.values()) == pytest.approx(envelope.peak_bytes(5000), abs=len(parts))
    assert parts["weights"] == 4 * PARAMETERS
    assert parts["optimizer"] == pytest.approx(4 * copies * PARAMETERS, abs=64)
    assert parts["data"] == envelope.minibatch_bytes(5000) == 4 * 300 * 5000
    # The ReLU keeps its output, and the last layer its input: the same 200 numbers.
    assert parts["activations"] >= 4 * 200 * 5000


@pytest.mark.parametrize("micro_batch", [8, 64, 2000])
def test_micro_batches_keep_their_gradients(micro_batch: int) -> None:
    """Against two traced micro-batches: never below, and above by no more than one gradient."""
    job = wide()
    predicted = fit_memory_envelope(job).accumulating().peak_bytes(micro_batch)
    model = job.fresh_model()
    minibatch = job.minibatch([k % 64 for k in range(micro_batch)])
    held = 4 * PARAMETERS + minibatch[0].nbytes

    def twice(workload, model, minibatch, mark):
        steps(workload, model, minibatch, micro_batches=2, mark=mark)

    with pytest.MonkeyPatch.context() as patch, uncollected():
        patch.setattr("batchsense.training.memory.allocations.two_training_steps", twice)
        traced = trace_training_step(job, model, minibatch).peak_bytes + held

    assert traced <= predicted <= traced + 4 * 300 * 200 + 4096


def test_a_data_set_that_makes_tensors_is_measured_like_one_that_holds_them() -> None:
    """The step is the same; only while loading are examples there once more, one by one."""
    held = fit_memory_envelope(wide())
    made = fit_memory_envelope(wide(examples=Tutorial(64, 300)))

    assert made.without_loading().peak_bytes(3000) == held.without_loading().peak_bytes(3000)
    assert made.operations[-1] == held.operations[-1] == LOADING
    assert made.slope[-1] - held.slope[-1] == pytest.approx(4 * 300)


def test_loading_binds_where_data_are_most_of_it() -> None:
    """A linear model of many features: two minibatches at once are the peak, and so it is said."""
    job = Workload(
        nn.Linear(20_000, 1),
        square,
        TensorDataset(torch.zeros(64, 20_000)),
        lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    )
    envelope = fit_memory_envelope(job)

    assert envelope.peak_operation(1000) == LOADING
    assert envelope.bytes_per_example(1000) == pytest.approx(2 * 4 * 20_000, rel=0.01)
    assert envelope.without_loading().bytes_per_example(1000) == pytest.approx(80_000, rel=0.01)


@pytest.mark.slow
def test_a_real_step_with_loading_is_traced_alike() -> None:
    """The whole trace at 300 times the smallest probe."""
    job = wide(examples=Tutorial(64, 300))
    envelope = fit_memory_envelope(job)
    with uncollected():
        traced = trace_of_size(job, job.fresh_model(), [k % 64 for k in range(1200)])

    assert traced.peak_bytes == pytest.approx(envelope.peak_bytes(1200), rel=0.01)

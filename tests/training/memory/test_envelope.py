"""Peak memory: predicted from tiny steps, compared with traced larger ones and with arithmetic."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from batchsense.errors import DataError, UnresolvedError
from batchsense.machine_memory import format_bytes, parse_bytes, resident_bytes
from batchsense.training import Workload, fit_memory_envelope, load_target, memory_limit
from batchsense.training.memory.allocations import (
    AllocationTrace,
    available_bytes,
    live_totals,
)
from batchsense.training.memory.envelope import MemoryEnvelope, envelope_of_traces
from batchsense.training.memory.probing import trace_of_size


def labels(count: int) -> torch.Tensor:
    """Give labels 0 to 9."""
    return torch.arange(count) % 10


def cross_entropy(model: nn.Module, minibatch: list[torch.Tensor]) -> torch.Tensor:
    """Give the mean cross-entropy."""
    return functional.cross_entropy(model(minibatch[0]), minibatch[1])


def contrastive(model: nn.Module, minibatch: list[torch.Tensor]) -> torch.Tensor:
    """Compare every example with every other: memory grows as the square."""
    similar = model(minibatch[0].flatten(1))
    return functional.cross_entropy(similar @ similar.T, torch.arange(len(similar)))


class Recurrent(nn.Module):
    """An LSTM, whose kernel allocates inside one operation."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.LSTM(8, 32, batch_first=True)
        self.last = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classify sequences."""
        return self.last(self.cells(x)[0][:, -1])


def jobs() -> dict[str, Workload]:
    """Make small jobs whose memory grows in different ways."""
    images = TensorDataset(torch.zeros(20, 3, 12, 12), labels(20))
    series = TensorDataset(torch.zeros(20, 10, 8), labels(20))

    def adam(parameters):
        return torch.optim.Adam(parameters)

    convolution = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(800, 10)
    )
    return {
        "digits": load_target("digits"),
        "convolution": Workload(convolution, cross_entropy, images, adam),
        "recurrent": Workload(Recurrent(), cross_entropy, series, adam),
        "contrastive": Workload(nn.Linear(432, 16), contrastive, images, adam),
    }


@pytest.mark.parametrize("name", ["digits", "convolution", "recurrent", "contrastive"])
def test_prediction_equals_a_traced_step_far_beyond_the_probes(name: str) -> None:
    """At 512 examples, 8 to 32 times the probes, the peak is right within 1 %."""
    job = jobs()[name]
    envelope = fit_memory_envelope(job)
    model = job.fresh_model()
    traced = trace_of_size(job, model, [k % len(job.examples) for k in range(512)])

    assert traced.peak_bytes == pytest.approx(envelope.peak_bytes(512), rel=0.01)
    assert abs(envelope.checked_error or 0) <= 0.01


def test_adam_costs_what_arithmetic_says() -> None:
    """A wide linear model with Adam: weights, gradient and two moments, and nothing near as large.

    At tiny batch sizes the peak lies in the optimizer, where no line through two sizes would
    find the activations.
    """
    job = Workload(
        nn.Linear(4096, 64, bias=False),
        cross_entropy,
        TensorDataset(torch.zeros(20, 4096), labels(20)),
        torch.optim.Adam,
    )
    weights = 4096 * 64 * 4
    envelope = fit_memory_envelope(job)

    assert 4 * weights <= envelope.peak_bytes(3) <= 6.2 * weights
    assert envelope.bytes_per_example(100_000) >= 4 * 4096


def test_largest_batch_size_is_the_inverse_of_the_peak() -> None:
    """The peak at the largest size fits, one more example does not; nothing fits into nothing."""
    envelope = fit_memory_envelope(load_target("digits"))
    for budget in (2e6, 1e8, 8e9):
        largest = envelope.max_batch_size(budget)

        assert envelope.peak_bytes(largest) <= budget < envelope.peak_bytes(largest + 1)
    assert envelope.max_batch_size(1000) == 0


def test_live_totals_follow_allocations_and_frees() -> None:
    """Against a plain loop over random lifetimes."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 100, size=40)
    freed = np.minimum(np.arange(40) + rng.integers(1, 20, size=40), 40)
    expected = [sum(sizes[i] for i in range(t + 1) if freed[i] > t) for t in range(40)]

    assert expected == live_totals(sizes, freed).tolist()


def trace(sizes: list[int], freed: list[int]) -> AllocationTrace:
    """Make a trace by hand."""
    names = tuple("op" for _ in sizes)
    return AllocationTrace(np.array(sizes), np.array(freed), names, ("workspace",) * len(sizes))


def test_a_line_through_two_peaks_would_be_wrong() -> None:
    """A constant 1,000 freed before activations of 10 a piece: convex, exact at every size."""
    traces = [trace([1000, 10 * b], [1, 2]) for b in (4, 8, 12, 16)]
    envelope = envelope_of_traces(traces, (4, 8, 12, 16))

    assert [envelope.peak_bytes(b) for b in (16, 100, 1000)] == [1000, 1000, 10_000]


def test_changing_patterns_are_refused() -> None:
    """Different numbers of allocations, or growth with the cube, allow no prediction."""
    uneven = [trace([b] * (1 + (b > 8)), [1] * (1 + (b > 8))) for b in (4, 8, 12, 16)]
    cubic = [trace([1000 * b**3], [1]) for b in (4, 8, 12, 16)]

    with pytest.raises(UnresolvedError, match="allocation pattern changes"):
        envelope_of_traces(uneven, (4, 8, 12, 16))
    with pytest.raises(UnresolvedError, match="neither linearly nor as a square"):
        envelope_of_traces(cubic, (4, 8, 12, 16))


def test_examples_of_different_size_count_by_the_largest() -> None:
    """Of 30 sequences padded to the longest, the envelope assumes the longest everywhere."""
    sequences = [torch.ones(1 + 10 * (k == 17), 64) for k in range(30)]

    def padded(examples: list[torch.Tensor]) -> torch.Tensor:
        return nn.utils.rnn.pad_sequence(examples, batch_first=True)

    job = Workload(
        nn.Linear(64, 64),
        lambda model, minibatch: model(minibatch).square().mean(),
        sequences,
        lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        collate=padded,
    )
    envelope = fit_memory_envelope(job)

    assert str(envelope.differing_examples) == "the largest of all 30"
    assert envelope.bytes_per_example(10_000) >= 2 * 11 * 64 * 4


def test_tracing_changes_nothing() -> None:
    """Weights and BatchNorm statistics of the user's model stay."""
    job = jobs()["convolution"]
    before = {name: value.clone() for name, value in job.model.state_dict().items()}
    fit_memory_envelope(job)

    assert all(torch.equal(before[name], value) for name, value in job.model.state_dict().items())


def test_a_limit_leaves_a_margin() -> None:
    """An allowed amount pays for the process and a margin before the first example."""
    envelope = MemoryEnvelope(np.zeros(1), np.full(1, 1e6), np.zeros(1), ("op",), (4, 8, 12, 16))
    allowed = resident_bytes() + 5 * 10**8
    limit = memory_limit(envelope, torch.device("cpu"), allowed_bytes=allowed)

    assert limit.max_batch_size is not None
    assert 100 < limit.max_batch_size < 500
    assert memory_limit(envelope, torch.device("cpu"), allowed_bytes=10**6).max_batch_size == 0
    assert (available_bytes(torch.device("cpu")) or 1) > 0


@pytest.mark.parametrize(
    ("text", "amount"), [("8GiB", 8 * 2**30), ("16 GB", 16e9), ("512mb", 512e6), ("100", 100)]
)
def test_amounts_of_memory_are_read(text: str, amount: float) -> None:
    """Powers of 1000 and of 1024, with or without a space."""
    assert amount == parse_bytes(text)
    assert amount == pytest.approx(parse_bytes(format_bytes(amount).replace(" ", "")), rel=0.01)


@pytest.mark.parametrize("text", ["", "8 apples", "-1GB", "0GB", "GiB"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    """With an example of what to write."""
    with pytest.raises(DataError, match="8GiB"):
        parse_bytes(text)

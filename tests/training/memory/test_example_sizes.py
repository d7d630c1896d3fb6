"""All examples are looked at where that is cheap, so that memory holds for the longest."""

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from batchsense import clock
from batchsense.training import Workload, fit_memory_envelope
from batchsense.training.memory.example_sizes import examples_to_trace
from batchsense.training.memory.probing import trace_of_size

Pair = namedtuple("Pair", "source target")


@dataclass
class Document:
    """A text with a label, as an object."""

    ids: torch.Tensor
    label: int = 0


KINDS = {
    "tensor": torch.zeros,
    "array": np.zeros,
    "list": lambda n: [1] * n,
    "text": lambda n: "a" * n,
    "dict": lambda n: {"ids": torch.zeros(n), "label": 3},
    "pair": lambda n: (torch.zeros(n), torch.tensor(1)),
    "named tuple": lambda n: Pair(torch.zeros(n), torch.zeros(2)),
    "object": lambda n: Document(torch.zeros(n)),
    "lists of lists": lambda n: {"ids": [[1] * n, [2] * 3]},
}


def job(examples: Any, collate: Any = None) -> Workload:
    """Make a job of these examples."""

    def loss(model: nn.Module, minibatch: Any) -> torch.Tensor:
        return sum(model(part).square().mean() for part in minibatch)

    model = nn.Linear(8, 8)
    return Workload(model, loss, examples, lambda p: torch.optim.SGD(p, lr=0.1), collate=collate)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(6))
def test_the_longest_of_many_is_found_in_every_form(kind: str, seed: int) -> None:
    """One long example anywhere among up to 3,000, in nine forms of an example."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(300, 3000))
    place = int(rng.integers(count))
    lengths = rng.integers(1, 30, size=count)
    lengths[place] = 300
    lists, differing = examples_to_trace(job([KINDS[kind](int(n)) for n in lengths]))

    assert lists == [[place]]
    assert str(differing) == f"the largest of all {count:,}"


def test_what_takes_long_to_read_is_looked_at_in_part(work_clock: None) -> None:
    """A data set that takes 5 ms an example: 256 at least, then as many as two seconds allow."""

    class Slow(list[torch.Tensor]):
        def __getitem__(self, index: int) -> torch.Tensor:  # type: ignore[override]
            clock.now.spend(0.005)  # type: ignore[attr-defined]
            return super().__getitem__(index)

    _, differing = examples_to_trace(job(Slow([torch.zeros(1 + k % 3) for k in range(9000)])))

    assert differing is not None
    assert (differing.looked_at, differing.examples) == (512, 9000)
    assert "of 9,000 there are" in str(differing)


def padded(examples: list[Any]) -> list[torch.Tensor]:
    """Pad sources and targets, each to its longest."""
    pad = nn.utils.rnn.pad_sequence
    return [pad([e[part] for e in examples], batch_first=True) for part in (0, 1)]


def joined(examples: list[Any]) -> list[torch.Tensor]:
    """Join sources and targets end to end."""
    return [torch.cat([e[part] for e in examples]) for part in (0, 1)]


@pytest.mark.parametrize("collate", [padded, joined])
@pytest.mark.parametrize("seed", range(3))
def test_no_minibatch_takes_more_than_is_said(seed: int, collate: Any) -> None:
    """A long source in one example, a long target in another: padded or joined, random or worst."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 12, size=(400, 2))
    lengths[17, 0], lengths[390, 1] = 200, 150
    made = job([tuple(torch.randn(int(n), 8) for n in pair) for pair in lengths], collate)
    envelope = fit_memory_envelope(made)
    worst = [[17, 390] * 6, [17] * 12, [390] * 12, rng.integers(400, size=12).tolist()]

    peaks = [trace_of_size(made, made.fresh_model(), rows).peak_bytes for rows in worst]
    assert max(peaks) <= 1.02 * envelope.peak_bytes(12)

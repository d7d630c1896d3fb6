"""A model that is only described: how much memory its full batch would take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn
from torch.utils.data import TensorDataset

from batchsense.errors import DataError
from batchsense.training.memory.envelope import MemoryEnvelope
from batchsense.training.workload import Workload

DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16}

#: A quarter of what torch's signed sizes can count, so that sums of a step do not overflow either.
_ADDRESSED = 1 << 62


@dataclass(frozen=True, slots=True)
class PlainNet:
    """A table of examples and a fully connected net that predicts one number from each."""

    features: int  #: Columns of the table.
    examples: int  #: Its rows.
    dtype: str = "float32"  #: Of numbers and weights: float64, float32 or bfloat16.
    hidden: Sequence[int] = ()  #: Widths of the hidden layers; none for a linear model.

    @property
    def described(self) -> str:
        """The net and its table in words.

        >>> PlainNet(500, 4_000_000, hidden=(1024, 1024)).described
        'a net 500-1024-1024-1 over 4,000,000 examples of float32'
        """
        widths = "-".join(str(width) for width in (self.features, *self.hidden, 1))
        return f"a net {widths} over {self.examples:,} examples of {self.dtype}"

    def workload(self) -> Workload:
        """The training job: least squares with AdamW. To be built without data.

        Raises DataError: a size is below 1 or beyond what can be addressed, or the type is unknown.

        >>> len(PlainNet(3, 10, hidden=(8,)).workload().model)
        3
        """
        widths = (self.features, *self.hidden, 1)
        if min(*widths, self.examples) < 1:
            raise DataError("features, examples and widths of hidden layers are 1 or more")
        if self.dtype not in DTYPES:
            raise DataError(f"no dtype {self.dtype!r}; there are {', '.join(DTYPES)}")
        dtype = DTYPES[self.dtype]
        # The table, each matrix of weights, and the outputs of each layer for all examples.
        sizes = [*(a * b for a, b in pairwise(widths)), *(self.examples * w for w in widths)]
        if max(sizes) * dtype.itemsize >= _ADDRESSED:
            raise DataError(
                f"{self.described}: its largest tensor has 2⁶² bytes or more, which no machine can "
                "address; check the numbers"
            )
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs, dtype=dtype), nn.ReLU()]
        rows = torch.zeros(self.examples, self.features, dtype=dtype)
        return Workload(
            nn.Sequential(*layers[:-1]),
            lambda model, minibatch: (model(minibatch[0]) - minibatch[1]).square().mean(),
            TensorDataset(rows, torch.zeros(self.examples, 1, dtype=dtype)),
            torch.optim.AdamW,
        )


def full_batch_bytes(envelope: MemoryEnvelope, examples: int) -> int:
    """Peak of a step over all examples, which are loaded once and stay."""
    return envelope.without_loading().peak_bytes(examples)

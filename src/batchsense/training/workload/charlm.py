"""The built-in workload ``charlm``: a small language model of Python's own source text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from batchsense.datasets import ALPHABET, python_source
from batchsense.training.workload.workload import Workload

#: Characters that the model reads at once; an example is one such window.
CONTEXT = 64
WIDTH = 64
HEADS = 4
LAYERS = 2
LEARNING_RATE = 5e-3
BATCH_SIZE = 16


class Block(nn.Module):
    """One layer of a decoder: attention to the past, then a net on each position."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention = nn.LayerNorm(width)
        self.attention = nn.Linear(width, 3 * width)
        self.attended = nn.Linear(width, width)
        self.before_net = nn.LayerNorm(width)
        self.net = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, states: Tensor) -> Tensor:
        """Map states of shape (examples, positions, width) to states of the same shape."""
        examples, positions, width = states.shape
        shape = (examples, positions, 3, self.heads, width // self.heads)
        projected = self.attention(self.before_attention(states)).view(shape)
        query, key, value = projected.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        states = states + self.attended(mixed.transpose(1, 2).reshape(examples, positions, width))
        changed: Tensor = self.net(self.before_net(states))
        return states + changed


class CharacterModel(nn.Module):
    """A decoder transformer that predicts the next character."""

    def __init__(self, symbols: int, width: int, heads: int, layers: int, context: int) -> None:
        super().__init__()
        self.characters = nn.Embedding(symbols, width)
        self.places = nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.normalised = nn.LayerNorm(width)
        self.scores = nn.Linear(width, symbols)

    def forward(self, symbols: Tensor) -> Tensor:
        """Map symbols of shape (examples, positions) to scores (examples, positions, symbols)."""
        place = torch.arange(symbols.shape[1], device=symbols.device)
        states = self.characters(symbols) + self.places(place)
        scores: Tensor = self.scores(self.normalised(self.blocks(states)))
        return scores


def charlm_workload(seed: int = 0) -> Workload:
    """Make a next-character model of the Python standard library's source text.

    The text is that of the running Python (:func:`batchsense.datasets.python_source`), so numbers
    differ a little between Python versions. An example is a window of 65 characters: 64 to read,
    each followed by the one to predict; the loss is the mean cross-entropy in nats per character.

    Parameters
    ----------
    seed : int
        Seed of the initial weights.

    Returns
    -------
    Workload
        With ``examples`` a ``TensorDataset`` of one tensor of 65 symbols.

    Examples
    --------
    >>> workload = charlm_workload()
    >>> (window,) = workload.minibatch([0])
    >>> window.shape
    torch.Size([1, 65])
    """
    symbols = torch.tensor(python_source().symbols, dtype=torch.long)
    count = (len(symbols) - 1) // CONTEXT
    windows = symbols[: count * CONTEXT + 1].unfold(0, CONTEXT + 1, CONTEXT)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CharacterModel(len(ALPHABET) + 1, WIDTH, HEADS, LAYERS, CONTEXT)
    return Workload(
        model=model,
        loss=_next_character,
        examples=TensorDataset(windows),
        optimizer=_adamw,
        batch_size=BATCH_SIZE,
    )


def _next_character(model: nn.Module, minibatch: Any) -> Tensor:
    """Give the mean cross-entropy of the next character."""
    (windows,) = minibatch
    scores: Tensor = model(windows[:, :-1])
    return functional.cross_entropy(scores.flatten(0, 1), windows[:, 1:].flatten())


def _adamw(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Make AdamW."""
    return torch.optim.AdamW(parameters, lr=LEARNING_RATE)

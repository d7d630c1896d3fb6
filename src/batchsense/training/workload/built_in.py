"""The built-in workloads: ``digits``, a small net, and ``charlm``, a small language model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from batchsense.datasets import ALPHABET, load_digits, python_source
from batchsense.training.workload.workload import Workload

#: Width of the two hidden layers of ``digits``: 26,122 parameters, a step in half a millisecond.
HIDDEN = 128
#: Best for 32 examples of a grid of factors of two, by steps to a loss of 0.15.
DIGITS_LEARNING_RATE = 0.4
DIGITS_BATCH_SIZE = 32

#: Characters that ``charlm`` reads at once; an example is one such window.
CONTEXT = 64
#: Small enough to train on one core while the reader waits, yet with every part of a transformer.
WIDTH, HEADS, LAYERS = 64, 4, 2
CHARLM_LEARNING_RATE = 5e-3
CHARLM_BATCH_SIZE = 16


def digits_workload(seed: int = 0) -> Workload:
    """Make the classification of 1,797 handwritten digits by a net with two hidden layers.

    Rows are those of :func:`batchsense.datasets.load_digits`, in the order of the file, scaled to
    0–1; the loss is the mean cross-entropy in nats; plain SGD.

    Parameters
    ----------
    seed : int
        Seed of the initial weights.

    Returns
    -------
    Workload
        With ``examples`` a ``TensorDataset`` of (64 pixels, digit).

    Examples
    --------
    >>> workload = digits_workload()
    >>> pixels, digit = workload.minibatch([0, 1])
    >>> pixels.shape, digit.tolist()
    (torch.Size([2, 64]), [0, 1])
    """
    digits = load_digits()
    pixels = torch.tensor(digits.observations / 16, dtype=torch.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Linear(64, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, 10),
        )
    return Workload(
        model=model,
        loss=_cross_entropy,
        examples=TensorDataset(pixels, torch.tensor(digits.digit)),
        optimizer=_sgd,
        batch_size=DIGITS_BATCH_SIZE,
    )


def _cross_entropy(model: nn.Module, minibatch: Any) -> Tensor:
    pixels, digit = minibatch
    return functional.cross_entropy(model(pixels), digit)


def _sgd(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=DIGITS_LEARNING_RATE)


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
        batch_size=CHARLM_BATCH_SIZE,
    )


def _next_character(model: nn.Module, minibatch: Any) -> Tensor:
    (windows,) = minibatch
    scores: Tensor = model(windows[:, :-1])
    return functional.cross_entropy(scores.flatten(0, 1), windows[:, 1:].flatten())


def _adamw(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=CHARLM_LEARNING_RATE)


#: By the name that a TARGET gives.
BUILT_IN: dict[str, Callable[[], Workload]] = {
    "digits": digits_workload,
    "charlm": charlm_workload,
}

"""The training jobs that have a name: TARGET on the command line, and the built-in ones."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from batchsense.blame import described
from batchsense.datasets import ALPHABET, load_digits, python_source
from batchsense.errors import BatchsenseError, DataError, listed
from batchsense.training.workload.workload import Workload

T = TypeVar("T")

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

#: The chapters that make training jobs of collocation problems and of trainers. They are built on
#: this one, so they are named here and not imported.
_PROBLEMS = "batchsense.training.collocation"
_TRAINERS = "batchsense.training.trainers.workloads"


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


def load_target(target: str) -> Workload:
    """Make the workload that a TARGET names.

    Parameters
    ----------
    target : str
        ``digits``, ``charlm``, ``path/to/file.py:function`` or ``package.module:function``; the
        function takes no argument and returns a :class:`Workload`, a collocation problem, a
        ``transformers.Trainer``, or a LightningModule with its data (and trainer) in a tuple. **It
        is run**: name only files that you trust.

    Returns
    -------
    Workload
        The training job.

    Raises
    ------
    DataError
        Unknown name, no such file or function, or the function raises or returns something else;
        says where.

    Examples
    --------
    >>> len(load_target("digits").examples)
    1797
    >>> load_target("digit")
    Traceback (most recent call last):
    batchsense.errors.DataError: digit: no such workload; did you mean 'digits'?
    """
    return load_named(target, BUILT_IN, Workload, "workload", _workload_of)


def _workload_of(made: Any) -> Workload:
    """Make a workload of what trains it, or of a problem."""
    first = made[0] if isinstance(made, tuple) and made else made
    trains = any(hasattr(first, name) for name in ("training_step", "compute_loss"))
    chapter = importlib.import_module(_TRAINERS if trains else _PROBLEMS)
    workload: Workload = (chapter.workload_of if trains else chapter.as_workload)(made)
    return workload


def load_named(
    target: str,
    built_in: Mapping[str, Callable[[], T]],
    kind: type[T],
    noun: str,
    convert: Callable[[Any], T],
) -> T:
    """Make what a name stands for: built in, or what a function of a file or module returns.

    ``convert`` makes a ``kind`` of other things that are returned, or raises DataError.

    Raises DataError: as :func:`load_target`.
    """
    if target in built_in:
        return built_in[target]()
    module_name, colon, function_name = target.rpartition(":")
    if not colon:
        raise DataError(_what_it_could_be(target, list(built_in), kind, noun), where=target)
    if not function_name.isidentifier():
        raise DataError(f"{function_name!r} is not the name of a function", where=target)
    is_file = module_name.endswith(".py") or "/" in module_name or "\\" in module_name
    with _importable_from(str(Path(module_name).resolve().parent) if is_file else ""):
        module = _run_file(module_name) if is_file else _import_module(module_name)
        return _call(module, function_name, target, kind, convert)


def _what_it_could_be(target: str, known: list[str], kind: type, noun: str) -> str:
    if target.endswith(".py"):
        return f"say which function of the file returns the {kind.__name__}: {target}:FUNCTION"
    near = difflib.get_close_matches(target, known, n=1)
    if near:
        return f"no such {noun}; did you mean {near[0]!r}?"
    names = ", ".join(known)
    return f"no such {noun}; give {names}, path.py:function or module:function"


@contextlib.contextmanager
def _importable_from(folder: str) -> Iterator[None]:
    """Let imports find the modules beside a file, as when it is run as a script."""
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)


def _run_file(path: str) -> ModuleType:
    """Execute a file as a module of its own."""
    file = Path(path)
    if not file.is_file():
        raise DataError("no such file", where=path)
    name = f"batchsense_target_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file.resolve())
    if spec is None or spec.loader is None:
        raise DataError("not a Python file; its name must end with .py", where=path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling look their module up by name
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise DataError(f"the file could not be run: {described(error)}", where=path) from error
    return module


def _import_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and name.startswith(error.name or "?"):
            raise DataError(f"no module named {error.name!r}", where=name) from None
        raise DataError(f"the module could not be imported: {described(error)}", name) from error


def _call(
    module: ModuleType, function_name: str, target: str, kind: type[T], convert: Callable[[Any], T]
) -> T:
    function = getattr(module, function_name, None)
    if function is None:
        own = [
            name
            for name, value in vars(module).items()
            if callable(value) and getattr(value, "__module__", None) == module.__name__
        ]
        has = f"; it defines {listed(own)}" if own else ""
        raise DataError(f"there is no function {function_name!r}{has}", where=target)
    if isinstance(function, kind):
        return function
    if not callable(function):
        raise DataError(f"{function_name!r} is not a function", where=target)
    try:
        made = function()
    except BatchsenseError:
        raise
    except (Exception, SystemExit) as error:
        raise DataError(
            f"{function_name}() raised {described(error)}; it must return a {kind.__name__}",
            where=target,
        ) from error
    if isinstance(made, kind):
        return made
    try:
        return convert(made)
    except DataError as error:
        raise DataError(
            f"{function_name}() returned {type(made).__name__}: {error}", where=target
        ) from error

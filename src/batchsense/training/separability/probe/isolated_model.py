"""A private copy of a model, run under a stated precision, seed and treatment of randomness."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

import torch
from torch import nn

from batchsense.errors import DataError
from batchsense.training.separability.probe.isolation import (
    ModelState,
    cast,
    default_dtype,
    dtype_of,
    seeded,
    unwrapped,
)
from batchsense.training.separability.probe.precision import (
    InFloat64,
    WithoutDropout,
    silence_dropout,
)
from batchsense.training.separability.probe.tied_randomness import TiedNoise
from batchsense.training.workload.blame import described

#: How random numbers are treated: as they come, tied to the examples, or dropout switched off.
Randomness: TypeAlias = Literal["free", "tied", "silent"]


class IsolatedModel:
    """A copy of a model that can be run many times from the same state.

    Parameters
    ----------
    model : torch.nn.Module
        The user's model; it is left as it is.
    precision : str
        ``"float64"``, ``"float32"`` or ``"bfloat16"``.

    Attributes
    ----------
    model : torch.nn.Module
        The copy.
    state : ModelState
        Its parameters and buffers at the start.
    stacked : bool
        How noise is tied where a minibatch is a multiple of its examples; see
        :class:`~batchsense.training.separability.probe.tied_randomness.TiedNoise`.
    broken_tie : str or None
        Why noise could not be tied to examples, once that was tried in vain.

    Raises
    ------
    DataError
        The model cannot be copied.
    """

    def __init__(self, model: nn.Module, precision: str) -> None:
        if any(isinstance(p, nn.parameter.UninitializedParameter) for p in model.parameters()):
            raise DataError(
                "it has parameters without a size yet (lazy modules); run one minibatch through it "
                "first",
                where="model",
            )
        self.precision = precision
        self.dtype = dtype_of(precision)
        self.model = cast(_copied(unwrapped(model)), precision)
        self.state = ModelState(self.model)
        self.stacked = False
        self.broken_tie: str | None = None
        self._layout: list[str] | None = None
        self._silent: tuple[nn.Module, ModelState] | None = None

    @property
    def draws_noise(self) -> bool:
        """Whether the last whole pass with tied noise drew random numbers."""
        return bool(self._layout)

    @property
    def cuts_multiples(self) -> bool:
        """Whether noise was drawn for several rows per example, whose order is a guess."""
        return any(layout in ("groups", "stacked") for layout in self._layout or [])

    def copied(self) -> IsolatedModel:
        """Give another isolated copy of the same model in its state at the start."""
        self.state.restore()
        return IsolatedModel(self.model, self.precision)

    def ready(self, randomness: Randomness, restore: bool = True) -> nn.Module:
        """Give the model, or its copy without dropout, in the state at the start."""
        if randomness != "silent":
            if restore:
                self.state.restore()
            return self.model
        if self._silent is None:
            self.state.restore()
            silent = _copied(self.model)
            silence_dropout(silent)
            self._silent = silent, ModelState(silent)
        elif restore:
            self._silent[1].restore()
        return self._silent[0]

    @contextlib.contextmanager
    def conditions(
        self,
        members: Sequence[int],
        whole: bool,
        seed: int,
        randomness: Randomness,
        elsewhere: int | None = None,
    ) -> Iterator[None]:
        """Enter the precision, the seed and the treatment of random numbers.

        Parameters
        ----------
        members : sequence of int
            Which examples the minibatch holds, for tied noise.
        whole : bool
            Whether these are all examples; parts must cut their noise as the whole did.
        seed : int
            Seed of all random numbers.
        randomness : str
            Their treatment.
        elsewhere : int, optional
            Another seed for all that are not tied.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(seeded(seed if elsewhere is None else elsewhere))
            stack.enter_context(torch.enable_grad())
            stack.enter_context(default_dtype(self.dtype))
            if self.precision == "float64":
                stack.enter_context(InFloat64())
            if randomness == "silent":
                stack.enter_context(WithoutDropout())
            if randomness == "tied":
                noise = TiedNoise(seed, members, None if whole else self._layout, self.stacked)
                stack.callback(self._note_tie, noise, whole)
                stack.enter_context(noise)
            yield

    def _note_tie(self, noise: TiedNoise, whole: bool) -> None:
        """Remember how noise was cut, or that it could not be tied."""
        self.broken_tie = self.broken_tie or noise.broken
        if whole:
            self._layout = noise.layout


def _copied(model: nn.Module) -> nn.Module:
    """Copy a model without its gradients."""
    try:
        copied = copy.deepcopy(model)
    except Exception as error:
        raise DataError(
            f"it cannot be copied ({described(error)}), and an audit of the model itself would "
            "change it",
            where="model",
        ) from error
    copied.zero_grad(set_to_none=True)
    return copied

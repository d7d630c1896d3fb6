"""All operations whose use of a parameter is understood, and what watches for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from batchsense.training.example_gradients.recording import Recording
from batchsense.training.example_gradients.rules import (
    attention,
    convolution,
    elementwise,
    embedding,
    linear,
    normalization,
)

#: ``rule(recording, function, args, kwargs)`` calls the function and returns what it returns.
RULES: dict[Any, Callable[..., Any]] = {
    **attention.RULES,
    **convolution.RULES,
    **elementwise.RULES,
    **embedding.RULES,
    **linear.RULES,
    **normalization.RULES,
}

_NO_KEYWORDS: dict[str, Any] = {}


class Watch(TorchFunctionMode):
    """Sees every torch function that is called inside it and hands the known ones to their rules.

    Functions are watched, not modules, so that a table used again as the output layer, a scale
    that multiplies or a projection inside attention is seen wherever it is written.
    """

    def __init__(self, recording: Recording) -> None:
        super().__init__()
        self._recording = recording

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        """Call ``func``, through its rule if it has one."""
        kwargs = kwargs or _NO_KEYWORDS
        recording = self._recording
        if recording.examples < 2:
            return func(*args, **kwargs)
        rule = RULES.get(func)
        result = func(*args, **kwargs) if rule is None else rule(recording, func, args, kwargs)
        if not args or not isinstance(args[0], Tensor) or args[0] in recording.constants:
            recording.constants.follow(func, args, kwargs, result, recording.examples)
        return result

"""How each operation of torch uses a parameter, and what that adds to every example's gradient.

``rule(recording, call)`` runs the call and returns what it returns.
"""

from __future__ import annotations

from batchsense.training.example_gradients.rules import (
    convolution,
    linear,
    normalization,
    spreading,
)

RULES = {**convolution.RULES, **linear.RULES, **normalization.RULES, **spreading.RULES}

__all__ = ["RULES"]

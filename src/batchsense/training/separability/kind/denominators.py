"""Find two denominators in a loss whose terms divide by different counts.

For L(S) = Σ_{i∈S} a_i / w(S) + Σ_{i∈S} b_i / v(S) no weights put the parts together, but every
measured part gives one equation for the gradients a_i and b_i of the examples. If two dozen
partitions agree on them, to rounding, w and v are what the terms divide by.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from batchsense.arrays import Floats
from batchsense.training.separability.kind.evidence import Evidence
from batchsense.training.separability.kind.normalisers import weights_of
from batchsense.training.separability.kind.structure import LEAST_SINGULAR_VALUE
from batchsense.variation.linear import factor

# Gradients are compared through a few random projections: equations for all numbers alike would
# say the same, and take as long as there are parameters.
_PROJECTIONS = 4
# Counts that differ from part to part, most plausible first; pairs of them are 66.
_MOST_COUNTS = 12
# Equations beyond the rank that a fit must have to spare: fewer agree by chance.
_SPARE = 8
_EXAMPLES = "the number of examples"


def two_denominators(evidence: Evidence) -> tuple[str, str] | None:
    """Name the two counts that the terms of a loss divide by; None if no two explain all parts."""
    screening = evidence.screening
    partitions, K, m = evidence.members.shape
    if screening.stochastic or screening.order_matters or not evidence.parts.size or m == 1:
        return None
    if partitions * (K - 1) < 2 * K * m + _SPARE:
        return None
    generator = np.random.default_rng([screening.seed, 81])
    numbers = evidence.parts.reshape(partitions * K, -1)
    directions = generator.normal(size=(numbers.shape[1], _PROJECTIONS))
    seen = np.vstack([numbers, screening.whole.gradient]) @ directions
    everyone = np.ones((1, K * m))
    present = np.vstack([evidence.presence.reshape(partitions * K, K * m), everyone])
    loose = math.sqrt(screening.tolerance)
    for (one, w), (other, v) in itertools.combinations(_counts(evidence).items(), 2):
        factored = factor(np.hstack([present / w, present / v]), tolerance=LEAST_SINGULAR_VALUE)
        if factored.rank + _SPARE > len(seen):
            continue
        missed = factored.residuals(seen)
        if float(np.abs(missed).max()) < loose * float(np.abs(seen).max()):
            return one, other
    return None


def _counts(evidence: Evidence) -> dict[str, Floats]:
    """Weights of all parts and, last, of the whole, as columns; of equal columns the first."""
    partitions, K, m = evidence.members.shape
    found = {_EXAMPLES: np.array([m] * (partitions * K) + [K * m], dtype=float)[:, None]}
    whole = evidence.screening.whole.minibatch
    for name, (w, total) in weights_of(evidence.candidates, whole, evidence.minibatches).items():
        column = np.append(w, total)[:, None]
        known = [np.allclose(column * other[-1], other * total) for other in found.values()]
        if column.min() > 0 and not any(known):
            found[name] = column
        if len(found) > _MOST_COUNTS:
            break
    return found

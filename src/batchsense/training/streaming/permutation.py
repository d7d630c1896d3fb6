"""A shuffled order that takes no memory: a keyed bijection, evaluated where it is asked for.

The order of a billion rows need not be kept to be followed: position i has row π(i), and π is a
function of a key. The same key gives the same order on every machine and with every version of
numpy, whose own shuffles promise no such thing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Integers

#: Rounds of the network. Four make it pass for random to who does not know the key (Luby and
#: Rackoff 1988); small domains, whose halves have few values, need more.
_ROUNDS = 10
#: Bits of a half at least: with fewer, not all orders of a handful of rows would occur alike.
_LEAST_HALF = 4

_Words = npt.NDArray[np.uint64]
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_GOLDEN = 0x9E3779B97F4A7C15


@dataclass(frozen=True, slots=True)
class Permutation:
    """A random order of 0 … size - 1 that is computed, not stored.

    A Feistel network over pairs of half-words, (L, R) → (R, L ⊕ F(R)), is a bijection whatever F
    is; results beyond the size are sent through again until they fall inside.

    Source: Luby and Rackoff (1988), SIAM J. Comput. 17; Black and Rogaway (2002), "Ciphers with
    arbitrary finite domains" (the walk); Steele, Lea and Flood (2014), "Fast splittable
    pseudorandom number generators" (the mixing function).
    """

    size: int  #: How many there are.
    key: tuple[int, ...]  #: What chooses the order, such as (seed, epoch); not negative.

    def at(self, positions: npt.ArrayLike) -> Integers:
        """Who stands at these positions, from 0 to size - 1."""
        places = np.atleast_1d(np.asarray(positions, dtype=np.uint64))
        half = np.uint64(max(_LEAST_HALF, (max(self.size - 1, 1).bit_length() + 1) // 2))
        keys = _round_keys(self.key)
        found = _network(places, half, keys)
        outside = np.flatnonzero(found >= self.size)
        while len(outside):
            found[outside] = _network(found[outside], half, keys)
            outside = outside[found[outside] >= self.size]
        return found.astype(np.int64)


def _network(words: _Words, half: np.uint64, keys: _Words) -> _Words:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = words >> half, words & mask
    for key in keys:
        left, right = right, left ^ (_mixed(right + key) & mask)
    return (left << half) | right


def _mixed(words: _Words) -> _Words:
    """The finishing function of SplitMix64: every bit of the input turns half of those out."""
    with np.errstate(over="ignore"):
        words = (words ^ (words >> np.uint64(30))) * _MIX_1
        words = (words ^ (words >> np.uint64(27))) * _MIX_2
    return words ^ (words >> np.uint64(31))


def _round_keys(key: tuple[int, ...]) -> _Words:
    state = np.zeros(1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for number in key:
            state = _mixed(state + np.uint64(_GOLDEN) + np.uint64(number))
        steps = np.arange(1, _ROUNDS + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
        return _mixed(state + steps)

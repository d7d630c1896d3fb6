"""Scene: atoms are not examples, so a minibatch of them is no estimate of their energy.

A physicist trains nothing, but wants to save time: take 8 of 64 atoms, multiply the energy by 8.
Every atom acts on every other, so this is wrong by almost nine tenths. Pairs are examples.
"""

from __future__ import annotations

import numpy as np
import pytest

from batchsense.training.separability import interaction_order, pair_minibatches


def argon(r):
    """Lennard-Jones energy, every pair of atoms once."""
    i, j = np.triu_indices(len(r), 1)
    gap = np.linalg.norm(r[i] - r[j], axis=1)
    return float((gap**-12 - gap**-6).sum())


@pytest.fixture
def crystal():
    """A shaken cube of 64 atoms."""
    cell = np.stack(np.meshgrid(*[np.arange(4)] * 3), axis=-1).reshape(-1, 3)
    return 1.15 * cell + 0.05 * np.random.default_rng(0).normal(size=cell.shape)


def test_eight_atoms_are_not_an_eighth_of_the_energy(crystal):
    """The naive estimate, averaged over many draws, misses the energy by 8/9."""
    draw = np.random.default_rng(1).choice
    naive = [8 * argon(crystal[draw(64, 8, replace=False)]) for _ in range(3000)]

    assert np.mean(naive) / argon(crystal) == pytest.approx(1 / 9, abs=0.02)


def test_the_order_of_the_interaction_says_so_beforehand(crystal):
    """Order two: particles are meaningless, pairs are not, and the bias is known."""
    found = interaction_order(argon, crystal, minibatch=8)

    assert (found.order, found.rescue) == (2, "pairs")
    assert found.naive_bias == pytest.approx(-8 / 9)


def test_random_groups_of_eight_are_right_on_average(crystal):
    """The same eight atoms at a time, scaled as pairs, give the energy within three errors."""
    rounds = [
        np.mean(
            [g.energy_scale * argon(crystal[g.indices]) for g in pair_minibatches(64, 8, seed=s)]
        )
        for s in range(200)
    ]

    error = np.std(rounds, ddof=1) / np.sqrt(len(rounds))
    assert abs(np.mean(rounds) - argon(crystal)) < 3 * error

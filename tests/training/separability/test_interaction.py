"""Interaction orders of energies, and which minibatches of particles are unbiased."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from batchsense.errors import DataError
from batchsense.training.separability import interaction_order, pair_minibatches


def gaps(r):
    """Distances of all pairs i < j."""
    i, j = np.triu_indices(len(r), 1)
    return np.linalg.norm(r[i] - r[j], axis=1)


def external_field(r):
    """Each particle in a trap."""
    return float((r**4).sum() + np.sin(r).sum())


def lennard_jones(r):
    """Pairs."""
    return float((gaps(r) ** -12 - gaps(r) ** -6).sum())


def gravity(r):
    """Pairs."""
    return float(-(1 / gaps(r)).sum())


def lennard_jones_in_a_trap(r):
    """Orders 1 and 2 together."""
    return lennard_jones(r) + external_field(r)


def axilrod_teller(r):
    """Triples: (1 + 3 cos a cos b cos c) / (abc)^3."""
    total = 0.0
    for i in range(len(r)):
        for j in range(i + 1, len(r)):
            for k in range(j + 1, len(r)):
                u, v, w = r[j] - r[i], r[k] - r[j], r[i] - r[k]
                a, b, c = np.linalg.norm(u), np.linalg.norm(v), np.linalg.norm(w)
                cosines = -(u @ w) / (a * c) * -(u @ v) / (a * b) * -(v @ w) / (b * c)
                total += (1 + 3 * cosines) / (a * b * c) ** 3
    return float(total)


def embedded_atom(r):
    """The square root of a density made by all neighbours: every order at once."""
    if len(r) < 2:
        return 0.0
    distance = np.linalg.norm(r[:, None] - r[None], axis=2)
    density = np.exp(-distance).sum(axis=1) - 1
    return float(-np.sqrt(density).sum())


TRUTH = [
    (external_field, 1, False, "particles"),
    (lennard_jones, 2, False, "pairs"),
    (gravity, 2, False, "pairs"),
    (lennard_jones_in_a_trap, 2, False, "pairs"),
    (axilrod_teller, 3, False, "groups"),
    (embedded_atom, 4, True, "none"),
]


def lattice(seed, side=3, spacing=1.2):
    """A cubic lattice, shaken: no two particles too near."""
    cell = np.stack(np.meshgrid(*[np.arange(side)] * 3), axis=-1).reshape(-1, 3)
    return spacing * cell + 0.1 * np.random.default_rng(seed).normal(size=cell.shape)


@pytest.mark.parametrize(("energy", "order", "at_least", "rescue"), TRUTH)
@pytest.mark.parametrize("seed", range(5))
def test_orders(energy, order, at_least, rescue, seed):
    """External field 1, Lennard-Jones and gravity 2, Axilrod–Teller 3, embedded atom 4 or more."""
    found = interaction_order(energy, lattice(seed)[:18], seed=seed)

    assert (found.order, found.at_least, found.rescue) == (order, at_least, rescue)


def test_order_does_not_depend_on_units_or_on_the_library():
    """Scaled energies, torch tensors and further properties of the particles change nothing."""
    r = lattice(0)[:15]
    charge = np.random.default_rng(0).choice([-1.0, 1.0], 15)

    def coulomb(r, q):
        distance = torch.cdist(r, r) + torch.eye(len(r))
        pair = q[:, None] * q[None] / distance
        return 1e9 * (pair.sum() - pair.diagonal().sum()) / 2

    found = interaction_order(coulomb, (torch.as_tensor(r), torch.as_tensor(charge)))

    assert found.order == 2


def test_a_cutoff_does_not_hide_the_order():
    """Short-ranged pairs are found because groups are spread at random, several times."""

    def short(r):
        near = gaps(r)
        near = near[near < 1.5]
        return float(((1.5 - near) ** 2).sum())

    assert interaction_order(short, lattice(1)).order == 2


def test_naive_particle_minibatches_are_wrong():
    """Lennard-Jones: 6 of 27 particles scaled by N/m miss the energy by more than half."""
    r = lattice(2)
    found = interaction_order(lennard_jones, r, minibatch=6)
    whole = lennard_jones(r)
    generator = np.random.default_rng(0)
    naive = [27 / 6 * lennard_jones(r[generator.choice(27, 6, replace=False)]) for _ in range(2000)]

    assert found.naive_bias == pytest.approx(5 / 26 - 1)
    error = np.mean(naive) / whole - 1
    assert abs(error) > 0.5
    assert error == pytest.approx(
        found.naive_bias, abs=4 * np.std(naive) / math.sqrt(2000) / -whole
    )
    assert "meaningless" in found.message


def pair_forces(r, energy_slope):
    """Forces on every particle from every other."""
    away = r[:, None] - r[None]
    distance = np.linalg.norm(away, axis=2) + np.eye(len(r))
    return -(energy_slope(distance)[:, :, None] * away / distance[:, :, None]).sum(axis=1)


@pytest.mark.parametrize("size", [2, 5, 9])
def test_pair_minibatches_are_unbiased(size):
    """Energy and forces by random groups: the mean of 200 rounds is within 3 standard errors."""
    r = lattice(3)
    whole = lennard_jones(r)

    def slope(d):
        return -12 * d**-13 + 6 * d**-7

    truth = pair_forces(r, slope)
    direction = np.random.default_rng(0).normal(size=r.shape)
    energies, errors = [], []
    for seed in range(200):
        estimate, force, covered = [], np.zeros_like(r), np.zeros(27, dtype=bool)
        for group in pair_minibatches(27, size, seed=seed):
            estimate.append(group.energy_scale * lennard_jones(r[group.indices]))
            force[group.indices] = group.force_scale * pair_forces(r[group.indices], slope)
            covered[group.indices] = True
        energies.append(np.mean(estimate))
        errors.append(((force - truth) * direction)[covered].sum())
    for values, target in ((energies, whole), (errors, 0.0)):
        standard_error = np.std(values, ddof=1) / math.sqrt(len(values))
        assert abs(np.mean(values) - target) < 3 * standard_error


def test_groups_are_disjoint_and_fair():
    """A round takes every particle at most once; over many rounds all equally often."""
    taken = np.zeros(11)
    for seed in range(2000):
        groups = [group.indices for group in pair_minibatches(11, 4, seed=seed)]
        joined = np.concatenate(groups)

        assert len(groups) == 2
        assert len(set(joined)) == len(joined) == 8
        taken[joined] += 1
    assert np.abs(taken / 2000 - 8 / 11).max() < 4 * math.sqrt(8 / 11 * 3 / 11 / 2000)


@pytest.mark.parametrize(
    ("energy", "particles", "word"),
    [
        (external_field, np.zeros((3, 3)), "at least 5"),
        (lambda r: math.nan, np.zeros((9, 3)), "nan"),
        (lambda r: r[99], np.zeros((9, 3)), "IndexError"),
        (external_field, (np.zeros((9, 3)), np.zeros(8)), "same number"),
    ],
)
def test_wrong_input_is_refused(energy, particles, word):
    """Too few particles or groups, NaN, a failing energy: typed errors."""
    with pytest.raises(DataError, match=word):
        interaction_order(energy, particles)
    with pytest.raises(DataError, match="no pairs"):
        next(pair_minibatches(5, 1))

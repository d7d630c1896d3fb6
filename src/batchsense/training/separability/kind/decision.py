"""Decide what kind a loss is from its partitions: by equalities, else by statistics."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from batchsense.arrays import Floats
from batchsense.training.separability.kind.evidence import (
    Evidence,
    candidates_of,
    gather,
    joined_partitions,
    measured_at,
)
from batchsense.training.separability.kind.mean_length import mean_length
from batchsense.training.separability.kind.structure import Structure, kind_of
from batchsense.training.separability.probe.screening import ROUNDING, Screening
from batchsense.training.separability.report import EXAMPLE_FREE_TERM, Kind

# A composite passes for a ratio in one partition by chance; six are what the bias test asks too.
_PARTITIONS = 6
# Weights that agree to this at two parameter vectors are the same: rounding, amplified by solving
# for them, is far smaller, and what moves them (a loss, 1 + l_i) moves them by more.
_SAME_WEIGHT = 1e-3
# What the rounding of float32 explains: scripted and foreign code computes in its own precision,
# whatever the audit asks for, and training in float32 does not see what is smaller.
COARSE = ROUNDING["float32"][1]
COARSE_NOTE = (
    f"Parts and whole agree to {COARSE:.0e}·|G| only, as where something computes in float32; "
    "smaller differences count as zero."
)


def decided_kind(evidence: Evidence, alpha: float) -> tuple[Evidence, Structure, tuple[str, ...]]:
    """Decide the kind by equalities where they hold, else by statistics; say what limits that.

    The evidence comes back with the tolerance at which its equalities hold.
    """
    screening = evidence.screening
    if not screening.exact:
        why = screening.probe.isolated.broken_tie or "they depend on the order of the examples"
        note = (
            f"The random numbers of the loss could not be tied to its examples ({why}), so its "
            "kind was judged by statistics."
        )
        return evidence, judged_kind(evidence, alpha), (note,)
    if screening.order_matters:
        return evidence, Structure("interacting"), ()
    structure = exact_kind(evidence)
    unnamed = structure.kind == "interacting" or _needs_several(evidence, structure)
    if unnamed and screening.tolerance < COARSE:
        coarse = _coarsened(evidence)
        looser = exact_kind(coarse)
        if looser.kind in ("mean", "sum") or looser.normaliser in evidence.candidates:
            return coarse, looser, (COARSE_NOTE,)
    if not structure.determined or (evidence.one_partition and _needs_several(evidence, structure)):
        structure = settled_kind(screening, evidence.micro_batch)
    elif structure.kind == "composite" and structure.normaliser is None:
        structure = unless_fixed(screening, structure, evidence.micro_batch)
    if structure.kind in ("sum", "ratio", "composite") and _one_heard(evidence):
        note = (
            "In every partition only one micro-batch has a gradient, which a sum explains as well "
            "as a ratio; audit more examples at once."
        )
        return evidence, dataclasses.replace(structure, kind="undecided", normaliser=None), (note,)
    if not structure.determined:
        note = (
            f"With a gradient of {screening.probe.parameters} numbers a ratio or a function of an "
            "average cannot be told from an interaction of the examples."
        )
        return evidence, dataclasses.replace(structure, kind="undecided"), (note,)
    return evidence, structure, ()


def silent_kind(screening: Screening, micro_batch: int) -> Kind | None:
    """The kind with dropout switched off; None if other random numbers remain."""
    probe = screening.probe
    everyone = np.arange(probe.count)
    one, other = (
        probe.gradient(everyone, screening.mixed(51, k), "silent").gradient for k in (0, 1)
    )
    if np.linalg.norm(one - other) > screening.tolerance * np.linalg.norm(one):
        return None
    candidates = candidates_of(screening)
    silenced = screening.silenced().reseeded(screening.mixed(52))
    return exact_kind(gather(silenced, micro_batch, 2, candidates)).kind


def judged_kind(evidence: Evidence, alpha: float) -> Structure:
    """Choose the kind by statistics, where random numbers hide the equalities.

    Mean if no bias is detected; else the sum or candidate normaliser under which no bias is
    detected and least is left; else interacting.
    """

    def left(gaps: Floats) -> tuple[float, float]:
        length = mean_length(gaps @ gaps.T, level=1 - alpha)
        return length.p_value_sign_flip, length.length.high

    p_value, unexplained = left(evidence.gaps)
    if p_value >= alpha:
        return Structure("mean")
    options = {"": evidence.sum_gaps, **evidence.candidate_gaps}
    judged = {name: left(gaps) for name, gaps in options.items()}
    fitting = {
        name: high for name, (p, high) in judged.items() if p >= alpha and high < unexplained
    }
    if not fitting:
        return Structure("interacting")
    best = min(fitting, key=lambda name: fitting[name])
    return Structure("sum") if best == "" else Structure("ratio", best)


def exact_kind(evidence: Evidence) -> Structure:
    """Decide the kind by equalities; a sum with a term free of examples is a composite."""
    tolerance = evidence.screening.tolerance
    found = kind_of(evidence.splits, tolerance)
    if found.kind != "interacting":
        return found
    centre = evidence.sum_gaps.mean(axis=0)
    spread = float(np.abs(evidence.sum_gaps - centre).max(initial=0.0))
    several = len(evidence.splits) > 1 and not evidence.one_partition
    # Parts without any gradient leave G alone, and show nothing of a term without examples.
    heard = evidence.noise > tolerance * evidence.size
    if several and heard and spread < tolerance * float(np.linalg.norm(centre)):
        return Structure("composite", EXAMPLE_FREE_TERM, residual=found.residual)
    return found


def settled_kind(screening: Screening, micro_batch: int) -> Structure:
    """Decide between ratio, composite and interacting with more numbers per part.

    With fewer than 2K parameters, K gradients reach the whole one by chance. Gradients at several
    shifted parameter vectors, joined end to end, are long enough, and the coefficients of a ratio
    are the same at all of them. A composite's are not: it is sought in partitions into two parts,
    as it is where parts of one example leave one partition, which any function of the losses fits.
    ``determined`` is False if even two parts are too many for the parameters.
    """
    determined = True
    if micro_batch > 1:
        moved = screening.reseeded(screening.mixed(42))
        joined = joined_partitions(moved, micro_batch, _PARTITIONS)
        many = kind_of(joined.splits, screening.tolerance)
        if many.kind == "composite":  # the same at all parameter vectors, so free of them
            return Structure("ratio", None, residual=many.residual)
        if many.kind != "interacting":
            return many
        determined = many.determined
    half = screening.probe.count // 2
    halves = measured_at(screening.reseeded(screening.mixed(43)), [None], half, _PARTITIONS)
    if not all(split.determined for split in halves.splits):
        return Structure("interacting", determined=micro_batch > 1 and determined)
    found = kind_of(halves.splits, screening.tolerance)
    if found.kind not in ("composite", "ratio"):
        return Structure("interacting", residual=found.residual)
    return unless_fixed(screening, Structure("composite", residual=found.residual), half)


def weights_move(screening: Screening, weights: Floats, micro_batch: int) -> bool:
    """Whether weights per example, found at one parameter vector, fail at another.

    A ratio divides by something free of the parameters. log(1 + mean) has weights per example
    too, 1 + l_i, but they move with the parameters: it is a composite.
    """
    probe = screening.probe
    if probe.parameters < 2 * (probe.count // micro_batch):
        return False  # the weights were found at several parameter vectors at once
    elsewhere = measured_at(screening, [screening.mixed(44)], micro_batch, 3)
    expected = weights[elsewhere.members].sum(axis=2)
    return not np.allclose(elsewhere.coefficients, expected, rtol=_SAME_WEIGHT)


def unless_fixed(screening: Screening, composite: Structure, size: int) -> Structure:
    """A composite; a ratio of fixed weights if its coefficients are the same elsewhere."""
    elsewhere = screening.mixed(47)
    one, other = (measured_at(screening, [shift], size, 2) for shift in (None, elsewhere))
    if not all(split.determined for split in (*one.splits, *other.splits)):
        return composite
    loose = math.sqrt(screening.tolerance)  # as good as coefficients are known, see kind_of
    if np.allclose(one.coefficients, other.coefficients, rtol=loose):
        return Structure("ratio", None, residual=composite.residual)
    return composite


def _needs_several(evidence: Evidence, structure: Structure) -> bool:
    """Whether a kind shows only in partitions that differ."""
    if structure.kind == "interacting":
        return False
    return structure.kind == "composite" or (
        structure.kind == "ratio" and structure.normaliser not in evidence.candidates
    )


def _one_heard(evidence: Evidence) -> bool:
    """Whether no partition has two parts with a gradient."""
    heard = np.abs(evidence.parts).max(axis=-1, initial=0.0) > evidence.screening.tolerance
    return evidence.parts.size > 0 and int(heard.sum(axis=1).max()) < 2


def _coarsened(evidence: Evidence) -> Evidence:
    screening = dataclasses.replace(evidence.screening, tolerance=COARSE)
    return dataclasses.replace(evidence, screening=screening)

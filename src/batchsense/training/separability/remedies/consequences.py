"""What averaging makes of a gradient: micro-batches, processes, an uneven last micro-batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from batchsense.arrays import Floats, Places
from batchsense.training.separability.kind.evidence import Evidence
from batchsense.training.separability.probe.screening import Parts, Screening, partition
from batchsense.training.separability.remedies.comparison import named_factor, pure_scale
from batchsense.training.separability.report import Consequence

# A deviation is called a factor if the factor explains it but for this share.
_RELIABLE = 0.01
# Ways of splitting that are measured: one may agree by chance, as where both processes got as many
# labels. Four cost as much as a sixth of the partitions.
_DRAWS = 4


def equal_accumulation(gap: float, scale: float) -> Consequence:
    """Say of a mean of independent terms what averaging equal micro-batches does."""
    return Consequence(gap, scale, None, "The average equals the full gradient.")


def accumulation(evidence: Evidence) -> Consequence:
    """Say what averaging equal micro-batches does, over all partitions."""
    parts = evidence.members.shape[1]
    average = f"The average of {parts} micro-batches"
    gaps = [float(gap) for gap in np.linalg.norm(evidence.gaps, axis=1) / evidence.size]
    if max(gaps) < evidence.screening.tolerance:
        message = f"{average} equals the full gradient in {len(gaps)} partitions, not in all."
        return _drawn(gaps, evidence.scale, None, message)
    if _factor(evidence.deviation, evidence.scale, "K", parts) == "1/K":
        return _drawn(gaps, evidence.scale, "1/K", f"{average} is 1/{parts} of the full gradient.")
    return _drawn(gaps, evidence.scale, None, f"{average} differs by {_told(gaps)}.")


def ddp(screening: Screening, world_size: int, *, exact_mean: bool) -> Consequence:
    """Measure what averaging over processes does; once is enough for a mean of independent terms.

    A loss whose random numbers cannot be tied to its examples is measured without dropout.
    """
    count = screening.probe.count
    size = count // world_size
    if size < 1:
        return Consequence(None, None, None, "Not measured: fewer examples than processes.")
    kept = np.random.default_rng([screening.seed, 13]).permutation(count)[: size * world_size]
    draws = 1 if exact_mean else _DRAWS
    gaps, scale = _average_against_whole(screening.reseeded(screening.mixed(14)), kept, size, draws)
    if max(gaps) < screening.tolerance:
        message = f"The average over {world_size} processes is the full gradient"
        if not exact_mean:
            message += f" in {draws} splits; other shares may differ"
        return _drawn(gaps, scale, None, f"{message}.")
    factor = _factor(_rms(gaps), scale, "N", world_size)
    how = f"is {factor} times right" if factor else f"differs by {_told(gaps)}"
    return _drawn(gaps, scale, factor, f"Over {world_size} processes the gradient {how}.")


def uneven(screening: Screening, micro_batch: int, mean_parts: Parts | None = None) -> Consequence:
    """Measure the average of micro-batches of which the last has only half the examples.

    For a mean of independent terms, ``mean_parts`` are the measured equal parts: the full
    gradient follows from them, and only the halved part is measured.
    """
    short = micro_batch // 2
    if short < 1:
        return Consequence(None, None, None, "Not measured: micro-batches of one example.")
    if mean_parts is not None:
        half = screening.measured_parts([mean_parts.places[0][:short]], screening.seed)
        g = np.array([*mean_parts.gradients[1:], half.gradients[0]])
        sizes = np.array([micro_batch] * (len(g) - 1) + [short], dtype=float)
        gap, scale = _gap_and_scale(g.mean(axis=0), sizes @ g / sizes.sum())
        message = (
            f"With a last micro-batch of {short} a plain average gives its examples "
            f"{micro_batch / short:.3g} times the weight (deviation {gap:.3g}·|G|, once): weight "
            "each micro-batch by its number of examples."
        )
        return _drawn([gap], scale, None, message)
    count = screening.probe.count
    kept = np.random.default_rng([screening.seed, 15]).permutation(count)[: count - short]
    moved = screening.reseeded(screening.mixed(17))
    gaps, scale = _average_against_whole(moved, kept, micro_batch, _DRAWS)
    last = len(kept) % micro_batch or micro_batch
    message = f"With a last micro-batch of {last} the plain average differs by {_told(gaps)}."
    return _drawn(gaps, scale, None, message)


def _told(gaps: Sequence[float]) -> str:
    low, high = min(gaps), max(gaps)
    return f"{_rms(gaps):.3g}·|G| ({low:.3g} to {high:.3g} in {len(gaps)} splits)"


def _drawn(gaps: Sequence[float], scale: float, factor: str | None, message: str) -> Consequence:
    return Consequence(_rms(gaps), scale, factor, message, min(gaps), max(gaps), len(gaps))


def _rms(gaps: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(np.square(gaps))))


def _factor(gap: float, scale: float, name: str, parts: int) -> str | None:
    """Name the scale by the number of parts, if it explains the whole gap."""
    factor = named_factor(scale, {name: parts})
    return factor if abs(gap - abs(1 - scale)) < _RELIABLE * gap else None


def _average_against_whole(
    screening: Screening, members: Places, size: int, draws: int
) -> tuple[list[float], float]:
    """Relative gaps of averages over random partitions of ``members``, and their mean scale."""
    if screening.randomness == "free":
        screening = screening.silenced()
    whole = screening.probe.gradient(members, screening.seed, screening.randomness).gradient
    found = []
    for draw in range(draws):
        cut = partition(len(members), size, np.random.default_rng([screening.seed, 16, draw]))
        parts = screening.measured_parts([members[part] for part in cut], screening.seed)
        found.append(_gap_and_scale(parts.gradients.mean(axis=0), whole))
    return [gap for gap, _ in found], float(np.mean([scale for _, scale in found]))


def _gap_and_scale(average: Floats, whole: Floats) -> tuple[float, float]:
    """The relative gap of an average of parts, and the multiple of the whole nearest to it."""
    gap = float(np.linalg.norm(average - whole) / np.linalg.norm(whole))
    return gap, pure_scale(average, whole)[0]

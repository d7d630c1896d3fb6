"""What follows for training from the kind of a loss, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from batchsense.arrays import Floats, Places
from batchsense.training.separability.probe.screening import Parts, Screening, partition
from batchsense.training.separability.remedies.comparison import named_factor, pure_scale
from batchsense.training.separability.report import (
    EXAMPLE_FREE_TERM,
    Bias,
    Consequence,
    FoundNormaliser,
    Kind,
    Source,
    Verdict,
)

# A deviation is called a factor if the factor explains it but for this share.
_RELIABLE = 0.01
_HOLISTIC = (
    "compute the embeddings in micro-batches and the loss on all of them: chunked_gradient("
    "encoder, head, minibatch, micro_batch) gives the exact gradient in bounded memory"
)
_NORMS = (
    "use a normalisation per example (GroupNorm, LayerNorm) or frozen statistics (eval mode); "
    "SyncBatchNorm repairs DDP, not gradient accumulation"
)


def verdict_of(kind: Kind, bias: Bias | None, exact: bool, tolerance: float) -> Verdict:
    """Decide: yes if the average is the full gradient, or no bias is seen and little is possible.

    ``bias`` is None where the deviation is zero to rounding; ``exact`` tells whether the kind
    follows from equalities, and ``tolerance`` is the relative bias that is called safe.
    """
    if bias is None:
        return "yes"
    if bias.detected or (exact and kind in ("sum", "ratio", "composite")):
        return "no"
    return "yes" if bias.size.high < tolerance else "unresolved"


def source_in_loss(
    kind: Kind, description: str | None, normaliser: FoundNormaliser | None
) -> Source | None:
    """Name the source of a deviation where the kind tells it; None where it has to be searched.

    ``description`` is what was found to be special about a composite.
    """
    if kind == "sum":
        return Source("loss", "loss", "it adds its terms without dividing by their number")
    if kind == "ratio" and normaliser is not None:
        return Source("loss", "loss", f"it divides by its own {normaliser.name}")
    if kind == "composite":
        return Source(
            "loss",
            "loss",
            description
            or "a non-linear function of sums over the examples, or weights that move with the "
            "parameters",
        )
    return None


def fix_for(
    kind: Kind,
    normaliser: FoundNormaliser | None,
    sources: tuple[Source, ...],
    verdict: Verdict,
    bias: Bias | None,
    tolerance: float,
) -> str:
    """Say what to do, in one or two sentences."""
    if kind == "mean" and bias is None:
        return (
            "None needed: divide by the number of micro-batches if they are equal, else weight "
            "micro-batch k by n_k/n."
        )
    if kind == "sum":
        return (
            "Add the micro-batch gradients without dividing (scale 1); under DDP multiply the "
            "loss by the number of processes. accumulate(report) gives these scales."
        )
    if kind == "ratio":
        return _ratio(normaliser)
    if kind == "composite":
        if any(source.detail == EXAMPLE_FREE_TERM for source in sources):
            return (
                "Take the term without examples out of the micro-batch loss (or divide it by K); "
                "the rest is a sum: add the gradients."
            )
        return f"No fixed scale exists; {_HOLISTIC}."
    if verdict == "yes":
        return "None needed at this tolerance: the parts differ from the whole by noise alone."
    if verdict == "unresolved" and bias is not None:
        needed = bias.partitions * (bias.size.high / tolerance) ** 2
        undecided = f"Undecided: about {needed:.0f} partitions would bound the bias below"
        if kind == "mean":
            return (
                f"{undecided} {tolerance:.2g}. Better, let torch draw the random numbers for the "
                "whole minibatch at once, one row per example: then they can be tied to the "
                "examples and one partition decides; or switch them off for the audit."
            )
        return (
            f"{undecided} {tolerance:.2g}, or accept a larger bias tolerance. To be exact "
            f"instead: {_interacting(sources)}."
        )
    advice = _interacting(sources)
    return f"{advice[0].upper()}{advice[1:]}."


def _ratio(normaliser: FoundNormaliser | None) -> str:
    if normaliser is None or normaliser.weight is None:
        name = "its weight" if normaliser is None else normaliser.name
        return (
            f"Scale the loss of micro-batch k by w_k/W, where w is {name}; give it to the audit "
            "with normalisers={name: function of the minibatch} to have it checked."
        )
    whole = (
        "summed over all micro-batches (and processes)"
        if normaliser.additive
        else "taken of the whole minibatch"
    )
    return (
        f"Scale the loss of micro-batch k by w_k/W with w = {normaliser.name}, and W {whole} "
        "before the first backward; under DDP by w_k·world/W. accumulate(report) gives the scales."
    )


def _interacting(sources: tuple[Source, ...]) -> str:
    modules = [source for source in sources if source.place == "module"]
    norms = [source for source in modules if "Norm" in source.detail]
    advice = []
    if norms:
        advice.append(f"module {norms[0].name}: {_NORMS}")
    if others := [source for source in modules if source not in norms]:
        advice.append(
            f"module {others[0].name}: remove what it takes from other examples (batch "
            "statistics, a missing padding mask, sorting), or keep them in one micro-batch"
        )
    if len(modules) < len(sources) or not sources:
        advice.append(f"the loss: {_HOLISTIC}")
    return "; ".join(advice)


def accumulation(deviation: float, scale: float, parts: int, tolerance: float) -> Consequence:
    """Say what averaging equal micro-batches does."""
    factor = _factor(deviation, scale, "K", parts)
    if deviation < tolerance:
        return Consequence(deviation, scale, None, "The average equals the full gradient.")
    average = f"The average of {parts} micro-batches"
    if factor == "1/K":
        message = f"{average} is 1/{parts} of the full gradient."
        return Consequence(deviation, scale, factor, message)
    return Consequence(deviation, scale, None, f"{average} differs by {deviation:.3g}·|G|.")


def ddp(screening: Screening, world_size: int, *, exact_mean: bool) -> Consequence:
    """Predict what averaging over processes does."""
    if exact_mean:
        message = "The average over processes with equal shares is the full gradient."
        return Consequence(0.0, 1.0, None, message)
    count = screening.probe.count
    size = count // world_size
    if size < 1:
        return Consequence(None, None, None, "Not measured: fewer examples than processes.")
    order = np.random.default_rng([screening.seed, 13]).permutation(count)[: size * world_size]
    shards = list(order.reshape(world_size, size))
    gap, scale = _average_against_whole(screening.reseeded(screening.mixed(14)), order, shards)
    if gap < screening.tolerance:
        message = f"The average over {world_size} processes is the full gradient."
        return Consequence(gap, scale, None, message)
    factor = _factor(gap, scale, "N", world_size)
    how = f"is {factor} times right" if factor else f"differs by {gap:.3g}·|G|"
    message = f"Over {world_size} processes the gradient {how}."
    return Consequence(gap, scale, factor, message)


def uneven(screening: Screening, micro_batch: int, mean_parts: Parts | None = None) -> Consequence:
    """Measure the average of micro-batches of which the last has only half the examples.

    For a mean of independent terms, ``mean_parts`` are the measured equal parts: the full
    gradient follows from them, and only the halved part is measured.
    """
    short = micro_batch // 2
    if short < 1:
        return Consequence(None, None, None, "Not measured: micro-batches of one example.")
    if mean_parts is not None:
        last = screening.measured_parts([mean_parts.places[-1][:short]], screening.seed)
        g = np.array([*mean_parts.gradients[:-1], last.gradients[0]])
        sizes = np.array([micro_batch] * (len(g) - 1) + [short], dtype=float)
        gap, scale = _gap_and_scale(g.mean(axis=0), sizes @ g / sizes.sum())
        message = (
            f"With a last micro-batch of {short} a plain average gives its examples "
            f"{micro_batch / short:.3g} times the weight (deviation {gap:.3g}·|G|): weight each "
            "micro-batch by its number of examples."
        )
        return Consequence(gap, scale, None, message)
    count, seed = screening.probe.count, screening.seed
    kept = np.random.default_rng([seed, 15]).permutation(count)[: count - short]
    cut = partition(len(kept), micro_batch, np.random.default_rng([seed, 16]))
    places = [kept[part] for part in cut]
    gap, scale = _average_against_whole(screening.reseeded(screening.mixed(17)), kept, places)
    ending = f"With a last micro-batch of {len(places[-1])}"
    return Consequence(gap, scale, None, f"{ending} the plain average differs by {gap:.3g}·|G|.")


def _factor(gap: float, scale: float, name: str, parts: int) -> str | None:
    """Name the scale by the number of parts, if it explains the whole gap."""
    factor = named_factor(scale, {name: parts})
    return factor if abs(gap - abs(1 - scale)) < _RELIABLE * gap else None


def _average_against_whole(
    screening: Screening, members: Places, parts: Sequence[Places]
) -> tuple[float, float]:
    if screening.randomness == "free":
        screening = screening.silenced()
    whole = screening.probe.gradient(members, screening.seed, screening.randomness).gradient
    return _gap_and_scale(
        screening.measured_parts(parts, screening.seed).gradients.mean(axis=0), whole
    )


def _gap_and_scale(average: Floats, whole: Floats) -> tuple[float, float]:
    """The relative gap of an average of parts, and the multiple of the whole nearest to it."""
    gap = float(np.linalg.norm(average - whole) / np.linalg.norm(whole))
    return gap, pure_scale(average, whole)[0]

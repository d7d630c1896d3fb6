"""What to do about a loss that cannot simply be split."""

from __future__ import annotations

from batchsense.training.separability.kind.evidence import EXAMPLE_FREE_TERM
from batchsense.training.separability.kind.structure import Structure
from batchsense.training.separability.report import (
    Bias,
    FoundNormaliser,
    Source,
    Verdict,
)

_HOLISTIC = (
    "compute the embeddings in micro-batches and the loss on all of them: chunked_gradient("
    "encoder, head, minibatch, micro_batch) gives the exact gradient in bounded memory"
)
_NORMS = (
    "use a normalisation per example (GroupNorm, LayerNorm) or frozen statistics (eval mode); "
    "SyncBatchNorm repairs DDP, not gradient accumulation"
)


def verdict_of(structure: Structure, bias: Bias | None, exact: bool, tolerance: float) -> Verdict:
    """Decide: yes if the average is the full gradient, or no bias is seen and little is possible.

    Parameters
    ----------
    structure : Structure
        The kind.
    bias : Bias or None
        None where the deviation is zero to rounding.
    exact : bool
        Whether the kind follows from equalities.
    tolerance : float
        The relative bias that is called safe.
    """
    if bias is None:
        return "yes"
    if bias.detected or (exact and structure.kind in ("sum", "ratio", "composite")):
        return "no"
    return "yes" if bias.size.high < tolerance else "unresolved"


def fix_for(
    structure: Structure,
    normaliser: FoundNormaliser | None,
    sources: tuple[Source, ...],
    verdict: Verdict,
    bias: Bias | None,
    tolerance: float,
) -> str:
    """Say what to do, in one or two sentences."""
    if structure.kind == "mean" and bias is None:
        return (
            "None needed: divide by the number of micro-batches if they are equal, else weight "
            "micro-batch k by n_k/n."
        )
    if structure.kind == "sum":
        return (
            "Add the micro-batch gradients without dividing (scale 1); under DDP multiply the "
            "loss by the number of processes. accumulate(report) gives these scales."
        )
    if structure.kind == "ratio":
        return _ratio(normaliser)
    if structure.kind == "composite":
        if structure.normaliser == EXAMPLE_FREE_TERM:
            return (
                "Take the term without examples out of the micro-batch loss (or divide it by K); "
                "the rest is a sum: add the gradients."
            )
        return f"No fixed scale exists; {_HOLISTIC}."
    if verdict == "yes":
        return "None needed at this tolerance: the parts differ from the whole by noise alone."
    if verdict == "unresolved" and bias is not None:
        needed = bias.partitions * (bias.size.high / tolerance) ** 2
        if structure.kind == "mean":
            return (
                f"Undecided: about {needed:.0f} partitions would bound the bias below "
                f"{tolerance:.2g}. Better, let torch draw the random numbers for the whole "
                "minibatch at once, one row per example: then they can be tied to the examples "
                "and one partition decides; or switch them off for the audit."
            )
        return (
            f"Undecided: about {needed:.0f} partitions would bound the bias below "
            f"{tolerance:.2g}, or accept a larger bias tolerance. To be exact instead: "
            f"{_interacting(sources)}."
        )
    advice = _interacting(sources)
    return f"{advice[0].upper()}{advice[1:]}."


def _ratio(normaliser: FoundNormaliser | None) -> str:
    """Say how to reweight a ratio."""
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
    """Say what to do where examples act on each other, by the first place where they do."""
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

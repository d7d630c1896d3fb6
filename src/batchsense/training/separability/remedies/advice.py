"""What to do about a loss, from its kind and the places where its examples meet."""

from __future__ import annotations

from batchsense.training.separability.report import (
    BROADCAST,
    EXAMPLE_FREE_TERM,
    Bias,
    FoundNormaliser,
    Kind,
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


def verdict_of(kind: Kind, bias: Bias | None, exact: bool, tolerance: float) -> Verdict:
    """Decide for a deviation that is not zero: yes if no bias is seen and little is possible.

    ``bias`` is None where it is withheld; ``exact`` tells whether the kind follows from
    equalities, and ``tolerance`` is the relative bias that is called safe.
    """
    if exact and kind in ("sum", "ratio", "composite"):
        return "no"
    if bias is None:
        return "unresolved"
    if bias.detected:
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
    if kind == "interacting" and normaliser is not None:
        detail = f"its terms divide by different counts of the minibatch: {normaliser.name}"
        return Source("loss", "loss", detail)
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
    if kind == "mean" and verdict == "yes" and bias is None:
        return (
            "Divide by the number of micro-batches if they are equal, else weight "
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
        return (
            "The weights of the parts move with the parameters, so no fixed scale exists; "
            f"{_HOLISTIC}."
        )
    if kind == "interacting" and normaliser is not None:
        return (
            "Scale each term by its own share: in micro-batch k multiply it by w_k/W, with w what "
            f"it divides by ({normaliser.name}) and W that of all micro-batches and processes. "
            "audit(terms={name: term}) checks the terms one by one."
        )
    if verdict == "yes":
        return "None needed at this tolerance: the parts differ from the whole by noise alone."
    if verdict == "unresolved" and bias is not None and bias.size.high >= tolerance:
        needed = bias.partitions * (bias.size.high / tolerance) ** 2
        undecided = (
            f"Undecided: if there is no bias, about {needed:.0f} partitions would bound the bias "
            "below"
        )
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
    if verdict == "unresolved":
        undecided = "Undecided: audit micro-batches of another size, two examples or more."
        if bias is not None:
            undecided = "Undecided: how far depends on which lengths come together."
        return f"{undecided} To be exact: {_interacting(sources)}."
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
    if shapes := [source for source in sources if BROADCAST in source.detail]:
        where = f" at {shapes[0].where}" if shapes[0].where else ""
        advice.append(
            f"the loss{where}: give both tensors one shape (squeeze or unsqueeze one of them), so "
            "that each example meets its own target; if all pairs are meant, "
            f"{_HOLISTIC}"
        )
    elif len(modules) < len(sources) or not sources:
        advice.append(f"the loss: {_HOLISTIC}")
    return "; ".join(advice)

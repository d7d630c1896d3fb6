"""The learning rate that matches a new batch size, by a rule with a name."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch

Rule = Literal["linear", "saturating", "square_root", "unchanged"]
Family = Literal["sgd", "adam", "other"]

_ADAM_LIKE = ("Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop", "Adagrad", "Adadelta")
_DECOUPLED = ("AdamW",)

#: What each rule assumes, in words.
VALIDITY: dict[Rule, str] = {
    "linear": "holds while the batch size stays well below the critical one",
    "saturating": "the step of a quadratic loss whose noise is known; tends to linear below the "
    "critical batch size and to a constant above it",
    "square_root": "for optimizers that divide by the gradient's size; tried up to 8 times the "
    "batch size, drifts at 32 times",
    "unchanged": "no rule is known for this optimizer",
}


@dataclass(frozen=True, slots=True)
class LearningRate:
    """A learning rate for a batch size, and why.

    Attributes
    ----------
    learning_rate : float
        For the new batch size; of the first parameter group.
    factor : float
        New over old learning rate, the same for all groups.
    rule : str
        ``linear``, ``saturating``, ``square_root`` or ``unchanged``.
    validity : str
        What the rule assumes.
    from_batch_size, to_batch_size : int
        The batch size that the old learning rate belongs to, and the new one.
    beta2, epsilon, weight_decay : float or None
        Their new values where the optimizer has them and they change; None otherwise.
    doubts : tuple of str
        Where the rule is stretched.
    """

    learning_rate: float
    factor: float
    rule: Rule
    validity: str
    from_batch_size: int
    to_batch_size: int
    beta2: float | None
    epsilon: float | None
    weight_decay: float | None
    doubts: tuple[str, ...]

    @property
    def changes(self) -> bool:
        """Whether the batch size is another one, so that the rule matters."""
        return self.from_batch_size != self.to_batch_size


@dataclass(frozen=True, slots=True)
class _Changed:
    """New values of the settings that an Adam-like optimizer has; None where one stays."""

    beta2: float | None = None
    epsilon: float | None = None
    weight_decay: float | None = None


def optimizer_family(optimizer: torch.optim.Optimizer) -> Family:
    """Say which family of rules an optimizer follows.

    >>> optimizer_family(torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))]))
    'adam'
    """
    names = {kind.__name__ for kind in type(optimizer).__mro__}
    if names & set(_ADAM_LIKE):
        return "adam"
    return "sgd" if "SGD" in names else "other"


def learning_rate_factor(
    rule: Rule,
    from_batch_size: float,
    to_batch_size: float,
    critical_batch_size: float | None = None,
) -> float:
    """Give the factor on the learning rate when the batch size changes from B to kB.

    Linear k; square root √k; saturating :math:`(1 + B_{crit}/B) / (1 + B_{crit}/(kB))`. Sources:
    McCandlish et al. (2018), arXiv:1812.06162, equation 2.7; Malladi et al. (2022),
    arXiv:2205.10287.
    """
    if from_batch_size <= 0 or to_batch_size <= 0:
        raise ValueError(f"batch sizes must be positive, not {from_batch_size} and {to_batch_size}")
    ratio = to_batch_size / from_batch_size
    if rule == "saturating":
        if critical_batch_size is None:
            raise ValueError("the saturating rule needs the critical batch size")
        critical = critical_batch_size
        return (1 + critical / from_batch_size) / (1 + critical / to_batch_size)
    return {"linear": ratio, "square_root": math.sqrt(ratio), "unchanged": 1.0}[rule]


def matching_learning_rate(
    optimizer: torch.optim.Optimizer,
    from_batch_size: int,
    to_batch_size: int,
    critical_batch_size: float | None = None,
) -> LearningRate:
    """Give the learning rate for a new batch size; the optimizer is not changed.

    SGD follows the saturating rule, or the linear one where B_crit is unknown; optimizers of the
    Adam family follow the square root, with β₂ to the power k, ε divided by √k and, for AdamW,
    weight decay times √k. Sources: Malladi et al. (2022), arXiv:2205.10287; Bergsma et al. (2025),
    arXiv:2505.13738.
    """
    rule = _rule_for(optimizer, critical_batch_size)
    factor = learning_rate_factor(rule, from_batch_size, to_batch_size, critical_batch_size)
    group = optimizer.param_groups[0]
    changed = _changed(group, optimizer, rule, to_batch_size / from_batch_size)
    return LearningRate(
        learning_rate=float(group["lr"]) * factor,
        factor=factor,
        rule=rule,
        validity=VALIDITY[rule],
        from_batch_size=from_batch_size,
        to_batch_size=to_batch_size,
        beta2=changed.beta2,
        epsilon=changed.epsilon,
        weight_decay=changed.weight_decay,
        doubts=_doubts(optimizer, rule, from_batch_size, to_batch_size, critical_batch_size),
    )


def rescale(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Change an optimizer in place for a batch size ``factor`` times as large.

    Every parameter group is changed, with ``initial_lr`` where a scheduler has set it. The rule is
    linear for SGD and the square root, with β₂, ε and AdamW's weight decay, for the Adam family.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        To change.
    factor : float
        k, new over old batch size; positive.

    Raises
    ------
    ValueError
        ``factor`` is not positive, or no rule is known for this optimizer.

    Examples
    --------
    >>> adam = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    >>> rescale(adam, 4)
    >>> adam.param_groups[0]["lr"], round(adam.param_groups[0]["betas"][1], 6)
    (0.002, 0.996006)
    """
    if not factor > 0 or not math.isfinite(factor):
        raise ValueError(f"factor must be positive and finite, not {factor}")
    rule = _rule_for(optimizer, None)
    if rule == "unchanged":
        raise ValueError(f"no rule is known for {type(optimizer).__name__}")
    change = learning_rate_factor(rule, 1.0, factor)
    for group in optimizer.param_groups:
        changed = _changed(group, optimizer, rule, factor)
        if changed.beta2 is not None:
            group["betas"] = (group["betas"][0], changed.beta2)
        if changed.epsilon is not None:
            group["eps"] = changed.epsilon
        if changed.weight_decay is not None:
            group["weight_decay"] = changed.weight_decay
        for name in ("lr", "initial_lr"):
            if isinstance(group.get(name), torch.Tensor):
                group[name].mul_(change)
            elif name in group:
                group[name] *= change


def follow_batch_size(
    optimizer: torch.optim.Optimizer,
    from_batch_size: int,
    to_batch_size: int,
    critical_batch_size: float | None = None,
    multiplier: float = 1.0,
) -> None:
    """Change an optimizer in place as :func:`matching_learning_rate` says, times ``multiplier``.

    >>> sgd = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    >>> follow_batch_size(sgd, 32, 128, critical_batch_size=128)
    >>> sgd.param_groups[0]["lr"]
    0.25
    """
    rule = _rule_for(optimizer, critical_batch_size)
    if rule == "square_root":
        rescale(optimizer, to_batch_size / from_batch_size)
    else:
        multiplier *= learning_rate_factor(
            rule, from_batch_size, to_batch_size, critical_batch_size
        )
    for group in optimizer.param_groups:
        if isinstance(group.get("lr"), torch.Tensor):
            group["lr"].mul_(multiplier)
        elif "lr" in group:
            group["lr"] *= multiplier


def _rule_for(optimizer: torch.optim.Optimizer, critical: float | None) -> Rule:
    family = optimizer_family(optimizer)
    if family == "adam":
        return "square_root"
    if family == "sgd":
        return "linear" if critical is None else "saturating"
    return "unchanged"


def _changed(
    group: dict[str, Any], optimizer: torch.optim.Optimizer, rule: Rule, ratio: float
) -> _Changed:
    if rule != "square_root" or optimizer_family(optimizer) != "adam":
        return _Changed()
    root = math.sqrt(ratio)
    decoupled = type(optimizer).__name__ in _DECOUPLED or group.get("decoupled_weight_decay")
    decay = group.get("weight_decay")
    return _Changed(
        beta2=float(group["betas"][1]) ** ratio if "betas" in group else None,
        epsilon=group["eps"] / root if isinstance(group.get("eps"), float) else None,
        weight_decay=decay * root if decoupled and decay else None,
    )


def _doubts(
    optimizer: torch.optim.Optimizer, rule: Rule, start: int, end: int, critical: float | None
) -> tuple[str, ...]:
    doubts = []
    ratio = max(end / start, start / end)
    if rule == "square_root" and ratio > 8:
        doubts.append(f"the batch size changes {ratio:.0f}-fold; the rule was tried up to 8-fold")
    if rule == "unchanged":
        doubts.append(f"no rule is known for {type(optimizer).__name__}: search anew")
    if critical is not None and end > critical / 2 and end > start and rule != "unchanged":
        doubts.append(
            f"the batch size is {end / critical:.2g} times the critical one, and beyond half of it "
            "learning rates stop growing; try half of this one too"
        )
    if rule in ("linear", "saturating"):
        doubts.append("rules for SGD are untested on deep nets; watch the first steps")
    return tuple(doubts)

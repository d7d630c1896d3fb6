"""Learning rates follow the batch size by the rule of their optimizer."""

import pytest
import torch
from torch import nn

from batchsense.training import rescale
from batchsense.training.learning_rate import (
    learning_rate_factor,
    matching_learning_rate,
    optimizer_family,
)


def parameters() -> list[nn.Parameter]:
    """Make one parameter."""
    return [nn.Parameter(torch.zeros(2))]


def test_families_are_recognised_also_when_subclassed() -> None:
    """SGD, the Adam family, and what is neither."""

    class Mine(torch.optim.AdamW):
        pass

    assert optimizer_family(torch.optim.SGD(parameters(), lr=1)) == "sgd"
    assert optimizer_family(Mine(parameters())) == "adam"
    assert optimizer_family(torch.optim.Rprop(parameters())) == "other"


def test_saturating_rule_tends_to_linear_and_to_a_constant() -> None:
    """Far below B_crit it is linear, far above it stands still, at B_crit it has half its most."""
    assert learning_rate_factor("saturating", 1, 4, 1e9) == pytest.approx(4, rel=1e-6)
    assert learning_rate_factor("saturating", 1e6, 4e6, 1) == pytest.approx(1, rel=1e-5)
    most = learning_rate_factor("saturating", 8, 1e12, 64)
    assert learning_rate_factor("saturating", 8, 64, 64) == pytest.approx(most / 2)


@pytest.mark.parametrize("rule", ["linear", "saturating", "square_root", "unchanged"])
def test_rules_compose_and_invert(rule: str) -> None:
    """From 16 to 64 and on to 256 is from 16 to 256; and back again is nothing."""
    there = learning_rate_factor(rule, 16, 64, 100) * learning_rate_factor(rule, 64, 256, 100)
    back = learning_rate_factor(rule, 256, 16, 100)

    assert learning_rate_factor(rule, 16, 256, 100) == pytest.approx(there)
    assert there * back == pytest.approx(1)


def test_adamw_is_rescaled_in_every_group() -> None:
    """√k for the rate and the decay, β₂ to the power k, ε over √k, β₁ as it was."""
    optimizer = torch.optim.AdamW(
        [
            {"params": parameters(), "lr": 1e-3, "weight_decay": 0.1},
            {"params": parameters(), "lr": 1e-2, "weight_decay": 0.0},
        ]
    )
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    rescale(optimizer, 4)
    first, second = optimizer.param_groups

    assert (first["lr"], first["initial_lr"], second["lr"]) == pytest.approx((2e-3, 2e-3, 2e-2))
    assert (first["weight_decay"], second["weight_decay"]) == pytest.approx((0.2, 0.0))
    assert first["betas"] == pytest.approx((0.9, 0.999**4))
    assert first["eps"] == pytest.approx(5e-9)


def test_sgd_keeps_momentum_and_decay() -> None:
    """Only the rate changes, linearly."""
    optimizer = torch.optim.SGD(parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    rescale(optimizer, 0.5)
    group = optimizer.param_groups[0]

    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.05, 0.9, 1e-4)


def test_matching_changes_nothing_and_names_its_doubts() -> None:
    """It gives numbers; a large change and a size beyond half of B_crit are doubted."""
    optimizer = torch.optim.Adam(parameters(), lr=1e-3)
    rate = matching_learning_rate(optimizer, 32, 512, critical_batch_size=400)

    assert rate.learning_rate == pytest.approx(4e-3)
    assert rate.rule == "square_root"
    assert rate.beta2 == pytest.approx(0.999**16)
    assert rate.weight_decay is None
    assert len(rate.doubts) == 2
    assert optimizer.param_groups[0]["lr"] == 1e-3


def test_wrong_factors_are_refused() -> None:
    """Zero, negative and infinite factors; an optimizer without a rule."""
    optimizer = torch.optim.SGD(parameters(), lr=0.1)
    for factor in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="positive"):
            rescale(optimizer, factor)
    with pytest.raises(ValueError, match="no rule is known for Rprop"):
        rescale(torch.optim.Rprop(parameters()), 2)
    with pytest.raises(ValueError, match="critical batch size"):
        learning_rate_factor("saturating", 1, 2)


def test_small_noise_steps_are_equivalent_under_the_linear_rule() -> None:
    """Two SGD steps at B equal one at 2B with twice the rate, to first order in the rate."""
    torch.manual_seed(0)
    inputs, rate = torch.randn(8, 3), 1e-4
    ends = []
    for parts, factor in ((2, 1), (1, 2)):
        model = nn.Linear(3, 1)
        nn.init.ones_(model.weight)
        nn.init.zeros_(model.bias)
        optimizer = torch.optim.SGD(model.parameters(), lr=rate)
        if factor > 1:
            rescale(optimizer, factor)
        for part in inputs.chunk(parts):
            optimizer.zero_grad()
            model(part).square().mean().backward()
            optimizer.step()
        ends.append(model.weight.detach() - 1)

    torch.testing.assert_close(ends[0], ends[1], rtol=2e-3, atol=0)

"""A meter does not alter training, and leaves nothing behind."""

from __future__ import annotations

import pytest
import torch
from meter_loops import (
    INPUTS,
    TARGETS,
    assert_rows,
    net,
    parts_of_step,
    rows,
    train,
)
from torch import Tensor, nn
from torch.nn import functional

from batchsense.training import GradientNoiseMeter, LossForm


def weights(model: nn.Module) -> Tensor:
    """All weights as one vector."""
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


@pytest.mark.parametrize("mode", ["per_example", "micro_batch"])
@pytest.mark.parametrize("set_to_none", [True, False])
@pytest.mark.parametrize("clip", [True, False])
def test_the_weights_are_the_same_bit_for_bit(mode: str, set_to_none: bool, clip: bool) -> None:
    """With and without meter, with momentum and clipping, training ends at the same weights."""
    results = []
    for measuring in (True, False):
        model = net()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        form = LossForm(loss_scale=0.5)
        meter = GradientNoiseMeter(model, optimizer, mode=mode, every=2, form=form)
        if measuring:
            meter.attach()
        torch.manual_seed(3)
        for step in range(20):
            optimizer.zero_grad(set_to_none=set_to_none)
            for chosen in parts_of_step(step, (8, 8)):
                noisy = functional.dropout(INPUTS[chosen], 0.2)
                ((model(noisy)[:, 0] - TARGETS[chosen]).square().mean() / 2).backward()
            if clip:
                nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
        meter.detach()
        assert meter.measured == (10 if measuring else 0)
        results.append((weights(model), torch.rand(1)))

    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_nothing_is_left_behind() -> None:
    """After the block neither model, parameters nor optimizer hold a hook."""
    model = net()
    train(model, 3)

    assert not model._forward_pre_hooks
    assert not model._forward_hooks
    assert all(not parameter._backward_hooks for parameter in model.parameters())


def test_clipping_does_not_change_what_is_measured() -> None:
    """Gradients are read when the backward pass ends, before they are clipped."""
    frozen = net(torch.float64)
    clipped = train(
        frozen, 5, (4, 4), mode="micro_batch", learning_rate=0.0,
        before_step=lambda model: nn.utils.clip_grad_norm_(model.parameters(), 1e-3),
    )  # fmt: skip
    plain = train(frozen, 5, (4, 4), mode="micro_batch", learning_rate=0.0)

    assert_rows(clipped, [(r.trace_covariance, r.squared_gradient_norm) for r in rows(plain)])


def test_only_every_kth_step_is_measured() -> None:
    """The first step and every third after it."""
    meter = train(net(), 10, every=3)

    assert [row.step for row in rows(meter)] == [0, 3, 6, 9]
    assert meter.steps == 10

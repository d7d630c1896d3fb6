"""A survey of a training job: exact where everything is seen, honest where it is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from batchsense.errors import DataError, UnresolvedError
from batchsense.training import (
    ShortRun,
    Workload,
    charlm_workload,
    digits_workload,
    measure_gradient_noise,
    survey_gradient_noise,
)

INPUTS = torch.randn(300, 5, generator=torch.Generator().manual_seed(0)).double()
TARGETS = INPUTS.sum(dim=1) + torch.randn(300, generator=torch.Generator().manual_seed(1))


def square(model: nn.Module, minibatch: list[Tensor]) -> Tensor:
    """Mean squared error."""
    return (model(minibatch[0])[:, 0] - minibatch[1]).square().mean()


def job(model: nn.Module) -> Workload:
    """A regression of 300 examples."""
    return Workload(
        model=model.double(),
        loss=square,
        examples=TensorDataset(INPUTS, TARGETS),
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.01),
    )


def gradients(workload: Workload) -> np.ndarray:
    """The gradient of every example, by plain autograd."""
    model = workload.fresh_model()
    found = []
    for index in range(len(workload.examples)):
        loss = workload.loss(model, workload.minibatch([index]))
        parts = torch.autograd.grad(loss, list(model.parameters()))
        found.append(torch.cat([part.reshape(-1) for part in parts]).double().numpy())
    return np.stack(found)


def net() -> nn.Module:
    """Two layers."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1))


def test_all_examples_give_the_exact_noise_of_every_layer() -> None:
    """Where every example is drawn, noise and shares equal a loop over all, to rounding."""
    workload = job(net())
    found = survey_gradient_noise(workload, 300, 30, run=None)
    single = gradients(workload)
    mean = single.mean(axis=0)
    variances = ((single - mean) ** 2).mean(axis=0)

    assert found.single_examples
    assert found.noise.examples_used == 300
    assert found.noise.noise_scale.estimate == pytest.approx(variances.sum() / (mean @ mean))
    assert found.noise.noise_scale.ratio == pytest.approx(1.0)
    shares = [layer.noise_share.estimate for layer in found.layers]
    assert shares == pytest.approx([variances[:48].sum() / variances.sum(),
                                    variances[48:].sum() / variances.sum()])  # fmt: skip
    scales = [layer.noise_scale.estimate for layer in found.layers]
    assert scales[1] == pytest.approx(variances[48:].sum() / (mean[48:] @ mean[48:]))


def test_micro_batches_equal_the_plain_measurement() -> None:
    """Without single examples it is ``measure_gradient_noise``, intervals included."""
    workload = digits_workload()
    found = survey_gradient_noise(workload, 512, per_example=False, run=None, seed=3).noise
    plain = measure_gradient_noise(workload, 512, seed=3)

    for name in ("noise_scale", "trace_covariance", "squared_gradient_norm"):
        one, two = getattr(found, name), getattr(plain, name)
        assert (one.estimate, one.low, one.high) == pytest.approx((two.estimate, two.low, two.high))
    assert (found.branch, found.examples_used) == (plain.branch, plain.examples_used)


@pytest.mark.slow
@pytest.mark.parametrize("per_example", [True, False])
def test_intervals_cover_on_a_real_net(per_example: bool) -> None:
    """Drawn anew 60 times, at most 8 intervals miss the truth (one chance in 100 if 95 % hold).

    Quick twins: micro-batches equal the plain measurement, whose intervals are judged beside it.
    """
    workload = digits_workload()
    single = gradients(workload)
    mean = single.mean(axis=0)
    truth = float(((single - mean) ** 2).sum() / len(single) / (mean @ mean))
    missed = 0
    for seed in range(60):
        found = survey_gradient_noise(
            workload, 256, 32, per_example=per_example, run=None, seed=seed
        )
        missed += truth not in found.noise.noise_scale

    assert missed <= 8


def test_the_model_is_not_changed() -> None:
    """Weights, gradients and the random state are as before."""
    workload = job(net())
    before = [p.detach().clone() for p in workload.model.parameters()]
    state = torch.get_rng_state()
    survey_gradient_noise(workload, 64, 8, run=ShortRun(20))

    assert all(torch.equal(p, q) for p, q in zip(workload.model.parameters(), before, strict=True))
    assert all(p.grad is None for p in workload.model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_the_same_seed_gives_the_same_numbers() -> None:
    """Draw, split, dropout and run repeat exactly."""
    torch.manual_seed(0)
    workload = job(nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.3), nn.Tanh(), nn.Linear(8, 1)))
    one, two = (
        survey_gradient_noise(workload, 128, 16, run=ShortRun(20), seed=5) for _ in range(2)
    )

    assert one == two
    assert one != survey_gradient_noise(workload, 128, 16, run=ShortRun(20), seed=6)


class Recurrent(nn.Module):
    """A layer whose single gradients no rule covers, and one that is covered."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cell = nn.GRU(5, 4, batch_first=True)
        self.out = nn.Linear(4, 1)

    def forward(self, values: Tensor) -> Tensor:
        """Read each number as one element of a sequence."""
        states, _ = self.cell(values.unsqueeze(1))
        return self.out(states[:, -1])


def test_a_layer_that_is_not_covered_takes_micro_batches() -> None:
    """Only that layer: the noise of the other one is still exact where all examples are drawn."""
    workload = job(Recurrent())
    found = survey_gradient_noise(workload, 300, 30, run=None)
    single = gradients(workload)
    variances = ((single - single.mean(axis=0)) ** 2).mean(axis=0)
    cell, out = found.layers

    assert [c.code for c in found.cautions] == ["partly_micro_batches"]
    assert out.name == "out"
    mean = single.mean(axis=0)[-5:]
    assert out.noise_scale.estimate == pytest.approx(variances[-5:].sum() / (mean @ mean))
    assert variances[:-5].sum() / variances.sum() in cell.noise_share
    assert cell.noise_share.low < cell.noise_share.high


def test_batch_norm_falls_back_unless_single_examples_are_insisted_on() -> None:
    """The caution names the module and what it does."""
    workload = job(nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)))
    found = survey_gradient_noise(workload, 128, 16, run=None)

    assert not found.single_examples
    assert [c.code for c in found.cautions] == ["coupled_examples", "micro_batches"]
    with pytest.raises(DataError, match="BatchNorm1d"):
        survey_gradient_noise(workload, 128, 16, per_example=True, run=None)


def test_adam_and_large_runs_are_cautioned() -> None:
    """The critical batch size of Adam is a rough guide."""
    found = survey_gradient_noise(charlm_workload(), 32, 8, run=ShortRun(16))

    assert "adaptive_optimizer" in [c.code for c in found.cautions]
    assert found.path is not None
    assert found.path.batch_size == 16


def test_what_cannot_be_surveyed() -> None:
    """Too few steps or examples, and a summed loss, are refused with what to do."""
    workload = job(net())
    with pytest.raises(DataError, match="16 or more"):
        survey_gradient_noise(workload, run=ShortRun(5))
    few = replace(workload, examples=TensorDataset(INPUTS[:5], TARGETS[:5]))
    with pytest.raises(UnresolvedError, match="8 or more examples"):
        survey_gradient_noise(few, run=None)
    summed = replace(workload, loss=lambda model, m: square(model, m) * len(m[0]))
    with pytest.raises(DataError, match="mean"):
        survey_gradient_noise(summed, run=None)

"""The quick audit goes before every plan: means pass, others warn, other objectives are refused."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from batchsense.errors import UnresolvedError
from batchsense.training import Workload, digits_workload, plan_training, survey_gradient_noise
from batchsense.training.separability.objective import check_objective


def pairs(loss) -> Workload:
    """A job over two views of 200 examples."""
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(200, 6, generator=generator)
    other = one + 0.3 * torch.randn(200, 6, generator=generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 4))
    return Workload(
        model=model,
        loss=loss,
        examples=TensorDataset(one, other),
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.05),
        batch_size=16,
    )


def contrastive(model, minibatch):
    """In-batch negatives."""
    one, other = (functional.normalize(model(part), dim=1) for part in minibatch)
    return functional.cross_entropy(one @ other.T / 0.2, torch.arange(len(one)))


def weighted(model, minibatch):
    """A ratio: weights over their sum."""
    weights = minibatch[0][:, 0].exp()
    errors = (model(minibatch[0]) - model(minibatch[1])).square().sum(1)
    return (weights * errors).sum() / weights.sum()


def ranking(model, minibatch):
    """A mean over pairs: examples interact, but parts average to the whole (a U-statistic)."""
    scores = model(minibatch[0])[:, 0]
    wanted = minibatch[1][:, 0]
    gaps = scores[:, None] - scores[None]
    above = wanted[:, None] > wanted[None]
    return functional.softplus(-gaps)[above].sum() / (len(scores) * (len(scores) - 1))


def test_a_mean_passes() -> None:
    """Nothing to say about the digits."""
    assert check_objective(digits_workload()) == []


def test_a_ratio_is_a_caution_in_the_plan() -> None:
    """A weighted mean is planned, with the audit named as the next step."""
    plan = plan_training(pairs(weighted), seconds=1)
    doubt = next(d for d in plan.doubts if d.code == "loss_not_a_mean")

    assert "batchsense audit" in doubt.message


def test_another_objective_is_refused_by_plan_and_noise() -> None:
    """In-batch negatives: the bias, its interval and the audit stand in the refusal."""
    with pytest.raises(UnresolvedError, match=r"objective itself changes.*% to") as error:
        plan_training(pairs(contrastive), seconds=1)
    assert "batchsense audit" in str(error.value.needed)
    with pytest.raises(UnresolvedError, match="objective itself changes"):
        survey_gradient_noise(pairs(contrastive), 64, run=None)


def test_interaction_without_bias_is_no_reason_to_refuse() -> None:
    """A loss over pairs deviates, but only as noise: a caution."""
    assert [caution.code for caution in check_objective(pairs(ranking))] == ["loss_not_a_mean"]

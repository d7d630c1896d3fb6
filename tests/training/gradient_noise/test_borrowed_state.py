"""A survey leaves the generators of the user where they were."""

import torch
from torch import nn

from batchsense.training import Workload, survey_gradient_noise


def test_a_survey_of_dropout_draws_nothing_of_the_users() -> None:
    """Also the check of a few examples, which comes first."""
    inputs = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    job = Workload(
        nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1)),
        lambda model, minibatch: model(minibatch).square().mean(),
        inputs,
        lambda parameters: torch.optim.SGD(parameters, lr=0.01),
    )
    before = torch.get_rng_state()
    assert survey_gradient_noise(job, 64, 8, run=None).single_examples
    assert torch.equal(torch.get_rng_state(), before)

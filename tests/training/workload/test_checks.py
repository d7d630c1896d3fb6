"""What would give wrong numbers later is refused or told before anything is measured."""

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from batchsense.errors import DataError
from batchsense.training import Workload, check_workload
from batchsense.training.workload import coupled_modules

DATA = TensorDataset(torch.randn(20, 3, generator=torch.Generator().manual_seed(0)), torch.ones(20))


def mean_loss(model: nn.Module, minibatch: list[torch.Tensor]) -> torch.Tensor:
    """Give the mean squared error."""
    return (model(minibatch[0])[:, 0] - minibatch[1]).square().mean()


def job(loss: object = mean_loss, model: nn.Module | None = None, examples: object = DATA):
    """Make a workload with some part replaced."""
    return Workload(
        nn.Linear(3, 2) if model is None else model,
        loss,  # type: ignore[arg-type]
        examples,  # type: ignore[arg-type]
        lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    )


def test_a_sound_workload_passes() -> None:
    """Its sizes are counted."""
    check = check_workload(job())

    assert (check.examples, check.parameters, check.coupled_modules) == (20, 8, ())


def other_model_loss(outside: nn.Module):
    """Make a loss that ignores the model it is given."""
    return lambda model, minibatch: mean_loss(outside, minibatch)


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda m, b: m(b[0]), r"shape \(8, 2\); return one number"),
        (lambda m, b: mean_loss(m, b) * float("nan"), "the loss is nan"),
        (lambda m, b: mean_loss(m, b) / 0, "the loss is inf"),
        (lambda m, b: mean_loss(m, b).item(), "returned a float"),
        (lambda m, b: mean_loss(m, b).detach(), "no gradient"),
        (other_model_loss(nn.Linear(3, 2)), "does not depend on the model it is given"),
        (lambda m, b: m(b[0]).no_such_method(), r"the loss raised AttributeError.*test_checks.py"),
        (lambda m, b: 8 * mean_loss(m, b) if len(b[1]) == 8 else 4 * mean_loss(m, b), "the sum"),
    ],
)
def test_losses_that_cannot_be_planned_are_refused(loss: object, words: str) -> None:
    """Vector, NaN, infinite, float, detached, wrong model, raising, summed: what to do."""
    with pytest.raises(DataError, match=words):
        check_workload(job(loss))


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"model": nn.ReLU()}, "nothing to train"),
        ({"examples": []}, "Workload.examples is empty"),
        ({"examples": [DATA[0]]}, "there is one example"),
    ],
)
def test_parts_that_cannot_be_planned_are_refused(part: dict[str, object], words: str) -> None:
    """Nothing to train, or nothing to compare."""
    with pytest.raises(DataError, match=words):
        check_workload(job(**part))  # type: ignore[arg-type]


def test_coupled_modules_are_told() -> None:
    """BatchNorm in train mode mixes the examples."""
    normalised = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    assert check_workload(job(model=normalised)).coupled_modules == ("1 (BatchNorm1d)",)
    assert coupled_modules(normalised.eval()) == ()
    assert coupled_modules(nn.BatchNorm1d(2, track_running_stats=False).eval()) != ()


def test_checking_changes_nothing() -> None:
    """BatchNorm's running statistics and the random state are as before."""
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Dropout())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    check_workload(job(model=model))

    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())

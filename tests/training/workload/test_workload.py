"""A workload fetches, copies and makes optimizers without touching the user's objects."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset, default_collate

from batchsense.errors import DataError
from batchsense.training import Workload
from batchsense.training.workload import trainable


def square_loss(model: nn.Module, minibatch: list[torch.Tensor]) -> torch.Tensor:
    """Give the mean squared error."""
    return (model(minibatch[0]) - minibatch[1]).square().mean()


def workload(**changes: object) -> Workload:
    """Make a linear regression, with some parts replaced."""
    data = TensorDataset(torch.arange(10.0).reshape(10, 1), torch.ones(10, 1))
    parts = {
        "model": nn.Linear(1, 1),
        "loss": square_loss,
        "examples": data,
        "optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        **changes,
    }
    return Workload(**parts)  # type: ignore[arg-type]


def test_fast_path_equals_default_collate() -> None:
    """Indexing the tensors at once gives what fetching one by one gives."""
    job = workload()
    expected = default_collate([job.examples[i] for i in (7, 0, 7)])

    for one, other in zip(expected, job.minibatch(np.array([7, 0, 7])), strict=True):
        assert torch.equal(one, other)


def test_many_at_once_and_own_collate_are_used() -> None:
    """A data set with __getitems__ is asked once; collate gets the list of examples."""
    asked = []

    class Many(Dataset):
        def __len__(self) -> int:
            return 5

        def __getitems__(self, indices: list[int]) -> list[int]:
            asked.append(indices)
            return [10 * index for index in indices]

    assert sum([30, 10]) == workload(examples=Many(), collate=sum).minibatch([3, 1])
    assert asked == [[3, 1]]


def test_copies_share_nothing_with_the_original() -> None:
    """Training a fresh model leaves weights and gradients of the original as they were."""
    job = workload()
    before = job.model.weight.detach().clone()
    model = job.fresh_model()
    optimizer = job.fresh_optimizer(model)
    square_loss(model, job.minibatch([1, 2])).backward()
    optimizer.step()

    assert torch.equal(before, job.model.weight)
    assert job.model.weight.grad is None
    assert not torch.equal(before, model.weight)


def test_shared_and_frozen_parameters_count_once_or_not() -> None:
    """A tied weight is one parameter; a frozen one is not trained."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    model[1].bias.requires_grad_(False)

    expected = [model[0].weight, model[0].bias]
    assert len(trainable(model)) == 2
    assert all(one is other for one, other in zip(expected, trainable(model), strict=True))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"examples": [torch.ones(2), torch.ones(3)]}, "collate"),
        ({"examples": [1.0]}, r"could not be read: IndexError"),
        ({"collate": lambda examples: examples[99]}, "collate could not join"),
    ],
)
def test_faults_in_the_data_are_told(changes: dict[str, object], words: str) -> None:
    """Examples that cannot be read or joined end in a typed error that says what to do."""
    with pytest.raises(DataError, match=words):
        workload(**changes).minibatch([0, 1])


def test_an_optimizer_must_take_the_parameters_it_is_given() -> None:
    """One built around the original model would train that instead of the copy."""
    original = nn.Linear(1, 1)
    stubborn = workload(optimizer=lambda _: torch.optim.SGD(original.parameters(), lr=0.1))

    with pytest.raises(DataError, match="other parameters than those it is given"):
        stubborn.fresh_optimizer(stubborn.fresh_model())
    with pytest.raises(DataError, match="returned NoneType"):
        workload(optimizer=lambda _: None).fresh_optimizer(nn.Linear(1, 1))
    with pytest.raises(DataError, match="LBFGS"):
        workload(optimizer=torch.optim.LBFGS).fresh_optimizer(nn.Linear(1, 1))


def test_a_model_that_cannot_be_copied_is_refused() -> None:
    """Measuring on the original would change it."""
    model = nn.Linear(1, 1)
    model.handle = (i for i in range(3))

    with pytest.raises(DataError, match="cannot be copied"):
        workload(model=model).fresh_model()

"""Norms of chosen examples of a workload: fallback, self-check and refusals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from batchsense.errors import DataError
from batchsense.training import Workload, digits_workload
from batchsense.training.example_gradients import (
    LossForm,
    minibatch_squared_norms,
    per_example_squared_norms,
)


class Gru(nn.Module):
    """A recurrent net, whose parameters no rule covers, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRU(3, 4, batch_first=True)
        self.drop = nn.Dropout(0.4)
        self.head = nn.Linear(4, 2)

    def forward(self, values: Tensor) -> Tensor:
        return self.head(self.drop(self.cell(values)[0][:, -1]))


def squared_error(model: Callable[[Tensor], Tensor], minibatch: Any) -> Tensor:
    values, target = minibatch
    return (model(values) - target).square().mean()


@pytest.fixture
def recurrent() -> Workload:
    torch.manual_seed(0)
    examples = TensorDataset(torch.randn(20, 5, 3).double(), torch.randn(20, 2).double())
    return Workload(Gru().double(), squared_error, examples, torch.optim.SGD)


def loop(workload: Workload, indices: Any, model: nn.Module | None = None) -> np.ndarray:
    model = workload.fresh_model() if model is None else model
    found = []
    for index in indices:
        loss = workload.loss(model, workload.minibatch([index]))
        gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
        found.append(sum(g.double().square().sum().item() for g in gradients if g is not None))
    return np.array(found)


def test_examples_by_index_or_as_a_minibatch(recurrent: Workload) -> None:
    """A workload's minibatch gives the same as the indices that it was made of."""
    recurrent.model.eval()
    by_index = per_example_squared_norms(recurrent, np.array([4, 0, 7]))

    found = per_example_squared_norms(recurrent, recurrent.minibatch([4, 0, 7]))

    np.testing.assert_allclose(found.values, by_index.values, rtol=1e-12)
    assert all(p.grad is None for p in recurrent.model.parameters())


@pytest.mark.parametrize("fallback", ["auto", "single"])
def test_every_fallback_is_exact(recurrent: Workload, fallback: Any) -> None:
    """Vectorised and one by one, the parameters without a rule complete the norms."""
    recurrent.model.eval()
    chosen = [3, 1, 19, 3]

    found = per_example_squared_norms(recurrent, chosen, fallback=fallback)

    np.testing.assert_allclose(found.values, loop(recurrent, chosen), rtol=1e-10)
    assert all(name.startswith("cell.") for name in found.fallback)
    assert len(found.fallback) == 4
    share = 10 / sum(p.numel() for p in recurrent.model.parameters())
    assert found.covered == pytest.approx(share)
    model = recurrent.fresh_model()
    recurrent.loss(model, recurrent.minibatch(chosen)).backward()
    expected = sum(p.grad.square().sum().item() for p in model.parameters())
    assert found.squared_mean_norm == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("fallback", ["auto", "vmap", "single"])
def test_vectorised_fallback_is_exact(fallback: Any) -> None:
    """Parameters of layers without a rule are exact vectorised and one by one."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv1d(2, 3, 2), nn.PReLU(3), nn.ConvTranspose1d(3, 2, 2, bias=False), nn.Flatten()
    ).double()
    examples = TensorDataset(torch.randn(9, 2, 6).double(), torch.randn(9, 12).double())
    workload = Workload(model, squared_error, examples, torch.optim.SGD)

    found = per_example_squared_norms(workload, range(9), fallback=fallback)

    assert found.fallback == ("1.weight", "2.weight")
    np.testing.assert_allclose(found.values, loop(workload, range(9)), rtol=1e-10)


def test_no_fallback_names_what_is_missing(recurrent: Workload) -> None:
    """With fallback='none' the rest is refused with its reason, never dropped silently."""
    found = per_example_squared_norms(recurrent, range(5), fallback="none")

    assert set(found.parameters) == {"head.weight", "head.bias"}
    assert set(found.refused) == {n for n, _ in recurrent.model.named_parameters() if "cell" in n}
    assert all(found.refused.values())


@pytest.mark.parametrize("at_once", [1, 3, 8, 100])
def test_micro_batches_change_nothing(recurrent: Workload, at_once: int) -> None:
    """Norms and A do not depend on how many examples are differentiated at a time."""
    recurrent.model.eval()
    whole = per_example_squared_norms(recurrent, range(8))

    found = per_example_squared_norms(recurrent, range(8), micro_batch_size=at_once)

    np.testing.assert_allclose(found.values, whole.values, rtol=1e-10)
    assert found.squared_mean_norm == pytest.approx(whole.squared_mean_norm, rel=1e-10)
    assert found.parameters == whole.parameters


def test_the_workload_is_left_alone(recurrent: Workload) -> None:
    """Weights, buffers, gradients, mode, dropout and all random states stay as they were."""
    recurrent.model.register_buffer("calls", torch.zeros(()))
    before = {name: value.clone() for name, value in recurrent.model.state_dict().items()}
    state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002

    per_example_squared_norms(recurrent, range(6))

    for name, value in recurrent.model.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(p.grad is None for p in recurrent.model.parameters())
    assert recurrent.model.training
    assert recurrent.model.drop.p == 0.4
    np.testing.assert_array_equal(np.random.get_state()[1], state[1])  # noqa: NPY002


def test_a_given_model_keeps_its_gradients(recurrent: Workload) -> None:
    """Measuring the model in training itself does not touch its ``.grad``."""
    model = recurrent.fresh_model()
    recurrent.loss(model, recurrent.minibatch(range(4))).backward()
    before = [p.grad.clone() for p in model.parameters()]

    per_example_squared_norms(recurrent, range(6), model=model)

    for parameter, gradient in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter.grad, gradient)


def test_dropout_gives_each_example_its_own_mask() -> None:
    """The self-check passes under dropout, and the norms are those of the masked examples."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 40), nn.Dropout(0.5), nn.Linear(40, 2)).double()
    minibatch = torch.randn(1, 6).double().repeat(50, 1), torch.randn(1, 2).double().repeat(50, 1)

    found = minibatch_squared_norms(model, squared_error, minibatch)

    assert len(np.unique(found.values)) == 50


def test_estimators_follow_from_the_result() -> None:
    """With all examples, n(Q − A)/(n − 1) is the trace of the gradients' sample covariance."""
    workload = replace(
        digits_workload(),
        examples=TensorDataset(*[part[:150] for part in digits_workload().examples.tensors]),
    )
    model = workload.fresh_model()
    rows = []
    for index in range(150):
        loss = workload.loss(model, workload.minibatch([index]))
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        rows.append(torch.cat([g.flatten() for g in gradients]).double().numpy())

    norms = per_example_squared_norms(workload, range(150))

    n, q, a = norms.examples, norms.mean_squared_norm, norms.squared_mean_norm
    assert n * (q - a) / (n - 1) == pytest.approx(np.var(rows, axis=0, ddof=1).sum(), rel=1e-4)


def coupled_softmax(model: nn.Module, minibatch: Any) -> Tensor:
    values, target = minibatch
    scores = model(values) @ target.T
    return functional.cross_entropy(scores, torch.arange(len(values)))


def ignoring(model: nn.Module, minibatch: Any) -> Tensor:
    values, target = minibatch
    kinds = (target[:, 0] > 0).long()
    kinds = torch.where(target[:, 1] > 0.3, -100, kinds)
    return (
        functional.cross_entropy(model(values), kinds)
        if (kinds >= 0).any()
        else (model(values).sum() * 0)
    )


def normalised(model: nn.Module, minibatch: Any) -> Tensor:
    values, target = minibatch
    found = model(values)
    return ((found - found.mean(0)) - target).square().mean()


@pytest.mark.parametrize("loss", [coupled_softmax, ignoring, normalised])
def test_coupled_losses_are_refused(loss: Any) -> None:
    """Contrast within the minibatch, ignored labels and centring: no per-example gradient."""
    torch.manual_seed(2)
    examples = TensorDataset(torch.randn(12, 5), torch.randn(12, 2))
    workload = Workload(nn.Linear(5, 2), loss, examples, torch.optim.SGD)

    with pytest.raises(DataError, match="batchsense audit"):
        per_example_squared_norms(workload, range(12))


def test_coupling_inside_a_layer_names_the_layer() -> None:
    """Examples that meet where the loss does not show it: DataError at a layer, not a number."""

    class Meeting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(5, 2)

        def forward(self, values: Tensor) -> Tensor:
            found = self.layer(values)
            centre = found.mean(0)
            return found + centre - centre.detach()

    torch.manual_seed(0)
    minibatch = torch.randn(6, 5), torch.randn(6, 2)

    with pytest.raises(DataError, match=r"layer\.weight \(Linear\)"):
        minibatch_squared_norms(Meeting(), squared_error, minibatch)


def test_batch_norm_is_refused_with_the_reason(recurrent: Workload) -> None:
    """BatchNorm in train mode: no per-example gradient exists, run the audit."""
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))

    with pytest.raises(DataError, match=r"1 \(BatchNorm1d\).*batchsense audit"):
        minibatch_squared_norms(model, squared_error, (torch.randn(6, 3), torch.randn(6, 4)))


@pytest.mark.parametrize(("said", "is_"), [("mean", "sum"), ("sum", "mean")])
def test_wrong_reduction_is_named(said: Any, is_: str) -> None:
    """A loss that sums where a mean was promised, or the reverse, is found by the self-check."""

    def loss(model: nn.Module, minibatch: Any) -> Tensor:
        squares = (model(minibatch[0]) - minibatch[1]).square().sum(1)
        return squares.sum() if is_ == "sum" else squares.mean()

    torch.manual_seed(0)
    minibatch = torch.randn(6, 3), torch.randn(6, 2)

    with pytest.raises(DataError, match=f"reduction='{is_}'"):
        minibatch_squared_norms(nn.Linear(3, 2), loss, minibatch, form=LossForm(reduction=said))
    form = LossForm(reduction=is_)
    assert minibatch_squared_norms(nn.Linear(3, 2), loss, minibatch, form=form).covered == 1


def test_a_random_loss_is_refused_unless_asked_for() -> None:
    """Noise that is not dropout cannot be checked; self_check=False measures what was drawn."""

    def noisy(model: nn.Module, minibatch: Any) -> Tensor:
        values, target = minibatch
        return (model(values + torch.randn_like(values)) - target).square().mean()

    torch.manual_seed(0)
    minibatch = torch.randn(6, 3), torch.randn(6, 2)

    with pytest.raises(DataError, match="random"):
        minibatch_squared_norms(nn.Linear(3, 2), noisy, minibatch)
    found = minibatch_squared_norms(nn.Linear(3, 2), noisy, minibatch, self_check=False)
    assert np.isfinite(found.values).all()


def test_examples_in_the_wrong_dimension_are_found() -> None:
    """As many positions as examples, positions first, without saying so: refused by the check."""

    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, values: Tensor) -> Tensor:
            turned = values.transpose(0, 1)
            for _ in range(2):
                turned = torch.tanh(self.layer(turned.contiguous()))
            return turned.transpose(0, 1)

    torch.manual_seed(0)
    model = First().double()
    minibatch = torch.randn(8, 8, 4).double(), torch.randn(8, 8, 4).double()

    found = minibatch_squared_norms(model, squared_error, minibatch)

    expected = []
    for i in range(8):
        alone = squared_error(model, tuple(part[i : i + 1] for part in minibatch))
        gradients = torch.autograd.grad(alone, list(model.parameters()))
        expected.append(sum(g.square().sum().item() for g in gradients))
    assert found.fallback == ("layer.weight", "layer.bias")
    np.testing.assert_allclose(found.values, expected, rtol=1e-10)


def test_unvectorisable_losses_fall_back_to_single_examples() -> None:
    """A loss with a branch on the data is formed one example at a time."""

    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.power = nn.Parameter(torch.tensor([1.5, 0.7]))
            self.layer = nn.Linear(3, 2)

        def forward(self, values: Tensor) -> Tensor:
            factor = torch.exp(self.power)
            if values.sum().item() > 1e9:
                factor = factor * 2
            return self.layer(values) * factor

    torch.manual_seed(0)
    model = Branching().double()
    minibatch = torch.randn(5, 3).double(), torch.randn(5, 2).double()

    found = minibatch_squared_norms(model, squared_error, minibatch)

    assert found.fallback == ("power",)
    with pytest.raises(DataError, match="fallback='single'"):
        minibatch_squared_norms(model, squared_error, minibatch, fallback="vmap")


def test_minibatches_of_other_shapes() -> None:
    """Mappings, named values kept for all examples, and lists of examples are taken apart."""

    def loss(model: nn.Module, minibatch: Any) -> Tensor:
        found = model(minibatch["values"])
        longest = [len(text) for text in minibatch["texts"]]
        weights = torch.tensor(longest, dtype=found.dtype).unsqueeze(1)
        return (weights * (found - minibatch["centre"])).square().mean()

    torch.manual_seed(0)
    model = nn.Linear(3, 2).double()
    minibatch = {
        "values": torch.randn(4, 3).double(),
        "texts": ["a", "bcd", "ef", "ghij"],
        "centre": torch.tensor(0.5).double(),
    }

    found = minibatch_squared_norms(model, loss, minibatch)

    expected = []
    for i in range(4):
        alone = dict(
            minibatch, values=minibatch["values"][i : i + 1], texts=minibatch["texts"][i : i + 1]
        )
        gradients = torch.autograd.grad(loss(model, alone), list(model.parameters()))
        expected.append(sum(g.square().sum().item() for g in gradients))
    np.testing.assert_allclose(found.values, expected, rtol=1e-10)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"indices": []}, "no example"),
        ({"micro_batch_size": 0}, "micro_batch_size"),
    ],
    ids=["no examples", "micro_batch_size"],
)
def test_wrong_arguments(change: dict[str, Any], words: str) -> None:
    """Arguments that cannot be meant are refused with their name."""
    arguments = {"indices": range(4), **change}

    with pytest.raises(DataError, match=words):
        per_example_squared_norms(digits_workload(), arguments.pop("indices"), **arguments)


def test_minibatch_without_examples() -> None:
    """A minibatch that holds no tensor cannot be taken apart."""
    with pytest.raises(DataError, match="no tensor"):
        minibatch_squared_norms(nn.Linear(2, 2), squared_error, {"path": "x"})


def test_loss_that_fails_for_one_example() -> None:
    """A loss that needs more than one example names the example it failed on."""

    def loss(model: nn.Module, minibatch: Any) -> Tensor:
        if len(minibatch[0]) < 2:
            raise ValueError("need two")
        return squared_error(model, minibatch)

    with pytest.raises(DataError, match=r"example 0 alone.*need two"):
        minibatch_squared_norms(nn.Linear(3, 2), loss, (torch.randn(6, 3), torch.randn(6, 2)))


def test_progress_counts_examples(recurrent: Workload) -> None:
    """Progress ends at all examples, for each task."""
    heard: dict[str, tuple[int, int]] = {}

    def listen(task: str, done: int, total: int) -> None:
        heard[task] = done, total

    per_example_squared_norms(recurrent, range(9), micro_batch_size=4, progress=listen)

    assert heard == {"differentiating": (9, 9), "forming gradients one by one": (9, 9)}

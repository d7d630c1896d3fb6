"""Inside a training loop: nothing is altered, nothing is missed silently."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from batchsense.errors import DataError
from batchsense.training.example_gradients import LossForm, PerExampleNorms


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Linear(6, 3)).double()


@pytest.fixture
def pairs() -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(1)
    sizes = (5, 5, 3)
    return [(torch.randn(n, 4).double(), torch.randn(n, 3).double()) for n in sizes]


def mean_loss(model: Callable[[Tensor], Tensor], pair: tuple[Tensor, Tensor]) -> Tensor:
    values, target = pair
    return (model(values) - target).square().mean()


def by_loop(model: nn.Module, pair: tuple[Tensor, ...], loss: Any = mean_loss) -> np.ndarray:
    found = []
    trained = [p for p in model.parameters() if p.requires_grad]
    for i in range(len(pair[0])):
        alone = tuple(part[i : i + 1] for part in pair)
        gradients = torch.autograd.grad(loss(model, alone), trained, allow_unused=True)
        found.append(sum(g.double().square().sum().item() for g in gradients if g is not None))
    return np.array(found)


def squared_gradient(model: nn.Module) -> float:
    return sum(p.grad.double().square().sum().item() for p in model.parameters())


def test_training_is_the_same_with_and_without(
    model: nn.Module, pairs: list[tuple[Tensor, Tensor]]
) -> None:
    """Thirty steps with Adam, clipping and reading end at bitwise the same weights."""
    twin = copy.deepcopy(model)
    for trained, measured in ((twin, False), (model, True)):
        optimizer = torch.optim.Adam(trained.parameters(), lr=0.05)
        norms = PerExampleNorms(trained)
        for step in range(30):
            optimizer.zero_grad()
            if measured:
                with norms:
                    mean_loss(trained, pairs[step % 3]).backward()
                norms.squared_norms()
            else:
                mean_loss(trained, pairs[step % 3]).backward()
            nn.utils.clip_grad_norm_(trained.parameters(), 0.5)
            optimizer.step()

    for expected, actual in zip(twin.parameters(), model.parameters(), strict=True):
        assert torch.equal(expected, actual)


def test_every_step_of_a_loop_is_exact(
    model: nn.Module, pairs: list[tuple[Tensor, Tensor]]
) -> None:
    """Left open over forty steps, each reading is that of its own minibatch and weights."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with PerExampleNorms(model) as norms:
        for step in range(40):
            pair = pairs[step % 3]
            expected = by_loop(copy.deepcopy(model), pair)
            optimizer.zero_grad()
            mean_loss(model, pair).backward()
            found = norms.result()
            np.testing.assert_allclose(found.values, expected, rtol=1e-10)
            assert found.squared_mean_norm == pytest.approx(squared_gradient(model), rel=1e-10)
            assert found.mean_squared_norm == pytest.approx(expected.mean(), rel=1e-10)
            optimizer.step()


def test_hooks_are_gone_after_the_block(
    model: nn.Module, pairs: list[tuple[Tensor, Tensor]]
) -> None:
    """Leaving the block leaves no hook behind, also after an error in the forward pass."""
    with PerExampleNorms(model), pytest.raises(RuntimeError):
        model(torch.zeros(2, 9).double())
    with PerExampleNorms(model) as norms:
        mean_loss(model, pairs[0]).backward()

    assert not model._forward_hooks
    assert not model._forward_pre_hooks
    assert not any(p._backward_hooks for p in model.parameters())
    assert (
        torch.overrides._len_torch_function_stack() == 0
        if hasattr(torch.overrides, "_len_torch_function_stack")
        else True
    )
    np.testing.assert_allclose(norms.squared_norms(), by_loop(model, pairs[0]), rtol=1e-10)


def test_an_error_in_forward_does_not_spoil_the_next_pass(
    model: nn.Module, pairs: list[tuple[Tensor, Tensor]]
) -> None:
    """After a forward pass that raised, the next one is measured correctly."""
    with PerExampleNorms(model) as norms:
        with pytest.raises(RuntimeError):
            model(torch.zeros(2, 9).double())
        mean_loss(model, pairs[0]).backward()

    np.testing.assert_allclose(norms.squared_norms(), by_loop(model, pairs[0]), rtol=1e-10)


def test_gradient_accumulation(model: nn.Module, pairs: list[tuple[Tensor, Tensor]]) -> None:
    """Micro-batches follow one another, and A is that of the mean over all their examples."""
    expected = np.concatenate([by_loop(model, pair) for pair in pairs])
    model.zero_grad()
    with PerExampleNorms(model, accumulate=True, form=LossForm(loss_scale=1 / 3)) as norms:
        for pair in pairs:
            (mean_loss(model, pair) / 3).backward()
    found = norms.result()

    np.testing.assert_allclose(found.values, expected, rtol=1e-10)
    assert found.sizes == (5, 5, 3)
    model.zero_grad()
    mean_loss(model, tuple(torch.cat(parts) for parts in zip(*pairs, strict=True))).backward()
    assert found.squared_mean_norm == pytest.approx(squared_gradient(model), rel=1e-10)


def test_mean_over_passes_is_not_invented(
    model: nn.Module, pairs: list[tuple[Tensor, Tensor]]
) -> None:
    """Without accumulate=True, A over several passes is refused, with what to do."""
    with PerExampleNorms(model) as norms:
        for pair in pairs:
            mean_loss(model, pair).backward()

    with pytest.raises(DataError, match="accumulate=True"):
        _ = norms.result().squared_mean_norm


def test_sum_of_losses(model: nn.Module, pairs: list[tuple[Tensor, Tensor]]) -> None:
    """With reduction='sum' the norms and A are those of the examples' own losses."""

    def sum_loss(model: nn.Module, pair: tuple[Tensor, Tensor]) -> Tensor:
        return mean_loss(model, pair) * len(pair[0])

    with PerExampleNorms(model, form=LossForm(reduction="sum")) as norms:
        sum_loss(model, pairs[0]).backward()
    found = norms.result()

    np.testing.assert_allclose(found.values, by_loop(model, pairs[0]), rtol=1e-10)
    assert found.squared_mean_norm == pytest.approx(squared_gradient(model) / 25, rel=1e-10)


def test_grad_scaler(model: nn.Module, pairs: list[tuple[Tensor, Tensor]]) -> None:
    """The scale of a GradScaler is divided out, also while it changes."""
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with PerExampleNorms(model, form=LossForm(loss_scale=scaler.get_scale)) as norms:
        for pair in pairs:
            expected = by_loop(copy.deepcopy(model), pair)
            optimizer.zero_grad()
            scaler.scale(mean_loss(model, pair)).backward()
            scaler.step(optimizer)
            scaler.update()
            np.testing.assert_allclose(norms.squared_norms(), expected, rtol=1e-10)


def test_overflow_is_reported(model: nn.Module, pairs: list[tuple[Tensor, Tensor]]) -> None:
    """A step whose gradients overflow is not finite, and the next one is measured again."""
    with PerExampleNorms(model) as norms:
        (mean_loss(model, pairs[0]) * float("inf")).backward()
        assert not np.isfinite(norms.result().values).all()
        model.zero_grad()
        mean_loss(model, pairs[0]).backward()
        assert np.isfinite(norms.result().values).all()

    np.testing.assert_allclose(norms.squared_norms(), by_loop(model, pairs[0]), rtol=1e-10)


@pytest.mark.parametrize("inside", [False, True])
def test_autocast(inside: bool) -> None:
    """Under bfloat16 autocast the norms agree with a loop to bfloat16's precision."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Embedding(12, 16), nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True)
    )
    tokens, target = torch.randint(0, 12, (6, 5)), torch.randn(6, 5, 16)

    def loss(model: nn.Module, pair: tuple[Tensor, ...]) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            found = model(pair[0])
        return (found.float() - pair[1]).square().mean()

    expected = by_loop(model, (tokens, target), loss)
    with PerExampleNorms(model) as norms:
        value = loss(model, (tokens, target))
        with torch.autocast("cpu", torch.bfloat16, enabled=inside):
            value.backward()

    np.testing.assert_allclose(norms.squared_norms(), expected, rtol=0.03)


def test_half_precision_model() -> None:
    """A bfloat16 model is measured in float32, to the precision of its gradients."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 2))
    model = model.bfloat16()
    pair = torch.randn(6, 8).bfloat16(), torch.randn(6, 2).bfloat16()

    with PerExampleNorms(model) as norms:
        mean_loss(model, pair).backward()

    np.testing.assert_allclose(norms.squared_norms(), by_loop(model, pair), rtol=0.1)


def test_forward_passes_without_gradient_are_not_seen(
    model: nn.Module, pairs: list[tuple[Tensor, Tensor]]
) -> None:
    """Evaluation between forward and backward, before and after, changes nothing."""
    with PerExampleNorms(model) as norms:
        with torch.no_grad():
            model(pairs[2][0])
        loss = mean_loss(model, pairs[0])
        with torch.no_grad():
            model(pairs[2][0])
        loss.backward()
        with torch.no_grad():
            model(pairs[2][0])

    np.testing.assert_allclose(norms.squared_norms(), by_loop(model, pairs[0]), rtol=1e-10)


def test_forward_passes_that_are_never_differentiated_are_not_seen(
    model: nn.Module, pairs: list[tuple[Tensor, Tensor]]
) -> None:
    """A forward pass with a graph but no backward pass does not count, whatever its size."""
    with PerExampleNorms(model) as norms:
        kept = model(pairs[2][0])
        mean_loss(model, pairs[0]).backward()

    assert kept.requires_grad
    np.testing.assert_allclose(norms.squared_norms(), by_loop(model, pairs[0]), rtol=1e-10)


def test_gradients_of_inputs_leave_no_trace(
    model: nn.Module, pairs: list[tuple[Tensor, Tensor]]
) -> None:
    """An adversarial step that differentiates by the input first does not disturb the norms."""
    values, target = pairs[0]
    with PerExampleNorms(model) as norms:
        probe = values.clone().requires_grad_()
        (slope,) = torch.autograd.grad(mean_loss(model, (probe, target)), probe)
        attacked = values + 0.1 * slope.sign()
        mean_loss(model, (attacked, target)).backward()

    expected = by_loop(model, (attacked, target))
    np.testing.assert_allclose(norms.squared_norms(), expected, rtol=1e-10)


class Checkpointed(nn.Module):
    """Two blocks under activation checkpointing between plain layers."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4), nn.Tanh()) for _ in range(2)
        )
        self.last = nn.Linear(4, 3)
        self.reentrant = reentrant

    def forward(self, values: Tensor) -> Tensor:
        values = self.first(values)
        for inner in self.blocks:
            values = checkpoint(inner, values, use_reentrant=self.reentrant)
        return self.last(values)


def test_activation_checkpointing(pairs: list[tuple[Tensor, Tensor]]) -> None:
    """Layers that are computed a second time during the backward pass count once."""
    torch.manual_seed(0)
    model = Checkpointed(reentrant=False).double()
    with PerExampleNorms(model) as norms:
        mean_loss(model, pairs[0]).backward()

    np.testing.assert_allclose(norms.squared_norms(), by_loop(model, pairs[0]), rtol=1e-10)


def test_reentrant_checkpointing_is_refused(pairs: list[tuple[Tensor, Tensor]]) -> None:
    """Layers that only exist inside the backward pass are named as refused; others are exact."""
    torch.manual_seed(0)
    model = Checkpointed(reentrant=True).double()
    with PerExampleNorms(model) as norms:
        mean_loss(model, pairs[0]).backward()
    found = norms.result()

    assert set(found.refused) == {n for n, _ in model.named_parameters() if "blocks" in n}
    model.reentrant = False
    rows = []
    for i in range(5):
        alone = mean_loss(model, tuple(part[i : i + 1] for part in pairs[0]))
        (gradient,) = torch.autograd.grad(alone, [model.first.weight])
        rows.append(gradient.square().sum().item())
    np.testing.assert_allclose(found.by_parameter["first.weight"], rows, rtol=1e-10)
    with pytest.raises(DataError, match="no per-example gradient of blocks"):
        norms.squared_norms()


class SecretUse(nn.Module):
    """A layer whose matrix also counts in a way that no rule sees."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.last = nn.Linear(4, 3)

    def forward(self, values: Tensor) -> Tensor:
        hidden = torch.einsum("ni,oi->no", self.layer(values), self.layer.weight)
        return self.last(hidden)


def test_a_missed_use_is_noticed(pairs: list[tuple[Tensor, Tensor]]) -> None:
    """A parameter that is also used where no rule sees it is refused, not wrong."""
    torch.manual_seed(0)
    model = SecretUse().double()
    with PerExampleNorms(model) as norms:
        mean_loss(model, pairs[0]).backward()
    found = norms.result()

    assert set(found.refused) == {"layer.weight"}
    assert "does not add up" in found.refused["layer.weight"]
    assert 0 < found.covered < 1


def test_a_penalty_in_the_loss_is_noticed(
    model: nn.Module, pairs: list[tuple[Tensor, Tensor]]
) -> None:
    """A weight penalty inside the loss is part of no example's gradient, and is not ignored."""
    with PerExampleNorms(model) as norms:
        penalty = sum(p.square().sum() for p in model.parameters())
        (mean_loss(model, pairs[0]) + 0.1 * penalty).backward()

    assert set(norms.result().refused) == {n for n, _ in model.named_parameters()}


def test_uses_outside_forward_need_watching() -> None:
    """A table used again in the loss is refused, and exact inside ``watching``."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(7, 5), nn.Linear(5, 5)).double()
    tokens = torch.randint(0, 7, (4, 6))

    def loss(model: nn.Module, pair: tuple[Tensor, ...]) -> Tensor:
        scores = functional.linear(model(pair[0]), model[0].weight)
        return functional.cross_entropy(scores.flatten(0, 1), pair[0].flatten())

    with PerExampleNorms(model) as norms:
        loss(model, (tokens,)).backward()
    assert set(norms.result().refused) == {"0.weight"}

    with PerExampleNorms(model) as norms:
        with norms.watching(examples=4):
            value = loss(model, (tokens,))
        value.backward()
    np.testing.assert_allclose(norms.squared_norms(), by_loop(model, (tokens,), loss), rtol=1e-10)


def test_a_graph_differentiated_twice_is_refused(
    model: nn.Module, pairs: list[tuple[Tensor, Tensor]]
) -> None:
    """Two backward calls of one forward pass give no norms, because each has only a part."""
    with PerExampleNorms(model) as norms:
        outputs = model(pairs[0][0])
        outputs.square().mean().backward(retain_graph=True)
        outputs.abs().mean().backward()

    assert set(norms.result().refused) == {n for n, _ in model.named_parameters()}


def test_two_forward_passes_in_one_loss(
    model: nn.Module, pairs: list[tuple[Tensor, Tensor]]
) -> None:
    """A model called twice on the same examples, as for pairs of views, adds before squaring."""

    def loss(model: nn.Module, pair: tuple[Tensor, Tensor]) -> Tensor:
        return (model(pair[0]) * model(-2 * pair[0]) - pair[1]).square().mean()

    with PerExampleNorms(model) as norms:
        loss(model, pairs[0]).backward()

    np.testing.assert_allclose(norms.squared_norms(), by_loop(model, pairs[0], loss), rtol=1e-10)


def test_forward_passes_of_different_sizes_in_one_loss(
    model: nn.Module, pairs: list[tuple[Tensor, Tensor]]
) -> None:
    """A loss over 5 and 3 examples has no common examples: refused."""
    with PerExampleNorms(model) as norms:
        (mean_loss(model, pairs[0]) + mean_loss(model, pairs[2])).backward()

    with pytest.raises(DataError, match="forward passes over"):
        norms.squared_norms()


def test_changed_inputs_are_noticed() -> None:
    """An input overwritten after its layer read it is refused, not used.

    Autograd does not notice this under autocast, where it keeps a copy in half precision.
    """
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    values = torch.randn(5, 4)
    with PerExampleNorms(model) as norms:
        with torch.autocast("cpu", torch.bfloat16):
            outputs = model(values)
        values.mul_(2)
        outputs.square().mean().backward()
    found = norms.result()

    assert "changed in place" in found.refused["weight"]
    assert set(found.by_parameter) == {"bias"}


def test_positions_first() -> None:
    """With example_dim=1 a model that puts positions first is exact, as many as examples too."""
    torch.manual_seed(0)
    for places in (5, 4):
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0).double()
        model = nn.Sequential(layer, nn.Linear(8, 2).double())
        values, target = torch.randn(places, 4, 8).double(), torch.randn(places, 4, 2).double()
        expected = []
        for i in range(4):
            alone = (model(values[:, i : i + 1]) - target[:, i : i + 1]).square().mean()
            gradients = torch.autograd.grad(alone, list(model.parameters()))
            expected.append(sum(g.square().sum().item() for g in gradients))

        with PerExampleNorms(model, form=LossForm(example_dim=1)) as norms:
            mean_loss(model, (values, target)).backward()

        np.testing.assert_allclose(norms.squared_norms(), expected, rtol=1e-10)


def test_examples_elsewhere_are_refused() -> None:
    """Positions first without saying so: refused, with the option named in the shape's reason."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    with PerExampleNorms(model) as norms:
        mean_loss(lambda v: model(v).transpose(0, 1), (torch.randn(4, 3), torch.zeros(2, 4)))
        with norms.watching(examples=4):
            value = model(torch.randn(6, 4, 3)).square().mean()
        value.backward()

    assert "does not count the 4 examples" in norms.result().refused["weight"]


@pytest.mark.parametrize("examples", [1, 2])
def test_one_example(model: nn.Module, pairs: list[tuple[Tensor, Tensor]], examples: int) -> None:
    """The norm of a minibatch of one is that of its gradient."""
    pair = tuple(part[:examples] for part in pairs[0])
    with PerExampleNorms(model) as norms:
        mean_loss(model, pair).backward()

    np.testing.assert_allclose(norms.squared_norms(), by_loop(model, pair), rtol=1e-10)


def test_parameters_frozen_or_freed_between_steps(
    model: nn.Module, pairs: list[tuple[Tensor, Tensor]]
) -> None:
    """Parameters that are trained now count, whatever was trained when the object was made."""
    norms = PerExampleNorms(model)
    for trained in (False, True):
        model[0].weight.requires_grad_(trained)
        with norms:
            mean_loss(model, pairs[0]).backward()
        assert ("0.weight" in norms.result().by_parameter) is trained
        np.testing.assert_allclose(norms.squared_norms(), by_loop(model, pairs[0]), rtol=1e-10)


def test_left_out_on_request(model: nn.Module, pairs: list[tuple[Tensor, Tensor]]) -> None:
    """What is left out is missing from Q and from A alike."""
    with PerExampleNorms(model, leave_out=["0.weight"]) as norms:
        mean_loss(model, pairs[0]).backward()
    found = norms.result()

    others = [p for n, p in model.named_parameters() if n != "0.weight"]
    assert set(found.refused) == {"0.weight"}
    assert found.squared_mean_norm == pytest.approx(
        sum(p.grad.square().sum().item() for p in others), rel=1e-10
    )


def coupled_models() -> Iterator[Any]:
    yield pytest.param(
        nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), "BatchNorm1d", id="batch norm"
    )
    yield pytest.param(
        nn.Sequential(nn.BatchNorm1d(4, track_running_stats=False)).eval(),
        "BatchNorm1d",
        id="without running statistics",
    )
    yield pytest.param(
        nn.Embedding(4, 2, scale_grad_by_freq=True), "Embedding", id="scaled by frequency"
    )


@pytest.mark.parametrize(("model", "name"), list(coupled_models()))
def test_coupled_models_are_refused(model: nn.Module, name: str) -> None:
    """A model that mixes its examples is refused on entering, with the reason and the audit."""
    with pytest.raises(DataError, match=f"{name}.*batchsense audit"), PerExampleNorms(model):
        raise AssertionError("not reached")


def test_coupling_by_function_is_refused() -> None:
    """Batch normalisation without a module is noticed when it runs."""

    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, values: Tensor) -> Tensor:
            return functional.batch_norm(self.layer(values), None, None, training=True)

    model = Hidden()
    with PerExampleNorms(model) as norms:
        model(torch.randn(5, 4)).square().mean().backward()

    with pytest.raises(DataError, match="no per-example gradient exists"):
        norms.result()


def test_compiled_models_are_refused(model: nn.Module) -> None:
    """A compiled model cannot be watched and says so."""
    compiled = torch.compile(model, backend="eager")

    with pytest.raises(DataError, match=r"torch\.compile"), PerExampleNorms(compiled):
        raise AssertionError("not reached")


def test_nothing_recorded(model: nn.Module, pairs: list[tuple[Tensor, Tensor]]) -> None:
    """Reading before any backward pass says what to do."""
    with PerExampleNorms(model) as norms:
        with pytest.raises(DataError, match=r"loss\.backward"):
            norms.squared_norms()
        model(pairs[0][0])
        with pytest.raises(DataError, match=r"loss\.backward"):
            norms.squared_norms()


def test_backward_without_forward(model: nn.Module, pairs: list[tuple[Tensor, Tensor]]) -> None:
    """A forward pass before the block was not seen; the next one inside is measured."""
    loss = mean_loss(model, pairs[0])
    with PerExampleNorms(model) as norms:
        loss.backward()
        with pytest.raises(DataError, match="without a forward pass"):
            norms.result()
        mean_loss(model, pairs[0]).backward()

    np.testing.assert_allclose(norms.squared_norms(), by_loop(model, pairs[0]), rtol=1e-10)


def test_examples_must_be_countable(model: nn.Module) -> None:
    """A model called without a tensor needs ``watching``."""

    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.value = nn.Parameter(torch.zeros(3))

        def forward(self, times: int) -> Tensor:
            return self.value * times

    constant = Constant()
    with PerExampleNorms(constant) as norms:
        with pytest.raises(DataError, match="watching"):
            constant(3)
        with norms.watching(examples=2):
            value = (constant(3) * torch.ones(2, 3)).sum(1).mean()
        value.backward()

    assert "value" in norms.result().refused


@pytest.mark.parametrize(
    "settings",
    [{"reduction": "max"}, {"example_dim": 2}],
    ids=lambda settings: next(iter(settings)),
)
def test_wrong_settings(settings: dict[str, Any]) -> None:
    """A setting with another value is refused at once."""
    with pytest.raises(DataError, match=next(iter(settings))):
        LossForm(**settings)


def test_wrong_loss_scale(model: nn.Module, pairs: list[tuple[Tensor, Tensor]]) -> None:
    """A factor of zero cannot be divided out."""
    form = LossForm(loss_scale=0.0)
    with PerExampleNorms(model, form=form), pytest.raises(DataError, match="loss_scale"):
        mean_loss(model, pairs[0]).backward()


def test_nothing_to_train(model: nn.Module) -> None:
    """A frozen model has nothing to measure."""
    with pytest.raises(DataError, match="requires_grad"):
        PerExampleNorms(model.requires_grad_(False))

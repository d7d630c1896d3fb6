"""Exactness: per-example norms equal a plain loop over examples, on every kind of layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from batchsense.training import charlm_workload, digits_workload
from batchsense.training.example_gradients import (
    Norms,
    PerExampleNorms,
    minibatch_squared_norms,
)

EXAMPLES = 7


class Lambda(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, values: Tensor) -> Tensor:
        return self.function(values)


class Tied(nn.Module):
    """A language model whose output layer is its embedding, by shared module parameter."""

    def __init__(self, functionally: bool = False, bias: bool = True) -> None:
        super().__init__()
        self.tokens = nn.Embedding(11, 6)
        self.inner = nn.Linear(6, 6)
        self.functionally = functionally
        if not functionally:
            self.head = nn.Linear(6, 11, bias=bias)
            self.head.weight = self.tokens.weight

    def forward(self, tokens: Tensor) -> Tensor:
        states = torch.tanh(self.inner(self.tokens(tokens)))
        if self.functionally:
            return functional.linear(states, self.tokens.weight)
        return self.head(states)


class Twice(nn.Module):
    """A layer, and a scale, used three times."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Linear(8, 8)
        self.norm = nn.LayerNorm(8)

    def forward(self, values: Tensor) -> Tensor:
        for _ in range(3):
            values = torch.tanh(self.step(self.norm(values)))
        return values


class Raw(nn.Module):
    """Parameters without a module: class token, places, mask, gain, offset, matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(1, 1, 6))
        self.second = nn.Parameter(torch.randn(6))
        self.places = nn.Parameter(torch.randn(1, 9, 6))
        self.masked = nn.Parameter(torch.randn(6))
        self.gain = nn.Parameter(torch.randn(()))
        self.channel = nn.Parameter(torch.randn(6))
        self.matrix = nn.Parameter(torch.randn(6, 5))
        self.mix = nn.Parameter(torch.randn(4, 6))

    def forward(self, values: Tensor) -> Tensor:
        values = torch.where(values[..., :1] > 0.5, self.masked, values)
        first = self.first.expand(len(values), -1, -1)
        values = torch.cat([first, self.second.repeat(len(values), 1, 1), values], 1)
        values = values + self.places[:, : values.shape[1]]
        values = self.gain * values / (2 + self.channel.view(1, 1, -1).square().detach())
        values = values * self.channel.view(1, 1, -1)
        return self.mix @ torch.tanh(values @ self.matrix)


class Flattened(nn.Module):
    """Layers that see examples and places in one dimension, as GPT-2's are written."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 4))
        self.bias = nn.Parameter(torch.randn(4))
        self.head = nn.Linear(4, 3)

    def forward(self, values: Tensor) -> Tensor:
        rows = torch.addmm(self.bias, values.view(-1, 5), self.weight)
        hidden = torch.tanh(rows.view(*values.shape[:-1], 4))
        return self.head(hidden.flatten(0, 1)).view(*values.shape[:-1], 3)


class Attend(nn.Module):
    """Multi-head attention to itself or to a second sequence."""

    def __init__(self, cross: str = "", need_weights: bool = True, **settings: Any) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, **settings)
        self.cross = cross
        self.need_weights = need_weights

    def forward(self, values: Tensor) -> Tensor:
        arranged = values if self.attention.batch_first else values.transpose(0, 1)
        key = value = arranged
        if self.cross:
            key = value = arranged[:, :3] if self.attention.batch_first else arranged[:3]
        if self.cross == "three":
            value = torch.tanh(key)
        if self.cross == "widths":
            key, value = key[..., :5], key[..., :3]
        found, _ = self.attention(arranged, key, value, need_weights=self.need_weights)
        return found if self.attention.batch_first else found.transpose(0, 1)


class Decoder(nn.Module):
    """A decoder layer that attends to a memory."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerDecoderLayer(8, 2, 16, batch_first=True, dropout=0.0)

    def forward(self, values: Tensor) -> Tensor:
        return self.layer(values, torch.tanh(values[:, :3]))


class Places(nn.Module):
    """Positions looked up once for all examples, as many as there are examples."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(11, 6, padding_idx=0)
        self.places = nn.Embedding(EXAMPLES, 6)
        self.kinds = nn.Embedding(2, 6)
        self.register_buffer("order", torch.arange(EXAMPLES).view(1, -1))

    def forward(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        states = self.tokens(tokens) + self.places(torch.arange(length))
        states += self.kinds(self.order[:, :length] % 2)
        return torch.tanh(states)


class Recurrent(nn.Module):
    """An LSTM between two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Linear(5, 4)
        self.cell = nn.LSTM(4, 4, batch_first=True)
        self.after = nn.Linear(4, 2)

    def forward(self, values: Tensor) -> Tensor:
        return self.after(self.cell(self.before(values))[0])


class Packed(nn.Module):
    """One matrix of which ranges of rows and a transposed view are used."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(9, 4))
        self.bias = nn.Parameter(torch.randn(9))

    def forward(self, values: Tensor) -> Tensor:
        first = functional.linear(values, self.weight[:5], self.bias[:5])
        second = functional.linear(values, self.weight[3:], self.bias[3:])
        back = functional.linear(torch.tanh(first), self.weight[:5].T)
        return torch.cat([second, back, torch.tanh(second) @ self.weight[3:]], -1)


class Positional(nn.Module):
    """A net that makes a table of positions, the same for all examples."""

    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Linear(1, 5)
        self.gain = nn.Parameter(torch.randn(5))
        self.values = nn.Linear(5, 5)

    def forward(self, values: Tensor) -> Tensor:
        table = self.places(torch.linspace(0, 1, values.shape[1], dtype=values.dtype).unsqueeze(1))
        return torch.tanh(self.values(values) + torch.tanh(table) * self.gain)


@dataclass(frozen=True)
class Member:
    """A model and the shape of its input; ``tokens`` draws that many different integers."""

    name: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    tokens: int = 0
    fallback: tuple[str, ...] = ()
    eval_mode: bool = False


def block() -> nn.Module:
    return nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0, norm_first=True)


def frozen(model: nn.Module, *names: str) -> nn.Module:
    for name in names:
        model.get_parameter(name).requires_grad_(False)
    return model


def conv2d(**settings: Any) -> nn.Module:
    return nn.Sequential(nn.Conv2d(4, 6, 3, **settings), nn.ReLU(inplace=True), nn.Conv2d(6, 2, 1))


ZOO = [
    Member("mlp", lambda: nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, 3)), (5,)),
    Member(
        "in-place relu",
        lambda: nn.Sequential(nn.Linear(5, 9), nn.ReLU(inplace=True), nn.Linear(9, 3)),
        (5,),
    ),
    Member("long sequence", lambda: nn.Sequential(nn.Linear(3, 2), nn.Tanh()), (64, 3)),
    Member("short sequence", lambda: nn.Linear(40, 30, bias=False), (4, 40)),
    Member("two places", lambda: nn.Linear(6, 5), (2, 3, 6)),
    Member("embedding", lambda: nn.Embedding(5, 6, padding_idx=-2), (12,), tokens=5),
    Member("one token", lambda: nn.Sequential(nn.Embedding(5, 6), nn.Linear(6, 2)), (), tokens=5),
    Member("sparse embedding", lambda: nn.Embedding(5, 6, sparse=True), (12,), tokens=5),
    Member("tied head", Tied, (9,), tokens=11),
    Member("tied head, long", lambda: Tied(bias=False), (40,), tokens=11),
    Member("tied head, functional", lambda: Tied(functionally=True), (3,), tokens=4),
    Member("used thrice", Twice, (4, 8)),
    Member("used thrice, one place", Twice, (8,)),
    Member("raw parameters", Raw, (4, 6)),
    Member("flattened", Flattened, (3, 5)),
    Member("ranges of rows", Packed, (3, 4)),
    Member("ranges of rows, one place", Packed, (4,)),
    Member(
        "conv1d",
        lambda: nn.Sequential(
            nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2), nn.GELU()
        ),
        (4, 13),
    ),
    Member("conv1d, even same", lambda: nn.Conv1d(3, 5, 4, padding="same", dilation=3), (3, 14)),
    Member("conv1d, causal", lambda: nn.Conv1d(3, 5, 2, padding="valid", bias=False), (3, 6)),
    Member("conv2d", lambda: conv2d(stride=(2, 1), padding=(1, 2), groups=2), (4, 7, 6)),
    Member("conv2d, circular", lambda: conv2d(padding=1, padding_mode="circular"), (4, 5, 6)),
    Member("conv2d, reflect", lambda: conv2d(padding=2, padding_mode="reflect"), (4, 5, 6)),
    Member("conv2d, replicate", lambda: conv2d(padding=1, padding_mode="replicate"), (4, 5, 6)),
    Member("conv2d, depthwise", lambda: nn.Conv2d(6, 12, 3, groups=6), (6, 5, 5)),
    Member("conv2d, one place", lambda: nn.Conv2d(4, 6, 5, groups=2), (4, 5, 5)),
    Member("conv3d", lambda: nn.Conv3d(2, 4, (2, 3, 2), stride=(1, 2, 1), groups=2), (2, 4, 5, 3)),
    Member(
        "shared kernel",
        lambda: nn.Sequential(*[nn.Conv2d(4, 4, 3, padding=1)] * 2),
        (4, 5, 5),
    ),
    Member(
        "group and instance norm",
        lambda: nn.Sequential(
            nn.Conv2d(4, 6, 3), nn.GroupNorm(3, 6), nn.InstanceNorm2d(6, affine=True), nn.SiLU()
        ),
        (4, 6, 6),
    ),
    Member(
        "group norm without space",
        lambda: nn.Sequential(nn.Linear(4, 6), nn.GroupNorm(2, 6)),
        (4,),
    ),
    Member("layer norm", lambda: nn.LayerNorm((3, 5)), (4, 3, 5)),
    Member("rms norm", lambda: nn.Sequential(nn.RMSNorm(5), nn.Linear(5, 2)), (4, 5)),
    Member(
        "frozen batch norm",
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
        (3, 5, 5),
        eval_mode=True,
    ),
    Member("attention", lambda: Attend(batch_first=True), (5, 8)),
    Member("attention, positions first", lambda: Attend(need_weights=False), (5, 8)),
    Member("attention, no bias", lambda: Attend(bias=False, add_zero_attn=True), (5, 8)),
    Member("attention, cross", lambda: Attend("two"), (5, 8)),
    Member("attention, three inputs", lambda: Attend("three", batch_first=True), (5, 8)),
    Member("attention, three widths", lambda: Attend("widths", kdim=5, vdim=3), (5, 8)),
    Member(
        "attention, key bias",
        lambda: Attend(add_bias_kv=True),
        (5, 8),
        fallback=("attention.bias_k", "attention.bias_v"),
    ),
    Member("attention, one place", lambda: Attend(batch_first=True), (1, 8)),
    Member("residual transformer block", block, (6, 8)),
    Member("decoder block", Decoder, (6, 8)),
    Member("as many places as examples", Places, (EXAMPLES,), tokens=11),
    Member(
        "table made by a net",
        Positional,
        (EXAMPLES, 5),
        fallback=("gain", "places.weight", "places.bias"),
    ),
    Member(
        "lstm",
        Recurrent,
        (4, 5),
        fallback=("cell.weight_ih_l0", "cell.weight_hh_l0", "cell.bias_ih_l0", "cell.bias_hh_l0"),
    ),
    Member(
        "other layers",
        lambda: nn.Sequential(nn.Linear(4, 6), nn.PReLU(6), nn.Linear(6, 2)),
        (4,),
        fallback=("1.weight",),
    ),
    Member(
        "transposed convolution",
        lambda: nn.Sequential(nn.Conv1d(3, 4, 2), nn.ConvTranspose1d(4, 3, 3, stride=2)),
        (3, 6),
        fallback=("1.weight", "1.bias"),
    ),
    Member(
        "weight norm",
        lambda: nn.Sequential(
            nn.utils.parametrizations.weight_norm(nn.Linear(4, 6)), nn.Tanh(), nn.Linear(6, 2)
        ),
        (4,),
        fallback=(
            "0.parametrizations.weight.original0",
            "0.parametrizations.weight.original1",
        ),
    ),
    Member(
        "partly frozen",
        lambda: frozen(
            nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 2)), "0.weight", "2.bias"
        ),
        (3, 4),
    ),
    Member(
        "unused layer",
        lambda: nn.ModuleDict({"used": nn.Linear(4, 2), "idle": nn.Linear(3, 3)}),
        (4,),
    ),
]


def made(member: Member, dtype: torch.dtype, examples: int = EXAMPLES) -> tuple[nn.Module, Any]:
    """Make the model and a minibatch, from a fixed seed."""
    torch.manual_seed(3)
    model = member.build().to(dtype)
    model.train(not member.eval_mode)
    if isinstance(model, nn.ModuleDict):
        used = model["used"]
        model.forward = lambda values: used(values)  # type: ignore[method-assign]
    for parameter in model.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, mean=0.3)
    for name, buffer in model.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0)
        elif name.endswith("running_mean"):
            buffer.normal_()
    if member.tokens:
        values = torch.randint(0, member.tokens, (examples, *member.shape))
    else:
        values = torch.randn(examples, *member.shape, dtype=dtype)
    with torch.no_grad():
        target = torch.randn_like(model(values))
    return model, (
        values,
        target * torch.linspace(0.5, 2, examples).to(dtype).view(-1, *[1] * (target.dim() - 1)),
    )


def loss(model: nn.Module, minibatch: Any) -> Tensor:
    values, target = minibatch
    return (model(values) - target).square().mean()


def by_loop(
    model: nn.Module, minibatch: Any, loss: Callable[[nn.Module, Any], Tensor] = loss
) -> dict[str, np.ndarray]:
    """Differentiate the loss of one example after the other."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    rows = []
    for i in range(len(minibatch[0])):
        alone = [tensor[i : i + 1] for tensor in minibatch]
        gradients = torch.autograd.grad(
            loss(model, alone), list(trained.values()), allow_unused=True
        )
        rows.append(
            [0.0 if g is None else g.to_dense().double().square().sum().item() for g in gradients]
        )
    return dict(zip(trained, np.array(rows).T, strict=True))


def mean_gradient(model: nn.Module, minibatch: Any) -> dict[str, float]:
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    gradients = torch.autograd.grad(
        loss(model, minibatch), list(trained.values()), allow_unused=True
    )
    return {
        name: 0.0 if g is None else g.to_dense().double().square().sum().item()
        for name, g in zip(trained, gradients, strict=True)
    }


def assert_same(expected: dict[str, np.ndarray], found: Norms, relative: float) -> None:
    total = sum(expected.values())
    assert set(expected) == set(found.by_parameter)
    for name, part in found.by_parameter.items():
        np.testing.assert_allclose(
            part, expected[name], rtol=relative, atol=relative * total.max() * 1e-3, err_msg=name
        )
    np.testing.assert_allclose(found.values, total, rtol=relative)


pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")


@pytest.mark.parametrize("member", ZOO, ids=lambda member: member.name)
@pytest.mark.parametrize(("dtype", "relative"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_norms_equal_a_loop(member: Member, dtype: torch.dtype, relative: float) -> None:
    """Every |gᵢ|², by parameter, is that of the example's loss differentiated alone."""
    model, minibatch = made(member, dtype)

    found = minibatch_squared_norms(model, loss, minibatch)

    assert_same(by_loop(model, minibatch), found, relative)
    assert found.fallback == member.fallback
    assert not found.refused


@pytest.mark.parametrize("member", ZOO, ids=lambda member: member.name)
def test_mean_gradient_is_that_of_the_minibatch(member: Member) -> None:
    """A, by parameter, is the squared norm of the ordinary gradient."""
    model, minibatch = made(member, torch.float64)

    found = minibatch_squared_norms(model, loss, minibatch, micro_batch_size=3)

    expected = mean_gradient(model, minibatch)
    for name, value in zip(found.parameters, found.mean_parts, strict=True):
        assert value == pytest.approx(expected[name], rel=1e-9, abs=1e-12), name


@pytest.mark.parametrize("member", ZOO, ids=lambda member: member.name)
def test_training_loop_is_exact_or_says_what_is_missing(member: Member) -> None:
    """In a plain loop the covered parameters are exact and exactly the others are refused."""
    model, minibatch = made(member, torch.float64)
    expected = by_loop(model, minibatch)
    model.zero_grad()
    loss(model, minibatch).backward()
    plain = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    model.zero_grad()

    with PerExampleNorms(model) as norms:
        loss(model, minibatch).backward()
    found = norms.result()

    assert tuple(found.refused) == member.fallback
    kept = {name: part for name, part in expected.items() if name not in member.fallback}
    assert_same(kept, found, 1e-10)
    for before, parameter in zip(plain, model.parameters(), strict=True):
        assert (before is None) == (parameter.grad is None)
        if before is not None:
            assert torch.equal(before.to_dense(), parameter.grad.to_dense())


@pytest.mark.parametrize("build", [digits_workload, charlm_workload])
def test_built_in_workloads(build: Callable[[], Any]) -> None:
    """Both built-in models are covered completely and equal a loop, in float32."""
    workload = build()
    minibatch = workload.minibatch(range(0, 640, 40))

    found = minibatch_squared_norms(workload.model, workload.loss, minibatch)

    assert found.covered == 1
    assert_same(by_loop(workload.model, minibatch, workload.loss), found, 1e-4)


def test_both_formulas_of_a_linear_layer_agree() -> None:
    """The norms by inner products between places are those of the formed matrices."""
    torch.manual_seed(0)
    outcomes = []
    for places, width in ((70, 80), (71, 80), (71, 9)):
        model = nn.Linear(width, width + 3).double()
        values = torch.randn(3, places, width).double()
        minibatch = values, torch.randn(3, places, width + 3).double()
        found = minibatch_squared_norms(model, loss, minibatch)
        assert_same(by_loop(model, minibatch), found, 1e-12)
        outcomes.append(found.examples)
    assert outcomes == [3, 3, 3]


def test_zoo_covers_what_is_promised() -> None:
    """At least twelve members need no fallback."""
    assert sum(not member.fallback for member in ZOO) >= 12
    assert math.prod(ZOO[-1].shape) > 0

"""Laws of the forms in which per-example gradients are kept: all agree with the formed matrices."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from batchsense.training.example_gradients import contributions
from batchsense.training.example_gradients.contributions import (
    Explicit,
    Lookups,
    OuterProducts,
    RankOne,
    View,
    combined_norms,
)
from batchsense.training.example_gradients.example_axis import Constants, layout_of
from batchsense.training.example_gradients.rules import convolution
from batchsense.training.example_gradients.rules.convolution import Geometry, Patches
from batchsense.training.workload.minibatches import leaves, take_examples

FORMS = ("outer", "long outer", "grouped", "rows", "one", "lookups", "explicit", "view", "patches")


def drawn(form: str, seed: int) -> tuple[Any, torch.Size]:
    """Make a form with random content, and the shape of the parameter it belongs to."""
    torch.manual_seed(seed)
    n, rows, columns = 3, 6, 4
    matrix = torch.Size([rows, columns])
    normal = {"dtype": torch.float64}
    if form == "outer":
        return (
            OuterProducts(torch.randn(n, 1, 2, rows, **normal), torch.randn(n, 1, 2, 4, **normal)),
            matrix,
        )
    if form == "long outer":
        left, right = torch.randn(n, 1, 70, rows, **normal), torch.randn(n, 1, 70, 4, **normal)
        return OuterProducts(left, right), matrix
    if form == "grouped":
        left, right = torch.randn(n, 2, 5, 3, **normal), torch.randn(n, 2, 5, 4, **normal)
        return OuterProducts(left, right), matrix
    if form == "rows":
        left, right = torch.randn(n, 1, 2, 3, **normal), torch.randn(n, 1, 2, 4, **normal)
        return OuterProducts(left, right, first_row=seed % 4), matrix
    if form == "one":
        left, right = torch.randn(n, rows, **normal), torch.randn(n, columns, **normal)
        return RankOne(left, right, left.norm(dim=1)), matrix
    if form == "lookups":
        return Lookups(torch.randint(0, rows, (n, 5)), torch.randn(n, 5, columns, **normal)), matrix
    if form == "explicit":
        return Explicit(torch.randn(n, rows, columns, **normal)), matrix
    if form == "view":
        view = View(torch.Size([2, 3]), (1, 4), 5)
        return Explicit(torch.randn(n, 2, 3, **normal), view), matrix
    geometry = Geometry((2,), (1,), ((1, 0),), (1,), 2)
    values, gradient = torch.randn(n, 4, 7, **normal), torch.randn(n, rows, 7, **normal)
    windows = geometry.windows(values)
    return Patches(windows, gradient.unflatten(1, (2, 3))), torch.Size([rows, 2, 2])


def formed(use: Any, shape: torch.Size) -> Tensor:
    return use.dense(shape, slice(None))


@pytest.mark.parametrize("form", FORMS)
@settings(derandomize=True, deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_norms_are_those_of_the_formed_gradients(form: str, seed: int) -> None:
    """The norm of every form equals that of the matrices that it stands for."""
    use, shape = drawn(form, seed)

    expected = formed(use, shape).flatten(1).norm(dim=1)

    torch.testing.assert_close(use.norms(), expected, rtol=1e-12, atol=1e-12)
    assert len(use) == len(expected)


@pytest.mark.parametrize("form", FORMS)
@settings(derandomize=True, deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_projections_are_those_of_the_sum(form: str, seed: int) -> None:
    """Along any u and v, every form gives uᵀ(Σ gᵢ)v."""
    use, shape = drawn(form, seed)
    left, right = torch.randn(6).double(), torch.randn(shape.numel() // 6).double()

    expected = left @ formed(use, shape).sum(0) @ right

    torch.testing.assert_close(use.projected(left, right), expected, rtol=1e-10, atol=1e-12)


@settings(derandomize=True, deadline=None, max_examples=120)
@given(
    forms=st.lists(st.sampled_from(FORMS[:-1]), min_size=1, max_size=4),
    seed=st.integers(0, 10_000),
)
def test_uses_add_before_the_norm_is_taken(forms: list[str], seed: int) -> None:
    """Any mixture of uses of one parameter has the norm of the sum of its matrices."""
    uses = [drawn(form, seed + k)[0] for k, form in enumerate(forms)]
    shape = torch.Size([6, 4])
    total = sum(formed(use, shape) for use in uses)

    found = combined_norms(uses, shape)

    torch.testing.assert_close(found, total.flatten(1).norm(dim=1), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("form", ["long outer", "outer", "patches", "explicit"])
def test_parts_change_nothing(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forming some examples at a time gives the same as forming all at once."""
    use, shape = drawn(form, 1)
    before = use.norms(), combined_norms([use, use], shape)

    monkeypatch.setattr(contributions, "MOST_NUMBERS", 1)
    monkeypatch.setattr(convolution, "IN_CACHE", 1)

    torch.testing.assert_close(use.norms(), before[0], rtol=1e-12, atol=0)
    torch.testing.assert_close(combined_norms([use, use], shape), before[1], rtol=1e-12, atol=0)


def test_opposite_uses_cancel() -> None:
    """A parameter used with opposite signs has norm zero, not the root of a negative number."""
    use, shape = drawn("long outer", 2)
    opposite = OuterProducts(-use.left, use.right)

    assert combined_norms([use, opposite], shape).abs().max() < 1e-6


def test_examples_are_told_by_origin() -> None:
    """What comes from parameters and arange alone holds no examples, until it is expanded."""
    weight = torch.zeros(5, 3)
    constants = Constants([weight])
    places = torch.arange(5)
    constants.follow(torch.arange, (5,), {}, places, 5)
    table = weight[places]
    constants.follow(torch.Tensor.__getitem__, (weight, places), {}, table, 5)
    spread = table.expand(5, 5, 3)
    constants.follow(torch.Tensor.expand, (table, 5, 5, 3), {}, spread, 5)
    values = torch.zeros(5, 3)
    both = table + values
    constants.follow(torch.Tensor.add, (table, values), {}, both, 5)

    assert weight in constants
    assert places in constants
    assert table in constants
    assert spread not in constants
    assert values not in constants
    assert both not in constants
    constants.forget()
    assert table not in constants
    assert weight in constants


def test_flattened_views_keep_their_examples() -> None:
    """Rows of a flattened view belong to the examples of what it shows; of a copy, to none."""
    values = torch.randn(4, 3, 2, 5)

    kept = layout_of(values.view(12, 10), 1, examples=4, example_dim=0)
    copied = layout_of(values.transpose(0, 1).reshape(12, 10), 1, examples=4, example_dim=0)

    assert kept is not None
    torch.testing.assert_close(kept.by_example(values.view(12, 10)), values.view(4, 3, 10))
    assert copied is None


def test_positions_first_views_keep_their_examples() -> None:
    """With positions first, a flattened view still tells its examples."""
    values = torch.randn(3, 4, 5)

    layout = layout_of(values.view(12, 5), 1, examples=4, example_dim=1)

    assert layout is not None
    torch.testing.assert_close(layout.by_example(values.view(12, 5)), values.transpose(0, 1))


def test_taking_examples_apart() -> None:
    """Tensors of all examples are indexed, lists of examples too; everything else is kept."""
    pictures = [torch.full((2, 2), float(k)) for k in range(3)]
    minibatch = {
        "sequences": torch.arange(6).view(2, 3),
        "label": torch.arange(3),
        "pictures": pictures,
        "boxes": [{"box": torch.zeros(4)} for _ in range(3)],
        "pair": [torch.zeros(3, 2), torch.ones(3)],
        "temperature": 0.5,
    }

    part = take_examples(minibatch, [2, 0], count=3, example_dim=1)

    assert part["sequences"].tolist() == [[2, 0], [5, 3]]
    assert part["label"].tolist() == [2, 0]
    assert [picture.mean().item() for picture in part["pictures"]] == [2.0, 0.0]
    assert len(part["boxes"]) == 2
    assert part["pair"][1].shape == (2,)
    assert part["temperature"] == 0.5
    assert len(leaves(minibatch)) == 10

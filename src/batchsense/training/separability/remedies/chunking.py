"""The exact gradient of a loss over all embeddings of a minibatch, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from batchsense.errors import DataError, UnresolvedError
from batchsense.training.separability.leakage.tracing import leaking_sources, stage_for
from batchsense.training.workload import (
    count_examples,
    leaves,
    random_state,
    rebuilt,
    set_random_state,
    take_examples,
)

#: ``encoder(micro_batch)``: embeddings, one row per example; a tensor or a tree of tensors.
Encoder: TypeAlias = Callable[[Any], Any]
#: ``head(embeddings, minibatch)``: the loss, a scalar, of all embeddings together.
Head: TypeAlias = Callable[[Any, Any], Tensor]

# Twice as many examples go through the encoder in a dozen small passes; a mixing encoder mixes any.
_MOST_CHECKED = 32
# In float64, as in the leakage test: what moves less is rounding.
_NO_MOVEMENT = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class ChunkedGradient:
    """The gradient of a whole minibatch, computed in parts.

    Attributes
    ----------
    loss : float
        The loss of the whole minibatch.
    gradients : mapping of str to Tensor
        By parameter name, with ``encoder.`` or ``head.`` before it.
    """

    loss: float
    gradients: Mapping[str, Tensor]
    _parameters: Mapping[str, nn.Parameter]

    def add_to_grad(self) -> None:
        """Add the gradients to ``.grad`` of the parameters, as ``backward()`` would."""
        for name, gradient in self.gradients.items():
            parameter = self._parameters[name]
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


def chunked_gradient(
    encoder: nn.Module,
    head: Head,
    minibatch: Any,
    micro_batch: int,
    *,
    verify: bool = True,
) -> ChunkedGradient:
    r"""Differentiate L = head(h_1 … h_n), h_i = encoder(x_i), without keeping all activations.

    First every micro-batch is encoded without a graph; then the head runs on all embeddings and
    gives v_i = ∂L/∂h_i; then each micro-batch is encoded again, with the same random numbers, and
    its part of

    .. math:: \nabla L = \sum_i v_i^\top \frac{\partial h_i}{\partial \theta}

    is added. Activations of one micro-batch are alive at a time, for one more forward pass: about
    4/3 of the computation.

    Parameters
    ----------
    encoder : torch.nn.Module
        Called with a micro-batch. Each row of what it returns must depend on that example alone.
    head : callable
        ``head(embeddings, minibatch)`` gives the scalar loss of the whole minibatch: contrastive,
        a ratio, the root of a mean. If it is a module, its parameters get gradients too.
    minibatch : object
        The collated minibatch; its tensors share their first size.
    micro_batch : int
        Examples encoded at once; the last micro-batch may be smaller.
    verify : bool
        Whether to test on up to 32 examples that the encoder keeps them apart.

    Returns
    -------
    ChunkedGradient
        Loss and gradients; ``add_to_grad()`` puts them where an optimizer looks.

    Raises
    ------
    UnresolvedError
        The encoder mixes its examples (batch normalisation, no padding mask); names the module.
    DataError
        The embeddings have no rows, or the loss is no finite scalar that depends on them.

    References
    ----------
    Gao, Zhang, Han and Callan (2021), for the contrastive case.

    Examples
    --------
    >>> x = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    >>> encoder = nn.Linear(4, 2)
    >>> def head(h, minibatch):
    ...     return h.square().mean().sqrt()
    >>> whole = torch.autograd.grad(head(encoder(x), x), encoder.weight)[0]
    >>> chunked = chunked_gradient(encoder, head, x, micro_batch=5).gradients["encoder.weight"]
    >>> torch.allclose(whole, chunked)
    True
    """
    count = count_examples(minibatch)
    if micro_batch < 1:
        raise DataError(f"{micro_batch} is less than one example", where="micro_batch")
    if verify and count >= 4:
        _refuse_mixing(encoder, minibatch, count, min(micro_batch, _MOST_CHECKED))
    cuts = [slice(start, start + micro_batch) for start in range(0, count, micro_batch)]
    states, pieces = [], []
    buffers = {name: buffer.clone() for name, buffer in encoder.named_buffers()}
    for cut in cuts:
        states.append(random_state())
        with torch.no_grad():
            pieces.append(encoder(take_examples(minibatch, cut, count)))
    embeddings, joined = _joined(pieces, count)
    loss, pulled, of_head = _through_head(head, embeddings, joined, minibatch)
    after, after_buffers = random_state(), dict(encoder.named_buffers())
    final = {name: buffer.clone() for name, buffer in after_buffers.items()}
    _put_back(after_buffers, buffers)
    named = _trained(encoder, "encoder.")
    total = {name: torch.zeros_like(parameter) for name, parameter in named.items()}
    for cut, state in zip(cuts, states, strict=True):
        set_random_state(state)
        with torch.enable_grad():
            outputs = leaves(encoder(take_examples(minibatch, cut, count)))
        wanted = [(o, v[cut]) for o, v in zip(outputs, pulled, strict=True) if v is not None]
        carried = [(o, v) for o, v in wanted if o.requires_grad]
        if carried:
            parts = torch.autograd.grad(
                [o for o, _ in carried],
                list(named.values()),
                [v for _, v in carried],
                allow_unused=True,
            )
            for name, part in zip(named, parts, strict=True):
                if part is not None:
                    total[name] += part
    _put_back(dict(encoder.named_buffers()), final)
    set_random_state(after)
    parameters = {**named, **_trained(head, "head.")}
    return ChunkedGradient(loss, {**total, **of_head}, parameters)


def _through_head(
    head: Head, embeddings: Any, joined: list[Tensor], minibatch: Any
) -> tuple[float, list[Tensor | None], dict[str, Tensor]]:
    """Run the head on all embeddings; give the loss, ∂L/∂h and the gradients of its own."""
    own = _trained(head, "head.")
    with torch.enable_grad():
        loss = head(embeddings, minibatch)
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
        raise DataError(
            "it must return a scalar tensor that depends on the embeddings", where="head"
        )
    if not bool(torch.isfinite(loss)):
        raise DataError(f"it is {float(loss.detach()):g}, not a finite number", where="head")
    moving = [leaf for leaf in joined if leaf.requires_grad]
    found = torch.autograd.grad(loss.reshape(()), [*moving, *own.values()], allow_unused=True)
    by_leaf = dict(zip(map(id, moving), found[: len(moving)], strict=True))
    of_head = {
        name: torch.zeros_like(parameter) if gradient is None else gradient
        for (name, parameter), gradient in zip(own.items(), found[len(moving) :], strict=True)
    }
    return float(loss.detach()), [by_leaf.get(id(leaf)) for leaf in joined], of_head


def _joined(pieces: list[Any], count: int) -> tuple[Any, list[Tensor]]:
    columns = list(zip(*(leaves(piece) for piece in pieces), strict=True))
    if not columns or any(sum(t.shape[0] if t.ndim else 0 for t in c) != count for c in columns):
        raise DataError("it must return one row per example in every tensor", where="encoder")
    joined = [torch.cat(column) for column in columns]
    for leaf in joined:
        leaf.requires_grad_(leaf.is_floating_point() or leaf.is_complex())
    waiting: Iterator[Tensor] = iter(joined)
    return rebuilt(pieces[0], lambda _: next(waiting)), joined


def _refuse_mixing(encoder: nn.Module, minibatch: Any, count: int, size: int) -> None:
    size = max(2, min(size, count // 2))
    stage = stage_for(
        encoder, None, lambda rows: take_examples(minibatch, [int(row) for row in rows], count)
    )
    found = leaking_sources(
        stage, list(range(size)), list(range(size, 2 * size)), _NO_MOVEMENT, most=1
    )
    if found:
        raise UnresolvedError(
            f"the encoder mixes the examples of a micro-batch in {found[0].name}: "
            f"{found[0].detail}; parts of it would not make up the whole",
            needed="an encoder that treats each example alone (GroupNorm, evaluation mode, a "
            "padding mask)",
        )


def _trained(thing: Any, prefix: str) -> dict[str, nn.Parameter]:
    """The trained parameters of a module by name; none for a function."""
    if not isinstance(thing, nn.Module):
        return {}
    return {prefix + name: p for name, p in thing.named_parameters() if p.requires_grad}


def _put_back(buffers: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, buffer in buffers.items():
            buffer.copy_(values[name])

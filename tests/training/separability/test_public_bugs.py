"""Bugs that public frameworks shipped, replayed: each is flagged, with the factor it had.

The issues: huggingface/transformers#24725 and #34191 (token mean under accumulation), #34242 and
facebookresearch/detr#267 (DDP without reweighting), axolotl-ai-cloud/axolotl#2262 and
hiyouga/LlamaFactory#7443 (divided by the number of steps once more), huggingface/trl#6024,
mlfoundations/open_clip#616 (gradient times world size), NVIDIA/Megatron-LM#3769 (balance loss
divided by the data-parallel size), Lightning-AI/pytorch-lightning#19987 (last window),
pytorch/pytorch#72047 (class weights), pytorch/pytorch#46516 (batch normalisation).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from loss_zoo import named
from torch.nn import functional as F  # noqa: N812

from batchsense.training.separability import accumulate, audit, audit_step
from batchsense.training.separability.remedies.comparison import compare_gradients, predict_ddp

WORLD = 4


def tokens(minibatch):
    """Count the labels that are predicted."""
    return int((minibatch["labels"] != -100).sum())


@pytest.fixture
def language_model():
    """A token mean over sentences of unequal length."""
    return named("token_mean").build(0)


def summed(workload):
    """Give the token loss without its division."""

    def loss(model, b):
        return F.cross_entropy(
            model(b["ids"]).transpose(1, 2), b["labels"], ignore_index=-100, reduction="sum"
        )

    return loss


def test_token_mean_under_accumulation(language_model):
    """Mean per micro-batch over K: a token of micro-batch k weighs W/(K w_k) times too much."""

    def step(model, parts):
        for part in parts:
            (language_model.loss(model, part) / len(parts)).backward()

    found = audit_step(language_model, step)
    report = audit(language_model)

    assert not found.equal
    assert not found.only_a_factor
    assert report.verdict == "no"
    assert report.normaliser.name == "minibatch['labels'] != -100"
    assert found.deviation == pytest.approx(report.deviation, rel=0.5)
    parts = [language_model.minibatch(range(k, k + 8)) for k in range(0, 64, 8)]
    counts = np.array([tokens(part) for part in parts])
    np.testing.assert_allclose(accumulate(report).scales(parts), counts / counts.sum())


def test_token_mean_repaired(language_model):
    """Sum over tokens divided by the tokens of the whole step: equal."""
    total_loss = summed(language_model)

    def step(model, parts):
        count = sum(map(tokens, parts))
        for part in parts:
            (total_loss(model, part) / count).backward()

    assert audit_step(language_model, step, tolerance=1e-12).equal


def test_divided_by_the_number_of_steps_once_more(language_model):
    """The repaired loss divided by the accumulation steps again: 8 times too small."""
    total_loss = summed(language_model)

    def step(model, parts):
        count = sum(map(tokens, parts))
        for part in parts:
            (total_loss(model, part) / count / len(parts)).backward()

    found = audit_step(language_model, step)

    assert found.factor == "1/accumulation"
    assert found.scale == pytest.approx(1 / 8)
    assert found.only_a_factor


def test_not_divided_at_all():
    """Micro-batch means added up: 8 times too large."""
    job = named("cross_entropy").build(0)

    def step(model, parts):
        for part in parts:
            job.loss(model, part).backward()

    found = audit_step(job, step)

    assert found.factor == "accumulation"
    assert found.scale == pytest.approx(8)


@pytest.mark.parametrize(
    ("extra", "factor"),
    [
        (lambda k: WORLD, "world"),
        (lambda k: 1 / WORLD, "1/world"),
        (lambda k: WORLD / k, "world/accumulation"),
        (lambda k: 1 / (k * WORLD), "1/(accumulation·world)"),
    ],
)
def test_world_size_once_too_often_or_too_little(extra, factor):
    """A mean loss multiplied or divided by the number of processes is named as that."""
    job = named("cross_entropy").build(0)

    def step(model, parts):
        for part in parts:
            (job.loss(model, part) / len(parts) * extra(len(parts))).backward()

    assert audit_step(job, step, world_size=WORLD).factor == factor


def test_ddp_without_reweighting(language_model):
    """The average of token means over processes misses the token mean of all of them."""
    shards = [range(k, k + 8) for k in (0, 8, 16, 24)]
    found = predict_ddp(language_model, shards)
    report = audit(language_model, world_size=4)

    assert found.deviation > 0.01
    assert not found.only_a_factor
    assert report.consequences.ddp.deviation > 0.01
    assert "world/W" in report.fix


def test_boxes_counted_per_process():
    """Detection: each process divides by its own positives, not by the mean over processes."""
    job = named("over_positives").build(0)

    assert predict_ddp(job, [range(16), range(16, 32)]).deviation > 0.01
    assert audit(job, batch_size=40, partitions=8).normaliser.name == "minibatch[1] == 1"


def test_contrastive_gradient_times_world_size():
    """Gathered embeddings with gradients, then a sum over processes: world times too large."""
    job = named("contrastive_of_pairs").build(0)
    pairs = job.minibatch(range(32))
    model = job.fresh_model().double()
    pairs = [part.double() for part in pairs]
    weights = list(model.parameters())
    with torch.no_grad():
        gathered = [model(part) for part in pairs]
    whole = torch.autograd.grad(job.loss(model, pairs), weights)
    total = [torch.zeros_like(w) for w in weights]
    for rank in range(WORLD):
        mine = slice(8 * rank, 8 * rank + 8)
        here = [all_.clone() for all_ in gathered]
        for side in (0, 1):
            here[side][mine] = model(pairs[side][mine])
        one, other = (F.normalize(part, dim=1) for part in here)
        loss = F.cross_entropy(one @ other.T / 0.2, torch.arange(32))
        # The backward of a gather sums what every process computed from its copy: world times.
        for k, gradient in enumerate(torch.autograd.grad(loss, weights)):
            total[k] += WORLD * gradient

    found = compare_gradients(whole, total, {"world": WORLD})

    assert found.factor == "world"
    assert found.only_a_factor


def test_contrastive_under_accumulation():
    """In-batch negatives are lost: interacting, biased, and the fix is the chunked gradient."""
    report = audit(named("contrastive_of_pairs").build(0))

    assert (report.kind, report.verdict) == ("interacting", "no")
    assert report.bias.detected
    assert "chunked_gradient" in report.fix


def test_balance_loss_divided_by_the_data_parallel_size():
    """Only the router sees the balance term: its part alone is 1/world, and the term is named."""
    job = named("mixture_of_experts_with_balance").build(0)

    def task(model, b):
        return F.cross_entropy(model(b[0])[0], b[1])

    def balance(model, b):
        return model(b[0])[1]

    def divided(model, parts):
        whole = [torch.cat(column) for column in zip(*parts, strict=True)]
        (balance(model, whole) / WORLD).backward()

    alone = audit_step(dataclasses.replace(job, loss=balance), divided, world_size=WORLD)
    report = audit(job, terms={"task": task, "balance": balance})

    assert alone.factor == "1/world"
    assert set(alone.by_parameter) == {"router.weight", "router.bias"}
    assert report.verdict == "no"
    assert [s.name for s in report.sources if s.place == "term"] == ["balance"]


def test_last_window_divided_by_the_wrong_count():
    """20 examples in micro-batches of 8, 8 and 4, divided by three: the last four weigh double."""
    job = named("cross_entropy").build(0)
    report = audit(job)

    assert report.verdict == "yes"
    assert report.consequences.uneven_last.deviation > 0.01
    assert "2 times the weight" in report.consequences.uneven_last.message
    parts = [job.minibatch(range(8)), job.minibatch(range(8, 16)), job.minibatch(range(16, 20))]
    np.testing.assert_allclose(accumulate(report).scales(parts), [0.4, 0.4, 0.2])


def test_class_weights():
    """reduction='mean' with class weights divides by the weights, not by the examples."""
    report = audit(named("class_weights").build(0), batch_size=40, partitions=8)

    assert (report.kind, report.normaliser.name) == ("ratio", "weight[minibatch[1]]")


def test_batch_normalisation():
    """Accumulation does not repair small batches for batch normalisation; the layer is named."""
    report = audit(named("batch_norm").build(0))

    assert report.bias.detected
    assert report.sources[0].place == "module"
    assert "BatchNorm1d" in report.sources[0].detail
    assert "GroupNorm" in report.fix
    assert "not gradient accumulation" in report.fix


def test_a_difference_of_direction_is_no_factor():
    """Two gradients that point elsewhere have a scale, but no name for it."""
    found = compare_gradients([torch.tensor([1.0, 0.0])], [torch.tensor([1.0, 1.0])], {"K": 2})

    assert found.deviation == pytest.approx(1.0)
    assert found.rest == pytest.approx(1.0)
    assert found.factor is None
    assert not found.only_a_factor

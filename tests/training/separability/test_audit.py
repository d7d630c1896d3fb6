"""What an audit says beside the kind: consequences, precision, wording, few parameters."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from loss_zoo import mlp, named, numbers, points
from torch import nn

from batchsense.training import Workload
from batchsense.training.separability import assert_minibatch_safe, audit
from batchsense.training.separability.preparation import quick_audit
from batchsense.training.separability.probe.modes import InFloat64
from batchsense.training.separability.probe.probe import LONGEST
from batchsense.training.separability.probe.tied_noise import TiedNoise

X = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))


def test_a_plain_loss_function_can_be_audited():
    """loss, model and a collated minibatch: the same answer as from a Workload."""
    job = named("cross_entropy").build(0)
    report = audit(job.loss, job.model, job.minibatch(range(48)), 6)

    assert (report.kind, report.batch_size, report.micro_batch) == ("mean", 48, 6)


def test_consequences_of_a_mean():
    """Accumulation and DDP are right, and the uneven end is measured with its factor."""
    found = audit(named("layer_norm").build(0)).consequences

    assert found.gradient_accumulation.deviation < 1e-12
    assert found.ddp.deviation < 1e-12
    assert found.uneven_last.deviation > 0.01


def test_consequences_of_a_sum():
    """Averaging K micro-batches of a sum gives 1/K, two processes 1/N."""
    report = audit(named("cross_entropy_sum").build(0))

    assert report.consequences.gradient_accumulation.factor == "1/K"
    assert report.consequences.gradient_accumulation.scale == pytest.approx(1 / 8)
    assert report.consequences.ddp.factor == "1/N"
    assert report.scale == pytest.approx(1 / 8)


def test_the_uneven_end_is_what_it_would_be():
    """Seven micro-batches of 8 and one of 4, plainly averaged: the same number, recomputed."""
    job = named("cross_entropy").build(0)
    from batchsense.training.separability.preparation import chosen_examples, opened
    from batchsense.training.separability.remedies.consequences import uneven

    first = opened(job, chosen_examples(job, 64, 8, 0), 8, "float64", 0)
    found = uneven(first.screening, 8, first.parts)
    probe, cut = first.screening.probe, first.parts.places
    places = [*cut[1:], cut[0][:4]]
    g = np.array([probe.gradient(place).gradient for place in places])
    whole = probe.gradient(np.concatenate(places)).gradient

    wanted = np.linalg.norm(g.mean(axis=0) - whole) / np.linalg.norm(whole)
    assert found.deviation == pytest.approx(wanted, rel=1e-9)


def test_unbiased_is_never_claimed():
    """Without a detected bias the report gives the bound and its reach."""
    report = audit(named("pairwise_ranking").build(0))

    assert report.verdict == "unresolved"
    assert "no bias detected, |bias| < " in report.conclusion
    assert "(99%, 24 partitions)" in report.conclusion
    assert "unbiased" not in report.conclusion + report.fix
    assert "partitions would bound the bias" in report.fix


def test_a_loose_tolerance_can_be_met():
    """If a bias up to 20 % is acceptable, the ranking loss passes; by default it does not."""
    job = named("pairwise_ranking").build(0)

    assert audit(job, bias_tolerance=0.2).verdict == "yes"
    assert assert_minibatch_safe(job, bias_tolerance=0.2).safe
    with pytest.raises(AssertionError, match=r'"unresolved".*no bias detected'):
        assert_minibatch_safe(job)


def test_the_assertion_says_what_and_how_to_repair():
    """A failing test tells kind, place and fix."""
    with pytest.raises(AssertionError) as failure:
        assert_minibatch_safe(named("batch_norm").build(0))

    text = str(failure.value)
    assert 'verdict "no"' in text
    assert "at 1: BatchNorm1d" in text
    assert "fix: Module 1: use a normalisation per example" in text
    assert assert_minibatch_safe(named("dropout").build(0)).kind == "mean"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("cross_entropy", "mean"), ("dropout", "mean"), ("token_mean", "ratio"),
        ("root_mean_square", "composite"), ("batch_norm", "interacting"),
    ],
)  # fmt: skip
def test_float32_has_fitting_thresholds(name, kind):
    """In float32 the kinds are the same; tolerances lie between rounding and effects."""
    report = audit(named(name).build(0), precision="float32", batch_size=40, partitions=8)

    assert report.kind == kind
    assert 1e-8 < report.floor < report.tolerance < 1e-4


def test_bfloat16_does_not_call_safe_what_it_cannot_see():
    """In bfloat16 a clean loss is not condemned, and not called safe at 1 % either."""
    report = audit(named("layer_norm").build(0), precision="bfloat16")

    assert (report.kind, report.verdict) == ("mean", "unresolved")
    assert report.deviation < report.tolerance < 0.3
    assert "cannot be told from rounding" in report.conclusion
    assert audit(named("cross_entropy_sum").build(0), precision="bfloat16").verdict == "no"


class Halved(nn.Module):
    """Computes in bfloat16 inside, as mixed-precision models do."""

    def __init__(self):
        super().__init__()
        self.net = mlp(6, 4)

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            h = self.net(x.half().float())
        return h.float()


def test_lower_precision_inside_the_model_is_raised():
    """Autocast, casts and float32 class weights inside the loss do not spoil exactness."""
    weight = torch.tensor([1.0, 2.0, 3.0, 4.0])

    def loss(model, b):
        terms = nn.functional.cross_entropy(model(b[0]), b[1], weight=weight, reduction="none")
        return terms.mean()

    torch.manual_seed(0)
    job = Workload(Halved(), loss, points(torch.Generator().manual_seed(0)), torch.optim.SGD)

    assert audit(job).deviation < 1e-12


def test_wrapped_models_are_unwrapped():
    """DataParallel around the model changes nothing."""
    job = named("cross_entropy").build(0)
    wrapped = dataclasses.replace(job, model=nn.DataParallel(job.model))

    assert audit(wrapped).deviation == audit(job).deviation


def few(loss, parameters=1):
    """A line or a plane through the origin: one to three parameters."""
    torch.manual_seed(0)
    model = nn.Linear(parameters, 1, bias=False)
    examples = numbers(torch.Generator().manual_seed(0), parameters)
    return Workload(model, loss, examples, torch.optim.SGD)


def weighted(model, b):
    """A ratio with weights that no count gives."""
    w = b[0][:, 0].exp()
    return (w * (model(b[0]) - b[1]).square().squeeze(1)).sum() / w.sum()


@pytest.mark.parametrize(
    ("loss", "kind", "parameters"),
    [
        (lambda m, b: (m(b[0]) - b[1]).square().mean(), "mean", 1),
        (lambda m, b: (m(b[0]) - b[1]).square().sum(), "sum", 1),
        (weighted, "ratio", 3),
        (weighted, "ratio", 6),
    ],
)
def test_few_parameters_do_not_make_everything_linear(loss, kind, parameters):
    """Fewer parameters than micro-batches: gradients at shifted parameters decide."""
    assert audit(few(loss, parameters), batch_size=32, partitions=8).kind == kind


def test_few_parameters_composite_and_interacting():
    """With four parameters two parts tell a composite from an interaction; with one, nobody can."""

    def root(m, b):
        return (m(b[0]) - b[1]).square().mean().sqrt()

    def contrast(m, b):
        s = m(b[0]).squeeze(1)
        return (s[:, None] * s[None, :]).tanh().mean() + (s - b[1][:, 0]).square().mean()

    assert audit(few(root, 5), batch_size=32, partitions=8).kind == "composite"
    assert audit(few(contrast, 5), batch_size=32, partitions=8).kind == "interacting"
    for loss in (root, weighted):
        alone = audit(few(loss, 1), batch_size=32, partitions=8)
        assert alone.verdict != "yes"
        assert any("cannot be told from an interaction" in note for note in alone.notes)


def test_long_gradients_are_sketched():
    """With more parameters than the sketch holds, zero stays zero and a sum stays a sum."""
    torch.manual_seed(0)
    model = nn.Linear(4, LONGEST // 4)
    mean = audit(lambda m, x: m(x).square().mean(), model, X)
    total = audit(lambda m, x: m(x).square().sum(), model, X, partitions=6)

    assert (mean.kind, total.kind) == ("mean", "sum")
    assert mean.deviation < 1e-12
    assert total.deviation == pytest.approx(7 / 8, rel=1e-9)
    assert any("random sketch" in note for note in mean.notes)


def test_candidates_of_the_user_come_first():
    """A given normaliser is named as given, before any count that fits as well."""
    job = named("token_mean").build(0)
    mine = {"my tokens": lambda b: float((b["labels"] >= 0).sum())}
    report = audit(job, batch_size=40, partitions=8, normalisers=mine)

    assert report.normaliser.name == "my tokens (given)"
    assert "minibatch['labels'] != -100" in report.normaliser.also


def test_stochastic_losses_report_both_kinds():
    """With and without its randomness, and that random numbers are drawn."""
    report = audit(named("token_mean_with_dropout").build(0), batch_size=40, partitions=8)

    assert (report.kind, report.kind_without_noise, report.stochastic) == ("ratio", "ratio", True)
    assert report.exact


def test_what_is_judged_by_chance_says_so():
    """Random numbers out of reach: statistics, a note, and no claim of equality."""
    report = audit(named("dropout_drawn_by_numpy").build(0))

    assert not report.exact
    assert report.verdict == "unresolved"
    assert any("judged by statistics" in note for note in report.notes)
    assert report.conclusion.startswith("Random numbers hide the parts")


def test_tied_noise_follows_the_example():
    """An example meets the same dropout mask in any company, order and size of minibatch."""

    def noise(members, layout=None):
        with TiedNoise(7, members, layout) as tied:
            drawn = (
                torch.rand(len(members), 3),
                torch.nn.functional.dropout(torch.ones(2 * len(members), 5), 0.5),
            )
        return drawn, tied

    (a, b), whole = noise([0, 1, 2, 3])
    (c, d), part = noise([3, 1], whole.layout)

    assert torch.equal(c, a[[3, 1]])
    assert torch.equal(d, b.reshape(4, 2, 5)[[3, 1]].reshape(4, 5))
    assert part.broken is None
    assert not torch.equal(a[0], a[1])


def test_untied_noise_is_admitted():
    """A permutation of the minibatch belongs to no example, and is reported as such."""
    with TiedNoise(0, [0, 1]) as tied:
        torch.randperm(4)

    assert tied.broken is not None


def test_float64_reaches_everything():
    """New tensors, casts and float32 constants all become float64, but not integers."""
    constant = torch.ones(3)
    with InFloat64():
        results = [
            constant + 1, constant.float(), torch.zeros(2, dtype=torch.float16),
            torch.cat([constant, constant]), constant.to(torch.bfloat16),
        ]  # fmt: skip
        counts = torch.ones(3, dtype=torch.long).sum()

    assert {result.dtype for result in results} == {torch.float64}
    assert counts.dtype == torch.long
    assert constant.dtype == torch.float32


def test_quick_audit_on_small_data():
    """Eight examples are cut into micro-batches of two."""
    generator = torch.Generator().manual_seed(0)
    job = Workload(nn.Linear(3, 1), lambda m, x: m(x).square().mean(),
                   torch.randn(8, 3, generator=generator), torch.optim.SGD)  # fmt: skip

    assert quick_audit(job).verdict == "yes"


def test_quick_audit_messages():
    """The message says what was found and what to do next."""
    total = quick_audit(named("cross_entropy_sum").build(0))
    norm = quick_audit(named("batch_norm").build(0))
    hidden = quick_audit(named("dropout_drawn_by_numpy").build(0))

    assert (total.kind, norm.kind, hidden.kind) == ("sum", "interacting", None)
    assert "grows with the batch size" in total.message
    assert "'batchsense audit' tells why" in norm.message
    assert (hidden.verdict, norm.verdict) == ("unresolved", "no")

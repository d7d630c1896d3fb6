"""The one step gives what loops written out gave; order, record and checkpoints are exact."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from batchsense.errors import DataError, OutputError
from batchsense.training import digits_workload
from batchsense.training.gradient_noise import record_short_run
from batchsense.training.gradient_noise.estimators import moments_of_examples
from batchsense.training.learning_rate import matching_learning_rate
from batchsense.training.running import (
    CheckpointFolder,
    Ending,
    EndlessOrder,
    RunRecord,
    joined_ranks,
    optimizer_step,
)
from batchsense.training.training_job import TrainingSettings, train
from batchsense.training.workload import (
    Workload,
    borrowed_randomness,
    loss_gradient,
    scalar_loss,
    trainable,
)


def weights(model: torch.nn.Module) -> torch.Tensor:
    """All parameters in one vector."""
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def squared(gradient: list[torch.Tensor]) -> torch.Tensor:
    """The squared length of a gradient, as the short run adds it up."""
    return torch.stack([torch.linalg.vector_norm(g).double() for g in gradient]).square().sum()


def test_the_step_is_the_loop_written_out() -> None:
    """Sweeps, step times and the demo step as before, to the bit."""
    job = digits_workload()
    one, other = job.fresh_model(), job.fresh_model()
    plain, engine = job.fresh_optimizer(one), job.fresh_optimizer(other)
    order, rng = EndlessOrder(1797, [3, 1]), np.random.default_rng([3, 1])
    queue = rng.permutation(1797)
    for step in range(45):
        while len(queue) < 48:
            queue = np.concatenate([queue, rng.permutation(1797)])
        rows, queue = queue[:48], queue[48:]
        plain.zero_grad(set_to_none=True)
        scalar_loss(job, one, job.minibatch(rows)).backward()  # type: ignore[no-untyped-call]
        plain.step()
        optimizer_step(job, other, engine, [job.minibatch(order.at(48 * step, 48))])

    assert torch.equal(weights(one), weights(other))


@pytest.mark.parametrize("batch_size", [30, 32])
def test_the_short_run_is_the_loop_written_out(batch_size: int) -> None:
    """Noise, signal, losses and weights of the short run, to the bit."""
    job = digits_workload()
    records, trained = record_short_run(job, 18, batch_size, seed=3)
    rows = []
    with borrowed_randomness(3):
        model = job.fresh_model()
        optimizer, rng = job.fresh_optimizer(model), np.random.default_rng(3)
        for _ in range(18):
            chosen = rng.choice(1797, size=(8, batch_size // 8), replace=False)
            losses, squares = 0.0, torch.zeros((), dtype=torch.float64)
            total: list[torch.Tensor] = []
            for part in chosen:
                loss = scalar_loss(job, model, job.minibatch(part))
                gradient = loss_gradient(loss, trainable(model))
                losses, squares = losses + loss.item(), squares + squared(gradient)
                total = [a + b for a, b in zip(total, gradient, strict=True)] if total else gradient
            mean = [part / 8 for part in total]
            found = moments_of_examples(squares.item() / 8, squared(mean).item(), 8)
            for parameter, value in zip(model.parameters(), mean, strict=True):
                parameter.grad = value
            optimizer.step()
            tau = found.trace_covariance * (batch_size // 8) * 1796 / 1797
            rows.append((losses / 8, tau, found.squared_gradient_norm + tau / 1796))
    loss_, tau_, gamma_ = np.array(rows).T

    assert (records.loss == loss_).all()
    assert (records.trace_covariance == tau_).all()
    assert (records.squared_gradient_norm == gamma_).all()
    assert torch.equal(weights(model), weights(trained))


def test_scaled_parts_add_up_to_the_whole() -> None:
    """Shares of the examples as scales give the step of the whole minibatch."""
    job = digits_workload()
    models = [job.fresh_model().double() for _ in range(2)]
    double = torch.utils.data.TensorDataset(
        job.examples.tensors[0].double(), job.examples.tensors[1]  # type: ignore[attr-defined]
    )  # fmt: skip
    wide = Workload(models[0], job.loss, double, job.optimizer)
    parts = [range(5), range(5, 12)]
    optimizer_step(
        wide, models[0], wide.optimizer(models[0].parameters()), [wide.minibatch(range(12))]
    )
    optimizer_step(
        wide,
        models[1],
        wide.optimizer(models[1].parameters()),
        map(wide.minibatch, parts),
        scales=[5 / 12, 7 / 12],
    )

    torch.testing.assert_close(weights(models[0]), weights(models[1]), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("environment", "wrong"),
    [
        ({"WORLD_SIZE": "2"}, "RANK, MASTER_ADDR, MASTER_PORT"),
        (
            {"WORLD_SIZE": "two", "RANK": "0", "MASTER_ADDR": "here", "MASTER_PORT": "1"},
            "WORLD_SIZE is missing or no number",
        ),
    ],
)
def test_half_an_environment_is_refused(environment: dict[str, str], wrong: str) -> None:
    """What another launcher left is named, before any waiting."""
    with pytest.raises(DataError, match=wrong), joined_ranks(environment=environment):
        pass


def test_the_order_can_be_read_from_anywhere() -> None:
    """Any stretch, in any sequence of readings; each pass holds every example once."""
    stream = EndlessOrder(7, 5).at(0, 70)
    reader = EndlessOrder(7, 5)

    for start, size in [(40, 9), (3, 1), (0, 70), (69, 1), (6, 2), (0, 0)]:
        assert (reader.at(start, size) == stream[start : start + size]).all()
    assert (np.sort(stream.reshape(10, 7)) == np.arange(7)).all()


def test_a_record_keeps_the_means_of_equal_stretches() -> None:
    """However long the run, the curve is short and its points are means over their stretch."""
    losses = np.random.default_rng(0).normal(size=1100).tolist()
    record, again = RunRecord(), RunRecord()
    for k in range(0, 1100, 11):
        record.add(losses[k : k + 11], [4] * 11)
    again = RunRecord.of_state(record.state_dict())
    (first, _), (second, mean) = again.curve[:2]

    assert (again.steps, again.examples, len(again.curve) <= 256) == (1100, 4400, True)
    assert mean == pytest.approx(np.mean(losses[first:second]))
    assert again.loss == pytest.approx(np.mean(losses[-20:]))
    assert math.isnan(RunRecord().loss)


def test_a_run_ends_at_its_loss() -> None:
    """At the first eighth step at which the mean of the last 20 minibatches is low enough."""
    settings = TrainingSettings(32, learning_rate_batch_size=32)
    done = train(digits_workload(), settings, Ending(steps=400, loss=1.0))
    losses = [loss for _, loss in done.record.curve]
    reached = [k for k in range(20, len(losses) + 1) if np.mean(losses[k - 20 : k]) <= 1.0]

    assert done.stopped_by == "loss"
    assert done.record.steps == len(losses) == next(k for k in reached if k % 8 == 0)


def test_the_learning_rate_is_the_one_of_the_rule() -> None:
    """As plans print it; the job itself is not changed, and noise is measured on the way."""
    job = digits_workload()
    before = weights(job.model).clone()
    done = train(job, TrainingSettings(96, 32, critical_batch_size=60.0), Ending(epochs=1))
    rule = matching_learning_rate(job.fresh_optimizer(job.model), 32, 96, 60.0)

    assert done.learning_rate == pytest.approx(rule.learning_rate)
    assert torch.equal(weights(job.model), before)
    assert (done.record.steps, done.record.examples) == (19, 19 * 96)
    assert done.noise is not None


def test_a_batch_size_may_change_from_step_to_step() -> None:
    """A schedule is any function of what was seen; examples are taken without a gap."""
    taken = train(
        digits_workload(),
        TrainingSettings(8, batch_sizes=lambda steps, examples: 8 if examples < 40 else 24),
        Ending(steps=7),
    )

    assert taken.record.examples == 5 * 8 + 2 * 24


def test_a_folder_of_checkpoints_is_its_own(tmp_path: Path) -> None:
    """Files, folders of other things, and older runs are left alone; leftovers of ours go."""
    file, other, kept = tmp_path / "file", tmp_path / "other", tmp_path / "kept"
    file.touch()
    other.mkdir()
    (other / "thesis.txt").touch()
    with pytest.raises(OutputError, match="is a file"):
        CheckpointFolder.opened(file, resume=False)
    with pytest.raises(OutputError, match=r"other things \(thesis.txt\)"):
        CheckpointFolder.opened(other, resume=True)
    with pytest.raises(DataError, match="no checkpoint to go on from"):
        CheckpointFolder.opened(kept, resume=True)
    folder = CheckpointFolder.opened(kept, resume=False)
    (kept / ".batchsense-77-abcd.tmp").touch()
    folder.write({"record": {"steps": 3}})
    with pytest.raises(OutputError, match="--resume goes on from it"):
        CheckpointFolder.opened(kept, resume=False)

    assert CheckpointFolder.opened(kept, resume=True).read()["record"] == {"steps": 3}
    assert [one.name for one in kept.iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize("damage", [b"", b"no checkpoint", "cut"])
def test_a_damaged_checkpoint_is_told(damage: bytes | str, tmp_path: Path) -> None:
    """Nothing, something else, or the first half of one."""
    folder = CheckpointFolder.opened(tmp_path / "kept", resume=False)
    folder.write({"model": {"weight": torch.ones(500)}})
    whole = folder.file.read_bytes()
    folder.file.write_bytes(whole[: len(whole) // 2] if isinstance(damage, str) else damage)

    with pytest.raises(DataError, match="cannot be read as a checkpoint"):
        folder.read()

"""Jobs of the clumsy: nothing in them, nothing that moves, nothing that reads."""

from pathlib import Path

import pytest

from batchsense.cli.main import run

JOBS = """
import torch
from torch import nn
from torch.utils.data import TensorDataset
from batchsense.training import Workload

inputs = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
targets = inputs.sum(1) + torch.randn(40, generator=torch.Generator().manual_seed(1))

class Broken(list):
    def __getitem__(self, index):
        raise OSError("disk gone")

def square(model, minibatch):
    return (model(minibatch[0])[:, 0] - minibatch[1]).square().mean()

def make(loss=square, data=None, rate=0.01, model=None, optimizer=torch.optim.SGD):
    torch.manual_seed(0)
    data = TensorDataset(inputs, targets) if data is None else data
    model = nn.Linear(3, 1) if model is None else model
    return Workload(model, loss, data, lambda p: optimizer(p, lr=rate), batch_size=8)

def empty(): return make(data=TensorDataset(inputs[:0], targets[:0]))
def summed(): return make(lambda model, minibatch: 8 * square(model, minibatch)
                          * len(minibatch[1]) / 8)
def few(): return make(data=TensorDataset(inputs[:5], targets[:5]))
def still(): return make(rate=0.0)
def flat(): return make(lambda model, minibatch: 0 * square(model, minibatch))
def elsewhere(): return make(lambda model, minibatch: torch.ones((), requires_grad=True))
def own(): return make(nn.MSELoss())
def broken(): return make(data=Broken([1] * 20))
def closure(): return make(optimizer=torch.optim.LBFGS)
def untracked(): return make(lambda m, b: torch.autograd.grad(square(m, b), m.weight)[0].sum()
                             + square(m, b))
def sparse():
    return make(lambda m, b: (m(b) - 1).square().mean(), [i % 9 for i in range(40)],
                model=nn.Embedding(9, 1, sparse=True))
"""
_STEPS = {"train": ["--steps", "3"], "temperature": ["--steps", "200"]}


@pytest.fixture
def jobs(tmp_path: Path) -> str:
    """A file of jobs."""
    file = tmp_path / "jobs.py"
    file.write_text(JOBS)
    return f"{file}:"


@pytest.mark.parametrize(
    ("commands", "job", "code", "words"),
    [
        ("memory train temperature probe noise audit plan", "empty", 3, "examples is empty"),
        ("plan", "few", 1, "5 examples are too few"),
        ("train temperature", "still", 1, "learning rate of the optimizer is 0"),
        ("noise", "flat", 1, "gradient of every example drawn is zero"),
        ("train memory temperature", "elsewhere", 3, "does not depend on the model"),
        ("noise train", "own", 3, "it is called as loss(model, minibatch)"),
        ("noise train", "broken", 3, "could not be read: OSError: disk gone"),
        ("noise", "closure", 3, "such as SGD or Adam"),
        ("temperature", "untracked", 3, "the loss raised RuntimeError"),
    ],
)
def test_each_command_refuses_in_words(
    commands: str,
    job: str,
    code: int,
    words: str,
    jobs: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """None measures what is not there, and none calls it a bug of its own."""
    for command in commands.split():
        assert run([command, jobs + job, *_STEPS.get(command, [])]) == code, command
        told = capsys.readouterr()
        assert not told.out
        assert words in told.err


def test_an_example_that_cannot_be_read_is_named(
    jobs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first that fails, of however many were wanted."""
    assert run(["audit", jobs + "broken", "--micro-batch", "2", "--minibatch", "8"]) == 3
    assert "batchsense: examples[" in capsys.readouterr().err


@pytest.mark.parametrize("how", [[], ["--fake"]])
def test_memory_counts_sparse_gradients(
    how: list[str], jobs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such a tensor has no storage of its own: its places and values have."""
    assert run(["memory", jobs + "sparse", *how]) == 0
    assert "40 examples" in capsys.readouterr().out


def test_nobody_is_sent_for_examples_that_are_not_there(
    jobs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """All 40 are drawn: more of --examples changes nothing."""
    words = ["noise", jobs + "make", "--steps", "0", "--micro-batches", "8", "--no-per-example"]
    assert run(words) == 1
    told = capsys.readouterr().out
    assert "more examples than the 40 of the data set" in told
    assert "--examples" not in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("memory --dtype bfloat16", "--dtype is of --features"),
        ("train --steps 2 --checkpoint-every 5", "--checkpoint-every needs --checkpoint"),
        ("plan --confidence 0.9", "--confidence needs --tolerance"),
        ("plan --workers 1,2", "--latency, and these need --workers"),
    ],
)
def test_no_option_is_passed_over(
    words: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that would change nothing is refused with what it needs, before any work."""
    assert run(words.split()) == 2
    assert told in capsys.readouterr().err


def test_a_minimum_beyond_the_data_is_refused_before_the_work(
    jobs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing that a plan measures could change it."""
    assert run(["plan", jobs + "make", "--min", "41", "--budget", "600"]) == 1
    assert "at most 40 are possible (data)" in capsys.readouterr().err


def test_a_window_of_a_short_epoch_has_enough_steps(
    jobs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The user named no window, so none is found wanting."""
    run(["temperature", jobs + "make", "--steps", "130", "--batch-size", "40"])
    assert "a window has" not in capsys.readouterr().err


def test_workers_that_nobody_named_divide_the_batch_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of 1, 2, 4 ... those are asked about that can share its examples."""
    steps = tmp_path / "steps.csv"
    rows = [f"1,{k},{m},{0.01 * m + 0.02 * k}" for k in (1, 2, 4) for m in (8, 32)]
    steps.write_text("\n".join(["nodes,workers,micro_batch,seconds", *rows]))
    assert run(["workers", str(steps), "--batch-size", "6"]) == 0
    assert "Of 1 to 2 workers" in capsys.readouterr().out


@pytest.mark.parametrize("asked", [["--batch-size", "32"], ["--schedule", "8, 16 at 20"]])
def test_a_sum_is_not_trained_at_another_size(
    jobs: str, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Its gradient grows with the size, and the rule of the rate is one for means."""
    assert run(["train", f"{jobs}summed", *asked, "--steps", "3", "-q"]) == 3
    assert "the loss is the sum over the examples" in capsys.readouterr().err
    assert run(["train", f"{jobs}summed", "--steps", "3", "-q"]) == 0


@pytest.mark.parametrize("sizes", ["256 from 2000", "64, 32 at 20, 16 at 10", "0"])
def test_a_schedule_that_is_none_is_a_wrong_option(
    jobs: str, sizes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Told as what was asked, not as bad data."""
    assert run(["train", f"{jobs}own", "--schedule", sizes, "--steps", "3"]) == 2
    assert "--schedule: " in capsys.readouterr().err

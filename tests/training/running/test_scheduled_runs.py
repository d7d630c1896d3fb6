"""The engine and the command under a schedule: processes, kills, and what is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import batchsense.training.training_job as training_job
from batchsense.cli.main import run as command
from batchsense.errors import DataError
from batchsense.training import Workload
from batchsense.training.running import CheckpointFolder, Ending
from batchsense.training.schedule import parse_schedule
from batchsense.training.training_job import TrainedRun, TrainingSettings, train

JOBS = Path(__file__).parent / "jobs.py"
WRITTEN = "11, 22 at 120, 44 at 300"


def noisy() -> Workload:
    """Regression whose noise scale passes 8 on the way, with AdamW."""
    numbers = torch.Generator().manual_seed(0)
    x = torch.randn(400, 4, generator=numbers)
    y = x @ torch.tensor([1.0, -1.0, 0.5, 2.0]) + torch.randn(400, generator=numbers)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Linear(4, 1)

    def loss(net: nn.Module, minibatch: Any) -> torch.Tensor:
        return (net(minibatch[0])[:, 0] - minibatch[1]).square().mean()

    def adam(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.AdamW(parameters, lr=0.03)

    return Workload(model, loss, TensorDataset(x, y), adam, batch_size=8)


def weights(run: TrainedRun) -> torch.Tensor:
    """In one vector."""
    return torch.cat([p.detach().reshape(-1) for p in run.model.parameters()])


def stopped_and_resumed(
    settings: TrainingSettings, steps: int, after: int, folder: Path
) -> TrainedRun:
    """Train to a checkpoint after so many steps, then go on."""
    train(
        noisy(), settings, Ending(steps=after), kept=CheckpointFolder.opened(folder, resume=False)
    )
    kept = CheckpointFolder.opened(folder, resume=True)
    return train(noisy(), settings, Ending(steps=steps), kept=kept, resume=True)


@pytest.mark.parametrize("couple", [None, "temperature"])
def test_noise_is_followed_and_taken_up_again(
    couple: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The size doubles as the noise grows, and a stopped run goes on to the same to the bit."""
    # As a run of this length is measured by itself; a shorter end may not change it.
    monkeypatch.setattr(training_job, "_spacing", lambda *of: 1)
    settings = TrainingSettings(4, batch_sizes="noise", couple=couple)
    whole = train(noisy(), settings, Ending(steps=70))
    sizes = [switch.batch_size for switch in whole.switches]

    assert sizes[:2] == [4, 8]
    assert all(switch.reason.startswith("noise scale") for switch in whole.switches[1:])
    rates = [switch.learning_rate for switch in whole.switches]
    wanted = [rates[0] * (size / 4) ** (0.0 if couple is None else 0.5) for size in sizes]
    assert rates == pytest.approx(wanted)
    first = whole.switches[1].step
    for k, after in enumerate((first - 1, first, first + 1)):
        again = stopped_and_resumed(settings, 70, after, tmp_path / str(k))
        assert again.switches == whole.switches
        assert torch.equal(weights(again), weights(whole))


def test_larger_steps_are_cut_and_too_large_ones_refused() -> None:
    """Micro-batches of a step give its gradient; a size beyond the examples is named at once."""
    sizes = parse_schedule("8, 40 at 64")
    one, cut = (
        train(noisy(), TrainingSettings(8, batch_sizes=sizes, micro_batch=m), Ending(steps=20))
        for m in (None, 16)
    )
    torch.testing.assert_close(weights(one), weights(cut))
    with pytest.raises(DataError, match="asks for 800 of 400 examples a step; take 400 or less"):
        train(
            noisy(),
            TrainingSettings(8, batch_sizes=parse_schedule("8, 800 at 64")),
            Ending(steps=1),
        )


def test_processes_and_kills_change_nothing(run_all: Callable[..., tuple[Path, Any]]) -> None:
    """Two processes and one, one of two killed and both asked to stop, one going on for two."""

    def words(folder: str, *more: str) -> list[str]:
        job = ("train", f"{JOBS}:mean", "--epochs", "25", "--json", "-q", "--timeout", "60")
        kept = ("--checkpoint", folder, "--checkpoint-every", "0", *more)
        return [*job, "--schedule", WRITTEN, "--couple", "lr", *kept]

    def hit(number: str, rank: int | None, folder: str) -> dict[str, Any]:
        waits = f"{folder}/checkpoint.pt"
        return {"signal": [number, rank, 1], "waits_for": waits, "spread": 0.2}

    own = ("train", f"{JOBS}:mean", "--batch-size", "2", "--steps", "90", "--json", "-q")
    noisy_words = [*own, "--schedule", "noise", "--couple", "lr"]
    folder, codes = run_all(
        {
            "one": {"world": 1, "words": words("one")},
            "two": {"world": 2, "words": words("two")},
            "killed": {"world": 2, "words": words("k"), **hit("SIGKILL", 1, "k")},
            "again": {"world": 2, "words": words("k", "--resume")},
            "noise": {"world": 2, "words": noisy_words},
            "stopped": {"world": 2, "words": words("s"), **hit("SIGTERM", None, "s")},
            "alone": {"world": 1, "words": words("s", "--resume")},
        }
    )

    def result(name: str) -> dict[str, Any]:
        assert codes[name][0] == 0, (folder / f"{name}.0.err").read_text()
        return json.loads((folder / f"{name}.0.out").read_text())["result"]

    assert [one["batch_size"] for one in result("noise")["batch_sizes"]][:2] == [2, 4]
    two = result("two")
    assert [(one["examples"], one["batch_size"]) for one in two["batch_sizes"]] == [
        (0, 11),
        (121, 22),
        (319, 44),
    ]
    for name in ("one", "again", "alone"):
        found = result(name)
        assert found["batch_sizes"] == two["batch_sizes"]
        assert found["steps"] == two["steps"]
        assert found["final_loss"] == pytest.approx(two["final_loss"], rel=1e-9)
    assert result("again")["final_loss"] == two["final_loss"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--schedule", "8 then 16"], 2, "SIZE at EXAMPLES"),
        (["--schedule", "8", "--batch-size", "8"], 2, "leave out --batch-size"),
        (["--couple", "lr"], 2, "--couple needs --schedule"),
        (["--schedule", "8, 4000 at 100"], 3, "take 1,797 or less"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In words, before any training."""
    assert command(["train", "digits", "--steps", "2", "-q", *words]) == code
    assert said in " ".join(capsys.readouterr().err.split())


def test_the_page_shows_the_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Text, page and notes tell what changed, when and why."""
    page = tmp_path / "run.html"
    words = ["--schedule", "32, 64 at 320", "--steps", "20", "--report", str(page)]
    assert command(["train", "digits", *words]) == 0
    said = capsys.readouterr().out
    assert "20 steps of 32 to 64 examples" in said
    assert "The batch size changed once. The learning rate stayed" in said
    assert "Batch sizes of the schedule" in page.read_text()
    assert command(["train", "digits", "--schedule", "noise", "--steps", "20"]) == 0
    assert "The batch size stayed at 32: the noise scale was never" in capsys.readouterr().out
    words = ["--schedule", "32, 256 at 960", "--couple", "lr", "--steps", "100", "--json", "-q"]
    assert command(["train", "digits", *words]) == 0
    notes = json.loads(capsys.readouterr().out)["notes"]
    assert "loss_was_lower" in [note["code"] for note in notes]

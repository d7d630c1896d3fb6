"""One, two and four processes train the same, and end in words when something is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

JOBS = Path(__file__).parent / "jobs.py"
#: Of losses between numbers of processes, in float64.
AGREED = 1e-6
Cases = dict[str, dict[str, Any]]


def trained(job: str, world: int, steps: int = 16, **settings: Any) -> dict[str, Any]:
    """A case that trains a job at 11 examples a step."""
    return {
        "world": world,
        "job": job,
        "settings": {"batch_size": 11, "learning_rate_batch_size": 11, **settings},
        "ending": {"steps": steps},
    }


@pytest.fixture(scope="module")
def found(run_all: Callable[[Cases], tuple[Path, Any]]) -> dict[str, list[dict[str, Any]]]:
    """What every process of every case saved."""
    cases = {
        f"{job}{world}": trained(job, world)
        for job, world in (("mean", 1), ("mean", 2), ("mean", 4), ("tokens", 1), ("tokens", 2))
    }
    cases |= {
        "parts4": trained("tokens", 4, accumulate=2),
        "partly1": trained("partly", 1),
        "partly2": trained("partly", 2),
        "fp16": trained("mean", 2, compress="fp16"),
        "bf16": trained("mean", 2, compress="bf16"),
        "buckets": trained("mean", 2, bucket_cap_mb=0.0001),
        "local": trained("mean", 2, sync_every=6),
        "dropout": trained("dropout", 2),
    }
    folder, codes = run_all(cases)
    assert all(code == 0 for several in codes.values() for code in several), codes
    return {
        name: [
            torch.load(folder / f"{name}.{rank}.pt", weights_only=True)
            for rank in range(case["world"])
        ]
        for name, case in cases.items()
    }


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("mean1", "mean2"),
        ("mean1", "mean4"),
        ("tokens1", "tokens2"),
        ("tokens1", "parts4"),
        ("partly1", "partly2"),
        ("mean1", "buckets"),
    ],
)
def test_the_losses_are_those_of_one_process(one: str, many: str, found: Any) -> None:
    """Uneven shares, means over tokens, micro-batches and buckets change rounding alone."""
    losses, others = found[one][0]["curve"], found[many][0]["curve"]

    assert len(losses) == 16
    assert losses[-1, 1] < 0.9 * losses[0, 1]
    torch.testing.assert_close(others, losses, rtol=AGREED, atol=0)


def test_all_processes_have_the_same_weights_to_the_bit(found: Any) -> None:
    """Also with compressed gradients, dropout, or parameters that are averaged now and then."""
    for several in found.values():
        for other in several[1:]:
            assert torch.equal(several[0]["weights"], other["weights"])


@pytest.mark.parametrize(("name", "tolerance"), [("fp16", 2e-3), ("bf16", 2e-2), ("local", 0.5)])
def test_levers_change_the_run_by_no_more_than_they_say(
    name: str, tolerance: float, found: Any
) -> None:
    """Half precision rounds, local steps differ for real, and neither is the plain run."""
    gap = (found[name][0]["curve"][:, 1] / found["mean1"][0]["curve"][:, 1] - 1).abs().max()

    assert 0 < gap < tolerance


def test_how_parts_were_combined(found: Any) -> None:
    """The audit tells a mean over examples from one over tokens; one part needs no audit."""
    names = {"mean1": None, "mean2": "mean", "tokens2": "ratio", "parts4": "ratio"}

    assert {name: found[name][0]["combined"] for name in names} == names


def command(job: str, *words: str) -> list[str]:
    """Words of the command line."""
    return ["train", f"{JOBS}:{job}", *words]


@pytest.fixture(scope="module")
def refused(run_all: Callable[[Cases], tuple[Path, Any]]) -> Callable[[str], tuple[list[int], str]]:
    """The exit codes of a case, and all that its processes said."""
    run = ["--steps", "200"]
    brief = ["--timeout", "6"]
    cases: Cases = {
        "differs": {"world": 2, "words": command("differs", *run)},
        "coupled": {"words": command("coupled", *run, "--accumulate", "3")},
        "not_finite": {"world": 2, "words": command("not_finite", *run)},
        "few": {"world": 2, "words": command("mean", "--batch-size", "1", *run)},
        "silent": {"world": 2, "words": command("silent_rank", *run, *brief)},
        "unreachable": {"world": 2, "absent": [1], "words": command("mean", *run, *brief)},
        "inexact": {"world": 2, "words": command("coupled", "--steps", "3", "--inexact", "--json")},
        "begun": {"world": 2, "words": command("mean", "--steps", "9", "--checkpoint", "kept")},
        "again": {"world": 2, "words": command("mean", "--steps", "9", "--checkpoint", "kept")},
        "none": {"words": command("mean", *run, "--checkpoint", "new", "--resume")},
        **{
            name: {"words": command(job, *run, "--checkpoint", "kept", "--resume", *more)}
            for name, job, more in (
                ("wider", "wider", []),
                ("other_data", "other_data", []),
                ("other_plan", "mean", ["--batch-size", "7"]),
            )
        },
        "fewer": {
            "words": command("mean", "--steps", "12", "--checkpoint", "kept", "--resume", "--json")
        },
    }  # fmt: skip
    folder, codes = run_all(cases)

    def told(name: str) -> tuple[list[int], str]:
        ranks = range(cases[name].get("world", 1))
        files = [folder / f"{name}.{rank}.{end}" for rank in ranks for end in ("out", "err")]
        return codes[name], "".join(file.read_text() for file in files if file.exists())

    return told


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("differs", 3, "rank 1: is of another model: 0.weight is (8, 7) float64 there"),
        ("coupled", 1, "or --inexact"),
        ("not_finite", 3, "the loss is nan"),
        ("few", 3, "1 examples a step cannot be shared by 2 processes"),
        ("silent", 3, "waited for it more than 6 s"),
        ("unreachable", 3, "did not meet the others"),
        ("again", 2, "holds the checkpoint of an earlier run; --resume goes on from it"),
        ("none", 3, "holds no checkpoint to go on from"),
        ("wider", 3, "is of another model: 0.weight is (8, 6) float64 there, (9, 6)"),
        ("other_data", 3, "is of another data: 0 example[0] is"),
        ("other_plan", 3, "is of another plan: batch size is 11 there, 7 in this run"),
    ],
)
def test_what_is_wrong_is_said_once_and_ends_all(
    name: str, code: int, words: str, refused: Any
) -> None:
    """Every process ends with the same code; one of them speaks."""
    codes, said = refused(name)

    assert set(codes) == {code}, said
    assert said.count("batchsense: ") == 1, said
    assert words in said


def test_only_the_first_process_answers(refused: Any) -> None:
    """Stdout carries one document, also where parts that do not add up were wanted."""
    codes, said = refused("inexact")
    document = json.loads(said[said.index("{") : said.rindex("}") + 1])

    assert codes == [0, 0]
    assert document["result"]["combined"] == "inexact"
    assert document["notes"][0]["code"] == "inexact"


def test_fewer_processes_go_on(refused: Any) -> None:
    """One process goes on from the checkpoint of two, and says what is not the same."""
    codes, said = refused("fewer")
    result = json.loads(said[said.index("{") : said.rindex("}") + 1])

    assert codes == [0]
    assert (result["result"]["resumed_at"], result["result"]["steps"]) == (9, 12)
    assert "other_processes" in [note["code"] for note in result["notes"]]

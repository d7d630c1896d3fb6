"""`batchsense workers`: the ladder, a list of steps, what is refused, and the page."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from batchsense.cli.main import run
from batchsense.progress import Progress
from batchsense.questions.registry import json_schema
from batchsense.training import workers

HEADER = "nodes,workers,micro_batch,seconds"


def shared_link(workers: int, micro_batch: float) -> float:
    """0.3 ms an example; all gradients take 0.08 s over a link that everyone shares."""
    return 0.01 + 0.0003 * micro_batch + 0.16 * (workers - 1)


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Steps of up to four workers on nodes of their own."""
    path = tmp_path_factory.mktemp("steps") / "steps.csv"
    rows = [(k, k, b) for k in (1, 2, 4) for b in (64, 256, 1024)]
    lines = [f"{n},{k},{b},{shared_link(k, b)}" for n, k, b in rows]
    path.write_text("\n".join([HEADER, *lines, ""]))
    return str(path)


@pytest.fixture(scope="module", autouse=True)
def fitted_once() -> Iterator[None]:
    """One table is asked many questions here; it is fitted once."""
    known: dict[bytes, workers.StepModel] = {}
    fit = workers.fit_steps

    def once(table: workers.StepTable, seed: int, progress: Progress) -> workers.StepModel:
        if table.seconds.tobytes() not in known:
            known[table.seconds.tobytes()] = fit(table, seed, progress)
        return known[table.seconds.tobytes()]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "fit_steps", once)
        yield


def asked(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the valid document."""
    code = run(["workers", *words, "--json"])
    document = json.loads(capsys.readouterr().out)
    jsonschema.validate(document, json_schema("workers"))
    return code, document


def test_more_workers_that_are_slower_are_no(
    steps: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """256 examples: one worker is best, and the exit code says so."""
    code, document = asked(capsys, steps, "--workers", "1,2,4", "--batch-size", "256")
    result = document["result"]

    assert code == 1
    assert result["slower_for_certain"]
    assert (result["best"]["nodes"], result["best"]["workers"]) == (1, 1)
    assert [one["batch_size"] for one in result["predictions"]] == [256] * 3
    verdicts = {
        (one["from"]["workers"], one["to"]["workers"]): one["verdict"]
        for one in result["comparisons"]
    }
    assert verdicts == {(1, 2): "slower", (1, 4): "slower", (2, 4): "slower"}
    assert sum(one["weight"] for one in result["model"]) == pytest.approx(1)
    assert {one["form"] for one in result["model"]} >= {"no overlap"}
    assert result["turning"]["workers"]["estimate"] == 1


def test_more_workers_that_are_faster_are_yes(
    steps: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """4,096 examples: two and four workers beat one, by what was measured and beyond it."""
    code, document = asked(capsys, steps, "--workers", "1,2,4", "--batch-size", "4096")
    result = document["result"]

    assert code == 0
    assert result["best"]["workers"] > 1
    assert result["predictions"][0]["flags"] == ["micro_batch_outside"]
    for one in result["predictions"]:
        truth = shared_link(one["workers"], one["micro_batch"])
        assert one["seconds"]["low"] < truth < one["seconds"]["high"]


def test_listed_steps_are_answered_in_their_order(
    steps: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows of --at come back as they stand, with what was measured of them."""
    path = tmp_path / "at.csv"
    path.write_text("nodes,workers,micro_batch\n4,4,100\n1,1,256\n2,2,128\n4,4,100\n")
    code, document = asked(capsys, steps, "--at", str(path))
    predictions = document["result"]["predictions"]

    assert [(one["workers"], one["micro_batch"]) for one in predictions] == [
        (4, 100), (1, 256), (2, 128), (4, 100),
    ]  # fmt: skip
    assert predictions[1]["measured_seconds"] == pytest.approx(shared_link(1, 256))
    assert predictions[0]["measured_seconds"] is None
    assert document["result"]["held"] == "rows"
    assert code == 0
    assert len(document["inputs"]) == 2


def test_noise_moves_the_best(steps: str, capsys: pytest.CaptureFixture[str]) -> None:
    """At one micro-batch more workers see more examples; without noise they gain nothing by it."""
    words = (steps, "--workers", "1,2", "--micro-batch", "1024")
    _, plain = asked(capsys, *words)
    _, quiet = asked(capsys, *words, "--noise-scale", "1")
    _, noisy = asked(capsys, *words, "--noise-scale", "1e6")

    assert plain["result"]["best"]["workers"] == 2
    assert quiet["result"]["best"]["workers"] == 1
    assert noisy["result"]["best"]["workers"] == 2
    assert quiet["result"]["predictions"][0]["time_to_target"] == 1
    assert plain["result"]["predictions"][0]["time_to_target"] is None


def test_without_options_the_table_says_what_is_held(
    steps: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Powers of two up to twice what was measured, at the micro-batch that is there most."""
    _, document = asked(capsys, steps)
    result = document["result"]

    assert [one["workers"] for one in result["predictions"]] == [1, 2, 4, 8]
    assert result["held"] == "micro_batch"
    assert {one["micro_batch"] for one in result["predictions"]} == {1024}
    assert result["turning"] is None


def test_the_text_and_the_page_say_the_same(
    steps: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The headline, the table and the levers."""
    page = tmp_path / "r.html"
    words = ["workers", steps, "--workers", "1,2,4", "--batch-size", "256", "--report", str(page)]
    assert run(words) == 1
    text = " ".join(capsys.readouterr().out.split())

    headline = "4 workers are slower for certain than fewer at 256 examples a step; 1 worker on 1"
    assert headline in text
    assert headline in " ".join(page.read_text().split())
    assert "shortest at 1 worker" in text
    assert "gradients sent in half the bytes" in text


def test_a_single_step_is_only_told(steps: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is best among one, and nothing is compared."""
    assert run(["workers", steps, "--workers", "2", "--batch-size", "512"]) == 0
    text = capsys.readouterr().out

    assert text.startswith("A step of 512 examples with 2 workers on 2 nodes takes 2")
    assert "For the same number of examples" not in text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--batch-size", "64", "--micro-batch", "8"], "either --batch-size or"),
        (["--workers", "1,two"], "whole numbers from 1 with commas"),
        (["--workers", "0"], "whole numbers from 1 with commas"),
        (["--at", "at.csv", "--workers", "1"], "leave out --workers"),
        (["--workers", "1,3", "--batch-size", "256"], "the next that does is 258"),
        (["--workers", "1,2,3", "--nodes", "2"], "3 workers cannot be spread evenly"),
        (["--nodes", "7"], "8 workers cannot be spread evenly over --nodes 7"),
    ],
)
def test_wrong_questions_are_usage(
    steps: str, words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and what to write instead."""
    assert run(["workers", steps, *words]) == 2
    assert says in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("rows", "code", "says"),
    [
        (["1,1,8,-1"], 3, "line 2: seconds must be a positive number"),
        (["1,1,8,0.1", "2,3,8,0.2"], 3, "line 3: 3 workers cannot be spread evenly over 2 nodes"),
        (["1,1,8,0.1"], 1, "needed: steps of nodes=1, workers=1, micro_batch=32"),
        ([f"1,{k},8,0.{k}" for k in range(2, 8)], 1, "no step with one worker was measured"),
    ],
)
def test_tables_that_cannot_answer_say_why(
    tmp_path: Path, rows: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The row, or the step that is still needed."""
    path = tmp_path / "steps.csv"
    path.write_text("\n".join([HEADER, *rows]))

    assert run(["workers", str(path)]) == code
    captured = capsys.readouterr()
    assert says in " ".join((captured.out + captured.err).split())

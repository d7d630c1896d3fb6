"""TARGET: every way to name a workload, and every way to get it wrong."""

from pathlib import Path

import pytest

from batchsense.errors import DataError
from batchsense.training import Workload, load_target

GOOD = """
import torch
from torch import nn
from batchsense.training import Workload

def job():
    return Workload(
        nn.Linear(2, 1),
        lambda model, minibatch: model(minibatch).square().mean(),
        [torch.ones(2), torch.zeros(2)],
        lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    )
"""


@pytest.mark.parametrize("name", ["digits", "charlm"])
def test_built_in_names_make_workloads(name: str) -> None:
    """Both have thousands of examples and know the batch size of their learning rate."""
    workload = load_target(name)

    assert isinstance(workload, Workload)
    assert len(workload.examples) > 1000
    assert workload.batch_size is not None


def test_a_file_and_a_module_name_the_same_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`path.py:job` works from anywhere, `module:job` from the current folder."""
    (tmp_path / "some_job_file.py").write_text(GOOD)
    monkeypatch.chdir(tmp_path)

    for target in ("some_job_file.py:job", f"{tmp_path}/some_job_file.py:job", "some_job_file:job"):
        assert len(load_target(target).examples) == 2


def test_a_file_may_import_its_neighbours(tmp_path: Path) -> None:
    """As when the file is run as a script; afterwards the path is as before."""
    (tmp_path / "neighbour_of_job.py").write_text(GOOD)
    (tmp_path / "uses_neighbour.py").write_text("from neighbour_of_job import job\n")

    assert isinstance(load_target(f"{tmp_path}/uses_neighbour.py:job"), Workload)
    import sys

    assert str(tmp_path) not in sys.path


def raised_by(target: str) -> str:
    """Give the text of the error."""
    with pytest.raises(DataError) as caught:
        load_target(target)
    return str(caught.value)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("digts", ["did you mean 'digits'"]),
        ("something", ["digits, charlm", "path.py:function"]),
        ("missing.py:job", ["missing.py", "no such file"]),
        ("missing_module_xyz:job", ["no module named 'missing_module_xyz'"]),
        ("train.py", ["train.py:FUNCTION"]),
        ("json:loads twice", ["not the name of a function"]),
        ("json:nothing_here", ["no function 'nothing_here'"]),
        ("json:__version__x", ["no function"]),
        ("string:ascii_letters", ["not a function"]),
    ],
)
def test_wrong_names_say_what_to_write(target: str, words: list[str]) -> None:
    """The error names the target and what would work."""
    text = raised_by(target)

    assert all(word in text for word in words), text


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("def job():\n    raise ValueError('no data here')\n", ["ValueError: no data here", ":2"]),
        ("def job():\n    import sys\n    sys.exit(3)\n", ["SystemExit: 3", ":3"]),
        ("def job():\n    return 5\n", ["returned int", "Workload("]),
        ("def job(x):\n    return x\n", ["job() raised TypeError", "required positional"]),
        ("1 / 0\n", ["could not be run", "ZeroDivisionError", ":1"]),
        ("def job(:\n", ["SyntaxError", ":1"]),
        ("import not_installed_xyz\n", ["not_installed_xyz", ":1"]),
        ("def other():\n    pass\n", ["no function 'job'", "it defines other"]),
    ],
)
def test_faults_in_the_users_file_name_file_and_line(
    tmp_path: Path, body: str, words: list[str]
) -> None:
    """What the user's own code does wrong is told with its place, in one paragraph."""
    file = tmp_path / "faulty.py"
    file.write_text(body)
    text = raised_by(f"{file}:job")

    assert str(file) in text
    assert all(word in text for word in words), text
    assert "\n" not in text

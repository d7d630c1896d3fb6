"""`batchsense audit`: answers, exit codes, the document, the report, and wrong input."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from batchsense.cli.main import run
from published import check_document

JOBS = """
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from batchsense.training import Workload

g = torch.Generator().manual_seed(0)
x = torch.randn(150, 5, generator=g)
y = torch.bucketize(x[:, 0].contiguous(), torch.tensor([-0.5, 0.5]))
data = torch.utils.data.TensorDataset(x, y)
weight = torch.tensor([1.0, 2.0, 5.0])

def job(loss, model=None, examples=data):
    torch.manual_seed(0)
    model = model or nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
    return Workload(model, loss, examples, lambda p: torch.optim.SGD(p, 0.1))

def plain(m, b):
    return F.cross_entropy(m(b[0]), b[1])

def weighted(m, b):
    return F.cross_entropy(m(b[0]), b[1], weight=weight)

class Stamped(nn.Linear):
    calls = 0
    def forward(self, x):
        self.calls += 1
        return super().forward(x) * self.calls

def normalised():
    return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))

def clean(): return job(plain)
def total(): return job(lambda m, b: F.cross_entropy(m(b[0]), b[1], reduction="sum"))
def ratio(): return job(weighted)
def root(): return job(lambda m, b: plain(m, b).sqrt())
def norm(): return job(plain, normalised())
def state(): return job(plain, Stamped(5, 3))
def vector(): return job(lambda m, b: m(b[0]).sum(1))
def detached(): return job(lambda m, b: plain(m, b).detach())
def lonely(): return job(plain, examples=torch.utils.data.TensorDataset(x[:1], y[:1]))
def zero(): return job(lambda m, b: 0.0 * m(b[0]).sum())
def broken(): raise RuntimeError("no data here")
"""


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with workloads."""
    path = tmp_path_factory.mktemp("audit") / "train.py"
    path.write_text(JOBS)
    return path


def document(capsys, arguments, code):
    """Run with --json and give the one valid document on stdout."""
    assert run(["audit", *arguments, "--json", "-vv"]) == code
    parsed = json.loads(capsys.readouterr().out)
    check_document(parsed, "audit")
    return parsed


@pytest.mark.parametrize(
    ("name", "kind", "verdict", "normaliser"),
    [
        ("clean", "mean", "yes", None),
        ("total", "sum", "no", None),
        ("ratio", "ratio", "no", "weight[minibatch[1]]"),
        ("root", "composite", "no", None),
        ("norm", "interacting", "no", None),
    ],
)
def test_the_document(jobs, capsys, name, kind, verdict, normaliser):
    """The published keys hold the truth, stdout holds nothing else, and unsafe exits with 1."""
    parsed = document(capsys, [f"{jobs}:{name}"], 0 if verdict == "yes" else 1)
    result = parsed["result"]

    assert (result["kind"], result["verdict"]) == (kind, verdict)
    assert result["normaliser"] == normaliser
    assert result["stochastic"] is False
    assert set(result["consequences"]) == {"gradient_accumulation", "ddp", "uneven_last"}
    assert result["bias"]["low"] <= result["bias"]["high"]
    assert result["bias"]["detected"] == (kind != "mean")
    assert (result["deviation"] < 1e-12) == (kind == "mean")
    assert bool(result["sources"]) == (kind != "mean")
    assert result["fix"]


def test_batch_norm_is_named_with_its_line(jobs, capsys):
    """The first source is the module, with the class."""
    source = document(capsys, [f"{jobs}:norm"], 1)["result"]["sources"][0]

    assert (source["name"], source["place"]) == ("1", "module")
    assert "BatchNorm1d" in source["detail"]


def test_the_built_in_jobs_are_safe(capsys):
    """Digits is a mean, decided by three gradients."""
    result = document(capsys, ["digits"], 0)["result"]

    assert result["verdict"] == "yes"
    assert result["cost"] <= 3


def test_sizes_are_those_asked_for(jobs, capsys):
    """--micro-batch and --minibatch reach the audit; the same seed gives the same document."""
    words = [f"{jobs}:ratio", "--micro-batch", "4", "--minibatch", "32", "--partitions", "8"]
    one, other = document(capsys, words, 1), document(capsys, words, 1)

    assert (one["result"]["micro_batch"], one["result"]["minibatch"]) == (4, 32)
    assert one == other
    assert document(capsys, [*words, "--seed", "5"], 1)["result"] != one["result"]


def test_the_page_for_people(jobs, capsys):
    """The text gives verdict, place, consequences and the fix, and never says unbiased."""
    assert run(["audit", f"{jobs}:norm"]) == 1
    # Lines break where the length of the path lets them.
    text = " ".join(capsys.readouterr().out.split())

    assert "may not simply be split" in text
    assert "- module 1: BatchNorm1d moves outputs" in text
    assert "gradient accumulation" in text
    assert "What to do: Module 1: use a normalisation per example" in text
    assert "unbiased" not in text


def test_the_report_holds_the_same_numbers(jobs, capsys, tmp_path):
    """One self-contained page with the document inside, whatever the kind."""
    for name, code in (("clean", 0), ("ratio", 1), ("norm", 1)):
        page, copy = tmp_path / f"{name}.html", tmp_path / f"{name}.json"
        words = [f"{jobs}:{name}", "--report", str(page), "-o", str(copy)]
        parsed = document(capsys, words, code)
        html = page.read_text()
        inside = re.search(r'id="batchsense-numbers">\n(.*?)\n</script>', html, re.S)

        assert json.loads(inside[1].replace("<\\/", "</")) == parsed
        assert json.loads(copy.read_text()) == parsed
        assert not re.search(r'(?:src|href)="https?:', html)
        assert len(html) < 1_500_000


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("state", 3, "changes from call to call"),
        ("vector", 3, "return a scalar"),
        ("detached", 3, "no gradient"),
        ("lonely", 3, "fewer than four"),
        ("broken", 3, "no data here"),
        ("zero", 1, "vanishes at these parameters"),
    ],
)
def test_what_cannot_be_audited_is_refused(jobs, capsys, name, code, words):
    """A readable paragraph on stderr, nothing on stdout, and never exit code 0."""
    assert run(["audit", f"{jobs}:{name}"]) == code
    said = capsys.readouterr()

    assert said.out == ""
    assert words in said.err
    assert "Traceback" not in said.err


def test_an_unresolved_audit_is_a_document(jobs, capsys):
    """With --json the refusal is an answer that a program can read."""
    parsed = document(capsys, [f"{jobs}:zero"], 1)

    assert parsed["result"] is None
    assert parsed["refusal"]["kind"] == "unresolved"
    assert "perturb" in parsed["refusal"]["needed"]


@pytest.mark.parametrize(
    "words",
    [
        ["--minibatch", "16"],
        ["--precision", "float16"],
        ["--alpha", "0.7"],
        ["--bias-tolerance", "0"],
        ["--partitions", "3"],
        ["--micro-batch", "0"],
    ],
)
def test_wrong_options_are_usage_errors(words, capsys):
    """Impossible settings end with exit code 2 before anything runs."""
    assert run(["audit", "digits", *words]) == 2
    assert capsys.readouterr().out == ""

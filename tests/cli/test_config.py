"""Configuration: flag, then environment, then file, then default; no key is ignored."""

import json
from pathlib import Path

import pytest

from batchsense.cli.main import run


def config(tmp_path: Path, text: str) -> list[str]:
    """Write a configuration file and give the words that select it."""
    path = tmp_path / "batchsense.toml"
    path.write_text(text)
    return ["--config", str(path)]


def title(capsys: pytest.CaptureFixture[str]) -> str:
    """Read the title of the printed schema."""
    return json.loads(capsys.readouterr().out)["title"]


def test_precedence_is_flag_environment_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file supplies a value, the environment overrides it, the command line overrides both."""
    words = config(tmp_path, '[schema]\ncommand = "plan"\n')

    assert run([*words, "schema"]) == 0
    assert title(capsys) == "batchsense plan --json"
    assert run([*words, "schema", "correct"]) == 0
    assert title(capsys) == "batchsense correct --json"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[diagnose]\nsed = 1\n", "did you mean 'seed'?"),
        ("[digagnose]\nseed = 1\n", "did you mean 'diagnose'?"),
        ("seed = 1\n", "unknown key 'seed'"),
        ("[plan\n", "not valid TOML"),
    ],
)
def test_a_bad_file_is_a_usage_error(
    text: str, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown key exits with 2 and names the nearest valid one."""
    assert run([*config(tmp_path, text), "schema"]) == 2

    assert complaint in capsys.readouterr().err


def test_a_missing_file_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    """A configuration file that is not there is named."""
    assert run(["--config", "nowhere.toml", "schema"]) == 2

    assert "nowhere.toml" in capsys.readouterr().err


def test_environment_overrides_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """BATCHSENSE_DIAGNOSE_SEED stands above the file and below the flag."""
    words = config(tmp_path, "[diagnose]\nseed = 1\npermutations = 20\nplacebo = false\n")
    monkeypatch.setenv("BATCHSENSE_DIAGNOSE_SEED", "2")

    run([*words, "diagnose", "--json"])
    assert json.loads(capsys.readouterr().out)["seed"] == 2
    run([*words, "diagnose", "--json", "--seed", "3"])
    assert json.loads(capsys.readouterr().out)["seed"] == 3


def test_environment_variables_are_named_after_the_options(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """BATCHSENSE_DIAGNOSE_JSON is --json and BATCHSENSE_DIAGNOSE_PERMUTATIONS --permutations."""
    monkeypatch.setenv("BATCHSENSE_DIAGNOSE_JSON", "1")
    monkeypatch.setenv("BATCHSENSE_DIAGNOSE_PERMUTATIONS", "ten")

    assert run(["diagnose"]) == 2
    assert "--permutations" in capsys.readouterr().err
    monkeypatch.setenv("BATCHSENSE_DIAGNOSE_PERMUTATIONS", "20")
    assert run(["diagnose"]) == 0
    assert json.loads(capsys.readouterr().out)["command"] == "diagnose"

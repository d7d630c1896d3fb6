"""``batchsense web`` as a command: what it refuses before it listens, and what it says."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from batchsense.cli.main import run


@pytest.fixture
def taken():
    """A port that something listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_a_port_in_use_is_said_plainly(taken, capsys):
    """Exit code 2, the port, and what to do; nothing on stdout."""
    assert run(["web", "--port", str(taken)]) == 2

    out, err = capsys.readouterr()
    assert out == ""
    assert f"port {taken}" in err
    assert "--port 0" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--limit", "many"], "--limit"),
        (["--limit", "0"], "--limit"),
        (["--limit", "-5MB"], "--limit"),
        (["--host", "0.0.0.0"], "name one address"),
        (["--host", "::"], "name one address"),
        (["--port", "70000"], "--port"),
    ],
)
def test_wrong_options_are_usage_errors(words, named, capsys):
    """Wrong limits, ports and open doors end with 2 before anything is served."""
    assert run(["web", *words]) == 2

    out, err = capsys.readouterr()
    assert out == ""
    assert named in err


@pytest.mark.parametrize("module", ["starlette.applications", "uvicorn", "python_multipart"])
def test_a_missing_extra_is_named(module, monkeypatch, capsys):
    """Without one of its packages the command gives the pip command and exits with 2."""
    monkeypatch.setitem(sys.modules, module, None)

    assert run(["web"]) == 2
    assert "pip install 'batchsense[web]'" in capsys.readouterr().err


def test_it_prints_its_address_and_ends_when_told(tmp_path):
    """Stdout holds the address alone; after the end no temporary file is left."""
    import os
    import urllib.request

    process = subprocess.Popen(
        [sys.executable, "-m", "batchsense", "web", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    try:
        address = process.stdout.readline().strip()
        with urllib.request.urlopen(address, timeout=600) as page:
            assert "Every decision about batches" in page.read().decode()
        assert list(tmp_path.glob("batchsense-web-*"))
    finally:
        process.terminate()
        out, err = process.communicate(timeout=600)

    assert address.startswith("http://127.0.0.1:")
    assert out == ""
    assert "Traceback" not in err
    assert list(tmp_path.glob("batchsense-web-*")) == []

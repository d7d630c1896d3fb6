"""``batchsense web`` as a command: what it refuses before it listens, and what it says."""

from __future__ import annotations

import re
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
        (["--host", "0"], "name one address"),
        (["--host", "0x0"], "name one address"),
        (["--host", "0.0"], "name one address"),
        (["--host", "::0.0.0.0"], "name one address"),
        (["--host", "::ffff:0.0.0.0"], "name one address"),
        (["--host", "::ffff:0:0"], "name one address"),
        (["--host", "0:0:0:0:0:0:0:0"], "name one address"),
        (["--host", ""], "no address"),
        (["--memory", "some"], "--memory"),
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
    """Stdout holds the address alone, which opens once; after the end no file is left."""
    import os
    import urllib.error
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
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(address.partition("?")[0], timeout=600)
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        with browser.open(address, timeout=600) as page:
            assert "Every decision about batches" in page.read().decode()
        assert list(tmp_path.glob("batchsense-web-*"))
    finally:
        process.terminate()
        out, err = process.communicate(timeout=600)

    assert address.startswith("http://127.0.0.1:")
    assert out == ""
    (second,) = re.findall(r"For another one: (\S+)", err)
    assert second.partition("=")[0] == address.partition("=")[0]
    assert second != address
    assert "Traceback" not in err
    assert list(tmp_path.glob("batchsense-web-*")) == []


@pytest.fixture
def served(monkeypatch):
    """Do all but serve; give what would have been served, and how."""
    uvicorn = pytest.importorskip("uvicorn")
    seen = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: seen.append(self.config))
    return seen


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("localhost", "localhost"),
        ("127.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("0x7f.1", "127.0.0.1"),
        ("127.0.0.2", "127.0.0.2"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("::ffff:7f00:1", "127.0.0.1"),
        ("::1", "[::1]"),
        ("0:0:0:0:0:0:0:1", "[::1]"),
    ],
)
def test_loopback_is_told_by_the_address(served, capsys, host, name):
    """However it is written: no warning, and an address that a browser takes and that answers."""
    try:
        family, *_, where = socket.getaddrinfo(host, 0)[0]
        with socket.socket(family) as one:
            one.bind(where)
    except OSError:
        pytest.skip(f"this machine has no address {host}")
    assert run(["web", "--host", host, "--port", "0"]) == 0

    out, err = capsys.readouterr()
    assert out.startswith(f"http://{name}:")
    assert "can be reached by others" not in err
    (config,) = served
    names = config.app.app  # below the headers
    assert names.known(_headers(out.split("/")[2]))
    assert not names.known(_headers("evil.example"))


def _headers(host):
    from starlette.datastructures import Headers

    return Headers({"Host": host})


def test_no_account_sees_the_token_among_arguments(served, monkeypatch, capsys):
    """The browser is given a file that only this account can read, which goes at the end."""
    import stat
    import webbrowser
    from pathlib import Path
    from urllib.parse import urlsplit

    opened = []

    def look(address):
        page = Path(urlsplit(address).path)
        opened.append((page, page.read_text(), stat.S_IMODE(page.parent.stat().st_mode)))

    monkeypatch.setattr(webbrowser, "open", look)
    assert run(["web", "--open", "--port", "0"]) == 0
    ((page, text, mode),) = opened
    assert capsys.readouterr().out.strip() in text
    assert mode == 0o700
    assert not page.exists()
    assert served

"""Run ``batchsense`` as a terminal does, without starting Python and its libraries each time.

One process loads what commands need and waits; a small script named ``batchsense``, first on the
PATH, hands it the words, the folder, the environment and the open files of a call, and the process
forks a copy of itself that runs the command there. Pipes, redirections and exit codes are those of
the shell. Loading torch takes more CPU time than nearly every command.

Where the environment names ``CLOCK_RATE``, the copy counts its seconds so many times as fast: it is
then a slower machine, on which a budget of time is over the sooner.
"""

from __future__ import annotations

import array
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

#: Passes on what a call is, and ends with the exit code of its copy.
_SCRIPT = """#!{python} -ESs
import array, json, os, socket, sys
with socket.socket(socket.AF_UNIX) as line:
    line.connect({address!r})
    words = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    files = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))
    line.sendmsg([len(words).to_bytes(8, "big")], [files])
    line.sendall(words)
    code = line.recv(1)
sys.exit(code[0] if code else 134)
"""
_LOADED = (
    "anndata",
    "formulaic",
    "matplotlib.figure",
    "sklearn.pipeline",
    "torch._dynamo",
    "batchsense.cli.main",
    "batchsense.experiments",
    "batchsense.experiments.correction",
    "batchsense.reports.page",
    "batchsense.training.separability",
)


class Resident:
    """The waiting process; ``folder`` holds the script, to be put first on the PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        address = str(folder / "line")
        script = folder / "batchsense"
        script.write_text(_SCRIPT.format(python=sys.executable, address=address))
        script.chmod(0o755)
        self._process = subprocess.Popen(
            [sys.executable, __file__, address], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"

    def end(self) -> None:
        """Stop waiting."""
        self._process.kill()
        self._process.communicate()


def _wait(address: str) -> None:
    import importlib

    for name in _LOADED:
        importlib.import_module(name)
    copies: list[int] = []
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(address)
        door.listen()
        print("ready", flush=True)
        while True:
            line, _ = door.accept()
            copies = [copy for copy in copies if os.waitpid(copy, os.WNOHANG) == (0, 0)]
            copy = os.fork()
            if copy == 0:
                door.close()
                _answer(line)
            copies.append(copy)
            line.close()


def _answer(line: socket.socket) -> None:
    """In the copy: take the place of the caller, run the command, say how it ended."""
    from batchsense import clock
    from batchsense.cli.main import main

    head, extra, _, _ = line.recvmsg(8, socket.CMSG_SPACE(3 * array.array("i").itemsize))
    files = array.array("i", extra[0][2])
    size, body = int.from_bytes(head, "big"), b""
    while len(body) < size:
        body += line.recv(size - len(body))
    words, folder, environment = json.loads(body)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115 - as in a new process
        for number, mode in ((0, "r"), (1, "w"), (2, "w"))
    )
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["batchsense", *words]
    rate = float(os.environ.get("CLOCK_RATE", 1))
    clock.now = lambda: rate * time.perf_counter()
    code: object = 0
    try:
        code = main()
    except SystemExit as end:
        code = end.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        line.sendall(bytes([code if isinstance(code, int) else int(code is not None)]))
        os._exit(0)


if __name__ == "__main__":
    _wait(sys.argv[1])

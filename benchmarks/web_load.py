"""Whether ``batchsense web`` stays small, keeps what it has and refuses strangers, under attack.

It starts the command, lets 300 slow clients come, and meanwhile sends every bomb and asks its
question. Memory is that of all processes of the command together, shared pages counted once.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attacks.bombs import MATRIX, SHEET, Bomb, bombs
from attacks.slow import SlowClients
from common.record import options, write

#: Beyond what any answer takes here.
_PATIENCE_S = 600
_NOBODY = 65534


class Client:
    """A program that sends what a browser sends."""

    def __init__(self, port: int, key: str = "") -> None:
        self.port, self.key, self.visitor = port, key, ""

    def ask(
        self, method: str, path: str, body: bytes = b"", **headers: str
    ) -> tuple[int, dict[str, str], str]:
        """Send one request; give status, headers and text."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_PATIENCE_S)
        cookie = "; ".join(filter(None, [self.key, self.visitor]))
        sent = {"Cookie": cookie, "Origin": f"http://127.0.0.1:{self.port}"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        try:
            connection.request(method, path, body or None, sent)
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
        finally:
            connection.close()
        given = {name.lower(): value for name, value in answer.getheaders()}
        if (cookie := given.get("set-cookie", "")).startswith("batchsense_visitor"):
            self.visitor = cookie.partition(";")[0]
        return answer.status, given, text

    def send(self, bomb: Bomb) -> tuple[int, str]:
        """Send files; give the status and what the page says."""
        parts = []
        for field, (name, content) in bomb.files.items():
            head = f'Content-Disposition: form-data; name="{field}"; filename="{name}"'
            parts.append(f"--x\r\n{head}\r\n\r\n".encode() + content + b"\r\n")
        kind = "multipart/form-data; boundary=x"
        body = b"".join(parts) + b"--x--\r\n"
        status, _, text = self.ask("POST", f"/{bomb.command}/files", body, Content_Type=kind)
        return status, said(text)

    def run(self, bomb: Bomb) -> tuple[int, str]:
        """Ask the question and wait for its answer."""
        form = urllib.parse.urlencode(bomb.asked).encode()
        kind = "application/x-www-form-urlencoded"
        status, given, text = self.ask("POST", f"/{bomb.command}/run", form, Content_Type=kind)
        while status == 303 or "refresh" in given:
            time.sleep(0.5 if "refresh" in given else 0)
            status, given, text = self.ask("GET", f"/{bomb.command}/result")
        return status, said(text)


def said(page: str) -> str:
    """What a page of words says."""
    found = re.search(r'class="message">(.*?)</p>', page, re.S)
    return re.sub(r"\s+", " ", found[1])[:200] if found else ""


class Watch:
    """The most memory and disk that a process and its children take together."""

    def __init__(self, process: int, folder: Path) -> None:
        self.process, self.folder = process, folder
        self.bytes, self.disk, self.latest = 0, 0, 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def end(self) -> None:
        """Stop watching."""
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            taken = sum(_bytes_of(one) for one in _family(self.process))
            self.bytes, self.latest = max(self.bytes, taken), max(self.latest, taken)
            disk = sum(p.stat().st_size for p in _files(self.folder))
            self.disk = max(self.disk, disk)


def _files(folder: Path) -> Iterator[Path]:
    try:
        yield from (path for path in folder.rglob("*") if path.is_file())
    except OSError:
        return


def _family(process: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        parents.setdefault(parent, []).append(int(stat.parent.name))
    found, ahead = [], [process]
    while ahead:
        found.append(ahead.pop())
        ahead += parents.get(found[-1], [])
    return found


def _bytes_of(process: int) -> int:
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0
    found = re.search(r"^Pss:\s+(\d+)", text, re.M)
    return int(found[1]) * 1024 if found else 0


@contextmanager
def serving(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int, str]]:
    """Start the command; give its process, its port and the path that opens the door."""
    folder.joinpath("tmp").mkdir()
    environment = {**os.environ, "TMPDIR": str(folder / "tmp"), "OMP_NUM_THREADS": "1"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "batchsense", "web", "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
        )
        try:
            assert process.stdout is not None
            address = urllib.parse.urlsplit(process.stdout.readline().strip())
            assert address.port is not None
            yield process, address.port, f"{address.path}?{address.query}"
        finally:
            process.terminate()
            process.wait(_PATIENCE_S)


def strangers(port: int, path: str) -> dict[str, Any]:
    """What an account without the key gets; another Unix account, where this one may become it."""
    asked = ["/", "/favicon.svg", "/diagnose/result.json", path.partition("=")[0] + "=guess"]
    script = (
        "import encodings.idna, http.client, json, os\n"
        f"os.setuid({_NOBODY}) if os.getuid() == 0 else None\n"
        "found = []\n"
        f"for path in {asked!r}:\n"
        f"    c = http.client.HTTPConnection('127.0.0.1', {port}, timeout=600)\n"
        "    c.request('GET', path)\n"
        "    found.append(c.getresponse().status)\n"
        "print(json.dumps(found))\n"
    )
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    return {"other_account": os.getuid() == 0, "status": json.loads(done.stdout)}


def seen_arguments(token: str) -> int:
    """How many processes show the token among their arguments, which all accounts can read."""
    found = 0
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += token.encode() in line.read_bytes()
        except OSError:
            continue
    return found


def main() -> None:
    """Attack, and write what was seen."""
    given = options(str(__doc__), "web_load").parse_args()
    began, work = time.time(), time.process_time()
    with tempfile.TemporaryDirectory() as name, serving(Path(name)) as (process, port, path):
        found = attacked(Path(name), process.pid, port, path)
        alive = process.poll() is None
        log = (Path(name) / "log").read_text()
    write(
        given.output,
        given.seed,
        began,
        time.process_time() - work,
        alive=alive,
        log_lines=log.count("\n"),
        tracebacks=log.count("Traceback"),
        **found,
    )


def attacked(folder: Path, process: int, port: int, path: str) -> dict[str, Any]:
    """Let everybody come, and tell what happened."""
    token = path.partition("=")[2]
    shown = seen_arguments(token)
    _, cookies, _ = Client(port).ask("GET", path)
    key = cookies["set-cookie"].partition(";")[0]
    again = Client(port).ask("GET", path)[0]
    victim = Client(port, key)
    good = Bomb(
        "diagnose",
        {"matrix": ("m.csv", MATRIX.encode()), "sheet": ("s.csv", SHEET.encode())},
        {"batch": "month", "keep": "drug", "permutations": "20"},
    )
    kept = victim.send(good)[0]
    watch = Watch(process, folder / "tmp")
    time.sleep(2)
    idle = watch.bytes
    answers = {}
    try:
        with SlowClients(port, key) as slow:
            time.sleep(3)
            unknown = strangers(port, path)
            for name, bomb in bombs().items():
                client, watch.latest, start = Client(port, key), 0, time.monotonic()
                sent = client.send(bomb)
                asked = client.run(bomb) if sent[0] == 303 else None
                answers[name] = {
                    "bytes": bomb.size,
                    "sent": sent,
                    "asked": asked,
                    "seconds": time.monotonic() - start,
                    "most_memory": watch.latest,
                }
                print(name, answers[name], flush=True)
            bad = Bomb("diagnose", {**good.files, "sheet": ("s.csv", b"id,month\n")}, {})
            refused = [Client(port, key).send(bad)[0] for _ in range(25)]
            page = victim.ask("GET", "/diagnose/columns")[0]
            answer = victim.run(good)[0]
    finally:
        watch.end()
    return {
        "memory": {"idle": idle, "most": watch.bytes, "bound": 2**30},
        "most_disk": watch.disk,
        "slow_clients": {"at_a_time": slow.most_open, "ended": dict(slow.ended)},
        "strangers": unknown,
        "token": {"among_arguments": shown, "second_use": again},
        "victim": {"sent": kept, "refused_uploads": refused, "files": page, "answer": answer},
        "bombs": answers,
    }


if __name__ == "__main__":
    main()

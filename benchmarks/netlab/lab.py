"""Networks of one machine: processes in private network namespaces with shaped links.

Needs root (or a user namespace), ``unshare``, ``ip`` and ``tc``; :func:`why_not` says what is
missing.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence

#: What is queued before a packet is dropped, and what may leave at once: room for all workers.
SHAPE = "burst 128kb latency 400ms"
#: Real-time priority, so that whatever else the machine does takes no time from the lab.
PRIORITY = ["chrt", "-r", "10"]


def why_not() -> str | None:
    """Why there is no lab here; None if there is one."""
    missing = [name for name in ("unshare", "ip", "tc") if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed"
    if os.geteuid() != 0:
        return "network namespaces and tc need root"
    tried = subprocess.run(
        _in_shared("1mbit", ["true"]), capture_output=True, text=True, check=False
    )
    return None if tried.returncode == 0 else f"no shaped link: {tried.stderr.strip()[:200]}"


def _in_shared(rate: str, words: Sequence[str]) -> list[str]:
    shaped = (
        f'ip link set lo up && tc qdisc replace dev lo root tbf rate {rate} {SHAPE} && exec "$@"'
    )
    return ["unshare", "-n", "sh", "-c", shaped, "sh", *words]


def torchrun(workers: int, *more: str) -> list[str]:
    """The words that start workers of one machine."""
    return [
        sys.executable, "-m", "torch.distributed.run",
        "--nproc_per_node", str(workers), "--master_addr", "127.0.0.1", "--master_port", "29533",
        *more,
    ]  # fmt: skip


def environment(interface: str, **more: str) -> dict[str, str]:
    """One thread each, and the interface that gloo uses."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": interface, **more}


def _priority() -> list[str]:
    free = shutil.which("chrt") and subprocess.run([*PRIORITY, "true"], check=False).returncode == 0
    return PRIORITY if free else []


def on_shared(rate: str, words: Sequence[str], seconds: float = 300, **more: str) -> None:
    """Run a command where all traffic of all its processes crosses one link."""
    subprocess.run(
        _in_shared(rate, [*_priority(), *words]),
        env=environment("lo", **more),
        timeout=seconds,
        check=True,
    )


@contextlib.contextmanager
def switched(rate: str, workers: int) -> Iterator[list[str]]:
    """Namespaces, one a worker, on a bridge, each link shaped in both directions; their names."""
    mark = secrets.token_hex(2)
    bridge, names = f"bs{mark}", [f"bs{mark}w{place}" for place in range(workers)]

    def ip(words: str) -> None:
        subprocess.run(["ip", *words.split()], check=True, capture_output=True)

    try:
        ip(f"link add {bridge} type bridge")
        ip(f"link set {bridge} up")
        for place, name in enumerate(names):
            outside = f"{bridge}v{place}"
            ip(f"netns add {name}")
            ip(f"link add {outside} type veth peer name eth0 netns {name}")
            ip(f"link set {outside} master {bridge} up")
            ip(f"-n {name} addr add 10.9.0.{place + 1}/24 dev eth0")
            ip(f"-n {name} link set eth0 up")
            ip(f"-n {name} link set lo up")
            shape = f"root tbf rate {rate} {SHAPE}".split()
            subprocess.run(["tc", "qdisc", "replace", "dev", outside, *shape], check=True)
            inside = ["ip", "netns", "exec", name, "tc", "qdisc", "replace", "dev", "eth0", *shape]
            subprocess.run(inside, check=True)
        yield names
    finally:
        for place, name in enumerate(names):
            for words in (f"link del {bridge}v{place}", f"netns del {name}"):
                subprocess.run(["ip", *words.split()], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", bridge], check=False, capture_output=True)


def on_switched(
    names: Sequence[str], words: Sequence[str], seconds: float = 300, **more: str
) -> None:
    """Run a torchrun command of one process in each namespace; ``words`` follow torchrun's."""
    started = []
    for place, name in enumerate(names):
        run = [
            *_priority(), "ip", "netns", "exec", name,
            sys.executable, "-m", "torch.distributed.run", "--nnodes", str(len(names)),
            "--node_rank", str(place), "--nproc_per_node", "1",
            "--master_addr", "10.9.0.1", "--master_port", "29533", *words,
        ]  # fmt: skip
        started.append(subprocess.Popen(run, env=environment("eth0", **more)))
    try:
        codes = [process.wait(timeout=seconds) for process in started]
    finally:
        for process in started:
            process.kill()
    if any(codes):
        raise RuntimeError(f"a worker ended with {codes}")

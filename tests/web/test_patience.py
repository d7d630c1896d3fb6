"""How long a client may keep the server waiting, and how many may at a time."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

pytest.importorskip("uvicorn", reason="the web extra is not installed")

import uvicorn
from starlette.testclient import TestClient

from batchsense.web.entrance.bodies import Bodies, Pace, TooManyError, TooSlowError
from batchsense.web.entrance.connections import Patience, bounded
from batchsense.web.entrance.guard import Guard

BASE = "http://127.0.0.1:8000"
OWN = {"Origin": BASE, "Sec-Fetch-Site": "same-origin"}
#: What must happen is given up after this: far beyond what a busy machine needs.
DEADLINE_S = 600


async def hello(scope, receive, send):
    """Answer at once, or with a body that no buffer holds."""
    size = 50_000_000 if scope["path"] == "/large" else 5
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x" * size})


async def served(patience, clients):
    """Run clients against a server with so much patience; give what they give and its log."""
    config = uvicorn.Config(hello, http=bounded(patience), log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None
    with contextlib.closing(config.bind_socket()) as listening:
        port = listening.getsockname()[1]
        running = asyncio.create_task(server._serve([listening]))
        while not server.started:
            await asyncio.sleep(0.01)
        try:
            return await asyncio.wait_for(clients(port), DEADLINE_S)
        finally:
            server.should_exit = server.force_exit = True
            await running


@contextlib.asynccontextmanager
async def connected(port, **how):
    """A connection, which is closed at the end whatever became of it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, **how)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def rest(reader):
    """What the server still sends before it ends the connection."""
    try:
        return await reader.read()
    except ConnectionError:
        return b""


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: a\r\nX", b"POST / HTTP/1.1\r\n"])
def test_headers_that_do_not_come_end_the_connection(sent):
    """Without an answer: nobody asked for anything yet."""

    async def clients(port):
        async with connected(port) as (reader, writer):
            writer.write(sent)
            return await rest(reader)

    assert asyncio.run(served(Patience(headers_s=0.2), clients)) == b""


def test_a_body_that_nobody_reads_does_not_hold_the_connection():
    """The answer is there, and the rest of the request is not waited for."""

    async def clients(port):
        async with connected(port) as (reader, writer):
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\na")
            return await rest(reader)

    assert asyncio.run(served(Patience(headers_s=0.2), clients)).endswith(b"xxxxx\r\n0\r\n\r\n")


def test_an_answer_that_nobody_takes_is_given_up():
    """A reader who stops reading loses the connection, and the memory of the answer is freed."""

    async def clients(port):
        async with connected(port, limit=1024) as (reader, writer):
            writer.write(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
            await reader.readexactly(100)
            await asyncio.sleep(1)
            return len(await rest(reader))

    assert asyncio.run(served(Patience(answer_s=0.2), clients)) < 50_000_000


def test_too_many_connections_drop_who_waits_longest(capfd):
    """Whoever asks is answered, however many say nothing; and not a line is written about them."""

    async def clients(port):
        answers = []
        async with contextlib.AsyncExitStack() as stack:
            crowd = []
            for _ in range(40):
                crowd.append((await stack.enter_async_context(connected(port)))[0])
                async with connected(port) as (reader, writer):
                    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                    answers.append(await rest(reader))
            return answers, [await rest(reader) for reader in crowd[:30]]

    answers, gone = asyncio.run(served(Patience(most=10, headers_s=DEADLINE_S), clients))
    assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
    assert gone == [b""] * 30
    assert capfd.readouterr().err == ""


class Ticking:
    """A clock that goes on by so much whenever it is looked at."""

    def __init__(self, step):
        self.now, self.step = 0.0, step

    def __call__(self):
        """Give the time."""
        self.now += self.step
        return self.now


async def swallow(scope, receive, send):
    """Take a body in, and answer."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize(("step", "status"), [(0.001, 200), (10.0, 408)])
def test_a_body_must_come_in_at_some_rate(step, status):
    """So many bytes in so much time, after a grace; it says so in words."""

    def pieces():
        for _ in range(100):
            yield b"a" * 100

    guard = Guard(swallow, 1_000_000, Pace(clock=Ticking(step)))
    client = TestClient(guard, base_url=BASE)
    # The client of the tests joins the pieces of a generator unless they are asked for one by one.
    answer = client.post("/x", headers=OWN, content=pieces())
    assert answer.status_code == status


def test_a_body_that_halts_is_given_up():
    """408, and others get its place."""
    sent = []

    async def never():
        await asyncio.sleep(DEADLINE_S)

    async def send(message):
        sent.append(message)

    async def ask():
        headers = [(b"origin", BASE.encode()), (b"host", b"127.0.0.1:8000")]
        scope = {"type": "http", "method": "POST", "path": "/x", "scheme": "http"}
        guard = Guard(swallow, 1000, Pace(idle_s=0.05))
        await asyncio.gather(*(guard(scope | {"headers": headers}, never, send) for _ in range(8)))

    asyncio.run(ask())
    assert [one["status"] for one in sent if "status" in one] == [408] * 8


def test_a_form_without_files_has_a_limit_of_its_own(browser):
    """Fields are held in memory; a megabyte is more than any form has."""
    answer = browser.post("/diagnose/run", data={"batch": "m" * 1_000_001})
    assert answer.status_code == 413
    assert "1,000,000 bytes" in answer.text


def test_the_slowest_gives_way():
    """Where all places are taken, whoever hardly sends loses theirs; a body that is there stays."""

    async def halting():
        await asyncio.sleep(DEADLINE_S)

    async def whole():
        return {"type": "http.request", "body": b"1" * 1000, "more_body": False}

    async def ask(bodies, receive, over):
        async with bodies.place(receive) as paced:
            message = await paced()
            await over.wait()
            return message

    async def all_of_them():
        over, bodies = asyncio.Event(), Bodies(Pace(idle_s=DEADLINE_S, clock=Ticking(1.0)), 2)
        first = [asyncio.create_task(ask(bodies, one, over)) for one in (whole, halting)]
        await asyncio.sleep(0)
        third = asyncio.create_task(ask(bodies, whole, over))
        with pytest.raises(TooSlowError):
            await first[1]
        await asyncio.sleep(0.01)
        bodies.pace = Pace(idle_s=0.01)
        with pytest.raises(TooManyError):  # two bodies are there, and are being worked on
            await ask(bodies, whole, over)
        over.set()
        return await first[0], await third

    first, third = asyncio.run(all_of_them())
    assert first == third

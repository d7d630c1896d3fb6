"""How long a client may keep the server waiting, and how many may at a time."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

pytest.importorskip("uvicorn", reason="the web extra is not installed")

import uvicorn

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


async def status(guard, receive):
    """What a form that comes in like this is answered."""
    sent = []

    async def send(message):
        sent.append(message)

    headers = [(b"origin", BASE.encode()), (b"host", b"127.0.0.1:8000")]
    scope = {"type": "http", "method": "POST", "path": "/x", "scheme": "http", "headers": headers}
    await guard(scope, receive, send)
    return sent[0]["status"]


@pytest.mark.parametrize(("step", "expected"), [(0.001, 200), (10.0, 408)])
def test_a_body_must_come_in_at_some_rate(step, expected):
    """So many bytes in so much time, after a grace; it says so in words."""
    left = iter(range(100))

    async def receive():
        return {"type": "http.request", "body": b"a" * 100, "more_body": next(left) < 99}

    guard = Guard(swallow, 1_000_000, Pace(clock=Ticking(step)))
    assert asyncio.run(status(guard, receive)) == expected


def test_bodies_that_halt_are_given_up():
    """408 for each, however many there are, and whoever sends is not kept out meanwhile."""

    async def halting():
        await asyncio.sleep(DEADLINE_S)

    async def whole():
        return {"type": "http.request", "body": b"a", "more_body": False}

    async def all_of_them():
        guard = Guard(swallow, 1000, Pace(idle_s=0.2))
        slow = [asyncio.create_task(status(guard, halting)) for _ in range(30)]
        await asyncio.sleep(0)
        first = await status(guard, whole)
        return first, [task.done() for task in slow], await asyncio.gather(*slow)

    first, done, slow = asyncio.run(all_of_them())
    assert first == 200
    assert not any(done)
    assert slow == [408] * 30


def test_a_form_without_files_has_a_limit_of_its_own(browser, monkeypatch):
    """Fields are held in memory; no form needs what files may take."""
    monkeypatch.setattr("batchsense.web.entrance.guard._LARGEST_FORM", 1000)
    answer = browser.post("/plan/run", data={"target": "m" * 1001})
    assert answer.status_code == 413
    assert "1,000 bytes" in answer.text


def test_the_slowest_gives_way():
    """Where all places are taken, whoever came to a halt loses theirs; who is done stays."""

    async def ask(bodies, messages, over):
        async def receive():
            return messages.pop() if messages else await asyncio.sleep(DEADLINE_S)

        async with bodies.place(receive) as paced:
            while (await paced())["more_body"]:
                pass
            await over.wait()

    def sent(more):
        return [{"type": "http.request", "body": b"1" * 70_000, "more_body": more}]

    async def all_of_them():
        over, pace = asyncio.Event(), Pace(idle_s=DEADLINE_S, clock=Ticking(10.0))
        bodies = Bodies(pace, most=2)
        tasks = [asyncio.create_task(ask(bodies, sent(more), over)) for more in (False, True)]
        while len(bodies._coming) < 2:
            await asyncio.sleep(0)
        tasks.append(asyncio.create_task(ask(bodies, sent(False), over)))
        with pytest.raises(TooSlowError):
            await tasks.pop(1)
        while len(bodies._coming) < 2:
            await asyncio.sleep(0)
        bodies.pace = Pace(idle_s=0.01)
        with pytest.raises(TooManyError):  # two bodies are there, and are being worked on
            await ask(bodies, sent(False), over)
        over.set()
        await asyncio.gather(*tasks)

    asyncio.run(all_of_them())

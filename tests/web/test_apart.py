"""Work in another process: what it may take, and what the page says when it takes more."""

from __future__ import annotations

import functools
import os

import pytest
from tests.web.works import DEADLINE_S, add, fail, take, tell

from batchsense.errors import ConfoundedError, DataError, RequestError, UnresolvedError
from batchsense.web import Door, Readers, create_app
from batchsense.web.apart import Bounds, BrokenError, ExceededError, apart
from batchsense.web.entrance.guard import TooLargeError
from batchsense.web.jobs import SupersededError

BOUNDS = Bounds(memory=100_000_000, file=1_000_000, reading_s=600)


def test_it_gives_what_the_work_gives():
    """The answer comes back, reports arrive, and the process is another one."""
    heard = []
    got = apart(functools.partial(add, 1, 2), BOUNDS, lambda *one: heard.append(one))

    assert got == 3
    assert ("adding", 1, 2) in heard
    assert apart(tell, BOUNDS) != os.getpid()


@pytest.mark.parametrize(
    "error",
    [
        DataError("empty", where="s.csv"),
        RequestError("--batch is needed"),
        ConfoundedError("entangled", ["a = b"]),
        UnresolvedError("unclear", needed="more"),
        TooLargeError("m.csv"),
    ],
)
def test_errors_arrive_as_they_were(error):
    """With their text and what they carry."""
    with pytest.raises(type(error)) as caught:
        apart(functools.partial(fail, error), BOUNDS)

    assert str(caught.value) == str(error)
    assert vars(caught.value) == vars(error)


def test_a_bug_arrives_with_its_traceback():
    """What was not raised on purpose is named, and the terminal can say more."""
    with pytest.raises(BrokenError, match="in fail") as caught:
        apart(functools.partial(fail, ZeroDivisionError("inside")), BOUNDS)

    assert caught.value.kind == "ZeroDivisionError"


@pytest.mark.parametrize(
    ("how", "what"),
    [
        ("memory", "memory"),
        ("array", "memory"),
        ("frame", "memory"),
        ("disk", "disk"),
        ("end", "end"),
        ("time", "time"),
    ],
)
def test_taking_more_ends_that_process_alone(how, what):
    """Memory, time, disk, a crash of a library: each is told apart, and the next work is done."""
    bounds = Bounds(BOUNDS.memory, BOUNDS.file, 0.1 if how == "time" else DEADLINE_S)
    with pytest.raises(ExceededError) as caught:
        apart(functools.partial(take, how), bounds)

    assert caught.value.what == what
    assert apart(functools.partial(add, 1, 2), BOUNDS) == 3


def test_a_listener_stops_work_that_says_nothing():
    """What the listener raises ends the process at once, though it reports nothing."""

    def stopped(*_):
        raise SupersededError

    with pytest.raises(SupersededError):
        apart(functools.partial(take, "time"), BOUNDS, stopped)


def test_bounds_follow_what_was_sent():
    """Ten times the files and a constant; a look gets less of the constant."""
    readers = Readers(limit=10**6, memory=10**8)
    assert readers.bounds(10**5).memory == 10**8 + 10**6
    assert readers.bounds(10**5, 0.4).memory == 4 * 10**7 + 10**6
    assert readers.bounds(10**15).memory < 10**15
    assert readers.bounds(0).file == 10**7


def test_another_process_answers_what_this_one_does(new_browser, files, visitors):
    """Files are looked at and corrected apart: document and matrix are those of the other tests."""
    mine = new_browser()
    mine.send("correct", *files)
    mine.run("correct", batch="month", keep="drug")
    door = Door()
    app = create_app(door, 300_000, visitors=visitors)
    there = type(mine)(app, door)
    there.send("correct", *files)
    there.run("correct", batch="month", keep="drug")
    for path in ("result.json", "file"):
        expected = mine.get(f"/correct/{path}")
        assert expected.status_code == 200
        assert expected.content == there.get(f"/correct/{path}").content

    there.client.close()


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("memory", "--memory"),
        ("time", "too long"),
        ("disk", "not enough room"),
        ("end", "ended early"),
    ],
)
def test_pages_say_what_was_exceeded(new_browser, files, visitors, monkeypatch, what, words):
    """In a look and in a calculation: 413, in words, with a way on; the files stay."""
    browser = new_browser()
    browser.send("correct", *files)

    def exceeding(*_):
        raise ExceededError(what)

    monkeypatch.setattr(Readers, "calculate", exceeding)
    monkeypatch.setattr(Readers, "look", exceeding)
    for answer in (
        browser.run("correct", batch="month", keep="drug"),
        browser.send("correct", *files),
    ):
        assert answer.status_code == 413
        assert words in answer.text
        assert "Try again" in answer.text
    assert browser.get("/correct/columns").status_code == 200
    assert browser.get("/correct/result.json").status_code == 404
    assert len(list(visitors.root.rglob("*.csv"))) == 2

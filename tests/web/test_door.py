"""Who holds the key: without it no page, no file and no form is answered."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from batchsense.web import Door, create_app

BASE = "http://127.0.0.1:8000"
PATHS = ["/", "/diagnose", "/plan", "/favicon.svg", "/nowhere", "/diagnose/result.json"]
PATHS += [
    "/correct/file",
    "/?token=",
    "/?token=guess",
    "/?token=\u0661",
    "/diagnose?token=a&token=b",
]


@pytest.fixture
def door():
    """A door that nobody went through."""
    return Door()


@pytest.fixture
def stranger(door, visitors):
    """A browser without the key, as another account of the machine has it."""
    with TestClient(create_app(door, visitors=visitors), base_url=BASE) as client:
        client.follow_redirects = False
        yield client


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["get", "head", "post", "put", "options"])
def test_strangers_are_refused_whatever_they_ask(stranger, visitors, method, path):
    """403 for every path and method, also with the headers of our own forms; nothing is kept."""
    headers = {"Origin": BASE, "Sec-Fetch-Site": "same-origin"}
    answer = stranger.request(method, path, headers=headers)

    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert len(visitors) == 0


@pytest.mark.parametrize(
    "name", ["batchsense_key_8000", "batchsense_key_8001", "batchsense_visitor"]
)
def test_a_guessed_key_opens_nothing(stranger, name):
    """Neither an empty cookie nor one of other signs is the key."""
    for value in ("", "guess", "\xe4".encode().decode("latin-1")):
        header = f"{name}={value}".encode("latin-1")
        assert stranger.get("/", headers={"Cookie": header}).status_code == 403


def test_the_address_lets_one_browser_in(stranger, door):
    """The token becomes a cookie that scripts cannot read, and leaves the address line."""
    path = door.path
    answer = stranger.get(path)

    assert answer.status_code == 303
    assert answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=lax" in cookie.lower()
    assert path.partition("=")[2] not in cookie
    assert stranger.get("/").status_code == 200
    # Who has the key may use the old address again, from a bookmark.
    assert stranger.get(path).status_code == 303


def test_a_token_works_once(stranger, door):
    """A second browser needs the next address, which is told."""
    told = []
    door._told = told.append
    first = door.path
    assert stranger.get(first).status_code == 303
    stranger.cookies.clear()
    assert stranger.get(first).status_code == 403
    assert told == [door.path]
    assert stranger.get(door.path).status_code == 303


def test_a_token_opens_by_reading_only(stranger, door):
    """Neither a form nor a look at the headers uses the token up."""
    for method in ("post", "head", "put"):
        assert stranger.request(method, door.path).status_code == 403
    assert stranger.get(door.path).status_code == 303


def test_the_key_of_another_server_is_none(door, visitors):
    """Cookies are shared by all ports of a machine; keys are not."""
    first = TestClient(create_app(door, visitors=visitors), base_url=BASE)
    first.get(door.path)
    other = TestClient(create_app(Door(), visitors=visitors), base_url=BASE)
    other.cookies = first.cookies
    assert first.get("/").status_code == 200
    assert other.get("/").status_code == 403

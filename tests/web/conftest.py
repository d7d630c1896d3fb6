"""Visitors of the web application, in process, as browsers would come."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the web extra is not installed")

from starlette.testclient import TestClient

from batchsense.experiments import Table, plant, write
from batchsense.web import Door, Readers, Visitors, create_app

BASE = "http://127.0.0.1:8000"
LIMIT = 300_000


class Clock:
    """A clock that a test can set."""

    now = 0.0

    def __call__(self) -> float:
        """Give the time."""
        return self.now


class Browser:
    """One visitor: a cookie jar, and forms sent as a browser sends them."""

    def __init__(self, app: Any, door: Door) -> None:
        headers = {"Origin": BASE, "Sec-Fetch-Site": "same-origin"}
        self.client = TestClient(app, base_url=BASE, raise_server_exceptions=False)
        self.own = headers
        self.client.get(door.path)

    def get(self, path: str) -> Any:
        """Open a page."""
        return self.client.get(path)

    def post(self, path: str, **form: Any) -> Any:
        """Send a form and follow where it leads."""
        return self.client.post(path, headers=self.own, **form)

    def send(self, command: str, *paths: Path) -> Any:
        """Send a matrix and perhaps a sheet; for a layout a sheet alone."""
        names = ("sheet",) if command == "layout" else ("matrix", "sheet")
        fields = zip(names, paths, strict=False)
        files = {field: (path.name, path.read_bytes()) for field, path in fields}
        return self.post(f"/{command}/files", files=files)

    def run(self, command: str, **fields: Any) -> Any:
        """Start a calculation and wait for its page."""
        answer = self.post(f"/{command}/run", data=fields)
        given_up = time.monotonic() + 600  # far beyond what a busy machine needs
        while "<h1>Calculating</h1>" in answer.text and time.monotonic() < given_up:
            time.sleep(0.02)
            answer = self.get(f"/{command}/result")
        return answer


def in_process(work: Any, _: Any, listen: Any) -> Any:
    """Do the work of another process here: quickly, and where a test can reach into it."""
    return work(listen)


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def visitors(clock: Clock) -> Iterator[Visitors]:
    """The state behind the application of a test."""
    kept = Visitors(capacity=5 * LIMIT, most=3, lifetime=3600, clock=clock)
    yield kept
    kept.close()
    assert not kept.root.exists()


@pytest.fixture
def new_browser(visitors: Visitors) -> Iterator[Callable[[], Browser]]:
    """Make browsers that visit one and the same application."""
    door = Door()
    app = create_app(door, LIMIT, visitors=visitors, readers=Readers(LIMIT, runner=in_process))
    with ExitStack() as stack:

        def make() -> Browser:
            browser = Browser(app, door)
            stack.callback(browser.client.close)
            return browser

        yield make


@pytest.fixture
def browser(new_browser: Callable[[], Browser]) -> Browser:
    """One browser."""
    return new_browser()


def save_sheet(path: Path, columns: dict[str, Any]) -> Path:
    """Write a sheet, ids first."""
    with path.open("w", newline="") as stream:
        lines = csv.writer(stream)
        lines.writerow(columns)
        lines.writerows(zip(*columns.values(), strict=True))
    return path


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A small experiment: month is the batch, drug is wanted, site says the same as month."""
    table = plant(specimens=24, features=6, months=3, treated_share=0.67, seed=1).table
    matrix = tmp_path / "m.csv"
    named = Table.from_arrays(
        table.values, table.sheet, table.specimens, table.features, str(matrix)
    )
    write(named, named.values, matrix)
    columns = {"specimen": table.specimens, **table.sheet, "site": table.sheet["month"]}
    return matrix, save_sheet(tmp_path / "s.csv", columns)

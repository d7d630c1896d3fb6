"""A headless Chromium without network and without JavaScript, as a careful reader would use it.

Beside it a second one that may run scripts: axe-core is one, and judges whether everybody can read
the same pages.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder and skip it where there is no browser."""
    missing = [n for n, p in (("chromium", CHROMIUM), ("chromedriver", DRIVER)) if p is None]
    for item in items:
        if Path(__file__).parent not in item.path.parents:
            continue
        item.add_marker(pytest.mark.browser)
        if missing:
            item.add_marker(pytest.mark.skip(reason=f"{' and '.join(missing)} not installed"))


@dataclass
class Visit:
    """What the browser did and found when it opened a page."""

    driver: Any
    requests: list[str]
    console: list[str]

    def numbers(self) -> Any:
        """Parse the numbers that the page carries."""
        element = self.driver.find_element("css selector", "#batchsense-numbers")
        return json.loads(element.get_attribute("textContent"))

    def images(self) -> list[tuple[str, str, str, float]]:
        """Give role, title, description and width of every drawing and every picture."""
        found = []
        for image in self.driver.find_elements("css selector", "svg, img"):
            parts = image.find_elements("css selector", ":scope > title, :scope > desc")
            texts = [part.get_attribute("textContent") for part in parts]
            title, description = texts if len(texts) == 2 else ("", "")
            role = image.get_attribute("role") or ""
            found.append((role, title, description, image.rect["width"]))
        return found

    def overflow(self) -> float:
        """Give by how many pixels the page is wider than the window."""
        body = self.driver.find_element("css selector", "html")
        return float(body.get_property("scrollWidth")) - float(body.get_property("clientWidth"))


Open = Callable[..., Visit]


def start(profile: Path, scripts: bool) -> Any:
    """Start a browser."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    if not scripts:
        blocked = {"profile.managed_default_content_settings.javascript": 2}
        options.add_experimental_option("prefs", blocked)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(executable_path=DRIVER))


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Start one browser for all pages; it takes two seconds."""
    driver = start(tmp_path_factory.mktemp("profile"), scripts=False)
    try:
        driver.execute_cdp_cmd("Network.enable", {})
        offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def visit(chromium: Any) -> Open:
    """Open a file in a window of a given size and watch what happens."""

    def open_file(path: Path, width: int = 1000, height: int = 900) -> Visit:
        chromium.set_window_size(width, height)
        for kind in ("performance", "browser"):
            chromium.get_log(kind)
        chromium.get(path.resolve().as_uri())
        events = [json.loads(e["message"])["message"] for e in chromium.get_log("performance")]
        requests = [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]
        console = [entry["message"] for entry in chromium.get_log("browser")]
        return Visit(chromium, requests, console)

    return open_file


@pytest.fixture(scope="session")
def scripting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Start the browser that may run scripts, for axe."""
    driver = start(tmp_path_factory.mktemp("profile"), scripts=True)
    driver.set_script_timeout(600)
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture(scope="session")
def axe() -> str:
    """The script that judges pages; AXE_CORE may name a newer one than the installed."""
    if named := os.environ.get("AXE_CORE"):
        return Path(named).read_text(encoding="utf-8")
    package = pytest.importorskip("axe_core_python", reason="axe-core-python not installed")
    return Path(package.__file__).with_name("axe.min.js").read_text(encoding="utf-8")


@pytest.fixture
def violations(scripting: Any, axe: str) -> Callable[[], list[str]]:
    """What axe finds wrong on the page that is open, of any impact, in light and in dark."""

    def judge() -> list[str]:
        found = []
        for scheme in ("light", "dark"):
            media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
            scripting.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
            scripting.execute_script(axe)
            judged = scripting.execute_async_script(
                "const done = arguments[0];"
                "axe.run(document, {resultTypes: ['violations']})"
                ".then(found => done(found.violations), e => done(String(e)));"
            )
            assert isinstance(judged, list), judged
            for one in judged:
                places = [" ".join(map(str, node["target"])) for node in one["nodes"][:3]]
                found.append(f"{one['id']} ({one['impact']}, {scheme}): {', '.join(places)}")
        return found

    return judge

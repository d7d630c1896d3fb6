"""A real browser, without JavaScript, goes through the pages of ``batchsense web``."""

from __future__ import annotations

import http.cookiejar
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from batchsense.cli.main import run

pytest.importorskip("uvicorn", reason="the web extra is not installed")

LIMIT = 20_000


class Server(NamedTuple):
    """The command while it serves: where, and the key that lets browsers in."""

    address: str
    key: dict[str, Any]


@pytest.fixture(scope="module")
def served() -> Iterator[Server]:
    """Start the command on a free port; it ends with the tests."""
    words = ["web", "--port", "0", "--limit", f"{LIMIT}B"]
    process = subprocess.Popen(
        [sys.executable, "-m", "batchsense", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        printed = process.stdout.readline().strip()
        jar = http.cookiejar.CookieJar()
        urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar)).open(printed)
        (key,) = jar
        address = printed.partition("?")[0]
        cookie = {"name": key.name, "value": str(key.value), "url": address}
        yield Server(address, {**cookie, "httpOnly": True, "sameSite": "Lax"})
    finally:
        process.terminate()
        ended, (_, said) = process.poll(), process.communicate(timeout=600)
    assert ended is None, f"the server ended by itself, with {ended}: {said[-1000:]}"
    assert "Traceback" not in said


@pytest.fixture
def server(served: Server) -> str:
    """The address of the first page."""
    return served.address


def begin_anew(driver: Any, key: dict[str, Any]) -> None:
    """Forget who the browser is, and give it the key."""
    driver.delete_all_cookies()
    driver.execute_cdp_cmd("Network.setCookie", key)


@pytest.fixture
def online(chromium: Any, served: Server) -> Iterator[Any]:
    """Give the browser the network, and take it away again."""
    conditions = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    chromium.execute_cdp_cmd("Network.emulateNetworkConditions", {"offline": False, **conditions})
    begin_anew(chromium, served.key)
    yield chromium
    chromium.execute_cdp_cmd("Network.emulateNetworkConditions", {"offline": True, **conditions})


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """A matrix and a sheet: month is the batch, drug is wanted."""
    from batchsense.experiments import plant

    table = plant(specimens=24, features=5, months=3, treated_share=0.67, seed=1).table
    matrix, sheet, large = (tmp_path / name for name in ("m.csv", "s.csv", "large.csv"))
    rows = zip(table.specimens, table.values.tolist(), strict=True)
    lines = [f"{name},{','.join(map(repr, row))}" for name, row in rows]
    matrix.write_text("\n".join([",".join(["id", *table.features]), *lines]) + "\n")
    labels = zip(table.specimens, table.sheet["month"], table.sheet["drug"], strict=True)
    sheet.write_text("id,month,drug\n" + "".join(f"{','.join(row)}\n" for row in labels))
    large.write_text("1" * 40 * LIMIT)
    return [matrix, sheet, large]


def labelled(driver: Any, text: str, within: str = "") -> Any:
    """Find a field as a reader does: by its label, in the group of that name."""
    group = f"//fieldset[legend[normalize-space()='{within}']]" if within else ""
    label = driver.find_element("xpath", f"{group}//label[normalize-space()='{text}']")
    return driver.find_element("id", label.get_attribute("for"))


def press(driver: Any, text: str) -> None:
    """Press a button by what stands on it, and wait for the next page."""
    before = driver.find_element("css selector", "html")
    driver.find_element("xpath", f"//button[normalize-space()='{text}']").click()
    until(lambda: before.id != driver.find_element("css selector", "html").id)


def until(done: Callable[[], bool]) -> None:
    """Wait for something that happens by itself; a page may go while it is asked."""
    from selenium.common.exceptions import WebDriverException

    given_up = time.monotonic() + 120  # far beyond what a busy machine needs
    while time.monotonic() < given_up:
        try:
            if done():
                return
        except WebDriverException:
            pass
        time.sleep(0.05)
    raise AssertionError("it did not happen")


def address_is(driver: Any, address: str) -> None:
    """Wait for an address."""
    until(lambda: driver.current_url == address)


@pytest.mark.browser
def test_a_reader_without_javascript_gets_the_numbers(
    server: str,
    online: Any,
    files: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From files to the report by labels alone; no foreign request, no complaint, right numbers."""
    driver = online
    for kind in ("performance", "browser"):
        driver.get_log(kind)
    driver.get(server)
    driver.find_element("link text", "Diagnose").click()
    address_is(driver, server + "diagnose")
    labelled(driver, "Matrix of observations").send_keys(str(files[0]))
    labelled(driver, "Sheet of the specimens").send_keys(str(files[1]))
    press(driver, "Next: choose the columns")
    address_is(driver, server + "diagnose/columns")
    labelled(driver, "month", "Batch column").click()
    labelled(driver, "drug", "Columns to keep").click()
    press(driver, "Diagnose")
    until(lambda: driver.title == "What varies with month")

    element = driver.find_element("css selector", "#batchsense-numbers")
    shown = json.loads(element.get_attribute("textContent"))
    words = ["diagnose", "m.csv", "s.csv", "--batch", "month", "--keep", "drug", "--json"]
    monkeypatch.chdir(files[0].parent)
    capsys.readouterr()
    assert run(words) == 0
    assert json.loads(capsys.readouterr().out) == shown
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    requested = {
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    }
    assert requested
    assert {url for url in requested if not url.startswith((server, "data:"))} == set()
    assert [entry["message"] for entry in driver.get_log("browser")] == []


@pytest.mark.browser
def test_a_layout_is_planned_by_labels_alone(server: str, online: Any, files: list[Path]) -> None:
    """A sheet, a number, a column: a sheet to download, and a form that still knows the choice."""
    driver = online
    driver.get(server + "layout")
    labelled(driver, "Sheet of the specimens").send_keys(str(files[1]))
    press(driver, "Next: choose the columns")
    address_is(driver, server + "layout/columns")
    labelled(driver, "Number of batches").send_keys("3")
    labelled(driver, "drug").click()
    press(driver, "Layout")
    until(lambda: driver.title == "A layout in 3 batches")

    assert driver.find_element("link text", "Download s-layout.csv")
    driver.find_element("link text", "Change the choice").click()
    until(lambda: driver.title.startswith("Layout s.csv"))
    assert labelled(driver, "Number of batches").get_property("value") == "3"
    assert labelled(driver, "drug").is_selected()


@pytest.mark.browser
def test_a_refused_upload_is_explained(server: str, online: Any, files: list[Path]) -> None:
    """The browser shows our page, not a broken connection, when the upload is too large."""
    driver = online
    driver.get(server + "correct")
    labelled(driver, "Matrix of observations").send_keys(str(files[2]))
    press(driver, "Next: choose the columns")
    until(lambda: "too large" in driver.title)

    assert "20 kB" in driver.find_element("css selector", "main").text


@pytest.mark.browser
def test_a_form_of_another_site_is_refused(served: Server, online: Any, tmp_path: Path) -> None:
    """A page from elsewhere that posts to the server gets nothing done."""
    server = served.address
    page = tmp_path / "evil.html"
    page.write_text(
        f'<!DOCTYPE html><form method="post" action="{server}plan/run">'
        '<input name="budget" value="1"><button>Win a prize</button></form>'
    )
    driver = online
    driver.get(page.as_uri())
    press(driver, "Win a prize")
    # The browser does not even send the key along.
    until(lambda: "does not know you" in driver.title)

    assert {cookie["name"] for cookie in driver.get_cookies()} <= {served.key["name"]}


@pytest.mark.browser
def test_pages_fit_a_narrow_window(server: str, online: Any) -> None:
    """No page is wider than a telephone."""
    driver = online
    metrics = {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        for path in (
            "",
            "diagnose",
            "layout",
            "plan",
            "nowhere",
            *(f"{one}/columns?data=digits" for one in ("diagnose", "correct", "test")),
        ):
            driver.get(server + path)
            body = driver.find_element("css selector", "html")
            wide, window = (int(body.get_property(name)) for name in ("scrollWidth", "clientWidth"))
            assert wide <= window <= 360, path
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def pages_behind(driver: Any, start: str) -> Iterator[str]:
    """Open the first page and every page that links lead to, each once."""
    waiting, seen = [start], {start}
    while waiting:
        driver.get(address := waiting.pop(0))
        yield address
        for link in driver.find_elements("css selector", "a[href]:not([download])"):
            address = (link.get_property("href") or "").partition("#")[0]
            if address.startswith(start) and address not in seen:
                seen.add(address)
                waiting.append(address)


def choose_and_press(driver: Any) -> None:
    """Take the first choice of every list that needs one, a short budget, and press the button."""
    from selenium.webdriver.support.ui import Select

    driver.execute_script("document.querySelectorAll('details').forEach(one => one.open = true)")
    for found in driver.find_elements("css selector", "select[required]"):
        if not found.get_property("value"):
            Select(found).select_by_index(1)
    if budget := driver.find_elements("css selector", "input[name='budget']"):
        budget[0].clear()
        budget[0].send_keys("1")
    address = driver.current_url
    driver.find_elements("css selector", "form .actions .button")[-1].click()
    until(lambda: driver.current_url != address and "alculating" not in driver.title)


@pytest.mark.browser
def test_everybody_can_use_it(
    served: Server, scripting: Any, violations: Callable[[], list[str]], files: list[Path]
) -> None:
    """Axe finds nothing on any page, form, answer or error, in light or dark."""
    driver, found, forms = scripting, {}, []
    server = served.address
    driver.get(server)
    begin_anew(driver, served.key)
    driver.set_window_size(1000, 900)
    for address in pages_behind(driver, server):
        found[address] = violations()
        if driver.find_elements("css selector", "form[action$='/run']"):
            forms.append(address)
    driver.get(server + "nowhere")
    found["nowhere"] = violations()
    # The reports of the other questions are judged as files.
    driver.get(server + "plan")
    choose_and_press(driver)
    found["a plan"] = violations()
    driver.get(server + "layout")
    labelled(driver, "Sheet of the specimens").send_keys(str(files[1]))
    press(driver, "Next: choose the columns")
    found["columns of a sheet"] = violations()
    labelled(driver, "Number of batches").send_keys("3")
    choose_and_press(driver)
    found["a layout"] = violations()

    assert len(forms) >= 4
    assert {where: wrong for where, wrong in found.items() if wrong} == {}

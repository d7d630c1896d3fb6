"""Who may ask for what: other sites, foreign names, other visitors and large bodies are refused."""

from __future__ import annotations

import gzip
import os
import re
import stat
import threading

import pytest
from starlette.testclient import TestClient

from batchsense.web import Door, Visitors, create_app
from batchsense.web.jobs import Answer, Job, SupersededError
from batchsense.web.visitors import COOKIE, Visitor

BASE = "http://127.0.0.1:8000"
LIMIT = 300_000
#: What must happen is given up after this: far beyond what a busy machine needs.
DEADLINE_S = 600
POSTS = ["/forget", "/diagnose/files", "/diagnose/run", "/correct/files", "/correct/run"]
POSTS += ["/test/files", "/test/run", "/layout/files", "/layout/run", "/plan/run"]


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:8001"},
        {"Origin": "https://127.0.0.1:8000"},
        {"Origin": BASE, "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_forms_of_other_sites_are_refused(browser, visitors, path, headers):
    """Whatever a page of another origin can send is answered with 403 and leaves no trace."""
    answer = browser.client.post(path, headers=headers, data={"budget": "1"})

    assert answer.status_code == 403
    assert "another site" in answer.text
    assert len(visitors) == 0
    assert list(visitors.root.iterdir()) == []


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "127.0.0.1.evil.example", "evil.example:8000", "localhost.evil.example"),
        *("", ":8000", "[]", "[::1", "[localhost]", "[::1]evil", "localhost:80x", "localhost:8_0"),
        *("evil@localhost", "localhost/evil", "localhost evil", "sub.localhost", "10.0.0.1", "*"),
        *("[::ffff:10.0.0.1]", "[2001:db8::1]", "0.0.0.0", "[::]", "127.0.0.1:\u0663"),
    ],
)
def test_foreign_names_are_refused(browser, host):
    """A foreign name that resolves to this machine reaches no page (DNS rebinding)."""
    for request in (browser.client.get, browser.client.post):
        answer = request("/", headers={"Host": host.encode(), "Origin": b"http://" + host.encode()})
        assert answer.status_code == 400
        assert "batchsense" not in answer.text


@pytest.mark.parametrize(
    "host",
    [
        *("localhost:8000", "127.0.0.1:9", "[::1]:8000", "LOCALHOST:8000", "localhost.", "[::1]"),
        *("127.0.0.2:8000", "[::ffff:127.0.0.1]:8000", "[::ffff:7f00:1]", "[0:0:0:0:0:0:0:1]:1"),
    ],
)
def test_the_names_of_this_machine_are_answered(browser, host):
    """The names by which a local browser comes are known, however they are written."""
    (key,) = browser.client.cookies.items()
    headers = {"Host": host, "Cookie": "=".join(key)}
    assert browser.client.get("/", headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/", "/nowhere", "/diagnose/result", "/favicon.ico"])
def test_every_answer_forbids_loading_and_framing(browser, path):
    """Answers and errors carry the policy: nothing from elsewhere, no frame, no guessing."""
    headers = browser.get(path).headers

    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "script-src" not in policy
    for part in ("form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"):
        assert part in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"


def test_the_cookie_is_random_and_closed(new_browser, files):
    """It is drawn here, unreadable for scripts, and sent from our own pages only."""
    first, second = new_browser(), new_browser()
    for browser in (first, second):
        browser.client.follow_redirects = False
        header = browser.send("diagnose", *files).headers["set-cookie"]
        assert "HttpOnly" in header
        assert "samesite=strict" in header.lower()
    tokens = {one.client.cookies[COOKIE] for one in (first, second)}
    assert len(tokens) == 2
    assert all(len(token) >= 43 for token in tokens)


def test_a_brought_along_name_is_never_adopted(browser, files, visitors):
    """Whoever plants a cookie does not know the name that the visitor then gets."""
    browser.client.cookies.set(COOKIE, "planted", domain="127.0.0.1")
    browser.client.follow_redirects = False

    header = browser.send("diagnose", *files).headers["set-cookie"]
    assert "planted" not in header


def test_reading_leaves_no_trace(browser, visitors):
    """Pages that are only looked at make no visitor, so nobody can crowd others out by it."""
    for path in ("/", "/diagnose", "/plan", "/diagnose/result"):
        assert "set-cookie" not in browser.get(path).headers
    assert len(visitors) == 0


def test_visitors_never_see_each_other(new_browser, files):
    """Neither files, columns, results nor downloads of one browser are shown to another."""
    mine, other = new_browser(), new_browser()
    mine.send("correct", *files)
    mine.run("correct", batch="month", keep="drug")
    assert mine.get("/correct/file").status_code == 200
    other.send("diagnose", files[1], files[1])  # known, but with files of its own

    for path in ("result", "result.json", "report.html", "file"):
        answer = other.get(f"/correct/{path}")
        assert answer.status_code == 404
        assert "m-corrected" not in answer.text
    assert "m.csv" not in other.get("/correct").text
    assert "m.csv" in mine.get("/correct").text
    assert new_browser().get("/diagnose/columns").status_code == 404


@pytest.mark.parametrize("declared", [True, False])
def test_too_large_is_refused(browser, visitors, declared):
    """By its declared length or while it streams in: 413 with the limit and what works instead."""
    boundary = b"--x\r\nContent-Disposition: form-data; name=matrix; filename=m.csv\r\n\r\n"
    body = boundary + b"1" * (LIMIT + 1) + b"\r\n--x--\r\n"

    def pieces():
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    headers = {**browser.own, "Content-Type": "multipart/form-data; boundary=x"}
    content = body if declared else pieces()
    answer = browser.client.post("/diagnose/files", headers=headers, content=content)

    assert answer.status_code == 413
    assert "300 kB" in answer.text
    assert "--limit" in answer.text
    assert "batchsense diagnose MATRIX SHEET" in answer.text
    assert [path for path in visitors.root.rglob("*") if path.is_file()] == []


def test_a_declared_length_is_enough(browser, monkeypatch):
    """What says that it is too large is not even read as a form."""
    monkeypatch.setattr("batchsense.web.question_pages.chosen_files", None)
    headers = {**browser.own, "Content-Length": str(LIMIT + 1), "Expect": "100-continue"}

    answer = browser.client.post("/diagnose/files", headers=headers, content=b"1")
    assert answer.status_code == 413


def test_a_small_file_that_unfolds_without_end_is_refused(browser, files, visitors, tmp_path):
    """A compressed file is unfolded to ten times the limit and no further."""
    bomb = tmp_path / "m.csv.gz"
    bomb.write_bytes(gzip.compress(b"0" * (11 * LIMIT)))
    assert bomb.stat().st_size < LIMIT / 10

    assert browser.send("diagnose", bomb, files[1]).status_code == 413
    assert [path for path in visitors.root.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    "target", ["job.py:make", "os:getcwd", "/tmp/job.py:make", "charlm:x", "digits\n"]
)
def test_no_browser_may_name_code(browser, tmp_path, monkeypatch, target):
    """A TARGET that would be imported or run is refused, and nothing is run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.py").write_text("open('ran', 'w').close()\ndef make(): ...\n")

    answer = browser.run("plan", target=target, budget="1")
    if target.strip() != "digits":
        assert answer.status_code == 422
        assert "may name only" in answer.text
    assert not (tmp_path / "ran").exists()


def test_names_of_files_cannot_leave_their_folder(browser, files, visitors):
    """A path in a file name is dropped; nothing is written outside the visitor's folder."""
    parts = {
        "matrix": ("../../../../tmp/escaped.csv", files[0].read_bytes()),
        "sheet": ("..\\..\\s.csv", files[1].read_bytes()),
    }
    answer = browser.post("/diagnose/files", files=parts)

    assert "escaped.csv with s.csv" in answer.text
    written = [path for path in visitors.root.rglob("*") if path.is_file()]
    assert sorted(path.name for path in written) == ["escaped.csv", "s.csv"]


def test_what_a_file_says_is_never_markup(browser, files, tmp_path):
    """Names of files and columns appear as text in every page."""
    sheet = tmp_path / "<b>s&.csv"
    head, rest = files[1].read_text().split("\n", 1)
    sheet.write_text(head.replace("site", "<script>alert(1)</script>") + "\n" + rest)
    form = browser.send("diagnose", files[0], sheet)
    assert "&lt;script&gt;alert(1)" in form.text

    bad = browser.run("diagnose", batch="<img src=x>", keep="<script>alert(1)</script>")
    good = browser.run(
        "diagnose", batch="month", keep="<script>alert(1)</script>", permutations="20"
    )
    for page in (form, bad, good):
        assert "<script>alert" not in page.text
        assert "<img" not in page.text
        assert "<b>s" not in page.text


def test_the_folder_is_closed_to_other_accounts(browser, files, visitors):
    """Only the account that runs the server can open the files."""
    browser.send("diagnose", *files)

    assert stat.S_IMODE(visitors.root.stat().st_mode) == 0o700


def test_files_go_when_asked(browser, files, visitors):
    """The button on the first page deletes files, results and the cookie."""
    browser.send("correct", *files)
    browser.run("correct", batch="month", keep="drug")
    assert list(visitors.root.rglob("*.csv"))

    browser.post("/forget")
    assert list(visitors.root.iterdir()) == []
    assert COOKIE not in browser.client.cookies
    assert browser.get("/correct/result").status_code == 404


def test_files_go_after_an_hour(browser, files, visitors, clock):
    """Who was not seen for the lifetime is forgotten, with every file."""
    browser.send("diagnose", *files)
    clock.now = 3599.0
    assert browser.get("/diagnose/columns").status_code == 200
    clock.now = 7198.0
    assert browser.get("/diagnose/columns").status_code == 200
    clock.now = 10799.0
    visitors.expire()

    assert list(visitors.root.iterdir()) == []
    assert browser.get("/diagnose/columns").status_code == 404


def test_new_files_replace_old_ones(browser, files, visitors):
    """Only the newest files of a visitor are kept."""
    for _ in range(3):
        browser.send("diagnose", *files)
        browser.run("correct", batch="month", keep="drug")

    assert len(list(visitors.root.rglob("m.csv"))) == 1
    assert len(list(visitors.root.rglob("m-corrected.csv"))) == 1


def test_who_is_away_makes_room(new_browser, files, visitors, clock):
    """More visitors than fit, by number or by bytes: the one away longest is forgotten."""
    crowd = [new_browser() for _ in range(4)]
    for one in crowd[:3]:
        one.send("diagnose", *files)
    clock.now += 1000
    crowd[0].get("/diagnose")
    crowd[3].send("diagnose", *files)
    assert [one.get("/diagnose/columns").status_code for one in crowd] == [200, 404, 200, 200]

    visitors.capacity = 2 * sum(path.stat().st_size for path in files)
    clock.now += 1000
    crowd[2].get("/diagnose")
    crowd[1].send("diagnose", *files)
    assert [one.get("/diagnose/columns").status_code for one in crowd] == [404, 200, 200, 404]


@pytest.mark.parametrize("why", ["number", "bytes"])
def test_nobody_present_loses_anything(new_browser, files, visitors, why):
    """Where all are present a newcomer is told to wait, and nothing of theirs stays."""
    crowd = [new_browser() for _ in range(3)]
    for one in crowd:
        one.send("diagnose", *files)
    if why == "bytes":
        visitors.most, visitors.capacity = 20, visitors.size + 1
    before = {path for path in visitors.root.rglob("*") if path.is_file()}

    late = new_browser()
    for answer in (late.send("diagnose", *files), late.send("correct", *files)):
        assert answer.status_code == 503
        assert "no room at present" in answer.text
    assert before == {path for path in visitors.root.rglob("*") if path.is_file()}
    assert [one.get("/diagnose/columns").status_code for one in crowd] == [200, 200, 200]


@pytest.mark.parametrize(
    ("matrix", "sheet"),
    [
        ("m.csv", b"id,month\n"),
        ("m.csv", b""),
        ("m.exe", b"id,month\ns1,May\n"),
        ("m.csv", b"id,a,a\n1,2,3\n"),
        ("m.csv", b"9" * (LIMIT + 1)),
        ("m.zip", b"id,month\ns1,May\n"),
        ("m.csv", b"id," + b",".join(b"c%d" % i for i in range(1001)) + b"\n" + b"1," * 1001),
    ],
)
def test_refused_uploads_evict_nobody(new_browser, files, visitors, clock, matrix, sheet):
    """However many files are refused, and however long the others were away."""
    victim = new_browser()
    victim.send("diagnose", *files)
    clock.now += 3000
    for _ in range(5):
        parts = {"matrix": (matrix, b"id,a\ns1,1\n"), "sheet": ("s.csv", sheet)}
        refused = new_browser().post("/diagnose/files", files=parts)
        assert refused.status_code in (413, 422)

    assert len(visitors) == 1
    assert len([path for path in visitors.root.rglob("*") if path.is_file()]) == 2
    assert victim.get("/diagnose/columns").status_code == 200


def test_an_answer_without_room_is_dropped_not_the_files_of_others(new_browser, files, visitors):
    """Who calculates what does not fit is told so; all files stay."""
    mine, other = new_browser(), new_browser()
    for one in (mine, other):
        one.send("correct", *files)
    visitors.capacity = visitors.size + 10

    answer = mine.run("correct", batch="month", keep="drug")
    assert answer.status_code == 503
    assert mine.get("/correct/file").status_code == 404
    assert [one.get("/correct/columns").status_code for one in (mine, other)] == [200, 200]
    assert len(list(visitors.root.rglob("*.csv"))) == 4


def test_nothing_stays_when_the_server_ends(files):
    """The end of the application deletes the temporary folder."""
    kept = Visitors()
    door = Door()
    with TestClient(create_app(door, visitors=kept), base_url=BASE) as client:
        client.get(door.path)
        parts = {"matrix": ("m.csv", b"1"), "sheet": ("s.csv", files[1].read_bytes())}
        client.post("/diagnose/files", headers={"Origin": BASE}, files=parts)
        assert list(kept.root.rglob("s.csv"))

    assert not kept.root.exists()


def test_what_a_killed_server_left_is_deleted_by_the_next(tmp_path, monkeypatch):
    """A folder that no living server holds goes; those of others, or too young to tell, stay."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    living = Visitors()
    old, young, other = (
        tmp_path / f"{name}" for name in ("batchsense-web-a", "batchsense-web-b", "x")
    )
    for folder in (old, young, other):
        folder.mkdir()
        (folder / "m.csv").write_text("1")
    (tmp_path / "batchsense-web-link").symlink_to(other)
    for folder in (living.root, old, other):
        os.utime(folder, (1.0, 1.0))

    starting = Visitors()
    assert not old.exists()
    assert all(folder.exists() for folder in (living.root, starting.root, young, other / "m.csv"))
    for visitors in (living, starting):
        visitors.close()
        assert not visitors.root.exists()


def test_the_newest_calculation_of_a_visitor_wins(visitors, tmp_path):
    """An unfinished one stops at its next report of progress; one that waits never starts."""
    started, finish = threading.Event(), threading.Event()
    reached = []

    def long(progress, _):
        started.set()
        finish.wait(DEADLINE_S)
        progress("working", 1, 2)
        reached.append("the end of the first")
        return Answer("{}")

    def waiting(progress, _):
        reached.append("the second")
        return Answer("{}")

    visitor = Visitor(tmp_path, 0.0)
    jobs = [Job(long, None), Job(waiting, None), Job(lambda *_: Answer('"newest"'), None)]
    visitor.run("plan", jobs[0], visitors.worker)
    assert started.wait(DEADLINE_S)
    assert not jobs[0].over
    visitor.run("diagnose", jobs[1], visitors.worker)
    visitor.run("diagnose", jobs[2], visitors.worker)
    finish.set()
    jobs[2].wait(DEADLINE_S)

    assert jobs[2].answer().document == '"newest"'
    assert reached == []
    for old in jobs[:2]:
        assert old.over
        with pytest.raises(SupersededError):
            old.answer()


@pytest.mark.parametrize("how", ["forgotten", "replaced"])
def test_what_a_stopped_calculation_still_writes_goes_too(visitors, tmp_path, how):
    """Files that are written after the visitor left, or asked for something newer, do not stay."""
    started, finish = threading.Event(), threading.Event()

    def slow(_, folder):
        started.set()
        finish.wait(DEADLINE_S)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "late.csv").write_text("1")
        return Answer("{}", file=folder / "late.csv")

    visitor = Visitor(tmp_path / "own", 0.0)
    visitor.folder.mkdir()
    visitor.run("correct", Job(slow, None), visitors.worker)
    assert started.wait(DEADLINE_S)
    if how == "forgotten":
        visitor.leave()
    else:
        visitor.run("correct", Job(lambda *_: Answer("{}"), None), visitors.worker)
    finish.set()
    visitors.worker.submit(lambda: None).result(DEADLINE_S)

    assert list(tmp_path.rglob("*.csv")) == []
    if how == "forgotten":
        assert not visitor.folder.exists()


def test_files_of_a_visitor_who_left_are_dropped(browser, files, visitors, monkeypatch):
    """Who deletes everything in one window while another one sends finds nothing kept."""
    from batchsense.web import question_pages

    keep = question_pages.keep_files
    browser.send("diagnose", *files)

    def kept_and_forgotten(*given):
        upload = keep(*given)
        for visitor in list(visitors._known.values()):
            visitors.forget(visitor)
        return upload

    monkeypatch.setattr(question_pages, "keep_files", kept_and_forgotten)
    answer = browser.send("diagnose", *files)

    assert answer.status_code == 404
    assert list(visitors.root.iterdir()) == []


def test_a_stopped_calculation_says_so(browser, files, visitors):
    """Its page is readable and leads back to the form."""
    browser.send("diagnose", *files)
    browser.run("diagnose", batch="month", keep="drug", permutations="20")
    (visitor,) = visitors._known.values()
    visitor.jobs["diagnose"].stop()

    answer = browser.get("/diagnose/result")
    assert answer.status_code == 409
    assert re.search(r'href="/diagnose/again"', answer.text)

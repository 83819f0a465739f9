"""The server of pages, asked as a browser and as others would ask it."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from runners.options import program
from runners.options.given import TaskChoice
from runners.view import view
from runners.view.pages import ServedRuns
from runners.view.server import HOST, PageServer
from tests.browser.synthetic_runs import Data, Reply, write_data, write_picture, write_run
from tests.runners.conftest import program_environment

NAME = "a run#1"
ADDRESS = "/run/a%20run%231/"


@pytest.fixture
def data(tmp_path: Path) -> Data:
    records = [
        {"question_id": i, "image": image, "text": f"Why {i}?", "answer": "a"}
        for i, image in enumerate(("0.jpg", "0.jpg", "gone.jpg", "../../secret.jpg"))
    ]
    data = write_data(tmp_path / "data", records)
    write_picture(data.images / "0.jpg", 0, (400, 300))
    write_picture(tmp_path / "secret.jpg", 1)
    return data


@pytest.fixture
def results(data: Data, tmp_path: Path) -> Path:
    """A run that goes on, one that is finished, and one that lies elsewhere, behind a link."""
    replies = [Reply("a"), Reply("said"), None, None]
    write_run(tmp_path / "results" / NAME, data, replies, finished=False)
    write_run(tmp_path / "results/done", data, [Reply("a")] * 4)
    write_run(tmp_path / "elsewhere/linked", data, [Reply("a")] * 4)
    (tmp_path / "results/linked").symlink_to(tmp_path / "elsewhere/linked")
    return tmp_path / "results"


class Asked:
    """A server, and what it replies."""

    def __init__(self, server: PageServer) -> None:
        self.port = server.server_port

    def __call__(
        self, path: str, method: str = "GET", **headers: str
    ) -> tuple[int, str, http.client.HTTPResponse]:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=20)
        connection.request(method, path, headers=headers)
        reply = connection.getresponse()
        content = reply.read().decode("utf-8", errors="replace")
        connection.close()
        return reply.status, content, reply


@pytest.fixture
def ask(results: Path) -> Iterator[Asked]:
    runs = ServedRuns(results, TaskChoice(), only=None, thumbnail_px=64)
    with PageServer(0, runs) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield Asked(server)
        server.shutdown()
        thread.join()


def block(page: str, name: str) -> object:
    [found] = re.findall(rf'<script type="application/json" id="{name}">(.*?)</script>', page)
    return json.loads(found)


def test_index_leads_to_the_report_of_every_run(ask: Asked) -> None:
    status, page, reply = ask("/")
    assert status == 200
    addresses = re.findall('href="(run/.*?)"', page)
    assert sorted(addresses) == [ADDRESS[1:], "run/done/"]
    assert "not finished" in page
    assert reply.headers["Cache-Control"] == "no-store"
    for address in addresses:
        assert ask(f"/{address}")[0] == 200
    status, _, reply = ask(ADDRESS[:-1])
    assert (status, reply.headers["Location"]) == (301, ADDRESS)


def test_report_shows_each_answer_as_soon_as_it_is_stored(
    ask: Asked, data: Data, results: Path, tmp_path: Path
) -> None:
    status, page, _ = ask(ADDRESS)
    assert status == 200
    live = block(page, "live-data")
    assert isinstance(live, dict)
    assert (live["num_answers"], live["num_questions"]) == (2, 4)
    assert ask(f"{ADDRESS}version")[1] == live["version"]
    assert "said at last" not in page
    replies = [Reply("a"), Reply("said"), Reply("said at last"), None]
    new = write_run(tmp_path / "new" / NAME, data, replies, finished=False)
    for path in (new / "custom").iterdir():
        path.replace(results / NAME / "custom" / path.name)
    assert ask(f"{ADDRESS}version")[1] != live["version"]
    assert "said at last" in ask(ADDRESS)[1]


def test_images_come_small_and_in_full_and_no_others(ask: Asked, tmp_path: Path) -> None:
    page = ask(ADDRESS)[1]
    pictures, originals = block(page, "pictures"), block(page, "originals")
    assert isinstance(pictures, list)
    assert isinstance(originals, list)
    status, small, reply = ask(ADDRESS + pictures[0])
    assert (status, reply.headers["Content-Type"]) == (200, "image/webp")
    assert len(ask(ADDRESS + originals[0])[1]) > len(small)
    done = ask("/run/done/")[1]
    found = block(done, "originals")
    assert isinstance(found, list)
    codes = [ask(f"/run/done/{address}")[0] for address in found]
    assert sorted(codes) == [200, 404, 404]  # one is gone, one leads out of the images' folder
    for name in ("0", "..%2f0.jpg", "%2fetc%2fpasswd", ""):
        assert ask(f"{ADDRESS}image/{name}")[0] == 404


def test_image_of_the_same_size_and_time_has_another_address(
    ask: Asked, data: Data, results: Path
) -> None:
    """A browser keeps what it got under an address."""
    before = block(ask(ADDRESS)[1], "originals")
    path = data.images / "0.jpg"
    stat = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    os.utime(results / NAME / "custom/predictions.jsonl")  # so that the page is made again
    assert block(ask(ADDRESS)[1], "originals") != before


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "/run",
        "/run/",
        "/run/nobody/",
        "/run/linked/",
        "/run/../secret.jpg",
        "/run/..%2f..%2felsewhere%2flinked/",
        "/../../../../etc/passwd",
        "//etc/passwd",
        "/run/done/custom/predictions.jsonl",
        "/run/done/../../data/questions.jsonl",
        "/run/%00/",
        "/run/%ff/",
        "/done/custom/summary.json",
    ],
)
def test_nothing_else_is_served(path: str, ask: Asked) -> None:
    assert ask(path)[:2] == (404, "There is nothing at this address.\n")


def test_runs_behind_links_out_of_the_folder_are_told_and_left_out(
    ask: Asked, results: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (results / "done/custom/notes.txt").symlink_to(tmp_path / "secret.jpg")
    for _ in range(2):
        page = ask("/")[1]
    assert "linked" not in page
    assert "done" not in page
    assert [record.message.split(" leads")[0] for record in caplog.records] == [
        str(results / "done/custom/notes.txt"),
        str(results / "linked/custom"),
    ]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:9", 200),  # a forwarded port
        ("127.0.0.1", 200),
        ("[::1]:80", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("localhost@evil.example", 421),
        ("evil@localhost", 421),
        ("localhost/x", 421),
        ("0.0.0.0", 421),
        ("", 421),
    ],
)
def test_only_requests_to_this_machine_are_answered(host: str, status: int, ask: Asked) -> None:
    found, content, _ = ask("/", Host=host)
    assert found == status
    assert ("done" in content) == (status == 200)


def test_pages_are_only_read(ask: Asked, results: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in results.rglob("*")}
    status, content, reply = ask("/", "HEAD")
    assert (status, content) == (200, "")
    assert int(reply.headers["Content-Length"]) > 500
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        status, _, reply = ask("/", method)
        assert (status, reply.headers["Allow"]) == (405, "GET, HEAD")
    ask(ADDRESS)
    assert {path: path.stat().st_mtime_ns for path in results.rglob("*")} == before
    for path in ("/", ADDRESS):
        headers = ask(path)[2].headers
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_a_run_that_cannot_be_shown_says_why_and_others_go_on(ask: Asked, results: Path) -> None:
    (results / "done/custom/manifest.json").write_text("{}")
    status, content, _ = ask("/run/done/")
    assert status == 409
    assert "manifest.json" in content
    assert "cannot be read" in ask("/")[1]
    assert ask(ADDRESS)[0] == 200


@pytest.mark.usefixtures("in_own_folder")
@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["results_dir=nowhere"], "`results_dir` must be a folder"),
        (["results_dir=results", "port=70000"], "`port` must be 0 to 65535"),
        (["results_dir=results", "thumbnail_px=1"], "`thumbnail_px`"),
        (["results_dir=results", "host=0.0.0.0"], "host"),
    ],
)
def test_wrong_options_end_with_2(
    options: list[str], named: str, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.run("view", view, options) == 2
    assert named in capsys.readouterr().err


def test_port_that_is_taken_is_told(
    ask: Asked, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.run("view", view, [f"results_dir={results}", f"port={ask.port}"]) == 2
    assert f"Port {ask.port} of 127.0.0.1 cannot be used" in capsys.readouterr().err


@pytest.mark.few_cases(1)
@pytest.mark.parametrize("named", ["results/done", "results"])
def test_program_serves_until_it_is_interrupted(
    named: str, results: Path, tmp_path: Path, cache_home: Path
) -> None:
    started = subprocess.Popen(
        [sys.executable, "-m", "runners.view", named, "port=0"],
        cwd=tmp_path,
        env=program_environment(cache_home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert started.stdout is not None
    line = started.stdout.readline()
    found = re.match(rf"http://127\.0\.0\.1:(\d+)/ shows {named}\n", line)
    assert found is not None
    connection = http.client.HTTPConnection(HOST, int(found[1]), timeout=20)
    connection.request("GET", "/")
    page = connection.getresponse().read().decode()
    connection.close()
    started.send_signal(signal.SIGINT)
    _, told = started.communicate(timeout=20)
    assert started.returncode == 130
    assert "done" in page
    assert ("a run#1" in page) == (named == "results")
    assert "Traceback" not in told

"""One question: what is asked, what goes to stdout, what is refused."""

from __future__ import annotations

import io
import json
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from pathlib import Path

import pytest
from PIL import Image

from evals.reading.images import ImageFile
from runners.ask import ask
from runners.errors import ConfigError
from runners.evaluation.ask_images import ImageBytes, fetch, open_sources
from runners.options import program
from runners.options.include import use_folders
from tests.checkpoints import make_checkpoint, make_tower
from tests.runners.conftest import Shell
from tests.variants import make_lora


def png(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (200, 30, 30)).save(buffer, "PNG")
    return buffer.getvalue()


OK = b"HTTP/1.1 200 OK\r\n"
DRIPPING = {"/body": OK + b"\r\n", "/headers": OK + b"X-Slow: ", "/silence": b""}
"""Answers that go on with a byte now and then."""
BROKEN = {
    "/no-http": b"SSH-2.0-OpenSSH\r\n",
    "/nothing": b"",
    "/cut": OK + b"Content-Length: 500\r\n\r\nabc",
    "/chunks": OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "/long-line": OK + b"X: " + b"y" * 70_000 + b"\r\n\r\n",
    "/many-lines": OK + b"X: y\r\n" * 200 + b"\r\n",
    "/round": b"HTTP/1.1 302 Found\r\nLocation: /round\r\n\r\n",
    "/to-a-file": b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n",
}
"""Answers that are none."""


def drip(file: BufferedIOBase, begin: bytes) -> None:
    with suppress(OSError):  # whoever asked has given up
        file.write(begin)
        for _ in range(100):
            time.sleep(0.1)
            file.write(b"x" if begin else b"")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A web server on this machine with an image, a large file, text and a dead end."""
    pages = {"/red.png": png(40, 30), "/large.bin": b"x" * 5000, "/text.png": b"no image"}
    pages |= {"/a%20b.png?of=c%20d": png(8, 8), "/%C3%BC,%E5%AD%97.png": png(9, 9)}
    pages |= {"/%22%7B%7D%5E.png": png(7, 7), f"/{'x' * 600}.png": png(6, 6)}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path in DRIPPING:
                drip(self.wfile, DRIPPING[self.path])
                return
            if self.path in BROKEN:
                self.wfile.write(BROKEN[self.path])
                return
            content = pages.get(self.path)
            self.send_response(200 if content else 404)
            self.end_headers()
            if content:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()


def test_answer_alone_goes_to_stdout(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "a, b=c.png"
    path.write_bytes(png(48, 48))
    options = [f"image={path}", "prompt=What color is it, really?", "max_new_tokens=4"]
    done = shell(shlex.join(["python", "-m", "runners.ask", *options]), tmp_path)
    assert done.code == 0, done.stderr
    assert done.stdout.strip()
    assert "conversation vicuna_v1" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_libraries_say_nothing_of_what_an_adapter_does_not_need(
    shell: Shell, tmp_path: Path
) -> None:
    base = make_checkpoint(tmp_path / "the-base", make_tower(tmp_path / "clip-tiny"))
    adapter = make_lora(tmp_path / "llava-v1.5-tiny-lora", base)
    options = [f"model.path={adapter}", f"model.base={base}", "prompt=Why?", "max_new_tokens=1"]
    done = shell(shlex.join(["python", "-m", "runners.ask", *options]), tmp_path)
    assert done.code == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if not line.startswith("(cut: length")]
    assert len(told) == 1, done.stderr
    assert told[0].startswith("conversation vicuna_v1")


@pytest.mark.few_cases(1)
@pytest.mark.parametrize("is_terminal", [True, False])
def test_token_that_ends_the_answer_is_not_shown(
    is_terminal: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(png(48, 48))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    shown = []
    for name, stop in (("with", []), ("without", ["▁no"])):
        path = tmp_path / name / "conversation" / f"{name}.yaml"
        path.parent.mkdir(parents=True)
        template = {"template": name, "style": "two", "roles": ["USER", "ASSISTANT"]}
        path.write_text(json.dumps({**template, "separators": [" ", "</s>"], "stop": stop}))
        words = [f"include={name}", f"conversation={name}", "image=a.png", "prompt=Is it a dog?"]
        assert program.run("ask", ask, [*words, "model=llava-demo"]) == 0
        shown.append(capsys.readouterr().out.strip())
    use_folders([])
    assert shown == ["no", ""]


@pytest.mark.slow
def test_image_from_the_web_is_asked_about(server: str, shell: Shell, tmp_path: Path) -> None:
    options = [f"image={server}/red.png", "prompt=<image> What color?", "max_new_tokens=4"]
    fetched = shell(shlex.join(["python", "-m", "runners.ask", *options]), tmp_path)
    assert fetched.code == 0, fetched.stderr
    assert fetched.stdout.strip()


@pytest.mark.few_cases(2)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["image=nowhere.png", "prompt=What?"], "'nowhere.png' is neither"),
        (["prompt=a <image> b"], "places 1 images, but the question has 0"),
        (["prompt=What?", "temperature=-1"], "`temperature` must be 0 or larger"),
        (["prompt=What?", "quantization.name=int3"], "quantization.name"),
        (["prompt=What?", "model.attention=fast"], "`model.attention` must be one of"),
    ],
)
def test_bad_questions_are_refused(
    options: list[str], message: str, call: Shell, tmp_path: Path
) -> None:
    done = call(shlex.join(["runners.ask", *options]), tmp_path)
    assert done.code == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


def test_comma_separates_images_unless_it_belongs_to_a_name(tmp_path: Path, server: str) -> None:
    first, second = tmp_path / "a.png", tmp_path / "b.png"
    both = tmp_path / "a.png,b.png"
    for path in (first, second, both):
        path.write_bytes(png(4, 4))
    sources = open_sources(f"{first}, {second},{server}/red.png")
    assert [type(source) for source in sources] == [ImageFile, ImageFile, ImageBytes]
    assert [source.open().size for source in sources] == [(4, 4), (4, 4), (40, 30)]
    assert len(open_sources(str(both))) == 1
    assert open_sources(None) == ()


@pytest.mark.parametrize(
    ("page", "message"), [("nothing.png", "cannot be fetched"), ("large.bin", "larger than 4,000")]
)
def test_addresses_are_fetched_within_limits(server: str, page: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fetch(f"{server}/{page}", max_bytes=4000)


def test_what_is_no_image_or_too_large_cannot_be_opened(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (text,) = open_sources(f"{server}/text.png")
    with pytest.raises(OSError, match=r"identify|decoded"):
        text.open()
    monkeypatch.setattr("runners.evaluation.ask_images.MAX_PIXELS", 100)
    (image,) = open_sources(f"{server}/red.png")
    with pytest.raises(OSError, match="more than 100"):
        image.open()


def test_unreachable_address_is_named() -> None:
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1:9/x\.png cannot be fetched"):
        open_sources("http://127.0.0.1:9/x.png")


@pytest.mark.parametrize(
    ("page", "width"),
    [
        ("a b.png?of=c d", 8),
        ("a%20b.png?of=c%20d#top", 8),
        ('"{}^.png', 7),
        (f"{'x' * 600}.png", 6),
    ],
)
def test_address_is_taken_as_it_is_written(server: str, page: str, width: int) -> None:
    (image,) = open_sources(f"{server}/{page}")
    assert image.open().size == (width, width)


def test_letters_of_any_script_are_encoded(server: str) -> None:
    assert fetch(f"{server}/ü,字.png") == png(9, 9)


@pytest.mark.parametrize("page", DRIPPING)
def test_answer_that_does_not_end_is_given_up(server: str, page: str) -> None:
    began = time.monotonic()
    with pytest.raises(ConfigError, match=rf"{page} was not there after 0\.5 s|cannot be fetched"):
        fetch(f"{server}{page}", timeout_s=0.5)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("page", BROKEN)
def test_answer_that_is_none_is_told_with_its_address(server: str, page: str) -> None:
    with pytest.raises(ConfigError, match=rf"`image` {server}{page} cannot be fetched"):
        open_sources(server + page)


@pytest.mark.parametrize(
    "address",
    [
        *("http://[::1/x.jpg", "http://[::1]x/x.jpg", "http://[:::1]/x.jpg", "http://[]/x.jpg"),
        *("http:///x.jpg", "http://", "http://a b/x.jpg", "http://127.0.0.1:port/x.jpg"),
        *("http://127.0.0.1:99999/x.jpg", "http://127.0.0.1:-1/x.jpg", "http://a..b/x.jpg"),
        *("http://" + "x" * 300 + "/x.jpg", "http://ü..de/x.jpg", "HTTP://[::1/x.jpg"),
        "http://127.0.0.1:9\t/x.jpg",
    ],
)
def test_impossible_address_is_told(address: str) -> None:
    with pytest.raises(ConfigError, match="cannot be fetched") as told:
        open_sources(address)
    assert address in str(told.value)


@pytest.mark.parametrize("name", ["http:/a/x.jpg", "x" * 300 + ".jpg", "~nobody-at-all/x.jpg"])
def test_name_that_is_neither_file_nor_address_is_told(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}' is neither"):
        open_sources(name)


@pytest.mark.slow
def test_program_ends_although_an_answer_does_not(server: str) -> None:
    look = f"from runners.evaluation.ask_images import fetch; fetch('{server}/body', timeout_s=0.5)"
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=False)
    assert time.monotonic() - began < 8
    assert "was not there after 0.5 s" in done.stderr

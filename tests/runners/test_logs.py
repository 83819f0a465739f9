from __future__ import annotations

import io
import json
import logging
import sys
import time
from pathlib import Path

import pytest

from runners.errors import ConfigError
from runners.logs import LOG_FILE, NUMBERS, RunLog, doing, is_drawn, lines_only
from runners.options.complaints import report

logger = logging.getLogger("runners.test")


def test_lines_from_before_the_file_come_first_in_it(tmp_path: Path) -> None:
    with RunLog() as log:
        logger.info("first")
        log.attach(tmp_path / "run")
        logger.info("second")
    lines = (tmp_path / "run" / LOG_FILE).read_text().splitlines()
    assert [line.rpartition(": ")[2] for line in lines] == ["first", "second"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_log_on_a_full_disk_does_not_bury_what_the_run_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / LOG_FILE).symlink_to("/dev/full")
    with RunLog() as log:
        logger.info("first")
        log.attach(tmp_path)
        logger.info("second")
    assert capsys.readouterr().err.split() == ["first", "second"]


def test_half_a_character_stands_escaped_in_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # what pytest hears of a test it has to send on as Unicode
    monkeypatch.setattr(logging.getLogger("runners"), "propagate", False)
    with RunLog(quiet=True) as log:
        log.attach(tmp_path)
        logger.info("question \ud800")
    assert (tmp_path / LOG_FILE).read_text().endswith("question \\ud800\n")
    assert capsys.readouterr().err == ""


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_is_told_what_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    for silent_s, is_told in ((0.0, True), (60.0, False)):
        monkeypatch.setattr("runners.logs._SILENT_S", silent_s)
        monkeypatch.setattr("sys.stderr", shown := _Terminal())
        with doing("hashing"):
            for _ in range(100):
                if "hashing (" in shown.getvalue() or not is_told:
                    break
                time.sleep(0.05)
        assert ("hashing (" in shown.getvalue()) == is_told


def test_elsewhere_than_on_a_terminal_nothing_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("runners.logs._SILENT_S", 0.0)
    with doing("hashing"):
        time.sleep(0.05)
    assert capsys.readouterr().err == ""


def test_quiet_log_tells_what_goes_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RunLog(quiet=True) as log:
        log.attach(tmp_path)
        logger.info("first")
        logger.warning("second")
    assert capsys.readouterr().err.split() == ["second"]
    assert "first" in (tmp_path / LOG_FILE).read_text()


def test_each_line_may_be_an_object(capsys: pytest.CaptureFixture[str]) -> None:
    with RunLog(form="json"):
        logger.info("a\nb %s", "http://me:pw@host", extra={NUMBERS: {"num_done": 3}})
        logger.error('"quoted" api_key=abc')
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert first.pop("time").endswith("Z")
    assert first == {
        "level": "info",
        "logger": "runners.test",
        "message": "a\nb http://***@host",
        "num_done": 3,
    }
    assert (second["level"], second["message"]) == ("error", '"quoted" api_key=***')


def test_errors_are_objects_where_lines_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = ConfigError("100% wrong: http://me:pw@host.\nLeave it out.")
    monkeypatch.setattr(sys, "argv", ["eval", "task=gqa", "++log=json"])
    report(error)
    told = json.loads(capsys.readouterr().err)
    assert told["level"] == "error"
    assert told["message"] == "100% wrong: http://***@host.\nLeave it out."
    monkeypatch.setattr(sys, "argv", ["eval", "task=gqa"])
    report(error)
    assert capsys.readouterr().err == f"{told['message']}\n"


def test_nothing_is_drawn_where_only_lines_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with lines_only(True):
        assert not is_drawn()
    with lines_only(False):
        assert is_drawn()
    assert is_drawn()

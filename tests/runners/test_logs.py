from __future__ import annotations

import io
import logging
import time
from pathlib import Path

import pytest

from runners.logs import LOG_FILE, RunLog, doing

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

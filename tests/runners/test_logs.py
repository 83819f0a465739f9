from __future__ import annotations

import logging
from pathlib import Path

import pytest

from runners.logs import LOG_FILE, RunLog

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

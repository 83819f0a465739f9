"""What a terminal, or a log, is told of how far a run is."""

from __future__ import annotations

import io
import logging
import re

import pytest

from runners.evaluation import progress
from runners.evaluation.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def at_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """In no fixture, since pytest captures anew once they are built."""
    monkeypatch.setattr("sys.stderr", shown := Terminal())
    return shown


def test_a_bar_counts_the_questions_of_the_task_that_it_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = at_terminal(monkeypatch)
    with Progress(50, 3) as shown:
        for name, total, num_done in (("gqa", 30, 3), ("pope", 20, 0)):
            shown.enter_task(name, total, num_done)
            for number in range(total - num_done):
                shown.update(failed=number == 0)
    beside = r"\[.*?all tasks (\d+)/(\d+)(.*?)\]"
    lines = re.split(r"[\r\n]", terminal.getvalue())
    found = [re.match(rf"(\w+): +\d+%.*?\| (\d+)/(\d+) .*?{beside}", line) for line in lines]
    bars = [match.groups() for match in found if match]
    ends = {name: rest for name, *rest in bars}
    assert ends["gqa"][:4] == ["30", "30", "30", "50"]
    assert ends["pope"][:4] == ["20", "20", "50", "50"]
    assert "2 failed" in ends["pope"][4]


def test_a_run_of_one_task_says_nothing_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = at_terminal(monkeypatch)
    with Progress(2, 0) as shown:
        shown.enter_task("gqa", 2)
        shown.update(failed=False)
        shown.update(failed=False)
    assert "2/2" in terminal.getvalue()
    assert "all tasks" not in terminal.getvalue()


def test_where_no_answer_comes_the_clock_of_the_bar_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = at_terminal(monkeypatch)
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Progress(2, 0) as shown:
        shown.enter_task("gqa", 2)
        for second in range(1, 6):
            now[0] = float(second)
            before = len(terminal.getvalue())
            shown.tick(1)
            assert len(terminal.getvalue()) > before


def test_a_log_has_the_task_and_all_questions(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with caplog.at_level(logging.INFO), Progress(50, 0) as shown:
        shown.enter_task("gqa", 30)
        shown.update(failed=False)
        now[0] = 61.0
        shown.tick(2)
    (line,) = caplog.messages
    assert line.startswith("gqa: 1/50 questions of all tasks, ")
    assert line.endswith("2 workers")

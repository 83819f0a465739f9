"""The verdict in files."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import sys
import termios
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.runners.gated_runs import right, store
from tests.runners.views.gate.conftest import gate


def test_files_for_people_and_for_continuous_integration() -> None:
    for task, lost in (("gqa", 30), ("mme", 1), ("pope", 0)):
        store("old", task, right(60))
        store("new", task, right(60, lost))
    assert gate("output=out/deep") == 1
    suites = ElementTree.parse("out/deep/junit.xml").getroot()
    (suite,) = suites
    assert [suite.get(name) for name in ("tests", "failures", "errors")] == ["3", "1", "1"]
    assert float(suite.get("time")) == pytest.approx(
        sum(float(c.get("time")) for c in suite), abs=0.01
    )
    assert suite.get("timestamp")
    found = {case.get("name"): [child.tag for child in case] for case in suite}
    assert found == {"gqa": ["failure"], "mme": ["error"], "pope": ["system-out"]}
    message = suite[0][0].get("message")
    assert message.startswith("gqa: 100.00 to 50.00 (-50.00 points")
    page = Path("out/deep/verdict.md").read_text()
    assert page.startswith("# new against old\n\n**Fail: a significant drop (gqa)**\n\n| task |")
    assert "| gqa | 60 | 100.00 | 50.00 | -50.00 |" in page
    assert "- mme: undecided, because its 60 questions" in page


@pytest.mark.parametrize(("columns", "left_out"), [(80, "p, questions, gained, lost"), (120, "")])
def test_table_fits_the_terminal(
    columns: int, left_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores, worse = right(60), right(60, 30)
    for task in ("gqa", "scienceqa"):
        store("old", task, scores, num_answered=45, coverage=0.75, num_failed={"image_missing": 15})
        store("new", task, worse)
    leader, terminal = pty.openpty()
    fcntl.ioctl(leader, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    with os.fdopen(terminal, "w") as screen:
        monkeypatch.setattr(sys, "stdout", screen)
        assert gate() == 1
        monkeypatch.undo()
        shown = os.read(leader, 65536).decode().splitlines()
    os.close(leader)
    assert max(map(len, shown)) <= columns
    head = shown[1].split()
    assert {"baseline", "candidate", "difference", "verdict"} <= set(head)
    assert ("gained" in head) == (not left_out)
    told = f"Not shown in {columns} columns, but in verdict.md: {left_out}."
    assert (told in shown) == bool(left_out)


def test_output_that_is_no_terminal_has_whole_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    store("old", "gqa", right(60), num_answered=45, coverage=0.75, num_failed={"image_missing": 15})
    store("new", "gqa", right(60, 30))
    assert gate() == 1
    shown = capsys.readouterr().out.splitlines()
    assert {"questions", "gained", "lost", "p"} <= set(shown[1].split())
    assert len(shown[1]) > 80

"""The verdict in files."""

from __future__ import annotations

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

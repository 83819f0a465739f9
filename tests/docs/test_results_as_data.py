"""The page on results as data: its snippet as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.runners.synthetic_runs import scores_of_mean, write_task

PAGE = Path(__file__).parents[2] / "docs" / "results_as_data.md"
[READING] = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_frames_have_the_columns_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for run, mean in (("A", 0.5), ("B", 0.75)):
        write_task(tmp_path / "results" / run, "gqa", scores_of_mean(mean, 8))
    names: dict[str, Any] = {}
    exec(READING, names)
    text = PAGE.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(runs|samples)` \| (.*)$", text, re.MULTILINE))
    told = {frame: set(re.findall(r"`(\w+)`", row)) for frame, row in rows.items()}
    assert told["runs"] <= set(names["runs"].columns)
    assert told["samples"] <= set(names["samples"].columns)

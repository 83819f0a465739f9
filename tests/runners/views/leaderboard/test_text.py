"""The files as text: whatever a run is named, they stay well-formed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.runners.synthetic_runs import write_task
from tests.runners.views.leaderboard.conftest import Build

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "$x^2_3$ \\input{a} 100% & #1",
    "=cmd|a!b `x` *b*",
    "[0pt] --dash {",
    "emoji 🦙 \u202e\x1b[31m عربي",
)


@pytest.mark.few_cases(2)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text_everywhere(name: str, tmp_path: Path, build: Build) -> None:
    write_task(tmp_path / "results" / name, "gqa", [1.0, 0.0])
    built = build("formats=[csv,md,tex,html,png]")
    assert built.code == 0
    html, tex, table = built.text("html"), built.text("tex"), built.text("md")
    assert "<img" not in html
    assert "\x1b" not in html + tex + table + built.stdout
    assert "\u202e" not in html + tex + table
    assert "\\input{" not in tex
    assert not re.search(
        r"(?<!\\)(?:\\\\)*%(?!\n)", tex.partition("\\begin")[2]
    )  # it would hide the rest
    assert not re.search(r"^[\[*]", tex, re.MULTILINE)
    assert len({len(row) for row in built.tables()[0]}) == 1
    assert not any(r["name"].startswith(("=", "+", "-", "@")) for r in built.records())

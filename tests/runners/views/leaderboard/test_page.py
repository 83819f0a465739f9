"""The page: one file, complete in itself."""

from __future__ import annotations

import re
from pathlib import Path

from tests.runners.views.leaderboard.conftest import Build


def test_page_needs_nothing_beside_itself(results: Path, build: Build) -> None:
    html = build().text("html")
    assert re.findall(r"(?:src|href)=\"(?!#)", html) == []
    assert "url(" not in html
    assert "@import" not in html
    assert "<script" not in html

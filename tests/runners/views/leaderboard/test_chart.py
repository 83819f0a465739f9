"""The picture, with and without the library that draws it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.runners.synthetic_runs import write_task
from tests.runners.views.leaderboard.conftest import Build


def test_without_matplotlib_the_other_files_are_written_and_the_program_says_so(
    results: Path, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "runners.views.leaderboard.chart", raising=False)
    built = build("formats=[csv,png]")
    assert built.code == 1
    assert "pip install 'llava-evals[plots]'" in built.stderr
    assert [path.name for path in built.folder.iterdir()] == ["leaderboard.csv"]


@pytest.mark.slow
def test_picture_has_room_for_many_rows_and_for_none(tmp_path: Path, build: Build) -> None:
    (tmp_path / "results").mkdir()
    assert build("formats=[png]", "published=none").code == 0
    assert build("formats=[png]").code == 0
    for number in range(70):
        write_task(tmp_path / f"results/run-{number:02}", "gqa", [1.0, 0.0])
    assert build("formats=[png]").code == 0

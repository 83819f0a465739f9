"""Which rows and columns are shown, in what order, and which figure is bold."""

from __future__ import annotations

from pathlib import Path

from tests.runners.synthetic_runs import scores_of_mean, write_task
from tests.runners.views.leaderboard.conftest import Build


def test_rows_are_sorted_by_a_benchmark(tmp_path: Path, build: Build) -> None:
    write_task(tmp_path / "results/good", "gqa", scores_of_mean(0.9, 100))
    write_task(tmp_path / "results/limited", "gqa", scores_of_mean(0.95, 100), limited=True)
    write_task(tmp_path / "results/none", "textvqa", [1.0, 0.0])
    names = [row[0] for row in build("sort=gqa").tables()[0][1:]]
    assert names == ["good", "llava-v1.5-13b", "llava-v1.5-7b", "limited", "none"]
    names = [row[0] for row in build("sort=name").tables()[0][1:]]
    assert names == sorted(names)


def test_best_comparable_figure_is_bold(tmp_path: Path, build: Build) -> None:
    write_task(tmp_path / "results/good", "gqa", scores_of_mean(0.9, 100))
    write_task(tmp_path / "results/limited", "gqa", scores_of_mean(0.95, 100), limited=True)
    built = build()
    assert "**90.0**" in built.stdout
    assert "**95.0**" not in built.stdout
    assert "\\textbf{90.0}" in built.text("tex")
    assert "<b>90.0</b>" in built.text("html")
    assert "**" not in build("best=none").stdout


def test_filters_select_rows_and_columns(results: Path, build: Build) -> None:
    write_task(results / "llava-v1.5-7b", "textvqa", [1.0, 0.0])
    runs = [r["name"] for r in build("models=[llava-*]").records() if r["kind"] == "run"]
    assert runs == ["llava-v1.5-7b"]
    built = build("tasks=gqa", "published=none")
    assert built.tables()[0][0] == ["Run", "Setup", "GQA"]
    assert {r["kind"] for r in built.records()} == {"run"}
    assert "Published figures" not in built.stdout


def test_filter_by_run_holds_for_unfinished_ones_too(results: Path, build: Build) -> None:
    for name in ("half", "other"):
        (results / name / "gqa").mkdir(parents=True)
        (results / name / "gqa/predictions.jsonl").write_text("{}\n")
    built = build("models=[half,demo]")
    assert built.code == 0
    assert "half, gqa: not finished" in built.stdout
    assert "other, gqa" not in built.stdout

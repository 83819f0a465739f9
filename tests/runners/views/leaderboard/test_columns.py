"""Which table and which column a figure stands in."""

from __future__ import annotations

from pathlib import Path

from tests.runners.synthetic_runs import METRICS, write_task
from tests.runners.views.leaderboard.conftest import TITLES, Build


def test_demo_data_have_a_table_of_their_own(results: Path, build: Build) -> None:
    built = build()
    assert built.tables()[0][0][2:] == list(TITLES.values())
    assert all(row[0] != "demo" for row in built.tables()[0])
    assert built.tables()[2] == [
        ["Run", "Setup", "gqa accuracy"],
        ["demo", "float16", "**50.0**"],
    ]
    assert "demo data" in built.stdout


def test_every_task_of_the_paper_fills_its_column(tmp_path: Path, build: Build) -> None:
    values = {name: 0.5 + number / 100 for number, name in enumerate(METRICS)} | {"mme": 1500.0}
    for name, value in values.items():
        metric = "accuracy_image" if name == "scienceqa" else METRICS[name]
        judge = {"mmvet": "gpt-4-0613", "llavabench": "gpt-4-0314"}.get(name)
        fields = {"judge": {"model": judge}} if judge else {}
        metrics = {METRICS[name]: 0.25, metric: value}
        write_task(tmp_path / "results/mine", name, [1.0, 0.0], metrics=metrics, **fields)
    [row] = [row for row in build("best=none").tables()[0] if row[0] == "mine"]
    assert row[2:] == [f"{v if v > 1 else 100 * v:.1f}" for v in values.values()]

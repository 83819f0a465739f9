"""The published figures beside the runs."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.runners.conftest import CHECKOUT
from tests.runners.views.leaderboard.conftest import TITLES, Build, Built

SHARED = CHECKOUT / "../shared/data/published_scores.csv"
PUBLISHED = CHECKOUT / "results/published"


def test_published_tables_in_the_results_folder_go_first(results: Path, build: Build) -> None:
    (results / "published").mkdir()
    (results / "published/own.csv").write_text(
        "model,task,split,metric,value,printed,source\n"
        "their-model,gqa,testdev_balanced,accuracy,0.7,70.0,a paper\n"
    )
    built = build("published=all")
    assert "their-model" in built.stdout
    assert "- a paper" in built.stdout
    assert "llava-v1.5-13b" not in built.stdout
    (results / "published/own.csv").write_text("model,task\nx,gqa\n")
    built = build("published=all")
    assert built.code == 2
    assert "own.csv:2 must have the columns model, task, split" in built.stderr


def published_cells(built: Built) -> dict[tuple[str, str], str]:
    """The cells of the published rows of the first table, by model and title."""
    heads, *rows = built.tables()[0]
    return {
        (row[0], title): cell.strip("*")
        for row in rows
        if row[1] == "published"
        for title, cell in zip(heads[2:], row[2:], strict=True)
        if cell
    }


def test_every_published_cell_is_that_of_the_projects_table(results: Path, build: Build) -> None:
    from runners.views.leaderboard.columns import PAPER_TITLES

    built = build("published=all")
    with (PUBLISHED / "model_zoo.csv").open(newline="", encoding="utf-8") as file:
        figures = list(csv.DictReader(file))
    titles = {column.key: title for column, title in PAPER_TITLES.items()}
    expected = {
        (figure["model"], titles[key]): figure["printed"]
        for figure in figures
        if (key := f"{figure['task']}/{figure['split']}/{figure['metric']}") in titles
    }
    assert published_cells(built) == expected
    for figure in figures:
        key = f"{figure['task']}/{figure['split']}/{figure['metric']}"
        [record] = [
            r for r in built.records() if (r["name"], r["setup"]) == (figure["model"], "published")
        ]
        assert float(record[key]) == float(figure["value"])


def test_published_rows_equal_the_source_table(results: Path, build: Build) -> None:
    if not SHARED.exists():
        pytest.skip("the source table of the published figures is not beside this checkout")
    with SHARED.open(newline="", encoding="utf-8") as file:
        figures = [r for r in csv.DictReader(file) if "docs/MODEL_ZOO.md" in r["source"]]
    expected = {
        (figure["model"], TITLES[figure["benchmark"]]): figure["value"]
        for figure in figures
        if figure["model"] in ("llava-v1.5-7b", "llava-v1.5-13b")
    }
    assert len(expected) == 24
    assert published_cells(build()) == expected

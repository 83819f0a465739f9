"""The published figures beside the runs."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from tests.runners.conftest import CHECKOUT
from tests.runners.synthetic_runs import write_task
from tests.runners.views.leaderboard.conftest import TITLES, Build, Built

SHARED = CHECKOUT / "../shared/data/published_scores.csv"
SHARED_NEXT = CHECKOUT / "../shared/scoring_next/published_next.csv"
PUBLISHED = CHECKOUT / "runners/views/leaderboard/assets/published"


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


@pytest.mark.few_cases(2)
@pytest.mark.parametrize(
    "figures", ["0.62,62.0%", '1531.3,"1,531.3"', "0.608,60.8*", "0.6,", "-,62.0"]
)
def test_figure_that_is_no_bare_number_is_told_by_its_line(
    figures: str, results: Path, build: Build
) -> None:
    (results / "published").mkdir()
    (results / "published/own.csv").write_text(
        "model,task,split,metric,value,printed,source\n"
        f"llava-v1.5-7b,gqa,testdev_balanced,accuracy,{figures},a paper\n"
    )
    built = build()
    assert built.code == 2
    assert re.search("own.csv:2: `(value|printed)` must be a number, such as 62.0", built.stderr)


HEADS = "model,task,split,metric,value,printed,source\n"


@pytest.mark.parametrize(
    ("figures", "told"),
    [
        (["0.62,62.0", "0.7,70.0"], "3 has a figure of m for gqa/val/accuracy, as line 2"),
        (["62.0,62.0"], "2 has the `value` 62, but 62.0 as"),
        (["0.62,0.62"], "2 has the `value` 0.62, but 0.62 as"),
        (["0.6194,62.0"], "2 has the `value` 0.6194, but 62.0 as"),
    ],
)
def test_published_figures_that_contradict_each_other_are_refused(
    figures: list[str], told: str, results: Path, build: Build
) -> None:
    (results / "published").mkdir()
    lines = "".join(f"m,gqa,val,accuracy,{figure},a\n" for figure in figures)
    (results / "published/own.csv").write_text(f"{HEADS}{lines}")
    built = build()
    assert built.code == 2
    assert f"own.csv:{told}" in built.stderr


def test_published_figure_may_be_rounded_and_of_a_task_of_ones_own(
    results: Path, build: Build
) -> None:
    (results / "published").mkdir()
    (results / "published/own.csv").write_text(
        f"{HEADS}m,gqa,testdev_balanced,accuracy,0.6195,62.0,a\n"
        "m,mme,release,perception,1510.68,1510.7,a\nm,counting,test,points,7.5,7.5,a\n"
        "m,counting,test,accuracy,0.5,50,a\n"
    )
    assert build("published=all").code == 0


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


def stored() -> list[dict[str, str]]:
    """The records of all tables, with the table that each is in."""
    found = []
    for path in sorted(PUBLISHED.glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            found += [{"table": path.stem, **record} for record in csv.DictReader(file)]
    return found


def test_model_has_one_figure_of_a_column_in_a_table() -> None:
    names = ("table", "model", "task", "split", "metric", "definition")
    places = [tuple(record.get(name) for name in names) for record in stored()]
    assert len(set(places)) == len(places)


def test_stored_figures_are_those_of_the_source_table() -> None:
    if not SHARED_NEXT.exists():
        pytest.skip("the source table of the published figures is not beside this checkout")
    with SHARED_NEXT.open(newline="", encoding="utf-8") as file:
        expected = [
            (r["model"], r["benchmark"].lower(), r["split"], r["value"])
            for r in csv.DictReader(file)
        ]
    own = [(r["model"], r["task"], r["split"], r["printed"]) for r in stored() if "definition" in r]
    assert sorted(own) == sorted(expected)


def test_figure_by_another_rule_stands_in_a_column_of_its_own(tmp_path: Path, build: Build) -> None:
    write_task(tmp_path / "results/llava-v1.6-mistral-7b", "ai2d", [1.0] * 6 + [0.0] * 4)
    (tmp_path / "results/published").mkdir()
    (tmp_path / "results/published/own.csv").write_text(
        "model,task,split,metric,value,printed,source,definition\n"
        "llava-v1.6-mistral-7b,ai2d,test,accuracy,0.608,60.8,a blog,lmms-eval 0.1\n"
    )
    built = build("published=all", "best=none")
    record = built.record("llava-v1.6-mistral-7b")
    assert record["ai2d/test/accuracy published"] == ""
    assert record["ai2d/test/accuracy (lmms-eval 0.1)"] == ""
    heads, *rows = built.tables()[0]
    assert heads[2:] == ["AI2D", "AI2D (lmms-eval 0.1)"]
    assert sorted(row[2:] for row in rows) == [["", "60.8"], ["60.0", ""]]
    # The usual rule is not named.
    (tmp_path / "results/published/own.csv").write_text(
        "model,task,split,metric,value,printed,source\n"
        "llava-v1.6-mistral-7b,ai2d,test,accuracy,0.674,67.4,an issue\n"
    )
    record = build("published=all").record("llava-v1.6-mistral-7b")
    assert record["ai2d/test/accuracy published"] == "0.674"


def test_model_that_was_run_stands_beside_the_first_table_that_has_it(
    tmp_path: Path, build: Build
) -> None:
    folder = tmp_path / "results/published"
    write_task(tmp_path / "results/mine", "gqa", [1.0, 0.0], identity={"model": "their-model"})
    folder.mkdir()
    for name, value in (("a_blog", 0.61), ("b_blog", 0.7)):
        (folder / f"{name}.csv").write_text(
            "model,task,split,metric,value,printed,source\n"
            f"their-model,gqa,testdev_balanced,accuracy,{value},{100 * value:.1f},a blog\n"
            f"another-model,gqa,testdev_balanced,accuracy,{value},{100 * value:.1f},a blog\n"
        )
    [published] = [record for record in build().records() if record["kind"] == "published"]
    assert (published["name"], published["setup"]) == ("their-model", "published, a blog")


def test_judged_run_stands_beside_judged_figures_where_no_judge_is_needed(
    tmp_path: Path, build: Build
) -> None:
    (tmp_path / "results/published").mkdir(parents=True)
    (tmp_path / "results/published/own.csv").write_text(
        "model,task,split,metric,value,printed,source,definition\n"
        "m,mathvista,testmini,accuracy,0.261,26.1,their page,mathvista_gpt-4/1\n"
    )
    for name, fields in (
        ("read", {}),
        ("judged", {"definition": "mathvista_gpt-4/1", "judge": {"model": "gpt-4"}}),
    ):
        write_task(
            tmp_path / "results" / name,
            "mathvista",
            [1.0, 0.0],
            environment={"options": {"model": {"published": "m"}}},
            **fields,
        )
    built = build("published=all")
    heads, *_ = built.tables()[0]
    assert heads[2:] == ["MathVista", "MathVista (mathvista_gpt-4/1)"]
    key = "mathvista/testmini/accuracy"
    assert built.record("read")[f"{key} published"] == ""
    assert built.record("judged")[key] == ""
    assert built.record("judged")[f"{key} (mathvista_gpt-4/1) published"] == "0.261"
    assert "stale" not in built.record("judged")[f"{key} (mathvista_gpt-4/1) notes"]

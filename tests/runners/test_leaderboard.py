"""The leaderboard from stored runs: what stands in it, what is marked, what is refused."""

from __future__ import annotations

import copy
import csv
import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runners.cli import run
from runners.config import EvalConfig, ModelConfig
from runners.leaderboard import leaderboard
from runners.leaderboard_config import LeaderboardConfig
from runners.leaderboards.page import render_page
from runners.leaderboards.table import build_leaderboard
from runners.leaderboards.text import render_csv, render_latex, render_markdown
from runners.rerun import repeatable_options
from runners.score import score
from tests.runners.conftest import Finished
from tests.runners.synthetic_runs import METRICS, scores_of_mean, write_task

CHECKOUT = Path(__file__).parents[2]
SHARED = CHECKOUT / "../shared/data/published_scores.csv"
PUBLISHED = CHECKOUT / "results/published"
GPT3 = CHECKOUT / "../shared/scoring/scienceqa/real_gpt3"
PROBLEMS = CHECKOUT / "../shared/data/scienceqa"
FORMATS = ("csv", "md", "tex", "html", "png")
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "$x^2_3$ \\input{a} 100% & #1",
    "=cmd|a!b `x` *b*",
    "[0pt] --dash {",
    "emoji 🦙 \u202e\x1b[31m عربي",
)
TITLES = {
    "VQAv2": "VQAv2",
    "GQA": "GQA",
    "VizWiz": "VizWiz",
    "ScienceQA": "SQA-I",
    "TextVQA": "TextVQA",
    "POPE": "POPE",
    "MME": "MME",
    "MMBench": "MMB",
    "MMBench-CN": "MMB-CN",
    "SEED-Bench": "SEED",
    "LLaVA-Bench-Wild": "LLaVA-W",
    "MM-Vet": "MM-Vet",
}
"""The columns of the source table under their titles here, in the paper's order."""

OPTIONS = repeatable_options(EvalConfig(model=ModelConfig(path="owner/model", name="model")))

Build = Callable[..., "Built"]


class Built:
    """What the program wrote and said."""

    def __init__(self, code: int, folder: Path, stdout: str, stderr: str) -> None:
        self.code, self.folder, self.stdout, self.stderr = code, folder, stdout, stderr

    def text(self, suffix: str) -> str:
        return (self.folder / f"leaderboard.{suffix}").read_text(encoding="utf-8")

    def records(self) -> list[dict[str, str]]:
        with (self.folder / "leaderboard.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def record(self, name: str, kind: str = "run") -> dict[str, str]:
        [found] = [r for r in self.records() if (r["name"], r["kind"]) == (name, kind)]
        return found

    def tables(self) -> list[list[list[str]]]:
        """The tables of the Markdown, heads first, cells as they stand."""
        blocks = re.findall(r"(?:^\|.*\n)+", self.stdout, re.MULTILINE)
        return [
            [
                [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
                for number, line in enumerate(block.splitlines())
                if number != 1
            ]
            for block in blocks
        ]


@pytest.fixture
def build(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Build:
    """Runs the program on `results`, without the picture, unless options say otherwise."""

    def built(*options: str, results: Path | None = None) -> Built:
        output = tmp_path / "output"
        words = [f"results_dir={results or tmp_path / 'results'}", f"output={output}"]
        if not any(option.startswith("formats=") for option in options):
            words.append("formats=[csv,md,tex,html]")
        code = run("leaderboard", leaderboard, [*words, *options])
        captured = capsys.readouterr()
        return Built(code, output, captured.out, captured.err)

    return built


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A run of LLaVA-1.5-7B on GQA with 63 of 100 right, and one on demo data."""
    folder = tmp_path / "results"
    write_task(folder / "llava-v1.5-7b", "gqa", scores_of_mean(0.63, 100))
    write_task(folder / "demo", "gqa", scores_of_mean(0.5, 50), options={"split": "demo"})
    return folder


def test_a_run_stands_beside_the_published_figure_with_interval_and_difference(
    results: Path, build: Build
) -> None:
    built = build()
    record = built.record("llava-v1.5-7b")
    assert built.code == 0
    key = "gqa/testdev_balanced/accuracy"
    assert float(record[key]) == pytest.approx(0.63)
    assert float(record[f"{key} published"]) == 0.62
    assert float(record[f"{key} difference"]) == pytest.approx(0.01)
    assert float(record[f"{key} low"]) == pytest.approx(0.5349, abs=1e-4)
    assert float(record[f"{key} high"]) == pytest.approx(0.7251, abs=1e-4)
    assert record[f"{key} coverage"] == "1.0"
    details = built.tables()[1]
    assert details[1] == [
        *("llava-v1.5-7b", "GQA", "63.0", "53.5 to 72.5", "62.0", "+1.0", "100%", "")
    ]
    names = [row[0] for row in built.tables()[0]]
    assert names[1:] == ["llava-v1.5-7b", "llava-v1.5-7b", "llava-v1.5-13b"]


def test_demo_data_have_a_table_of_their_own(results: Path, build: Build) -> None:
    built = build()
    assert built.tables()[0][0][2:] == list(TITLES.values())
    assert all(row[0] != "demo" for row in built.tables()[0])
    assert built.tables()[2] == [
        ["Run", "Setup", "gqa accuracy"],
        ["demo", "float16", "**50.0**"],
    ]
    assert "demo data" in built.stdout


def test_printed_table_is_the_markdown_file(results: Path, build: Build) -> None:
    built = build()
    assert built.stdout == built.text("md") + "\n"


def test_rebuilt_from_nothing_every_file_has_the_same_bytes(results: Path, build: Build) -> None:
    versions = []
    for _ in range(2):
        built = build("formats=[csv,md,tex,html,png]")
        paths = [built.folder / f"leaderboard.{suffix}" for suffix in FORMATS]
        versions.append([path.read_bytes() for path in paths])
        for path in paths:
            path.unlink()
    first, second = versions
    assert first == second
    picture = first[FORMATS.index("png")]
    assert picture.startswith(b"\x89PNG")
    assert b"Software" not in picture
    assert b"matplotlib" not in picture


@pytest.mark.parametrize(
    ("fields", "note", "is_comparable"),
    [
        ({"limited": True}, "only the first 100 questions (limit)", False),
        (
            {"limited": True, "environment": {"runner": {"shard": "1/4"}}},
            "only shard 1/4 of the questions (runner.shard)",
            False,
        ),
        (
            {"coverage": 0.97, "num_answered": 97, "num_failed": {"image_missing": 3}},
            "incomplete: 97 of 100 questions were answered, the others count as wrong "
            "(image_missing 3)",
            False,
        ),
        ({"expected_num_questions": 12_578}, "100 questions, but 12,578 are published", False),
        ({"definition": "gqa_official/0"}, "stale: scored by gqa_official/0", False),
        ({"hashes": {"scorer": "another"}}, "stale: scored by gqa_official/1", False),
        ({"options": {"prompt_suffix": " ?"}}, "other than the default: prompt_suffix=", False),
        ({"options": {"max_new_tokens": 5}}, "other than the default: max_new_tokens=5", False),
        ({"imported": {"sha256": "x"}}, "answers were imported from a file", True),
    ],
)
def test_marked_figure_is_compared_only_if_it_means_the_same(
    fields: dict[str, object], note: str, is_comparable: bool, tmp_path: Path, build: Build
) -> None:
    write_task(tmp_path / "results/llava-v1.5-7b", "gqa", scores_of_mean(0.63, 100), **fields)
    built = build()
    record = built.record("llava-v1.5-7b")
    key = "gqa/testdev_balanced/accuracy"
    assert note in record[f"{key} notes"]
    assert bool(record[f"{key} difference"]) == is_comparable
    assert float(record[key]) == pytest.approx(0.63)
    cells = [row[3] for row in built.tables()[0] if row[0] == "llava-v1.5-7b"]
    assert "63.0 (a)" in cells
    assert "- (a) " in built.stdout
    for suffix in ("html", "tex"):
        assert note.partition("=")[0].replace("_", r"\_" if suffix == "tex" else "_") in built.text(
            suffix
        )


@pytest.mark.parametrize(("judge", "is_comparable"), [("gpt-4-0613", True), ("gpt-4o", False)])
def test_figure_by_another_judge_is_marked(
    judge: str, is_comparable: bool, tmp_path: Path, build: Build
) -> None:
    write_task(
        tmp_path / "results/llava-v1.5-7b",
        "mmvet",
        scores_of_mean(0.3, 100),
        options={"judge": judge},
        judge={"model": judge, "base_url": "https://api.openai.com/v1"},
    )
    record = build().record("llava-v1.5-7b")
    assert ("judged by gpt-4o, where" in record["mmvet/v1/score notes"]) != is_comparable
    assert bool(record["mmvet/v1/score difference"]) == is_comparable


def test_answers_that_were_not_scored_are_told(results: Path, build: Build) -> None:
    with (results / "llava-v1.5-7b/gqa/predictions.jsonl").open("a") as file:
        file.write('{"another": "line"}\n')
    notes = build().record("llava-v1.5-7b")["gqa/testdev_balanced/accuracy notes"]
    assert notes == "the stored answers are others than those that were scored"


@pytest.mark.parametrize(
    ("name", "fields", "note"),
    [
        ("vqav2", {"metrics": {}, "interval": None}, "no public annotations: runners.submit"),
        ("mmvet", {"metrics": {}, "interval": None}, "waits for its judge"),
        ("scienceqa", {"metrics": {"accuracy": 0.7, "accuracy_image": None}}, "cannot be computed"),
    ],
)
def test_figure_that_is_not_there_is_said_and_not_dropped(
    name: str, fields: dict[str, object], note: str, tmp_path: Path, build: Build
) -> None:
    write_task(tmp_path / "results/mine", name, scores_of_mean(0.5, 10), **fields)
    built = build()
    [row] = [row for row in built.tables()[0] if row[0] == "mine"]
    assert "- (a)" in row
    assert note in built.stdout


def test_run_without_summary_is_listed_as_not_finished(results: Path, build: Build) -> None:
    (results / "half/gqa").mkdir(parents=True)
    (results / "half/gqa/predictions.jsonl").write_text("{}\n{}\n{}")
    (results / "torn/gqa").mkdir(parents=True)
    (results / "torn/gqa/summary.json").write_text('{"task": ')
    (results / "foreign/gqa").mkdir(parents=True)
    (results / "foreign/gqa/summary.json").write_text('{"task": "gqa"}')
    built = build()
    assert built.code == 0
    unfinished = built.stdout.partition("## Not finished")[2]
    assert "- half, gqa: not finished, 2 answers are stored\n" in unfinished
    assert "- torn, gqa: its summary.json cannot be read" in unfinished
    assert "- foreign, gqa: its summary.json is no summary: `split`".replace("`", "\\`") in (
        unfinished
    )
    assert "half" in built.text("html")
    assert "half" in built.text("tex")


@pytest.mark.parametrize(
    "change",
    [
        {"coverage": float("nan")},
        {"metrics": {"accuracy": "0.5"}},
        {"metrics": {"accuracy": True}},
        {"interval": [0.1]},
        {"num_questions": "12"},
        {"task": None},
    ],
)
def test_malformed_summary_is_no_row(
    change: dict[str, object], results: Path, build: Build
) -> None:
    path = results / "llava-v1.5-7b/gqa/summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    built = build()
    assert "llava-v1.5-7b, gqa: its summary.json is no summary" in built.stdout
    assert [r["name"] for r in built.records() if r["kind"] == "run"] == ["demo"]


def test_folders_that_are_no_runs_are_passed_over(results: Path, build: Build) -> None:
    expected = build().text("csv")
    write_task(results / "old" / "x", "gqa", [1.0, 0.0])
    (results / "old/x/gqa").rename(results / "old/gqa.old-1")
    (results / "old/x").rmdir()
    write_task(results / "demo.old-1", "gqa", [1.0, 0.0])
    write_task(results / ".hidden", "gqa", [1.0, 0.0])
    (results / "published").mkdir()
    (results / "bench").mkdir()
    (results / "bench/cpu.json").write_text("{}")
    (results / "empty/folder").mkdir(parents=True)
    built = build()
    assert built.text("csv") == expected
    assert "Not finished" not in built.stdout


def test_run_without_manifest_is_marked(results: Path, build: Build) -> None:
    (results / "llava-v1.5-7b/gqa/manifest.json").write_text("[]")
    record = build().record("llava-v1.5-7b")
    assert "without a manifest" in record["gqa/testdev_balanced/accuracy notes"]
    assert record["setup"] == "unknown"


def test_manifest_cannot_build_foreign_objects(results: Path, build: Build) -> None:
    path = results / "llava-v1.5-7b/gqa/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["environment"]["task"] = {"_target_": "os.system", "command": "touch owned"}
    path.write_text(json.dumps(manifest))
    assert "stale" in build().record("llava-v1.5-7b")["gqa/testdev_balanced/accuracy notes"]


@pytest.mark.parametrize(
    ("identity", "setup"),
    [
        ({"quantization": {"name": "nf4"}}, "float16, nf4"),
        ({"dtype": "bfloat16"}, "bfloat16"),
        ({"generation": {"temperature": 0.2, "num_beams": 3}}, "float16, temperature 0.2, 3 beams"),
        ({"imported": "sha"}, "imported"),
    ],
)
def test_setup_says_what_the_answers_were_computed_with(
    identity: dict[str, object], setup: str, tmp_path: Path, build: Build
) -> None:
    write_task(tmp_path / "results/mine", "gqa", [1.0, 0.0], identity=identity)
    assert build().record("mine")["setup"] == setup


def test_tasks_of_a_run_with_different_setups_are_marked(tmp_path: Path, build: Build) -> None:
    write_task(tmp_path / "results/mine", "gqa", [1.0, 0.0])
    write_task(tmp_path / "results/mine", "textvqa", [1.0, 0.0], identity={"dtype": "float32"})
    record = build().record("mine")
    assert record["setup"] == "mixed"
    assert record["textvqa/val/vqa_accuracy notes"] == "computed with float32"
    assert record["gqa/testdev_balanced/accuracy notes"] == "computed with float16"


def test_model_of_a_run_is_the_one_that_its_options_name(tmp_path: Path, build: Build) -> None:
    named = {"options": {"model": {"published": "llava-v1.5-7b"}}}
    write_task(tmp_path / "results/a", "gqa", [1.0, 0.0], environment=named)
    unnamed = {"options": {"model": {"published": None}}}
    own = tmp_path / "results/b"
    write_task(own, "gqa", [1.0, 0.0], environment=unnamed, identity={"model": "llava-v1.5-7b"})
    built = build()
    key = "gqa/testdev_balanced/accuracy difference"
    assert float(built.record("a")[key]) == pytest.approx(0.5 - 0.62)
    assert built.record("b")[key] == ""


def test_interval_of_image_questions_comes_from_their_scores(tmp_path: Path, build: Build) -> None:
    scores = scores_of_mean(0.6, 200)
    image = scores[1::2]
    metrics = {"accuracy": sum(scores) / 200, "accuracy_image": sum(image) / 100}
    folder = tmp_path / "results/mine"
    write_task(folder, "scienceqa", scores, metrics=metrics)
    key = "scienceqa/test/accuracy_image"
    half_width = (
        1.959964 * (metrics["accuracy_image"] * (1 - metrics["accuracy_image"]) / 99) ** 0.5
    )
    record = build().record("mine")
    assert float(record[f"{key} high"]) - float(record[key]) == pytest.approx(half_width)
    (folder / "scienceqa/scores.jsonl").write_text("")
    assert build().record("mine")[f"{key} high"] == ""


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
    assert not re.search(r"^[\[*]", tex, re.MULTILINE)
    assert len({len(row) for row in built.tables()[0]}) == 1
    assert not any(r["name"].startswith(("=", "+", "-", "@")) for r in built.records())


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["results_dir=nowhere"], "`results_dir` must be a folder with runs, but nowhere is none"),
        (["models=[other*]"], "'other*' matches nothing. There are: demo, llava-v1.5-7b"),
        (["tasks=[vqav3]"], "`tasks` must name a benchmark with figures, but is 'vqav3'"),
        (["sort=vqav3"], "`sort` must name a benchmark with figures, but is 'vqav3'"),
        (["best=red"], "`best` must be one of bold, none"),
        (["formats=[csv,pdf]"], "`formats` must be some of csv, md"),
        (["published=[llava-v9]"], "'llava-v9' matches nothing"),
        (["published=[all,llava-v1.5-7b]"], "`published` must be one of auto, all, none, or names"),
        (["published_dir=nowhere"], "`published_dir` must be a folder"),
        (["sorted=gqa"], "sorted"),
    ],
)
def test_wrong_options_exit_with_2_and_write_nothing(
    options: list[str], message: str, results: Path, build: Build
) -> None:
    built = build(*options)
    assert built.code == 2
    assert message in built.stderr
    assert not built.folder.exists()


def test_files_go_to_the_results_folder_unless_told_otherwise(results: Path) -> None:
    assert run("leaderboard", leaderboard, [f"results_dir={results}", "formats=[csv,html]"]) == 0
    assert sorted(path.name for path in results.glob("leaderboard.*")) == [
        "leaderboard.csv",
        "leaderboard.html",
    ]


def test_page_needs_nothing_beside_itself(results: Path, build: Build) -> None:
    html = build().text("html")
    assert re.findall(r"(?:src|href)=\"(?!#)", html) == []
    assert "url(" not in html
    assert "@import" not in html
    assert "<script" not in html


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
    from runners.leaderboards.columns import PAPER_TITLES

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


@pytest.mark.parametrize(
    ("name", "value", "interval", "shown"),
    [
        ("pope", 0.859, [0.85, 0.868], "85.0 to 86.8"),
        ("mme", 1531.3, [1507.2, 1555.4], "1507.2 to 1555.4"),
    ],
)
def test_figures_that_are_no_means_have_their_interval(
    name: str, value: float, interval: list[float], shown: str, tmp_path: Path, build: Build
) -> None:
    metrics = {METRICS[name]: value}
    write_task(tmp_path / "results/mine", name, [1.0], metrics=metrics, interval=interval)
    [row] = [row for row in build("published=none").tables()[1] if row[0] == "mine"]
    assert row[3] == shown


def test_without_matplotlib_the_other_files_are_written_and_the_program_says_so(
    results: Path, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "runners.leaderboards.chart", raising=False)
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


def test_imported_answers_are_a_row(tmp_path: Path, build: Build) -> None:
    if not (GPT3.is_dir() and PROBLEMS.is_dir()):
        pytest.skip("the released answers of GPT-3 are not beside this checkout")
    data = tmp_path / "data"
    data.mkdir()
    shutil.copyfile(PROBLEMS / "problems_test_reconstructed.json.gz", data / "problems.json.gz")
    shutil.copyfile(PROBLEMS / "pid_splits.json.gz", data / "pid_splits.json.gz")
    words = [
        "task=scienceqa",
        f"tasks.scienceqa.data_dir={data}",
        f"predictions={GPT3 / 'answers.jsonl.gz'}",
        "run=gpt-3",
        f"results_dir={tmp_path / 'results'}",
    ]
    assert run("score", score, words) == 0
    expected = json.loads((GPT3 / "expected.json").read_text())["eval_science_qa"]["acc"]
    built = build()
    record = built.record("gpt-3")
    assert record["setup"] == "imported"
    assert 100 * float(record["scienceqa/test/accuracy"]) == pytest.approx(expected)
    assert "answers were imported from a file" in record["scienceqa/test/accuracy notes"]
    assert ["gpt-3", "imported", f"**{expected:.1f}** (a)"] in built.tables()[2]


def test_finished_run_of_the_program_is_a_row(demo_run: Finished, build: Build) -> None:
    built = build(results=demo_run.workspace / "results")
    assert built.code == 0
    record = built.record("demo")
    summary = demo_run.json("results/demo/gqa/summary.json")
    assert float(record["gqa/demo/accuracy"]) == summary["metrics"]["accuracy"]
    assert record["gqa/demo/accuracy notes"] == ""
    assert record["setup"] == "float32"


def commands() -> list[str]:
    """The commands of the page, without their comments."""
    page = (CHECKOUT / "docs/leaderboard.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if "runners.leaderboard" in line]


@pytest.mark.slow
@pytest.mark.parametrize("command", commands())
def test_commands_of_the_page_work_as_they_stand(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, task in (("llava-v1.5-7b", "gqa"), ("llava-v1.5-7b", "scienceqa"), ("mine", "gqa")):
        write_task(tmp_path / "results" / name, task, [1.0, 0.0])
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "runners.leaderboard"]
    assert run("leaderboard", leaderboard, words[3:]) == 0
    assert list(tmp_path.rglob("leaderboard.csv"))


RENDERERS = (render_csv, render_markdown, render_latex, render_page)
JUNK = (None, [], {}, "x", -1, 1e300, float("inf"), True, [[]], {"model": [], "name": {}})


@pytest.mark.parametrize("file", ["summary.json", "manifest.json"])
def test_odd_files_are_a_row_or_a_remark_and_never_a_crash(file: str, tmp_path: Path) -> None:
    folder = write_task(
        tmp_path / "results/odd-run",
        "mmvet",
        [1.0, 0.0],
        judge={"model": "gpt-4-0613"},
        environment={"options": OPTIONS, "runner": {"shard": None}},
    )
    path = folder / file
    whole = json.loads(path.read_text())
    places = [(name,) for name in whole]
    places += [
        (name, inner) for name in whole if isinstance(whole[name], dict) for inner in whole[name]
    ]
    settings = LeaderboardConfig(results_dir=str(tmp_path / "results"))
    for place in places:
        for junk in JUNK:
            content = copy.deepcopy(whole)
            within = content if len(place) == 1 else content[place[0]]
            within[place[-1]] = junk
            path.write_text(json.dumps(content))
            board = build_leaderboard(settings, None)
            csv_text, *texts = (render(board) for render in RENDERERS)
            assert all("odd-run" in text for text in texts), (place, junk)
            assert ("odd-run" in csv_text) == bool(board.sections)
            assert board.sections or board.unfinished


def test_filter_by_run_holds_for_unfinished_ones_too(results: Path, build: Build) -> None:
    for name in ("half", "other"):
        (results / name / "gqa").mkdir(parents=True)
        (results / name / "gqa/predictions.jsonl").write_text("{}\n")
    built = build("models=[half,demo]")
    assert built.code == 0
    assert "half, gqa: not finished" in built.stdout
    assert "other, gqa" not in built.stdout

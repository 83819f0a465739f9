"""The leaderboard from the command line: its files, its options and the commands of its page."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from runners.leaderboard import leaderboard
from runners.options.program import run
from runners.score import score
from tests.runners.conftest import CHECKOUT, Finished
from tests.runners.synthetic_runs import write_task
from tests.runners.views.leaderboard.conftest import Build

GPT3 = CHECKOUT / "../shared/scoring/scienceqa/real_gpt3"
PROBLEMS = CHECKOUT / "../shared/data/scienceqa"
FORMATS = ("csv", "md", "tex", "html", "png")


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


@pytest.mark.few_cases(4)
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


def test_board_without_runs_is_told(tmp_path: Path, results: Path, build: Build) -> None:
    (tmp_path / "empty").mkdir()
    assert f"no run of {tmp_path / 'empty'} is shown" in build(results=tmp_path / "empty").stderr
    assert f"no run of {results} is shown" in build("tasks=[pope]").stderr  # they have gqa alone
    assert "is shown" not in build().stderr


def test_files_go_to_the_results_folder_unless_told_otherwise(results: Path) -> None:
    assert run("leaderboard", leaderboard, [f"results_dir={results}", "formats=[csv,html]"]) == 0
    assert sorted(path.name for path in results.glob("leaderboard.*")) == [
        "leaderboard.csv",
        "leaderboard.html",
    ]


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


@pytest.mark.slow
def test_finished_run_of_the_program_is_a_row(demo_run: Finished, build: Build) -> None:
    built = build(results=demo_run.workspace / "results")
    assert built.code == 0
    record = built.record("demo")
    summary = demo_run.json("results/demo/gqa/summary.json")
    assert float(record["gqa/demo/accuracy"]) == summary["metrics"]["accuracy"]
    assert record["gqa/demo/accuracy notes"] == "options other than the default: max_new_tokens=6"
    template = demo_run.json("results/demo/gqa/manifest.json")["identity"]["conversation"]
    assert record["setup"] == f"float32, {template}, max_new_tokens 6"


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

"""What a stored run is: one rule for its name, its state and its comparison, for every program."""

from __future__ import annotations

import functools
import json
import os
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evals.errors import DataError
from evals.records import Sample
from runners.errors import ConfigError
from runners.evaluation.rerun import RepeatableOptions
from runners.leaderboard import leaderboard
from runners.options import program
from runners.options.build import read_stored
from runners.options.shard import Shard
from runners.regress import regress
from runners.report import report
from runners.score import score
from runners.storage import stored
from runners.storage.answer_lines import answer_id, is_answer_line
from runners.storage.asked import asked_samples
from runners.storage.files import sha256_of_json
from runners.storage.lock import FolderLock
from runners.storage.run_table import write_tables
from runners.storage.stored import State, StoredTask, find_run, list_runs
from runners.submit import submit
from runners.views.report.page import to_json
from tests.browser.synthetic_runs import Data, Reply, write_data, write_run
from tests.runners.conftest import read_lines
from tests.runners.task_runs import ENVIRONMENT

pytestmark = pytest.mark.usefixtures("in_own_folder")

RESULTS = Path("results")
EDITED = "QWERTZ"


@pytest.fixture
def data(tmp_path: Path) -> Data:
    records = [{"question_id": n, "text": f"What is {n}?", "answer": "yes"} for n in range(8)]
    return write_data(tmp_path / "data", records)


@pytest.fixture
def pair(data: Data) -> Data:
    for name in ("A", "B"):
        write_run(RESULTS / name, data, [Reply("yes")] * 8)
    return data


def folder_of(name: str) -> Path:
    return RESULTS / name / "custom"


def put_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def page_of(name: str) -> str:
    """What the report's page holds besides its own code."""
    content = Path(f"results/{name}/report.html").read_text()
    found = re.search(r'<script[^>]*id="payload"[^>]*>(.*?)</script>', content, re.DOTALL)
    return found[1] if found else content


def edit_text(folder: Path) -> None:
    first, *rest = read_lines(folder / "predictions.jsonl")
    put_lines(folder / "predictions.jsonl", [{**first, "text": EDITED}, *rest])


def edit_text_and_id(folder: Path) -> None:
    """As somebody would who knows how the id is made."""
    first, *rest = read_lines(folder / "predictions.jsonl")
    fitting = answer_id(first["metadata"]["key"], EDITED, first["model_id"])
    changed = {**first, "text": EDITED, "answer_id": fitting}
    put_lines(folder / "predictions.jsonl", [changed, *rest])


def edit_prompt(folder: Path) -> None:
    first, *rest = read_lines(folder / "predictions.jsonl")
    put_lines(folder / "predictions.jsonl", [{**first, "prompt": EDITED}, *rest])


def add_foreign_line(folder: Path) -> None:
    with (folder / "predictions.jsonl").open("a") as file:
        file.write('{"question_id": 1, "text": "' + EDITED + '"}\n')


EDITS = [edit_text, edit_text_and_id, edit_prompt, add_foreign_line]


@pytest.mark.few_cases(1)
@pytest.mark.parametrize("edit", EDITS)
def test_edited_answer_is_told_by_every_program(
    edit: Callable[[Path], None], pair: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(folder_of("A"))
    assert StoredTask(folder_of("A")).state is State.EDITED

    assert program.run("regress", regress, ["baseline=A", "candidate=B"]) == 2
    assert "predictions.jsonl has changed since it was scored" in capsys.readouterr().err

    assert program.run("leaderboard", leaderboard, ["published=none", "formats=[md]"]) == 0
    assert "the stored answers, scores or figures were edited" in capsys.readouterr().out

    assert program.run("report", report, ["runs=A"]) == 0
    assert "1 stored answers were edited" in capsys.readouterr().err
    assert EDITED not in page_of("A")

    code = program.run("score", score, ["run=A"])
    said = capsys.readouterr().err
    assert "results/A/custom/predictions.jsonl: lines that are not as they were written" in said
    assert "count as missing: 1." in said
    summary = StoredTask(folder_of("A")).summary
    assert summary is not None
    assert code == (0 if edit is add_foreign_line else 1)
    assert summary.num_answered == (8 if edit is add_foreign_line else 7)


@pytest.mark.few_cases(1)
@pytest.mark.parametrize(
    "change",
    [
        {"metrics": {"accuracy": 0.5}},
        {"interval": [0.1, 0.2]},
        {"num_answered": 7, "coverage": 0.875},
        {"primary_metric": "f1"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_edited_figure_is_told_by_every_program(
    change: dict[str, Any], pair: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.run("score", score, ["run=A"]) == 0
    path = folder_of("A") / "summary.json"
    written = path.read_bytes()
    assert StoredTask(folder_of("A")).state is State.FINISHED
    path.write_text(json.dumps(json.loads(written) | change))
    assert StoredTask(folder_of("A")).state is State.EDITED

    assert program.run("regress", regress, ["baseline=A", "candidate=B"]) == 2
    assert "summary.json has changed since it was scored" in capsys.readouterr().err

    assert program.run("leaderboard", leaderboard, ["published=none", "formats=[md]"]) == 0
    assert "the stored answers, scores or figures were edited" in capsys.readouterr().out

    assert program.run("report", report, ["runs=A"]) == 0
    assert "summary.json changed since it was scored" in capsys.readouterr().err

    assert program.run("score", score, ["run=A"]) == 0  # the remedy that is told
    assert path.read_bytes() == written


def test_run_without_its_answers_is_named(pair: Data, capsys: pytest.CaptureFixture[str]) -> None:
    (folder_of("A") / "predictions.jsonl").unlink()
    assert program.run("score", score, ["run=A"]) == 2
    assert "results/A/custom/predictions.jsonl does not exist" in capsys.readouterr().err


def test_run_without_its_scores_is_to_be_scored(
    pair: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder_of("A") / "scores.jsonl").unlink()
    assert program.run("regress", regress, ["baseline=A", "candidate=B"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "scores.jsonl does not exist. Score the run again" in said
    for name in ("A", "B"):  # B is written by hand, with hashes of its own
        assert program.run("score", score, [f"run={name}"]) == 0  # the remedy that is told
    assert program.run("regress", regress, ["baseline=A", "candidate=B"]) == 0


def test_run_that_lies_elsewhere_is_named_with_its_place(
    pair: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("base lines").mkdir()
    moved = folder_of("A").parent.rename("base lines/A")
    (moved / "custom/scores.jsonl").unlink()
    assert program.run("regress", regress, [f"baseline={moved}", "candidate=B"]) == 2
    [named] = re.findall(r"again: python -m runners.score (.*)\.\n", capsys.readouterr().err)
    assert program.run("score", score, shlex.split(named)) == 0
    assert len(StoredTask(moved / "custom").scores) == 8


def test_edited_score_is_told(pair: Data, capsys: pytest.CaptureFixture[str]) -> None:
    first, *rest = read_lines(folder_of("A") / "scores.jsonl")
    put_lines(folder_of("A") / "scores.jsonl", [{**first, "score": 0.5}, *rest])
    assert StoredTask(folder_of("A")).state is State.EDITED
    assert program.run("report", report, ["runs=A"]) == 0
    assert "scores.jsonl changed since it was scored" in capsys.readouterr().err


def test_answers_that_came_after_the_figures_are_stale(pair: Data) -> None:
    folder = folder_of("A")
    line, trace = (read_lines(folder / name)[0] for name in ("predictions.jsonl", "trace.jsonl"))
    line = {**line, "text": "no", "answer_id": answer_id("0", "no", line["model_id"])}
    with (folder / "trace.jsonl").open("a") as file:
        file.write(json.dumps({**trace, "attempts": 2, "line_sha256": sha256_of_json(line)}) + "\n")
    with (folder / "predictions.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    stored = StoredTask(folder)
    assert stored.state is State.STALE
    assert stored.answers.lines["0"]["text"] == "no"
    assert stored.answers.num_bad == 0


def test_run_without_figures_is_unfinished(data: Data) -> None:
    write_run(RESULTS / "A", data, [Reply("yes")] * 3 + [None] * 5, finished=False)
    stored = StoredTask(folder_of("A"))
    assert stored.state is State.UNFINISHED
    assert len(stored.answers.lines) == 3


def test_a_copied_task_folder_has_no_figures_of_the_run(
    pair: Data, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of("A")
    copied = folder.with_name("custom (2)")
    shutil.copytree(folder, copied)
    content = json.loads((copied / "summary.json").read_text())
    content["num_answered"] = 5
    (copied / "summary.json").write_text(json.dumps(content))
    told = f"{copied} holds the figures of custom, so it is a copy, or was renamed."
    write_tables(RESULTS / "A")
    assert told in caplog.text
    lines = (RESULTS / "A/summary.csv").read_text().splitlines()
    assert [line.partition(",")[0] for line in lines] == ["task", "custom"]
    rows = json.loads((RESULTS / "A/run.json").read_text())["tasks"]
    assert [(row["task"], row["state"]) for row in rows] == [
        ("custom", "finished"),
        ("custom (2)", "unreadable"),
    ]
    options = ["results_dir=results", "output=board", "formats=[csv,md]"]
    assert program.run("leaderboard", leaderboard, options) == 0
    board = capsys.readouterr().out
    assert told in board.partition("## Not finished")[2]
    assert program.run("score", score, ["run=A"]) == 2
    assert told in capsys.readouterr().err


def test_a_folder_that_was_set_aside_keeps_its_figures(pair: Data) -> None:
    folder = folder_of("A")
    aside = folder.with_name("custom.old-1")
    folder.rename(aside)
    assert StoredTask(aside).state is State.FINISHED


def test_untouched_run_is_finished(pair: Data) -> None:
    assert {run.name: run.tasks["custom"].state for run in list_runs(RESULTS)} == {
        "A": State.FINISHED,
        "B": State.FINISHED,
    }


@pytest.mark.few_cases(1)
@pytest.mark.parametrize("name", ["manifest.json", "predictions.jsonl", "trace.jsonl"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_pipe_in_a_strangers_run_holds_nobody_up(
    make: Callable[[Path], None], name: str, pair: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder_of("A") / name).unlink()
    make(folder_of("A") / name)
    for use in ("report", "score"):
        assert PROGRAMS[use]("A") == 2
        assert f"A/custom/{name} is " in capsys.readouterr().err
    assert program.run("leaderboard", leaderboard, ["published=none", "formats=[md]"]) == 0
    assert "| B " in capsys.readouterr().out


PROGRAMS: dict[str, Callable[[str], int]] = {
    "regress": lambda name: program.run("regress", regress, [f"baseline={name}", "candidate=B"]),
    "report": lambda name: program.run("report", report, [f"runs=[{name}]", "output=page.html"]),
    "score": lambda name: program.run("score", score, [f"run={name}"]),
    "submit": lambda name: program.run(
        "submit", submit, ["task=vqav2", f"run={name}", "output=up.json"]
    ),
}


@pytest.mark.few_cases(1)
@pytest.mark.parametrize("name", ["A", "results/A", "./results/A", "elsewhere", "sub/elsewhere"])
def test_every_program_finds_a_run_by_name_and_by_folder(
    name: str, pair: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in (Path("elsewhere"), Path("sub/elsewhere")):
        write_run(place, pair, [Reply("yes")] * 8)
    assert find_run(name, RESULTS, "run").name in ("A", "elsewhere")
    for program_name, start in PROGRAMS.items():
        code = start(name)
        said = capsys.readouterr().err
        if program_name == "submit":  # no server takes answers to one's own questions
            assert "predictions.jsonl does not exist" in said
        else:
            assert code == 0, said


@pytest.mark.few_cases(1)
@pytest.mark.parametrize("name", ["nowhere", "..", ".", "results/nowhere", "llava-v1.5-7b", "data"])
def test_every_program_refuses_what_is_no_run(
    name: str, pair: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    messages = set()
    for start in PROGRAMS.values():
        assert start(name) == 2
        said = capsys.readouterr().err
        messages.add(re.sub(r"`(run|runs|baseline)`", "`option`", said))
    assert len(messages) == 1, messages


def change_hash(field: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        summary = json.loads((folder / "summary.json").read_text())
        summary["hashes"][field] = "another"
        (folder / "summary.json").write_text(json.dumps(summary))

    return change


def judged(**record: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        summary = json.loads((folder / "summary.json").read_text())
        summary["judge"] = {"model": "gpt-4", "prompt_sha256": "p", **record}
        summary["hashes"]["scorer"] = json.dumps(record)
        (folder / "summary.json").write_text(json.dumps(summary))

    return change


def shown(pixels: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        traces = read_lines(folder / "trace.jsonl")
        put_lines(folder / "trace.jsonl", [{**t, "image_sha256": [pixels]} for t in traces])

    return change


def leave(folder: Path) -> None:
    """Changes nothing."""


@pytest.mark.few_cases(1)
@pytest.mark.parametrize(
    ("before", "after", "differing"),
    [
        (leave, leave, ""),
        (leave, change_hash("prompts"), "questions"),
        (leave, change_hash("data"), "data files"),
        (leave, change_hash("scorer"), "definition of the metric"),
        (shown("a"), shown("a"), ""),
        (shown("a"), shown("b"), "images of the questions"),
        (judged(replies_sha256=["a"]), judged(replies_sha256=["b"]), ""),
        (judged(replies_sha256=["a"]), judged(replies_sha256=["a"], model="o"), "definition"),
    ],
)
def test_gate_and_report_agree_on_what_may_be_compared(
    before: Callable[[Path], None],
    after: Callable[[Path], None],
    differing: str,
    pair: Data,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before(folder_of("A"))
    after(folder_of("B"))
    code = program.run("regress", regress, ["baseline=A", "candidate=B"])
    capsys.readouterr()
    assert program.run("report", report, ["runs=[A,B]"]) == 0
    said = capsys.readouterr().err
    assert code == (2 if differing else 0)
    assert ("The two runs differ in the" in said) == bool(differing)
    assert differing in said


@pytest.mark.few_cases(1)
@pytest.mark.parametrize(
    ("unit", "value", "shown"), [("points", 1.05, "1.05"), ("share", 1.05, "105.00")]
)
def test_a_figure_is_in_one_unit_everywhere(
    unit: str, value: float, shown: str, pair: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder_of("A") / "summary.json"
    summary = json.loads(path.read_text())
    summary["metrics"] = {"accuracy": value}
    summary["interval"] = [value, value]
    summary["hashes"].pop("figures", None)  # as an earlier version wrote it
    summary["scales"] = {"accuracy": {"unit": unit, "largest": 10.0}}
    path.write_text(json.dumps(summary))

    assert program.run("leaderboard", leaderboard, ["published=none", "formats=[md]"]) == 0
    assert f" {float(shown):.1f}" in capsys.readouterr().out

    assert program.run("regress", regress, ["baseline=A", "candidate=B"]) in (0, 3)
    assert f"which is {shown} in the baseline" in capsys.readouterr().out

    assert program.run("report", report, ["runs=A"]) == 0
    assert to_json({"accuracy": {"unit": unit, "largest": 10.0}}) in page_of("A")

    from runners.storage.run_table import render_summaries

    task = StoredTask(folder_of("A"))
    assert task.summary is not None
    assert shown in render_summaries([task.summary]).split()


def test_run_that_is_being_written_is_not_scored(
    pair: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its figures would be written beside other answers than those that were scored."""
    with FolderLock(folder_of("A")):
        assert program.run("score", score, ["run=A"]) == 2
        assert "another process" in capsys.readouterr().err
        assert program.run("score", score, ["run=A", "output=elsewhere"]) == 0
    assert program.run("score", score, ["run=A"]) == 0


DEEP: Any = functools.reduce(lambda inner, _: [inner], range(900), "x")


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.few_cases(1)
@pytest.mark.parametrize("template", [{"a": 1}, ["a"], 5, "\ud800"])
def test_template_of_any_type_and_text_is_told(
    template: object, pair: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    change_manifest(folder_of("A"), lambda m: m["identity"].update(conversation=template))
    assert PROGRAMS["report"]("A") == 0
    assert PROGRAMS["regress"]("A") in {0, 3}  # not 1: that would be a drop
    assert "regress" in str(list(Path("results/B").iterdir()))


def test_nested_breakdown_is_refused(pair: Data, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [{**line, "kind": DEEP} for line in read_lines(folder_of("A") / "scores.jsonl")]
    put_lines(folder_of("A") / "scores.jsonl", lines)
    assert PROGRAMS["report"]("A") == 0
    assert "must have a plain `kind`" in capsys.readouterr().err


def test_failure_with_a_cause_that_is_no_text_is_no_line_of_a_run() -> None:
    error = {"cause": {"a": 1}, "message": ""}
    line = {"question_id": 1, "prompt": "", "text": "", "model_id": "m"}
    line |= {"answer_id": answer_id("1", "", "m"), "metadata": {"key": "1", "error": error}}
    assert not is_answer_line(line)
    assert is_answer_line({**line, "metadata": {"key": "1", "error": dict.fromkeys(error, "x")}})


def test_options_that_are_nested_deep_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"manifest\.json does not hold the options"):
        read_stored(RepeatableOptions, {"model": DEEP, "limit": DEEP}, "manifest.json")


def test_part_of_more_parts_than_anything_has_is_found_at_once() -> None:
    samples = [Sample(key=str(n), question_id=n, text="", prompt="") for n in range(3)]
    shards = [asked_samples(samples, None, Shard(index=n, count=10**12)) for n in (1, 3, 10**12)]
    assert shards == [[samples[0]], [samples[2]], []]
    few = [asked_samples(samples, None, Shard(index=n, count=2)) for n in (1, 2)]
    assert few == [[samples[0], samples[2]], [samples[1]]]


@pytest.mark.parametrize(
    "near_ties", [{"num_questions": "x"}, {"num_questions": 500}, {"largest_change": []}]
)
def test_what_decides_near_ties_is_measured_again_where_it_cannot_be_read(
    near_ties: dict[str, object],
) -> None:
    stored = {**ENVIRONMENT.to_json(), "versions": {}, "near_ties": near_ties}
    here = replace(ENVIRONMENT, machine={"versions": {}})
    assert here.measured_before(stored) is None


@pytest.mark.parametrize("field", ["num_questions", "num_answered", "limit"])
def test_summary_that_counts_less_than_nothing_is_none(field: str, pair: Data) -> None:
    path = folder_of("A") / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: -5}))
    with pytest.raises(DataError, match="must count questions"):
        _ = StoredTask(folder_of("A")).summary


def test_an_answer_that_comes_while_files_are_read_passes_for_no_edited_one(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(RESULTS / "A", data, [*[Reply("yes")] * 7, None], finished=False)
    write_run(RESULTS / "later", data, [Reply("yes")] * 8, finished=False)
    read = stored.read_intact_lines

    def interrupted(path: Path) -> list[dict[str, Any]]:
        found = read(path)
        for name in ("trace.jsonl", "predictions.jsonl"):  # in the order of the writer
            line = read(folder_of("later") / name)[-1]
            if line not in read(folder_of("A") / name):
                with (folder_of("A") / name).open("a") as file:
                    file.write(json.dumps(line) + "\n")
        return found

    monkeypatch.setattr(stored, "read_intact_lines", interrupted)
    answers = StoredTask(folder_of("A")).answers
    assert (len(answers.lines), answers.num_bad) == (7, 0)


@pytest.mark.parametrize("file", ["config.json", "adapter_config.json"])
def test_checkpoint_in_place_of_a_run_is_told_how_to_become_one(file: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text("{}")
    told = f"{tmp_path} is a checkpoint.*eval model.path={tmp_path} task=NAME run=RUN.*baseline=RUN"
    with pytest.raises(ConfigError, match=told):
        find_run(str(tmp_path), RESULTS, "baseline")


@pytest.mark.parametrize("place", ["results", "night 2"])
def test_remedy_for_a_model_without_a_run_makes_it_where_it_is_looked_for(place: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        find_run("llava-demo", Path(place), "baseline")
    command = str(refusal.value).partition("first: ")[2]
    words = shlex.split(command.removesuffix("."))
    elsewhere = [] if place == "results" else [f"results_dir='{place}'"]
    assert words[2:] == ["runners.eval", "model=llava-demo", "task=NAME", *elsewhere]

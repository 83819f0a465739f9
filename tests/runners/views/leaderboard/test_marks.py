"""What is said of a figure that does not mean the same as the published one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runners.views.definitions import needs_judge
from tests.runners.synthetic_runs import scores_of_mean, write_task
from tests.runners.views.leaderboard.conftest import Build


def write_gqa(tmp_path: Path, **fields: Any) -> Path:
    run = tmp_path / "results/llava-v1.5-7b"
    # whose figures are published: a test may give other options
    options = {"model": {"published": "llava-v1.5-7b"}}
    if "options" in fields.get("environment", {}):
        options["model"] |= fields["environment"]["options"]["model"]
    environment = {**fields.pop("environment", {}), "options": options}
    return write_task(run, "gqa", scores_of_mean(0.63, 100), environment=environment, **fields)


@pytest.mark.few_cases(1)
@pytest.mark.parametrize(
    ("used", "usual"),
    [
        ("vicuna_v1", "vicuna_v1"),
        ("v1", "vicuna_v1"),  # another name of it
        ("plain", None),  # a checkpoint of which nothing tells it
        (None, "vicuna_v1"),
    ],
)
def test_template_of_the_model_is_not_marked(
    used: str | None, usual: str | None, tmp_path: Path, build: Build
) -> None:
    template = {"reason": "asked for", "conversation": usual}
    write_gqa(tmp_path, identity={"conversation": used}, environment={"template": template})
    record = build().record("llava-v1.5-7b")
    assert record["gqa/testdev_balanced/accuracy notes"] == ""
    assert record["gqa/testdev_balanced/accuracy difference"]


@pytest.mark.few_cases(2)
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
        (
            {"identity": {"generation": {"max_new_tokens": 1}}},
            "other than the default: max_new_tokens=1",
            False,
        ),
        (
            {
                "identity": {"conversation": "plain"},
                "environment": {"template": {"conversation": "vicuna_v1"}},
            },
            "asked in the template plain, but the model has vicuna_v1",
            False,
        ),
        (  # as earlier versions kept it
            {
                "identity": {"conversation": "plain"},
                "environment": {"options": {"model": {"conversation": "vicuna_v1"}}},
            },
            "asked in the template plain, but the model has vicuna_v1",
            False,
        ),
        ({"imported": {"sha256": "x"}}, "answers were imported from a file", True),
    ],
)
def test_marked_figure_is_compared_only_if_it_means_the_same(
    fields: dict[str, object], note: str, is_comparable: bool, tmp_path: Path, build: Build
) -> None:
    write_gqa(tmp_path, **fields)
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


@pytest.mark.parametrize("is_kept", [True, False])
def test_figure_of_other_options_than_the_run_had_is_not_stale(
    is_kept: bool, tmp_path: Path, build: Build
) -> None:
    scored, run = {"normalization": "always"}, tmp_path / "results/mine"
    folder = write_task(run, "vqav2", [1.0, 0.0], options=scored, split="demo")
    manifest = json.loads((folder / "manifest.json").read_text())
    if is_kept:
        summary = json.loads((folder / "summary.json").read_text())
        summary["scored_as"] = dict(manifest["environment"]["task"])
        (folder / "summary.json").write_text(json.dumps(summary))
    manifest["environment"]["task"]["normalization"] = "official"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    notes = build().record("mine")["vqav2/demo/vqa_accuracy notes"]
    options = "options other than the default: normalization='always'"
    assert notes == options if is_kept else notes.startswith("stale: scored by vqa_always")


@pytest.mark.few_cases(2)
@pytest.mark.parametrize("content", [5, {}, {"_target_": "os.system"}, {"_target_": 1}, []])
def test_what_no_task_is_described_by_does_not_stop_the_leaderboard(
    content: object, results: Path, build: Build
) -> None:
    path = results / "llava-v1.5-7b/gqa/summary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "scored_as": content}))
    built = build()
    assert built.code == 0
    assert "llava-v1.5-7b" in built.stdout


def put_hashes(folder: Path, **hashes: str | None) -> None:
    summary = json.loads((folder / "summary.json").read_text())
    summary["hashes"] |= hashes
    (folder / "summary.json").write_text(json.dumps(summary))


@pytest.mark.few_cases(3)
@pytest.mark.parametrize(
    ("asked", "odd"),
    [
        (["a", "a", "b"], [False, False, True]),
        (["a", "b"], [True, True]),
        (["a", "a"], [False, False]),
    ],
)
@pytest.mark.parametrize(
    ("task", "options"),
    [("custom", {"questions": "q.jsonl", "scorer": "exact"}), ("gqa", {"split": "demo"})],
)
def test_runs_that_were_asked_other_own_or_demo_questions_than_most_are_marked(
    task: str,
    options: dict[str, Any],
    asked: list[str],
    odd: list[bool],
    tmp_path: Path,
    build: Build,
) -> None:
    for number, data in enumerate(asked):
        folder = write_task(tmp_path / f"results/r{number}", task, [1.0, 0.0], options=options)
        put_hashes(folder, data=data)
    records = map(build().record, (f"r{number}" for number in range(len(odd))))
    told = [
        any("asked other questions than others" in text for text in r.values()) for r in records
    ]
    assert told == odd


def test_files_of_a_benchmark_in_other_layouts_ask_the_same(tmp_path: Path, build: Build) -> None:
    """A table has other names for images than a folder of them."""
    for number in range(2):
        folder = write_task(tmp_path / f"results/r{number}", "gqa", scores_of_mean(0.6))
        put_hashes(folder, prompts=str(number), data=str(number))
    assert build().record("r0")["gqa/testdev_balanced/accuracy notes"] == ""


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
    assert notes == (
        "the stored answers, scores or figures were edited: they are others than those that were "
        "scored"
    )


def test_answers_that_are_newer_than_their_figures_are_told(results: Path, build: Build) -> None:
    path = results / "llava-v1.5-7b/gqa/predictions.jsonl"
    path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    notes = build().record("llava-v1.5-7b")["gqa/testdev_balanced/accuracy notes"]
    assert notes == "the stored answers are others than those that were scored"


@pytest.mark.few_cases(2)
@pytest.mark.parametrize(
    ("name", "fields", "note"),
    [
        ("vqav2", {"metrics": {}, "interval": None}, "for the server with runners.submit.\n"),
        (
            "mathvista",
            {"metrics": {}, "interval": None, "options": {"split": "test"}},
            "the split has no public answers; its authors score",
        ),
        (
            "vqav2",
            {"metrics": {}, "interval": None, "environment": {"task": None}},
            "was not scored",
        ),
        (
            "custom",
            {"metrics": {}, "interval": None, "options": {"questions": "q.jsonl"}},
            "the split cannot be scored without a scorer. Set tasks.custom.scorer=exact",
        ),
        ("mmvet", {"metrics": {}, "interval": None}, "waits for its judge"),
        ("scienceqa", {"metrics": {"accuracy": 0.7, "accuracy_image": None}}, "cannot be computed"),
    ],
)
def test_figure_that_is_not_there_is_said_and_not_dropped(
    name: str, fields: dict[str, object], note: str, tmp_path: Path, build: Build
) -> None:
    write_task(tmp_path / "results/mine", name, scores_of_mean(0.5, 10), **fields)
    built = build()
    cells = [cell for table in built.tables() for row in table for cell in row if row[0] == "mine"]
    assert any(cell.startswith("- (a") for cell in cells)
    assert note in built.stdout


def test_only_what_nothing_else_scores_waits_for_a_judge() -> None:
    names = ("mmvet", "llavabench", "mathvista", "hallusionbench", "gqa", "custom")
    assert [name for name in names if needs_judge(name)] == ["mmvet", "llavabench"]


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

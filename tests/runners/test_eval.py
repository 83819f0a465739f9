"""The main job, started as a user starts it, with a tiny untrained model."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import indent

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from tests.runners.conftest import (
    CHECKOUT,
    Finished,
    Shell,
    promised_bytes,
    read_lines,
)
from tests.variants import make_base

NUM_QUESTIONS = {"gqa": 31, "vqav2": 25}


def test_uninterrupted_run_is_complete(demo_run: Finished) -> None:
    assert demo_run.code == 0, demo_run.stderr
    for task, num_questions in NUM_QUESTIONS.items():
        assert len(demo_run.lines(f"results/demo/{task}/predictions.jsonl")) == num_questions
        assert len(demo_run.lines(f"results/demo/{task}/trace.jsonl")) == num_questions
        summary = demo_run.json(f"results/demo/{task}/summary.json")
        assert (summary["task"], summary["split"]) == (task, "demo")
        assert summary["num_questions"] == summary["num_answered"] == num_questions
        assert (summary["coverage"], summary["num_failed"]) == (1.0, {})
        assert summary["timing"]["num_asked"] == num_questions
    files = {path.name for path in (demo_run.workspace / "results/demo").iterdir()}
    assert files >= {"gqa", "vqav2", "run.log", "summary.csv", "summary.md"}
    assert [path.name for path in demo_run.workspace.iterdir()] == ["results"]


@pytest.mark.slow
def test_complete_run_is_shown_again_quietly_and_for_programs(
    demo_run: Finished, shell: Shell, demo_options: str
) -> None:
    command = f"python -m runners.eval {demo_options} run=demo"
    told = shell(f"{command} log=json", demo_run.workspace)
    assert told.code == 0, told.stderr
    lines = [json.loads(line) for line in told.stderr.splitlines()]
    assert "results in results/demo" in [line["message"] for line in lines]
    quiet = shell(f"{command} --quiet", demo_run.workspace)
    assert (quiet.code, quiet.stderr) == (0, "")
    assert quiet.stdout == told.stdout
    assert quiet.stdout.startswith("demo\n")


def test_predictions_are_in_the_order_of_the_benchmark(
    demo_run: Finished, cache_home: Path
) -> None:
    files = (cache_home / "llava-evals" / "demo").glob("*/gqa/data/demo_questions.json")
    found = [json.loads(path.read_text()) for path in files]  # other tests have data of their own
    questions = next(each for each in found if len(each) == NUM_QUESTIONS["gqa"])
    lines = demo_run.lines("results/demo/gqa/predictions.jsonl")
    assert [line["question_id"] for line in lines] == list(questions)
    scores = demo_run.lines("results/demo/gqa/scores.jsonl")
    assert [line["key"] for line in scores] == [line["metadata"]["key"] for line in lines]


def test_one_load_serves_all_tasks(demo_run: Finished) -> None:
    log = (demo_run.workspace / "results/demo/run.log").read_text()
    assert log.count("model loaded in") == 1
    assert demo_run.stderr.count("model loaded in") == 1


def test_log_tells_template_with_its_reason_and_the_first_answer(demo_run: Finished) -> None:
    log = (demo_run.workspace / "results/demo/run.log").read_text()
    assert "conversation template vicuna_v1: 'v1.5' occurs in 'llava-v1.5-tiny'" in log
    assert log.count("s after process start") == 1
    assert demo_run.json("results/demo/gqa/summary.json")["timing"]["first_answer_s"] < 60


def test_table_names_every_task_with_its_split(demo_run: Finished) -> None:
    rows = [line.split() for line in demo_run.stdout.splitlines()]
    assert rows[0] == ["demo"]
    assert rows[1][:4] == ["task", "split", "metric", "score"]
    assert ["gqa", "demo", "accuracy"] in [row[:3] for row in rows]
    assert ["vqav2", "demo", "vqa_accuracy"] in [row[:3] for row in rows]
    markdown = (demo_run.workspace / "results/demo/summary.md").read_text()
    assert "| gqa | demo | accuracy |" in markdown


def test_manifest_says_what_was_run(demo_run: Finished, tiny_checkpoint: Path) -> None:
    manifest = demo_run.json("results/demo/gqa/manifest.json")
    identity = manifest["identity"]
    assert (identity["conversation"], identity["dtype"]) == ("vicuna_v1", "float32")
    assert identity["generation"]["max_new_tokens"] == 6
    assert set(identity["tower"]) >= {"config.json", "weights"}
    assert set(identity["checkpoint"]) >= {"config.json", "tokenizer.model", "weights"}
    assert manifest["environment"]["load_report"]["num_loaded"] > 0
    assert len(manifest["history"]) == 1
    assert f"model.path={tiny_checkpoint}" in manifest["history"][0]["command"]


def test_nothing_noisy_is_printed(demo_run: Finished) -> None:
    for word in ("Traceback", "Warning", "warn", "Loading", "LOAD REPORT"):
        assert word not in demo_run.stderr


def test_repeated_command_prints_the_table_and_loads_nothing(
    call: Shell, demo_run: Finished, demo_options: str
) -> None:
    before = promised_bytes(demo_run.workspace / "results/demo")
    again = call(f"python -m runners.eval {demo_options} run=demo", demo_run.workspace)
    assert again.code == 0
    assert again.stdout == demo_run.stdout
    assert "model loaded" not in again.stderr
    assert promised_bytes(demo_run.workspace / "results/demo") == before
    assert len(demo_run.json("results/demo/gqa/manifest.json")["history"]) == 1


@pytest.mark.few_cases(2)
@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("generation.max_new_tokens=5", "`generation.max_new_tokens` is 6 there and 5 here"),
        ("device=cuda", '`dtype` is "float32" there and "float16" here'),
        ("generation.top_p=0.9", "generation.top_p has no effect"),
        ("model.attention=eager", '`attention` is "default" there and "eager" here'),
    ],
)
def test_other_options_do_not_mix_into_a_run(
    option: str, told: str, call: Shell, demo_run: Finished, demo_options: str
) -> None:
    before = promised_bytes(demo_run.workspace / "results/demo")
    other = call(f"python -m runners.eval {demo_options} run=demo {option}", demo_run.workspace)
    assert other.code == 2
    assert told in other.stderr
    assert "results/demo/gqa" in other.stderr
    assert "results/demo/vqav2" in other.stderr
    assert promised_bytes(demo_run.workspace / "results/demo") == before


def test_run_that_is_being_written_is_refused(
    call: Shell, demo_run: Finished, demo_options: str
) -> None:
    with FileLock(demo_run.workspace / "results/demo/.vqav2.lock"):
        other = call(f"python -m runners.eval {demo_options} run=demo", demo_run.workspace)
    assert other.code == 2
    assert "another process" in other.stderr


@pytest.fixture(scope="module")
def packed_run(
    shell: Shell, demo_options: str, tmp_path_factory: pytest.TempPathFactory
) -> Finished:
    """The demo run, packed and on two workers, which says in the end whether it knows torch."""
    code = (
        "import sys, runners.eval\n"
        "try:\n"
        "    runners.eval.main()\n"
        "except SystemExit as exit:\n"
        "    print('exit', exit.code, 'torch' in sys.modules)\n"
    )
    workspace = tmp_path_factory.mktemp("packed_run")
    (workspace / "program.py").write_text(f"if __name__ == '__main__':\n{indent(code, '    ')}")
    options = demo_options.replace("engine=sequential", "engine=packed")
    options += " engine.max_tokens=150 engine.num_preprocess_threads=4 runner.num_workers=2"
    return shell(f"python program.py {options} run=demo", workspace)


def test_packed_run_on_two_workers_ends_in_the_sequential_bytes(
    packed_run: Finished, demo_run: Finished
) -> None:
    expected = promised_bytes(demo_run.workspace / "results/demo")
    assert promised_bytes(packed_run.workspace / "results/demo") == expected


def test_parent_process_never_imports_torch(packed_run: Finished) -> None:
    assert packed_run.stdout.splitlines()[-1] == "exit 0 False", packed_run.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        "engine.max_rows=2 engine.num_preprocess_threads=1",
        "engine.max_tokens=100000 runner.num_workers=3",
    ],
)
def test_bytes_do_not_depend_on_how_answers_were_computed(
    options: str, shell: Shell, demo_run: Finished, demo_options: str, tmp_path: Path
) -> None:
    packed = demo_options.replace("engine=sequential", "engine=packed")
    finished = shell(f"python -m runners.eval {packed} {options} run=demo", tmp_path)
    assert finished.code == 0, finished.stderr
    assert promised_bytes(tmp_path / "results/demo") == promised_bytes(
        demo_run.workspace / "results/demo"
    )


@pytest.mark.slow
def test_order_of_the_questions_changes_only_the_order_of_the_lines(
    shell: Shell, custom_options: str, questions: Path, tmp_path: Path
) -> None:
    lines = questions.read_text().splitlines(keepends=True)
    reversed_file = tmp_path / "reversed.jsonl"
    reversed_file.write_text("".join(reversed(lines)))
    command = f"python -m runners.eval {custom_options} max_failures=1"
    assert shell(command, tmp_path).code == 0
    other = shell(f"{command} run=other tasks.custom.questions={reversed_file}", tmp_path)
    assert other.code == 0
    stored = [
        (tmp_path / f"results/{run}/custom/predictions.jsonl").read_bytes().splitlines()
        for run in ("own", "other")
    ]
    assert stored[0] == stored[1][::-1]


@pytest.fixture
def custom_options(tiny_checkpoint: Path, questions: Path) -> str:
    return (
        f"model.path={tiny_checkpoint} task=custom tasks.custom.questions={questions} "
        f"tasks.custom.images={questions.parent}/images tasks.custom.scorer=exact "
        "generation.max_new_tokens=3 run=own runner.num_threads=1"
    )


@pytest.mark.slow
def test_failed_questions_are_recorded_and_counted(
    shell: Shell, call: Shell, custom_options: str, tmp_path: Path
) -> None:
    (tmp_path / "images" / "blue.png").write_bytes(b"no image")
    command = f"python -m runners.eval {custom_options}"
    first = shell(f"{command} overwrite=true", tmp_path)
    assert first.code == 1
    assert "The same command with overwrite=false asks them again." in first.stderr
    assert "custom: 1 of 4 questions have images that are not there" in first.stderr
    assert "Traceback" not in first.stderr
    summary = first.json("results/own/custom/summary.json")
    assert summary["num_failed"] == {"image_missing": 1, "image_unreadable": 1}
    assert (summary["num_answered"], summary["coverage"]) == (2, 0.5)
    lines = first.lines("results/own/custom/predictions.jsonl")
    assert [line["question_id"] for line in lines] == [1, 2, "3", 4]
    assert [line["metadata"].get("error", {}).get("cause") for line in lines] == [
        None,
        "image_missing",
        None,
        "image_unreadable",
    ]
    assert "0.00 *" in first.stdout
    assert "50.0% of the questions" in first.stdout

    tolerant = call(f"{command} retry_failed=false max_failures=2", tmp_path)
    assert tolerant.code == 0
    assert "model loaded" not in tolerant.stderr
    left = call(f"{command} retry_failed=false", tmp_path)
    assert left.code == 1
    assert "The same command with retry_failed=true asks them again." in left.stderr


@pytest.mark.slow
def test_failed_questions_are_asked_again(
    shell: Shell, custom_options: str, tmp_path: Path
) -> None:
    (tmp_path / "images" / "blue.png").write_bytes(b"no image")
    command = f"python -m runners.eval {custom_options}"
    first = shell(command, tmp_path)
    lines = first.lines("results/own/custom/predictions.jsonl")
    for name in ("blue.png", "gone.png"):
        Image.new("RGB", (40, 30), "blue").save(tmp_path / "images" / name)
    second = shell(command, tmp_path)
    assert second.code == 0
    summary = second.json("results/own/custom/summary.json")
    assert (summary["num_failed"], summary["coverage"]) == ({}, 1.0)
    assert [line["attempts"] for line in second.lines("results/own/custom/trace.jsonl")] == [
        1,
        2,
        1,
        2,
    ]
    assert second.lines("results/own/custom/predictions.jsonl")[0] == lines[0]


def test_all_that_is_wrong_comes_in_one_message_before_anything_is_loaded(
    call: Shell, questions: Path, tmp_path: Path
) -> None:
    questions.write_text('{"question_id": 1, "text": "a"}\n{"question_id"\n')
    command = (
        "python -m runners.eval model.path=/nowhere/llava=v1.5 task=[custom,gqa] "
        f"tasks.custom.questions={questions} tasks.gqa.data_dir={tmp_path}/gqa,1"
    )
    finished = call(command, tmp_path)
    assert finished.code == 2
    for part in ("/nowhere/llava=v1.5", "questions.jsonl:2", "gqa,1/data/testdev_balanced"):
        assert part in finished.stderr
    assert "Traceback" not in finished.stderr
    assert "model loaded" not in finished.stderr
    assert "\n\n" not in finished.stderr.strip()
    assert not (tmp_path / "results").exists()


def test_results_folder_that_cannot_be_written_is_bad_input(
    call: Shell, custom_options: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    finished = call(f"python -m runners.eval {custom_options} results_dir=file/a", tmp_path)
    assert finished.code == 2
    assert "results_dir=DIR" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_no_answerable_question_is_bad_input(
    call: Shell, custom_options: str, tmp_path: Path
) -> None:
    command = f"python -m runners.eval {custom_options} tasks.custom.images={tmp_path}/none"
    (tmp_path / "questions.jsonl").write_text('{"question_id": 1, "image": "a", "text": "b"}\n')
    finished = call(f"{command} tasks.custom.scorer=none", tmp_path)
    assert finished.code == 2
    assert "no question about an image can be answered" in finished.stderr


@pytest.mark.slow
def test_sweep_over_checkpoints_runs_each_and_exits_with_the_gravest_code(
    shell: Shell, tiny_checkpoint: Path, questions: Path, tmp_path: Path
) -> None:
    other = tmp_path / "llava-v1.5-other"
    other.symlink_to(tiny_checkpoint)
    (tmp_path / tiny_checkpoint.with_name("clip-tiny-56").name).symlink_to(
        tiny_checkpoint.with_name("clip-tiny-56")
    )
    command = (
        f"python -m runners.eval -m model.path={tiny_checkpoint},/nowhere/llava-v1.5-a,{other} "
        f"task=custom tasks.custom.questions={questions} tasks.custom.images={tmp_path}/images "
        "generation.max_new_tokens=2 max_failures=1"
    )
    finished = shell(command, tmp_path)
    assert finished.code == 2, finished.stderr
    assert finished.stderr.count("model loaded in") == 2
    runs = {path.name for path in (tmp_path / "results").iterdir()}
    assert runs == {"llava-v1.5-tiny-max_new_tokens2", "llava-v1.5-other-max_new_tokens2"}
    assert not (tmp_path / "multirun").exists()
    assert not (tmp_path / "multirun.yaml").exists()


def test_program_runs_from_any_folder_with_the_installed_configuration(
    shell: Shell, tmp_path: Path
) -> None:
    finished = shell("python -m runners.eval --help", tmp_path)
    assert finished.code == 0
    assert "llava-v1.5-13b" in finished.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_golden_answers_of_the_batch_script(shell: Shell, tmp_path: Path) -> None:
    shared = CHECKOUT.parent / "shared" / "conformance"
    if not shared.is_dir():
        pytest.skip("needs ../shared/conformance")
    command = (
        f"python -m runners.eval task=custom tasks.custom.questions={shared}/evaluation/"
        f"questions.jsonl tasks.custom.images={shared}/images model=checkpoint "
        f"model.path={shared}/models/llava-v1.5-tiny conversation=vicuna_v1 "
        "generation.max_new_tokens=16 run=golden limit=5"
    )
    finished = shell(command, tmp_path)
    assert finished.code == 0, finished.stderr
    golden = json.loads((shared / "evaluation/loader_answers.json").read_text())["answers"]
    answers = read_lines(tmp_path / "results/golden/custom/predictions.jsonl")
    for answer, expected in zip(answers, golden[:5], strict=True):
        for field in ("question_id", "prompt", "text", "model_id"):
            assert answer[field] == expected[field]


@pytest.mark.slow
def test_questions_about_a_changed_image_are_asked_again(
    shell: Shell, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number, color in enumerate(("red", "blue", "white")):
        Image.new("RGB", (40, 40), color).save(images / f"{number}.png")
    lines = [{"question_id": i, "image": f"{i}.png", "text": "What?"} for i in range(3)]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, lines)))
    command = (
        f"python -m runners.eval model.path={tiny_checkpoint} task=custom run=r "
        "tasks.custom.questions=q.jsonl tasks.custom.images=images generation.max_new_tokens=4"
    )
    assert shell(command, tmp_path).code == 0
    before = {line["key"]: line for line in read_lines(tmp_path / "results/r/custom/trace.jsonl")}
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (60, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(images / "1.png")
    again = shell(command, tmp_path)
    assert again.code == 0
    assert "model loaded" in again.stderr
    after = {line["key"]: line for line in read_lines(tmp_path / "results/r/custom/trace.jsonl")}
    assert [after[key]["attempts"] for key in "012"] == [1, 2, 1]
    assert after["1"]["image_sha256"] != before["1"]["image_sha256"]


def test_model_without_a_tower_is_not_asked_about_images(
    call: Shell, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    base = make_base(tmp_path / "vicuna-v1.5-tiny", tiny_checkpoint)
    done = call(f"python -m runners.eval model.path={base} task=vqav2 data=demo", tmp_path)
    assert done.code == 2
    assert "without a vision tower" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.few_cases(3)
@pytest.mark.parametrize(
    "option",
    [
        "engine.near_tie_threshold=foo",
        "engine.near_tie_threshold=-1",
        "engine.replay=nevr",
        "engine.num_preprocess_threads=-3",
        "engine.max_tokens=-5",
        "engine.max_rows=0",
        "runner.num_threads=x",
    ],
)
def test_engine_options_are_checked_before_anything_is_loaded(
    option: str, call: Shell, tmp_path: Path
) -> None:
    done = call(f"python -m runners.eval {option}", tmp_path)
    assert done.code == 2
    assert option.partition("=")[0] in done.stderr
    assert "Traceback" not in done.stderr

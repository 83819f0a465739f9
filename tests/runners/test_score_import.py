from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from evals.tasks.custom import Custom
from evals.tasks.seedbench import SeedBench
from runners.errors import ConfigError
from runners.leaderboard import leaderboard
from runners.options import program
from runners.publish import publish
from runners.regress import regress
from runners.score import score
from runners.storage.importing import read_import
from runners.storage.stored import StoredTask
from tests.evals.small_data import SMALL_DATA, put_json, put_lines, write_mmvet
from tests.runners.conftest import Finished, read_lines
from tests.runners.task_runs import IDENTITY, build_task_run

pytestmark = pytest.mark.usefixtures("in_own_folder")

QUESTIONS = {"1": "red", "2": "blue", "3": "green"}
SHORT = "\nAnswer the question using a single word or phrase."


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    """A custom task with three questions."""
    lines = [{"question_id": q, "text": "Color?", "answer": a} for q, a in QUESTIONS.items()]
    put_lines(tmp_path / "questions.jsonl", lines)
    return [
        "task=custom",
        "tasks.custom.questions=questions.jsonl",
        "tasks.custom.scorer=exact",
        "predictions=answers.jsonl",
        "run=foreign",
    ]


def write_answers(answers: dict[str, str], *extra: dict[str, Any], **fields: str) -> None:
    lines = [{"question_id": q, "text": a, **fields} for q, a in answers.items()]
    put_lines(Path("answers.jsonl"), [*lines, *extra])


def summary_of(run: str = "foreign", task: str = "custom") -> dict[str, Any]:
    return json.loads(Path("results", run, task, "summary.json").read_text())


def manifest_of(run: str = "foreign", task: str = "custom") -> dict[str, Any]:
    return json.loads(Path("results", run, task, "manifest.json").read_text())


def test_table_of_a_run_stands_below_its_name(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_answers(QUESTIONS)
    for words in (options, ["run=foreign"]):
        assert program.run("score", score, words) == 0
        first, second, *_ = capsys.readouterr().out.splitlines()
        assert first == "foreign"
        assert second.split()[:2] == ["task", "split"]


def test_answer_file_becomes_a_run(options: list[str]) -> None:
    write_answers({"3": "green", "1": "red", "2": "red"}, prompt="Color?", model_id="theirs")
    assert program.run("score", score, options) == 0
    folder = Path("results/foreign/custom")
    assert sorted(path.name for path in folder.iterdir()) == [
        "manifest.json",
        "predictions.jsonl",
        "scores.jsonl",
        "summary.json",
    ]
    lines = read_lines(folder / "predictions.jsonl")
    assert [(line["question_id"], line["text"]) for line in lines] == [
        ("1", "red"),
        ("2", "red"),
        ("3", "green"),
    ]
    assert {line["model_id"] for line in lines} == {"theirs"}
    assert [line["metadata"]["key"] for line in lines] == ["1", "2", "3"]
    assert summary_of()["metrics"] == {"accuracy": pytest.approx(2 / 3)}
    assert Path("results/foreign/summary.md").exists()


def test_manifest_says_where_the_answers_are_from(options: list[str]) -> None:
    write_answers(QUESTIONS)
    assert program.run("score", score, options) == 0
    manifest = manifest_of()
    digest = hashlib.sha256(Path("answers.jsonl").read_bytes()).hexdigest()
    assert manifest["identity"]["imported"] == digest
    assert manifest["environment"]["imported_from"] == "answers.jsonl"
    assert manifest["environment"]["task"]["_target_"] == "evals.tasks.custom.Custom"
    assert [event["sha256"] for event in manifest["history"]] == [digest]
    assert summary_of()["imported"]["sha256"] == digest


def test_imported_run_is_scored_again_to_the_same_files(options: list[str]) -> None:
    write_answers({"1": "red", "3": "no"})
    assert program.run("score", score, options) == 1
    folder = Path("results/foreign/custom")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "scores.jsonl").unlink()
    assert program.run("score", score, ["run=foreign"]) == 1
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_same_file_may_be_imported_again_and_another_may_not(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_answers(QUESTIONS)
    assert program.run("score", score, options) == 0
    assert program.run("score", score, options) == 0
    assert len(manifest_of()["history"]) == 2
    write_answers(QUESTIONS | {"1": "other"})
    assert program.run("score", score, options) == 2
    assert "run=NAME" in capsys.readouterr().err
    assert summary_of()["metrics"] == {"accuracy": 1.0}
    assert program.run("score", score, [*options, "overwrite=true"]) == 0
    assert summary_of()["metrics"] == {"accuracy": pytest.approx(2 / 3)}
    assert Path("results/foreign/custom.old-1/summary.json").exists()


def test_run_that_was_made_here_is_not_touched(
    demo_run: Finished, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(demo_run.workspace / "results", tmp_path / "results")
    folder = tmp_path / "results/demo/gqa"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    spec = json.loads(before["manifest.json"])["environment"]["task"]
    argv = ["task=gqa", "predictions=answers.jsonl", "run=demo"]
    argv += [f"tasks.gqa.{name}={spec[name]}" for name in ("data_dir", "split")]
    shutil.copy(folder / "predictions.jsonl", tmp_path / "answers.jsonl")
    assert program.run("score", score, argv) == 2
    assert "other answers" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_own_answers_imported_are_comparable_with_their_run(
    demo_run: Finished, tmp_path: Path
) -> None:
    """Text, data and scorer agree, and so do the scores."""
    folder = demo_run.workspace / "results/demo/gqa"
    spec = demo_run.json("results/demo/gqa/manifest.json")["environment"]["task"]
    argv = ["task=gqa", f"predictions={folder}/predictions.jsonl", "run=copy"]
    argv += [f"tasks.gqa.{name}={spec[name]}" for name in ("data_dir", "split")]
    assert program.run("score", score, argv) == 0
    original, copy = demo_run.json("results/demo/gqa/summary.json"), summary_of("copy", "gqa")
    for name in ("prompts", "data", "scorer"):
        assert copy["hashes"][name] == original["hashes"][name]
    assert copy["metrics"] == original["metrics"]
    scores = (tmp_path / "results/copy/gqa/scores.jsonl").read_bytes()
    assert scores == (folder / "scores.jsonl").read_bytes()


def test_prompts_that_differ_or_are_not_there_are_unknown(options: list[str]) -> None:
    for number, prompt in enumerate(("p", "")):
        write_answers(QUESTIONS, prompt=prompt)
        assert program.run("score", score, [*options, f"run=r{number}"]) == 0
        assert summary_of(f"r{number}")["hashes"]["prompts"] == "unknown"


def test_missing_answers_and_recorded_failures_are_kept_apart(options: list[str]) -> None:
    failure = {
        "question_id": "2",
        "text": "",
        "metadata": {"key": "2", "error": {"cause": "image_missing", "message": "gone"}},
    }
    write_answers({"1": "red"}, failure)
    assert program.run("score", score, options) == 1
    summary = summary_of()
    assert (summary["num_questions"], summary["num_answered"]) == (3, 1)
    assert summary["num_failed"] == {"image_missing": 1}
    lines = read_lines(Path("results/foreign/custom/predictions.jsonl"))
    assert [line["metadata"]["key"] for line in lines] == ["1", "2"]
    assert lines[1]["metadata"]["error"]["cause"] == "image_missing"


@pytest.mark.few_cases(2)
@pytest.mark.parametrize(
    ("dropped", "added", "named"),
    [
        ("nothing", ["output=out"], "`run`"),
        ("run=", [], "`output`"),
        ("run=", ["run=a/b"], "`run`"),
        ("run=", ["run=.."], "`run`"),
        ("task", [], "`task`"),
        ("predictions=", ["predictions=none.jsonl"], "none.jsonl"),
    ],
)
def test_bad_input_is_one_paragraph_and_makes_no_run(
    options: list[str],
    capsys: pytest.CaptureFixture[str],
    dropped: str,
    added: list[str],
    named: str,
) -> None:
    write_answers(QUESTIONS)
    argv = [option for option in options if not option.startswith(dropped)] + added
    assert program.run("score", score, argv) == 2
    said = capsys.readouterr().err
    assert named in said
    assert "Traceback" not in said
    assert not Path("results").exists()


@pytest.mark.few_cases(1)
@pytest.mark.parametrize("error", ["out of memory", ["out of memory"], {"message": "m"}, True])
def test_failure_in_words_alone_is_a_failure(error: object, options: list[str]) -> None:
    write_answers({"1": "red", "2": "blue"}, failed("3", error))
    assert program.run("score", score, options) == 1
    assert summary_of()["num_failed"] == {"error": 1}


def failed(question_id: str, error: object, **fields: str) -> dict[str, Any]:
    return {"question_id": question_id, "text": "", "metadata": {"error": error}, **fields}


def test_prompt_of_a_failure_is_held_against_nothing(options: list[str]) -> None:
    write_answers({"1": "red", "2": "blue"}, failed("3", "e", prompt="p"), prompt="p")
    assert program.run("score", score, options) == 1
    assert summary_of()["num_answered"] == 2


def test_failures_are_matched_together_and_foreign_ones_passed_over(tmp_path: Path) -> None:
    SMALL_DATA["seedbench"].write(tmp_path / "data")
    task = SeedBench(data_dir=tmp_path / "data")
    keys = list(task.questions)
    lines = [failed(name, "e") for name in (*keys, keys[0], "none")]
    assert task.match_failed(lines) == {key: failed(key, "e") for key in keys}
    assert task.match_failed([failed("none", "e")]) == {}


def test_answers_of_another_benchmark_make_no_run(options: list[str]) -> None:
    write_answers({"77": "x"})
    assert program.run("score", score, options) == 2
    assert not Path("results").exists()


def test_split_without_annotations_is_kept_for_its_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = [{"question_id": n, "image_id": 7, "question": "Is it?"} for n in (1, 2)]
    name = "v2_OpenEnded_mscoco_test-dev2015_questions.json"
    put_json(tmp_path / "vqav2" / name, {"questions": questions})
    write_answers({"1": "yes"})
    argv = ["task=vqav2", "tasks.vqav2.data_dir=vqav2", "predictions=answers.jsonl", "run=r"]
    for options, code in ((argv, 1), (["run=r"], 1)):
        assert program.run("score", score, options) == code
        assert "runners.submit" in capsys.readouterr().err
        summary = summary_of("r", "vqav2")
        assert (summary["metrics"], summary["num_answered"], summary["num_questions"]) == ({}, 1, 2)
    write_answers({"1": "yes", "2": "no"})
    assert program.run("score", score, [*argv, "run=s"]) == 0


@pytest.mark.few_cases(5)
@pytest.mark.parametrize("name", [n for n in SMALL_DATA if n not in ("mmvet", "llavabench")])
def test_every_benchmark_can_be_imported(name: str, tmp_path: Path) -> None:
    small = SMALL_DATA[name]
    small.write(tmp_path / "data")
    samples = small.build(data_dir=tmp_path / "data", **small.options).samples()
    lines = [
        {"question_id": sample.question_id, "prompt": sample.prompt, "text": text}
        for sample, text in zip(samples, small.right, strict=True)
    ]
    put_lines(tmp_path / "answers.jsonl", lines[::-1])
    argv = [f"task={name}", f"tasks.{name}.data_dir=data", "predictions=answers.jsonl", "run=r"]
    argv += [f"tasks.{name}.{key}={value}" for key, value in small.options.items()]
    assert program.run("score", score, argv) == 0
    summary = summary_of("r", name)
    assert summary["metrics"][summary["primary_metric"]] == small.perfect
    assert summary["hashes"]["prompts"] != "unknown"
    stored = read_lines(tmp_path / "results/r" / name / "predictions.jsonl")
    assert [line["metadata"]["key"] for line in stored] == [sample.key for sample in samples]


def test_repeated_answers_of_textvqa_stay_lines_of_their_own(tmp_path: Path) -> None:
    small = SMALL_DATA["textvqa"]
    small.write(tmp_path / "data")
    samples = small.build(data_dir=tmp_path / "data").samples()
    lines = [
        {"question_id": sample.question_id, "prompt": sample.prompt, "text": text}
        for sample, text in zip(samples, small.right, strict=True)
    ]
    put_lines(tmp_path / "answers.jsonl", [*lines, lines[0] | {"text": "wrong"}])
    argv = ["task=textvqa", "tasks.textvqa.data_dir=data", "predictions=answers.jsonl", "run=r"]
    assert program.run("score", score, argv) == 0
    before = (tmp_path / "results/r/textvqa/summary.json").read_bytes()
    assert json.loads(before)["metrics"] == {"vqa_accuracy": 0.75}
    assert program.run("score", score, ["run=r"]) == 0
    assert (tmp_path / "results/r/textvqa/summary.json").read_bytes() == before


def test_judged_answers_are_imported_and_wait_for_their_judge(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_mmvet(tmp_path / "mmvet")
    write_answers({"0": "1 and 2", "1": "A cat."})
    argv = ["task=mmvet", "tasks.mmvet.data_dir=mmvet", "predictions=answers.jsonl", "run=r"]
    assert program.run("score", score, argv) == 1
    assert "judge=openai" in capsys.readouterr().err
    assert program.run("score", score, ["run=r"]) == 1
    given = ["run=r", "task=mmvet", "tasks.mmvet.replies=mmvet/grades.json", "tasks.mmvet.judge=j"]
    assert program.run("score", score, given) == 0  # the run itself says where its data lie
    assert summary_of("r", "mmvet")["metrics"]["score"] == 1.0


def test_import_without_figures_names_the_command_that_gives_some(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_answers(QUESTIONS)
    assert program.run("score", score, options) == 0
    (tmp_path / "results/foreign/custom/summary.json").unlink()
    assert program.run("score", score, ["run=foreign"]) == 2
    said = capsys.readouterr().err
    [predictions] = (word for word in options if word.startswith("predictions="))
    assert f"python -m runners.score run=foreign {predictions}" in said
    assert "runners.eval" not in said
    assert program.run("score", score, options) == 0


def test_options_about_data_go_before_what_the_run_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    SMALL_DATA["seedbench"].write(tmp_path / "data")
    write_answers({"101": "A", "102": "D", "v1": "B"})
    argv = ["task=seedbench", "tasks.seedbench.data_dir=data"]
    assert program.run("score", score, [*argv, "predictions=answers.jsonl", "run=r"]) == 0
    assert program.run("score", score, ["run=r", "task=seedbench"]) == 0
    capsys.readouterr()
    for option in ("data.root=elsewhere", "tasks.seedbench.data_dir=elsewhere"):
        assert program.run("score", score, ["run=r", "task=seedbench", option]) == 2
        assert "elsewhere/" in capsys.readouterr().err


def test_evaluation_does_not_go_on_with_imported_answers(
    options: list[str], tmp_path: Path
) -> None:
    write_answers(QUESTIONS)
    assert program.run("score", score, options) == 0
    spec = manifest_of()["environment"]["task"]
    task_run = build_task_run(spec, Path("results/foreign"))
    with pytest.raises(ConfigError, match="`imported`"):
        task_run.check(IDENTITY)


def test_unreadable_lines_are_counted(options: list[str]) -> None:
    write_answers(QUESTIONS)
    path = Path("answers.jsonl")
    path.write_text(path.read_text() + '{"question_id": ')
    assert program.run("score", score, options) == 0
    assert summary_of()["imported"]["num_unreadable"] == 1


def test_lines_of_several_models_name_none(tmp_path: Path) -> None:
    put_lines(tmp_path / "questions.jsonl", [{"question_id": n, "text": "?"} for n in (1, 2)])
    lines = [{"question_id": n, "text": "a", "model_id": f"m{n}"} for n in (1, 2)]
    put_lines(tmp_path / "answers.jsonl", lines)
    found = read_import(Custom(questions=tmp_path / "questions.jsonl"), "answers.jsonl")
    assert found.model_id is None


def test_manifest_cannot_build_objects(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_answers(QUESTIONS)
    assert program.run("score", score, options) == 0
    manifest = manifest_of()
    touch = {"_target_": "os.mkdir", "path": "owned"}
    manifest["environment"]["task"]["questions"] = touch
    Path("results/foreign/custom/manifest.json").write_text(json.dumps(manifest))
    assert program.run("score", score, ["run=foreign"]) == 2
    assert "manifest.json" in capsys.readouterr().err
    assert not Path("owned").exists()


def test_two_answers_under_two_forms_of_an_id_are_told(
    options: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    write_answers({"01": "red", "1.0": "blue", "2": "blue", "3": "green"})
    assert program.run("score", score, options) == 0
    assert "1 questions are answered more than once, such as 1; the last answer" in caplog.text
    assert "The answers to 1 of them differ" in caplog.text


def test_answer_that_is_foreign_or_missing_is_named(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("answers.jsonl").write_text('{"question_id": 1, "text": "a"}\n\nno\n')
    with Path("answers.jsonl").open("a") as file:
        file.write('{"question_id": 9, "text": "a"}\n')
    assert program.run("score", score, options) == 2
    assert "answers.jsonl:4: 1 question ids of the answers are not in" in capsys.readouterr().err
    write_answers({"1": "red"}, {"question_id": 2, "text": "a", "prompt": "How many?"})
    assert program.run("score", score, options) == 2
    assert "answers.jsonl:2: 1 of 1 answers carry the prompt of" in capsys.readouterr().err
    write_answers({"2": "red"}, {"question_id": 2, "text": "red"})
    assert program.run("score", score, options) == 1
    said = capsys.readouterr().err
    assert "custom: 2 questions have no answer and score 0, such as 1, 3" in said
    assert "1 questions are answered more than once, such as 2; the last answer counts\n" in said


@pytest.mark.slow
def test_figure_on_changed_data_is_marked_wherever_it_stands(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_answers(QUESTIONS)
    for name in ("before", "after"):
        assert program.run("score", score, [*options, f"run={name}"]) == 0
    assert "other_data" not in summary_of("after")
    put_lines(
        tmp_path / "questions.jsonl",
        [{"question_id": q, "text": "Color?", "answer": "red"} for q in QUESTIONS],
    )
    words = ["run=after"]
    assert program.run("score", score, words) == 0
    told = capsys.readouterr()
    assert "33.33 *" in told.out
    assert "scored with data other than it was asked with (questions.jsonl)" in told.err
    assert summary_of("after")["other_data"] == ["questions.jsonl"]
    assert program.run("leaderboard", leaderboard, ["formats=[csv]", "best=bold"]) == 0
    board = capsys.readouterr().out
    assert "(a) scored with data other" in board
    cells = [line.split("|")[2:4] for line in board.splitlines() if line.startswith("| after ")]
    assert "33.3 (" in str(cells)
    runs = ["baseline=before", "candidate=after"]
    assert program.run("regress", regress, runs) == 2
    assert "the data differ (questions.jsonl" in capsys.readouterr().err
    shutil.copytree("results/after", "results/again")
    assert program.run("regress", regress, ["baseline=after", "candidate=again"]) == 0
    assert "baseline is scored with data other" in capsys.readouterr().out
    assert program.run("publish", publish, words) == 2
    assert "scored with data other" in capsys.readouterr().err
    # Put back, under whatever name, it is no other.
    put_lines(
        tmp_path / "questions.jsonl",
        [{"question_id": q, "text": "Color?", "answer": a} for q, a in QUESTIONS.items()],
    )
    shutil.move("questions.jsonl", "moved.jsonl")
    moved = "tasks.custom.questions=moved.jsonl"
    assert program.run("score", score, [*words, "task=custom", moved]) == 0
    assert "other_data" not in summary_of("after")


@pytest.mark.slow
def test_changed_code_of_an_included_benchmark_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put_lines(tmp_path / "q.jsonl", [{"question_id": 1, "text": "Color?", "answer": "red"}])
    module = tmp_path / "own/mine.py"
    (tmp_path / "own/task").mkdir(parents=True)
    (tmp_path / "own/task/mine.yaml").write_text(
        "# @package tasks.mine\n_target_: included.mine.Mine\nquestions: q.jsonl\n"
    )
    module.write_text(
        "from dataclasses import replace\n"
        "from evals.benchmark import each, rebuildable\n"
        "from evals.tasks.custom import Custom as _Custom\n"
        "@rebuildable\n"
        "def Mine(*, questions: str):\n"
        "    own = _Custom(questions=questions, scorer='exact')\n"
        "    judge = each(lambda text, one: (1.0, text))\n"
        "    return replace(own, name='mine', definition='mine/1', judge=judge)\n"
    )
    put_lines(Path("answers.jsonl"), [{"question_id": 1, "text": "blue"}])
    words = ["task=mine", "include=own", "predictions=answers.jsonl", "run=r"]
    assert program.run("score", score, words) == 0

    def notes(*options: str) -> str:
        words = ["published=none", "formats=[csv]", *options]
        assert program.run("leaderboard", leaderboard, words) == 0
        return capsys.readouterr().out.partition("## Notes")[2]

    assert "cannot be checked: scored by mine.py" in notes()
    assert "stale" not in notes() + notes("include=own")
    assert "cannot be checked" not in notes("include=own")
    module.write_text(module.read_text().replace("(1.0, text)", "(0.0, text)"))
    assert "stale: scored by the included code as it was then" in notes("include=own")
    assert program.run("publish", publish, ["run=r", "include=own"]) == 2
    assert "stale: scored by the included code" in capsys.readouterr().err
    assert program.run("score", score, ["run=r", "include=own"]) == 0
    assert "stale" not in notes("include=own")


def test_run_scored_by_other_options_is_read_again(options: list[str]) -> None:
    write_answers(QUESTIONS)
    assert program.run("score", score, options) == 0
    others = [*options[:2], "run=foreign", "tasks.custom.scorer=contains"]
    assert program.run("score", score, others) == 0
    stored = StoredTask(Path("results/foreign/custom"))
    assert stored.summary is not None
    assert stored.summary.scored_as is not None
    assert stored.summary.scored_as["ignore_case"] is False
    assert program.run("score", score, ["run=foreign"]) == 0


def test_scorers_of_own_questions_have_a_column_each(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_answers(QUESTIONS)
    for name, scorer in (("one", "exact"), ("other", "contains")):
        words = [*options, f"tasks.custom.scorer={scorer}", f"run={name}"]
        assert program.run("score", score, words) == 0
    capsys.readouterr()
    assert program.run("leaderboard", leaderboard, ["published=none", "formats=[csv]"]) == 0
    [head] = [line for line in capsys.readouterr().out.splitlines() if "| Setup" in line]
    assert "custom questions (custom_exact/1)" in head
    assert "custom questions (custom_contains/2)" in head


@pytest.fixture
def moved(tmp_path: Path) -> list[str]:
    """A run of TextVQA without OCR tokens, whose data have moved from `old` to `new`."""
    small = SMALL_DATA["textvqa"]
    small.write(tmp_path / "old/textvqa")
    samples = small.build(data_dir=tmp_path / "old/textvqa").samples()
    lines = [
        {
            "question_id": s.question_id,
            "text": text,
            "prompt": s.prompt.partition("\nRef")[0] + SHORT,
        }
        for s, text in zip(samples, small.right, strict=True)
    ]
    put_lines(Path("answers.jsonl"), lines)
    options = ["task=textvqa", "data.root=old", "tasks.textvqa.ocr_tokens=false", "run=r"]
    assert program.run("score", score, [*options, "predictions=answers.jsonl"]) == 0
    Path("old").rename("new")
    return ["run=r", "task=textvqa", "data.root=new"]


def test_run_whose_data_have_moved_is_scored_as_it_was(moved: list[str]) -> None:
    before = summary_of("r", "textvqa")
    assert program.run("score", score, moved) == 0
    after = summary_of("r", "textvqa")
    assert (after["metrics"], after["hashes"]) == (before["metrics"], before["hashes"])
    assert after["scored_as"]["ocr_tokens"] is False
    assert after["scored_as"]["data_dir"] == "new/textvqa"


@pytest.mark.parametrize("place", ["data.root=new", "data=playground"])
def test_place_of_data_is_of_a_benchmark_that_is_named(
    place: str, moved: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Else the figure would be that of the place where the data lay before."""
    assert program.run("score", score, ["run=r", place]) == 2
    said = capsys.readouterr().err
    assert f"`{place.partition('=')[0]}` says where" in said
    assert "task=NAME" in said


@pytest.mark.parametrize("into", ["output=out", "run=r"])
def test_own_questions_are_scored_without_a_folder_of_images(into: str) -> None:
    """However prompts are worded: what they ask is compared by the file alone."""
    question = {"text": "Color?", "answer": "red"}
    put_lines(Path("questions.jsonl"), [{"question_id": q, "image": q, **question} for q in "12"])
    answers = [{"question_id": q, "prompt": "What color?", "text": "red"} for q in "12"]
    put_lines(Path("answers.jsonl"), answers)
    argv = ["task=custom", "tasks.custom.questions=questions.jsonl", "tasks.custom.scorer=exact"]
    assert program.run("score", score, [*argv, "predictions=answers.jsonl", into]) == 0

"""`llava-evals`: its subcommands, lists, versions, cleaning and completion."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

from runners.command import main as command
from runners.command.completion import completions
from runners.command.names import COMMANDS, PROGRAMS
from runners.environment import resume_command, source_hash
from runners.options.register import SCHEMAS
from runners.scoring.judge import OPENAI_URL, _folder_name
from runners.scoring.replies import run_path
from runners.storage.answer_lines import answer_id
from runners.storage.files import sha256_of_json
from tests.house import CHECKOUT
from tests.runners.conftest import program_environment, read_lines
from tests.runners.synthetic_runs import write_task

Say = pytest.CaptureFixture[str]


def test_every_program_is_a_subcommand() -> None:
    assert set(PROGRAMS) == set(SCHEMAS)
    assert all(find_spec(f"runners.{name}") is not None for name in PROGRAMS)


def test_help_names_all_and_fits_the_screen(capsys: Say) -> None:
    assert command.main([]) == command.main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80 + len(COMMANDS["completion"]) - 50
    assert all(any(f"  {name} " in line for line in lines) for name in PROGRAMS)


def test_version_imports_no_torch(capsys: Say) -> None:
    code = "import sys, llava_evals; llava_evals.main(); sys.exit('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, "--version"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    told = dict(line.split() for line in done.stdout.splitlines())
    assert done.returncode == 0
    assert told.pop("source") == source_hash()
    assert told == {name: version(name) for name in ("llava-evals", "torch", "transformers")}


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["evla"], "Did you mean `llava-evals eval`?"),
        (["train-demo"], "Did you mean `llava-evals train_demo`?"),
        (["task=gqa"], "`llava-evals eval task=gqa`"),
        (["list"], "one of tasks, models, templates, runs.\n"),
        (["list", "task"], "runs, but is followed by 'task'.\n"),
        (["list", "tasks", "--include=mine"], "Write `include=mine`."),
        (["list", "runs", "--results-dir"], "Write `results_dir=VALUE`."),
        (["list", "tasks", "x=y"], "There are: include=.\n"),
        (["list", "runs", "result_dir=x"], "Did you mean `results_dir`?"),
        (["list", "models", "include=nowhere"], "`include` must name a folder"),
        (["clean", "yes=maybe"], "`yes` must be true or false"),
        (
            ["clean", "results_dir=nosuch"],
            "must be a folder with runs, but nosuch",
        ),
        (["clean", "what=cache"], "set_aside, caches, all"),
        (["completion", "tcsh"], "not in 'tcsh'"),
    ],
)
def test_mistake_gets_its_remedy(words: list[str], remedy: str, capsys: Say) -> None:
    assert command.main(words) == 2
    assert remedy in capsys.readouterr().err


def test_lists_say_what_can_be_chosen(capsys: Say) -> None:
    for kind, line in {
        "tasks": ("gqa", "testdev_balanced", "accuracy", "128"),
        "models": ("llava-v1.5-7b", "vicuna_v1", "liuhaotian/llava-v1.5-7b"),
        "templates": ("chatml_direct", "mpt"),
    }.items():
        assert command.main(["list", kind]) == 0
        rows = [tuple(row.split()) for row in capsys.readouterr().out.splitlines()]
        assert any(row[: len(line)] == line for row in rows), kind


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "results"


def unfinished(folder: Path, command_line: object, number: int = 3) -> None:
    """A task as a killed run leaves it."""
    name = folder.name.partition(".")[0]
    made = write_task(folder.parent / "made", name, [1.0], environment={"command": command_line})
    made.rename(folder)
    made.parent.rmdir()
    (folder / "summary.json").unlink()
    (folder / "predictions.jsonl").write_text(number * "{}\n")


def test_runs_are_listed_with_how_to_go_on(results: Path, capsys: Say) -> None:
    write_task(results / "done", "gqa", [1.0, 0.0, 1.0, 1.0])
    begun = "python -m runners.eval task=pope 'run=my run' overwrite=true"
    unfinished(results / "killed" / "pope", begun)
    swept = "python -m runners.eval -m task=pope limit=1,2 overwrite=true"
    unfinished(results / "swept" / "pope", swept)
    content = json.loads((results / "swept" / "pope" / "manifest.json").read_text())
    content["history"] = [{"num_questions": 20}]
    (results / "swept" / "pope" / "manifest.json").write_text(json.dumps(content))
    unfinished(results / "strange" / "pope", "llava-evals eval; touch /tmp/x")
    unfinished(results / "foreign" / "pope", "rm -r .")
    (results / "broken" / "gqa").mkdir(parents=True)
    (results / "broken" / "gqa" / "manifest.json").write_text("{")
    (results / "broken" / "gqa" / "summary.json").write_text("{")
    assert command.main(["list", "runs"]) == 0
    said = capsys.readouterr().out
    rows = {line.split()[0]: line.split() for line in said.splitlines() if line}
    assert rows["done"][:3] == ["done", "gqa", "finished"]
    assert {"75.00", "4"} <= set(rows["done"])
    assert rows["killed"][2] == "unfinished"
    assert rows["killed"][-2] == "3"  # of how many, manifests of earlier versions do not say
    assert rows["swept"][-4:-1] == ["3", "/", "20"]
    assert rows["broken"][2] == "unreadable"
    assert "killed, pope: go on with python -m runners.eval task=pope 'run=my run'\n" in said
    assert f"swept, pope: go on with {swept}\n" in said
    assert "strange, pope: repeat the command that began it" in said
    assert "foreign, pope: repeat the command that began it" in said


def test_runs_that_were_moved_go_on_where_they_are(results: Path, capsys: Say) -> None:
    unfinished(results / "killed" / "pope", "llava-evals eval task=pope results_dir=/scratch/r")
    swept = "llava-evals eval -m task=pope 'results_dir=/scratch/${model.name}'"
    unfinished(results / "swept" / "pope", swept)
    results.rename(results.with_name("of-old"))
    assert command.main(["list", "runs", "results_dir=of-old"]) == 0
    said = capsys.readouterr().out
    assert "go on with llava-evals eval task=pope results_dir=of-old\n" in said
    assert f"go on with {swept}\n" in said


def test_list_prints_no_control_characters(results: Path, capsys: Say) -> None:
    write_task(results / "a\x1b[31mb", "gqa", [1.0])
    assert command.main(["list", "runs"]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_run_is_resumed_as_it_was_started(monkeypatch: pytest.MonkeyPatch) -> None:
    for started, expected in {
        "/venv/bin/llava-evals": "llava-evals eval task=gqa",
        "/site/llava_evals/__main__.py": "python -m llava_evals eval task=gqa",
        "/site/runners/eval.py": "python -m runners.eval task=gqa",
    }.items():
        monkeypatch.setattr(sys, "argv", [started, "task=gqa"])
        assert resume_command("runners.eval", is_begun=True, is_swept=False) == expected


def answered(folder: Path, kinds: str) -> None:
    """A task with a question for each letter: `a` has an answer, `f` failed, `x` was edited."""
    name = folder.name.partition(".")[0]
    made = write_task(folder.parent / "made", name, [1.0] * len(kinds))
    made.rename(folder)
    made.parent.rmdir()
    lines, traces = [], []
    for kind, line, trace in zip(
        kinds,
        read_lines(folder / "predictions.jsonl"),
        read_lines(folder / "trace.jsonl"),
        strict=True,
    ):
        if kind == "f":
            line["text"] = ""
            line["answer_id"] = answer_id(line["metadata"]["key"], "", line["model_id"])
            line["metadata"]["error"] = {"cause": "image_missing", "message": "It is gone."}
        if kind == "x":
            line["text"] = "no"
        else:
            trace["line_sha256"] = sha256_of_json(line)
        lines.append(line)
        traces.append(trace)
    for file, content in (("predictions.jsonl", lines), ("trace.jsonl", traces)):
        (folder / file).write_text("".join(json.dumps(line) + "\n" for line in content))


def judged(folder: Path, *question_ids: str) -> None:
    """What a judge replied, and one question that it gave no reply to."""
    place = folder / _folder_name("gpt-4", OPENAI_URL)
    place.mkdir()
    lines = [{"question_id": name, "content": "0.5"} for name in question_ids]
    silent = {"question_id": "silent", "content": "", "error": {"cause": "judge_silent"}}
    text = "".join(json.dumps(line) + "\n" for line in [*lines, silent])
    run_path(place, 0).write_text(text)


@pytest.mark.parametrize(
    ("before", "now", "kept"),
    [
        ("aaf", "aaa", ""),
        ("aaf", "aaf", ""),
        ("aaa", "faa", "gqa has nothing for 1 of its answers"),
        ("aaff", "aff", "gqa has nothing for 1 of its answers"),
        ("aa", "fff", "gqa has nothing for 2 of its answers"),
        ("ax", "aa", "gqa has nothing for 1 of its lines that were edited or cut off"),
        ("aa", "ax", "gqa has nothing for 1 of its answers"),
    ],
)
def test_clean_removes_what_each_question_has_another_answer_for(
    before: str, now: str, kept: str, results: Path, capsys: Say
) -> None:
    answered(results / "run" / "gqa", now)
    answered(results / "run" / "gqa.old-1", before)
    assert command.main(["clean", "yes=true"]) == 0
    assert kept in capsys.readouterr().out
    assert (results / "run" / "gqa.old-1").is_dir() == bool(kept)


@pytest.mark.parametrize("is_asked_again", [False, True])
def test_clean_keeps_replies_that_were_paid_for(
    is_asked_again: bool, results: Path, capsys: Say
) -> None:
    folder = results / "run" / "mmvet"
    for place in (folder, folder.with_name("mmvet.old-1")):
        answered(place, "aa")
    judged(folder.with_name("mmvet.old-1"), "1", "2")
    judged(folder, *(["1", "2"] if is_asked_again else ["1"]))
    assert command.main(["clean", "yes=true"]) == 0
    assert folder.with_name("mmvet.old-1").is_dir() != is_asked_again
    said = capsys.readouterr().out
    assert ("mmvet has nothing for 1 of its replies by a judge" in said) != is_asked_again


@pytest.mark.parametrize(
    ("now", "kept"), [("aa", "gqa has nothing for 1 of its scores"), ("aaa", "")]
)
def test_clean_keeps_scores_that_lie_there_alone(
    now: str, kept: str, results: Path, capsys: Say
) -> None:
    answered(results / "run" / "gqa", now)
    answered(results / "run" / "gqa.old-1", "aaa")
    (results / "run" / "gqa.old-1" / "predictions.jsonl").unlink()
    assert command.main(["clean", "yes=true"]) == 0
    assert kept in capsys.readouterr().out
    assert (results / "run" / "gqa.old-1").is_dir() == bool(kept)


def test_clean_keeps_lines_that_were_put_out_of_the_way(results: Path, capsys: Say) -> None:
    answered(results / "run" / "gqa", "aa")
    answered(results / "run" / "gqa.old-1", "aa")
    (results / "run" / "gqa.old-1" / "predictions.jsonl.spoiled").write_text("an answer\n")
    assert command.main(["clean", "yes=true"]) == 0
    assert "gqa has nothing for 1 of its lines that were edited" in capsys.readouterr().out
    assert (results / "run" / "gqa.old-1").is_dir()


@pytest.mark.parametrize("is_compared_again", [False, True])
def test_clean_keeps_verdicts_that_no_other_has_replaced(
    is_compared_again: bool, results: Path, capsys: Say
) -> None:
    run = results / "run"
    for place in (run / "gqa", run / "gqa.old-1"):
        answered(place, "aa")
    places = [run / "gqa.old-1/regress-base", *([run / "regress-base"] * is_compared_again)]
    for place in places:
        place.mkdir()
        (place / "verdict.json").write_text("{}")
    assert command.main(["clean", "yes=true"]) == 0
    kept = "gqa has nothing for 1 of its verdicts of a gate" in capsys.readouterr().out
    assert kept == (run / "gqa.old-1").is_dir() == (not is_compared_again)


def test_clean_keeps_what_cannot_be_read(results: Path, capsys: Say) -> None:
    answered(results / "run" / "gqa", "aa")
    answered(results / "run" / "gqa.old-1", "aa")
    (results / "run" / "gqa" / "manifest.json").write_text("{")
    assert command.main(["clean", "yes=true"]) == 0
    assert "what would be lost is not known" in capsys.readouterr().out
    assert (results / "run" / "gqa.old-1").is_dir()


def to_clean(results: Path) -> dict[str, Path]:
    """A run with what two overwrites set aside, and a cache."""
    answered(results / "run" / "gqa", "aaa")
    answered(results / "run" / "gqa.old-1", "aa")
    answered(results / "run" / "gqa.old-2", "aaaaa")
    (results / "run" / "notes.old-1").mkdir()
    demo = results.parent / "cache" / "llava-evals" / "demo"
    demo.mkdir(parents=True)
    (demo.parent / "other").mkdir()
    return {
        "replaced": results / "run" / "gqa.old-1",
        "demo": demo,
        "larger": results / "run" / "gqa.old-2",
        "run": results / "run" / "gqa",
        "notes": results / "run" / "notes.old-1",
        "other": demo.parent / "other",
    }


@pytest.mark.parametrize(
    ("what", "removed"),
    [
        ([], {"replaced"}),
        (["what=set_aside"], {"replaced"}),
        (["what=caches"], {"demo"}),
        (["what=all"], {"replaced", "demo"}),
    ],
)
def test_clean_empties_the_cache_of_all_projects_only_when_asked(
    what: list[str], removed: set[str], results: Path, capsys: Say
) -> None:
    folders = to_clean(results)
    assert command.main(["clean", "results_dir=results", "yes=true", *what]) == 0
    assert {name for name, folder in folders.items() if not folder.is_dir()} == removed
    assert ("shared by all results" in capsys.readouterr().out) == ("demo" not in removed)


@pytest.mark.parametrize(("answer", "is_removed"), [("y\n", True), ("n\n", False), ("", False)])
def test_clean_asks_and_keeps_what_nothing_replaced(
    answer: str, is_removed: bool, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: Say
) -> None:
    folders = to_clean(results)
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
    assert command.main(["clean", "what=all"]) == 0
    said = capsys.readouterr().out
    assert f"{folders['larger'].name}: gqa has nothing for 2 of its answers" in said
    left = {name for name, folder in folders.items() if folder.is_dir()}
    assert left == set(folders) - ({"replaced", "demo"} if is_removed else set())


def test_clean_unasked(results: Path, capsys: Say) -> None:
    folders = to_clean(results)
    assert command.main(["clean", "yes=true"]) == 0
    assert not folders["replaced"].exists()
    assert folders["larger"].exists()
    capsys.readouterr()
    assert command.main(["clean", "yes=true"]) == 0
    assert "There is nothing to remove." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["lead"], {"leaderboard"}),
        (["eval", "overw"], {"overwrite="}),
        (["eval", "overwrite="], {"overwrite=true", "overwrite=false"}),
        (["eval", "dtype=f"], {"dtype=float16", "dtype=float32"}),
        (["eval", "model=llava-v1.5-7b-l"], {"model=llava-v1.5-7b-lora"}),
        (["eval", "task=[gqa,po"], {"task=[gqa,pope"}),
        (
            ["eval", "-m", "quantization=none,n"],
            {"quantization=none,nf4", "quantization=none,none"},
        ),
        (["eval", "task=gqa", "tasks.gqa.sp"], {"tasks.gqa.split="}),
        (["eval", "generation.num"], {"generation.num_beams="}),
        (["eval", "device="], {"device=cpu", "device=cuda"}),
        (["bench", "dev"], {"device="}),
        (["bench", "device="], {"device=cpu", "device=cuda"}),
        (["bench", "dtype=f"], {"dtype=float16", "dtype=float32"}),
        (["eval", "canary=o"], {"canary=on", "canary=off"}),
        (["eval", "model.attention=s"], {"model.attention=sdpa"}),
        (["eval", "model.tf32="], {"model.tf32=true", "model.tf32=false"}),
        (["eval", "log="], {"log=plain", "log=json"}),
        (["regress", "mo"], set()),
        (["list", "te"], {"templates"}),
        (["clean", "what=a"], {"what=all"}),
        (["nothing", "x"], set()),
    ],
)
def test_words_are_completed(words: list[str], expected: set[str]) -> None:
    assert set(completions(words)) == expected


def test_names_of_runs_are_completed(results: Path) -> None:
    for name in ("one", "other", "third"):
        write_task(results / name, "gqa", [1.0])
    assert completions(["regress", "baseline=o"]) == ["baseline=one", "baseline=other"]
    assert completions(["report", "runs=[one,t"]) == ["runs=[one,third"]


@pytest.mark.few_cases(1)
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("llava-evals lead", ["leaderboard"]),
        ("llava-evals eval model=llava-v1.5-7b-l", ["llava-v1.5-7b-lora"]),
        ("llava-evals regress max_dr", ["max_drop="]),
    ],
)
def test_bash_completes(line: str, expected: list[str], tmp_path: Path) -> None:
    """With the words as bash breaks them: what is behind the last `=` alone is completed."""
    starter = tmp_path / "llava-evals"
    starter.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m llava_evals "$@"\n')
    starter.chmod(0o755)
    script = (
        f'PATH="{tmp_path}:$PATH"\neval "$(llava-evals completion bash)"\n'
        f"COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}; _llava_evals\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "-c", script],
        env=program_environment(tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == expected

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from PIL import Image

from runners.in_training.checkpoint_folders import last_change_s
from runners.options import program
from runners.watch import watch
from tests.checkpoints import make_checkpoint
from tests.runners.conftest import TIMEOUT_S, Shell, Start, read_lines

Save = Callable[[str], Path]
Begin = Callable[[str], "subprocess.Popen[str]"]

NUM_QUESTIONS = 4
OPTIONS = (
    "task=custom tasks.custom.questions=questions.jsonl tasks.custom.images=images "
    "tasks.custom.scorer=exact generation.max_new_tokens=2 runner.num_threads=1"
)
WATCH = f"python -m runners.watch dir=runs {OPTIONS} poll_s=0.2 quiet_s=1"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Questions about one image, and the empty folder that a training is going to write into."""
    (tmp_path / "images").mkdir()
    (tmp_path / "runs").mkdir()
    Image.new("RGB", (40, 30), "red").save(tmp_path / "images" / "red.png")
    lines = [
        {"question_id": i, "image": "red.png", "text": f"What is {i}?", "answer": "red"}
        for i in range(NUM_QUESTIONS)
    ]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


@pytest.fixture
def save(workspace: Path, tiny_tower: Path, tiny_checkpoint: Path) -> Save:
    """Writes a complete checkpoint, as a training run would, and returns its folder."""

    def write(name: str) -> Path:
        folder = workspace / "runs" / name
        folder.mkdir(parents=True)
        shutil.copy(tiny_checkpoint / "tokenizer.model", folder)
        shutil.copy(tiny_checkpoint / "tokenizer_config.json", folder)
        seed = int(re.sub(r"\D", "", name) or 0)
        return make_checkpoint(folder, tiny_tower, seed=seed, sharded=True)

    return write


@pytest.fixture
def begin(start: Start, workspace: Path) -> Iterator[Begin]:
    """Starts a watch, which ends with the test."""
    programs = []

    def run(command: str) -> subprocess.Popen[str]:
        programs.append(start(command, workspace))
        return programs[-1]

    yield run
    for started in programs:
        started.kill()
        started.communicate()


def wait_for(path: Path, program: subprocess.Popen[str], num_lines: int = 1) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not path.exists() or path.read_bytes().count(b"\n") < num_lines:
        assert program.poll() is None, program.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def stop(program: subprocess.Popen[str], signum: int = signal.SIGTERM) -> str:
    program.send_signal(signum)
    return program.communicate(timeout=TIMEOUT_S)[1]


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("names", [[], pytest.param(["llava-v1.5-b"], marks=pytest.mark.slow)])
def test_checkpoints_are_evaluated_once_when_they_are_whole(
    names: list[str], call: Shell, begin: Begin, save: Save, workspace: Path
) -> None:
    """One that is written slowly, beside others that are whole from the beginning."""
    results = workspace / "results"
    late = save("llava-v1.5-a/checkpoint-500")
    shard = late / "model-00002-of-00003.safetensors"
    content = shard.read_bytes()
    shard.write_bytes(content[: len(content) // 2])
    for name in names:
        save(f"{name}/checkpoint-500")
    (workspace / "runs" / "clip").mkdir()
    (workspace / "runs" / "clip" / "config.json").write_text('{"model_type": "clip"}')

    program = begin(WATCH)
    said = ""
    while "is incomplete" not in said:
        said += (line := program.stderr.readline())
        assert line, "it has ended"
    first = [results / f"{name}_checkpoint-500-max_new_tokens2" / "custom" for name in names]
    for folder in first:
        wait_for(folder / "summary.json", program)
    second = results / "llava-v1.5-a_checkpoint-500-max_new_tokens2" / "custom"
    assert not second.parent.exists()
    shard.write_bytes(content)
    wait_for(second / "summary.json", program)
    said += stop(program)
    assert program.returncode == 143
    assert said.count("model loaded in") == len(names) + 1
    assert said.count("is incomplete: model-00002-of-00003.safetensors is not whole") == 1
    assert "Traceback" not in said
    for folder in (*first, second):
        summary = json.loads((folder / "summary.json").read_text())
        assert summary["num_answered"] == NUM_QUESTIONS
    runs = {folder.parent.name for folder in (*first, second)}
    assert {path.name for path in results.iterdir()} == runs

    again = call(f"{WATCH} once=true", workspace)
    assert again.code == 0, again.stderr
    assert again.stderr.count("evaluated before, as run") == len(runs)
    assert "runners.eval" not in again.stderr


@pytest.mark.slow
def test_checkpoint_is_left_alone_until_it_has_been_quiet(
    begin: Begin, save: Save, workspace: Path
) -> None:
    complete = save("llava-v1.5-a").rename(workspace / "elsewhere")
    program = begin(WATCH.replace("quiet_s=1", "quiet_s=3"))
    while "watching" not in (line := program.stderr.readline()):
        assert line, "it has ended"
    (complete / "config.json").touch()
    folder = complete.rename(workspace / "runs" / "llava-v1.5-a")
    while "evaluating as run" not in (line := program.stderr.readline()):
        assert line, "it has ended"
    quiet_s = time.time() - last_change_s(folder)
    stop(program)
    assert quiet_s >= 3


@pytest.mark.slow
def test_run_is_that_of_a_direct_evaluation(shell: Shell, save: Save, workspace: Path) -> None:
    folder = save("llava-v1.5-mine/checkpoint-7")
    direct = shell(
        f"python -m runners.eval {OPTIONS} model=checkpoint model.path={folder}", workspace
    )
    assert direct.code == 0, direct.stderr
    watched = shell(f"{WATCH} once=true", workspace)
    assert watched.code == 0, watched.stderr
    assert "evaluated before" in watched.stderr


@pytest.mark.slow
def test_other_weights_under_the_same_name_are_not_taken_for_evaluated(
    shell: Shell, save: Save, workspace: Path
) -> None:
    folder = save("llava-v1.5-a")
    command = f"{WATCH} once=true quiet_s=0"
    assert shell(command, workspace).code == 0
    shutil.rmtree(folder)
    save("1").rename(folder)
    other = shell(command, workspace)
    assert other.code == 1
    assert "holds answers of another run: `checkpoint." in other.stderr
    assert "ended with" not in other.stderr
    remedy = other.stderr.partition("set the stored ones aside: ")[2].splitlines()[0]
    assert shell(remedy.removesuffix("."), workspace).code == 0, remedy
    assert "evaluated before" in shell(command, workspace).stderr


@pytest.mark.slow
def test_other_questions_and_options_are_not_taken_for_evaluated(
    save: Save,
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    save("llava-v1.5-a")
    options = f"dir=runs {OPTIONS} quiet_s=0"
    assert in_process(f"{options} once=true", workspace, monkeypatch) == 0
    assert "evaluated as run" in capfd.readouterr().err
    assert in_process(f"{options} once=true", workspace, monkeypatch) == 0
    assert "evaluated before, as run" in capfd.readouterr().err

    others = (workspace / "questions.jsonl").read_text().replace("What is", "Who is")
    (workspace / "others.jsonl").write_text(others)
    for option, named in (
        ("seed=1", "`seed` is 0 there and 1 here"),
        ("tasks.custom.questions=others.jsonl", "others.jsonl"),
        ("engine.replay=off", '`engine.replay` is "near_ties" there and "off" here'),
    ):
        assert in_process(f"{options} once=true {option}", workspace, monkeypatch) == 1
        said = capfd.readouterr().err
        assert named in said
        assert "keep these results elsewhere with results_dir=DIR, or set the stored ones" in said
        assert "evaluated" not in said.replace("not evaluated", "")
        assert "ended with" not in said

    # what the identity does not hold is left to the evaluation, which scores or asks again
    assert (
        in_process(f"{options} once=true tasks.custom.scorer=contains", workspace, monkeypatch) == 0
    )
    assert "no model is loaded" in capfd.readouterr().err
    Image.new("RGB", (40, 30), "blue").save(workspace / "images" / "red.png")
    assert in_process(f"{options} once=true", workspace, monkeypatch) == 0
    assert f"{NUM_QUESTIONS} of the {NUM_QUESTIONS} questions whose image files have changed" in (
        capfd.readouterr().err
    )


@pytest.mark.slow
def test_failed_checkpoint_is_reported_once_and_tried_again_when_it_changes(
    begin: Begin, save: Save, workspace: Path
) -> None:
    folder = save("llava-v1.5-a")
    config = (folder / "config.json").read_text()
    tower = json.loads(config)["mm_vision_tower"]
    (folder / "config.json").write_text(config.replace(tower, "/nowhere/clip"))
    program = begin(WATCH.replace("quiet_s=1", "quiet_s=0"))
    log = workspace / "results" / "llava-v1.5-a-max_new_tokens2" / "custom" / "summary.json"
    lines = []
    while "ended with exit code" not in "".join(lines):
        lines.append(program.stderr.readline())
        assert program.poll() is None
    time.sleep(1)
    (folder / "config.json").write_text(config)
    wait_for(log, program)
    said = "".join(lines) + stop(program, signal.SIGINT)
    assert program.returncode == 130
    assert said.count("ended with exit code 2") == 1
    assert said.count("model loaded in") == 1


@pytest.mark.slow
def test_signal_ends_the_evaluation_too(begin: Begin, save: Save, workspace: Path) -> None:
    lines = [
        {"question_id": i, "image": "red.png", "text": f"What is {i}?", "answer": "red"}
        for i in range(3000)
    ]
    (workspace / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    save("llava-v1.5-a")
    command = f"{WATCH} quiet_s=0 engine=sequential"
    program = begin(command)
    answers = workspace / "results" / "llava-v1.5-a-max_new_tokens2" / "custom/predictions.jsonl"
    wait_for(answers, program, num_lines=3)
    children = Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()
    said = stop(program)
    assert program.returncode == 143
    assert children
    assert not any(is_running(int(child)) for child in children)
    assert "To go on: python -m llava_evals eval" in said
    assert "Traceback" not in said
    assert 3 <= len(read_lines(answers)) < len(lines)


@pytest.mark.slow
def test_run_that_another_process_writes_is_waited_for(
    begin: Begin, save: Save, workspace: Path
) -> None:
    save("llava-v1.5-a")
    run_dir = workspace / "results" / "llava-v1.5-a-max_new_tokens2"
    run_dir.mkdir(parents=True)
    lock = FileLock(run_dir / ".custom.lock")
    with lock:
        program = begin(f"{WATCH} once=true quiet_s=0")
        said = ""
        while "another process is writing its run" not in said:
            assert program.poll() is None
            said += program.stderr.readline()
        time.sleep(0.5)
        assert program.poll() is None
    program.communicate(timeout=TIMEOUT_S)
    assert program.returncode == 0
    assert (run_dir / "custom" / "summary.json").exists()


def in_process(options: str, workspace: Path, monkeypatch: pytest.MonkeyPatch, *extra: str) -> int:
    monkeypatch.chdir(workspace)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    words = [*options.split(), *extra]
    monkeypatch.setattr(sys, "argv", ["watch.py", *words])
    return program.run("watch", watch, words)


@pytest.mark.few_cases(3)
@pytest.mark.parametrize(
    ("options", "named"),
    [
        (f"{OPTIONS}", "dir"),
        (f"dir=nowhere {OPTIONS}", "`dir` must be a folder"),
        ("dir=runs", "`task` must name"),
        (f"dir=runs {OPTIONS} poll_s=0", "`poll_s`"),
        (f"dir=runs {OPTIONS} poll_s=nan", "`poll_s`"),
        (f"dir=runs {OPTIONS} quiet_s=-1", "`quiet_s`"),
        (f"dir=runs {OPTIONS} limits=3", "limits"),
        (f"dir=runs {OPTIONS} limit=0", "`limit`"),
        (f"dir=runs {OPTIONS} run=mine", "`run=mine` cannot be given"),
        (f"dir=runs {OPTIONS} model=llava-demo", "`model=llava-demo` cannot be given"),
        (f"dir=runs {OPTIONS} model.path=a", "`model.path=a` cannot be given"),
        (f"dir=runs {OPTIONS} +run=mine", "`+run=mine` cannot be given"),
        (f"dir=runs {OPTIONS} runner.shard=1/2", "`runner.shard` cannot be given"),
        (f"dir=runs {OPTIONS} overwrite=true", "`overwrite` cannot be given"),
        (f"dir=runs {OPTIONS} ++overwrite=true", "use another results_dir=DIR"),
        (f"dir=runs {OPTIONS} dry_run=true", "`dry_run` cannot be given"),
        (f"dir=runs {OPTIONS} manifest=results/x", "`manifest` cannot be given"),
        (f"-m dir=runs {OPTIONS} limit=1,2", "`-m` cannot be used"),
        ("dir=runs task=gqa", "testdev_balanced"),
    ],
)
def test_wrong_option_stops_before_anything_is_evaluated(
    options: str,
    named: str,
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert in_process(options, workspace, monkeypatch, "once=true") == 2
    said = capsys.readouterr().err
    assert named in said
    assert "Traceback" not in said
    assert not (workspace / "results").exists()


@pytest.mark.few_cases(1)
@pytest.mark.parametrize("options", ["log=json", "log=json quiet=true"])
def test_each_line_of_a_watch_is_an_object(
    options: str,
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for folder, level in (("runs", "warning"), ("nowhere", "error")):
        in_process(f"dir={folder} {OPTIONS} once=true {options}", workspace, monkeypatch)
        lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        assert lines[-1]["level"] == level
        assert len(lines) == 1 or "quiet" not in options


def test_quiet_watch_tells_of_an_incomplete_checkpoint(
    save: Save, workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (save("llava-v1.5-a") / "tokenizer.model").unlink()
    options = f"dir=runs {OPTIONS} once=true quiet_s=0 quiet=true"
    assert in_process(options, workspace, monkeypatch) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_nothing_there_is_nothing_to_do(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert in_process(f"dir=runs {OPTIONS} once=true", workspace, monkeypatch) == 0
    assert "there is no checkpoint in runs" in capsys.readouterr().err


@pytest.mark.slow
def test_weights_whose_hash_is_not_known_are_read_before_an_evaluation_is_told(
    save: Save,
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """As after `clean`, or on another machine; a nightly job tells nothing of it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(workspace / "cache"))
    save("llava-v1.5-a")
    options = f"dir=runs {OPTIONS} once=true quiet_s=0"
    assert in_process(options, workspace, monkeypatch) == 0
    assert "model.path=runs/llava-v1.5-a run=llava-v1.5-a" in capfd.readouterr().err
    for option, said in (("log=json", "evaluated before, as run"), ("quiet=true", "")):
        shutil.rmtree(workspace / "cache" / "llava-evals" / "digests")
        assert in_process(f"{options} {option}", workspace, monkeypatch) == 0
        told = capfd.readouterr()
        assert told.out == ""
        assert said in told.err
        assert "evaluating" not in told.err
        assert all(json.loads(line)["level"] == "info" for line in told.err.splitlines())
        assert bool(told.err) == bool(said)

    summary = workspace / "results" / "llava-v1.5-a-max_new_tokens2" / "custom" / "manifest.json"
    summary.write_text("{")
    assert in_process(f"{options} quiet=true", workspace, monkeypatch) == 1
    said = capfd.readouterr().err
    assert "A watch takes no run= and no overwrite=" in said
    assert "by hand to: python -m runners.eval task=custom" in said


@pytest.mark.slow
def test_disk_without_locks_is_left_to_the_evaluation(
    save: Save, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save("llava-v1.5-a")
    run_dir = workspace / "results" / "llava-v1.5-a-max_new_tokens2"
    run_dir.mkdir(parents=True)
    (run_dir / ".custom.lock").touch()

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert in_process(f"dir=runs {OPTIONS} once=true quiet_s=0", workspace, monkeypatch) == 0
    assert (run_dir / "custom" / "summary.json").exists()


def test_incomplete_checkpoint_fails_once(
    save: Save,
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (save("llava-v1.5-a") / "tokenizer.model").unlink()
    assert in_process(f"dir=runs {OPTIONS} once=true quiet_s=0", workspace, monkeypatch) == 1
    assert "tokenizer.model or tokenizer.json is missing" in capsys.readouterr().err
    assert not (workspace / "results").exists()

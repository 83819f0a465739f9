"""Full disks, folders of somebody else, and two runs at once: the run stops and says why."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evals.records import Cause, Failure
from runners.errors import ConfigError, StoreError
from runners.evaluation.resuming import TaskRun
from runners.storage.answer_store import SYNC_EVERY_S
from tests.faults.storing import NUM_QUESTIONS, store_answers, write_questions
from tests.faults.unprivileged import run_unprivileged
from tests.runners.conftest import CHECKOUT, Finished, Shell, Start, read_lines
from tests.runners.task_runs import ENVIRONMENT, IDENTITY, build_task_run

FILES = ("predictions.jsonl", "scores.jsonl")


def paragraphs(text: str) -> int:
    return len([part for part in text.strip().split("\n\n") if part])


def whole_lines(path: Path) -> int:
    """The number of lines, each of which must be whole."""
    if not path.exists():
        return 0
    content = path.read_bytes()
    assert content.endswith(b"\n") or not content
    return len(read_lines(path))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a run that had all the room it needed."""
    folder = tmp_path_factory.mktemp("whole")
    write_questions(folder)
    store_answers(folder)
    return {name: (folder / "run/custom" / name).read_bytes() for name in FILES}


@pytest.mark.few_cases(1)
@pytest.mark.parametrize("share", [0.1, 0.4, 0.6, 0.8, 0.97])
def test_file_that_may_not_grow_stops_the_run_with_whole_lines(
    share: float, whole: dict[str, bytes], tmp_path: Path
) -> None:
    """The limit is a share of the largest file's size: of the manifest, the answers, the scores."""
    num_bytes = int(share * max(map(len, whole.values())))
    write_questions(tmp_path)
    script = (
        "import resource, sys, tests.faults.storing as storing\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({num_bytes}, {num_bytes}))\n"
        f"sys.exit(storing.main([{str(tmp_path)!r}]))\n"
    )
    stopped = subprocess.run(
        [sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert stopped.returncode == 1
    assert "run/custom cannot be written: [Errno 27]" in stopped.stderr
    assert "same command goes on" in stopped.stderr
    task = tmp_path / "run/custom"
    num_stored = whole_lines(task / "predictions.jsonl")
    assert num_stored < NUM_QUESTIONS or not (task / "summary.json").exists()
    assert num_stored <= whole_lines(task / "trace.jsonl") <= num_stored + 1
    store_answers(tmp_path)
    assert {name: (task / name).read_bytes() for name in FILES} == whole
    assert [path.name for path in task.glob(".*.tmp")] == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 KiB that is unmounted in the end."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(place)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_full_disk_stops_the_run_and_room_lets_it_go_on(
    whole: dict[str, bytes], small_disk: Path
) -> None:
    write_questions(small_disk)
    (small_disk / "run/custom").mkdir(parents=True)
    ballast = small_disk / "ballast"
    free = os.statvfs(small_disk)
    ballast.write_bytes(bytes(free.f_bavail * free.f_frsize))
    os.truncate(ballast, ballast.stat().st_size - 8192)  # two pages: a manifest and a trace
    with pytest.raises(StoreError, match=r"No space left .* Make room there"):
        store_answers(small_disk)
    task = small_disk / "run/custom"
    assert whole_lines(task / "predictions.jsonl") <= whole_lines(task / "trace.jsonl")
    with pytest.raises(StoreError, match="Make room there"):
        store_answers(small_disk)
    ballast.unlink()
    store_answers(small_disk)
    assert {name: (task / name).read_bytes() for name in FILES} == whole


@pytest.mark.slow
def test_program_on_a_full_disk_exits_with_one_paragraph(
    shell: Shell, demo_run: Finished, demo_options: str, small_disk: Path, tmp_path: Path
) -> None:
    command = f"python -m runners.eval {demo_options} run=demo results_dir={small_disk}"
    stopped = shell(command, tmp_path)
    assert stopped.code == 1, stopped.stderr
    assert stopped.stderr.count("No space left") == 1
    assert "Make room there" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert "Logging error" not in stopped.stderr
    assert paragraphs(stopped.stderr) == 1
    for task in ("gqa", "vqav2"):
        whole_lines(small_disk / "demo" / task / "predictions.jsonl")
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    finished = shell(command, tmp_path)
    assert finished.code == 0, finished.stderr
    for task in ("gqa", "vqav2"):
        for name in FILES:
            expected = demo_run.workspace / "results/demo" / task / name
            assert (small_disk / "demo" / task / name).read_bytes() == expected.read_bytes()


@pytest.mark.slow
def test_program_whose_files_may_not_grow_exits_with_one_paragraph(
    demo_run: Finished, demo_options: str, shell: Shell, tmp_path: Path
) -> None:
    limit = (demo_run.workspace / "results/demo/gqa/predictions.jsonl").stat().st_size // 2048
    command = f"python -m runners.eval {demo_options} run=demo"
    stopped = shell(f"ulimit -f {limit} && {command}", tmp_path)  # in blocks of 1024 bytes
    assert stopped.code == 1, stopped.stderr
    assert "gqa cannot be written: [Errno 27] File too large" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert paragraphs(stopped.stderr) == 1
    finished = shell(command, tmp_path)
    assert finished.code == 0, finished.stderr
    for task in ("gqa", "vqav2"):
        for name in FILES:
            expected = demo_run.workspace / "results/demo" / task / name
            mine = tmp_path / "results/demo" / task / name
            assert mine.read_bytes() == expected.read_bytes()


def evaluation(folder: Path) -> list[str]:
    return [
        *("-m", "runners.eval", "task=custom", "run=run"),
        f"tasks.custom.questions={folder}/questions.jsonl",
    ]


def forbid(path: Path) -> None:
    path.chmod(0o555 if path.is_dir() else 0)


PLACES = {
    "run": "run cannot be",
    "run/custom": "custom cannot be",
    "run/custom/predictions.jsonl": "predictions.jsonl cannot be",
    "run/custom/trace.jsonl": "trace.jsonl cannot be",
    "run/custom/manifest.json": "manifest.json cannot be",
    "questions.jsonl": "questions.jsonl",
}


def as_stored(folder: Path) -> Callable[[Finished, str], None]:
    """Stores a run; returns what checks that a file of it was refused and none was changed."""
    write_questions(folder)
    store_answers(folder)
    path = folder / "run/custom/predictions.jsonl"
    before = path.read_bytes()

    def check(refused: Finished, name: str) -> None:
        (folder / name).chmod(0o755)
        assert refused.code == 2, refused.stderr
        assert PLACES[name] in refused.stderr
        assert "Traceback" not in refused.stderr
        assert paragraphs(refused.stderr) == 1
        assert path.read_bytes() == before

    return check


@pytest.mark.few_cases(1)
@pytest.mark.parametrize("name", PLACES)
def test_what_may_not_be_read_or_written_is_bad_input(name: str, tmp_path: Path) -> None:
    check = as_stored(tmp_path)
    forbid(tmp_path / name)
    words = ["-m", "tests.faults.storing", str(tmp_path)]
    check(run_unprivileged(*words, workspace=tmp_path), name)


@pytest.mark.slow
def test_runs_that_may_not_be_read_cost_their_own_figures(tmp_path: Path) -> None:
    write_questions(tmp_path)
    store_answers(tmp_path)
    for name in ("closed", "task", "manifest", "answers"):
        shutil.copytree(tmp_path / "run", tmp_path / name)
    places = ("closed", "task/custom", "manifest/custom/manifest.json")
    for place in (*places, "answers/custom/predictions.jsonl"):
        (tmp_path / place).chmod(0)
    script = (
        "import runners; frame = runners.read('.').runs\n"
        "print(*(f'{row.run}:{row.state}' for row in frame.itertuples()))"
    )
    listed = run_unprivileged(
        "-m", "llava_evals", "list", "runs", "results_dir=.", workspace=tmp_path
    )
    board = run_unprivileged("-m", "runners.leaderboard", "results_dir=.", workspace=tmp_path)
    read = run_unprivileged("-c", script, workspace=tmp_path)
    index = run_unprivileged(
        "-m", "runners.report", "runs=all", "results_dir=.", workspace=tmp_path
    )
    for place in places[:2]:
        (tmp_path / place).chmod(0o755)
    assert "answers:unreadable manifest:unreadable run:finished" in read.stdout, read.stderr
    assert (listed.code, board.code, read.code) == (0, 0, 0)
    assert index.code == 2
    assert (tmp_path / "run/report.html").exists()
    for program in (listed, board, read, index):
        assert "closed cannot be read: Permission denied. It is passed over." in program.stderr
        assert "Traceback" not in program.stderr


@pytest.mark.slow
def test_live_pages_go_on_beside_a_folder_that_may_not_be_listed(tmp_path: Path) -> None:
    write_questions(tmp_path)
    store_answers(tmp_path)
    shutil.copytree(tmp_path / "run", tmp_path / "unlisted")
    (tmp_path / "unlisted/custom").chmod(0o111)
    script = (
        "from pathlib import Path; from runners.options.given import TaskChoice\n"
        "from runners.view.pages import ServedRuns\n"
        "runs = ServedRuns(Path('.'), TaskChoice(), only=None, thumbnail_px=64)\n"
        "for parts in (('',), ('run', 'run', ''), ('run', 'unlisted', '')):\n"
        "    print(int(runs.reply(parts, '').status))"
    )
    served = run_unprivileged("-c", script, workspace=tmp_path)
    (tmp_path / "unlisted/custom").chmod(0o755)
    assert served.stdout.split() == ["200", "200", "404"], served.stderr
    told = "unlisted/custom cannot be read (Permission denied) and is not shown"
    assert served.stderr.count(told) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["run", "run/custom/trace.jsonl", "questions.jsonl"])
def test_program_says_what_may_not_be_read_or_written(name: str, tmp_path: Path) -> None:
    check = as_stored(tmp_path)
    forbid(tmp_path / name)
    check(run_unprivileged(*evaluation(tmp_path), "results_dir=.", workspace=tmp_path), name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["config.json", "tokenizer.model", "model.safetensors"])
def test_checkpoint_that_may_not_be_read_is_bad_input(name: str, tmp_path: Path) -> None:
    write_questions(tmp_path)
    shutil.copytree(CHECKOUT / "llava/demo", tmp_path / "models")
    forbid(tmp_path / "models/llava-demo" / name)
    options = ["model=checkpoint", "model.path=models/llava-demo"]
    refused = run_unprivileged(*evaluation(tmp_path), *options, workspace=tmp_path)
    assert refused.code == 2, refused.stderr
    assert f"models/llava-demo/{name}" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "results/run/custom").exists()


@pytest.mark.slow
def test_results_on_a_read_only_place_are_bad_input(tmp_path: Path) -> None:
    write_questions(tmp_path)
    (tmp_path / "results").mkdir()
    forbid(tmp_path / "results")
    refused = run_unprivileged(*evaluation(tmp_path), workspace=tmp_path)
    assert refused.code == 2, refused.stderr
    assert "Keep results elsewhere with results_dir=DIR" in refused.stderr
    assert paragraphs(refused.stderr) == 1


def locked_run(folder: Path) -> TaskRun:
    spec = {"_target_": "evals.tasks.custom.Custom", "questions": str(folder / "questions.jsonl")}
    task_run = build_task_run(spec, folder / "run")
    task_run.lock()
    return task_run


def test_what_a_killed_process_left_is_removed_by_whoever_holds_the_folder(tmp_path: Path) -> None:
    write_questions(tmp_path)
    store_answers(tmp_path)
    left = tmp_path / f"run/custom/.manifest.json.{os.getppid()}.tmp"
    left.write_text("half a manifest")
    with locked_run(tmp_path):
        assert not left.exists()
        left.write_text("written meanwhile")
        with pytest.raises(ConfigError, match="another process"):
            locked_run(tmp_path)
        assert left.exists()  # the folder is not that of the second one
    store_answers(tmp_path)  # a complete run, of which nothing is written anew
    assert not left.exists()


def answer_without(folder: Path, removed: Path, asked: list[str]) -> None:
    """Removes something after three questions, and goes on to the last one if it may."""
    with locked_run(folder) as task_run:
        task_run.check(IDENTITY)
        task_run.open()
        task_run.begin(IDENTITY, ENVIRONMENT)
        for number, sample in enumerate(task_run.pending()):
            if number == 3:
                shutil.rmtree(removed) if removed.is_dir() else removed.unlink()
            failure = Failure(key=sample.key, cause=Cause.ERROR, message="no")
            task_run.record(sample, failure, worker="w")
            asked.append(sample.key)
            time.sleep(SYNC_EVERY_S / 3)


@pytest.mark.parametrize(
    "removed", ["run", pytest.param("run/custom/predictions.jsonl", marks=pytest.mark.slow)]
)
def test_folder_that_is_removed_meanwhile_stops_the_run(removed: str, tmp_path: Path) -> None:
    write_questions(tmp_path)
    asked: list[str] = []
    with pytest.raises(StoreError, match=r"/run/custom/.*jsonl was removed while .* same command"):
        answer_without(tmp_path, tmp_path / removed, asked)
    assert 3 <= len(asked) < NUM_QUESTIONS  # before the store was closed
    store_answers(tmp_path)
    assert whole_lines(tmp_path / "run/custom/predictions.jsonl") == NUM_QUESTIONS


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP])
def test_disk_without_locks_is_refused(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    write_questions(tmp_path)
    with pytest.raises(ConfigError, match=r"without locks.*results_dir=DIR"):
        locked_run(tmp_path)


def test_second_run_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    write_questions(tmp_path)
    with locked_run(tmp_path), pytest.raises(ConfigError) as refused:
        locked_run(tmp_path)
    assert str(tmp_path / "run/.custom.lock") in str(refused.value)
    assert "run=NAME" in str(refused.value)
    with locked_run(tmp_path):  # and it is free again
        pass


@pytest.mark.slow
def test_second_program_at_once_is_refused_and_the_first_is_not_disturbed(
    start: Start, shell: Shell, demo_run: Finished, demo_options: str, tmp_path: Path
) -> None:
    command = f"python -m runners.eval {demo_options} run=demo"
    first = start(command, tmp_path)
    while not (tmp_path / "results/demo/gqa/predictions.jsonl").exists():
        assert first.poll() is None
        time.sleep(0.01)
    os.kill(first.pid, 19)  # SIGSTOP: it holds the folder for as long as this takes
    second = shell(command, tmp_path)
    os.kill(first.pid, 18)
    first.communicate(timeout=120)
    assert second.code == 2
    assert "results/demo/.gqa.lock" in second.stderr
    assert first.returncode == 0
    for name in FILES:
        expected = demo_run.workspace / "results/demo/gqa" / name
        assert (tmp_path / "results/demo/gqa" / name).read_bytes() == expected.read_bytes()

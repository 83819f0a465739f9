"""One writer a folder, also where somebody removes the lock file that says so."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from evals.records import Cause, Failure
from runners.errors import ConfigError, StoreError
from runners.storage.lock import FolderLock, set_aside
from tests.runners.evaluation.test_resuming import answer_pending, opened
from tests.runners.task_runs import ENVIRONMENT, IDENTITY


def remove(lock: Path) -> None:
    lock.unlink()


def replace(lock: Path) -> None:
    """As a synchronized folder does, or a second run after the file was removed."""
    lock.unlink()
    lock.touch()


def move(lock: Path) -> None:
    lock.rename(lock.with_name("elsewhere"))


@pytest.mark.parametrize("damage", [remove, replace, move])
def test_lock_that_was_removed_is_noticed(damage: Callable[[Path], None], tmp_path: Path) -> None:
    with FolderLock(tmp_path / "run/gqa") as lock:
        lock.require_held()
        damage(tmp_path / "run/.gqa.lock")
        with pytest.raises(StoreError, match=r"\.gqa\.lock was removed .* the same command"):
            lock.require_held()
    with FolderLock(tmp_path / "run/gqa") as lock:
        lock.require_held()


def test_first_run_stops_where_a_second_got_its_folder(questions: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    stops = pytest.raises(StoreError, match="this one stops")
    with stops, opened(questions, folder) as first:
        [one, *others] = first.pending()
        first.begin(IDENTITY, ENVIRONMENT)
        failure = Failure(key=one.key, cause=Cause.ERROR, message="no")
        first.record(one, failure, worker="w")
        first.sync()
        (folder / ".custom.lock").unlink()
        with opened(questions, folder) as second:
            for write in (
                lambda: first.record(others[0], failure, worker="w"),
                lambda: first.finish(None),
                lambda: first.begin(IDENTITY, ENVIRONMENT),
            ):
                with pytest.raises(StoreError, match="this one stops"):
                    write()
            assert answer_pending(second) == ["1", "3", "4"]
            assert second.finish(None).num_answered == 3
    lines = (folder / "custom/predictions.jsonl").read_text().splitlines()
    assert len(lines) == 4  # with the one whose image is missing


@pytest.mark.parametrize("name", ["predictions.jsonl", "trace.jsonl", "summary.json"])
def test_result_that_is_a_link_is_refused_before_anything_is_asked(
    name: str, questions: Path, tmp_path: Path
) -> None:
    with opened(questions, tmp_path / "run") as task_run:
        answer_pending(task_run)
        task_run.finish(None)
    path = tmp_path / "run/custom" / name
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    before = (tmp_path / "elsewhere").read_bytes()
    with pytest.raises(ConfigError, match=f"{name} is a link"), opened(questions, tmp_path / "run"):
        pass
    assert path.is_symlink()
    assert (tmp_path / "elsewhere").read_bytes() == before
    # what the message advises: the folder may be a link
    path.unlink()
    (tmp_path / "elsewhere").rename(path)
    shutil.move(tmp_path / "run/custom", tmp_path / "disk")
    (tmp_path / "run/custom").symlink_to(tmp_path / "disk")
    with opened(questions, tmp_path / "run") as task_run:
        assert task_run.pending() == []
        task_run.finish(None)
    assert (tmp_path / "run/custom").is_symlink()


def test_two_links_to_one_folder_have_one_lock(tmp_path: Path) -> None:
    (tmp_path / "real/gqa").mkdir(parents=True)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "gqa").symlink_to(tmp_path / "real/gqa")
    with (
        FolderLock(tmp_path / "a/gqa"),
        pytest.raises(ConfigError, match="another process"),
        FolderLock(tmp_path / "b/gqa"),
    ):
        pass


NAMES = ("predictions.jsonl", "predictions.jsonl.spoiled", "trace.jsonl.spoiled", "summary.json")


@pytest.mark.parametrize("name", [*NAMES, "../run.log"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("elsewhere")])
def test_what_is_no_file_is_not_written_to(
    make: Callable[[Path], None], name: str, tmp_path: Path
) -> None:
    """A stranger's folder may hold a link to a file of this user's, or a pipe that never ends."""
    folder = tmp_path / "run/gqa"
    folder.mkdir(parents=True)
    make(folder / name)
    refused = pytest.raises(ConfigError, match=re.escape(Path(name).name))
    with refused, FolderLock(folder):
        pass


def test_a_file_where_the_folder_belongs_is_refused_before_anything_is_asked(
    tmp_path: Path,
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/gqa").write_text("")
    with pytest.raises(ConfigError, match="is no folder"), FolderLock(tmp_path / "run/gqa"):
        pass


def test_name_that_a_dangling_link_has_is_not_free(tmp_path: Path) -> None:
    (tmp_path / "gqa").mkdir()
    (tmp_path / "gqa.old-1").symlink_to(tmp_path / "nowhere")
    set_aside(tmp_path / "gqa")
    assert (tmp_path / "gqa.old-2").is_dir()


def test_verdicts_go_with_the_answers_that_they_are_about(tmp_path: Path) -> None:
    for name in ("gqa", "pope", "regress-old", "regress-task"):
        (tmp_path / name).mkdir()
    (tmp_path / "regress-old" / "verdict.json").write_text('{"verdict": "fail"}')
    (tmp_path / "regress-task" / "manifest.json").write_text("{}")  # a benchmark of that name
    set_aside(tmp_path / "gqa")
    set_aside(tmp_path / "pope")
    assert (tmp_path / "gqa.old-1" / "regress-old" / "verdict.json").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"gqa.old-1", "pope.old-1", "regress-task"}


def test_folder_in_the_place_of_a_link_that_was_set_aside_is_taken(tmp_path: Path) -> None:
    folder, link = tmp_path / "disk/gqa", tmp_path / "run/gqa"
    folder.mkdir(parents=True)
    link.parent.mkdir()
    link.symlink_to(folder)
    with FolderLock(link) as lock:
        lock.set_aside()
        assert (tmp_path / "run/gqa.old-1").resolve() == folder
        link.mkdir()
        lock.require_held()
        assert FolderLock(link).is_taken()
        assert not FolderLock(folder).is_taken()
        lock.set_aside()
        assert FolderLock(link).is_taken()
    assert not FolderLock(link).is_taken()


def test_folder_is_taken_under_each_of_its_names(tmp_path: Path) -> None:
    folder, link = tmp_path / "disk/gqa", tmp_path / "run/gqa"
    folder.mkdir(parents=True)
    link.parent.mkdir()
    link.symlink_to(folder)
    assert not FolderLock(link).is_taken()
    assert not (tmp_path / "disk/.gqa.lock").exists()
    with FolderLock(folder):
        assert FolderLock(link).is_taken()
    assert not FolderLock(link).is_taken()
    with FolderLock(link):
        assert FolderLock(folder).is_taken()

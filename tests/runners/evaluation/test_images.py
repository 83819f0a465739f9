"""Images that changed are asked about again; those that only look changed are compared once."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from evals.records import Cause, Failure
from llava.content_hash import hash_image
from runners.errors import StoreError
from tests.runners.conftest import read_lines
from tests.runners.evaluation.test_resuming import answer_pending, completion, opened
from tests.runners.task_runs import ENVIRONMENT, IDENTITY


@pytest.fixture
def answered(questions: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Path:
    """The question file of a run in `run` that is answered; question 4 shows both images."""
    caplog.set_level("INFO", "runners")
    with opened(questions, tmp_path / "run") as task_run:
        assert answer_pending(task_run) == ["1", "3", "4"]
        task_run.finish(None)
    caplog.clear()
    return questions


def asked_again(questions: Path) -> list[str]:
    with opened(questions, questions.parent / "run") as task_run:
        keys = answer_pending(task_run)
        task_run.finish(None)
    return keys


def repaint(path: Path, color: str, size: tuple[int, int] = (40, 30)) -> None:
    Image.new("RGB", size, color).save(path)


def touch(path: Path) -> None:
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000))


def test_nothing_is_compared_as_long_as_size_and_time_agree(
    answered: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert asked_again(answered) == []
    assert "compared once" not in caplog.text


@pytest.mark.parametrize(("name", "keys"), [("red.png", ["1", "4"]), ("blue.png", ["4"])])
def test_only_questions_about_changed_images_are_asked_again(
    name: str, keys: list[str], answered: Path, caplog: pytest.LogCaptureFixture
) -> None:
    repaint(answered.parent / "images" / name, "white")
    assert asked_again(answered) == keys
    said = f"{len(keys)} of the {len(keys)} questions whose image files have changed show other"
    [told] = [record for record in caplog.records if said in record.getMessage()]
    assert told.levelname == "WARNING"
    assert asked_again(answered) == []


def test_touched_images_are_compared_once(answered: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = (answered.parent / "run/custom/predictions.jsonl").read_bytes()
    for image in (answered.parent / "images").iterdir():
        touch(image)
    assert asked_again(answered) == []
    assert "of which only these were recorded: 2; their pixels are compared once" in caplog.text
    assert "0 of the 2 questions whose image files have changed show other pixels" in caplog.text
    assert (answered.parent / "run/custom/predictions.jsonl").read_bytes() == before
    caplog.clear()
    assert asked_again(answered) == []
    assert "compared once" not in caplog.text
    attempts = [line["attempts"] for line in read_lines(answered.parent / "run/custom/trace.jsonl")]
    assert attempts == [1, 1, 1, 1]


def replace(path: Path, other: Path) -> None:
    """Puts a copy of another file in a file's place, with the old time, as `rsync -t` does."""
    stat = path.stat()
    shutil.copyfile(other, path.with_name("new"))
    os.utime(path.with_name("new"), ns=(stat.st_atime_ns, stat.st_mtime_ns))
    path.with_name("new").replace(path)


def write_into(path: Path, other: Path) -> None:
    """Overwrites a file in place and puts its time back, as `cp -p` does."""
    stat = path.stat()
    path.write_bytes(other.read_bytes())
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def link_to(path: Path, other: Path) -> None:
    """Has a link lead to another file of the same size and time."""
    stat = path.stat()
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    path.unlink()
    path.symlink_to(other)


@pytest.mark.parametrize("put", [replace, write_into, link_to])
def test_image_of_the_same_size_and_time_is_asked_about_again(
    put: Callable[[Path, Path], None], questions: Path, tmp_path: Path
) -> None:
    red, other = tmp_path / "images/red.png", tmp_path / "other.png"
    for path, color in ((red, "red"), (other, "blue")):
        Image.new("RGB", (40, 30), color).save(path, "BMP")
    with opened(questions, tmp_path / "run") as task_run:
        answer_pending(task_run)
        task_run.finish(None)
    before = red.stat()
    put(red, other)
    now = red.stat()
    assert (now.st_size, now.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert asked_again(questions) == ["1", "4"]
    assert asked_again(questions) == []


def test_older_trace_has_pixels_compared_once_and_nothing_asked_again(
    answered: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Older versions recorded size and time alone, which cannot tell whether a file is the same."""
    path = answered.parent / "run/custom/trace.jsonl"
    traces = read_lines(path)
    for trace in traces:
        trace["image_stat"] = [stat and stat[:2] for stat in trace["image_stat"]]
    path.write_text("".join(json.dumps(trace) + "\n" for trace in traces))
    assert asked_again(answered) == []
    assert "only these were recorded: 2; their pixels are compared once" in caplog.text
    caplog.clear()
    assert asked_again(answered) == []
    assert "compared once" not in caplog.text
    write_into(answered.parent / "images/red.png", answered.parent / "images/blue.png")
    assert asked_again(answered) == ["1", "4"]


def test_same_pixels_in_another_file_are_no_change(answered: Path) -> None:
    with Image.open(answered.parent / "images" / "red.png") as image:
        image.convert("P").save(answered.parent / "images" / "red.png", optimize=True)
    assert asked_again(answered) == []


def test_one_changed_image_among_touched_ones_is_found(answered: Path) -> None:
    images = answered.parent / "images"
    touch(images / "red.png")
    repaint(images / "blue.png", "blue", (40, 31))
    assert asked_again(answered) == ["4"]


def test_spoiled_image_is_a_change(answered: Path) -> None:
    (answered.parent / "images" / "blue.png").write_bytes(b"no image")
    with opened(answered, answered.parent / "run") as task_run:
        assert [sample.key for sample in task_run.pending()] == ["4"]


def test_comparison_that_was_interrupted_goes_on(answered: Path) -> None:
    """What was compared before a crash stands in the trace, though the files are not finished."""
    for image in (answered.parent / "images").iterdir():
        touch(image)
    with opened(answered, answered.parent / "run") as task_run:
        assert task_run.pending() == []
    trace = read_lines(answered.parent / "run/custom/trace.jsonl")
    assert len(trace) == 4 + 2
    assert asked_again(answered) == []
    assert len(read_lines(answered.parent / "run/custom/trace.jsonl")) == 4


def test_image_that_is_replaced_before_its_answer_is_stored_is_asked_about_again(
    questions: Path, tmp_path: Path
) -> None:
    """The worker saw the old image; the line is written when the new one is there."""
    red = tmp_path / "images" / "red.png"
    with opened(questions, tmp_path / "run", limit=1) as task_run:
        [sample] = task_run.pending()
        task_run.begin(IDENTITY, ENVIRONMENT)
        seen = hash_image(sample.images[0].open())
        repaint(red, "white")
        task_run.record(sample, completion("1", "red", (seen,)), worker="w")
    assert "1" in asked_again(questions)
    assert asked_again(questions) == []


LONG_NAMES = {
    "one part": "n" * 5000 + ".jpg",
    "many parts": "name/" * 1000 + "a.jpg",
    "outside": "../" + "n" * 5000 + ".jpg",
    "with spaces": "a name " * 700 + ".jpg",
}


@pytest.mark.parametrize("name", LONG_NAMES.values(), ids=LONG_NAMES)
def test_very_long_name_is_shortened_where_it_is_told(
    name: str, questions: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record = {"question_id": 5, "image": name, "text": "What?", "answer": "nothing"}
    with questions.open("a") as file:
        file.write(json.dumps(record) + "\n")
    first = {"question_id": 0, "image": name, "text": "What?", "answer": "nothing"}
    questions.write_text(json.dumps(first) + "\n" + questions.read_text())
    with opened(questions, tmp_path / "run") as task_run:
        answer_pending(task_run)
        unreadable = Failure(
            key="1",
            cause=Cause.IMAGE_UNREADABLE,
            message=f"{name}: Image {name} cannot be decoded: no",
        )
        task_run.record(task_run.asked.samples[1], unreadable, worker="w")
        task_run.finish(None)
    lines = read_lines(tmp_path / "run/custom/predictions.jsonl")
    told = [line["metadata"]["error"]["message"] for line in lines if "error" in line["metadata"]]
    assert len(told) == 4  # both of the name, the one that is gone, and what the worker said
    assert all(len(message) < 2000 for message in told)
    assert told[0].startswith("Image ")
    assert told[0] == told[-1]
    assert max(map(len, caplog.messages)) < 2200


def test_images_that_are_replaced_while_they_are_asked_about_stop_the_run(
    questions: Path, tmp_path: Path
) -> None:
    """The figure would be over both, and nothing would say so."""
    with opened(questions, tmp_path / "run") as task_run:
        answer_pending(task_run)
        repaint(questions.parent / "images/blue.png", "white")
        with pytest.raises(StoreError, match=r"images of 1 questions \(for example 4\)"):
            task_run.finish(None)
    assert not (tmp_path / "run/custom/summary.json").exists()
    assert asked_again(questions) == ["4"]
    assert (tmp_path / "run/custom/summary.json").exists()


def test_images_that_are_only_touched_meanwhile_change_nothing(
    questions: Path, tmp_path: Path
) -> None:
    with opened(questions, tmp_path / "run") as task_run:
        answer_pending(task_run)
        touch(questions.parent / "images/blue.png")
        assert task_run.finish(None).num_answered == 3

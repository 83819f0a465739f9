from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from evals.errors import DataError
from evals.records import Cause, Failure
from llava.content_hash import hash_image
from llava.generation.request import Completion, EngineReport
from runners.errors import ConfigError, StoreError
from runners.evaluation.identity import ModelIdentity
from runners.evaluation.resuming import TaskRun
from runners.options import program
from runners.options.build import default_spec
from runners.options.model import GenerationOptions
from runners.options.register import register
from runners.options.task_spec import TaskSpec
from runners.score import score
from runners.storage.summary import SummaryFile
from tests.evals.small_data import write_mmvet
from tests.evals.small_reasoning import write_hallusionbench
from tests.runners.conftest import read_lines
from tests.runners.task_runs import ENVIRONMENT, IDENTITY, build_task_run

OTHER = replace(IDENTITY, dtype="float16")


@contextmanager
def opened(
    questions: Path,
    folder: Path,
    identity: ModelIdentity = IDENTITY,
    scorer: str = "exact",
    **options: Any,
) -> Iterator[TaskRun]:
    """A task run as the program opens it: locked, checked, its answers read."""
    spec = {
        "_target_": "evals.tasks.custom.Custom",
        "questions": str(questions),
        "images": str(questions.parent / "images"),
        "scorer": scorer,
    }
    with build_task_run(spec, folder, **options) as task_run:
        task_run.lock()
        task_run.check(identity)
        task_run.open()
        yield task_run


def answer_pending(task_run: TaskRun, *, failing: tuple[str, ...] = ()) -> list[str]:
    """Answers what is pending, right, and returns the keys that were asked."""
    pending = task_run.pending()
    if pending:
        task_run.begin(IDENTITY, ENVIRONMENT)
    for sample in reversed(pending):
        if sample.key in failing:
            failure = Failure(key=sample.key, cause=Cause.ERROR, message="no")
            task_run.record(sample, failure, worker="w")
        else:
            hashes = tuple(hash_image(image.open()) for image in sample.images)
            done = completion(sample.key, str(sample.target), hashes)
            task_run.record(sample, done, worker="w")
    return [sample.key for sample in pending]


def completion(key: str, text: str, image_sha256: tuple[str, ...] = ()) -> Completion:
    return Completion(
        key=key,
        image_sha256=image_sha256,
        token_ids=(1,),
        text=text,
        finish_reason="stop",
        num_prompt_tokens=5,
        min_margin=None,
        latency_s=0.1,
    )


def test_only_what_is_not_stored_is_asked(questions: Path, tmp_path: Path) -> None:
    with opened(questions, tmp_path / "run", limit=3) as task_run:
        assert answer_pending(task_run) == ["1", "3"]
        task_run.finish(None)
    with opened(questions, tmp_path / "run") as task_run:
        assert answer_pending(task_run) == ["4"]
        summary = task_run.finish(None)
    assert (summary.num_answered, summary.metrics["accuracy"]) == (3, 0.75)
    assert (summary.origin.limited, summary.num_failed) == (False, {"image_missing": 1})


PROMISED = ("predictions.jsonl", "scores.jsonl", "summary.json")


def files_of(folder: Path) -> dict[str, bytes]:
    return {name: (folder / "custom" / name).read_bytes() for name in PROMISED}


def test_smaller_limit_shows_less_and_keeps_the_results(
    questions: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "runners")
    with opened(questions, tmp_path / "run") as task_run:
        answer_pending(task_run)
        task_run.finish(None)
    before = files_of(tmp_path / "run")
    for limit in (1, 3):
        with opened(questions, tmp_path / "run", limit=limit) as task_run:
            assert answer_pending(task_run) == []
            summary = task_run.finish(None)
        assert (summary.num_questions, summary.origin.limited) == (limit, True)
        assert f"the first {limit} questions; the results over 4 are kept" in caplog.text
        assert files_of(tmp_path / "run") == before


def test_results_over_more_questions_follow_what_a_smaller_limit_answers(
    questions: Path, tmp_path: Path
) -> None:
    with opened(questions, tmp_path / "run", limit=3) as task_run:
        answer_pending(task_run, failing=("1",))
        task_run.finish(None)
    with opened(questions, tmp_path / "run", limit=1) as task_run:
        assert answer_pending(task_run) == ["1"]
        assert task_run.finish(None).num_questions == 1
    stored = json.loads((tmp_path / "run/custom/summary.json").read_text())
    assert (stored["num_questions"], stored["limit"], stored["num_answered"]) == (3, 3, 2)
    assert len(read_lines(tmp_path / "run/custom/scores.jsonl")) == 3


@pytest.fixture
def judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaskSpec:
    """MM-Vet, of which the run `run` below `results` holds two answers that a judge has graded."""
    monkeypatch.chdir(tmp_path)
    write_mmvet(tmp_path / "mmvet")
    register()
    spec = default_spec("mmvet")
    assert spec is not None
    spec = spec.with_options({"data_dir": str(tmp_path / "mmvet")})
    finish_judged(spec)
    replies = ["tasks.mmvet.replies=mmvet/grades.json", "tasks.mmvet.judge=j"]
    assert program.run("score", score, ["run=run", "task=mmvet", *replies]) == 0
    return spec


def finish_judged(spec: TaskSpec, **options: Any) -> SummaryFile:
    options = {"check_counts": False, **options}
    with build_task_run(spec, Path("results/run"), **options) as task_run:
        task_run.lock()
        task_run.check(IDENTITY)
        task_run.open()
        answer_pending(task_run)
        return task_run.finish(None)


@pytest.mark.parametrize("limit", [None, 1])
def test_scores_of_a_judge_are_shown_and_kept(
    judged: TaskSpec, limit: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "runners")
    path = Path("results/run/mmvet/summary.json")
    before = path.read_bytes()
    summary = finish_judged(judged, limit=limit)
    assert (summary.metrics["score"], summary.num_questions) == (1.0, 2)
    assert path.read_bytes() == before
    assert "the table is over the first" not in caplog.text
    told = "the table is over the 2 questions that a judge has scored, not the first 1"
    assert (told in caplog.text) == (limit == 1)


def test_figure_without_the_judge_of_before_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Words decide about HallusionBench where no judge does: another figure of other answers."""
    monkeypatch.chdir(tmp_path)
    write_hallusionbench(tmp_path / "data")
    register()
    spec = default_spec("hallusionbench")
    assert spec is not None
    spec = spec.with_options({"data_dir": str(tmp_path / "data")})
    finish_judged(spec, limit=1)
    path = Path("results/run/hallusionbench/summary.json")
    summary = json.loads(path.read_text())
    assert "was scored by the judge" not in caplog.text
    path.write_text(json.dumps(summary | {"judge": {"model": "gpt-4o"}}))
    finish_judged(spec)
    assert "was scored by the judge gpt-4o" in caplog.text
    assert "are those of hallusionbench_yes_no/1 now" in caplog.text
    assert "runners.score run=run" in caplog.text


@pytest.mark.parametrize("name", ["summary.json", "scores.jsonl"])
def test_edited_scores_of_a_judge_are_not_shown(
    judged: TaskSpec, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = Path("results/run/mmvet") / name
    path.write_text(path.read_text().replace("1.0", "0.9"))
    before = path.read_bytes()
    summary = finish_judged(judged)
    assert (summary.metrics, summary.interval, summary.judge) == ({}, None, None)
    assert f"{name} has changed since a judge scored the answers" in caplog.text
    assert "runners.score run=run" in caplog.text
    assert path.read_bytes() == before


@pytest.mark.parametrize(("retry_failed", "asked"), [(True, ["3"]), (False, [])])
def test_failed_questions_are_asked_again_if_wanted(
    questions: Path, tmp_path: Path, retry_failed: bool, asked: list[str]
) -> None:
    with opened(questions, tmp_path / "run") as task_run:
        answer_pending(task_run, failing=("3",))
        assert task_run.num_unanswered() == 2
    with opened(questions, tmp_path / "run", retry_failed=retry_failed) as task_run:
        assert answer_pending(task_run) == asked


def test_answer_stays_when_its_image_goes(
    questions: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "runners")
    with opened(questions, tmp_path / "run") as task_run:
        answer_pending(task_run)
    assert "1 of 4 questions have images that are not there" in caplog.text
    assert "They count as failed" in caplog.text
    for image in (tmp_path / "images").iterdir():
        image.unlink()
    caplog.clear()
    with opened(questions, tmp_path / "run") as task_run:
        assert task_run.pending() == []
        assert task_run.finish(None).num_answered == 3
    failing, staying = (record.getMessage() for record in caplog.records[:2])
    assert failing.startswith("custom: 1 of 4 questions have images")
    assert failing.endswith(
        f"gone.png does not exist. It was looked for at {tmp_path}/images/gone.png.) They count "
        f"as failed. Images are looked for in tasks.custom.images={tmp_path}/images."
    )
    assert staying.startswith("custom: 2 of 4 questions have images")
    assert staying.endswith("Their stored answers stay.")


def test_kept_failures_are_not_asked_again_though_their_images_come(
    questions: Path, tmp_path: Path
) -> None:
    with opened(questions, tmp_path / "run") as task_run:
        answer_pending(task_run)
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "gone.png")
    with opened(questions, tmp_path / "run", retry_failed=False) as task_run:
        assert task_run.pending() == []
        assert task_run.finish(None).num_failed == {"image_missing": 1}


def test_missing_images_are_counted_though_nothing_else_is_left_to_ask(
    questions: Path, tmp_path: Path
) -> None:
    with opened(questions, tmp_path / "run", limit=1) as task_run:
        answer_pending(task_run)
        task_run.finish(None)
    with opened(questions, tmp_path / "run", limit=2) as task_run:
        assert task_run.pending() == []
        summary = task_run.finish(None)
    assert (summary.num_failed, summary.num_questions) == ({"image_missing": 1}, 2)


def test_overwriting_a_run_without_any_image_is_refused(questions: Path, tmp_path: Path) -> None:
    questions.write_text('{"question_id": 1, "image": "red.png", "text": "a", "answer": "b"}\n')
    with opened(questions, tmp_path / "run") as task_run:
        answer_pending(task_run)
    (tmp_path / "images" / "red.png").unlink()
    with (
        pytest.raises(DataError, match="no question about an image can be answered"),
        opened(questions, tmp_path / "run", overwrite=True),
    ):
        pass
    assert (tmp_path / "run/custom/predictions.jsonl").exists()


def test_image_that_comes_later_is_asked_about(questions: Path, tmp_path: Path) -> None:
    with opened(questions, tmp_path / "run") as task_run:
        answer_pending(task_run)
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "gone.png")
    with opened(questions, tmp_path / "run") as task_run:
        assert answer_pending(task_run) == ["2"]
        assert task_run.finish(None).metrics == {"accuracy": 1.0}


def test_overwrite_sets_the_old_answers_aside(questions: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        with opened(questions, tmp_path / "run", overwrite=True, limit=number) as task_run:
            assert len(answer_pending(task_run)) == 1
            task_run.finish(None)
    with opened(questions, tmp_path / "run", OTHER, overwrite=True):
        assert not (tmp_path / "run" / "custom").exists()
    lengths = [
        len(read_lines(tmp_path / "run" / f"custom.old-{number}" / "predictions.jsonl"))
        for number in (1, 2)
    ]
    assert lengths == [1, 2]


@pytest.mark.parametrize(
    ("identity", "options", "named"),
    [
        (OTHER, {}, "dtype"),
        (IDENTITY, {"seed": 1}, "seed"),
        (IDENTITY, {"generation": GenerationOptions(num_beams=2)}, "generation.num_beams"),
    ],
)
def test_other_identity_is_refused(
    questions: Path,
    tmp_path: Path,
    identity: ModelIdentity,
    options: dict[str, Any],
    named: str,
) -> None:
    with opened(questions, tmp_path / "run") as task_run:
        answer_pending(task_run)
    with (
        pytest.raises(ConfigError, match=f"`{named}`"),
        opened(questions, tmp_path / "run", identity, **options),
    ):
        pass


def test_answers_of_other_code_are_said(
    questions: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(questions, tmp_path, limit=1) as task_run:
        answer_pending(task_run)
    path = tmp_path / "custom/manifest.json"
    content = json.loads(path.read_text())
    del content["identity"]["prompt_format"]  # as an earlier version wrote it
    content["history"][-1] |= {"git": {"commit": "1" * 40}, "source": "a"}
    path.write_text(json.dumps(content))
    machine = {**ENVIRONMENT.machine, "git": {"commit": "2" * 40}, "source": "b"}
    with opened(questions, tmp_path) as task_run, caplog.at_level("WARNING"):
        task_run.begin(IDENTITY, replace(ENVIRONMENT, machine=machine))
    assert "another version of the code (commit 111111111111 there, commit 222222222222" in (
        caplog.text
    )
    content = json.loads(path.read_text())
    assert content["identity"]["prompt_format"]
    assert [session["source"] for session in content["history"]] == ["a", "b"]


def test_other_figures_of_the_same_answers_are_said(
    questions: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "custom/summary.json"
    for code in (None, "another"):
        with opened(questions, tmp_path) as task_run, caplog.at_level("WARNING"):
            answer_pending(task_run)
            task_run.finish(None)
        assert "scoring code" not in caplog.text
        content = json.loads(path.read_text())
        content["metrics"]["accuracy"] = 0.25
        content["hashes"]["code"] = code or content["hashes"]["code"]
        path.write_text(json.dumps(content))
    with opened(questions, tmp_path) as task_run, caplog.at_level("WARNING"):
        task_run.finish(None)
    assert "another version of the scoring code: the same answers came to accuracy 25.00" in (
        caplog.text
    )


def test_figures_lost_with_a_forgotten_scorer_are_said(
    questions: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for scorer, said in (("exact", ""), ("none", "exact/1: the same answers came to accuracy ")):
        with opened(questions, tmp_path, scorer=scorer) as task_run, caplog.at_level("WARNING"):
            answer_pending(task_run)
            task_run.finish(None)
        assert said in caplog.text
        assert ("come to no figure now" in caplog.text) == (scorer == "none")


def test_other_data_under_the_same_name_are_told_by_their_options(
    questions: Path, tmp_path: Path
) -> None:
    with opened(questions, tmp_path / "run") as task_run:
        answer_pending(task_run)
    other = tmp_path / "mine" / questions.name
    other.parent.mkdir()
    other.write_text(
        questions.read_text() + json.dumps({"question_id": 9, "text": "t", "answer": "a"})
    )
    with pytest.raises(ConfigError) as raised, opened(other, tmp_path / "run"):
        pass
    said = f"another run: `tasks.custom.questions` is {questions} there and {other} here; "
    assert said in str(raised.value)


def test_changed_questions_are_refused(questions: Path, tmp_path: Path) -> None:
    with opened(questions, tmp_path / "run") as task_run:
        answer_pending(task_run)
    record = {"question_id": 9, "text": "What else?", "answer": "more"}
    questions.write_text(questions.read_text() + json.dumps(record) + "\n")
    with (
        pytest.raises(ConfigError, match=r"`data\.questions\.jsonl`"),
        opened(questions, tmp_path / "run"),
    ):
        pass


def test_two_processes_cannot_write_one_task(questions: Path, tmp_path: Path) -> None:
    with (
        opened(questions, tmp_path / "run"),
        pytest.raises(ConfigError, match="another process"),
        opened(questions, tmp_path / "run"),
    ):
        pass


def test_nothing_is_written_before_the_first_answer_but_the_lock(
    questions: Path, tmp_path: Path
) -> None:
    with opened(questions, tmp_path / "run") as task_run:
        assert not task_run.folder.exists()
        answer_pending(task_run)
        assert (task_run.folder / "manifest.json").exists()


def test_no_answerable_question_is_an_error(questions: Path, tmp_path: Path) -> None:
    questions.write_text('{"question_id": 1, "image": "no.png", "text": "a", "answer": "b"}\n')
    with (
        pytest.raises(DataError, match="no question about an image can be answered"),
        opened(questions, tmp_path),
    ):
        pass


def test_questions_without_an_image_do_not_hide_that_all_images_are_missing(
    questions: Path, tmp_path: Path
) -> None:
    lines = [
        {"question_id": 1, "text": "a", "answer": "b"},
        {"question_id": 2, "text": "a", "answer": "b", "image": "no.png"},
        {"question_id": 3, "text": "a", "answer": "b", "image": "neither.png"},
    ]
    questions.write_text("\n".join(map(json.dumps, lines)))
    with (
        pytest.raises(DataError, match="2 of 3 questions have images that are not there"),
        opened(questions, tmp_path / "run"),
    ):
        pass
    with opened(questions, tmp_path / "run", limit=1) as task_run:  # it shows none
        assert answer_pending(task_run) == ["1"]
    with opened(questions, tmp_path / "run") as task_run:  # what is stored is gone on with
        assert task_run.pending() == []
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "neither.png")
    with opened(questions, tmp_path / "other", limit=2) as task_run:  # images there are, if few
        assert answer_pending(task_run) == ["1"]


def test_folder_that_was_removed_cannot_be_amended(questions: Path, tmp_path: Path) -> None:
    with opened(questions, tmp_path / "run", limit=1) as task_run:
        task_run.begin(IDENTITY, ENVIRONMENT)
        shutil.rmtree(tmp_path / "run/custom")
        with pytest.raises(StoreError, match=r"run/custom/manifest\.json was removed while"):
            task_run.amend(EngineReport())


def test_data_that_change_while_they_are_asked_are_not_scored(
    questions: Path, tmp_path: Path
) -> None:
    """Some files are read only when answers are scored: the figures would be over other data."""
    content = questions.read_text()
    with opened(questions, tmp_path / "run") as task_run:
        answer_pending(task_run)
        questions.write_text(content.replace('"answer"', '"other"'))
        with pytest.raises(StoreError, match=r"questions\.jsonl changed while custom was asked"):
            task_run.finish(None)
        assert not (tmp_path / "run/custom/summary.json").exists()
        questions.write_text(content)  # with another time
        assert task_run.finish(None).num_answered == 3


def test_data_that_change_between_reading_and_hashing_are_refused(
    questions: Path, tmp_path: Path
) -> None:
    spec = {"_target_": "evals.tasks.custom.Custom", "questions": str(questions)}
    spec["images"] = str(questions.parent / "images")
    with build_task_run(spec, tmp_path / "run") as task_run:
        questions.write_text(questions.read_text() + "\n")
        with pytest.raises(DataError, match="written to while they were read"):
            _ = task_run.asked.data_hashes


def test_verdict_over_a_run_that_grows_is_moved_away(questions: Path, tmp_path: Path) -> None:
    verdict = tmp_path / "run/regress-old/verdict.json"
    for limit, is_there in ((2, False), (2, True), (None, False)):
        if is_there:
            verdict.parent.mkdir()
            verdict.write_text('{"verdict": "pass"}')
        with opened(questions, tmp_path / "run", limit=limit) as task_run:
            answer_pending(task_run)
            assert verdict.exists() == is_there
            task_run.finish(None)
    assert (tmp_path / "run/custom/regress-old/verdict.json").is_file()

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from evals.records import Failure, Sample
from evals.tasks.custom import Custom
from llava.generation.request import Completion
from runners.options import program
from runners.options.eval import EvalConfig
from runners.options.model import ModelConfig
from runners.options.names import run_name
from runners.score import score
from runners.storage.answer_lines import answer_line, failure_line, trace_line
from runners.storage.answer_store import AnswerStore
from runners.storage.asked import shard_samples
from runners.storage.files import hash_data_files, sha256_of_json, write_jsonl
from runners.storage.lock import FolderLock
from runners.storage.manifest import Manifest, other_code, write_manifest
from runners.storage.merging import part_names
from runners.storage.stored import StoredTask
from tests.evals.small_data import put_lines
from tests.runners.conftest import read_lines

pytestmark = pytest.mark.usefixtures("in_own_folder")

COUNT = 3
NUM_QUESTIONS = 12
CODE = {"git": {"commit": "1" * 40}, "source": "a"}
FILES = ("predictions.jsonl", "trace.jsonl", "scores.jsonl")


@pytest.fixture
def task() -> Custom:
    """Twelve questions about six images, asked in turn."""
    lines = [
        {"question_id": i, "image": f"{i % 6}.png", "text": f"Question {i}?", "answer": f"{i}"}
        for i in range(NUM_QUESTIONS)
    ]
    put_lines(Path("questions.jsonl"), lines)
    return Custom(questions="questions.jsonl", images="images", scorer="exact")


def put_part(
    task: Custom,
    run: str,
    samples: Sequence[Sample],
    *,
    shard: str | None = None,
    limit: int | None = None,
    failing: Sequence[str] = (),
    **identity: Any,
) -> Path:
    """Writes a run as an evaluation leaves it: answers right, in the order that they came."""
    folder = Path("results", run, "custom")
    prompts = [[s.key, s.text, s.image_keys] for s in task.samples()]
    spec = {
        "_target_": "evals.tasks.custom.Custom",
        "questions": "questions.jsonl",
        "images": "images",
        "scorer": "exact",
    }
    folder.mkdir(parents=True)
    manifest = Manifest(
        identity={
            "model": "m",
            "dtype": "float32",
            "prompts": sha256_of_json(prompts),
            "data": hash_data_files(task.data_files()),
            **identity,
        },
        environment={
            "runner": {"shard": shard},
            "options": {"limit": limit},
            "task": spec,
            "command": f"python -m runners.eval run=A runner.shard={shard}",
            **CODE,
        },
        history=[{"started": "then"}],
    )
    write_manifest(folder, manifest)
    with AnswerStore(folder) as store:
        for sample in reversed(samples):
            put_answer(store, sample, failing=sample.key in failing)
    return folder


def put_answer(
    store: AnswerStore, sample: Sample, text: str | None = None, *, failing: bool = False
) -> None:
    result = completion(sample, text)
    line = answer_line(sample, result, "m")
    if failing:
        cause = Failure(key=sample.key, cause="error", message="It broke.")
        line = failure_line(sample, cause, "m")
    store.add(line, trace_line(result, worker="w", attempts=1))


def completion(sample: Sample, text: str | None = None) -> Completion:
    return Completion(
        key=sample.key,
        token_ids=(1,),
        text=text or str(sample.target),
        finish_reason="stop",
        num_prompt_tokens=5,
        min_margin=1.0,
        latency_s=0.1,
        replayed=True,
    )


def put_shards(task: Custom, *indices: int, limit: int | None = None, **options: Any) -> None:
    samples = task.samples()[:limit]
    for index in indices:
        part = shard_samples(samples, index, COUNT)
        shard = f"{index}/{COUNT}"
        put_part(task, name_of(index), part, shard=shard, limit=limit, **options)


def name_of(index: int) -> str:
    return f"A-shard-{index}-of-{COUNT}"


def merge(*options: str, parts: str = f"merge={COUNT}") -> int:
    return program.run("score", score, ["run=A", parts, *options])


def summary_of(run: str = "A") -> dict[str, Any]:
    return json.loads(Path("results", run, "custom", "summary.json").read_text())


def keys_of(run: str = "A") -> list[str]:
    lines = read_lines(Path("results", run, "custom", "predictions.jsonl"))
    return [line["metadata"]["key"] for line in lines]


@pytest.mark.parametrize(
    "parts",
    [f"merge={COUNT}", "merge=[" + ",".join(map(name_of, (3, 1, 2))) + "]"],
)
def test_parts_become_the_bytes_of_the_whole_run(task: Custom, parts: str) -> None:
    put_shards(task, 1, 2, 3)
    whole = put_part(task, "whole", task.samples())
    # a run is in the benchmark's order once it is complete
    for name in ("predictions.jsonl", "trace.jsonl"):
        write_jsonl(whole / name, reversed(read_lines(whole / name)))
    assert merge(parts=parts) == 0
    shutil.copy("results/A/custom/summary.json", whole)
    assert program.run("score", score, ["run=whole"]) == 0
    for name in FILES:
        assert Path("results/A/custom", name).read_bytes() == (whole / name).read_bytes()
    summary = summary_of()
    for name in ("metrics", "interval", "coverage", "num_questions", "num_answered"):
        assert summary[name] == summary_of("whole")[name]
    assert summary["limited"] is False
    assert summary["batch_check"]["recomputed"] == NUM_QUESTIONS
    assert Path("results/A/summary.md").exists()


def test_parts_of_a_long_run_are_found_by_the_names_that_they_were_given() -> None:
    settings = EvalConfig(model=ModelConfig(path="/models/m", name=250 * "x"))
    whole = run_name(settings)
    settings.runner.shard = "2/2"
    assert run_name(settings) == part_names(2, whole)[1] != f"{whole}-shard-2-of-2"


def test_manifest_of_the_whole_is_of_no_shard_and_names_its_parts(task: Custom) -> None:
    put_shards(task, 1, 2, 3)
    assert merge() == 0
    manifest = json.loads(Path("results/A/custom/manifest.json").read_text())
    part = json.loads(Path("results", name_of(1), "custom", "manifest.json").read_text())
    assert manifest["identity"] == part["identity"]
    assert manifest["environment"]["runner"] == {"shard": None}
    assert "command" not in manifest["environment"]  # that of a part would answer that part again
    [event] = manifest["history"]
    assert [entry["run"] for entry in event["parts"]] == [name_of(i) for i in (1, 2, 3)]
    assert sum(entry["num_stored"] for entry in event["parts"]) == NUM_QUESTIONS
    stored = StoredTask(Path("results/A/custom")).manifest
    assert stored is not None
    assert stored.started == stored.last_session == event["merged"]
    # so that a session that goes on with other code is told
    assert other_code(event, {"git": None, "source": "b"})


def test_missing_part_counts_as_missing_and_is_named(
    task: Custom, capsys: pytest.CaptureFixture[str]
) -> None:
    put_shards(task, 1, 3)
    assert merge() == 1
    said = capsys.readouterr().err
    gone = shard_samples(task.samples(), 2, COUNT)
    assert f"results/{name_of(2)} holds no answers" in said
    assert f"custom: no part 2/{COUNT} of the run is given" in said
    assert (
        f"custom: {len(gone)} questions have not been asked and count as missing: {gone[0].key},"
        in said
    )
    summary = summary_of()
    assert summary["num_questions"] == NUM_QUESTIONS
    assert summary["num_answered"] == NUM_QUESTIONS - len(gone)
    assert summary["coverage"] == summary["metrics"]["accuracy"] < 1
    assert len(read_lines(Path("results/A/custom/scores.jsonl"))) == NUM_QUESTIONS


def test_part_that_has_no_questions_is_no_loss(
    task: Custom, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = task.samples()[:1]
    full = next(i for i in range(1, COUNT + 1) if shard_samples(samples, i, COUNT))
    put_part(task, name_of(full), samples, shard=f"{full}/{COUNT}", limit=1)
    assert merge() == 0
    said = capsys.readouterr().err
    assert said.count("holds no answers") == COUNT - 1
    assert "missing" not in said
    assert summary_of()["coverage"] == 1


def test_part_without_the_task_leaves_its_options_as_they_were(task: Custom) -> None:
    put_shards(task, 1, 2, 3)
    stored = put_part(task, "B", task.samples()[:1])
    stored.rename(stored.with_name("another"))
    merged = merge(
        *("task=custom", "tasks.custom.questions=questions.jsonl"),
        parts="merge=[B," + ",".join(map(name_of, (1, 2, 3))) + "]",
    )
    assert merged == 0
    assert summary_of()["metrics"] == {"accuracy": 1.0}


def test_part_that_was_left_out_of_the_list_is_named(
    task: Custom, capsys: pytest.CaptureFixture[str]
) -> None:
    put_shards(task, 1, 2, 3)
    assert merge(parts=f"merge=[{name_of(1)}]") == 1
    assert f"no part 2/{COUNT}, 3/{COUNT} of the run" in capsys.readouterr().err


def test_part_without_all_its_answers_counts_as_missing(
    task: Custom, capsys: pytest.CaptureFixture[str]
) -> None:
    put_shards(task, 1, 2, 3)
    for index, name in ((1, "predictions.jsonl"), (2, "trace.jsonl")):
        path = Path("results", name_of(index), "custom", name)
        path.write_bytes(path.read_bytes()[:-20])
    assert merge() == 1
    said = capsys.readouterr().err
    assert "custom: 1 questions have not been asked" in said
    assert f"results/{name_of(2)}/custom/predictions.jsonl: lines that do not count" in said
    assert "have no line in trace.jsonl: 1." in said
    assert "no part" not in said
    for index, name in ((1, "predictions.jsonl"), (2, "trace.jsonl")):
        # the parts may be being written and are left as they are
        assert not Path("results", name_of(index), "custom", name).read_bytes().endswith(b"\n")


def test_part_without_its_traces_is_named_and_may_be_completed(
    task: Custom, capsys: pytest.CaptureFixture[str]
) -> None:
    put_shards(task, 1, 2, 3)
    traces = Path("results", name_of(2), "custom/trace.jsonl")
    content = traces.read_bytes()
    traces.unlink()
    assert merge() == 1
    said = capsys.readouterr().err
    number = len(shard_samples(task.samples(), 2, COUNT))
    assert f"results/{name_of(2)}/custom/predictions.jsonl: lines that do not count" in said
    assert f"have no line in trace.jsonl: {number}." in said
    assert "have not been asked" not in said
    traces.write_bytes(content)
    assert merge() == 0


def test_part_that_comes_later_is_added(task: Custom) -> None:
    put_shards(task, 1, 3)
    assert merge() == 1
    put_shards(task, 2)
    assert merge() == 0
    assert keys_of() == [sample.key for sample in task.samples()]
    history = json.loads(Path("results/A/custom/manifest.json").read_text())["history"]
    assert len(history) == 2


def test_answers_of_the_run_itself_are_kept(task: Custom) -> None:
    put_part(task, "A", shard_samples(task.samples(), 2, COUNT))
    put_shards(task, 1, 3)
    assert merge() == 0
    assert keys_of() == [sample.key for sample in task.samples()]


def test_failed_question_is_incomplete_and_an_answer_goes_before_a_failure(task: Custom) -> None:
    key = shard_samples(task.samples(), 1, COUNT)[0].key
    put_shards(task, 1, 2, 3, failing=(key,))
    assert merge() == 1
    assert summary_of()["num_failed"] == {"error": 1}
    put_part(task, "again", [sample for sample in task.samples() if sample.key == key])
    names = ",".join([*map(name_of, (1, 2, 3)), "again"])
    assert merge(parts=f"merge=[{names}]") == 0
    assert summary_of()["num_failed"] == {}


def test_limited_parts_become_a_limited_run(task: Custom) -> None:
    put_shards(task, 1, 2, 3, limit=7)
    assert merge() == 0
    summary = summary_of()
    assert (summary["num_questions"], summary["limited"]) == (7, True)
    assert keys_of() == [sample.key for sample in task.samples()[:7]]


def test_missing_part_of_a_limited_run_counts_as_missing(task: Custom) -> None:
    put_shards(task, 1, 2, limit=7)
    assert merge() == 1
    summary = summary_of()
    assert (summary["num_questions"], summary["limited"]) == (7, True)
    assert summary["num_answered"] == len(keys_of()) < 7


def test_parts_of_different_limits_are_refused(
    task: Custom, capsys: pytest.CaptureFixture[str]
) -> None:
    put_shards(task, 1, 2, limit=7)
    put_shards(task, 3)
    assert merge() == 2
    said = capsys.readouterr().err
    assert f"{name_of(1)} limit=7" in said
    assert f"{name_of(3)} limit=None" in said


@pytest.mark.parametrize(
    ("identity", "named"),
    [
        ({"dtype": "float16"}, '`dtype` is "float32" there and "float16" here'),
        ({"checkpoint": {"weights": "other"}}, "`checkpoint`"),
        ({"seed": 1}, "`seed`"),
    ],
)
def test_parts_of_different_identity_are_refused(
    task: Custom, identity: dict[str, Any], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    put_shards(task, 1, 2)
    put_shards(task, 3, **identity)
    assert merge() == 2
    said = capsys.readouterr().err
    assert named in said
    assert f"results/{name_of(3)}/custom is no part of the same run" in said
    assert not Path("results/A/custom").exists()


def test_run_of_other_identity_is_not_added_to(
    task: Custom, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = put_part(task, "A", task.samples()[:2], seed=5)
    before = (folder / "predictions.jsonl").read_bytes()
    put_shards(task, 1, 2, 3)
    assert merge() == 2
    assert "`seed`" in capsys.readouterr().err
    assert (folder / "predictions.jsonl").read_bytes() == before
    assert merge("overwrite=true") == 0
    assert Path("results/A/custom.old-1/predictions.jsonl").read_bytes() == before
    assert keys_of() == [sample.key for sample in task.samples()]


def test_overwrite_that_fails_sets_nothing_aside(task: Custom) -> None:
    put_part(task, "A", task.samples())
    put_shards(task, 1)
    put_shards(task, 2, seed=1)
    assert merge("overwrite=true") == 2
    assert len(keys_of()) == NUM_QUESTIONS


def test_different_answers_to_one_question_are_refused(
    task: Custom, capsys: pytest.CaptureFixture[str]
) -> None:
    put_shards(task, 1, 2, 3)
    put_part(task, "B", task.samples())
    names = ",".join([*map(name_of, (1, 2, 3)), "B"])
    assert merge(parts=f"merge=[{names}]") == 0
    with AnswerStore(Path("results/B/custom")) as store:
        put_answer(store, task.samples()[4], "something else")
    assert merge(parts=f"merge=[{names}]") == 2
    said = capsys.readouterr().err
    assert "1 questions of custom have different answers in different parts: 4 in A-shard-" in said
    assert "and B" in said


def test_changed_questions_are_refused(task: Custom, capsys: pytest.CaptureFixture[str]) -> None:
    put_shards(task, 1, 2, 3)
    text = Path("questions.jsonl").read_text().replace("Question 3?", "Question three?")
    Path("questions.jsonl").write_text(text)
    assert merge() == 2
    said = capsys.readouterr().err
    assert "was asked other questions" in said
    assert "task=custom tasks.custom.questions=FILE" in said


def test_run_that_is_being_written_is_refused(
    task: Custom, capsys: pytest.CaptureFixture[str]
) -> None:
    put_shards(task, 1, 2, 3)
    Path("results/A").mkdir()
    with FileLock("results/A/.custom.lock"):
        assert merge() == 2
    assert "another process" in capsys.readouterr().err


@pytest.mark.few_cases(2)
@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["run=A", "merge=3"], "None of the parts holds answers"),
        (["merge=3"], "`merge` needs the `run`"),
        (["merge=3", "predictions=a.jsonl", "output=o"], "`merge` needs the `run`"),
        (["run=A", "merge=0"], "`merge` must be"),
        (["run=A", "merge=[]"], "`merge` must be"),
        (["run=A", "merge=[a,../b]"], "`merge` must be"),
        (["run=A", "merge=true"], "`merge` must be"),
    ],
)
def test_merge_that_says_nothing_is_refused(
    options: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.run("score", score, options) == 2
    assert named in capsys.readouterr().err


def test_joined_answers_are_left_to_who_writes_them_next(
    task: Custom, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_shards(task, 1, 2, 3)
    path = Path("results/A/custom/predictions.jsonl")

    class Wanted(FolderLock):
        """Of a folder that another program writes to as soon as it is free."""

        def release(self) -> None:
            super().release()
            with path.open("ab") as file:
                file.write(b'{"question_id": ')

    monkeypatch.setattr("runners.storage.merging.FolderLock", Wanted)
    assert merge() == 0
    assert path.read_bytes().endswith(b'\n{"question_id": ')
    assert summary_of()["batch_check"]["recomputed"] == NUM_QUESTIONS


def test_joined_run_without_figures_is_joined_again(
    task: Custom, capsys: pytest.CaptureFixture[str]
) -> None:
    put_shards(task, 1, 2, 3)
    assert merge() == 0
    Path("results/A/custom/summary.json").unlink()
    assert program.run("score", score, ["run=A"]) == 2
    assert "python -m runners.score run=A merge=..." in capsys.readouterr().err
    assert merge() == 0


def test_imported_answers_are_no_part(task: Custom, capsys: pytest.CaptureFixture[str]) -> None:
    put_shards(task, 1)
    put_lines(Path("answers.jsonl"), [{"question_id": 0, "text": "0"}])
    words = ["task=custom", "tasks.custom.questions=questions.jsonl", "tasks.custom.scorer=exact"]
    words += ["tasks.custom.images=images", "predictions=answers.jsonl"]
    assert program.run("score", score, [*words, "run=foreign"]) == 1
    for parts in ("merge=[foreign]", f"merge=[{name_of(1)},foreign]"):
        assert merge(parts=parts) == 2
        assert "foreign/custom was imported from an answer file" in capsys.readouterr().err
    assert not Path("results/A/custom").exists()

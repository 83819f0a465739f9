"""A run again from its manifest: the same answers, or what differs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig
from PIL import Image

from evals.records import Cause, Failure, Sample
from runners.eval import evaluate
from runners.evaluation.rerun import repeatable_options, rerun
from runners.options.build import read_settings
from runners.options.eval import EvalConfig
from runners.options.given import read_given
from runners.options.model import ModelConfig
from runners.options.program import run
from runners.options.task_spec import TaskSpec
from runners.storage.answer_lines import result_line, trace_line
from runners.storage.answer_store import AnswerStore
from tests.runners.conftest import Finished, Shell, promised_bytes, read_lines
from tests.runners.synthetic_runs import write_task

SEQUENTIAL = "llava.generation.sequential.SequentialEngine"
OPTIONS = asdict(
    repeatable_options(EvalConfig(model=ModelConfig(path="owner/model", name="model")))
)


@pytest.fixture(scope="module")
def repeated(
    shell: Shell, demo_run: Finished, tmp_path_factory: pytest.TempPathFactory
) -> Finished:
    """A copy of the demo run, repeated beside it; tests leave both as they are."""
    workspace = tmp_path_factory.mktemp("repeated")
    shutil.copytree(demo_run.workspace / "results", workspace / "results")
    return shell("python -m runners.eval manifest=results/demo runner.num_threads=1", workspace)


@pytest.fixture
def workspace(repeated: Finished, tmp_path: Path) -> Path:
    shutil.copytree(repeated.workspace / "results", tmp_path / "results")
    return tmp_path


@pytest.mark.slow
def test_repeated_run_has_the_same_answers_under_another_name(repeated: Finished) -> None:
    assert repeated.code == 0, repeated.stderr
    for task in ("gqa", "vqav2"):
        files = [
            repeated.workspace / f"results/{run}/{task}/predictions.jsonl"
            for run in ("demo", "demo-rerun")
        ]
        assert files[0].read_bytes() == files[1].read_bytes()
        assert f"{task}: the same answers, sha256 " in repeated.stdout


@pytest.mark.slow
def test_identity_is_repeated_as_it_was(repeated: Finished) -> None:
    for task in ("gqa", "vqav2"):
        manifests = [
            repeated.json(f"results/{run}/{task}/manifest.json") for run in ("demo", "demo-rerun")
        ]
        assert manifests[0]["identity"] == manifests[1]["identity"]
        assert manifests[0]["environment"]["options"] == manifests[1]["environment"]["options"]


@pytest.mark.slow
def test_differing_answers_are_counted_and_fail(shell: Shell, workspace: Path) -> None:
    path = workspace / "results/demo/gqa/predictions.jsonl"
    lines = read_lines(path)
    lines[1]["text"] += " or not"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    manifest = path.with_name("manifest.json")
    content = json.loads(manifest.read_text())
    content["identity"]["checkpoint"]["weights"] = "of another day"
    manifest.write_text(json.dumps(content))
    # as an interruption leaves it, which is gone on with
    (workspace / "results/demo-rerun/gqa/summary.json").unlink()
    finished = shell(f"python -m runners.eval manifest={manifest} run=demo-rerun", workspace)
    assert finished.code == 1
    assert f"gqa: 1 of {len(lines)} answers differ" in finished.stdout
    assert "not the same run any more: checkpoint.weights changed" in finished.stdout
    assert "vqav2" not in finished.stdout


@pytest.mark.slow
def test_what_was_repeated_before_is_not_compared_again(call: Shell, workspace: Path) -> None:
    before = promised_bytes(workspace / "results/demo-rerun")
    for words in ("", " dry_run=true"):
        finished = call(f"python -m runners.eval manifest=results/demo{words}", workspace)
        assert finished.code == 2
        assert finished.stdout == ""
        assert "results/demo-rerun/gqa is finished, so that nothing would be rep" in finished.stderr
        assert "overwrite=true" in finished.stderr
    assert promised_bytes(workspace / "results/demo-rerun") == before


@pytest.mark.slow
def test_part_that_was_repeated_before_is_not_compared_with_the_rest(
    call: Shell, workspace: Path
) -> None:
    shutil.rmtree(workspace / "results/demo-rerun/vqav2")
    finished = call("python -m runners.eval manifest=results/demo", workspace)
    assert finished.code == 2
    assert "results/demo-rerun/gqa is finished" in finished.stderr


@pytest.mark.slow
def test_failures_that_the_original_has_not_are_asked_again(workspace: Path) -> None:
    folder = workspace / "results/demo-rerun/gqa"
    with AnswerStore(folder) as store:
        key, line = next(iter(store.lines.items()))
        sample = Sample(key=key, question_id=key, text="", prompt=str(line["prompt"]))
        failure = Failure(key=key, cause=Cause.ERROR, message="too long")
        store.add(result_line(sample, failure, "m"), trace_line(failure, worker="w", attempts=2))
    asked = []

    def plan(settings: EvalConfig, specs: Mapping[str, TaskSpec]) -> int:
        asked.append(sorted(specs))
        return 2

    def repeat(config: DictConfig) -> int:
        return rerun(read_settings(config, EvalConfig), read_given(config), plan)

    words = [f"manifest={workspace}/results/demo/gqa", f"results_dir={workspace}/results"]
    assert run("eval", repeat, words) == 2
    assert asked == [["gqa"]]
    shutil.copytree(folder, workspace / "results/demo/gqa", dirs_exist_ok=True)
    assert run("eval", repeat, words) == 2
    assert asked == [["gqa"]]


@pytest.mark.slow
def test_task_that_was_set_aside_is_compared_with_its_repetition(workspace: Path) -> None:
    (workspace / "results/demo/gqa").rename(workspace / "results/demo/gqa.old-1")
    words = [f"manifest={workspace}/results/demo/gqa.old-1", f"results_dir={workspace}/results"]

    def answered(_: EvalConfig, specs: Mapping[str, TaskSpec]) -> int:
        assert list(specs) == ["gqa"]
        return 0

    def repeat(config: DictConfig) -> int:
        return rerun(read_settings(config, EvalConfig), read_given(config), answered)

    (workspace / "results/demo-rerun/gqa/summary.json").unlink()
    assert run("eval", repeat, words) == 0
    assert run("eval", repeat, [*words, "tasks.gqa.data_dir=elsewhere"]) == 0


@pytest.mark.slow
def test_planned_rerun_compares_nothing(shell: Shell, workspace: Path) -> None:
    finished = shell("python -m runners.eval manifest=results/demo dry_run=true run=x", workspace)
    assert finished.code == 0, finished.stderr
    assert "answers" not in finished.stdout
    assert not (workspace / "results/x").exists()


def stored(folder: Path, name: str = "gqa", **environment: object) -> Path:
    """A stored run in `folder`, with a complete identity."""
    identity = {"engine": {"replay": "near_ties"}, "conversation": "vicuna_v1"}
    return write_task(folder, name, [1.0], identity=identity, environment=environment)


@pytest.mark.few_cases(3)
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["manifest=nowhere"], "`manifest` must be a run's folder or a manifest.json in it"),
        (["manifest=old"], "does not keep the options of its run"),
        (["manifest=imported"], "was imported from an answer file"),
        (["manifest=trained"], "was answered inside another program"),
        (["manifest=torn"], "is no manifest"),
        (["manifest=foreign"], "does not say how its task was configured"),
        (["manifest=mixed"], "were answered under different options: limit"),
        (["manifest=fine", "limit=3"], "limit cannot be given with it"),
        (["manifest=fine", "model.name=x", "seed=1"], "model.name, seed cannot be given with it"),
        (["manifest=fine", "runner.shard=1/2"], "runner.shard cannot be given with it"),
        (["manifest=fine", "tasks.vqav2.data_dir=x"], "tasks.vqav2.data_dir cannot be given"),
        (["manifest=fine", "task=[gqa,vqav2]"], "task cannot be given with it"),
        (["manifest=fine", "model=llava-v1.5-7b"], "model=llava-v1.5-7b cannot be given with it"),
        (["manifest=fine", "model=llava-v1.5-7b", "model.path=x"], "folder with model.path=DIR"),
        (["manifest=fine", "run=fine", "results_dir=."], "`run` must name another run"),
        (["manifest=a-shard-1-of-2", "run=a", "results_dir=."], "/a-shard-1-of-2 too. Leave it"),
        (["manifest=fine", "engine.replay=off"], '`engine.replay` is "near_ties" there'),
        (["manifest=fine", "engine.near_tie_threshold=1"], "`engine.near_tie_threshold` is null"),
        (["manifest=tied", "engine.near_tie_threshold=1"], "`engine.near_tie_threshold` is 0.25"),
        (["manifest=tied", "engine=sequential"], "without other options of the engine"),
        (["manifest=loose", "engine.replay=all"], '`engine.replay` is "off" there'),
        (["manifest=beams"], "was answered with beams and a temperature together"),
    ],
)
def test_what_cannot_be_repeated_is_refused(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    stored(tmp_path / "fine", options=OPTIONS)
    stored(tmp_path / "old")
    stored(tmp_path / "foreign", options=OPTIONS, task={"_target_": "x", "y": {"_target_": "z"}})
    write_task(tmp_path / "imported", "gqa", [1.0], identity={"imported": "sha"})
    write_task(tmp_path / "trained", "gqa", [1.0], identity={"in_process": {"weights": "sha"}})
    (stored(tmp_path / "torn") / "manifest.json").write_text("{")
    for name, engine in {
        "tied": {"replay": "near_ties", "near_tie_threshold": 0.25},
        "loose": {"replay": "off"},
    }.items():
        identity = {"engine": engine, "conversation": "vicuna_v1"}
        write_task(
            tmp_path / name, "gqa", [1.0], identity=identity, environment={"options": OPTIONS}
        )
    stored(tmp_path / "a-shard-1-of-2", options=OPTIONS, runner={"shard": "1/2"})
    generation = {"temperature": 0.2, "num_beams": 3}
    stored(tmp_path / "beams", options=OPTIONS | {"generation": generation})
    stored(tmp_path / "mixed", options=OPTIONS)
    stored(tmp_path / "mixed", "textvqa", options=OPTIONS | {"limit": 3})
    assert run("eval", evaluate, words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_folders_are_kept_as_absolute_paths_and_hub_ids_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "checkpoint-500").mkdir()
    monkeypatch.chdir(tmp_path)
    model = ModelConfig(path="checkpoint-500", base="lmsys/vicuna-13b-v1.5")
    kept = repeatable_options(EvalConfig(model=model)).model
    assert kept.path == str(tmp_path / "checkpoint-500")
    assert kept.base == "lmsys/vicuna-13b-v1.5"
    assert kept.name == "checkpoint-500"


@pytest.mark.few_cases(2)
@pytest.mark.parametrize(
    ("identity", "given", "engine"),
    [
        ({"replay": "near_ties"}, [], {"replay": "near_ties", "near_tie_threshold": None}),
        ({"replay": "off"}, [], {"replay": "off"}),
        ({"replay": "near_ties", "near_tie_threshold": 0.25}, [], {"near_tie_threshold": 0.25}),
        ({"replay": "near_ties"}, ["engine.replay=all"], {"replay": "all"}),
        ({"replay": "near_ties"}, ["engine=sequential"], {"_target_": SEQUENTIAL}),
        ({"replay": "off"}, ["engine.max_tokens=99"], {"replay": "off", "max_tokens": 99}),
    ],
)
def test_what_the_engine_may_leave_to_chance_is_repeated(
    identity: dict[str, object],
    given: list[str],
    engine: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "original"
    everything = {"engine": identity, "conversation": "vicuna_v1"}
    write_task(folder, "gqa", [1.0], identity=everything, environment={"options": OPTIONS})
    configured = []

    def plan(settings: EvalConfig, specs: Mapping[str, TaskSpec]) -> int:
        configured.append(settings.engine.to_json())
        assert list(specs) == ["gqa"]
        return 2

    def repeat(config: DictConfig) -> int:
        return rerun(read_settings(config, EvalConfig), read_given(config), plan)

    assert run("eval", repeat, ["manifest=original", *given]) == 2
    assert configured[0].items() >= engine.items()


@pytest.mark.parametrize(
    ("task", "options", "moved"),
    [
        ("pope", {}, "data_dir"),
        ("custom", {"questions": "q.jsonl", "images": "pictures"}, "questions"),
        ("custom", {"questions": "q.jsonl", "images": "pictures"}, "images"),
    ],
)
def test_data_of_any_task_may_have_moved(
    task: str,
    options: dict[str, str],
    moved: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    identity = {"engine": {"replay": "near_ties"}, "conversation": "vicuna_v1"}
    kept = {"options": OPTIONS}
    write_task(tmp_path / "run", task, [1.0], options=options, identity=identity, environment=kept)
    places = []

    def plan(settings: EvalConfig, specs: Mapping[str, TaskSpec]) -> int:
        places.append(str(specs[task].options[moved]))
        return 2

    def repeat(config: DictConfig) -> int:
        return rerun(read_settings(config, EvalConfig), read_given(config), plan)

    words = ["manifest=run", f"task={task}"]
    words += [
        f"tasks.{task}.{name}={value}" for name, value in {**options, moved: "elsewhere"}.items()
    ]
    assert run("eval", repeat, words) == 2
    assert places == ["elsewhere"]


@pytest.mark.few_cases(2)
@pytest.mark.parametrize(
    ("options", "identity", "named"),
    [
        ({"results_dir": "elsewhere", "overwrite": True}, {}, "results_dir"),
        ({"runner": {"_target_": "os.system"}}, {}, "runner"),
        ({"limit": "three"}, {}, "`limit`: Value 'three'"),
        ({"seed": {"a": 1}}, {}, "`seed`: "),
        ({"model": {"path": "p", "pth": "q"}}, {}, "pth"),
        ({"model": {"path": "p", "attention": "fast"}}, {}, "model.attention"),
        ({"generation": {"num_beams": 0}}, {}, "num_beams"),
        ({}, {"dtype": "float8"}, "dtype"),
        ({}, {"dtype": {"a": 1}}, "`dtype`: "),
        ({}, {"engine": {"replay": "sometimes"}}, "engine.replay"),
        ({}, {"engine": {"replay": "off", "_target_": "os.system"}}, "_target_"),
        ({}, {"engine": "packed"}, "packed"),
        ({}, {"conversation": ["vicuna_v1"]}, "`conversation`: "),
    ],
)
def test_manifest_that_says_more_than_a_run_keeps_is_refused(
    options: dict[str, object],
    identity: dict[str, object],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    whole = {"engine": {"replay": "near_ties"}, "conversation": "vicuna_v1", **identity}
    environment = {"options": OPTIONS | options}
    write_task(tmp_path / "strange", "gqa", [1.0], identity=whole, environment=environment)
    assert run("eval", evaluate, ["manifest=strange"]) == 2
    said = capsys.readouterr().err
    assert "strange/gqa/manifest.json" in said
    assert named in said
    assert said.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["strange"]


def test_interpolation_in_a_manifest_is_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = ModelConfig(path="owner/${oc.env:HOME}", name="m")
    options = {"options": asdict(repeatable_options(EvalConfig(model=model)))}
    whole = {"engine": {"replay": "near_ties"}, "conversation": "vicuna_v1"}
    write_task(tmp_path / "original", "gqa", [1.0], identity=whole, environment=options)
    paths = []

    def plan(settings: EvalConfig, specs: Mapping[str, TaskSpec]) -> int:
        paths.append(settings.model.path)
        return 2

    def repeat(config: DictConfig) -> int:
        return rerun(read_settings(config, EvalConfig), read_given(config), plan)

    assert run("eval", repeat, ["manifest=original"]) == 2
    assert paths == ["owner/${oc.env:HOME}"]


def write_run(
    folder: Path,
    scores: list[float],
    identity: Mapping[str, object] | None = None,
    hashes: Mapping[str, str] | None = None,
) -> None:
    """A stored run of GQA with everything that a repetition compares."""
    usual = {"engine": {"replay": "near_ties"}, "conversation": "vicuna_v1"}
    usual |= {"data": {"q.json": "a"}, "adapter": {"weights": "a"}}
    kept = {"options": OPTIONS}
    task = write_task(folder, "gqa", scores, identity=usual | (identity or {}), environment=kept)
    summary = json.loads((task / "summary.json").read_text())
    summary["hashes"] |= {"code": "a", **(hashes or {})}
    (task / "summary.json").write_text(json.dumps(summary))


@pytest.mark.few_cases(3)
@pytest.mark.parametrize(
    ("scores", "others", "code", "told"),
    [
        ([1.0, 0.0], {}, 0, []),
        ([1.0, 1.0], {}, 1, ["other figures than", "accuracy is 50.00 there and 100.00 here"]),
        (
            [0.0, 0.0],
            {"identity": {"data": {"q.json": "b"}}, "hashes": {"data": "b"}},
            1,
            ["50.00 there and 0.00 here", "data.q.json changed", "the data differ (q.json"],
        ),
        ([0.0, 1.0], {"hashes": {"data": "b"}}, 0, ["the data differ"]),
        ([1.0, 0.0], {"hashes": {"scorer": "b"}}, 0, ["the scores are by other definitions"]),
        ([1.0, 0.0], {"identity": {"adapter": {"weights": "b"}}}, 0, ["adapter.weights changed"]),
        ([1.0, 0.0], {"hashes": {"code": "b"}}, 0, []),
        ([1.0, 1.0], {"hashes": {"code": "b"}}, 1, ["(scored by another version of the code)"]),
    ],
)
def test_same_answers_are_not_yet_the_same_run(
    scores: list[float],
    others: dict[str, Any],
    code: int,
    told: list[str],
    in_own_folder: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def answered(settings: EvalConfig, specs: Mapping[str, TaskSpec]) -> int:
        assert list(specs) == ["gqa"]
        write_run(Path("results/first"), scores, **others)
        return 0

    def repeat(config: DictConfig) -> int:
        return rerun(read_settings(config, EvalConfig), read_given(config), answered)

    write_run(Path("first"), [1.0, 0.0])
    assert run("eval", repeat, ["manifest=first", "run=first"]) == code
    said = capsys.readouterr().out
    assert said.startswith("gqa: the same answers, sha256 ")
    assert [part for part in told if part not in said] == []
    assert bool(told) == (said.count("\n") > 1)


@pytest.mark.slow
@pytest.mark.parametrize("scorer", ["none", "exact"])
def test_other_picture_under_the_same_name_is_told(
    scorer: str, questions: Path, shell: Shell, tiny_checkpoint: Path
) -> None:
    workspace = questions.parent
    lines = [line for line in questions.read_text().splitlines() if "gone.png" not in line]
    questions.write_text("".join(line + "\n" for line in lines))
    command = (
        f"python -m runners.eval model.path={tiny_checkpoint} task=custom run=first canary=off "
        f"tasks.custom.questions={questions} tasks.custom.images={workspace}/images "
        f"tasks.custom.scorer={scorer} generation.max_new_tokens=4 runner.num_threads=1"
    )
    assert shell(command, workspace).code == 0
    Image.new("RGB", (40, 30), "green").save(workspace / "images" / "blue.png")
    finished = shell("python -m runners.eval manifest=results/first canary=off", workspace)
    said = "custom: the images were others: 1 of the 3 questions that both runs were asked"
    assert said in finished.stdout, finished.stderr

from __future__ import annotations

import errno
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from omegaconf import DictConfig

from evals.errors import DataError
from llava.errors import CheckpointError, ConversationError
from runners.errors import ConfigError, WorkerError
from runners.options import program
from runners.options.build import read_settings, read_task_specs
from runners.options.eval import EvalConfig
from runners.options.names import run_name
from runners.options.sweep_jobs import RemoteJobs, note_figures
from tests.runners.conftest import Finished, Shell

GQA = ["task=gqa"]
CUSTOM = ["task=custom", "tasks.custom.questions=q.jsonl"]


def composing(config: DictConfig) -> int:
    read_settings(config, EvalConfig)
    return 0


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)


@pytest.mark.few_cases(2)
@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["limits=3"], "limits"),
        (["tasks.gqa.data_dirr=x", *GQA], "tasks.gqa.data_dirr"),
        (["tasks.pope.split=x", *GQA], "Choose the benchmark first, with task=pope."),
        (["model.paths=x"], "model.paths"),
        (["generation.max_tokens=3"], "generation.max_tokens"),
        (["limit=three"], "limit"),
        (["overwrite=2.5"], "overwrite"),
        (["generation.temperature=warm"], "generation.temperature"),
        (["task=gqq"], "`task=gqq`: There is no task gqq. Did you mean `task=gqa`?"),
        (["model=llava-v9"], "There is no model llava-v9."),
        (["conversation=vicuna_v9"], "Did you mean `conversation=vicuna_v1`?"),
        (["quantization=int3"], "The choices are fp4, int8, nf4, none."),
        (["limit=0"], "limit"),
        (["max_failures=-1"], "max_failures"),
        (["canary=null"], "canary"),
        (["dtype=int8"], "dtype"),
        (["dtype=bf16"], "Did you mean `dtype=bfloat16`?"),
        (["model.attention=flash-attn"], "Did you mean `model.attention=flash_attention_2`?"),
        (["device=gpu"], "Did you mean `device=cuda`?"),
        (["device=1"], "Did you mean `device=cuda:1`?"),
        (["device=tpu"], "device"),
        (["generation.max_new_tokens=0"], "generation.max_new_tokens"),
        (["generation.temperature=-1"], "temperature"),
        (["generation.temperature=nan"], "`temperature` must be 0 or larger and finite"),
        (["generation.temperature=inf"], "`temperature` must be 0 or larger and finite"),
        (["generation.top_p=2"], "top_p"),
        (["generation.top_p=nan"], "`top_p` must be in (0, 1]"),
        (["generation.num_beams=0"], "num_beams"),
        (["generation=beam", "generation.temperature=0.2"], "Use `temperature` 0 for beams."),
        (["limit"], "limit"),
        (["limit=[1"], "limit"),
        (["model=checkpoint"], "`model.path` must be given. Set model.path=VALUE"),
        (["-m", "limit=1,x"], "limit"),
    ],
)
def test_wrong_option_is_one_paragraph_that_names_it(
    argv: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.run("eval", composing, argv) == 2
    captured = capsys.readouterr()
    assert named in captured.err
    assert "Traceback" not in captured.err
    assert "\n\n" not in captured.err.strip()
    assert not re.search("full_key|object_type|provider=|hydra.cc", captured.err)
    assert captured.out == ""


@pytest.mark.few_cases(2)
@pytest.mark.parametrize("value", ["null", "5", "gqa"])
@pytest.mark.parametrize("option", ["tasks.gqa", "+tasks.mine"])
def test_task_that_is_no_mapping_is_refused(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def reading(config: DictConfig) -> int:
        read_task_specs(config)
        return 0

    assert program.run("eval", reading, [f"{option}={value}", *GQA]) == 2
    said = capsys.readouterr().err
    assert f"`{option.lstrip('+')}` must be a mapping of options, but is " in said
    assert "Traceback" not in said


def named_tasks(*options: str) -> tuple[int, list[str]]:
    """The exit code of a program that composes own questions with GQA, and the tasks' names."""
    names: list[str] = []

    def reading(config: DictConfig) -> int:
        names.extend(spec.build().name for spec in read_task_specs(config).values())
        return 0

    argv = ["task=[custom,gqa]", "tasks.custom.questions=q.jsonl", *options]
    return program.run("eval", reading, argv), names


@pytest.mark.few_cases(2)
@pytest.mark.parametrize("name", ["mine", "5", "2024", "2026_11_27", "it's"])
def test_name_of_own_questions_is_text(name: str) -> None:
    assert named_tasks(f"tasks.custom.name={name}") == (0, [name, "gqa"])


@pytest.mark.few_cases(2)
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["tasks.custom.name=../../../escaped"], "'../../../escaped'. Set tasks.custom.name=NAME"),
        (["tasks.custom.name=.."], "without slashes"),
        (["tasks.custom.name="], "but is ''"),
        (["tasks.custom.name=null"], "but is None"),
        (["tasks.custom.name=a/b"], "'a/b'"),
        (["tasks.custom.name=gqa.old-1"], "does not end in .old-N"),
        (
            ["tasks.custom.name=gqa"],
            "the name 'gqa', but that is the one of evals.tasks.gqa.GQA. Choose another",
        ),
        (["+tasks.other._target_=evals.tasks.gqa.GQA", "+tasks.other.data_dir=x"], "`tasks.other`"),
    ],
)
def test_name_of_a_task_that_its_folder_cannot_have_is_refused(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert named_tasks(*options)[0] == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1


@pytest.mark.few_cases(1)
@pytest.mark.parametrize(
    ("run", "names"),
    [
        (["run=2026_11_27"], ["2026_11_27"]),
        (["run=ünï"], ["ünï"]),
        (["run=s${seed}", "seed=3"], ["s3"]),
        (["-m", "run=1e3,true"], ["1e3", "true"]),
        (["-m", "run=s${seed}", "seed=1,2"], ["s1", "s2"]),
        (["-m", "model.name=007,1e3"], ["007-limit1", "1e3-limit1"]),
        (["-m", "model.path=a/5,it's"], ["5-limit1", "it's-limit1"]),
    ],
)
def test_run_is_called_what_was_typed(run: list[str], names: list[str]) -> None:
    seen: list[str] = []

    def naming(config: DictConfig) -> int:
        seen.append(run_name(read_settings(config, EvalConfig)))
        return 0

    assert program.run("eval", naming, ["model=checkpoint", "model.path=m", "limit=1", *run]) == 0
    assert seen == names


@pytest.mark.few_cases(3)
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["model.path=a/final,b/final"],
            "Jobs 1 and 2 of the sweep would be kept in results/final",
        ),
        (
            ["model.path=a/final,b/x,c/final"],
            "`model.path` is a/final in the one and c/final in the other. No job",
        ),
        (
            ["model.path=x", "model.base=A,B"],
            "`model.base` is A in the one and B in the other. No job was begun.",
        ),
        (["model.path=a/x,b/y", "run=mine"], "`model.path` is a/x in the one and b/y in the other"),
        (["model.path=a/final,b/final", "run=mine"], "with another run=NAME."),
        (
            ["model.path=x", "model.revision=v1,v2"],
            "`model.revision` is v1 in the one and v2 in the other",
        ),
        (["model.path=a/y,b/y", "task=gqa,pope"], "Jobs 1 and 3 of the sweep would be kept in"),
        (
            ["model.path=x", "seed=1,2", "overwrite=true"],
            "command of its own with another run=NAME.",
        ),
        (
            ["model.path=x,./x", "overwrite=true"],
            "the one would set aside the answers of the other",
        ),
    ],
)
def test_sweep_whose_jobs_would_share_a_run_is_refused_before_the_first(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []
    argv = ["-m", "model=checkpoint", *words]
    Path("x").mkdir()
    assert program.run("eval", returning({}, seen), argv) == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1
    assert seen == []


@pytest.mark.few_cases(3)
@pytest.mark.parametrize(
    ("words", "number"),
    [
        (["model.path=a,b", "limit=3,4", "overwrite=true"], 4),
        (["model.path=x", "engine=packed,sequential"], 2),
        (["model.path=x,./x"], 2),
        (["model.path=x", "seed=1,2"], 2),
        (["model.path=x", "task=gqa,pope", "overwrite=true"], 2),
        ([*CUSTOM, "model.path=x", "tasks.custom.name=a,b", "overwrite=true"], 2),
        ([*CUSTOM, "seed=1,2", "tasks.custom.name=n${seed}", "model.path=x", "overwrite=true"], 2),
        (["model.path=x", "runner.shard=1/2,2/2", "overwrite=true"], 2),
        (["model.path=x", "seed=1,2", "run=s${seed}", "overwrite=true"], 2),
        (["model.path=x", "seed=1,2", "run=s${hydra:job.num}", "overwrite=true"], 2),
        (["model.path=a,b", "run=s${hydra:job.num}"], 2),
        (["model.path=a/x,b/x", "results_dir=${seed}", "seed=1,2", "model.name=${model.path}"], 4),
        (["manifest=a,b", "model.path=x", "overwrite=true"], 2),
        (["experiment=quantization-study", "model.path=x", "overwrite=true"], 4),
    ],
)
def test_sweep_whose_jobs_may_share_a_run_or_share_none_goes_on(
    words: list[str], number: int
) -> None:
    names: list[str] = []

    def job(config: DictConfig) -> int:
        names.append(run_name(read_settings(config, EvalConfig)))
        return 0

    Path("x").mkdir()
    argv = ["-m", "model=checkpoint", *words]
    assert program.run("eval", job, argv) == 0
    assert len(names) == number


@pytest.mark.few_cases(3)
@pytest.mark.parametrize(
    ("option", "meant"),
    [
        ("taks=gqa", "task"),
        ("limitt=3", "limit"),
        ("modl=llava-v1.5-7b", "model"),
        ("model.paths=x", "model.path"),
        ("runer.num_workers=1", "runner.num_workers"),
        ("task.gqa.data_dir=x", "tasks.gqa.data_dir"),
        ("generations.limit=3", "limit"),
        ("model.seed=3", "seed"),
        ("tasks.gqa.limit=3", "limit"),
        ("generatio.max_tokens=3", None),
        ("tasks.gqa.data_dirr=x", "tasks.gqa.data_dir"),
        ("limit=three", None),
        ("judge=openai", None),
        ("zzz=1", None),
    ],
)
def test_misspelt_option_is_told_what_it_is_close_to_and_nothing_else(
    option: str, meant: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.run("eval", composing, [option, *GQA]) == 2
    said = capsys.readouterr().err
    assert re.findall("Did you mean `(.+?)`", said) == ([] if meant is None else [meant])
    assert "To append" not in said


@pytest.mark.few_cases(3)
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DataError("file:3 is wrong. Mend it."), 2),
        (CheckpointError("file:3 is wrong. Mend it."), 2),
        (ConversationError("file:3 is wrong. Mend it."), 2),
        (ConfigError("file:3 is wrong. Mend it."), 2),
        (WorkerError("file:3 is wrong. Mend it."), 1),
        (OSError(errno.ENOSPC, "file:3 is wrong. Mend it."), 1),
    ],
)
def test_known_error_is_its_message_and_code(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(config: DictConfig) -> int:
        raise error

    assert program.run("eval", failing, []) == code
    message = capsys.readouterr().err
    assert "file:3 is wrong. Mend it." in message
    assert "Traceback" not in message


def test_traceback_comes_when_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(config: DictConfig) -> int:
        raise DataError("wrong")

    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    assert program.run("eval", failing, []) == 2
    assert "Traceback" in capsys.readouterr().err


def test_defect_of_a_job_is_not_taken_for_bad_input() -> None:
    def failing(config: DictConfig) -> int:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        program.run("eval", failing, [])


def test_job_sees_the_command_line_and_environment_of_the_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[object] = []

    def looking(config: DictConfig) -> int:
        seen.extend([sys.argv[1:], os.environ.get("HYDRA_FULL_ERROR")])
        return 0

    monkeypatch.setattr(sys, "argv", ["eval.py", "model.path=/a/b=c"])
    assert program.run("eval", looking, ["model.path=/a/b=c"]) == 0
    assert seen == [["model.path=/a/b=c"], None]


def returning(codes: dict[str, int], seen: list[str]) -> Callable[[DictConfig], int]:
    def job(config: DictConfig) -> int:
        seen.append(config.model.path)
        return codes[config.model.path]

    return job


@pytest.mark.few_cases(1)
@pytest.mark.parametrize(
    ("codes", "code", "num_run"),
    [
        ((0, 0, 0), 0, 3),
        ((0, 1, 0), 1, 3),
        ((1, 2, 0), 2, 3),
        ((2, 0, 1), 2, 3),
        ((1, 130, 0), 130, 2),
        ((143, 0, 2), 143, 1),
    ],
)
def test_sweep_runs_every_job_and_exits_with_the_gravest_code(
    codes: tuple[int, ...], code: int, num_run: int, capsys: pytest.CaptureFixture[str]
) -> None:
    paths, seen = ["/a=1", "/b", "/c"], []
    job = returning(dict(zip(paths, codes, strict=True)), seen)
    assert (
        program.run("eval", job, ["-m", "model=checkpoint", f"model.path={','.join(paths)}"])
        == code
    )
    assert seen == paths[:num_run]
    said = capsys.readouterr().err.splitlines()
    failed = [
        line.replace(":", f" ended with exit code {ended}:", 1)
        for line, ended in zip(said[:num_run], codes, strict=False)
        if ended
    ]
    skipped = [f"Jobs of the sweep not begun: {3 - num_run}"] if num_run < 3 else []
    assert said[num_run:] == failed + skipped


def test_a_sweep_ends_with_one_table_of_its_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    def job(config: DictConfig) -> int:
        note_figures({"run": f"r{config.limit}"})
        if config.limit == 2:
            note_figures({"gqa": "61.90"})
        return 0 if config.limit == 2 else 1

    program.run("eval", job, ["-m", "task=gqa", "limit=1,2"])
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert table == [
        ["job", "exit", "run", "gqa", "options"],
        ["1", "1", "r1", "-", "limit=1"],
        ["2", "0", "r2", "61.90", "limit=2"],
    ]
    program.run("eval", job, ["limit=2"])
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_overrides_may_stand_on_both_sides_of_the_sweep_flag() -> None:
    seen: list[str] = []
    job = returning({"/a": 0, "/b": 0}, seen)
    assert program.run("eval", job, ["model=checkpoint", "-m", "model.path=/a,/b", "limit=1"]) == 0
    assert seen == ["/a", "/b"]


@pytest.mark.few_cases(1)
@pytest.mark.parametrize("argv", [["limit=1"], ["-m", "limit=1,2"], ["limits=1"]])
def test_nothing_is_left_in_the_folder(argv: list[str]) -> None:
    program.run("eval", composing, argv)
    assert list(Path.cwd().iterdir()) == []


def test_interrupt_while_composing_is_130() -> None:
    def interrupted(config: DictConfig) -> int:
        signal.raise_signal(signal.SIGINT)
        return 0

    assert program.run("eval", interrupted, []) == 130


def test_help_lists_models_tasks_and_quantizations(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.run("eval", composing, ["--help"]) == 0
    shown = capsys.readouterr().out
    for name in ("llava-v1.5-13b", "checkpoint", "scienceqa", "custom", "none", "vicuna_v1"):
        assert name in shown


@pytest.mark.few_cases(1)
@pytest.mark.parametrize("option", ["+limitt=3", "+model.pth=x"])
def test_option_that_a_plus_put_in_is_refused(
    option: str, shell: Callable[[str, Path], Finished], tmp_path: Path
) -> None:
    finished = shell(f"python -m runners.eval {option}", tmp_path)
    assert finished.code == 2
    assert f"`{option[1:].partition('=')[0]}` is no option" in finished.stderr


@pytest.mark.few_cases(1)
@pytest.mark.parametrize("unbuffered", ["", "PYTHONUNBUFFERED=1 "])
@pytest.mark.parametrize(
    "program", ["llava_evals list models", "llava_evals --help", "runners.eval --help"]
)
def test_reader_that_has_seen_enough_is_no_error(
    program: str, unbuffered: str, shell: Shell, tmp_path: Path
) -> None:
    command = f"{unbuffered}python -m {program}"
    finished = shell(f"bash -o pipefail -c '{command} | true'", tmp_path)
    assert (finished.code, finished.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize(("unbuffered", "code"), [("", 0), ("PYTHONUNBUFFERED=1 ", 1)])
def test_reader_that_has_seen_enough_of_a_table_is_no_error(
    unbuffered: str, code: int, shell: Shell, tmp_path: Path
) -> None:
    """What is left undone because nobody reads it is not said to be done."""
    command = f"{unbuffered}python -m runners.leaderboard"
    (tmp_path / "results").mkdir()
    finished = shell(f"bash -o pipefail -c '{command} | true'", tmp_path)
    assert finished.code == code
    assert "roken pipe" not in finished.stderr


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("program", ["runners.leaderboard", "llava_evals list models"])
def test_output_that_finds_no_room_is_no_success(
    program: str, shell: Shell, tmp_path: Path
) -> None:
    (tmp_path / "results").mkdir()
    finished = shell(f"python -m {program} > /dev/full", tmp_path)
    assert finished.code == 1
    assert "stdout cannot be written: No space left on device. Make room" in finished.stderr
    assert "Exception" not in finished.stderr


def test_cache_in_a_closed_home_keeps_no_program_from_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbid(path: object, **_: object) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "stat", forbid)  # root may look into everything
    assert RemoteJobs(tmp_path).collect() == []

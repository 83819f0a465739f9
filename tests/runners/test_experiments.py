"""The pinned experiments: what one command evaluates, composed as the program composes it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from runners.options import program
from runners.options.build import read_settings, read_task_specs
from runners.options.eval import EvalConfig
from runners.options.names import run_name
from runners.options.words import imply_checkpoint, quote_free_text
from tests.runners.conftest import CHECKOUT, Finished

PAPER = [
    *("vqav2", "gqa", "vizwiz", "scienceqa", "textvqa", "pope", "mme", "mmbench", "mmbench_cn"),
    *("seedbench", "llavabench", "mmvet"),
]


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Jobs:
    """Composes every job of a command and ends it with the given exit codes."""

    def __init__(self, *codes: int) -> None:
        self.settings: list[EvalConfig] = []
        self.tasks: list[list[str]] = []
        self.is_sweep = False
        self._codes = list(codes)

    def __call__(self, config: DictConfig) -> int:
        self.settings.append(read_settings(config, EvalConfig))
        self.tasks.append([spec.build().name for spec in read_task_specs(config).values()])
        self.is_sweep = HydraConfig.get().mode is RunMode.MULTIRUN
        return self._codes.pop(0) if self._codes else 0

    def run(self, *words: str) -> int:
        return program.run("eval", self, imply_checkpoint(list(words)))

    @property
    def names(self) -> list[str]:
        return [run_name(settings) for settings in self.settings]


def test_paper_table_is_one_command(tmp_path: Path) -> None:
    jobs = Jobs()
    assert jobs.run("experiment=llava-1.5-table") == 0
    assert jobs.names == ["llava-v1.5-7b", "llava-v1.5-13b"]
    assert jobs.tasks == [PAPER, PAPER]
    assert [settings.model.published for settings in jobs.settings] == jobs.names
    assert {settings.generation.temperature for settings in jobs.settings} == {0.0}
    assert list(tmp_path.iterdir()) == []


NEXT = ["mmmu", "mathvista", *PAPER]
ONEVISION = [
    *("ai2d", "chartqa", "docvqa", "infovqa", "mathvista", "mmbench", "mme", "mmstar", "mmmu"),
    *("mmvet", "seedbench", "scienceqa", "realworldqa", "llavabench"),
]


@pytest.mark.parametrize(("suite", "tasks"), [("llava-next", NEXT), ("onevision", ONEVISION)])
def test_suite_is_one_word(suite: str, tasks: list[str]) -> None:
    jobs = Jobs()
    assert jobs.run("model=llava-v1.6-vicuna-7b", f"task={suite}") == 0
    assert jobs.tasks == [tasks]


@pytest.mark.slow
def test_quantization_study_is_one_command() -> None:
    jobs = Jobs()
    assert jobs.run("experiment=quantization-study") == 0
    kinds = ["", "-int8", "-nf4", "-fp4"]
    assert jobs.names == [f"llava-v1.5-7b{kind}" for kind in kinds]
    assert jobs.tasks == [["gqa", "scienceqa", "textvqa", "pope"]] * 4


@pytest.mark.slow
def test_options_go_before_the_experiment() -> None:
    jobs = Jobs()
    words = ["model=llava-demo", "task=gqa", "limit=3", "quantization=none,nf4"]
    assert jobs.run("experiment=quantization-study", *words) == 0
    assert jobs.names == ["llava-demo-limit3", "llava-demo-nf4-limit3"]
    assert jobs.tasks == [["gqa"]] * 2


def test_lora_sweep_takes_every_checkpoint_that_a_pattern_matches(tmp_path: Path) -> None:
    for step in (1000, 500, 2000):
        (tmp_path / f"llava-v1.5-13b-lora/checkpoint-{step}").mkdir(parents=True)
    jobs = Jobs()
    path = "model.path=llava-v1.5-13b-lora/checkpoint-*"
    assert jobs.run("experiment=lora-sweep", path, "model.base=BASE") == 0
    steps = ["500", "1000", "2000"]
    assert jobs.names == [f"llava-v1.5-13b-lora_checkpoint-{step}" for step in steps]
    assert {settings.model.base for settings in jobs.settings} == {"BASE"}
    assert jobs.tasks == [["gqa", "scienceqa", "textvqa"]] * 3


@pytest.mark.slow
def test_lora_sweep_takes_a_list_of_checkpoints() -> None:
    jobs = Jobs()
    assert jobs.run("experiment=lora-sweep", "model.path=a=1,b", "model.base=BASE") == 0
    assert [settings.model.path for settings in jobs.settings] == ["a=1", "b"]


def test_lora_sweep_without_checkpoints_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert Jobs().run("experiment=lora-sweep") == 2
    assert "model.path" in capsys.readouterr().err


@pytest.mark.few_cases(1)
@pytest.mark.parametrize(("codes", "expected"), [((1, 0), 1), ((1, 2), 2), ((143, 0), 143)])
def test_exit_code_is_that_of_a_sweep(codes: tuple[int, ...], expected: int) -> None:
    jobs = Jobs(*codes)
    assert jobs.run("experiment=llava-1.5-table", "task=gqa") == expected
    assert len(jobs.settings) == (1 if codes[0] == 143 else 2)


@pytest.mark.slow
def test_sweep_flag_beside_an_experiment_changes_nothing() -> None:
    jobs = Jobs()
    assert jobs.run("-m", "experiment=llava-1.5-table", "task=gqa") == 0
    assert len(jobs.settings) == 2


def test_unknown_experiment_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert Jobs().run("experiment=llava-9-table") == 2
    assert "There is no experiment llava-9-table" in capsys.readouterr().err


def test_experiment_can_be_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    assert Jobs().run("experiment=llava-1.5-table", "--cfg", "job") == 0
    assert "evals.tasks.mmvet.MMVet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "quoted"),
    [
        (["-m", "model.path=none-*"], "model.path='none-*'"),
        (["-m", "model.path=c-?"], "model.path='c-1','c-2'"),
        (["-m", "model.path='c-?'"], "model.path='c-?'"),
        (["-m", "model.base=c-?"], "model.base='c-?'"),
        (["model.path=c-?"], "model.path='c-?'"),
    ],
)
def test_patterns_stand_for_checkpoints_in_sweeps_alone(
    words: list[str], quoted: str, tmp_path: Path
) -> None:
    for name in ("c-2", "c-1"):
        (tmp_path / name).mkdir()
    assert quote_free_text(words, EvalConfig)[-1] == quoted


@pytest.mark.slow
def test_quantization_study_runs_on_the_demo(
    shell: Callable[[str, Path], Finished], tmp_path: Path
) -> None:
    finished = shell(
        "python -m runners.eval experiment=quantization-study model=llava-demo task=demo limit=4 "
        "quantization=none,nf4 && python -m runners.leaderboard formats=[csv]",
        tmp_path,
    )
    assert finished.code == 0, finished.stderr
    for run in ("llava-demo-limit4", "llava-demo-nf4-limit4"):
        summary = json.loads((tmp_path / f"results/{run}/gqa/summary.json").read_text())
        assert summary["num_answered"] == 4
        assert run in finished.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def commands() -> list[str]:
    """The commands of the page, in its blocks and in its table."""
    page = (CHECKOUT / "docs/sweeps.md").read_text(encoding="utf-8")
    found = re.findall(r"^(?:\| `)?(python -m runners\.eval .*?)(?:` \|.*)?$", page, re.MULTILINE)
    assert len(found) == 8
    return found


@pytest.mark.slow
@pytest.mark.parametrize("command", commands())
def test_commands_of_the_page_compose_as_they_stand(command: str) -> None:
    for step in (500, 1000):
        Path(f"out/checkpoint-{step}").mkdir(parents=True)
    jobs = Jobs()
    assert jobs.run(*shlex.split(command)[3:]) == 0
    assert jobs.is_sweep == ("manifest=" not in command)
    assert (len(jobs.settings) > 1) == jobs.is_sweep


@pytest.mark.slow
def test_experiment_of_the_page_is_a_sweep() -> None:
    page = (CHECKOUT / "docs/sweeps.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    Path("experiment").mkdir()
    Path("experiment/own.yaml").write_text(block)
    jobs = Jobs()
    assert jobs.run("--config-dir", str(Path.cwd()), "experiment=own") == 0
    assert jobs.names == ["llava-v1.5-7b-nf4-limit1000", "llava-v1.6-vicuna-7b-nf4-limit1000"]
    assert [path.name for path in Path.cwd().iterdir()] == ["experiment"]

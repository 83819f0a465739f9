from __future__ import annotations

import copy
import json
import random
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from peft import LoraConfig, PromptTuningConfig, get_peft_model

import runners
from evals.demo import ensure_demo_data
from evals.errors import DataError
from evals.tasks.gqa import GQA
from llava.errors import ConversationError
from runners.errors import ConfigError
from runners.in_process.flat_metrics import flatten_metrics
from runners.manifest import check_identity
from runners.regression.stored import read_task
from tests.checkpoints import LoadedModel
from tests.demo_questions import load_demo
from tests.runners.conftest import CHECKOUT, Finished, program_environment, read_lines

Shell = Callable[[str, Path], Finished]

LIMIT = 48
TASKS = ("vqav2", "gqa", "scienceqa")
DEMO = {"conversation": "vicuna_v1", "model_name": "llava-demo"}


@pytest.fixture(autouse=True)
def own_cache(cache_home: Path, monkeypatch: pytest.MonkeyPatch, one_torch_thread: None) -> None:
    """Demo data go where the programs of the other tests have them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))


@pytest.fixture(autouse=True)
def forget_accelerate() -> None:
    """A training in another test leaves its precision to the process."""
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def demo(one_torch_thread: None) -> LoadedModel:
    """The demo checkpoint; tests leave it as they found it."""
    return load_demo(torch.float32)


@pytest.fixture
def fresh() -> LoadedModel:
    """The demo checkpoint, to be wrapped or trained."""
    return load_demo(torch.float32)


def ask(loaded: LoadedModel, tasks: Any = "gqa", **options: Any) -> dict[str, dict[str, Any]]:
    model, tokenizer = options.pop("model", loaded.model), loaded.tokenizer
    defaults = {**DEMO, "data": "demo", "limit": LIMIT}
    options = {k: v for k, v in (defaults | options).items() if v is not None}
    return runners.evaluate(model, tokenizer, loaded.image_processor, tasks, **options)


def answers_hash(summaries: dict[str, dict[str, Any]]) -> str:
    return str(summaries["gqa"]["hashes"]["answers"])


@pytest.fixture(scope="module")
def program(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The same questions, asked by the program."""
    command = f"python -m runners.eval model=llava-demo limit={LIMIT} device=cpu run=program"
    finished = shell(command, tmp_path_factory.mktemp("program"))
    assert finished.code == 0, finished.stderr
    return finished


def test_summaries_and_files_are_those_of_the_program(
    demo: LoadedModel, program: Finished, tmp_path: Path
) -> None:
    summaries = ask(demo, "demo", data=None, output_dir=tmp_path / "here")
    assert set(summaries) == set(TASKS)
    for task in TASKS:
        expected = program.json(f"results/program/{task}/summary.json")
        # JSON knows no tuples
        interval = summaries[task]["interval"]
        got = {**summaries[task], "interval": interval and list(interval)}
        assert got | {"timing": None} == expected | {"timing": None}
        for file in ("predictions.jsonl", "scores.jsonl"):
            there = program.workspace / "results/program" / task / file
            assert (tmp_path / "here" / task / file).read_bytes() == there.read_bytes()


def test_stored_run_is_one_for_the_other_programs(
    demo: LoadedModel, program: Finished, shell: Shell, tmp_path: Path
) -> None:
    summaries = ask(demo, output_dir=tmp_path / "results" / "step-500")
    stored = read_task(tmp_path / "results/step-500/gqa")
    assert len(stored.scores) == LIMIT
    assert stored.identity["dtype"] == "float32"
    assert stored.identity["conversation"] == "vicuna_v1"
    rescored = shell("python -m runners.score run=step-500", tmp_path)
    assert rescored.code == 0, rescored.stderr
    assert (
        rescored.json("results/step-500/gqa/summary.json")["metrics"]
        == (summaries["gqa"]["metrics"])
    )
    # no other model goes on with it
    other = program.json("results/program/gqa/manifest.json")["identity"]
    with pytest.raises(ConfigError, match="in_process"):
        check_identity(tmp_path, stored.identity, other)


def test_earlier_evaluation_in_a_folder_is_set_aside(demo: LoadedModel, tmp_path: Path) -> None:
    for limit in (3, 2):
        ask(demo, output_dir=tmp_path / "run", limit=limit)
    assert len(read_lines(tmp_path / "run/gqa/predictions.jsonl")) == 2
    assert len(read_lines(tmp_path / "run/gqa.old-1/predictions.jsonl")) == 3


def test_identity_tells_weights_apart(fresh: LoadedModel, tmp_path: Path) -> None:
    ask(fresh, output_dir=tmp_path / "before", limit=2)
    with torch.no_grad():
        fresh.model.lm_head.weight[0, 0] += 1e-6
    ask(fresh, output_dir=tmp_path / "after", limit=2)
    before, after = (read_task(tmp_path / run / "gqa").identity for run in ("before", "after"))
    assert before["in_process"] != after["in_process"]


@pytest.mark.parametrize("engine", ["sequential", {"max_rows": 2}, {"replay": "all"}])
def test_engine_changes_no_answer(demo: LoadedModel, engine: Any) -> None:
    assert answers_hash(ask(demo, engine=engine, limit=12)) == answers_hash(ask(demo, limit=12))


def with_peft(model: Any, config: Any) -> Any:
    with warnings.catch_warnings():
        # peft on transformers
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
        return get_peft_model(model, config)


def lora(model: Any) -> Any:
    model.enable_input_require_grads()  # as with gradient checkpointing
    config = LoraConfig(r=4, target_modules=["q_proj"], exclude_modules=".*vision_tower.*")
    return with_peft(model, config)


def mixed_precision(model: Any) -> Any:
    prepared = Accelerator(cpu=True, mixed_precision="bf16").prepare_model(model)
    assert "_original_forward" in vars(prepared)
    return prepared


WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "lora": lora,
    "mixed precision": mixed_precision,
    "data parallel": torch.nn.DataParallel,
    "compiled": torch.compile,
    "compiled lora": lambda model: torch.compile(lora(model)),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")
@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("engine", ["packed", "sequential"])
def test_wrapped_model_answers_as_the_model_itself(
    demo: LoadedModel, fresh: LoadedModel, wrapper: str, engine: str
) -> None:
    wrapped = WRAPPERS[wrapper](fresh.model).train()
    summaries = ask(fresh, model=wrapped, engine=engine, limit=12)
    assert answers_hash(summaries) == answers_hash(ask(demo, limit=12))
    assert summaries["gqa"]["coverage"] == 1


def test_autocast_answers_as_in_mixed_training(fresh: LoadedModel) -> None:
    model = mixed_precision(fresh.model)
    packed, sequential = (
        ask(fresh, model=model, autocast="bfloat16", engine=engine, limit=12)
        for engine in ("packed", "sequential")
    )
    assert answers_hash(packed) == answers_hash(sequential)
    # near ties are measured, as for weights of that dtype
    assert packed["gqa"]["batch_check"]["recomputed"] == 12


def train(loaded: LoadedModel, *, evaluated: bool) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Three steps with dropout, an evaluation after the first if asked for."""
    torch.manual_seed(0)
    model = loaded.model
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    model.train()
    model.get_vision_tower().eval()
    model.gradient_checkpointing_enable()
    model.config.use_cache = False
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    ids = torch.tensor([[1, -200, *range(300, 340)]])
    losses = []
    for step in range(3):
        images = torch.rand(1, 3, 48, 48)
        loss = model(input_ids=ids, labels=ids.clamp(min=-100), images=images).loss
        loss.backward()
        if evaluated and step == 1:
            ask(loaded, limit=6)  # between the backward pass and the step
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()) + random.random() + float(np.random.rand()))
    return losses, model.state_dict()


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable.*:FutureWarning")
def test_training_goes_on_as_if_nothing_had_been_asked() -> None:
    results = []
    for evaluated in (False, True):
        random.seed(0)
        np.random.seed(0)
        results.append(train(load_demo(torch.float32), evaluated=evaluated))
    (losses, weights), (other_losses, other_weights) = results
    assert losses == other_losses
    assert all(torch.equal(tensor, other_weights[name]) for name, tensor in weights.items())


def test_model_is_given_back_as_it_was(fresh: LoadedModel) -> None:
    model = mixed_precision(fresh.model)
    model.train()
    model.get_vision_tower().eval()
    model.config.use_cache = False
    model.generation_config.use_cache = None
    matmul = torch.backends.cuda.matmul
    matmul.fp32_precision = "tf32"
    try:
        before = {name: module.training for name, module in model.named_modules()}
        forward = model.forward
        summary = ask(fresh, model=model, limit=2)
        assert answers_hash(summary)
        assert matmul.fp32_precision == "tf32"
    finally:
        matmul.fp32_precision = "none"
    assert {name: module.training for name, module in model.named_modules()} == before
    assert len(set(before.values())) == 2
    assert model.forward == forward
    assert (model.config.use_cache, model.generation_config.use_cache) == (False, None)
    assert not torch.is_inference_mode_enabled()
    assert all(not parameter.is_inference() for parameter in model.parameters())


def test_model_is_given_back_when_an_evaluation_fails(fresh: LoadedModel) -> None:
    fresh.model.train()
    with pytest.raises(TypeError, match="max_rowz"):
        ask(fresh, engine={"max_rowz": 3}, limit=2)
    assert fresh.model.training


@pytest.fixture
def demo_root(cache_home: Path) -> Path:
    return ensure_demo_data(cache_home / "in_process", num_images=1)


def test_tasks_may_be_names_mappings_and_objects(demo: LoadedModel, demo_root: Path) -> None:
    spec = {"_target_": "evals.tasks.gqa.GQA", "data_dir": str(demo_root / "gqa"), "split": "demo"}
    given = [spec, GQA(data_dir=demo_root / "gqa", split="demo")]
    hashes = {answers_hash(ask(demo, task, data=None, limit=4)) for task in given}
    assert hashes == {answers_hash(ask(demo, "gqa", limit=4))}


def test_data_root_is_where_named_benchmarks_lie(demo: LoadedModel, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=str(tmp_path / "gqa")):
        ask(demo, "gqa", data=None, data_root=tmp_path)


def test_object_may_be_stored(demo: LoadedModel, demo_root: Path, tmp_path: Path) -> None:
    task = GQA(data_dir=demo_root / "gqa", split="demo")
    ask(demo, [task], data=None, limit=4, output_dir=tmp_path / "run")
    assert len(read_task(tmp_path / "run/gqa").scores) == 4


def test_generation_options_are_those_of_the_program(demo: LoadedModel, tmp_path: Path) -> None:
    ask(demo, limit=2, generation={"max_new_tokens": 1}, output_dir=tmp_path / "run")
    lines = read_lines(tmp_path / "run/gqa/predictions.jsonl")
    assert {line["metadata"]["num_new_tokens"] for line in lines} == {1}


def test_questions_without_their_image_are_counted(
    tiny_model: LoadedModel, questions: Path
) -> None:
    spec = {
        "_target_": "evals.tasks.custom.Custom",
        "questions": str(questions),
        "images": str(questions.parent / "images"),
        "scorer": "exact",
    }
    summary = ask(tiny_model, spec, data=None, limit=None, generation={"max_new_tokens": 2})
    assert summary["custom"]["num_failed"] == {"image_missing": 1}
    assert summary["custom"]["coverage"] == 0.75


def test_template_is_told_from_the_models_name(tiny_model: LoadedModel) -> None:
    by_name = ask(tiny_model, conversation=None, model_name="llava-v1.5-mine", limit=2)
    by_path = ask(tiny_model, conversation=None, model_name=None, limit=2)
    assert by_name["gqa"]["coverage"] == by_path["gqa"]["coverage"] == 1
    with pytest.raises(ConversationError, match="vicuna_v1"):
        ask(demo_like(tiny_model), conversation=None, model_name="mine", limit=2)


def demo_like(loaded: LoadedModel) -> LoadedModel:
    """The same model with a configuration that names nothing known."""
    model = copy.copy(loaded.model)
    model.config = copy.copy(loaded.model.config)
    model.config._name_or_path = "mine"
    return loaded._replace(model=model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": "gqq"}, "task/gqq"),
        ({"tasks": []}, "`tasks` must name"),
        ({"tasks": ["gqa", {"_target_": "evals.tasks.gqa.GQA", "data_dir": "x"}]}, "each .* once"),
        ({"tasks": {"_target_": "os.system"}}, "evals.tasks"),
        ({"limit": 0}, "`limit`"),
        ({"engine": "fast"}, "engine/fast"),
        ({"engine": {"replay": "never"}}, "`engine.replay`"),
        ({"generation": {"temprature": 1}}, "temprature"),
        ({"autocast": "int8"}, "`autocast`"),
        ({"data_root": "/data"}, "`data_root`"),
    ],
)
def test_wrong_options_are_named(demo: LoadedModel, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ask(demo, options.pop("tasks", "gqa"), **options)


def test_something_else_than_a_benchmark_is_refused(demo: LoadedModel) -> None:
    with pytest.raises(TypeError, match="int"):
        ask(demo, [3])


def test_missing_images_stop_it_before_the_model_is_asked(
    demo: LoadedModel, demo_root: Path, tmp_path: Path
) -> None:
    task = GQA(data_dir=tmp_path, split="demo")
    without_images = shutil.ignore_patterns("images")
    shutil.copytree(demo_root / "gqa" / "data", tmp_path / "data", ignore=without_images)
    with pytest.raises(DataError, match="no question can be answered"):
        ask(demo, task, data=None)


def sharded(model: Any) -> Any:
    next(model.parameters()).ds_id = 0  # as ZeRO 3 marks what it has parted
    return model


def prompted(model: Any) -> Any:
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    return with_peft(model, config)


@pytest.mark.parametrize(("wrap", "message"), [(sharded, "sharded"), (prompted, "prompts")])
def test_models_that_cannot_be_asked_are_refused(
    fresh: LoadedModel, wrap: Callable[[Any], Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ask(fresh, model=wrap(fresh.model))


def test_a_program_that_uses_hydra_keeps_its_state(demo: LoadedModel) -> None:
    with initialize_config_module(version_base="1.3", config_module="conf", job_name="mine"):
        ask(demo, limit=2)
        assert GlobalHydra.instance().is_initialized()
        assert compose("regress", overrides=["baseline=a", "candidate=b"]).baseline == "a"


def test_importing_the_package_imports_nothing() -> None:
    code = "import sys, runners; print([n for n in ('torch', 'hydra') if n in sys.modules])"
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert finished.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="evaluat"):
        runners.evaluat  # noqa: B018 - the access is what is tested


def test_metrics_that_could_not_be_computed_are_left_out() -> None:
    summaries = {"gqa": {"metrics": {"accuracy": 0.5, "grounding": None}, "coverage": 1}}
    assert flatten_metrics(summaries, "test") == {
        "test/gqa/accuracy": 0.5,
        "test/gqa/coverage": 1.0,
    }


RANK = """
import json, sys
import torch
from torch.nn.parallel import DistributedDataParallel
import runners
from tests.demo_questions import load_demo

torch.set_num_threads(1)
torch.distributed.init_process_group("gloo")
loaded = load_demo(torch.float32)
model = DistributedDataParallel(loaded.model.train())
rank = torch.distributed.get_rank()
if len(sys.argv) > 2 and rank == 1:
    sys.argv[2] = sys.argv[2] + "-elsewhere"
options = {"data_root": sys.argv[2]} if len(sys.argv) > 2 else {"data": "demo"}
try:
    summaries = runners.evaluate(
        model, loaded.tokenizer, loaded.image_processor, ["gqa", "scienceqa"],
        conversation="vicuna_v1", model_name="llava-demo", limit=48,
        output_dir=sys.argv[1] + "/run", **options,
    )
    said = {name: summary["hashes"]["answers"] for name, summary in summaries.items()}
except Exception as error:
    said = f"{type(error).__name__}: {error}"
with open(f"{sys.argv[1]}/rank{rank}.json", "w") as file:
    json.dump(said, file)
torch.distributed.destroy_process_group()
"""


def on_two_ranks(folder: Path, cache: Path, *arguments: str) -> list[Any]:
    (folder / "rank.py").write_text(RANK)
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    finished = subprocess.run(
        [sys.executable, *command, str(folder / "rank.py"), str(folder), *arguments],
        cwd=CHECKOUT,
        env=program_environment(cache),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.slow
def test_ranks_share_the_questions_and_all_get_the_figures(
    demo: LoadedModel, cache_home: Path, tmp_path: Path
) -> None:
    alone = ask(demo, ["gqa", "scienceqa"])
    expected = {name: summary["hashes"]["answers"] for name, summary in alone.items()}
    assert on_two_ranks(tmp_path, cache_home) == [expected, expected]
    for task in expected:
        workers = {line["worker"] for line in read_lines(tmp_path / "run" / task / "trace.jsonl")}
        assert workers == {"rank 0", "rank 1"}


@pytest.mark.slow
def test_no_rank_waits_for_one_that_has_no_data(cache_home: Path, tmp_path: Path) -> None:
    first, second = on_two_ranks(tmp_path, cache_home, str(tmp_path / "data"))
    assert "data/gqa" in first
    assert "data-elsewhere/gqa" in second

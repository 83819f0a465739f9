"""The typed schema of the options: a misspelt key or a wrong type fails when Hydra composes.

Component groups (tasks, engine, runner) are `_target_` plus values; their constructors are the
schema.
"""

from __future__ import annotations

import importlib.util
import math
import os
import re
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from llava.generation.request import GenerationConfig
from runners.options.leaderboard import LeaderboardConfig
from runners.options.regress import RegressConfig
from runners.options.report import ReportConfig
from runners.options.score import DoctorConfig, ScoreConfig, SubmitConfig
from runners.options.shard import read_shard

_DEVICE = re.compile(r"cpu|cuda(:\d+)?")
DTYPES = ("float32", "float16", "bfloat16")
QUANTIZATIONS = ("none", "int8", "nf4", "fp4")
ATTENTIONS = ("eager", "sdpa", "flash_attention_2")
REPLAYS = ("near_ties", "all", "off")


@dataclass(kw_only=True, slots=True)
class ModelConfig:
    """Which checkpoint is evaluated.

    Attributes:
        path: A folder or a hub id.
        base: The base language model of an adapter or projector-only checkpoint.
        name: The model's name; null takes it from the path.
        conversation: The template that the checkpoint was trained with, where it is known.
        revision: Branch, tag or commit of a hub id.
        published: The model's name in the table of published figures, where it has any.
        attention: `eager`, `sdpa` or `flash_attention_2`; null for the model's default.
        vision_tower_dtype: Of the vision tower; null for float32, or the model's if it was tuned.
    """

    path: str = MISSING
    base: str | None = None
    name: str | None = None
    conversation: str | None = None
    revision: str | None = None
    published: str | None = None
    attention: str | None = None
    vision_tower_dtype: str | None = None

    def __post_init__(self) -> None:
        if self.attention is not None and self.attention not in ATTENTIONS:
            raise ValueError(
                f"`model.attention` must be one of {', '.join(ATTENTIONS)}, but is "
                f"{self.attention!r}."
            )
        _check_dtype("model.vision_tower_dtype", self.vision_tower_dtype, DTYPES)


@dataclass(kw_only=True, slots=True)
class GenerationOptions:
    """How answers are generated.

    Attributes:
        temperature: 0 for greedy decoding.
        top_p: Nucleus mass in (0, 1], or null.
        num_beams: Number of beams.
        max_new_tokens: Longest answer; null takes each task's own.
    """

    temperature: float = 0.0
    top_p: float | None = None
    num_beams: int = 1
    max_new_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise ValueError(
                f"`generation.max_new_tokens` must be at least 1, but is {self.max_new_tokens}. "
                "Set it to null for each task's own."
            )
        # The same checks as at generation time, but before anything is read.
        self.to_config(max_new_tokens=1, seed=0)

    def to_config(self, *, max_new_tokens: int, seed: int) -> GenerationConfig:
        """Returns how the answers of one task are generated.

        Args:
            max_new_tokens: The longest answer: the option, else the task's own.
            seed: Of sampling.
        """
        return GenerationConfig(
            max_new_tokens=max_new_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            num_beams=self.num_beams,
            seed=seed,
        )


@dataclass(kw_only=True, slots=True)
class ConversationConfig:
    """The conversation template; null resolves it from the checkpoint."""

    template: str | None = None


@dataclass(kw_only=True, slots=True)
class QuantizationConfig:
    """How the language model's linear layers are held.

    Attributes:
        name: `none`, `int8`, `nf4` or `fp4`.
        double_quant: Whether the scales of 4-bit weights are quantized too.
        compute_dtype: Dtype in which 4-bit weights are multiplied; null for the model's.
    """

    name: str = "none"
    double_quant: bool = True
    compute_dtype: str | None = None

    def __post_init__(self) -> None:
        if self.name not in QUANTIZATIONS:
            raise ValueError(
                f"`quantization.name` must be one of {', '.join(QUANTIZATIONS)}, but is "
                f"{self.name!r}."
            )
        _check_dtype("quantization.compute_dtype", self.compute_dtype, DTYPES)

    def to_plain(self) -> dict[str, Any] | None:
        """The values as a mapping; None for full precision."""
        return None if self.name == "none" else asdict(self)


@dataclass(kw_only=True, slots=True)
class SubjectConfig:
    """What every program that loads a checkpoint is told about it.

    Attributes:
        model: Which checkpoint.
        conversation: Which template.
        quantization: How weights are held.
        dtype: float32, float16, bfloat16, or auto for the one the checkpoint was saved in; null for
            float16 on CUDA and float32 on a CPU.
        device: `cpu`, `cuda`, `cuda:1`; null for CUDA where there is one.
        seed: Seed of sampling.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    conversation: ConversationConfig = field(default_factory=ConversationConfig)
    quantization: QuantizationConfig = field(default_factory=QuantizationConfig)
    dtype: str | None = None
    device: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        _check_dtype("dtype", self.dtype, (*DTYPES, "auto"))
        if self.device is not None and not _DEVICE.fullmatch(self.device):
            raise ValueError(
                f"`device` must be cpu, cuda or cuda:N, but is {self.device!r}. Leave it out for "
                "the default."
            )


@dataclass(kw_only=True, slots=True)
class EvalConfig(SubjectConfig):
    """Options of `runners.eval`.

    Attributes:
        tasks: One entry a benchmark.
        data: Where the benchmarks lie.
        generation: How answers are generated.
        engine: Which generation engine, as `_target_` plus values.
        runner: Which workers, as `_target_` plus values.
        results_dir: Where runs are kept.
        run: The run's name; null builds it from the options that matter.
        limit: Only the first questions of each task.
        overwrite: Set a run that is there aside and start anew.
        retry_failed: Ask questions again that failed before.
        max_failures: How many failed questions of a task still count as complete.
        check_counts: Stop when a published split has another number of questions.
        dry_run: Say what the run would take, and load nothing.
        canary: `on` asks a few questions with and without their image before a run, `off` not.
        manifest: A stored run's folder or a task's `manifest.json` in it; the run is repeated and
            its answers are compared.
    """

    tasks: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    generation: GenerationOptions = field(default_factory=GenerationOptions)
    engine: dict[str, Any] = field(default_factory=dict)
    runner: dict[str, Any] = field(default_factory=dict)
    results_dir: str = "results"
    run: str | None = None
    limit: int | None = None
    overwrite: bool = False
    retry_failed: bool = True
    max_failures: int = 0
    check_counts: bool = True
    dry_run: bool = False
    canary: Any = "on"
    manifest: str | None = None

    def __post_init__(self) -> None:
        SubjectConfig.__post_init__(self)  # slots leave `super()` without its class
        if isinstance(self.canary, bool):  # YAML reads on and off so
            self.canary = "on" if self.canary else "off"
        if self.canary not in ("on", "off"):
            raise ValueError(f"`canary` must be on or off, but is {self.canary!r}.")
        for name in ("max_tokens", "max_rows", "num_preprocess_threads"):
            _check_count(f"engine.{name}", self.engine.get(name))
        for name in ("num_workers", "devices_per_worker", "num_threads"):
            _check_count(f"runner.{name}", self.runner.get(name))
        for name in ("hang_s", "grace_s"):
            _check_seconds(f"runner.{name}", self.runner.get(name))
        read_shard(self.runner.get("shard"))
        _check_near_ties(self.engine)
        if self.limit is not None and self.limit < 1:
            raise ValueError(
                f"`limit` must be at least 1, but is {self.limit}. Leave it out for all."
            )
        if self.max_failures < 0:
            raise ValueError(f"`max_failures` must be 0 or larger, but is {self.max_failures}.")


@dataclass(kw_only=True, slots=True)
class WatchConfig(EvalConfig):
    """Options of `runners.watch`, beside those of `runners.eval`.

    Attributes:
        dir: The folder that a training run writes its checkpoints into.
        poll_s: How often it is looked at.
        quiet_s: How long a checkpoint's files must not have changed.
        once: Evaluate what is there, and end.
    """

    dir: str = MISSING
    poll_s: float = 30.0
    quiet_s: float = 60.0
    once: bool = False

    def __post_init__(self) -> None:
        EvalConfig.__post_init__(self)
        if not 0 < self.poll_s < math.inf:
            raise ValueError(f"`poll_s` must be larger than 0 and finite, but is {self.poll_s}.")
        _check_seconds("quiet_s", self.quiet_s)


@dataclass(kw_only=True, slots=True)
class AskConfig(SubjectConfig):
    """Options of `runners.ask`.

    Attributes:
        prompt: The question; `<image>` marks where images stand, or none for the usual place.
        image: Files or http(s) addresses, separated by commas; null for text alone.
        temperature: 0 for greedy decoding.
        top_p: Nucleus mass in (0, 1], or null.
        num_beams: Number of beams.
        max_new_tokens: Longest answer.
    """

    prompt: str = MISSING
    image: str | None = None
    temperature: float = 0.0
    top_p: float | None = None
    num_beams: int = 1
    max_new_tokens: int = 512


@dataclass(kw_only=True, slots=True)
class BenchConfig:
    """Options of `runners.bench`.

    Attributes:
        workload: gqa, vqav2, scienceqa, generate.
        model: llava-demo, random-25m, random-7b, random-13b.
        engine: sequential, batched, packed.
        num_images: Images of a workload.
        repeats: How often each engine answers everything, in turn.
        num_threads: Threads of torch.
        dtype: float32, float16, bfloat16.
        tower_dtype: Of the vision tower; null for float32, as in the reference.
        device: null for CUDA where there is one.
        replay: Of the packed engine.
        max_tokens: Of the packed engine.
        batch_size: Of the batched engine.
        questions: LLaVA's GQA question file, for its real group sizes.
        seed: Of prompts and lengths.
        output: A file for the figures as JSON.
    """

    workload: list[str] = field(default_factory=lambda: ["gqa", "vqav2", "scienceqa"])
    model: str = "random-25m"
    engine: list[str] = field(default_factory=lambda: ["sequential", "batched", "packed"])
    num_images: int = 4
    repeats: int = 1
    num_threads: int = 1
    dtype: str = "float32"
    tower_dtype: str | None = None
    device: str | None = None
    replay: str = "near_ties"
    max_tokens: int | None = None
    batch_size: int = 8
    questions: str | None = None
    seed: int = 0
    output: str | None = None

    def __post_init__(self) -> None:
        _check_dtype("dtype", self.dtype, DTYPES)
        _check_dtype("tower_dtype", self.tower_dtype, DTYPES)
        _check_replay("replay", self.replay)
        _check_count("max_tokens", self.max_tokens)
        for name in ("num_images", "repeats", "num_threads", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, but is {getattr(self, name)}.")


@dataclass(kw_only=True, slots=True)
class BenchProgramConfig:
    """`runners.bench`: its options, below a name so that they are not taken for groups."""

    bench: BenchConfig = field(default_factory=BenchConfig)


def _check_count(name: str, value: Any) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ValueError(f"`{name}` must be a whole number of at least 1, but is {value!r}.")


def _check_seconds(name: str, value: Any) -> None:
    if value is not None and (not isinstance(value, (int, float)) or not value >= 0):
        raise ValueError(f"`{name}` must be a number of seconds, but is {value!r}.")


def _check_replay(name: str, replay: Any) -> None:
    if replay not in REPLAYS:
        raise ValueError(f"`{name}` must be one of {', '.join(REPLAYS)}, but is {replay!r}.")


def _check_near_ties(engine: dict[str, Any]) -> None:
    _check_replay("engine.replay", engine.get("replay", "near_ties"))
    threshold = engine.get("near_tie_threshold")
    if threshold is not None and (not isinstance(threshold, (int, float)) or not threshold >= 0):
        raise ValueError(
            f"`engine.near_tie_threshold` must be a number of at least 0, but is {threshold!r}. "
            "Leave it out for the measured one."
        )


def _check_dtype(name: str, dtype: str | None, known: tuple[str, ...]) -> None:
    if dtype is not None and dtype not in known:
        raise ValueError(f"`{name}` must be one of {', '.join(known)}, but is {dtype!r}.")


@cache
def register() -> None:
    """Makes the schemas and the resolvers known to Hydra, once in a process."""
    store = ConfigStore.instance()
    store.store(name="eval_schema", node=EvalConfig)
    store.store(name="watch_schema", node=WatchConfig)
    store.store(name="ask_schema", node=AskConfig)
    store.store(name="bench_schema", node=BenchProgramConfig)
    store.store(name="score_schema", node=ScoreConfig)
    store.store(name="submit_schema", node=SubmitConfig)
    store.store(name="doctor_schema", node=DoctorConfig)
    store.store(name="regress_schema", node=RegressConfig)
    store.store(name="leaderboard_schema", node=LeaderboardConfig)
    store.store(name="report_schema", node=ReportConfig)
    OmegaConf.register_new_resolver("package_dir", package_dir, replace=True)
    OmegaConf.register_new_resolver("cache_dir", cache_dir, replace=True)


def package_dir(name: str) -> str:
    """Returns the folder of an installed package, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"`{name}` must be an installed package, but is not.")
    return str(Path(next(iter(spec.submodule_search_locations))).resolve())


def cache_dir() -> str:
    """Returns the folder for what can be made again: `$XDG_CACHE_HOME/llava-evals`."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return str(Path(root) / "llava-evals")

"""Evaluation inside another program: the model is in memory, as in the middle of its training.

The questions, prompts, packs and scores are those of `runners.eval`. Where torch.distributed is
initialized, every rank calls `evaluate`, answers its part of the questions and gets all figures.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import torch

from evals.errors import DataError
from llava.generation.calibration import Calibration
from llava.generation.devices import describe_attention
from llava.generation.neartie import near_ties_of
from llava.generation.packed import PackedEngine
from llava.generation.request import EngineReport
from llava.model.checkpoint import context_len_of
from llava.model.families import MODEL_TYPES
from llava.model.multimodal_encoder.vision_tower import find_tower
from llava.names import get_model_name_from_path
from llava.template_choice import resolve_conversation
from llava.tiling import read_layout
from runners.environment import describe_environment
from runners.errors import ConfigError, StoreError
from runners.evaluation.identity import ModelIdentity, engine_identity
from runners.evaluation.progress import Progress
from runners.evaluation.prompts import PromptRenderer
from runners.evaluation.provenance import Environment, near_tie_rule
from runners.evaluation.questions import AskedTask
from runners.evaluation.resuming import TaskRun
from runners.in_training.answered_task import answer_task, samples_of_rank
from runners.in_training.lent_model import (
    as_known_class,
    hash_model,
    lent,
    require_known_class,
    unwrap_model,
)
from runners.in_training.named_tasks import TaskLike, resolve_tasks
from runners.in_training.ranks import Ranks
from runners.logs import RunLog
from runners.options.composing import NamedOptions
from runners.options.engine import PackedOptions
from runners.options.eval import EvalConfig
from runners.storage.identity import UNKNOWN
from runners.storage.run_table import write_tables
from runners.storage.summary import SummaryFile
from runners.workers.briefing import brief_each
from runners.workers.interface import Engine, build_engine, merge_reports
from runners.workers.messages import Hardware

logger = logging.getLogger(__name__)

_AUTOCAST = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def evaluate(  # noqa: PLR0913 - a model in three parts, and the options of an evaluation
    model: Any,
    tokenizer: Any,
    image_processor: Any,
    tasks: TaskLike | Sequence[TaskLike],
    *,
    conversation: str | None = None,
    limit: int | None = None,
    data: str | None = None,
    data_root: str | Path | None = None,
    generation: Mapping[str, float | None] | None = None,
    engine: str | Mapping[str, Any] = "packed",
    autocast: str | None = None,
    check_counts: bool = True,
    model_name: str | None = None,
    output_dir: str | Path | None = None,
    quiet: bool = False,
) -> dict[str, dict[str, Any]]:
    """Returns the summary of each benchmark by its name, as `summary.json` holds it.

    The model is left as it was: its mode, its configuration, its gradients and the state of all
    random generators. With torch.distributed every rank has to call this; each gets everything.

    Args:
        model: A LLaVA of `llava.model`, one of transformers' own LLaVA classes, or what torch,
            accelerate, deepspeed or peft made of it. In its weights' dtype it answers as
            `runners.eval` with `dtype=` would.
        tokenizer: The model's, or its processor of transformers, which has both.
        image_processor: The vision tower's; None takes that of the processor, or of the tower.
        tasks: Names as for `task=`, benchmarks as `_target_` plus values, or benchmarks themselves.
        conversation: The template; None tells it from the model's name, as `runners.eval` does.
        limit: Only the first questions of each benchmark.
        data: Where named benchmarks lie: `playground` (the default), `hub` or `demo`.
        data_root: The folder that holds them.
        generation: `temperature`, `top_p`, `num_beams`, `max_new_tokens` where they differ from
            greedy decoding to each benchmark's own length.
        engine: `packed` or `sequential`, or options of the packed engine.
        autocast: `bfloat16` or `float16` computes under autocast, as in training with mixed
            precision; None in the dtype of the weights.
        check_counts: Stop when a published split has another number of questions.
        model_name: Stands in the answers; None takes it from the model's configuration.
        output_dir: A folder that becomes a stored run; what lies there of these benchmarks is set
            aside. None writes nothing.
        quiet: Show no progress, which rank 0 shows otherwise.

    Raises:
        CheckpointError: a model of transformers has something that is not known.
        ConfigError: an option is wrong, the model is one with images of other classes, no template
            is known, choices cannot be ranked, or `output_dir` cannot be written.
        StoreError: the disk does not take the answers, or data were changed meanwhile.
        ConversationError: no template is known for the model, the one that its name stands for
            contradicts the tokenizer, or the one given does not exist.
        DataError: the questions cannot be read, are not as many as published, or none of them can
            be answered.
        ValueError: the weights are sharded over processes.
    """
    tokenizer, image_processor = _parts_of(tokenizer, image_processor)
    given = unwrap_model(model)
    inner = as_known_class(given, image_processor)
    if inner is not given:
        image_processor = None  # the tower's has the same options, and prepares as the programs do
    path = str(getattr(inner.config, "_name_or_path", None) or "")
    options = NamedOptions(
        model_name=model_name or get_model_name_from_path(path) or UNKNOWN,
        data=data,
        data_root=data_root,
        engine=engine,
        values={
            "limit": limit,
            "check_counts": check_counts,
            "generation": dict(generation or {}),
            "conversation.template": conversation,
        },
    )
    ranks = Ranks()
    with ExitStack() as resources:
        is_shown = not (quiet or ranks.index)
        if is_shown and not logger.hasHandlers():  # the training has set up no logging of its own
            resources.enter_context(RunLog())
        folder = None if output_dir is None or ranks.index else Path(output_dir)
        held = Held(folder, resources)
        tasks_asked, settings = _resolve(tasks, options, inner, ranks, held)
        template, reason = resolve_conversation(
            forced=conversation, zoo=None, names=[model_name, path], tokenizer=tokenizer
        )
        logger.info("conversation template %s: %s", template, reason)
        renderer = PromptRenderer(template, tokenizer, marks_images=_marks_images(inner))
        for asked in tasks_asked:
            renderer.require_choices(asked.samples)
        dtype = _read_autocast(autocast)
        with lent(inner, dtype):
            built = _build_engine(settings, inner, tokenizer, image_processor, dtype, template)
            num_questions = sum(len(asked.samples) for asked in tasks_asked)
            built.brief(brief_each(ranks.count, num_questions, Calibration()))
            number = sum(len(samples_of_rank(asked, ranks)) for asked in tasks_asked)
            with Progress(number, 0) if is_shown else nullcontext() as progress:
                answered = [
                    answer_task(asked, built, renderer, ranks, progress) for asked in tasks_asked
                ]
            attention = describe_attention(inner)
        report = merge_reports(ranks.gather(built.report()))
        if folder is not None:
            identity = _identify(inner, settings, template, autocast)
            environment = _describe(inner, settings, report, ranks.count, attention)
            for task in answered:
                task.store(held.runs[task.asked.name], identity, environment)
            for task in answered:  # once all answers are stored: a benchmark's scoring may break
                held.runs[task.asked.name].finish(task.timing)
            write_tables(folder)
        summaries = [task.summarize() for task in answered]
        for summary in summaries:
            _tell(summary)
    return {summary.task: summary.to_json() for summary in summaries}


def _parts_of(tokenizer: Any, image_processor: Any) -> tuple[Any, Any]:
    """Tokenizer and image processor, where the first may be a processor that has both."""
    if not hasattr(tokenizer, "tokenizer"):
        return tokenizer, image_processor
    own = getattr(tokenizer, "image_processor", None)
    return tokenizer.tokenizer, own if image_processor is None else image_processor


class Held:
    """The folders that answers will be written to, locked before anything is asked.

    Args:
        folder: The run's; None where nothing is written.
        resources: What gives them free.
    """

    def __init__(self, folder: Path | None, resources: ExitStack) -> None:
        self._folder = folder
        self._resources = resources
        self.runs: dict[str, TaskRun] = {}

    def take(self, asked: AskedTask) -> None:
        """Takes the folder of a benchmark, if there is one.

        Raises:
            ConfigError: another process writes there, or this one may not.
            StoreError: the disk is full.
        """
        if self._folder is not None:
            task_run = self._resources.enter_context(TaskRun(asked, self._folder, overwrite=True))
            task_run.lock()
            self.runs[asked.name] = task_run


def _resolve(
    tasks: TaskLike | Sequence[TaskLike],
    options: NamedOptions,
    model: Any,
    ranks: Ranks,
    held: Held,
) -> tuple[list[AskedTask], EvalConfig]:
    """The benchmarks with their questions, the same on every rank, or the same error on every."""
    found: list[AskedTask] = []
    problem: Exception | None = None
    try:
        require_known_class(model)
        named, settings = resolve_tasks(tasks, options)
        for task, spec in named:
            found.append(AskedTask(task, settings, spec))
            found[-1].require_images()
            if find_tower(model) is None and any(each.images for each in found[-1].samples):
                raise ConfigError(
                    f"`model` has no vision tower, but questions of {found[-1].name} show images. "
                    "Give a LLaVA, or a benchmark without images."
                )
            held.take(found[-1])
    except (ConfigError, DataError, StoreError) as error:
        problem = error
    # a rank that stops here alone would leave the others waiting for its answers
    of_ranks = ranks.gather((str(problem or ""), [asked.prompts_hash for asked in found]))
    if problem is not None:
        raise problem
    for rank, (message, hashes) in enumerate(of_ranks):
        if message:
            raise ConfigError(f"Rank {rank} cannot begin: {message}")
        if hashes != of_ranks[0][1]:
            raise DataError(
                f"Rank {rank} reads other questions than rank 0. Give all ranks the same data."
            )
    return found, settings


def _read_autocast(name: str | None) -> torch.dtype | None:
    if name is not None and name not in _AUTOCAST:
        raise ConfigError(
            f"`autocast` must be one of {', '.join(_AUTOCAST)}, but is {name!r}. Leave it out for "
            "the dtype of the weights."
        )
    return None if name is None else _AUTOCAST[name]


def _build_engine(
    settings: EvalConfig,
    model: Any,
    tokenizer: Any,
    image_processor: Any,
    autocast: torch.dtype | None,
    template: str,
) -> Engine:
    read_layout(vars(model.config))
    tower = find_tower(model)
    if image_processor is None and tower is not None:
        image_processor = tower.image_processor
    engine = build_engine(
        settings.engine,
        tokenizer=tokenizer,
        model=model,
        image_processor=image_processor,
        context_len=context_len_of(vars(model.config), MODEL_TYPES.get(model.config.model_type)),
        template=template,
    )
    packed = settings.engine
    if autocast and isinstance(engine, PackedEngine) and isinstance(packed, PackedOptions):
        # near ties are those of the arithmetic, which is not that of the weights
        engine.near_ties = near_ties_of(
            model,
            autocast,
            replay=packed.replay,
            threshold=packed.near_tie_threshold,
            max_expected_flips=packed.max_expected_flips,
        )
    return engine


def _identify(
    model: Any, settings: EvalConfig, template: str, autocast: str | None
) -> ModelIdentity:
    """The identity of a model in memory, which no other goes on with."""
    tower = find_tower(model)
    return ModelIdentity(
        name=str(settings.model.name),
        files={"in_process": {"weights": hash_model(model), "autocast": autocast}},
        conversation=template,
        dtype=_name(model.dtype),
        vision_tower_dtype=None if tower is None else _name(tower.dtype),
        engine=engine_identity(settings.engine),
    )


def _describe(
    model: Any, settings: EvalConfig, report: EngineReport, num_workers: int, attention: str
) -> Environment:
    on_cuda = model.device.type == "cuda"
    return Environment(
        machine=describe_environment(),
        hardware=Hardware(
            device=str(model.device),
            device_name=torch.cuda.get_device_name(model.device) if on_cuda else "cpu",
            cuda=torch.version.cuda if on_cuda else None,
            num_threads=torch.get_num_threads(),
        ),
        num_workers=num_workers,
        attention=attention,
        marks_images=_marks_images(model),
        engine=settings.engine.to_json(),
        details={"near_ties": near_tie_rule(report)},
    )


def _marks_images(model: Any) -> bool:
    return bool(getattr(model.config, "mm_use_im_start_end", False))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _tell(summary: SummaryFile) -> None:
    metric = summary.primary_metric
    logger.info("%s %s: %s", summary.task, metric, summary.metrics.get(metric))
    if summary.coverage < 1:
        logger.warning(
            "%s: only %d of %d questions were answered, the others count as wrong (%s)",
            summary.task,
            summary.num_answered,
            summary.num_questions,
            ", ".join(f"{cause} {n}" for cause, n in summary.num_failed.items()),
        )

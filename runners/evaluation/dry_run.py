"""What a run would take, from its questions alone: no weights are loaded, no torch is imported."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evals.records import Cause, Failure, Sample
from llava.constants import IMAGE_TOKEN_INDEX
from llava.generation.request import GenerationConfig
from llava.model.checkpoint import Checkpoint
from llava.tiling import most_tiles
from runners.environment import num_cores
from runners.evaluation.checkpoint import Subject
from runners.evaluation.prompts import PromptRenderer
from runners.evaluation.questions import AskedTask
from runners.options.eval import EvalConfig
from runners.storage.asked import group_by_images

logger = logging.getLogger(__name__)

USUAL_NEW_TOKENS = 4
"""Tokens of a short answer with its end, for benchmarks that ask for a word or a letter."""

_LONG_ANSWER_TASKS = {"mmvet": 150, "llavabench": 200}
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_STORED_BYTES = {"int8": 1.0, "nf4": 0.56, "fp4": 0.56}
_PACK_TOKENS = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What a device can do, dense and without sparsity, as its maker publishes it.

    Attributes:
        half_flops: Operations a second of matrix products in bfloat16 and float16.
        single_flops: Those in float32, tensor cores not used.
        memory_bytes: Its memory; of a CPU, the machine's is not looked at.
        useful_share: What an evaluation gets of the operations.
    """

    half_flops: float
    single_flops: float
    memory_bytes: float = math.inf
    useful_share: float = 0.5


# The makers' data sheets. A core of a CPU: torch's matrix products in `runners.bench`, where the
# packed engine reached four fifths of them; short formats are no faster there.
DEVICES: dict[str, Device] = {
    "H200": Device(half_flops=989e12, single_flops=67e12, memory_bytes=141e9),
    "H100": Device(half_flops=989e12, single_flops=67e12, memory_bytes=80e9),
    "A100": Device(half_flops=312e12, single_flops=19.5e12, memory_bytes=80e9),
    "L40S": Device(half_flops=362e12, single_flops=91.6e12, memory_bytes=48e9),
    "RTX 4090": Device(half_flops=165e12, single_flops=82.6e12, memory_bytes=24e9),
    "RTX 3090": Device(half_flops=71e12, single_flops=35.6e12, memory_bytes=24e9),
}
CPU_CORE = Device(half_flops=92e9, single_flops=92e9, useful_share=0.8)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPlan:
    """What one task would take.

    Attributes:
        num_groups: Groups of questions that share their images.
        num_tokens: Tokens of all prompts, images included, as one by one they would be computed.
        num_packed_tokens: Tokens that are computed when each group's beginning is computed once.
        num_new_tokens: Those of all answers, if they are of usual length.
        flops: Of the language model in the packed run, answers included.
        tower_flops: Of vision tower and projector.
        failures: Questions that cannot be asked, by cause; they are in no other number of tokens.
        num_perhaps_too_long: Questions that do not fit if their images get the most tiles.
    """

    name: str
    num_questions: int
    num_images: int
    num_groups: int
    num_tokens: int
    num_packed_tokens: int
    num_new_tokens: int
    flops: float
    tower_flops: float
    failures: Mapping[str, int] = field(default_factory=dict)
    num_perhaps_too_long: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageShape:
    """The sizes of a language model, from its configuration.

    Attributes:
        width: Of a token's state.
        inner_width: Inside the layers that treat each token by itself.
        key_width: Of a token's keys, all heads together; less than `width` with grouped queries.
        num_layer_parameters: Weights of all layers.
    """

    width: int
    inner_width: int
    key_width: int
    num_layers: int
    num_layer_parameters: int
    vocab_size: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> LanguageShape:
        """Returns the sizes that `config.json` tells, of LLaMA and its like or of MPT."""
        is_mpt = "d_model" in config
        width = int(config["d_model" if is_mpt else "hidden_size"])
        num_layers = int(config["n_layers" if is_mpt else "num_hidden_layers"])
        num_heads = int(config["n_heads" if is_mpt else "num_attention_heads"])
        key_width = width // num_heads * int(config.get("num_key_value_heads") or num_heads)
        inner_width = int(config.get("intermediate_size") or 4 * width)
        per_layer = 2 * width * width + 2 * width * key_width + 3 * width * inner_width
        if is_mpt:
            per_layer = width * width * (4 + 2 * int(config.get("expansion_ratio", 4)))
        return cls(
            width=width,
            inner_width=inner_width,
            key_width=key_width,
            num_layers=num_layers,
            num_layer_parameters=num_layers * per_layer,
            vocab_size=int(config["vocab_size"]),
        )


def describe_run(subject: Subject, tasks: Sequence[AskedTask], settings: EvalConfig) -> str:
    """Returns what a run would take, as text; warns of images that are not there."""
    for task in tasks:
        if missing := list(task.images.missing):
            told = task.images.describe_missing(missing)
            hint = f" {task.task.without_images}".rstrip()
            logger.warning("%s: %s They would count as failed.%s", task.name, told, hint)
    renderer, checkpoint = subject.build_renderer(), subject.checkpoint
    plans = [plan_task(task.name, task.samples, renderer, subject) for task in tasks]
    for plan in plans:
        for problem in _problems(plan, checkpoint):
            logger.warning("%s: %s", plan.name, problem)
    default = "float32" if settings.device == "cpu" else "float16"
    dtype = subject.dtype(settings.dtype) or default
    memory = memory_bytes(
        LanguageShape.of(checkpoint.config),
        dtype,
        settings.quantization.name,
        count_tower_parameters(checkpoint.tower_config),
    )
    return render_plans(plans, memory, dtype=dtype, device=settings.device)


def plan_task(
    name: str, samples: Sequence[Sample], renderer: PromptRenderer, subject: Subject
) -> TaskPlan:
    """Returns what the task of that name would take."""
    checkpoint = subject.checkpoint
    num_image_tokens = checkpoint.num_image_tokens * num_tiles(checkpoint)
    total = packed = num_groups = num_encoded = num_perhaps_too_long = 0
    failures: Counter[str] = Counter()
    images: set[str] = set()
    for group in group_by_images(samples):
        num_groups += 1
        num_encoded += len(set(group[0].image_keys))
        images.update(group[0].image_keys)
        num_shown = len(group[0].images)
        added = num_shown * (num_image_tokens - 1)
        least = num_shown * (checkpoint.num_image_tokens - 1)
        most = num_shown * (num_image_tokens + _num_newlines(checkpoint) - 1)
        prompts = []
        for sample in group:
            request = renderer.build_request(sample, GenerationConfig())
            if isinstance(request, Failure):
                failures[request.cause] += 1
                continue
            prompts.append(request.prompt_ids)
            too_long = len(request.prompt_ids) + least > checkpoint.max_prompt_tokens
            failures[Cause.PROMPT_TOO_LONG] += too_long
            perhaps = len(request.prompt_ids) + most > checkpoint.max_prompt_tokens
            num_perhaps_too_long += perhaps and not too_long
        lengths = [len(prompt) for prompt in prompts]
        shared = added + _count_shared(prompts[0].tolist()) if len(prompts) > 1 else 0
        total += sum(lengths) + len(prompts) * added
        packed += shared + sum(length + added - shared for length in lengths)
    answers = len(samples) * _LONG_ANSWER_TASKS.get(name, USUAL_NEW_TOKENS)
    shape = LanguageShape.of(checkpoint.config)
    head = shape.vocab_size * shape.width
    return TaskPlan(
        name=name,
        num_questions=len(samples),
        num_images=len(images),
        num_groups=num_groups,
        num_tokens=total,
        num_packed_tokens=packed,
        num_new_tokens=answers,
        flops=2.0 * ((packed + answers) * shape.num_layer_parameters + answers * head),
        tower_flops=num_encoded * num_tiles(checkpoint) * _tile_flops(checkpoint),
        failures=+failures,
        num_perhaps_too_long=num_perhaps_too_long,
    )


def _problems(plan: TaskPlan, checkpoint: Checkpoint) -> Iterator[str]:
    """Says which questions the run itself would not get an answer to."""
    context = f"{checkpoint.max_prompt_tokens:,} tokens"
    if value := checkpoint.config.get(checkpoint.context_field.rpartition(".")[2]):
        path = checkpoint.path / "config.json"
        context += f", as `{checkpoint.context_field}` is {value:,} in {path}"
    for cause, number in plan.failures.items():
        why = f" (they and their images do not fit into {context})"
        told = why if cause == Cause.PROMPT_TOO_LONG else ""
        yield f"{number:,} of {plan.num_questions:,} questions would fail as {cause}{told}."
    if plan.num_perhaps_too_long:
        yield (
            f"{plan.num_perhaps_too_long:,} of {plan.num_questions:,} questions would fail as "
            f"{Cause.PROMPT_TOO_LONG} if their images are cut into the most tiles (the context is "
            f"{context})."
        )


def _num_newlines(checkpoint: Checkpoint) -> int:
    """The most newline embeddings of an image: one behind each row of patches of all its tiles."""
    if checkpoint.config.get("mm_patch_merge_type") != "spatial_unpad" or num_tiles(checkpoint) < 2:
        return 0
    patch = int(checkpoint.tower_config.get("patch_size", 32))
    return max(height // patch for _, height in checkpoint.config["image_grid_pinpoints"])


def _count_shared(prompt: Sequence[int]) -> int:
    """The number of ids up to and including the last image, which its group shares."""
    return max((n + 1 for n, token in enumerate(prompt) if token == IMAGE_TOKEN_INDEX), default=0)


def num_tiles(checkpoint: Checkpoint) -> int:
    """Returns how many views of an image the tower gets: 1, or the most that tiling can give."""
    if not checkpoint.is_multimodal:
        return 1
    config, side = checkpoint.config, int(checkpoint.tower_config.get("image_size", 224))
    return most_tiles(config.get("image_aspect_ratio"), config.get("image_grid_pinpoints"), side)


def count_tower_parameters(config: Mapping[str, Any]) -> int:
    """Returns the weights of the layers of a CLIP tower, from its configuration; 0 without one."""
    if not config:
        return 0
    width = int(config.get("hidden_size", 768))
    inner = int(config.get("intermediate_size", 3072))
    return int(config.get("num_hidden_layers", 12)) * (4 * width * width + 2 * width * inner)


def memory_bytes(
    shape: LanguageShape, dtype: str, quantization: str, num_tower_parameters: int = 0
) -> int:
    """Returns about how much memory a worker needs: weights, embeddings, one pack of 8,192 tokens.

    The tower is counted in float32, as the reference runs it.
    """
    item = _BYTES[dtype]
    weights = shape.num_layer_parameters * _STORED_BYTES.get(quantization, item)
    embeddings = 2 * shape.vocab_size * shape.width * item
    cache = 2 * shape.num_layers * shape.key_width * item
    activations = (8 * shape.width + 3 * shape.inner_width) * item
    tower = num_tower_parameters * _BYTES["float32"]
    return int(weights) + embeddings + tower + (cache + activations) * _PACK_TOKENS


def render_plans(
    plans: Sequence[TaskPlan], memory: int, *, dtype: str = "float16", device: str | None = None
) -> str:
    """Returns the plan as text: a line a task, then memory, and time on the device.

    The memory is given in bytes, the dtype is the language model's, and the device is named as by
    the option; None stands for all that are known.
    """
    header = (
        f"{'task':>11} {'questions':>11} {'images':>9} {'groups':>9} {'tokens':>15} "
        f"{'packed tokens':>15} {'new tokens':>13} {'PFLOP':>10} {'tower PFLOP':>12}"
    )
    rows = [
        f"{plan.name:>11} {plan.num_questions:>11,} {plan.num_images:>9,} {plan.num_groups:>9,} "
        f"{plan.num_tokens:>15,} {plan.num_packed_tokens:>15,} {plan.num_new_tokens:>13,} "
        f"{plan.flops / 1e15:>10,.2f} {plan.tower_flops / 1e15:>12,.2f}"
        for plan in plans
    ]
    lines = [header, *rows, f"memory of a worker: about {memory / 2**30:.1f} GiB"]
    if device is None or device.startswith("cuda"):
        for name, figures in DEVICES.items():
            fits = memory <= figures.memory_bytes
            time = f"about {_minutes(plans, figures, dtype):,.1f} minutes"
            lines.append(f"on one {name}: {time if fits else 'does not fit'}")
    if device is None or device == "cpu":
        minutes = _minutes(plans, CPU_CORE, dtype) / num_cores()
        lines.append(f"on the {num_cores()} cores of this CPU: about {minutes:,.1f} minutes")
    return "\n".join(lines)


def _minutes(plans: Sequence[TaskPlan], device: Device, dtype: str) -> float:
    rate = device.single_flops if dtype == "float32" else device.half_flops
    seconds = sum(plan.flops / rate + plan.tower_flops / device.single_flops for plan in plans)
    return seconds / device.useful_share / 60


def _tile_flops(checkpoint: Checkpoint) -> float:
    """Operations of the tower and the projector on one view of an image."""
    config, tower = checkpoint.config, checkpoint.tower_config
    if not tower:
        return 0.0
    width, patches = LanguageShape.of(config).width, checkpoint.num_image_tokens
    projector = int(tower.get("hidden_size", 768)) * width
    if "mlp" in str(config.get("mm_projector_type")):
        projector += width * width
    return 2.0 * ((patches + 1) * count_tower_parameters(tower) + patches * projector)

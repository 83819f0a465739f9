"""What a run would take, from its questions alone: no weights are loaded, no torch is imported."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.records import Sample
from runners.predict import PromptRenderer
from runners.shard import group_by_images
from runners.subject import Subject

USUAL_NEW_TOKENS = 4
"""Tokens of a short answer with its end, for benchmarks that ask for a word or a letter."""

_LONG_ANSWER_TASKS = {"mmvet": 150, "llavabench": 200}
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_PACK_TOKENS = 8192
_USEFUL_SHARE = 0.5

# Matrix products of 16-bit numbers a second, from the makers' tables, dense; a CPU core from
# runners.bench in float32.
DEVICE_FLOPS: dict[str, float] = {
    "H200": 990e12,
    "H100": 990e12,
    "A100": 312e12,
    "RTX 4090": 165e12,
    "CPU core": 0.1e12,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPlan:
    """What one task would take.

    Attributes:
        name: The task.
        num_questions: Questions to be asked.
        num_images: Distinct images.
        num_groups: Groups of questions that share their images.
        num_tokens: Tokens of all prompts, images included, as one by one they would be computed.
        num_packed_tokens: Tokens that are computed when each group's beginning is computed once.
        flops: Of the packed run, answers included.
    """

    name: str
    num_questions: int
    num_images: int
    num_groups: int
    num_tokens: int
    num_packed_tokens: int
    flops: float


def plan_task(
    name: str, samples: Sequence[Sample], renderer: PromptRenderer, subject: Subject
) -> TaskPlan:
    """Returns what a task would take.

    Args:
        name: The task's name.
        samples: The questions.
        renderer: Makes prompts of questions.
        subject: The checkpoint.
    """
    num_image_tokens = subject.checkpoint.num_image_tokens
    new_tokens = _LONG_ANSWER_TASKS.get(name, USUAL_NEW_TOKENS)
    total = packed = num_groups = 0
    images: set[str] = set()
    for group in group_by_images(samples):
        num_groups += 1
        images.update(group[0].image_keys)
        added = len(group[0].images) * (num_image_tokens - 1)
        lengths = [renderer.count_tokens(sample) for sample in group]
        shared = added + renderer.count_shared_tokens(group[0]) if len(group) > 1 else 0
        total += sum(lengths) + len(group) * added
        packed += shared + sum(length + added - shared for length in lengths)
    computed = packed + len(samples) * new_tokens
    return TaskPlan(
        name=name,
        num_questions=len(samples),
        num_images=len(images),
        num_groups=num_groups,
        num_tokens=total,
        num_packed_tokens=packed,
        flops=2.0 * computed * num_layer_parameters(subject.checkpoint.config),
    )


def num_layer_parameters(config: Mapping[str, Any]) -> int:
    """Returns the weights of the language model's layers, from its configuration."""
    if "d_model" in config:
        width, layers = int(config["d_model"]), int(config["n_layers"])
        return layers * width * width * (4 + 2 * int(config.get("expansion_ratio", 4)))
    width, layers = int(config["hidden_size"]), int(config["num_hidden_layers"])
    heads = int(config["num_attention_heads"])
    keys = width // heads * int(config.get("num_key_value_heads") or heads)
    return layers * (2 * width * width + 2 * width * keys + 3 * width * config["intermediate_size"])


def memory_bytes(config: Mapping[str, Any], dtype: str, quantization: str) -> int:
    """Returns about how much memory a worker needs: weights, embeddings, the cache of one pack."""
    item = _BYTES[dtype]
    stored = {"none": float(item), "int8": 1.0, "nf4": 0.56, "fp4": 0.56}[quantization]
    width = int(config.get("hidden_size") or config["d_model"])
    layers = int(config.get("num_hidden_layers") or config["n_layers"])
    embeddings = 2 * int(config["vocab_size"]) * width * item
    cache = 2 * layers * width * item * _PACK_TOKENS
    return int(num_layer_parameters(config) * stored) + embeddings + cache


def render_plans(plans: Iterable[TaskPlan], memory: int) -> str:
    """Returns the plan as text: a line a task, then memory and time by device."""
    return "\n".join(_lines(list(plans), memory))


def _lines(plans: list[TaskPlan], memory: int) -> Iterator[str]:
    row = "{:>10} {:>11} {:>9} {:>9} {:>15} {:>15} {:>10}"
    yield row.format("task", "questions", "images", "groups", "tokens", "packed tokens", "PFLOP")
    for plan in plans:
        yield row.format(
            plan.name,
            f"{plan.num_questions:,}",
            f"{plan.num_images:,}",
            f"{plan.num_groups:,}",
            f"{plan.num_tokens:,}",
            f"{plan.num_packed_tokens:,}",
            f"{plan.flops / 1e15:,.2f}",
        )
    flops = sum(plan.flops for plan in plans)
    yield f"memory of a worker: about {memory / 2**30:.1f} GiB"
    for device, rate in DEVICE_FLOPS.items():
        minutes = flops / (rate * _USEFUL_SHARE) / 60
        yield f"on one {device}: about {minutes:,.1f} minutes, the vision tower not counted"

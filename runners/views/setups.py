"""What the answers of a stored task were computed with, and what of it is not the usual."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from llava.conversation import first_name
from runners.errors import ConfigError
from runners.options.model import GenerationOptions, QuantizationConfig
from runners.options.task_spec import TaskSpec
from runners.storage.manifest import Manifest
from runners.storage.summary import SummaryFile

_USUAL_ENGINE = {"replay": "near_ties"}


def setup_of(manifest: Manifest, spec: TaskSpec | None) -> list[str]:
    """Returns what answers were computed with, such as `float16`, `vicuna_v1`, `nf4`.

    They are dtype and template, and all options of model, generation and engine that are not the
    usual; nothing of answers from elsewhere.

    Args:
        manifest: What the answers are of.
        spec: The task that was scored; None where that is not known.
    """
    return [part for part in _setup(manifest, spec) if part]


def _setup(manifest: Manifest, spec: TaskSpec | None) -> Iterator[str]:
    identity = manifest.identity
    yield str(identity.get("dtype") or "")
    yield str(identity.get("conversation") or "")
    if (attention := identity.get("attention")) not in (None, "default"):
        yield f"attention {attention}"
    if identity.get("tf32"):
        yield "TF32"
    # Of a model in memory it is known, and not chosen.
    if (tower := identity.get("vision_tower_dtype")) and "in_process" not in identity:
        yield f"vision tower {tower}"
    if quantization := _mapping(identity.get("quantization")):
        yield str(quantization.get("name"))
    generation = _mapping(identity.get("generation"))
    usual = asdict(QuantizationConfig()) | asdict(GenerationOptions()) | _USUAL_ENGINE
    chosen = [quantization, generation, _mapping(identity.get("engine"))]
    for name, value in (item for part in chosen for item in part.items()):
        if name not in ("name", "max_new_tokens") and value != usual.get(name):
            yield f"{name} {value}"
    if (longest := given_length(manifest, spec)) is not None:
        yield f"max_new_tokens {longest}"
    if generation.get("temperature") and identity.get("seed"):
        yield f"seed {identity['seed']}"


def part_asked(summary: SummaryFile, manifest: Manifest | None) -> str:
    """Returns what part of the split was asked, and by which option; empty for all of it."""
    shard = None if manifest is None else manifest.shard
    if shard is not None:  # a shard is `limited` too
        return f"only shard {shard.option} of the questions (runner.shard)"
    if summary.origin.limited:
        return f"only the first {summary.num_questions:,} questions (limit)"
    return ""


def given_length(manifest: Manifest, spec: TaskSpec | None) -> int | None:
    """Returns the longest answer that an option of generation gave; None for the task's own."""
    longest = _mapping(manifest.identity.get("generation")).get("max_new_tokens")
    try:
        own = None if spec is None else spec.build().max_new_tokens
    except ConfigError:  # the task is no more
        own = None
    return None if own is None or longest == own else longest


def model_template(manifest: Manifest) -> str | None:
    """Returns the template that the model has, where the questions were put in another one.

    That is the one of its zoo entry, or the one that its checkpoint leads to. None where the
    questions were put in it, or nothing leads to any.
    """
    used, model = manifest.identity.get("conversation"), manifest.options.get("model")
    usual = _mapping(manifest.environment.get("template") or model).get("conversation")
    if None in (used, usual) or first_name(str(usual)) == first_name(str(used)):
        return None
    return str(usual)


def _mapping(value: object) -> Mapping[str, Any]:
    """A part of a file that may be anyone's."""
    return value if isinstance(value, Mapping) else {}

"""What can change an answer: the identity of a run, put together from its parts.

The model's part is the same for all benchmarks of a run, the questions' is each benchmark's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evals.benchmark import GENERATE
from llava.generation.request import GenerationConfig
from runners.evaluation.checkpoint import Subject
from runners.options.engine import EngineOptions, PackedOptions
from runners.options.eval import EvalConfig
from runners.options.model import QuantizationConfig
from runners.storage.identity import PROMPT_VERSION, UNKNOWN, prompt_format


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelIdentity:
    """Which model answers, and in which arithmetic.

    Attributes:
        files: Hashes of what was read, by the role of its folder (`checkpoint`, `base`, `adapter`,
            `tower`) and by file; `weights` stands for all tensors of a role. A model that lies in
            memory has the role `in_process`.
        dtype: Of the language model; `UNKNOWN` until a worker has said what its device's is.
        attention: Which implementation of attention was asked for, `default` if none.
        vision_tower_dtype: Of the vision tower, None for its default.
        tf32: Whether CUDA devices may multiply float32 in TF32.
        engine: See `engine_identity`.
    """

    name: str
    files: Mapping[str, Mapping[str, str | None]]
    conversation: str
    dtype: str
    attention: str = "default"
    vision_tower_dtype: str | None = None
    tf32: bool = False
    quantization: QuantizationConfig | None = None
    engine: Mapping[str, object]


def engine_identity(engine: EngineOptions) -> dict[str, object]:
    """Returns the engine's options that can leave an answer other than the sequential one.

    Without replay the answers that packing may have changed are kept as they come. The fields are
    options of a run with this identity, so that it can be repeated.

    >>> engine_identity(PackedOptions(max_tokens=8, near_tie_threshold=0.5))
    {'replay': 'near_ties', 'near_tie_threshold': 0.5}
    """
    if not isinstance(engine, PackedOptions):
        return {"replay": "near_ties"}
    if engine.replay == "off":
        return {"replay": "off"}
    usual = PackedOptions()
    return {
        "replay": "near_ties",
        **{
            name: value
            for name in ("near_tie_threshold", "max_expected_flips")
            if (value := getattr(engine, name)) != getattr(usual, name)
        },
    }


def identify_checkpoint(
    subject: Subject,
    settings: EvalConfig,
    hash_weights: Callable[[Mapping[str, Sequence[Path]]], Mapping[str, str]],
) -> ModelIdentity:
    """Returns the identity of a checkpoint that is to be evaluated.

    `hash_weights` is called for weights whose hash is not known, or that have changed since; it
    gives the hash of the tensors in files by the role of their folder.
    """
    files, unknown = subject.known_hashes()
    if unknown:
        for role, content_hash in hash_weights(unknown).items():
            files.setdefault(role, {})["weights"] = content_hash
    return ModelIdentity(
        name=subject.name,
        files=files,
        conversation=subject.template,
        dtype=subject.dtype(settings.dtype) or settings.device_dtype or UNKNOWN,
        attention=settings.model.attention or "default",
        vision_tower_dtype=settings.model.vision_tower_dtype,
        tf32=settings.model.tf32,
        quantization=settings.quantization,
        engine=engine_identity(settings.engine),
    )


def compose_identity(
    model: ModelIdentity,
    *,
    prompts: str,
    data: Mapping[str, str],
    generation: GenerationConfig,
    answer: str = GENERATE,
) -> dict[str, object]:
    """Returns everything that can change an answer to a benchmark, as its manifest holds it.

    `prompts` is the hash of all question texts of the split, before the conversation template;
    `data` that of every file that decides questions and scores, by its path; `answer` says whether
    answers are generated, which manifests do not tell of, or ranked.
    """
    quantization = model.quantization
    return {
        "model": model.name,
        **model.files,
        "conversation": model.conversation,
        "dtype": model.dtype,
        "attention": model.attention,
        "vision_tower_dtype": model.vision_tower_dtype,
        "tf32": model.tf32,
        "quantization": None if quantization is None else quantization.to_plain(),
        "engine": model.engine,
        "prompt_version": PROMPT_VERSION,
        "prompt_format": prompt_format(model.conversation),
        "prompts": prompts,
        "data": data,
        "generation": {
            name: getattr(generation, name)
            for name in ("temperature", "top_p", "num_beams", "max_new_tokens")
        },
        "seed": generation.seed,
        **({} if answer == GENERATE else {"answer": answer}),
    }
